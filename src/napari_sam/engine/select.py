"""Which candidates become proposals: pure, and quick enough to hang on a slider."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.clean import without_small_regions
from napari_sam.core.masks import crop_mask
from napari_sam.core.proposals import Proposal
from napari_sam.engine.join import Groups, join
from napari_sam.engine.nesting import PART, cut_tree, overlaps, parents
from napari_sam.engine.nms import inclusive, overlapping, suppress
from napari_sam.engine.propose_options import SelectOptions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from napari_sam.core.masks import Bbox
    from napari_sam.engine.candidates import Candidates

_FREE = 0.7
"""Share of a proposal that must not be annotated yet."""


@dataclass(frozen=True, eq=False)
class Selection:
    """Objects chosen from candidates, M of them; masks are drawn when asked for."""

    candidates: Candidates
    groups: Groups
    """Candidates that are one object; the first has its scores."""
    areas: np.ndarray
    """(M,) float, level-0 pixels; about, where an object was joined from parts."""
    min_mask_region_area: int = 0
    """Holes and parts with fewer pixels are removed when a mask is drawn."""
    without: Mapping[int, np.ndarray] = field(default_factory=dict)
    """Objects of which only what others leave is meant: positions of those others."""

    def __len__(self) -> int:
        return len(self.groups)

    def __iter__(self) -> Iterator[Proposal]:
        return (self.proposal(k) for k in range(len(self)))

    @property
    def leads(self) -> np.ndarray:
        """(M,) int: the candidate whose scores an object has."""
        return self.groups.leads

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
        (y0, x0, y1, x1), mask = self.candidates.joined(self.groups[k])
        for other in self.without.get(k, ()):
            box, part = self.drawn(int(other))
            _take_out(mask, (y0, x0, y1, x1), box, part)
        if not self.min_mask_region_area:
            (a0, b0, a1, b1), mask = crop_mask(mask)
            return (a0 + y0, b0 + x0, a1 + y0, b1 + x0), mask
        tidied = without_small_regions(mask, self.min_mask_region_area)
        (a0, b0, a1, b1), tidied = crop_mask(tidied)
        return (a0 + y0, b0 + x0, a1 + y0, b1 + x0), tidied

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
    order = _apart_in_windows(c, passing(c, options), options.box_nms_thresh)
    if c.is_crops:
        groups = Groups.alone(_apart(c, order, options.crop_nms_thresh))
    else:
        groups = join(c, order, options.join_thresh)
        if not options.keep_cut:
            groups = groups.keep(groups.are_whole(c))
    areas = _areas(c, groups)
    low, high = _area_range(c, options)
    kept = (areas >= low) & (areas <= high)
    groups, areas = groups.keep(kept), areas[kept]
    groups, areas, without = _one_of_each(c, groups, areas, options)
    selection = Selection(c, groups, areas, options.min_mask_region_area, without)
    if options.min_mask_region_area:
        return _apart_when_tidied(selection, options)
    return selection


def _one_of_each(
    c: Candidates, groups: Groups, areas: np.ndarray, options: SelectOptions
) -> tuple[Groups, np.ndarray, dict[int, np.ndarray]]:
    """Keep few of what overlaps: by the tree of parts, and by doubt."""
    without: dict[int, np.ndarray] = {}
    if options.max_overlap == 1 and options.detail is None:
        return groups, areas, without
    found = overlaps(c, groups, min(options.max_overlap, PART))
    kept = np.ones(len(groups), bool)
    if options.detail is not None:
        parent = parents(found, areas)
        kept = cut_tree(parent, areas, options.detail)
        if options.cover:
            without = _rests(parent, kept)
    if options.max_overlap < 1:
        far = found.pairs[found.share > options.max_overlap]
        order = np.flatnonzero(kept)
        order = order[np.argsort(c.doubt[groups.leads[order]], kind="stable")]
        kept = np.isin(np.arange(len(groups)), suppress(order, far, len(groups)))
    chosen = kept.copy()
    chosen[list(without)] = True
    at = np.cumsum(chosen) - 1
    rests = {int(at[k]): at[inner[chosen[inner]]] for k, inner in without.items()}
    return groups.keep(chosen), areas[chosen], rests


def _rests(parent: np.ndarray, kept: np.ndarray) -> dict[int, np.ndarray]:
    """Wholes that gave way to parts, and all that is chosen inside them."""
    inside: dict[int, list[int]] = {}
    for k in np.flatnonzero(kept & (parent >= 0)).tolist():
        whole = int(parent[k])
        while whole >= 0:
            inside.setdefault(whole, []).append(k)
            whole = int(parent[whole])
    for whole in list(inside):
        above = int(parent[whole])
        while above >= 0:
            inside[above].append(whole)
            above = int(parent[above])
    return {k: np.array(v, np.intp) for k, v in inside.items()}


def _take_out(mask: np.ndarray, bbox: Bbox, other: Bbox, part: np.ndarray) -> None:
    """Take the pixels of a mask out of another, each cropped to its own box."""
    y0, x0 = max(bbox[0], other[0]), max(bbox[1], other[1])
    y1, x1 = min(bbox[2], other[2]), min(bbox[3], other[3])
    if y1 > y0 and x1 > x0:
        mine = mask[y0 - bbox[0] : y1 - bbox[0], x0 - bbox[1] : x1 - bbox[1]]
        mine &= ~part[y0 - other[0] : y1 - other[0], x0 - other[1] : x1 - other[1]]


def passing(c: Candidates, options: SelectOptions) -> np.ndarray:
    """(N,) bool: which candidates pass by themselves."""
    iou, stability = options.pred_iou_thresh, options.stability_score_thresh
    out = c.predicted_iou > (c.thresholds[0] if iou is None else iou)
    out &= c.stability_score >= (c.thresholds[1] if stability is None else stability)
    out &= c.areas <= _area_range(c, options)[1]
    out &= (c.doubt <= options.max_doubt) & (c.free >= _FREE)
    if not options.keep_cut:
        out &= ~c.near_edge
    return np.asarray(out)


def _area_range(c: Candidates, options: SelectOptions) -> tuple[float, float]:
    low, high = options.min_area, options.max_area
    return (
        c.area_range[0] if low is None else low,
        c.area_range[1] if high is None else high,
    )


def _apart_in_windows(c: Candidates, passing: np.ndarray, thresh: float) -> np.ndarray:
    """Indices of what NMS leaves in each window, finer windows first."""
    chosen = np.flatnonzero(passing)
    sizes = np.array([w.h * w.w * w.step[0] * w.step[1] for w in c.windows])
    order = chosen[
        np.lexsort(
            (chosen, -c.predicted_iou[chosen], c.window_of[chosen],
             sizes[c.window_of[chosen]] if len(sizes) else chosen)
        )
    ]  # fmt: skip
    pairs = c.box_pairs(thresh).pairs
    here = c.window_of[pairs[:, 0]] == c.window_of[pairs[:, 1]]
    return suppress(order, pairs[here], len(c))


def _areas(c: Candidates, groups: Groups) -> np.ndarray:
    """(M,) pixels of each object: of a mask that is whole, or of its parts' sum."""
    leads = groups.leads
    parts = np.maximum(c.areas[leads], groups.total(c.own_areas))
    return np.asarray(np.where(c.cut[leads].any(1), parts, c.areas[leads]))


def _apart(c: Candidates, order: np.ndarray, thresh: float) -> np.ndarray:
    """What NMS between crops leaves, the finer ones first."""
    pairs = c.box_pairs(thresh).pairs
    across = c.window_of[pairs[:, 0]] != c.window_of[pairs[:, 1]]
    return suppress(order, pairs[across], len(c))


def _apart_when_tidied(selection: Selection, options: SelectOptions) -> Selection:
    """NMS once more, as tidying changes boxes; masks that it left alone come first."""
    groups = selection.groups
    before = [selection.candidates.joined(groups[k]) for k in range(len(groups))]
    after = [selection.drawn(k) for k in range(len(selection))]
    changed = np.array(
        [not np.array_equal(a[1], b[1]) for a, b in zip(before, after, strict=True)],
        bool,
    )
    thresh = max(options.box_nms_thresh, options.crop_nms_thresh)
    boxes = inclusive(np.array([b for b, _ in after]).reshape(-1, 4))
    pairs = overlapping(boxes, thresh).pairs
    # Those that stay keep their places.
    order = suppress(np.argsort(changed, kind="stable"), pairs, len(selection))
    kept = np.isin(np.arange(len(selection)), order)
    areas = np.array([np.count_nonzero(mask) for _, mask in after], float)
    return Selection(
        selection.candidates,
        groups.keep(kept),
        areas[kept],
        options.min_mask_region_area,
    )
