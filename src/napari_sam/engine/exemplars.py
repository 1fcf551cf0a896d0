"""What known objects teach about those still to be found: size, look, and scores."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.masks import crop_iou
from napari_sam.core.prompts import Prompts
from napari_sam.core.tiles import Window
from napari_sam.engine.follow import innermost
from napari_sam.engine.predict import predict
from napari_sam.errors import Cancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_sam.core.candidates import PlaneCandidate
    from napari_sam.core.mask_prompt import MaskPrompt
    from napari_sam.core.planes import Plane
    from napari_sam.engine.engine import Engine

MOST = 16
"""Known objects that the model is asked about; more teach little."""
_SPREAD = 20.0, 60.0
"""Grey levels of 255 by which objects of a kind may differ at least: with many known,
and how much more with only one."""
_USUAL = 0.5
"""Squared difference of looks, in units of the spread, that tells nothing."""
_FOUND = 0.5
"""IoU from which a model counts as having found a known object."""


@dataclass(frozen=True, slots=True, eq=False)
class Exemplars:
    """Known objects in numbers.

    Models score alike objects alike, but each on a scale of its own: what a model says
    of objects that are known to be right is the measure for those it proposes.
    """

    areas: tuple[float, float, float]
    """Smallest, median and largest, in level-0 pixels of a plane."""
    look: np.ndarray
    """(6,) mean colour, and how it differs from what lies around; in 0..255."""
    look_spread: np.ndarray
    """(6,) how far objects differ in that."""
    predicted_iou: float
    """Lowest of those objects that the model finds from one click."""
    stability_score: float
    """Likewise."""
    sure: float
    """Their usual predicted IoU x stability score."""

    @classmethod
    def of(
        cls,
        engine: Engine,
        known: Sequence[tuple[Plane, MaskPrompt]],
        cancel: Callable[[], bool] | None = None,
    ) -> Exemplars | None:
        """Click on known objects and look at them; None where there are none.

        Parameters
        ----------
        engine : Engine
        known : sequence of (Plane, MaskPrompt)
            Masks to take as right; `MOST` of them, evenly spread, are asked about.
        cancel : callable, optional
            Asked before each; True raises `Cancelled`.
        """
        if not known:
            return None
        areas = [int(np.count_nonzero(m.mask)) for _, m in known]
        step = max(1, -(-len(known) // MOST))
        asked = known[::step]
        looks = [look_of(engine, plane, mask) for plane, mask in asked]
        scores = []
        for plane, mask in asked:
            if cancel is not None and cancel():
                raise Cancelled("stopped before anything was suggested")
            scores.append(_score(engine, plane, mask))
        found = [s for s in scores if s[0] >= _FOUND] or scores
        _, iou, stability = np.array(found).T
        return cls(
            (float(min(areas)), float(np.median(areas)), float(max(areas))),
            np.mean(looks, axis=0),
            np.maximum(np.std(looks, axis=0), _SPREAD[0] + _SPREAD[1] / len(looks)),
            float(iou.min()),
            float(stability.min()),
            float(np.median(iou * stability)),
        )

    def likeness(self, area: float, look: np.ndarray) -> float:
        """How well a mask agrees in size and look: 0..1, 1 for usual objects."""
        small, usual, large = self.areas
        spread = max(1.0, math.log(large / small))
        size = (math.log(max(area, 1) / usual) / spread) ** 2
        seen = float(np.mean(((look - self.look) / self.look_spread) ** 2))
        # The known objects themselves are 1 on average in `seen`.
        return math.exp(-0.5 * (size + max(seen - _USUAL, 0.0)))


def look_of(engine: Engine, plane: Plane, mask: MaskPrompt) -> np.ndarray:
    """Mean colour of an object, and how it differs from what lies around it.

    Parameters
    ----------
    engine : Engine
    plane : Plane
    mask : MaskPrompt
        In level-0 pixels.

    Returns
    -------
    ndarray, (6,), float
        Red, green and blue as the model sees them, 0..255, then the differences.
    """
    y0, x0, y1, x1 = mask.bbox
    h, w = plane.shape(engine.volume.shape)
    margin = max(2, round(0.15 * max(y1 - y0, x1 - x0)))
    y2, x2 = max(y0 - margin, 0), max(x0 - margin, 0)
    y3, x3 = min(y1 + margin, h), min(x1 + margin, w)
    # Large objects are looked at on a level where they are a few hundred pixels.
    level = max(0, math.ceil(math.log2(max(y3 - y2, x3 - x2) / 256)))
    step = 1 << level
    rows, cols = range(y2 // step, -(-y3 // step)), range(x2 // step, -(-x3 // step))
    window = Window(level, rows.start, cols.start, len(rows), len(cols))
    pixels = engine.intensity.apply(engine.volume.read(plane, window))
    inside = sampled(mask, window)
    if not inside.any() or inside.all():
        return np.concatenate([pixels.reshape(-1, 3).mean(0), np.zeros(3)])
    mean = pixels[inside].mean(0)
    return np.concatenate([mean, mean - pixels[~inside].mean(0)])


def sampled(mask: MaskPrompt, window: Window) -> np.ndarray:
    """(h, w) bool: the mask at a window's pixel centres."""
    y0, x0, y1, x1 = mask.bbox
    step = round(window.step[0])
    ys = (np.arange(window.h) + window.y0) * step + step // 2 - y0
    xs = (np.arange(window.w) + window.x0) * step + step // 2 - x0
    rows, cols = (ys >= 0) & (ys < y1 - y0), (xs >= 0) & (xs < x1 - x0)
    out = np.zeros((window.h, window.w), bool)
    out[np.ix_(rows, cols)] = mask.mask[np.ix_(ys[rows], xs[cols])]
    return out


def _score(
    engine: Engine, plane: Plane, mask: MaskPrompt
) -> tuple[float, float, float]:
    """Click once on a known object: (IoU with it, predicted IoU, stability score)."""
    kinds = engine.model.spec.prompts
    if "points" in kinds:
        prompts = Prompts.of(points=[innermost(mask)])
    else:
        prompts = Prompts.of(box=mask.bbox)
    found = predict(engine, prompts, plane).candidates

    def overlap(c: PlaneCandidate) -> float:
        return crop_iou(c.bbox, c.mask, mask.bbox, mask.mask)

    best = max(found, key=overlap)
    return overlap(best), best.predicted_iou, best.stability_score
