"""Objects as pictures of their own, for models that look at one thing at a time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.tiles import Window
from napari_sam.engine.exemplars import sampled

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_sam.core.mask_prompt import MaskPrompt
    from napari_sam.core.planes import Plane
    from napari_sam.engine.engine import Engine

_MARGIN = 0.1
"""What is shown around an object on each side, as a share of its longer side."""


def masked_crops(
    engine: Engine,
    plane: Plane,
    masks: Iterable[MaskPrompt],
    side: int,
    fill: tuple[int, int, int],
) -> np.ndarray:
    """Cut objects out: squares that hold them whole, one colour around them.

    This is how SAM's paper shows masks to CLIP. Each is read at the coarsest level
    that has the pixels, so large objects cost no more than small ones.

    Parameters
    ----------
    engine : Engine
    plane : Plane
    masks : iterable of MaskPrompt
        In level-0 pixels.
    side : int
        Side of the pictures.
    fill : tuple of int
        Red, green and blue of what is not the object.

    Returns
    -------
    ndarray, (n, side, side, 3), uint8
        As the model sees the image: through its intensity mapping.
    """
    found = [_crop(engine, plane, mask, side, fill) for mask in masks]
    return np.array(found, np.uint8).reshape(-1, side, side, 3)


def _crop(
    engine: Engine,
    plane: Plane,
    mask: MaskPrompt,
    side: int,
    fill: tuple[int, int, int],
) -> np.ndarray:
    from PIL import Image

    y0, x0, y1, x1 = mask.bbox
    zoom = engine.grid(plane.axis).zoom
    h, w = (y1 - y0) * zoom[0], (x1 - x0) * zoom[1]  # in square pixels
    scale = side / (max(h, w) * (1 + 2 * _MARGIN))
    window = _window(engine, plane, mask, 1 / scale)
    pixels = engine.intensity.apply(engine.volume.read(plane, window))
    cut = np.where(sampled(mask, window)[..., None], pixels, np.array(fill, np.uint8))
    th, tw = (min(max(1, round(v * scale)), side) for v in (h, w))
    resized = Image.fromarray(cut).resize((tw, th), Image.Resampling.BICUBIC)
    out = np.empty((side, side, 3), np.uint8)
    out[:] = fill
    top, left = (side - th) // 2, (side - tw) // 2
    out[top : top + th, left : left + tw] = np.asarray(resized)
    return out


def _window(engine: Engine, plane: Plane, mask: MaskPrompt, shrink: float) -> Window:
    """Return what an object's box covers on the coarsest level that has its pixels."""
    grid = engine.grid(plane.axis)
    level = min(max(0, math.floor(math.log2(max(shrink, 1)))), grid.n_levels - 1)
    step = 1 << level
    h, w = (-(-n // step) for n in plane.shape(engine.volume.shape))
    y0, x0, y1, x1 = mask.bbox
    top, left = min(y0 // step, h - 1), min(x0 // step, w - 1)
    bottom, right = min(-(-y1 // step), h), min(-(-x1 // step), w)
    return Window(level, top, left, max(bottom - top, 1), max(right - left, 1))
