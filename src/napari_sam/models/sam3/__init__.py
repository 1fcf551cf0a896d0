"""SAM 3: all instances of what a word names, and clicks, on one encoder."""

MARK = "detector_model.text_projection.weight"
"""A tensor that only SAM 3's checkpoints have."""
