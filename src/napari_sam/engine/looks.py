"""Which windows of a plane are looked at for everything, and at which points."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.tiles import Window
from napari_sam.engine.propose_options import POINTS_PER_SIDE, ProposeOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_sam.core.masks import Bbox
    from napari_sam.core.tiles import TileGrid
    from napari_sam.engine.exemplars import Exemplars

    Taken = Callable[[Bbox, int], np.ndarray]
    """(box, step) -> (h, w) bool: pixels, every `step`-th, that are annotated."""

_WHOLE = 16
"""Share of a tile's side, 1 in so many, from which masks of coarser levels count.

What is smaller is at most an eighth of a side on the level below, half of what tiles
share: the tile that owns its middle shows it whole.
"""
_POINTS = 8, 48
"""Fewest and most points on a tile's side where known objects tell how many."""


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """One window and the part of it where objects are asked for."""

    window: Window
    core: Window
    """Seeds and points outside are another window's."""
    is_crop: bool
    """Whether SAM's rule for masks at a crop's edge holds, 20 pixels wide."""
    points: np.ndarray
    """(rows, cols, 2) float, (y, x) in the window's pixels."""
    smallest: int = 0
    """Pixels that a mask's box must be wide or high: the level below has the others."""

    def owns(self, points: np.ndarray) -> np.ndarray:
        """(N,) bool: which points, (N, 2) in the window, lie in the core."""
        ys = np.round(points[:, 0]) + self.window.y0 - self.core.y0
        xs = np.round(points[:, 1]) + self.window.x0 - self.core.x0
        return (ys >= 0) & (ys < self.core.h) & (xs >= 0) & (xs < self.core.w)

    def coarse_to_fine(self, at_once: bool) -> Iterator[np.ndarray]:
        """Every 4th point each way first, then every 2nd, then the rest: (N, 2)."""
        if at_once:
            yield self.points.reshape(-1, 2)
            return
        rows, cols = np.indices(self.points.shape[:2])
        late = np.where((rows % 2 == 0) & (cols % 2 == 0), 1, 2)
        late[(rows % 4 == 0) & (cols % 4 == 0)] = 0
        for turn in range(3):
            yield self.points[late == turn]


def plan_looks(
    grid: TileGrid,
    options: ProposeOptions,
    *,
    enlarges: bool,
    like: Exemplars | None = None,
    region: Bbox | None = None,
) -> list[Look]:
    """Choose the windows of a plane, in the order they are looked at.

    Parameters
    ----------
    grid : TileGrid
    options : ProposeOptions
    enlarges : bool
        Whether the model scales a window of any size to its frame.
    like : Exemplars, optional
        Known objects; their size decides on the level and on the points.
    region : Bbox, optional
        Level-0 pixels: only windows that may hold objects prompted in here.
    """
    layout = options.layout
    if layout == "auto":
        small = max(grid.level_shape(0)) <= grid.side
        layout = "crops" if small or options.crop_n_layers else "tiles"
    if layout == "crops":
        looks = _crops(grid, options, enlarges, like)
    else:
        looks = _tiles(grid, options, like)
    if region is None:
        return looks
    kept = []
    for look in looks:
        y0, x0, y1, x1 = look.core.box_to_plane((0, 0, look.core.h, look.core.w))
        meets = y0 < region[2] and x0 < region[3] and y1 > region[0] and x1 > region[1]
        if meets:
            kept.append(look)
    return kept


def crop_boxes(
    shape: tuple[int, int], n_layers: int, overlap_ratio: float
) -> list[tuple[Bbox, int]]:
    """Boxes of SAM's layers of crops: the whole first, then 2**i x 2**i on layer i.

    Parameters
    ----------
    shape : tuple of int
        (height, width).
    n_layers : int
    overlap_ratio : float
        Overlap of the first layer's crops, as a share of the shorter side.

    Returns
    -------
    list of (Bbox, int)
        Half-open boxes and their layers, in the order of SAM's generator.

    Examples
    --------
    >>> crop_boxes((100, 200), 1, 0.2)[1:3]
    [((0, 0, 60, 110), 1), ((40, 0, 100, 110), 1)]
    """
    h, w = shape
    out: list[tuple[Bbox, int]] = [((0, 0, h, w), 0)]
    for layer in range(1, n_layers + 1):
        n = 2**layer
        overlap = int(overlap_ratio * min(h, w) * (2 / n))
        ch, cw = (math.ceil((overlap * (n - 1) + size) / n) for size in (h, w))
        for col, row in product(range(n), range(n)):
            y0, x0 = (ch - overlap) * row, (cw - overlap) * col
            out.append(((y0, x0, min(y0 + ch, h), min(x0 + cw, w)), layer))
    return out


def _crops(
    grid: TileGrid, options: ProposeOptions, enlarges: bool, like: Exemplars | None
) -> list[Look]:
    out = []
    side, factor = grid.side, options.crop_n_points_downscale_factor
    for box, layer in crop_boxes(
        grid.level_shape(0), options.crop_n_layers, options.crop_overlap_ratio
    ):
        window = _window(grid, box, enlarges)
        n = int((options.points_per_side or POINTS_PER_SIDE) / factor**layer)
        rows = cols = max(n, 1)
        if options.points_per_side is None and like is not None:
            spacing = _spacing(like, side) / window.step[0]
            rows, cols = (math.ceil(size / spacing) for size in (window.h, window.w))
        elif not enlarges:  # pixels keep their size: a small image has fewer points
            rows, cols = (
                max(1, round(size * n / side)) for size in (window.h, window.w)
            )
        ys = (np.arange(rows) + 0.5) / rows * window.h
        xs = (np.arange(cols) + 0.5) / cols * window.w
        points = np.stack(np.meshgrid(ys, xs, indexing="ij"), axis=-1)
        out.append(Look(window, window, True, points))
    return out


def _window(grid: TileGrid, box: Bbox, enlarges: bool) -> Window:
    """Return a box as a window, on the finest level on which the model can see it."""
    y0, x0, y1, x1 = box
    level = 0
    while not enlarges and max(y1 - y0, x1 - x0) > grid.side << level:
        level += 1
    step = 1 << level
    h, w = grid.level_shape(level)
    top, left = y0 // step, x0 // step
    bottom, right = min(-(-y1 // step), h), min(-(-x1 // step), w)
    if not enlarges:
        bottom, right = min(bottom, top + grid.side), min(right, left + grid.side)
    return Window(level, top, left, bottom - top, right - left, grid.zoom)


def _tiles(
    grid: TileGrid, options: ProposeOptions, like: Exemplars | None
) -> list[Look]:
    first = 0 if like is None else _level_for(grid, like)
    levels = range(first, grid.n_levels if like is None else first + 1)
    out = []
    for level in levels:
        spacing = grid.side / (options.points_per_side or POINTS_PER_SIDE)
        if options.points_per_side is None and like is not None:
            spacing = _spacing(like, grid.side << level) / (1 << level)
        smallest = grid.side // _WHOLE if level > levels[0] else 0
        for tile in grid.tiles(level):
            window, core = tile.window, tile.core
            ys = _along(core.y0, core.h, spacing) - window.y0
            xs = _along(core.x0, core.w, spacing) - window.x0
            points = np.stack(np.meshgrid(ys, xs, indexing="ij"), axis=-1)
            out.append(Look(window, core, False, points, smallest))
    return out


def _along(start: int, n: int, spacing: float) -> np.ndarray:
    """Places of the plane's own grid on one axis of a core, whatever the tiles are."""
    first, last = start / spacing - 0.5, (start + n) / spacing - 0.5
    steps = np.arange(math.ceil(first), math.ceil(last))
    return np.asarray(np.floor((steps + 0.5) * spacing))


def _level_for(grid: TileGrid, like: Exemplars) -> int:
    """Finest level on which a usual object spans at most half a tile."""
    span, level = math.sqrt(like.areas[1] * 4 / math.pi), 0
    while level < grid.n_levels - 1 and span > grid.side / 2:
        span, level = span / 2, level + 1
    return level


def _spacing(like: Exemplars, side: int) -> float:
    """Level-0 pixels from point to point: no known object lies between them."""
    across = 0.6 * math.sqrt(like.areas[0] * 4 / math.pi)
    return min(max(across, side / _POINTS[1]), side / _POINTS[0])
