"""Which window of a plane a model looks at, and the next one when it was too small."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.frames import touches_cut_edge
from napari_sam.core.prompts import cut_box

if TYPE_CHECKING:
    from napari_sam.core.masks import Bbox, MaskCandidate
    from napari_sam.core.planes import Plane
    from napari_sam.core.prompts import Prompts
    from napari_sam.core.tiles import Box, TileGrid, Window
    from napari_sam.engine.engine import Engine
    from napari_sam.engine.prediction import Prediction

FILL = 0.75
"""Share of a tile's side that an object and its prompts may span."""

MOST_READ = 1 << 26
"""Pixels of the data that a window of a lone click may take to read: 8192 x 8192.

A level that the data has takes no more than the window; one that must be averaged on
the way takes four times as many pixels as the level below it, at last the whole image.
"""


def choose_window(
    prompts: Prompts, grid: TileGrid, before: Prediction | None = None
) -> Window:
    """Choose where a model looks first for these prompts.

    The finest level at which everything said (and the mask so far) lies inside one
    tile with a margin of an eighth of a tile on each side; a lone point starts at the
    level the user's view shows. There, the window of the click before, while the
    prompts still lie well inside it; else a grid tile where it holds all that with the
    margin, so that stored embeddings serve; otherwise a window centred on it.

    A lone click may have been answered best at another scale. Further clicks say
    enough to go on where the object's details are seen, with its mask as prompt.
    """
    extent = said = cut_box(prompts.extent(), grid.shape)
    if before is not None and not before.chosen.is_empty:
        extent = _around(extent, before.chosen.bbox)
    drawn = prompts.outer_box() is not None
    level = _level_for(extent, grid, 0 if drawn else prompts.level)
    if before is not None and before.window.level == level:
        if holds(before.window, said, grid, grid.side / 16):
            return before.window
    return window_for(extent, level, grid)


def window_for(extent: Box, level: int, grid: TileGrid) -> Window:
    """Return the tile that holds a level-0 box well, or a window centred on it."""
    center = _middle(extent, grid, level)
    if 0 <= level < grid.n_levels:
        tile = grid.owner(level, *center).window
        if holds(tile, extent, grid, grid.side / 8 - 1):
            return tile
    return grid.around(center, level)


def holds(window: Window, extent: Box, grid: TileGrid, margin: float = 0) -> bool:
    """Whether a level-0 box lies `margin` inside the edges that cut the image."""
    h, w = grid.level_shape(window.level)
    y0, x0, y1, x1 = window.box_to_window(extent)
    return (
        (y0 >= margin or window.y0 == 0)
        and (x0 >= margin or window.x0 == 0)
        and (y1 <= window.h - margin or window.y0 + window.h == h)
        and (x1 <= window.w - margin or window.x0 + window.w == w)
    )


def is_cut(candidate: MaskCandidate, window: Window, grid: TileGrid) -> bool:
    """Whether a mask, in window pixels, goes on beyond its window."""
    shape = grid.level_shape(window.level)
    return touches_cut_edge(candidate.bbox, window, shape)


def grow_window(
    window: Window,
    bbox: Bbox,
    grid: TileGrid,
    extent: Box,
    *,
    may_move: bool,
    coarsest: int | None = None,
) -> Window:
    """Return the next window for a mask its window cuts: re-centred, or coarser.

    Parameters
    ----------
    window : Window
    bbox : Bbox
        The mask, in the window's pixels.
    grid : TileGrid
    extent : Box
        Everything said, level 0; the next window holds it, too.
    may_move : bool
        Whether a window on the same level will do.
    coarsest : int, optional
        Last level to go to; the grid's coarsest by default.
    """
    y0, x0, y1, x1 = bbox
    center = window.y0 + (y0 + y1 - 1) / 2, window.x0 + (x0 + x1 - 1) / 2
    if may_move and max(y1 - y0, x1 - x0) <= FILL * grid.side:
        moved = grid.around(center, window.level)
        far = abs(moved.y0 - window.y0) + abs(moved.x0 - window.x0) > grid.side // 16
        if far and holds(moved, extent, grid):
            return moved
    last = grid.n_levels - 1 if coarsest is None else coarsest
    mask = window.box_to_plane((float(y0), float(x0), float(y1), float(x1)))
    for level in range(window.level + 1, last + 1):
        for box in (mask, _around(extent, mask)):
            found = grid.around(_middle(box, grid, level), level)
            if holds(found, extent, grid):
                return found
    return window


def coarsest_level(engine: Engine, plane: Plane, window: Window) -> int:
    """Coarsest level of the grid that may be read for a lone click."""
    grid = engine.grid(plane.axis)
    level = window.level
    while level + 1 < grid.n_levels and is_cheap(engine, plane, level + 1):
        level += 1
    return level


def is_cheap(engine: Engine, plane: Plane, level: int) -> bool:
    """Whether a window of a level is read from few enough pixels."""
    window = engine.grid(plane.axis).around((0.0, 0.0), level)
    return engine.volume.pixels_read(plane, window) <= MOST_READ


def _level_for(extent: Box, grid: TileGrid, start: int) -> int:
    y, x = grid.zoom
    span = max((extent[2] - extent[0]) * y, (extent[3] - extent[1]) * x)
    level = min(max(start, 0), grid.n_levels - 1)
    while level < grid.n_levels - 1 and span / (1 << level) > FILL * grid.side:
        level += 1
    return level


def _middle(extent: Box, grid: TileGrid, level: int) -> tuple[float, float]:
    y0, x0, y1, x1 = extent
    return grid.on_level(((y0 + y1) / 2 - 0.5, (x0 + x1) / 2 - 0.5), level)


def _around(extent: Box, other: Box | Bbox) -> Box:
    low = np.minimum(extent[:2], other[:2])
    high = np.maximum(extent[2:], other[2:])
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])
