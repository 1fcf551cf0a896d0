"""Segment Anything for scientific images of any size."""
