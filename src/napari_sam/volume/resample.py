"""Windows whose pixels are none of the data's: enlarged, or made square."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.tiles import Window, level_shape

if TYPE_CHECKING:
    from collections.abc import Callable


def is_sampled(window: Window) -> bool:
    """Whether a window's pixels have to be interpolated."""
    return window.level < 0 or window.zoom != (1.0, 1.0)


def read_level(window: Window) -> int:
    """Pyramid level that is fine enough on both axes of a window."""
    return max(0, math.floor(math.log2(min(window.step)) + 1e-9))


def read_sampled(
    read: Callable[[Window], np.ndarray], window: Window, shape: tuple[int, int]
) -> np.ndarray:
    """Read a window of square or enlarged pixels from those that there are.

    Along an axis with more pixels than the data, pixels are interpolated linearly;
    along one with fewer, averaged by the area that each covers.

    Parameters
    ----------
    read : callable
        Gives the pixels, (h, w) or (h, w, C), of a window at level 0 or above whose
        zoom is (1, 1).
    window : Window
    shape : tuple of int
        (height, width) of the plane at level 0.

    Returns
    -------
    ndarray, (h, w) or (h, w, C)
        In the dtype of the data; integers are rounded. NaN is left out of averages.
    """
    level = read_level(window)
    spans, matrices = [], []
    size = level_shape(shape, level)
    for axis, n in enumerate(size):
        step = window.step[axis] / 2.0**level
        start, count = window.bbox[axis], window.bbox[axis + 2] - window.bbox[axis]
        first = max(0, math.floor(start * step - 1))
        last = min(n, math.ceil((start + count) * step + 1))
        first = min(first, last - 1)
        spans.append((first, last - first))
        matrices.append(_weights((np.arange(count) + start) * step, step, first, last))
    (y0, h), (x0, w) = spans
    pixels = read(Window(level, y0, x0, h, w))
    return _apply(pixels, *matrices)


def _weights(starts: np.ndarray, step: float, first: int, last: int) -> np.ndarray:
    """Matrix (pixels, last - first): what each pixel takes of those that there are.

    `starts` are the pixels' first edges, in the data's pixels.
    """
    cells = np.arange(first, last)
    if step < 1:
        at = np.clip(starts + (step - 1) / 2, first, last - 1)[:, None]
        return np.asarray(np.maximum(0, 1 - np.abs(at - cells)), np.float32)
    starts = np.minimum(starts, last - 1)[:, None]
    ends = np.minimum(starts + step, last)
    shared = np.minimum(ends, cells + 1) - np.maximum(starts, cells)
    shared = np.maximum(shared, 0)
    return np.asarray(shared / shared.sum(1, keepdims=True), np.float32)


def _apply(pixels: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    dtype: np.dtype[Any] = pixels.dtype
    exact = np.float32 if dtype.itemsize <= 2 or dtype == np.float32 else np.float64
    values = pixels.astype(exact)
    if dtype.kind == "f" and (missing := np.isnan(values)).any():
        known = _mixed((~missing).astype(exact), rows, cols)
        with np.errstate(invalid="ignore", divide="ignore"):
            mixed = _mixed(np.where(missing, 0, values), rows, cols) / known
            mixed[known < 0.5] = np.nan
        return np.asarray(mixed.astype(dtype))
    mixed = _mixed(values, rows, cols)
    if dtype.kind in "iu":
        mixed = np.rint(mixed)
    if dtype.kind == "b":
        mixed = mixed >= 0.5
    return np.asarray(mixed.astype(dtype))


def _mixed(values: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    out = np.tensordot(rows.astype(values.dtype), values, 1)  # (h, w0[, C])
    out = np.tensordot(cols.astype(values.dtype), out, (1, 1))  # (w, h[, C])
    return np.asarray(out.swapaxes(0, 1))
