"""What a model's embedding says of an object: its features, averaged over a mask."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_sam.core.mask_prompt import MaskPrompt
    from napari_sam.core.planes import Plane
    from napari_sam.core.tiles import Window
    from napari_sam.engine.engine import Engine

_SAMPLES = 24
"""Places on a feature map's side that tell its mean and spread."""
_MARGIN = 0.15
"""Width of what lies around an object, as a share of its longer side."""


def pooled(engine: Engine, plane: Plane, mask: MaskPrompt) -> np.ndarray:
    """Average an object's features, and how they differ from those around it.

    They are taken from the tile of the grid that holds the object's middle, at the
    finest level at which the object fills at most half of it: what is stored serves,
    and objects are seen alike whatever their size.

    Parameters
    ----------
    engine : Engine
    plane : Plane
    mask : MaskPrompt
        In level-0 pixels.

    Returns
    -------
    ndarray, (C,), float32
        Of length 1: the product of two objects' values is their likeness, -1 to 1.
        Each feature counts as far as it differs from its mean over the tile, in units
        of its spread there, so that objects of different images can be compared.
    """
    window = tile_of(engine, plane, mask)
    embedding = engine.embedding(plane, window)
    frame = engine.frame(window)
    filled = frame.transform.input_size
    out = []
    for name in sorted(embedding.features):
        values = embedding.features[name]
        if len(values) < 2:  # no map of the window (FastSAM's list of instances)
            continue
        h, w = (n * f / frame.input_side for n, f in zip(
            values.shape[-2:], filled, strict=True
        ))  # fmt: skip
        weights, around, cells = _weights(mask, window, (h, w))
        part = values[:, cells[0][:, None], cells[1]].astype(np.float32)
        step = max(1, math.ceil(max(h, w) / _SAMPLES))
        sample = values[:, : math.ceil(h) : step, : math.ceil(w) : step]
        sample = sample.reshape(len(values), -1).astype(np.float32)
        spread = np.maximum(sample.std(1), 1e-3)
        mean = np.tensordot(part, weights, axes=2)
        rest = np.tensordot(part, around, axes=2) if around.any() else mean
        out += [_unit((mean - sample.mean(1)) / spread), _unit((mean - rest) / spread)]
    return np.asarray(np.concatenate(out) / math.sqrt(len(out)), np.float32)


def tile_of(engine: Engine, plane: Plane, mask: MaskPrompt) -> Window:
    """Return the tile in which an object of a plane is looked at as a whole."""
    y0, x0, y1, x1 = mask.bbox
    grid = engine.grid(plane.axis)
    span, level = max(y1 - y0, x1 - x0), 0
    while level < grid.n_levels - 1 and span / (1 << level) > grid.side / 2:
        level += 1
    middle = grid.on_level(((y0 + y1 - 1) / 2, (x0 + x1 - 1) / 2), level)
    return grid.owner(level, *middle).window


def _weights(
    mask: MaskPrompt, window: Window, shape: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Share of a mask, and of what lies around it, in each cell of a feature map.

    Parameters
    ----------
    mask : MaskPrompt
    window : Window
    shape : tuple of float
        Rows and columns of the map that the window fills.

    Returns
    -------
    inside, around : ndarray, (h, w), float32
        Each adds up to 1; what the window cuts off does not count.
    cells : (rows, columns)
        (h,) and (w,) int: which cells of the map.
    """
    margin = max(2, round(_MARGIN * max(mask.mask.shape)))
    grown = np.pad(mask.mask, margin)
    top, left = mask.bbox[0] - margin, mask.bbox[1] - margin
    ys, xs = np.arange(grown.shape[0]) + top, np.arange(grown.shape[1]) + left
    wy, wx = window.to_window(ys, xs)
    rows = np.floor((wy + 0.5) * (shape[0] / window.h)).astype(int)
    cols = np.floor((wx + 0.5) * (shape[1] / window.w)).astype(int)
    seen_y = (rows >= 0) & (rows < math.ceil(shape[0]))
    seen_x = (cols >= 0) & (cols < math.ceil(shape[1]))
    rows, cols = rows[seen_y], cols[seen_x]
    if not rows.size or not cols.size:
        one, first = np.ones((1, 1), np.float32), np.zeros(1, int)
        return one, np.zeros_like(one), (first, first)
    seen = grown[np.ix_(seen_y, seen_x)]
    inside, around = (_summed(part, rows, cols) for part in (seen, ~seen))
    if not inside.any():
        inside = np.ones_like(inside)
    around[inside > around] = 0  # cells that the object fills say nothing of the rest
    shares = inside / inside.sum(), around / max(float(around.sum()), 1.0)
    return *shares, (np.unique(rows), np.unique(cols))


def _summed(mask: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """(h, w) float32: pixels of a mask in each cell; rows and columns never fall."""
    starts_y = np.flatnonzero(np.diff(rows, prepend=-1))
    starts_x = np.flatnonzero(np.diff(cols, prepend=-1))
    return np.add.reduceat(
        np.add.reduceat(mask.astype(np.float32), starts_y, 0), starts_x, 1
    )


def _unit(values: np.ndarray) -> np.ndarray:
    return values / max(float(np.linalg.norm(values)), 1e-6)
