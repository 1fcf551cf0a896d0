"""Planes: the 2-D slices of an n-dimensional volume that a model looks at."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.errors import VolumeError

if TYPE_CHECKING:
    from collections.abc import Sequence

Index = int | slice
"""One entry of a numpy index built here."""


@dataclass(frozen=True, slots=True)
class Plane:
    """One 2-D slice of a volume: the sliced axis and an index per hidden axis.

    A volume of shape (..., z, y, x) is cut along one of its last three axes; axes
    before them (time, position) are indexed too. A 2-D image has one plane.

    Examples
    --------
    >>> Plane.of((40, 512, 512), 30).slicer()
    (30, slice(None, None, None), slice(None, None, None))
    >>> Plane.of((5, 40, 512, 256), (2, 100), axis=1).slicer()
    (2, slice(None, None, None), 100, slice(None, None, None))
    >>> Plane.of((512, 512), 0).index
    ()
    """

    index: tuple[int, ...]
    """Indices of the hidden axes, in axis order; empty for a 2-D image."""
    axis: int = 0
    """Sliced axis among the last three: 0 = z, 1 = y, 2 = x."""

    @classmethod
    def of(
        cls,
        shape: Sequence[int],
        plane: int | Sequence[int] | Plane = 0,
        *,
        axis: int = 0,
    ) -> Plane:
        """Check and normalise what a caller names a plane.

        Parameters
        ----------
        shape : sequence of int
            Spatial shape of the volume, (y, x), (z, y, x) or (t, ..., z, y, x).
        plane : int, sequence of int or Plane
            Index along `axis`; with leading axes, one index for each of them first
            (an int then means index 0 on all leading axes). Negative counts back.
        axis : int
            Sliced axis among the last three.

        Raises
        ------
        VolumeError
            If the axis or an index is out of bounds.
        """
        if isinstance(plane, Plane):
            axis = plane.axis
            plane = plane.index if plane.index else 0
        ndim = len(shape)
        if ndim == 2:
            given = (plane,) if isinstance(plane, (int, np.integer)) else tuple(plane)
            if any(i != 0 for i in given) or axis != 0:
                raise VolumeError(
                    f"a 2-D image of shape {tuple(shape)} has one plane, 0 on axis 0; "
                    f"got plane {plane} on axis {axis}"
                )
            return cls(())
        hidden = _hidden_axes(ndim, axis)
        index = (
            (0,) * (len(hidden) - 1) + (int(plane),)
            if isinstance(plane, (int, np.integer))
            else tuple(int(i) for i in plane)
        )
        if len(index) != len(hidden):
            raise VolumeError(
                f"a plane on axis {axis} of a volume of shape {tuple(shape)} needs "
                f"{len(hidden)} indices (leading axes first); got {index}"
            )
        checked = []
        for i, a in zip(index, hidden, strict=True):
            if not -shape[a] <= i < shape[a]:
                raise VolumeError(
                    f"plane index {i} is out of bounds for axis {a} of size {shape[a]} "
                    f"in a volume of shape {tuple(shape)}"
                )
            checked.append(i % shape[a])
        return cls(tuple(checked), axis)

    def at(self, number: int, along: int = -1) -> Plane:
        """Return the plane of another number in a stack.

        Parameters
        ----------
        number : int
        along : int
            Which index counts the stack's planes: -1 is the sliced axis, 0 the first
            leading one, such as time.
        """
        index = list(self.index)
        index[along] = number
        return Plane(tuple(index), self.axis)

    def stack(self, along: int = -1) -> tuple[int, tuple[int, ...]]:
        """Return what all planes of a stack share; `along` as `at` takes it."""
        return self.axis, self.at(0, along).index

    def slicer(self) -> tuple[Index, ...]:
        """Index that cuts this plane out of an array of the volume's spatial shape."""
        if not self.index:
            return (slice(None), slice(None))
        out: list[Index] = [*self.index[:-1]]
        last: list[Index] = [slice(None)] * 3
        last[self.axis] = self.index[-1]
        return (*out, *last)

    def window(self, bbox: tuple[int, int, int, int]) -> tuple[Index, ...]:
        """Index that cuts the half-open box (y0, x0, y1, x1) out of this plane."""
        y0, x0, y1, x1 = bbox
        spans = iter((slice(y0, y1), slice(x0, x1)))
        return tuple(next(spans) if isinstance(s, slice) else s for s in self.slicer())

    def shape(self, volume_shape: Sequence[int]) -> tuple[int, int]:
        """(height, width) of this plane in a volume of that spatial shape."""
        pairs = zip(volume_shape, self.slicer(), strict=True)
        h, w = (int(n) for n, s in pairs if isinstance(s, slice))
        return h, w

    def shown_axes(self) -> tuple[int, int]:
        """Axes of the volume that are this plane's y and x."""
        y, x = (a for a, s in enumerate(self.slicer()) if isinstance(s, slice))
        return y, x

    def linear(self, volume_shape: Sequence[int]) -> int:
        """Position of this plane among all planes on its axis, in C order."""
        if not self.index:
            return 0
        hidden = _hidden_axes(len(volume_shape), self.axis)
        sizes = [volume_shape[a] for a in hidden]
        return int(np.ravel_multi_index(self.index, sizes))

    def to_json(self) -> dict[str, Any]:
        """Plain values, for files and the command line."""
        return {"axis": self.axis, "index": list(self.index)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Plane:
        """Read what `to_json` wrote."""
        return cls(tuple(int(i) for i in value["index"]), int(value["axis"]))


def count_planes(volume_shape: Sequence[int], axis: int = 0) -> int:
    """Return the number of planes that a volume has on an axis."""
    if len(volume_shape) == 2:
        return 1
    hidden = _hidden_axes(len(volume_shape), axis)
    return math.prod(volume_shape[a] for a in hidden)


def plane_at(volume_shape: Sequence[int], linear: int, axis: int = 0) -> Plane:
    """Return the plane whose `Plane.linear` is `linear`."""
    if len(volume_shape) == 2:
        return Plane.of(volume_shape, linear)
    sizes = [volume_shape[a] for a in _hidden_axes(len(volume_shape), axis)]
    index = np.unravel_index(linear, sizes)
    return Plane(tuple(int(i) for i in index), axis)


def _hidden_axes(ndim: int, axis: int) -> list[int]:
    if axis not in (0, 1, 2):
        raise VolumeError(
            f"axis must be 0, 1 or 2 (z, y or x of the last three axes); got {axis}"
        )
    return [*range(ndim - 3), ndim - 3 + axis]
