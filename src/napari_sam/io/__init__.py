"""Reading images and embeddings, writing results: every format behind plain names."""
