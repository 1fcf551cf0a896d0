"""Windows at any pyramid level: from the data's own levels, or averaged on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.lru import ByteLRU
from napari_sam.core.tiles import level_shape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_sam.core.planes import Plane
    from napari_sam.core.tiles import Window
    from napari_sam.volume.lazy_arrays import Array

BLOCK_BYTES = 8 << 20
"""Most that is read of a finer level at once while it is averaged."""
KEPT_BYTES = 64 << 20
"""Most that is kept of blocks that were averaged."""
KEPT_FACTOR, KEPT_SIDE = 8, 128
"""Averaging factor from which on blocks are kept, and their side."""
BLURRED_AFTER = 4
"""Averaging factor beyond which a level that is also averaged across planes is used."""


def spatial_shape(array: Array, channel_axis: int | None) -> tuple[int, ...]:
    """Shape of a level without its channel axis."""
    return tuple(n for a, n in enumerate(array.shape) if a != channel_axis)


class CoarseBlocks(ByteLRU[tuple[int, "Plane", int, int], np.ndarray]):
    """Blocks of levels that had to be averaged, up to a number of bytes.

    Averaging reads 4**n pixels for one of n levels up, and windows overlap; a block's
    values do not depend on the window that asked for it.
    """

    def __init__(self, max_bytes: int = KEPT_BYTES) -> None:
        super().__init__(max_bytes, lambda block: block.nbytes)


def read_window(
    levels: Sequence[Array],
    channel_axis: int | None,
    plane: Plane,
    window: Window,
    kept: CoarseBlocks | None = None,
) -> np.ndarray:
    """Read a window of a plane at a pyramid level, reading no more than it covers.

    Parameters
    ----------
    levels : sequence of array-likes
        Own pyramid of the data, finest first.
    channel_axis : int or None
        Channel axis of the arrays.
    plane : Plane
    window : Window
        In pixels of level `window.level`, where level n is level 0 divided by 2**n,
        rounded up.
    kept : CoarseBlocks, optional
        Blocks of this image that were averaged before; more are added.

    Returns
    -------
    ndarray, (h, w) or (h, w, C)
        Values in the dtype of the data; averages of integers are rounded.
    """
    number, own = best_level(levels, channel_axis, plane, window.level)
    factor = 1 << (window.level - own)
    bbox = tuple(v * factor for v in window.bbox)
    array = levels[number]
    shape = spatial_shape(levels[0], channel_axis)
    at = _plane_at_level(plane, shape, spatial_shape(array, channel_axis))
    if factor == 1:
        return _read_padded(array, channel_axis, at, bbox)
    if kept is None or factor < KEPT_FACTOR:
        return _read_averaged(
            array, channel_axis, at, bbox, factor, (window.h, window.w)
        )
    out: np.ndarray | None = None
    sides = _kept_sides(array, channel_axis, at, factor)
    for bounds in _blocks_under(window, plane.shape(shape), sides):
        y0, x0, y1, x1 = bounds

        def average(bounds: Sequence[int] = bounds) -> np.ndarray:
            size = (bounds[2] - bounds[0], bounds[3] - bounds[1])
            wide = tuple(v * factor for v in bounds)
            return _read_averaged(array, channel_axis, at, wide, factor, size)

        block = kept.get_or_make((window.level, plane, y0, x0), average)
        if out is None:
            out = np.empty((window.h, window.w, *block.shape[2:]), block.dtype)
        a0, b0 = max(y0, window.y0), max(x0, window.x0)
        a1, b1 = min(y1, window.bbox[2]), min(x1, window.bbox[3])
        part = block[a0 - y0 : a1 - y0, b0 - x0 : b1 - x0]
        out[a0 - window.y0 : a1 - window.y0, b0 - window.x0 : b1 - window.x0] = part
    assert out is not None
    return out


def _blocks_under(
    window: Window, shape: tuple[int, int], sides: tuple[int, int]
) -> Iterator[tuple[int, int, int, int]]:
    """Bounds, on the level, of the blocks of a fixed lattice that a window meets."""
    h, w = level_shape(shape, window.level)
    y_side, x_side = sides
    for y in range(window.y0 - window.y0 % y_side, window.bbox[2], y_side):
        for x in range(window.x0 - window.x0 % x_side, window.bbox[3], x_side):
            yield y, x, min(y + y_side, h), min(x + x_side, w)


def _kept_sides(
    array: Array, channel_axis: int | None, plane: Plane, factor: int
) -> tuple[int, int]:
    """Sides of kept blocks: big enough that no chunk is decoded again and again."""
    y, x = _chunk_sides(array, channel_axis, plane) or (1, 1)
    y_side, x_side = (min(max(KEPT_SIDE, -(-c // factor)), 1024) for c in (y, x))
    return y_side, x_side


def best_level(
    levels: Sequence[Array], channel_axis: int | None, plane: Plane, level: int
) -> tuple[int, int]:
    """Return (number, n) of the own level of factor 2**n to start from, n <= level.

    Levels that keep every plane come first: one that also averages across planes
    shows neighbouring planes mixed in, so it is used only where the alternative would
    read `BLURRED_AFTER` times too many pixels along an axis.
    """
    shape = spatial_shape(levels[0], channel_axis)
    sharp, blurred = (0, 0), (0, 0)
    for number, array in enumerate(levels[1:], 1):
        own = spatial_shape(array, channel_axis)
        n = _halvings(plane.shape(shape), plane.shape(own))
        if n is None or n > level:
            continue
        shown = plane.shown_axes()
        if all(own[a] == shape[a] for a in range(len(shape)) if a not in shown):
            sharp = max(sharp, (number, n), key=lambda v: v[1])
        else:
            blurred = max(blurred, (number, n), key=lambda v: v[1])
    if blurred[1] > sharp[1] and (1 << (level - sharp[1])) > BLURRED_AFTER:
        return blurred
    return sharp


def _halvings(shape: tuple[int, int], own: tuple[int, int]) -> int | None:
    """Return n where `own` is `shape` divided by 2**n up to rounding, or None."""
    for n in range(1, 40):
        scale = 1 << n
        if all(abs(o - s / scale) < 1 for s, o in zip(shape, own, strict=True)):
            return n if own[0] * own[1] < shape[0] * shape[1] else None
        if max(shape) < scale:
            break
    return None


def _plane_at_level(plane: Plane, shape: Sequence[int], own: Sequence[int]) -> Plane:
    from napari_sam.core.planes import Plane

    shown = plane.shown_axes()
    hidden = [a for a in range(len(shape)) if a not in shown]
    index = tuple(
        min(int((i + 0.5) * own[a] / shape[a]), own[a] - 1)
        for i, a in zip(plane.index, hidden, strict=True)
    )
    return Plane(index, plane.axis)


def read_block(
    array: Array, channel_axis: int | None, plane: Plane, bbox: Sequence[int]
) -> np.ndarray:
    """Read the half-open box of a plane from one array, channels moved last."""
    y0, x0, y1, x1 = bbox
    index: list[Any] = list(plane.window((y0, x0, y1, x1)))
    if channel_axis is None:
        return np.asarray(array[tuple(index)])
    before = sum(isinstance(s, slice) for s in index[:channel_axis])
    index.insert(channel_axis, slice(None))
    return np.moveaxis(np.asarray(array[tuple(index)]), before, -1)


def _read_padded(
    array: Array, channel_axis: int | None, plane: Plane, bbox: Sequence[int]
) -> np.ndarray:
    # Pyramids written by rounding down lack the last row or column of ours.
    h, w = plane.shape(spatial_shape(array, channel_axis))
    y0, x0, y1, x1 = bbox
    top, left = min(y0, h - 1), min(x0, w - 1)
    out = read_block(array, channel_axis, plane, (top, left, min(y1, h), min(x1, w)))
    pad = [(y1 - y0 - out.shape[0]), (x1 - x0 - out.shape[1])]
    if not any(pad):
        return out
    return np.pad(out, [(0, p) for p in pad] + [(0, 0)] * (out.ndim - 2), mode="edge")


def _read_averaged(
    array: Array,
    channel_axis: int | None,
    plane: Plane,
    bbox: Sequence[int],
    factor: int,
    size: tuple[int, int],
) -> np.ndarray:
    h, w = plane.shape(spatial_shape(array, channel_axis))
    y0, x0, y1, x1 = bbox
    y0, x0 = min(y0, h - 1), min(x0, w - 1)
    y1, x1 = min(y1, h), min(x1, w)
    step_y, step_x = _block_size(array, channel_axis, plane, factor)
    n_channels = () if channel_axis is None else (array.shape[channel_axis],)
    out = np.empty((-(-(y1 - y0) // factor), -(-(x1 - x0) // factor), *n_channels),
                   array.dtype)  # fmt: skip
    for top in range(y0 - y0 % step_y, y1, step_y):
        for left in range(x0 - x0 % step_x, x1, step_x):
            a0, b0 = max(top, y0), max(left, x0)
            a1, b1 = min(top + step_y, y1), min(left + step_x, x1)
            block = read_block(array, channel_axis, plane, (a0, b0, a1, b1))
            small = block_mean(block, factor)
            i, j = (a0 - y0) // factor, (b0 - x0) // factor
            out[i : i + small.shape[0], j : j + small.shape[1]] = small
    pad = [(size[0] - out.shape[0]), (size[1] - out.shape[1])]
    if not any(pad):
        return out
    return np.pad(out, [(0, p) for p in pad] + [(0, 0)] * (out.ndim - 2), mode="edge")


def _block_size(
    array: Array, channel_axis: int | None, plane: Plane, factor: int
) -> tuple[int, int]:
    """Return block sides that follow the array's chunks and fit in `BLOCK_BYTES`."""
    sides = _chunk_sides(array, channel_axis, plane) or (1, 1)
    side_y, side_x = (_multiple(side, factor) for side in sides)
    channels = 1 if channel_axis is None else array.shape[channel_axis]
    pixel = np.dtype(array.dtype).itemsize * channels
    room = max(1, int((BLOCK_BYTES / pixel / (side_y * side_x)) ** 0.5))
    return side_y * room, side_x * room


def _chunk_sides(
    array: Array, channel_axis: int | None, plane: Plane
) -> tuple[int, int] | None:
    chunks = getattr(array, "chunks", None)
    if not chunks or not all(isinstance(c, int) for c in chunks):
        return None
    sizes = [c for a, c in enumerate(chunks) if a != channel_axis]
    y, x = plane.shown_axes()
    return sizes[y], sizes[x]


def _multiple(chunk: int, factor: int) -> int:
    """Return a chunk side rounded up to a multiple of the averaging factor."""
    return -(-chunk // factor) * factor


def block_mean(pixels: np.ndarray, factor: int) -> np.ndarray:
    """Average blocks of `factor` x `factor` pixels; those at the end may be smaller.

    NaN is left out of the averages. Integers are rounded, and the dtype is kept.

    Examples
    --------
    >>> block_mean(np.array([[0, 2, 5], [4, 6, 7]], np.uint8), 2).tolist()
    [[3, 6]]
    """
    values, counts = pixels, None
    if pixels.dtype.kind == "f":
        missing = np.isnan(pixels)
        if missing.any():
            values = np.where(missing, 0, pixels)
            counts = _block_sum(~missing, factor)
    if counts is None:
        rows, cols = (_lengths(n, factor) for n in pixels.shape[:2])
        counts = rows[:, None] * cols
    if counts.ndim < pixels.ndim:
        counts = counts[..., None]
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = _block_sum(values, factor) / counts
    if pixels.dtype.kind in "iu":
        mean = np.rint(mean)
    if pixels.dtype.kind == "b":
        mean = mean >= 0.5
    return np.asarray(mean.astype(pixels.dtype))


def _lengths(n: int, factor: int) -> np.ndarray:
    """Return the lengths of `n` pixels cut into blocks, the last perhaps shorter."""
    return np.minimum(factor, n - np.arange(0, n, factor))


def _block_sum(values: np.ndarray, factor: int) -> np.ndarray:
    # Whole rows are added first: that reads memory in order, and 256 rows of 16 bits
    # are exact in float32.
    exact = values.dtype.itemsize <= 2 and factor <= 256
    rows: Any = values[::factor].astype(np.float32 if exact else np.float64)
    for i in range(1, min(factor, len(values))):
        part = values[i::factor]
        rows[: len(part)] += part
    out: np.ndarray = rows[:, ::factor].astype(np.float64)
    for i in range(1, min(factor, rows.shape[1])):
        column = rows[:, i::factor]
        out[:, : column.shape[1]] += column
    return out
