"""The Orientation tag of TIFF and EXIF: how stored rows and columns are to be shown."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.volume.lazy_arrays import AxisView, FlippedView

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sam.volume.layout import Layout
    from napari_sam.volume.lazy_arrays import Array

_FLIPPED = {2: "x", 3: "yx", 4: "y", 5: "", 6: "x", 7: "yx", 8: "y"}
"""Axes that run backwards, after rows and columns were swapped from 5 on."""


def turned(pixels: np.ndarray, orientation: int, y: int, x: int) -> np.ndarray:
    """Turn a decoded picture as its orientation says.

    Parameters
    ----------
    pixels : ndarray
    orientation : int
        1 to 8; others are taken for 1, as every viewer does.
    y, x : int
        Axes of the stored rows and columns.
    """
    if orientation not in _FLIPPED:
        return pixels
    if orientation >= 5:
        pixels = np.swapaxes(pixels, y, x)
    axes = {"y": y, "x": x}
    return np.flip(pixels, tuple(axes[a] for a in _FLIPPED[orientation]))


def turned_shape(
    shape: Sequence[int], orientation: int, y: int, x: int
) -> tuple[int, ...]:
    """Shape that `turned` gives."""
    out = list(shape)
    if 5 <= orientation <= 8:
        out[y], out[x] = out[x], out[y]
    return tuple(out)


def turned_levels(levels: Sequence[Array], orientation: int, axes: str) -> list[Array]:
    """Turn every level of a pyramid lazily.

    Parameters
    ----------
    levels : sequence of array-likes
    orientation : int
    axes : str
        Names of the stored axes, with "y" and "x" among them.
    """
    if orientation not in _FLIPPED:
        return list(levels)
    y, x = axes.index("y"), axes.index("x")
    order = list(range(len(axes)))
    if orientation >= 5:
        order[y], order[x] = x, y
    flipped = [{"y": y, "x": x}[a] for a in _FLIPPED[orientation]]
    out: list[Array] = []
    for level in levels:
        view: Any = level if orientation < 5 else AxisView(level, order)
        out.append(FlippedView(view, flipped) if flipped else view)
    return out


def turned_layout(layout: Layout, orientation: int, shape: tuple[int, int]) -> Layout:
    """Give the place of the turned image; `shape` is that of the stored rows, columns.

    Spacing follows its axis. An affine of (y, x) alone is composed, so that every
    pixel stays where it was in the world.
    """
    if orientation not in _FLIPPED:
        return layout
    spacing, units = dict(layout.spacing), dict(layout.units)
    if orientation >= 5:
        for found in (spacing, units):
            swapped: dict[str, Any] = {
                {"y": "x", "x": "y"}.get(name, name): value
                for name, value in found.items()
            }
            found.clear()
            found.update(swapped)
    affine = layout.affine
    if affine is not None and affine.shape == (3, 3):
        affine = affine @ _to_stored(orientation, shape)
    return replace(layout, spacing=spacing, units=units, affine=affine)


def _to_stored(orientation: int, shape: tuple[int, int]) -> np.ndarray:
    """Index (y, x) of the turned picture to index (y, x) of the stored one."""
    last = {"y": shape[0] - 1, "x": shape[1] - 1}
    swap = orientation >= 5
    if swap:
        last = {"y": last["x"], "x": last["y"]}
    flip = np.eye(3)
    for i, name in enumerate("yx"):
        if name in _FLIPPED[orientation]:
            flip[i, i], flip[i, 2] = -1, last[name]
    if not swap:
        return flip
    exchange = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    return np.asarray(exchange @ flip)
