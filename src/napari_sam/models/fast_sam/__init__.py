"""FastSAM: every instance of an image in one pass, then the one that is prompted."""

MARK = "model.22.proto.cv1.conv.weight"
"""A tensor that only the files of FastSAM have."""
