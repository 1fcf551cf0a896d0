"""An object divided among clicks: the border lies where the model is undecided."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.frames import window_prompts
from napari_sam.core.masks import depth_of
from napari_sam.core.prompts import Prompts
from napari_sam.engine.windows import choose_window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sam.core.mask_prompt import MaskPrompt
    from napari_sam.core.planes import Plane
    from napari_sam.engine.engine import Engine

CLEAR = 8.0
"""Difference of two logits from which on a pixel clearly belongs to the greater one."""


def divide(
    engine: Engine,
    plane: Plane,
    mask: MaskPrompt,
    points: Sequence[tuple[float, float]],
) -> np.ndarray:
    """Say which click each pixel of an object belongs to.

    The model is asked for each click against all others. From the clicks the object is
    flooded (watershed), first where one logit exceeds the others clearly and where the
    object is thick: parts meet where the model is undecided, at a neck if there is one.
    Measured in docs/prompts.md against the logits alone and the thickness alone. A
    model that takes no points leaves the border to the thickness.

    Parameters
    ----------
    engine : Engine
    plane : Plane
    mask : MaskPrompt
        The object, in level-0 pixels.
    points : sequence of (y, x)
        Two or more, each on a pixel of the object that no other is on.

    Returns
    -------
    ndarray, the shape of ``mask.mask``, int
        Index of the click; -1 outside the object.
    """
    depth = depth_of(mask.mask)
    heights = -depth / depth.max()
    if "points" in engine.model.spec.prompts:
        heights -= _lead(_logits(engine, plane, mask, points)) / CLEAR
    return _flooded(heights, mask, _marks(mask, points))


def _lead(logits: np.ndarray) -> np.ndarray:
    """(n, h, w) logits -> (h, w): by how much the greatest exceeds the next, capped."""
    second, first = np.partition(logits, -2, axis=0)[-2:]
    return np.asarray(np.minimum(first - second, CLEAR))


def _logits(
    engine: Engine,
    plane: Plane,
    mask: MaskPrompt,
    points: Sequence[tuple[float, float]],
) -> np.ndarray:
    """(n, h, w) logits of each click against the others, on the object's box."""
    said = Prompts.of(points=points, mask=mask)
    window = choose_window(said, engine.grid(plane.axis))
    frame = engine.frame(window)
    shape = plane.shape(engine.volume.shape)
    asked = []
    for k in range(len(points)):
        signs = tuple(int(j == k) for j in range(len(points)))
        against = replace(said, point_labels=signs, mask=None)
        given = window_prompts(against, frame, None, shape, engine.model.spec.forms)
        asked.append(given)
    answers = engine.model.decode_many(engine.embedding(plane, window), asked)
    y0, x0, y1, x1 = mask.bbox
    ys, xs = np.arange(y0, y1), np.arange(x0, x1)
    found = (answer[0].low_res_logits for answer in answers)
    return np.array([frame.resample(low, ys, xs, float(low.min())) for low in found])


def _marks(mask: MaskPrompt, points: Sequence[tuple[float, float]]) -> np.ndarray:
    """The object's box with k + 1 on the pixel of click k, else 0."""
    marks = np.zeros(mask.mask.shape, np.int32)
    for k, (y, x) in enumerate(points):
        marks[round(y) - mask.bbox[0], round(x) - mask.bbox[1]] = k + 1
    return marks


def _flooded(heights: np.ndarray, mask: MaskPrompt, marks: np.ndarray) -> np.ndarray:
    """Flood the object from marks; islands without one go to the nearest part."""
    from scipy.ndimage import distance_transform_edt
    from skimage.segmentation import watershed

    found = watershed(heights, marks, mask=mask.mask)
    left = mask.mask & (found == 0)
    if left.any():
        rows, cols = distance_transform_edt(
            found == 0, return_distances=False, return_indices=True
        )
        found[left] = found[rows[left], cols[left]]
    return np.where(mask.mask, found, 0) - 1
