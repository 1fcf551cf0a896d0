"""Labels that come in, of any format: checked, turned onto their image, unsigned."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.errors import VolumeError, refused_as
from napari_sam.volume.geometry import Turn, turn_onto
from napari_sam.volume.lazy_arrays import LazyArray

if TYPE_CHECKING:
    from napari_sam.volume.volume import Volume

HIGHEST = 2**32 - 1
"""Largest object id that labels can hold."""


class IncomingLabels(LazyArray):
    """Pixels of a label image, as unsigned integers on the grid of its image.

    Booleans become 0 and 1, whole floats integers, and negative values (often
    "ignore") background. A colour picture whose channels are equal counts as grey.

    Parameters
    ----------
    volume : Volume
        The label image.
    shape : tuple of int
        Spatial shape of the image.
    turn : Turn
        How it lies on the image.
    """

    def __init__(self, volume: Volume, shape: tuple[int, ...], turn: Turn) -> None:
        self.volume, self.turn = volume, turn
        super().__init__(shape, _unsigned(volume.dtype))

    def read(self, spans: tuple[slice, ...]) -> np.ndarray:
        """Read a block."""
        stored = [slice(0, n) for n in self.volume.shape]
        for span, axis, flip, n in zip(
            spans, self.turn.order, self.turn.flips, self.shape, strict=True
        ):
            if axis is not None:
                stored[axis] = _mirrored(span, n) if flip else span
        block = self._stored(tuple(stored))
        used = [a for a in self.turn.order if a is not None]
        rest = [a for a in range(block.ndim) if a not in used]
        block = block.transpose([*used, *rest])
        block = block.reshape(block.shape[: len(used)])
        for i, axis in enumerate(self.turn.order):
            if axis is None:
                block = np.expand_dims(block, i)[(slice(None),) * i + (spans[i],)]
        return np.flip(block, tuple(i for i, f in enumerate(self.turn.flips) if f))

    def __copy__(self) -> IncomingLabels:
        return IncomingLabels(copy.copy(self.volume), self.shape, self.turn)

    def _stored(self, spans: tuple[slice, ...]) -> np.ndarray:
        level, axis = self.volume.levels[0], self.volume.channel_axis
        index = spans if axis is None else (*spans[:axis], slice(None), *spans[axis:])
        with refused_as(
            VolumeError,
            f"the labels {self.volume.name!r} cannot be read",
            "check that the file is whole and the storage reachable",
        ):
            block = np.asarray(level[index])
        if axis is not None:
            block = self._grey(np.moveaxis(block, axis, 0))
        return whole_numbers(block, self.volume.name).astype(self.dtype, copy=False)

    def _grey(self, channels: np.ndarray) -> np.ndarray:
        if (channels != channels[:1]).any():
            raise VolumeError(
                f"the labels {self.volume.name!r} are a colour picture: expected one "
                "whole number for each pixel, 0 for background. Convert the colours "
                "to numbers first."
            )
        first: np.ndarray = channels[0]
        return first


def incoming_labels(volume: Volume, source: Any) -> Any:
    """Open labels that belong to an image, wherever they come from.

    Parameters
    ----------
    volume : Volume
        The image.
    source : anything `open_volume` takes
        A label file, or an array of integers, booleans or whole floats. Unsigned
        integers of the image's shape are taken as they are. A file that says where it
        lies is compared with the image: labels stored along other axes of the same
        world (LAS for an RAS image, say) are turned.

    Returns
    -------
    array-like
        Unsigned integers of the image's spatial shape, read where they are indexed.

    Raises
    ------
    VolumeError
        If they cannot be opened, hold anything but whole numbers, or do not lie on
        the image pixel for pixel.
    """
    from napari_sam.volume.opening import open_volume
    from napari_sam.volume.volume import Volume

    if hasattr(source, "shape") and not isinstance(source, Volume):
        if tuple(source.shape) == volume.shape:
            if np.dtype(source.dtype).kind == "u":
                return source
            opened = open_volume(source, axes=volume.axes)
            return IncomingLabels(opened, volume.shape, _as_it_is(volume.ndim))
        if _is_plain(source):
            raise VolumeError(
                f"labels must have the shape of their image {volume.name!r}, "
                f"{volume.shape}; got an array of shape {tuple(source.shape)}"
            )
    opened = open_volume(source, as_labels=True)
    return IncomingLabels(opened, volume.shape, turn_onto(volume, opened))


def whole_numbers(block: np.ndarray, name: str) -> np.ndarray:
    """Check the values of labels: whole, and none too large; negative ones become 0.

    Raises
    ------
    VolumeError
        If there are fractions, or values above `HIGHEST`.
    """
    if block.dtype.kind == "f":
        known = np.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0)
        if (odd := known != np.floor(known)).any():
            raise VolumeError(
                f"the labels {name!r} hold fractions, such as {known[odd].flat[0]:g}: "
                "expected whole numbers, 0 for background. Threshold probabilities "
                "first."
            )
        block = known
    if block.dtype.kind in "if":
        block = np.maximum(block, 0)
    if block.dtype.itemsize > 2 and block.dtype.kind in "uif" and block.size:
        if (top := block.max()) > HIGHEST:
            raise VolumeError(
                f"the labels {name!r} hold the value {int(top)}: expected object ids "
                f"up to {HIGHEST}. Number the objects anew first."
            )
    return block


def _as_it_is(ndim: int) -> Turn:
    return Turn(tuple(range(ndim)), (False,) * ndim)


def _is_plain(source: Any) -> bool:
    """Whether an array says nothing of where it lies."""
    return not any(hasattr(source, name) for name in ("dims", "scale"))


def _mirrored(span: slice, n: int) -> slice:
    """The indices of a span, counted from the other end, rising."""
    chosen = range(span.start, span.stop, span.step or 1)
    if not chosen:
        return slice(0, 0)
    return slice(n - 1 - chosen[-1], n - chosen[0], span.step or 1)


def _unsigned(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind == "u" and dtype.itemsize <= 4:
        return dtype
    if dtype.kind == "f":
        return np.dtype(np.uint32)
    return np.dtype({1: np.uint8, 2: np.uint16}.get(dtype.itemsize, np.uint32))
