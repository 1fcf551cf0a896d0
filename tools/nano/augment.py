"""Random changes of crops: what should not matter to the model is varied here."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def augment(
    image: np.ndarray, labels: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Vary a crop's orientation, colours, contrast, noise and sharpness.

    Parameters
    ----------
    image : (s, s) or (s, s, 3) uint8
    labels : (s, s)

    Returns
    -------
    (s, s, 3) float32 in whole steps of 0..255 as files hold them, and the labels.
    """
    turns, mirrored = int(rng.integers(4)), rng.random() < 0.5
    image, labels = np.rot90(image, turns), np.rot90(labels, turns)
    if mirrored:
        image, labels = image[:, ::-1], labels[:, ::-1]
    x = _colours(np.asarray(image, np.float32) / 255.0, rng)
    if rng.random() < 0.3:
        x = 1.0 - x
    if rng.random() < 0.35:
        x = _tone(x, rng)
    if rng.random() < 0.12:
        x = x * smooth_field(x.shape[0], rng, low=0.5, high=1.2)[..., None]
    if rng.random() < 0.12:
        sigma = rng.uniform(0.4, 1.5)
        x = ndimage.gaussian_filter(x, (sigma, sigma, 0), truncate=2.5)
    if rng.random() < 0.2:
        x = x + _noise(x.shape, rng)
    if rng.random() < 0.1:
        gain = rng.uniform(0.15, 1.0)
        x = x * gain + rng.uniform(0.0, 1.0 - gain)
    pixels = np.round(np.clip(x, 0, 1) * 255).astype(np.float32)
    return pixels, np.ascontiguousarray(labels)


def _colours(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Grey to three channels, colours shuffled, mixed or dropped."""
    if x.ndim == 2:
        x = np.repeat(x[..., None], 3, axis=2)
        if rng.random() < 0.12:
            x = x * rng.uniform(0.2, 1.0, 3).astype(np.float32)
        return x
    what = rng.random()
    if what < 0.2:
        mix = rng.dirichlet((1.0, 1.0, 1.0)).astype(np.float32)
        return np.repeat((x @ mix)[..., None], 3, axis=2)
    if what < 0.4:
        return x[..., rng.permutation(3)]
    if what < 0.6:
        return np.asarray(x * rng.uniform(0.6, 1.2, 3).astype(np.float32))
    return x


def _tone(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another gamma and another black and white point."""
    low, high = float(x.min()), float(x.max())
    span = max(high - low, 1e-3)
    x = np.clip((x - low) / span, 0, 1) ** np.exp(rng.uniform(-0.6, 0.6))
    black, white = rng.uniform(-0.2, 0.12), rng.uniform(0.75, 1.2)
    return np.asarray((x - black) / (white - black), np.float32)


def _noise(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    sigma = rng.uniform(0.01, 0.09)
    h, w, _ = shape
    if rng.random() < 0.7:
        grain = rng.standard_normal((h, w, 1), np.float32)
    else:
        grain = rng.standard_normal(shape, np.float32)
    if rng.random() < 0.3:
        grain = ndimage.gaussian_filter(grain, (0.8, 0.8, 0), truncate=2) * 2
    return np.asarray(grain * sigma, np.float32)


def smooth_field(
    side: int, rng: np.random.Generator, *, low: float, high: float, cells: int = 3
) -> np.ndarray:
    """Return a (side, side) float32 field that varies slowly between two values."""
    coarse = rng.uniform(low, high, (cells + 1, cells + 1)).astype(np.float32)
    at = np.linspace(0, cells, side, dtype=np.float32)
    i = np.minimum(at.astype(int), cells - 1)
    t = at - i
    rows = (
        coarse[i] * (1 - t)[:, None] + coarse[i + 1] * t[:, None]
    )  # (side, cells + 1)
    return np.asarray(rows[:, i] * (1 - t) + rows[:, i + 1] * t, np.float32)
