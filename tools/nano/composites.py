"""Objects that no single look explains: blobs on real images, fitted to edges there.

A gland, a field or an organ is full of smaller things, each of which a click could mean
as well. Labelled images have few such objects. Here a loose shape is laid on any real
image and its outline moved to the strongest edges near it, so that what is in it is as
varied as images are. What is meant cannot be known from one click; from a box or from
more clicks it can.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from scipy import ndimage

from tools.nano.data import COMPOSITE, LabelledImage

if TYPE_CHECKING:
    from collections.abc import Sequence

SIDE = 448
"""Pixels of an image's side, as large as the largest crops."""
TRIES = 8
"""Shapes laid on an image; those on flat parts, or without an outline, are dropped."""


def composite_images(
    n: int, real: Sequence[LabelledImage], seed: int = 0
) -> list[LabelledImage]:
    """Lay some shapes on each of n parts of real images.

    Parameters
    ----------
    n : int
    real : sequence of LabelledImage
        Every data set is drawn equally often.
    seed : int

    Returns
    -------
    list of LabelledImage
        Their ``label_kind`` is ``"composite"``.
    """
    by_set: dict[str, list[LabelledImage]] = {}
    for image in real:
        by_set.setdefault(image.dataset, []).append(image)
    sets = [by_set[name] for name in sorted(by_set)]
    out = []
    for i in range(n):
        rng = np.random.default_rng([seed, i, 5])
        members = sets[i % len(sets)]
        pixels = _part(members[int(rng.integers(len(members)))].image, rng)
        labels = _fitted_shapes(pixels, rng)
        made = LabelledImage("composite", f"{i:05d}", pixels, labels, COMPOSITE)
        if len(made.objects):
            out.append(made)
    return out


def _part(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Any square of an image, at most twice enlarged; (s, s) or (s, s, 3) uint8."""
    h, w = image.shape[:2]
    side = min(int(SIDE * np.exp(rng.uniform(-0.7, 0.7))), h, w)
    y, x = (int(rng.integers(0, n - side + 1)) for n in (h, w))
    square = Image.fromarray(image[y : y + side, x : x + side])
    return np.asarray(square.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def _fitted_shapes(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    grey = image.astype(np.float32).reshape(SIDE, SIDE, -1).mean(2)
    sigma = np.exp(rng.uniform(np.log(1.0), np.log(6.0)))
    edges = ndimage.gaussian_gradient_magnitude(grey, sigma)
    edges = np.minimum(edges / (np.percentile(edges, 98) + 1e-3), 1)
    height = np.round(250 * edges).astype(np.uint8)
    labels = np.zeros((SIDE, SIDE), np.int32)
    busy = np.quantile(edges, 0.4)
    for i in range(1, TRIES + 1):
        radius = np.exp(rng.uniform(np.log(24.0), np.log(130.0)))
        found = _fit(height, _loose_shape(radius, rng), radius, rng)
        # An object half hidden by an earlier one would be no object.
        if not found.any() or (labels[found] > 0).mean() > 0.1:
            continue
        outline = found ^ ndimage.binary_erosion(found, iterations=3, border_value=1)
        inside = float(edges[found].mean())
        if inside > busy and outline.any() and edges[outline].mean() > 1.15 * inside:
            labels[found & (labels == 0)] = i
    return labels


def _loose_shape(radius: float, rng: np.random.Generator) -> np.ndarray:
    """Signed depth inside an ellipse with a few waves, in pixels; (s, s)."""
    ys, xs = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    # Images cut objects: centres lie up to a third of the radius outside.
    centre = rng.uniform(-radius / 3, SIDE + radius / 3, 2)
    turn, flat = rng.uniform(0, np.pi), rng.uniform(0.45, 1.0)
    dy, dx = ys - centre[0], xs - centre[1]
    u = dy * np.cos(turn) + dx * np.sin(turn)
    v = (dx * np.cos(turn) - dy * np.sin(turn)) / flat
    angle = np.arctan2(v, u)
    edge = np.ones_like(angle)
    for k in range(2, 5):
        edge += rng.normal(0, 0.16 / k) * np.cos(k * angle + rng.uniform(0, 6.3))
    return np.asarray(radius * np.maximum(edge, 0.3) - np.hypot(u, v), np.float32)


def _fit(
    height: np.ndarray, depth: np.ndarray, radius: float, rng: np.random.Generator
) -> np.ndarray:
    """Flood from inside and outside; they meet on edges in a band along the outline."""
    band = radius * rng.uniform(0.08, 0.25)
    markers = np.zeros(depth.shape, np.int32)
    markers[depth > band] = 1
    markers[depth < -band] = 2
    if not (markers == 1).any():
        return np.zeros(depth.shape, bool)
    inside = ndimage.watershed_ift(height, markers) == 1
    smooth = ndimage.gaussian_filter(inside.astype(np.float32), 4.0) > 0.5
    parts, n = ndimage.label(smooth)
    if n > 1:
        return np.asarray(parts == 1 + np.bincount(parts.ravel())[1:].argmax())
    return np.asarray(smooth)
