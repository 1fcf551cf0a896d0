"""Planes at even distances, interpolated between slices that lie unevenly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_sam.volume.lazy_arrays import Array, LazyArray

if TYPE_CHECKING:
    from collections.abc import Sequence

DECIMALS = 3
"""Of the share of a gap: nearer than this, a plane is the slice itself."""


class ResampledPlanes(LazyArray):
    """Another array with one axis resampled linearly, read where it is looked at.

    Parameters
    ----------
    base : array-like
    axis : int
    positions : sequence of float
        Rising places of the slices of `base` along the axis.
    planes : sequence of float
        Places of the planes of this array, between the first and the last of those.
    """

    def __init__(
        self,
        base: Array,
        axis: int,
        positions: Sequence[float],
        planes: Sequence[float],
    ) -> None:
        self.base, self.axis = base, axis
        shape = list(base.shape)
        shape[axis] = len(planes)
        super().__init__(shape, base.dtype)
        self.chunks = getattr(base, "chunks", None)
        places = np.asarray(positions, float)
        after = np.clip(np.searchsorted(places, planes), 1, len(places) - 1)
        gaps = places[after] - places[after - 1]
        share = np.clip((np.asarray(planes) - places[after - 1]) / gaps, 0, 1)
        self.before, self.share = after - 1, np.round(share, DECIMALS)

    def read(self, spans: tuple[slice, ...]) -> np.ndarray:
        """Read a block, each plane from one slice or from its two neighbours."""
        span = spans[self.axis]
        numbers = range(span.start, span.stop, span.step or 1)
        parts = [self._plane(n, spans) for n in numbers]
        if not parts:
            empty = list(spans)
            empty[self.axis] = slice(0, 0)
            return np.asarray(self.base[tuple(empty)])
        return np.concatenate(parts, self.axis)

    def _plane(self, number: int, spans: tuple[slice, ...]) -> np.ndarray:
        k, share = int(self.before[number]), float(self.share[number])
        if share in (0.0, 1.0):
            return self._slice(k + int(share), spans)
        mixed = self._slice(k, spans) * (1 - share) + self._slice(k + 1, spans) * share
        if self.dtype.kind in "ui":
            mixed = np.rint(mixed)
        return np.asarray(mixed.astype(self.dtype))

    def _slice(self, k: int, spans: tuple[slice, ...]) -> np.ndarray:
        index = list(spans)
        index[self.axis] = slice(k, k + 1)
        return np.asarray(self.base[tuple(index)])
