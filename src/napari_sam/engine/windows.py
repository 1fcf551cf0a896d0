"""Which window of a plane a model looks at, and the next one when it was too small."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.tiles import Window, window_around

if TYPE_CHECKING:
    from napari_sam.core.prompts import Prompts
    from napari_sam.core.tiles import Box, TileGrid
    from napari_sam.engine.prediction import Prediction

FILL = 0.75
"""Share of a tile's side that an object and its prompts may span."""


def choose_window(
    prompts: Prompts, grid: TileGrid, before: Prediction | None = None
) -> Window:
    """Choose where a model looks first for these prompts.

    The window of the click before, while the prompts still lie well inside it. Else
    the finest level at which everything said (and the mask so far) lies inside one
    tile with a margin of an eighth of a tile on each side; a lone point starts at the
    level the user's view shows. A grid tile is taken where it holds all that with the
    margin, so that stored embeddings serve; otherwise a window centred on it.
    """
    extent = prompts.extent()
    if before is not None and _inside(extent, before.window, grid, grid.side / 16):
        return before.window
    if before is not None and before.chosen.mask.size:
        extent = _around(extent, before.chosen.bbox)
    drawn = prompts.box or prompts.polygon_box() or prompts.mask
    level = _level_for(extent, grid, 0 if drawn else prompts.level)
    scale = 1 << level
    y0, x0, y1, x1 = (v / scale for v in extent)
    center = (y0 + y1) / 2 - 0.5, (x0 + x1) / 2 - 0.5
    tile = grid.owner(level, *center).window
    if _inside(extent, tile, grid, grid.side / 8 - 1):
        return tile
    return window_around(center, level, grid.level_shape(level), grid.side)


def _inside(extent: Box, window: Window, grid: TileGrid, margin: float) -> bool:
    """Whether a level-0 box lies `margin` inside the edges that cut the image."""
    h, w = grid.level_shape(window.level)
    y0, x0, y1, x1 = window.box_to_window(extent)
    return (
        (y0 >= margin or window.y0 == 0)
        and (x0 >= margin or window.x0 == 0)
        and (y1 <= window.h - margin or window.y0 + window.h == h)
        and (x1 <= window.w - margin or window.x0 + window.w == w)
    )


def _level_for(extent: Box, grid: TileGrid, start: int) -> int:
    span = max(extent[2] - extent[0], extent[3] - extent[1])
    level = min(max(start, 0), grid.n_levels - 1)
    while level < grid.n_levels - 1 and span / (1 << level) > FILL * grid.side:
        level += 1
    return level


def grow_window(
    window: Window, bbox: tuple[int, int, int, int], grid: TileGrid, *, may_move: bool
) -> Window:
    """Return the next window for a mask its window cuts: re-centred, or coarser."""
    y0, x0, y1, x1 = bbox
    center = window.y0 + (y0 + y1 - 1) / 2, window.x0 + (x0 + x1 - 1) / 2
    shape = grid.level_shape(window.level)
    if may_move and max(y1 - y0, x1 - x0) <= FILL * grid.side:
        moved = window_around(center, window.level, shape, grid.side)
        if abs(moved.y0 - window.y0) + abs(moved.x0 - window.x0) > grid.side // 16:
            return moved
    level = window.level + 1
    if level >= grid.n_levels:
        return window
    half = (center[0] + 0.5) / 2 - 0.5, (center[1] + 0.5) / 2 - 0.5
    return window_around(half, level, grid.level_shape(level), grid.side)


def _around(extent: Box, bbox: tuple[int, int, int, int]) -> Box:
    low = np.minimum(extent[:2], bbox[:2])
    high = np.maximum(extent[2:], bbox[2:])
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])
