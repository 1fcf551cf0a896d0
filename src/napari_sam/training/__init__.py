"""Training promptable models: data, augmentation, simulated prompts, loop, scores.

``python -m tools.nano --help`` is how the embedded model `nano` is made.
"""
