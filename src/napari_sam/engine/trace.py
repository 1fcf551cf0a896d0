"""Paths along thin objects: the way between clicks, and how wide the object is there.

The way is the cheapest through the ridges of the image (Sato et al., Three-dimensional
multi-scale line filter, Medical Image Analysis 2, 1998); its width is that at half
height of the profiles across it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.mask_prompt import MaskPrompt
from napari_sam.core.masks import crop_mask
from napari_sam.core.tiles import Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sam.core.planes import Plane
    from napari_sam.core.prompt_values import Line
    from napari_sam.core.tiles import Box
    from napari_sam.engine.engine import Engine

MOST_PIXELS = 2**21
"""Pixels that are looked through for the way; longer paths go on a coarser level."""
WIDEST = 16
"""Pixels from the middle of a thin object to its edge, at most."""
_SIGMAS = (1.0, 2.0, 4.0)
"""Half widths of the ridges that are looked for, in pixels."""
_PLAIN = 0.05
"""Cost of a pixel on the sharpest ridge, where one off all ridges costs 1."""
_SMOOTH = 15
"""Places along the way over which its direction and width are smoothed."""


def trace(engine: Engine, plane: Plane, paths: Sequence[Line]) -> MaskPrompt:
    """Find the thin object that paths run along.

    Parameters
    ----------
    engine : Engine
        Its image and intensity mapping are used; its model is not.
    plane : Plane
    paths : sequence of paths
        Each two (y, x) places or more, in level-0 pixels.

    Returns
    -------
    MaskPrompt
        The object: as wide as it is, all along the cheapest way through the places.
    """
    shape = plane.shape(engine.volume.shape)
    parts = [_tube(engine, plane, path, shape) for path in paths]
    low = np.min([box[:2] for box, _ in parts], axis=0)
    high = np.max([box[2:] for box, _ in parts], axis=0)
    whole = np.zeros(tuple(high - low), bool)
    for (y0, x0, y1, x1), mask in parts:
        whole[y0 - low[0] : y1 - low[0], x0 - low[1] : x1 - low[1]] |= mask
    y, x = int(low[0]), int(low[1])
    return MaskPrompt((y, x, y + whole.shape[0], x + whole.shape[1]), whole)


@dataclass(frozen=True, slots=True, eq=False)
class _Way:
    """The cheapest way between places, on a crop of the image."""

    gray: np.ndarray
    """(h, w) float: bright where the object is."""
    nodes: np.ndarray
    """(N, 2) int, each beside the one before it."""


def _tube(
    engine: Engine, plane: Plane, path: Line, shape: tuple[int, int]
) -> tuple[tuple[int, int, int, int], np.ndarray]:
    """Box (level 0, half-open) and mask of one path."""
    window = _window(path, shape, engine.grid(plane.axis).n_levels)
    rgb = engine.source.pixels(plane, window)
    ys, xs = np.array(path).T
    at = np.stack(window.to_window(ys, xs), axis=1)
    places = np.rint(at).astype(int).clip(0, np.array(rgb.shape[:2]) - 1)
    way = _cheapest(rgb.mean(2, dtype=np.float32), places)
    mask = _drawn(way, _radii(way))
    scale = 1 << window.level
    if scale > 1:
        mask = mask.repeat(scale, 0).repeat(scale, 1)
    top, left = window.y0 * scale, window.x0 * scale
    mask = mask[: shape[0] - top, : shape[1] - left]
    (y0, x0, y1, x1), mask = crop_mask(mask)
    return (y0 + top, x0 + left, y1 + top, x1 + left), mask


def _window(path: Line, shape: tuple[int, int], n_levels: int) -> Window:
    """Rectangle around a path in which its way is looked for."""
    ys, xs = np.array(path).T
    margin = max(2 * WIDEST, 0.25 * max(np.ptp(ys), np.ptp(xs)))
    box: Box = (
        max(ys.min() - margin, 0), max(xs.min() - margin, 0),
        min(ys.max() + margin + 1, shape[0]), min(xs.max() + margin + 1, shape[1]),
    )  # fmt: skip
    level = 0
    area = (box[2] - box[0]) * (box[3] - box[1])
    while level < n_levels - 1 and area / 4**level > MOST_PIXELS:
        level += 1
    y0, x0 = (int(v) >> level for v in box[:2])
    y1, x1 = (-(-int(np.ceil(v)) >> level) or 1 for v in box[2:])
    return Window(level, y0, x0, max(y1 - y0, 1), max(x1 - x0, 1))


def _cheapest(gray: np.ndarray, places: np.ndarray) -> _Way:
    """The way through places, on bright or dark ridges, whichever they lie on."""
    from skimage.graph import route_through_array

    ridges, sign = _ridges(gray, places)
    cost = 1 / (ridges + _PLAIN)
    nodes = [places[:1]]
    for start, stop in pairwise(places):
        found, _ = route_through_array(cost, start, stop, geometric=True)
        nodes.append(np.array(found[1:], int).reshape(-1, 2))
    return _Way(gray * sign, np.concatenate(nodes))


def _ridges(gray: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, int]:
    """(h, w) strength of ridges, 0..1, and 1 for bright ones or -1 for dark ones."""
    from skimage.filters import sato

    found = {
        sign: sato(gray, _SIGMAS, black_ridges=sign < 0, mode="nearest")
        for sign in (1, -1)
    }
    near = {s: float(_beside(r, places).mean()) for s, r in found.items()}
    sign = max(near, key=lambda s: near[s])
    ridges = found[sign]
    top = float(np.quantile(ridges, 0.995)) or 1.0
    return np.minimum(ridges / top, 1), sign


def _beside(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Greatest value within two pixels of each place: nobody clicks exactly."""
    from scipy.ndimage import maximum_filter

    return np.asarray(maximum_filter(values, 5)[tuple(places.T)])


def _radii(way: _Way) -> np.ndarray:
    """(N,) half widths at half height across the way, smoothed along it."""
    from scipy.ndimage import map_coordinates, median_filter, uniform_filter1d

    n = len(way.nodes)
    smooth = uniform_filter1d(way.nodes.astype(float), min(_SMOOTH, n), 0)
    along = np.gradient(smooth, axis=0) if n > 1 else np.ones((n, 2))
    normal = np.stack([-along[:, 1], along[:, 0]], 1)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
    steps = np.arange(0, WIDEST + 0.5, 0.5)
    sides = []
    for side in (1, -1):
        at = way.nodes[:, :, None] + side * normal[:, :, None] * steps
        profile = map_coordinates(way.gray, at.transpose(1, 0, 2), order=1)
        top = profile[:, :3].max(1)
        low = np.minimum.accumulate(profile, 1)
        bottom = low[:, steps <= 6].min(1)
        fallen = low < ((top + bottom) / 2)[:, None]
        first = np.where(fallen.any(1), fallen.argmax(1), 2)
        sides.append(steps[first])
    both = np.mean(sides, axis=0)
    return np.asarray(median_filter(both, min(_SMOOTH, n), mode="nearest")).clip(0.5)


def _drawn(way: _Way, radii: np.ndarray) -> np.ndarray:
    """(h, w) bool: all that is as near to the way as it is wide there."""
    from scipy.ndimage import distance_transform_edt

    line = np.ones(way.gray.shape, bool)
    wide = np.zeros(way.gray.shape)
    line[tuple(way.nodes.T)] = False
    wide[tuple(way.nodes.T)] = radii
    far, (rows, cols) = distance_transform_edt(line, return_indices=True)
    return np.asarray(far <= wide[rows, cols])
