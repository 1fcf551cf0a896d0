"""Weights that any implementation can draw again: one stream of numbers a name."""

from __future__ import annotations

import zlib

import numpy as np
import torch


def seeded_state(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Draw a tensor for each name; what is drawn depends on name and shape alone.

    Magnitudes are those of a network at work: activations stay near 1, norms and
    biases are not trivial, and no part is zero (position tables included).
    """
    return {
        name: torch.from_numpy(_draw(name, shape)) for name, shape in shapes.items()
    }


def _draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    random = np.random.RandomState(zlib.crc32(name.encode()))
    if name.endswith("num_batches_tracked"):
        return np.array(7, np.int64)
    values = random.standard_normal(shape).astype(np.float32)
    if name.endswith("running_var"):
        return (0.5 + values**2).astype(np.float32)
    if "gaussian_matrix" in name or ("embed" in name and len(shape) == 2):
        return values
    if name.endswith(("rel_pos_h", "rel_pos_w", "attention_biases", "pos_embed")):
        return 0.3 * values
    if len(shape) < 2:
        return (name.endswith("weight") + 0.1 * values).astype(np.float32)
    fan_in = int(np.prod(shape[1:]))
    if "upscaling" in name:
        fan_in = shape[0]
    return values / np.float32(np.sqrt(fan_in))
