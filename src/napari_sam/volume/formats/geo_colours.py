"""Colours of rasters: tables of classes, inks, white at zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.volume.formats.tiff_colours import (
    PaletteArray,
    SamplesArray,
    cmyk_to_rgb,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sam.volume.lazy_arrays import Array

_INKS = ("cyan", "magenta", "yellow", "black")


@dataclass(frozen=True, slots=True, eq=False)
class ShownBands:
    """Levels of a raster as they are to be shown."""

    levels: Sequence[Array]
    axes: tuple[str, ...]
    rgb: bool = False
    """Whether they were made red, green and blue."""
    inverted: bool = False


def shown_bands(levels: Sequence[Array], dataset: Any, as_labels: bool) -> ShownBands:
    """Convert bands as GDAL says that they are to be seen.

    Parameters
    ----------
    levels : sequence of array-likes
        (band, y, x), or (y, x) for one band.
    dataset : rasterio dataset
        Open.
    as_labels : bool
        Whether to keep numbers as they are stored.
    """
    axes = ("c", "y", "x") if dataset.count > 1 else ("y", "x")
    if as_labels:
        return ShownBands(levels, axes)
    marks = tuple(c.name for c in dataset.colorinterp)
    dtype = np.dtype(levels[0].dtype)
    if marks == ("palette",) and dtype in (np.uint8, np.uint16):
        colours = _table(dataset)
        if colours is not None:
            pictures: list[Array] = [PaletteArray(level, colours) for level in levels]
            return ShownBands(pictures, (*axes, "c"), rgb=True)
    if marks == _INKS and dtype.kind == "u":
        inks = range(len(_INKS))
        pictures = [
            SamplesArray(level, 0, inks, convert=cmyk_to_rgb) for level in levels
        ]
        return ShownBands(pictures, axes, rgb=True)
    structure = dataset.tags(ns="IMAGE_STRUCTURE")
    return ShownBands(levels, axes, inverted=structure.get("MINISWHITE") == "YES")


def _table(dataset: Any) -> np.ndarray | None:
    """Colours of the classes, (n, 3); those without data and unseen ones are black."""
    try:
        found = dataset.colormap(1)
    except ValueError:
        return None
    colours = np.zeros((max(found, default=0) + 1, 3), np.uint8)
    for index, (red, green, blue, alpha) in found.items():
        if alpha and index != dataset.nodata:
            colours[index] = red, green, blue
    return colours
