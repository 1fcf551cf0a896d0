"""Which candidates become proposals: pure, and quick enough to hang on a slider."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.proposals import Proposal
from napari_sam.engine.nms import inclusive, nms
from napari_sam.engine.propose_options import SelectOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_sam.core.masks import Bbox
    from napari_sam.engine.candidates import Candidates

_FREE = 0.7
"""Share of a proposal that must not be annotated yet."""


@dataclass(frozen=True, eq=False)
class Selection:
    """Objects chosen from candidates, M of them; masks are drawn when asked for."""

    candidates: Candidates
    members: tuple[np.ndarray, ...]
    """(M,) indices of the candidates that are one object, the best first."""
    parents: np.ndarray
    """(M,) int: the object here that each is a part of; -1 for none."""

    def __len__(self) -> int:
        return len(self.members)

    @cached_property
    def leads(self) -> np.ndarray:
        """(M,) int: the best candidate of each object."""
        return np.array([m[0] for m in self.members], np.intp)

    @property
    def predicted_iou(self) -> np.ndarray:
        """(M,) float"""
        return np.asarray(self.candidates.predicted_iou[self.leads])

    @property
    def stability_score(self) -> np.ndarray:
        """(M,) float"""
        return np.asarray(self.candidates.stability_score[self.leads])

    @property
    def doubt(self) -> np.ndarray:
        """(M,) float"""
        return np.asarray(self.candidates.doubt[self.leads])

    def drawn(self, k: int) -> tuple[Bbox, np.ndarray]:
        """Draw object `k` in level-0 pixels: its box, and its mask in there."""
        return self.candidates.drawn(int(self.leads[k]))

    def proposal(self, k: int) -> Proposal:
        """Return object `k` by itself."""
        c, i = self.candidates, int(self.leads[k])
        bbox, mask = self.drawn(k)
        scores = c.scores[i]
        return Proposal(
            c.plane, bbox, mask, float(c.predicted_iou[i]),
            float(c.stability_score[i]), float(c.doubt[i]), c.origin,
            float(c.likeness[i]), c.prompts(i), int(c.choice[i]),
            tuple(float(s) for s in scores[~np.isnan(scores)]),
        )  # fmt: skip

    def __iter__(self) -> Iterator[Proposal]:
        return (self.proposal(k) for k in range(len(self)))


def select(candidates: Candidates, options: SelectOptions | None = None) -> Selection:
    """Choose among candidates.

    Parameters
    ----------
    candidates : Candidates
    options : SelectOptions, optional

    Returns
    -------
    Selection
        The best predicted IoU first within a window, finer windows first.
    """
    options = options or SelectOptions()
    c = candidates
    kept = [
        nms(inclusive(c.bboxes), window, options.box_nms_thresh)
        for window in _by_window(c, passing(c, options))
    ]
    order = np.concatenate([np.zeros(0, np.intp), *kept])
    if len(kept) > 1:
        sizes = np.array([w.h * w.w * w.step[0] * w.step[1] for w in c.windows])
        finest = np.argsort(sizes[c.window_of[order]], kind="stable")
        order = nms(inclusive(c.bboxes), order[finest], options.crop_nms_thresh)
    members = tuple(np.array([i]) for i in order)
    return Selection(c, members, np.full(len(members), -1))


def passing(c: Candidates, options: SelectOptions) -> np.ndarray:
    """(N,) bool: which candidates pass by themselves."""
    iou, stability = options.pred_iou_thresh, options.stability_score_thresh
    low, high = options.min_area, options.max_area
    out = c.predicted_iou > (c.thresholds[0] if iou is None else iou)
    out &= c.stability_score >= (c.thresholds[1] if stability is None else stability)
    out &= c.areas >= (c.area_range[0] if low is None else low)
    out &= c.areas <= (c.area_range[1] if high is None else high)
    out &= (c.doubt <= options.max_doubt) & (c.free >= _FREE)
    if not options.keep_cut:
        out &= ~c.near_edge
    return np.asarray(out)


def _by_window(c: Candidates, passing: np.ndarray) -> list[np.ndarray]:
    """Indices of what passes in each window, the best predicted IoU first."""
    chosen = np.flatnonzero(passing)
    order = np.lexsort((chosen, -c.predicted_iou[chosen], c.window_of[chosen]))
    chosen = chosen[order]
    edges = np.flatnonzero(np.diff(c.window_of[chosen])) + 1
    return [part for part in np.split(chosen, edges) if part.size]
