"""Prompts, masks, tiles, planes and intensities: numpy and scikit-image only."""
