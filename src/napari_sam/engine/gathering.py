"""What a model answers in one window, gathered as candidates."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.candidates import PlaneCandidate
from napari_sam.core.mask_prompt import MaskPrompt
from napari_sam.core.masks import stability_score
from napari_sam.engine.candidates import Candidates, PackedMask
from napari_sam.engine.exemplars import look_of
from napari_sam.engine.nms import box_iou, inclusive
from napari_sam.engine.propose_options import SAME_BOX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sam.core.masks import Bbox, MaskCandidate
    from napari_sam.core.planes import Plane
    from napari_sam.core.prompts import WindowPrompts
    from napari_sam.engine.engine import Engine
    from napari_sam.engine.exemplars import Exemplars
    from napari_sam.engine.looks import Look, Taken
    from napari_sam.engine.propose_options import ProposeOptions

SURE = 0.3
"""Doubt below which no further point is tried inside a mask."""
_CROP_EDGE = 20
"""Pixels from a crop's edge at which SAM's generator drops masks."""
_UNLIKE = 0.7
"""Least predicted IoU and stability score, as a share of the examples' lowest."""


@dataclass
class Gathering:
    """Takes a model's answers in one window; copies of better masks are let go.

    Parameters are those of `Proposer`; `look` is None where nothing is looked at.
    """

    engine: Engine
    plane: Plane
    options: ProposeOptions
    look: Look | None = None
    taken: Taken | None = None
    like: Exemplars | None = None
    thresholds: tuple[float, float] | None = None
    _rows: list[tuple[Any, ...]] = field(default_factory=list)
    _masks: list[PackedMask] = field(default_factory=list)
    _scores: list[list[float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.shape = self.plane.shape(self.engine.volume.shape)
        like, options = self.like, self.options
        given = self.thresholds
        self.usual = given or self.engine.model.spec.proposal_thresholds
        self.areas = 0.0, float("inf")
        self.sure = 1.0
        if like is not None:
            self.usual = (
                _UNLIKE * like.predicted_iou, _UNLIKE * like.stability_score,
            )  # fmt: skip
            self.areas = 0.5 * like.areas[0], 2 * like.areas[2]
            self.sure = like.sure
        self.floors = (
            min(options.least_predicted_iou, self.usual[0]),
            min(options.least_stability_score, self.usual[1]),
        )

    def add(self, asked: WindowPrompts, raw: Sequence[MaskCandidate]) -> None:
        """Keep what may be of use among the candidates of one prompt."""
        assert self.look is not None
        window = self.look.window
        pixels = window.step[0] * window.step[1]
        scores = [float(c.predicted_iou) for c in raw]
        for k, c in enumerate(raw):
            if not c.mask.size or not c.predicted_iou > self.floors[0]:
                continue
            stability = self._stability(c)
            if stability < self.floors[1]:
                continue
            bbox, mask = c.bbox, c.mask
            shown = int(np.count_nonzero(mask))
            cut = self._cut(bbox)
            if self._is_too_small(bbox, mask) or not self._has_a_likely_area(
                shown, cut
            ):
                continue
            area, own = shown * pixels, self._own(bbox, mask) * pixels
            likeness, free = self._compared(c, area)
            self._rows.append((
                *window.box_to_plane(bbox), area, scores[k], stability, likeness, free,
                *cut, self._near_edge(bbox), *self._said(asked), k, own,
            ))  # fmt: skip
            self._masks.append(PackedMask.of(bbox, mask))
            self._scores.append(scores)

    def settles(self, prompts: WindowPrompts) -> bool:
        """Whether a point lies in a mask that leaves little doubt."""
        y, x = (int(v + 0.5) for v in prompts.points[0])
        for row, packed in zip(self._rows, self._masks, strict=True):
            y0, x0, y1, x1 = packed.bbox
            if not (y0 <= y < y1 and x0 <= x < x1):
                continue
            iou, stability, likeness = row[5:8]
            sure = min(max(iou, 0.0), 1.0) * stability / max(self.sure, 1e-6)
            if 1 - min(sure, 1) * likeness < SURE and packed.mask[y - y0, x - x0]:
                return True
        return False

    def result(self) -> Candidates:
        """Return what was kept, best predicted IoU first within the window."""
        if self.look is None or not self._rows:
            out = Candidates.empty(self.plane, self.shape)
            if self.look is not None:
                out = replace(
                    out,
                    windows=(self.look.window,),
                    cores=(self.look.core,),
                    is_crops=self.look.is_crop,
                )
            return replace(
                out, thresholds=self.usual, area_range=self.areas, sure=self.sure
            )
        rows = np.array(self._rows, np.float64)
        k = max(map(len, self._scores))
        scores = [s + [np.nan] * (k - len(s)) for s in self._scores]
        found = Candidates(
            self.plane, self.shape, (self.look.window,), (self.look.core,),
            self.look.is_crop,
            np.zeros(len(rows), np.int32), tuple(self._masks),
            bboxes=np.clip(rows[:, :4], 0, (*self.shape, *self.shape)),
            areas=rows[:, 4], predicted_iou=rows[:, 5], stability_score=rows[:, 6],
            likeness=rows[:, 7], free=rows[:, 8], cut=rows[:, 9:13] > 0,
            near_edge=rows[:, 13] > 0, points=rows[:, 14:16],
            choice=rows[:, 16].astype(np.int32), own_areas=rows[:, 17],
            scores=np.array(scores),
            sure=self.sure, thresholds=self.usual, area_range=self.areas,
        )  # fmt: skip
        return found.take(_without_copies(found))

    def _own(self, bbox: Bbox, mask: np.ndarray) -> int:
        """Pixels in the part of the window that is no other's."""
        assert self.look is not None
        window, core = self.look.window, self.look.core
        if core == window:
            return int(np.count_nonzero(mask))
        dy, dx = core.y0 - window.y0 - bbox[0], core.x0 - window.x0 - bbox[1]
        rows, cols = slice(max(dy, 0), dy + core.h), slice(max(dx, 0), dx + core.w)
        if rows.stop <= 0 or cols.stop <= 0:
            return 0
        return int(np.count_nonzero(mask[rows, cols]))

    def _is_too_small(self, bbox: Bbox, mask: np.ndarray) -> bool:
        """Whether a finer level shows a mask whole, or thicker than mixed pixels."""
        assert self.look is not None
        if not self.look.smallest:
            return False
        longest = max(bbox[2] - bbox[0], bbox[3] - bbox[1])
        return longest < self.look.smallest or not _is_thick(mask)

    def _has_a_likely_area(self, pixels: int, cut: tuple[bool, ...]) -> bool:
        assert self.look is not None
        sy, sx = self.look.window.step
        area = pixels * sy * sx
        # Of an object that goes on in another tile this is a part.
        return area <= self.areas[1] and (any(cut) or area >= self.areas[0])

    def _stability(self, c: MaskCandidate) -> float:
        offset = self.options.stability_score_offset
        if offset == 1 or self.look is None:
            return c.stability_score
        window = self.look.window
        ys, xs = window.to_plane(np.arange(window.h), np.arange(window.w))
        lowest = float(c.low_res_logits.min())
        logits = self.engine.frame(window).resample(c.low_res_logits, ys, xs, lowest)
        return stability_score(logits, offset)

    def _compared(self, c: MaskCandidate, area: float) -> tuple[float, float]:
        """Likeness to the examples, and the share that is not annotated."""
        assert self.look is not None
        if self.like is None and self.taken is None:
            return 1.0, 1.0
        drawn = PlaneCandidate(c, self.look.window, self.shape)
        likeness = free = 1.0
        if self.like is not None:
            seen = look_of(self.engine, self.plane, MaskPrompt(drawn.bbox, drawn.mask))
            likeness = self.like.likeness(area, seen)
        if self.taken is not None:
            annotated = drawn.mask & self.taken(drawn.bbox, 1)
            free = 1 - np.count_nonzero(annotated) / max(drawn.mask.sum(), 1)
        return likeness, free

    def _cut(self, bbox: Bbox) -> tuple[bool, ...]:
        """Whether the window cuts a mask off at its top, left, bottom and right."""
        assert self.look is not None
        w = self.look.window
        h_all, w_all = self.engine.grid(self.plane.axis).level_shape(w.level)
        return (
            bbox[0] <= 1 and w.y0 > 0,
            bbox[1] <= 1 and w.x0 > 0,
            bbox[2] >= w.h - 1 and w.y0 + w.h < h_all,
            bbox[3] >= w.w - 1 and w.x0 + w.w < w_all,
        )

    def _near_edge(self, bbox: Bbox) -> bool:
        assert self.look is not None
        if not self.look.is_crop:
            return False
        w = self.look.window
        step = 2**w.level
        whole = self.engine.grid(self.plane.axis).level_shape(w.level)
        # The last row and column, as SAM has boxes, against the edges.
        box = np.array(bbox) + np.array((w.y0, w.x0, w.y0 - 1, w.x0 - 1))
        crop = np.array((w.y0, w.x0, w.y0 + w.h, w.x0 + w.w))
        close = np.abs(box - crop) * step <= _CROP_EDGE
        outer = np.abs(box - (0, 0, *whole)) * step <= _CROP_EDGE
        return bool((close & ~outer).any())

    def _said(self, asked: WindowPrompts) -> tuple[float, float]:
        """Point that was asked, in level-0 pixels."""
        assert self.look is not None
        y, x = self.look.window.to_plane(*map(float, asked.points[0]))
        return y, x


def _is_thick(mask: np.ndarray) -> bool:
    """Whether 3 x 3 pixels lie in a mask somewhere.

    Where levels were averaged, two objects' border is a line of a colour of its own.
    """
    rows = mask[:-2] & mask[1:-1] & mask[2:]
    return bool((rows[:, :-2] & rows[:, 1:-1] & rows[:, 2:]).any())


def _without_copies(c: Candidates) -> np.ndarray:
    """Indices by predicted IoU, without masks that another surpasses in all scores."""
    order = np.argsort(-c.predicted_iou, kind="stable")
    boxes = inclusive(c.bboxes[order])
    stability = c.stability_score[order]
    likeness, near = c.likeness[order], c.near_edge[order]
    alive = np.ones(len(order), bool)
    for i in range(len(order)):
        if not alive[i]:
            continue
        rest = slice(i + 1, None)
        worse = (stability[rest] <= stability[i]) & (likeness[rest] <= likeness[i])
        worse &= (near[rest] == near[i]) & alive[rest]
        later = np.flatnonzero(worse) + i + 1
        if later.size:
            same = box_iou(boxes[i], boxes[later]) >= SAME_BOX
            alive[later[same]] = False
    return order[alive]
