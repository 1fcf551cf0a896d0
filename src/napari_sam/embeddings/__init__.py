"""Embeddings of tiles: made, scheduled, distributed and kept in a store."""
