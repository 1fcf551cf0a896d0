"""Small samples at fixed places of a volume: for intensity windows and identities."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.intensity import IntensityMapping
from napari_sam.core.planes import Plane, count_planes, plane_at
from napari_sam.volume.pyramid import read_block, spatial_shape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_sam.volume.lazy_arrays import Array

WHOLE_BYTES = 4 << 20
"""Size of images that are identified by all of their pixels."""
SAMPLE_SIDE = 256
"""Side of a sampled window in pixels; smaller planes are taken whole."""


def default_intensity(
    levels: tuple[Array, ...],
    channel_axis: int | None,
    *,
    rgb: bool,
    nodata: float | None = None,
) -> IntensityMapping:
    """Mapping for data that brings none: percentiles 0.1 and 99.9 of a fixed sample.

    The sample is taken from the coarsest level. 8-bit colour is left as it is, and
    other colour gets one window for its three channels. Pixels of the value `nodata`
    do not count.

    Raises
    ------
    IntensityError
        If no sampled pixel is finite.
    """
    if rgb and levels[0].dtype == np.uint8:
        return replace(IntensityMapping.rgb(), nodata=nodata or None)
    if levels[0].dtype == bool:
        return IntensityMapping.grey(0, 1)
    n_channels = 1 if channel_axis is None else levels[0].shape[channel_axis]
    sample = _with_data(sample_values(levels[-1], channel_axis), nodata)
    if not _varies(sample):
        more = sample_values(levels[-1], channel_axis, n_planes=9, n_windows=7)
        sample = _with_data(more, nodata)
    found = IntensityMapping.from_sample(sample, n_channels=1 if rgb else n_channels)
    if rgb:
        found = IntensityMapping.rgb(*found.windows[0])
    return replace(found, nodata=nodata)


def sample_values(
    array: Array, channel_axis: int | None, *, n_planes: int = 3, n_windows: int = 3
) -> np.ndarray:
    """Read windows on a fixed lattice of planes and places.

    Returns
    -------
    ndarray, (N,) or (N, C)
    """
    parts = list(_blocks(array, channel_axis, n_planes, n_windows, SAMPLE_SIDE))
    tail = () if channel_axis is None else (array.shape[channel_axis],)
    return np.concatenate([p.reshape(-1, *tail) for p in parts])


def sample_hash(array: Array, channel_axis: int | None) -> str:
    """SHA-256 over an image, or a few small windows at fixed places of a large one.

    It does not depend on the byte order. Up to `WHOLE_BYTES` every pixel counts.
    """
    digest = hashlib.sha256()
    size = math.prod(array.shape) * np.dtype(array.dtype).itemsize
    blocks = _whole(array, channel_axis)
    if size > WHOLE_BYTES:
        blocks = _blocks(array, channel_axis, 3, 3, 64)
    for block in blocks:
        little = block.astype(block.dtype.newbyteorder("<"), copy=False)
        digest.update(np.ascontiguousarray(little).tobytes())
    return digest.hexdigest()


def _whole(array: Array, channel_axis: int | None) -> Iterator[np.ndarray]:
    shape = spatial_shape(array, channel_axis)
    for i in range(count_planes(shape)):
        plane = plane_at(shape, i)
        yield read_block(array, channel_axis, plane, (0, 0, *plane.shape(shape)))


def _blocks(
    array: Array, channel_axis: int | None, n_planes: int, n_windows: int, side: int
) -> Iterator[np.ndarray]:
    shape = spatial_shape(array, channel_axis)
    for plane in _planes(shape, n_planes):
        h, w = plane.shape(shape)
        for y0, y1 in _spans(h, n_windows, side):
            for x0, x1 in _spans(w, n_windows, side):
                yield read_block(array, channel_axis, plane, (y0, x0, y1, x1))


def _planes(shape: tuple[int, ...], count: int) -> list[Plane]:
    total = count_planes(shape)
    if len(shape) <= 3 or math.prod(shape[:-3]) == 1:
        return [plane_at(shape, i) for i in _places(total, count)]
    # Of several time points the middle planes count, each at another time.
    outer = math.prod(shape[:-3])
    ts, zs = _places(outer, count), _places(shape[-3], count)
    pairs = [(ts[i % len(ts)], zs[i % len(zs)]) for i in range(max(len(ts), len(zs)))]
    return [plane_at(shape, t * shape[-3] + z) for t, z in pairs]


def _places(n: int, count: int) -> list[int]:
    return sorted({(2 * i + 1) * n // (2 * count) for i in range(count)})


def _spans(n: int, count: int, side: int) -> list[tuple[int, int]]:
    if n <= count * side:
        return [(0, n)]
    starts = [round(i * (n - side) / (count - 1)) for i in range(count)]
    return [(s, s + side) for s in starts]


def _with_data(sample: np.ndarray, nodata: float | None) -> np.ndarray:
    return sample if nodata is None else np.where(sample == nodata, np.nan, sample)


def _varies(sample: np.ndarray) -> bool:
    finite = sample[np.isfinite(sample)]
    return finite.size > 0 and bool(finite.min() < finite.max())
