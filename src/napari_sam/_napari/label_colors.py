"""Colours of objects in the viewer: bright, also on stained tissue."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.picture import COLORS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari.utils.colormaps import CyclicLabelColormap

    from napari_sam.core.objects import ClassList
    from napari_sam.results.views import View

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


def class_colors(classes: ClassList) -> dict[str, str]:
    """Colour of each class, as #rrggbb: its own, or one by its place in the list."""
    bright = object_colors()
    out = {}
    for n, kind in enumerate(classes.classes):
        rgb = (round(255 * v) for v in bright[n % len(bright)])
        out[kind.name] = kind.color or "#{:02x}{:02x}{:02x}".format(*rgb)
    return out


def class_colormap(view: View, classes: ClassList, kinds: Mapping[int, str]) -> Any:
    """Colormap of a Labels layer in which objects have the colours of their classes.

    Parameters
    ----------
    view : {"instance", "semantic", "panoptic"}
        "instance": `object_colormap`. "semantic": one colour a class. "panoptic":
        shades of it.
    classes : ClassList
    kinds : mapping of int to str
        Class of each object that has one; all others are grey.
    """
    if view == "instance":
        return object_colormap()
    from napari.utils.colormaps import DirectLabelColormap

    shades = (0.0,) if view == "semantic" else (0.0, -0.2, 0.2, -0.35, 0.35)
    table = {
        name: [_shaded(color, shade) for shade in shades]
        for name, color in class_colors(classes).items()
    }
    grey = np.array((0.55, 0.55, 0.55, 1), np.float32)
    colors: dict[int | None, np.ndarray] = {
        None: grey, 0: np.zeros(4, np.float32),
        **{i: table[kind][i % len(shades)] for i, kind in kinds.items()},
    }  # fmt: skip
    return DirectLabelColormap(color_dict=colors, name=f"napari-sam {view}")


def _shaded(color: str, shade: float) -> np.ndarray:
    rgb = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    hue, light, full = colorsys.rgb_to_hls(*rgb)
    light = min(max(light + shade * (1 - abs(2 * light - 1)), 0.15), 0.9)
    return np.array((*colorsys.hls_to_rgb(hue, light, full), 1), np.float32)
