"""Label images of any format as one kind of array: unsigned, read where indexed."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.errors import VolumeError
from napari_sam.volume.lazy_arrays import LazyArray

if TYPE_CHECKING:
    from napari_sam.volume.volume import Volume

_AXIS_TOLERANCE = 0.1
"""How far the direction of an axis may differ between image and labels (cosine)."""


class LabelPixels(LazyArray):
    """Pixels of a label image, as unsigned integers of the image's spatial shape.

    Booleans become 0 and 1, whole floats integers, and negative values (often
    "ignore") background. A colour picture whose channels are equal counts as grey.

    Parameters
    ----------
    volume : Volume
        The label image.
    """

    def __init__(self, volume: Volume) -> None:
        self.volume = volume
        super().__init__(volume.shape, _unsigned(volume.dtype))

    def read(self, spans: tuple[slice, ...]) -> np.ndarray:
        """Read a block."""
        level, axis = self.volume.levels[0], self.volume.channel_axis
        if axis is None:
            block = np.asarray(level[spans])
        else:
            index = (*spans[:axis], slice(None), *spans[axis:])
            block = self._grey(np.moveaxis(np.asarray(level[index]), axis, 0))
        if block.dtype.kind == "f":
            block = self._whole(block)
        if block.dtype.kind == "i":
            block = np.maximum(block, 0)
        return block.astype(self.dtype, copy=False)

    def __copy__(self) -> LabelPixels:
        return LabelPixels(copy.copy(self.volume))

    def _grey(self, channels: np.ndarray) -> np.ndarray:
        if (channels != channels[:1]).any():
            raise VolumeError(
                f"the labels {self.volume.name!r} are a colour picture: expected one "
                "whole number for each pixel, 0 for background. Convert the colours "
                "to numbers first."
            )
        first: np.ndarray = channels[0]
        return first

    def _whole(self, block: np.ndarray) -> np.ndarray:
        known = np.nan_to_num(block, nan=0.0)
        out: np.ndarray = known.astype(np.int64)
        if (out != known).any():
            raise VolumeError(
                f"the labels {self.volume.name!r} hold fractions, such as "
                f"{known[known != out].flat[0]:g}: expected whole numbers, 0 for "
                "background. Threshold probabilities first."
            )
        return out


def label_pixels(volume: Volume, source: Any) -> Any:
    """Open labels that belong to an image.

    Parameters
    ----------
    volume : Volume
        The image.
    source : anything `open_volume` takes
        An array of unsigned integers of the image's spatial shape is taken as it is.

    Raises
    ------
    VolumeError
        If they cannot be opened, or do not lie on the image pixel for pixel.
    """
    from napari_sam.volume.opening import open_volume

    shape = tuple(getattr(source, "shape", ()))
    if not hasattr(source, "levels") and shape == volume.shape:
        if np.dtype(source.dtype).kind == "u":
            return source
        opened = open_volume(source, axes=volume.axes)
    else:
        opened = open_volume(source)
    _check_fit(volume, opened)
    return LabelPixels(opened)


def _check_fit(volume: Volume, labels: Volume) -> None:
    if labels.shape != volume.shape:
        raise VolumeError(
            f"labels and image must have the same size: {volume.name!r} has "
            f"{_sizes(volume)} and its labels {labels.name!r} have {_sizes(labels)}"
        )
    if "pixel" in (*volume.units, *labels.units):
        return
    image, other = (_directions(v) for v in (volume, labels))
    if np.abs(image - other).max() > _AXIS_TOLERANCE:
        raise VolumeError(
            f"the labels {labels.name!r} have the size of {volume.name!r}, but their "
            "header says that they are turned or mirrored against it: resample them "
            "onto the image first"
        )


def _directions(volume: Volume) -> np.ndarray:
    columns = volume.affine[:-1, :-1]
    if volume.metadata.get("coordinates") == "LPS":
        columns = columns.copy()
        # The world is in the order of the axes: x and y turn their sign.
        for i, name in enumerate(volume.axes):
            if name in ("x", "y"):
                columns[i] *= -1
    return np.asarray(columns / np.linalg.norm(columns, axis=0))


def _sizes(volume: Volume) -> str:
    pairs = zip(volume.axes, volume.shape, strict=True)
    return " x ".join(f"{n} ({a})" for a, n in pairs)


def _unsigned(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind == "u":
        return dtype
    return np.dtype({1: np.uint8, 2: np.uint16}.get(dtype.itemsize, np.uint32))
