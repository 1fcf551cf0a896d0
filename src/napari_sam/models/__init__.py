"""Promptable models behind one protocol; see `napari_sam.models.protocol`."""
