"""From a coarse mask to a sharp one: level by level, only where its outline runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.frames import clip_box, enlarge_mask, mask_logits
from napari_sam.core.masks import crop_mask, mask_iou
from napari_sam.core.prompts import WindowPrompts
from napari_sam.errors import Cancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_sam.core.frames import Frame
    from napari_sam.core.masks import Bbox
    from napari_sam.core.prompts import Prompts
    from napari_sam.core.tiles import TileGrid, Window

    Decode = Callable[[Window, WindowPrompts], np.ndarray | None]

TRUST = 0.7
"""IoU with the coarser mask below which a tile's own answer is not believed."""
REACH = 32
"""Part of a tile's side by which an outline may move on one level, at least 4 pixels.

A coarser level shows whatever is larger, so a tile that finds it is wrong.
"""


def refine_mask(
    bbox: Bbox,
    mask: np.ndarray,
    level: int,
    prompts: Prompts,
    grid: TileGrid,
    frame_of: Callable[[Window], Frame],
    decode: Decode,
    cancel: Callable[[], bool] | None = None,
) -> Iterator[tuple[int, Bbox, np.ndarray]]:
    """Sharpen a mask from one pyramid level down to level 0.

    On each finer level, the tiles that the outline crosses are decoded with the
    coarser mask as mask prompt; where tiles overlap, each counts the more the farther
    a pixel lies from its edge. A tile whose answer departs from the coarser mask
    altogether is not believed, and none moves the outline further than `REACH`.

    Parameters
    ----------
    bbox, mask
        The coarse mask in pixels of `level`.
    level : int
    prompts : Prompts
        Points lying in a tile are repeated to it.
    grid : TileGrid
    frame_of : callable
        Gives the model's frame of a window.
    decode : callable
        (window, prompts) -> boolean (h, w) mask of the window, or None.
    cancel : callable, optional
        Asked before each tile; True raises `Cancelled`.

    Yields
    ------
    tuple
        (level, bbox, mask) after each finer level, in pixels of that level.
    """
    for finer in range(level - 1, -1, -1):
        shape = grid.level_shape(finer)
        bbox, mask = enlarge_mask(bbox, mask, 2, shape)
        bbox, mask = _padded(bbox, mask, grid.side // 8, shape)
        votes = np.zeros(mask.shape, np.float32)
        for window in _crossed(bbox, mask, grid, finer):
            if cancel is not None and cancel():
                raise Cancelled("stopped while the mask was being sharpened")
            part, inside = _overlap(bbox, window)
            coarse = np.zeros((window.h, window.w), bool)
            coarse[inside] = mask[part]
            given = _tile_prompts(coarse, prompts, window, frame_of(window), bbox, mask)
            answer = decode(window, given)
            if answer is None or mask_iou(answer, coarse) < TRUST:
                answer = coarse
            weight = _tent(window.h)[:, None] * _tent(window.w)[None]
            votes[part] += np.where(answer, weight, -weight)[inside]
        free = _near_outline(mask, max(grid.side // REACH, 4)) & (votes != 0)
        mask = np.where(free, votes > 0, mask)
        cropped, mask = crop_mask(mask)
        y0, x0, y1, x1 = cropped
        bbox = (bbox[0] + y0, bbox[1] + x0, bbox[0] + y1, bbox[1] + x1)
        yield finer, bbox, mask


def _crossed(
    bbox: Bbox, mask: np.ndarray, grid: TileGrid, level: int
) -> Iterator[Window]:
    first = grid.owner(level, bbox[0], bbox[1])
    last = grid.owner(level, bbox[2] - 1, bbox[3] - 1)
    for row in range(first.row, last.row + 1):
        for col in range(first.col, last.col + 1):
            window = grid.tile(level, row, col).window
            part, _ = _overlap(bbox, window)
            seen = mask[part]
            whole = seen.size == window.h * window.w
            if seen.any() and not (whole and seen.all()):
                yield window


def _near_outline(mask: np.ndarray, reach: int) -> np.ndarray:
    """Pixels within `reach` rows and columns of both the mask and what it is not."""
    from scipy.ndimage import maximum_filter, minimum_filter

    # Beyond the crop lies nothing of the mask, and beyond the image nothing at all.
    size = 2 * reach + 1
    inner = minimum_filter(mask, size, mode="nearest")
    return np.asarray(maximum_filter(mask, size, mode="nearest") & ~inner)


def _tile_prompts(
    coarse: np.ndarray,
    prompts: Prompts,
    window: Window,
    frame: Frame,
    bbox: Bbox,
    mask: np.ndarray,
) -> WindowPrompts:
    from scipy.ndimage import distance_transform_edt

    depth = distance_transform_edt(np.pad(coarse, 1))[1:-1, 1:-1]
    deepest = np.unravel_index(int(depth.argmax()), depth.shape)
    points, labels = [tuple(float(v) for v in deepest)], [1]
    for (y, x), label in zip(prompts.points, prompts.point_labels, strict=True):
        wy, wx = window.to_window(y, x)
        if 0 <= wy <= window.h - 1 and 0 <= wx <= window.w - 1:
            points.append((wy, wx))
            labels.append(label)
    y0, x0, y1, x1 = crop_mask(coarse)[0]
    slack = max(2.0, 0.02 * max(y1 - y0, x1 - x0))
    box = (y0 - slack, x0 - slack, y1 + slack, x1 + slack)
    return WindowPrompts(
        points=np.array(points, np.float64),
        point_labels=np.array(labels, np.int64),
        box=clip_box(box, (window.h, window.w)),
        mask_input=mask_logits(frame, bbox, mask),
        multimask_output=False,
    )


def _padded(
    bbox: Bbox, mask: np.ndarray, by: int, shape: tuple[int, int]
) -> tuple[Bbox, np.ndarray]:
    y0, x0, y1, x1 = bbox
    out = (
        max(y0 - by, 0),
        max(x0 - by, 0),
        min(y1 + by, shape[0]),
        min(x1 + by, shape[1]),
    )
    pads = ((y0 - out[0], out[2] - y1), (x0 - out[1], out[3] - x1))
    return out, np.pad(mask, pads)


def _overlap(
    bbox: Bbox, window: Window
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return a window's part of a crop, and the crop's part of the window."""
    y0, x0 = max(bbox[0], window.y0), max(bbox[1], window.x0)
    y1 = max(min(bbox[2], window.y0 + window.h), y0)
    x1 = max(min(bbox[3], window.x0 + window.w), x0)
    crop = slice(y0 - bbox[0], y1 - bbox[0]), slice(x0 - bbox[1], x1 - bbox[1])
    tile = slice(y0 - window.y0, y1 - window.y0), slice(x0 - window.x0, x1 - window.x0)
    return crop, tile


def _tent(n: int) -> np.ndarray:
    """Weights that fall from the middle of a tile to almost nothing at its edges."""
    ramp = np.minimum(np.arange(n), np.arange(n)[::-1]).astype(np.float32)
    return (ramp + 1) / (n / 2)
