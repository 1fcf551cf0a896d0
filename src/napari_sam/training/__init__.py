"""Training promptable models: data, augmentation, simulated prompts, loop, scores.

``python -m napari_sam.training --help`` is how the embedded model `nano` is made.
"""
