"""napari_sam.io."""
