"""Colours of objects in the viewer: bright, also on stained tissue."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING

from napari_sam.core.picture import COLORS

if TYPE_CHECKING:
    from napari.utils.colormaps import CyclicLabelColormap

MANY = 48
"""Colours before they come round again."""
_TURN = 0.6180339887
"""Of the circle of hues, from one colour to the next: none lies near the last few."""


def object_colors() -> list[tuple[float, float, float]]:
    """Colours of objects 1, 2, ...: those of pictures first, then others as bright.

    Returns
    -------
    list of (r, g, b)
        From 0 to 1.
    """
    first = [(r / 255, g / 255, b / 255) for r, g, b in COLORS]
    rest = range(MANY - len(first))
    tones = ((0.75, 1.0), (0.95, 0.8))  # saturation and brightness, by turns
    return first + [
        colorsys.hsv_to_rgb((0.52 + k * _TURN) % 1, *tones[k % 2]) for k in rest
    ]


def object_colormap() -> CyclicLabelColormap:
    """Colormap of a Labels layer of ours; napari's own begins with a dark brown."""
    from napari.utils.colormaps import CyclicLabelColormap

    background = (0.0, 0.0, 0.0, 0.0)
    return CyclicLabelColormap(
        colors=[background, *((*rgb, 1.0) for rgb in object_colors())],
        name="napari-sam objects",
    )
