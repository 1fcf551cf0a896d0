"""Masks sampled at other pixels than their own, without ever drawing them whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.masks import crop_mask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_sam.core.masks import Bbox
    from napari_sam.core.tiles import Window

_BLOCK_PIXELS = 1 << 20
"""Pixels that are interpolated at a time; what is not yet boolean takes 4 bytes."""


def lerp(values: np.ndarray, at: np.ndarray, axis: int) -> np.ndarray:
    """Interpolate along one axis at fractional indices, clamped at the ends."""
    last = values.shape[axis] - 1
    at = np.clip(at, 0, last)
    low = np.minimum(np.floor(at).astype(np.intp), max(last - 1, 0))
    high = np.minimum(low + 1, last)
    shape = [1, 1]
    shape[axis] = -1
    t = (at - low).astype(np.float32).reshape(shape)
    a, b = np.take(values, low, axis), np.take(values, high, axis)
    return np.asarray(a + (b - a) * t, np.float32)


def sample_mask(
    bbox: Bbox, mask: np.ndarray, ys: np.ndarray, xs: np.ndarray
) -> np.ndarray:
    """Interpolate a cropped mask at rows and columns of its own frame.

    Parameters
    ----------
    bbox, mask
        Where the crop lies, half-open, and its pixels, (h, w) bool.
    ys, xs : ndarray, (H,) and (W,)
        Pixel centres, fractional; beyond the crop lies nothing of the mask.

    Returns
    -------
    ndarray, (H, W), float32, 0..1
    """
    if not mask.size:
        return np.zeros((len(ys), len(xs)), np.float32)
    rows, cols = ys - bbox[0] + 1, xs - bbox[1] + 1
    first, last = _span(rows, mask.shape[0] + 2)
    soft = np.pad(mask, 1)[first:last].astype(np.float32)
    return lerp(lerp(soft, rows - first, 0), cols, 1)


def _span(at: np.ndarray, n: int) -> tuple[int, int]:
    """Return the part of n rows that interpolating at these takes, of two at least."""
    if not at.size:
        return 0, min(2, n)
    first = min(max(int(np.floor(at.min())), 0), n - 2)
    return first, min(max(int(np.floor(at.max())) + 2, first + 2), n)


def draw(
    bbox: Bbox, mask: np.ndarray, source: Window, target: Window, part: Bbox
) -> np.ndarray:
    """Draw a part of a mask in the pixels of another frame, block by block.

    Parameters
    ----------
    bbox, mask
        The mask in the pixels of `source`.
    source, target : Window
        Frames of one plane.
    part : Bbox
        (y0, x0, y1, x1) in the pixels of `target`, half-open.

    Returns
    -------
    ndarray, (y1 - y0, x1 - x0), bool
    """
    y0, x0, y1, x1 = part
    out = np.zeros((max(y1 - y0, 0), max(x1 - x0, 0)), bool)
    if not out.size or not mask.size:
        return out
    if source.step == target.step:
        _paste(out, part, bbox, mask, target.y0 - source.y0, target.x0 - source.x0)
        return out
    ys, xs = _pixels_in(source, target, np.arange(y0, y1), np.arange(x0, x1))
    n = max(1, _BLOCK_PIXELS // len(xs))
    for i in range(0, len(ys), n):
        out[i : i + n] = sample_mask(bbox, mask, ys[i : i + n], xs) >= 0.5
    return out


def drawn_bbox(bbox: Bbox, mask: np.ndarray, source: Window, target: Window) -> Bbox:
    """Return the box around a mask in another frame, from its outermost rows alone.

    Parameters
    ----------
    bbox, mask, source, target
        As `draw` takes them. The target cuts the mask.

    Returns
    -------
    Bbox
        Half-open, in the pixels of `target`; (0, 0, 0, 0) when nothing is left.
    """
    if not mask.size:
        return 0, 0, 0, 0
    y0, x0, y1, x1 = reach = _reach(bbox, source, target)
    if y1 <= y0 or x1 <= x0:
        return 0, 0, 0, 0

    def edge(bands: Iterator[Bbox], axis: int, side: int) -> int | None:
        for band in bands:
            found = crop_mask(draw(bbox, mask, source, target, band))
            if found[1].size:
                return band[axis] + found[0][axis + 2 * side]
        return None

    top = edge(_bands(reach, source, target, 0, 0), 0, 0)
    if top is None:
        return 0, 0, 0, 0
    bottom = edge(_bands(reach, source, target, 0, 1), 0, 1)
    left = edge(_bands(reach, source, target, 1, 0), 1, 0)
    right = edge(_bands(reach, source, target, 1, 1), 1, 1)
    assert bottom is not None and left is not None and right is not None
    return top, left, bottom, right


def _bands(
    reach: Bbox, source: Window, target: Window, axis: int, side: int
) -> Iterator[Bbox]:
    """Strips of a box one behind the other, from one of its sides inwards."""
    ratio = source.step[axis] / target.step[axis]
    n = max(8, int(np.ceil(2 * ratio)))
    start, stop = reach[axis], reach[axis + 2]
    for i in range(0, stop - start, n):
        a, b = (start + i, min(start + i + n, stop))
        if side:
            a, b = max(stop - i - n, start), stop - i
        band = list(reach)
        band[axis], band[axis + 2] = a, b
        yield band[0], band[1], band[2], band[3]


def _reach(bbox: Bbox, source: Window, target: Window) -> Bbox:
    """Pixels of a frame that a box of another may touch, with a source pixel more."""
    out: list[int] = []
    for axis, (low, high, n) in enumerate(
        ((bbox[0], bbox[2], target.h), (bbox[1], bbox[3], target.w))
    ):
        origin = (source.y0, source.x0)[axis], (target.y0, target.x0)[axis]
        ratio = source.step[axis] / target.step[axis]
        first = np.floor((low - 1 + origin[0]) * ratio - origin[1])
        last = np.ceil((high + 1 + origin[0]) * ratio - origin[1])
        out += [int(np.clip(first, 0, n)), int(np.clip(last, 0, n))]
    return out[0], out[2], out[1], out[3]


def _pixels_in(
    source: Window, target: Window, ys: np.ndarray, xs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Convert a target's pixel centres to the source's."""
    py, px = target.to_plane(ys, xs)
    sy, sx = source.to_window(py, px)
    return np.asarray(sy), np.asarray(sx)


def _paste(
    out: np.ndarray, part: Bbox, bbox: Bbox, mask: np.ndarray, dy: int, dx: int
) -> None:
    """Copy a mask of one frame into a part of another that is (dy, dx) further."""
    y0, x0, y1, x1 = bbox[0] - dy, bbox[1] - dx, bbox[2] - dy, bbox[3] - dx
    a0, b0, a1, b1 = (
        max(y0, part[0]), max(x0, part[1]), min(y1, part[2]), min(x1, part[3]),
    )  # fmt: skip
    if a1 > a0 and b1 > b0:
        inner = mask[a0 - y0 : a1 - y0, b0 - x0 : b1 - x0]
        out[a0 - part[0] : a1 - part[0], b0 - part[1] : b1 - part[1]] = inner
