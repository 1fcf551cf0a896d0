"""A search for objects to suggest: a frozen snapshot that any thread may run."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.mask_prompt import MaskPrompt
from napari_sam.core.masks import crops_overlap
from napari_sam.engine.exemplars import Exemplars
from napari_sam.engine.suggest import PlaneSuggestions, SuggestRules, suggest_along
from napari_sam.errors import Cancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from napari_sam.core.masks import Bbox
    from napari_sam.core.planes import Plane
    from napari_sam.core.proposals import Proposal
    from napari_sam.engine.engine import Engine
    from napari_sam.engine.looks import Taken

    Cancel = Callable[[], bool]
    Stack = tuple[int, ...]
    """Index of a plane without its last entry: its time point."""
    Known = dict[int, dict[Plane, MaskPrompt]]
    """Masks of each object by plane."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What one step of a search gave."""

    done: int
    total: int
    proposals: tuple[Proposal, ...] = ()
    withdrawn: tuple[Proposal, ...] = ()
    """Proposals of this search, or that waited, which better ones replace."""


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """Everything a search needs, as it was when it was asked for."""

    engine: Engine
    labels: Any
    planes: tuple[Plane, ...]
    """Where to look, in this order; all on one axis."""
    touched: frozenset[Plane]
    """Planes that were worked on along that axis."""
    region: Bbox | None = None
    rules: SuggestRules = field(default_factory=SuggestRules)
    kept: Mapping[Plane, list[Proposal]] = field(default_factory=dict)
    """Proposals that wait and stay."""
    refused: Mapping[Plane, list[Proposal]] = field(default_factory=dict)

    def run(self, cancel: Cancel | None = None) -> Iterator[Found]:
        """Look; yields after each object followed and each window.

        Once `cancel` returns True, it ends.
        """
        try:
            yield from self._run(cancel)
        except Cancelled:
            return

    def _run(self, cancel: Cancel | None) -> Iterator[Found]:
        yield Found(0, 0)
        known = self._known_objects()
        masks = [(plane, m) for by in known.values() for plane, m in by.items()]
        like = Exemplars.of(self.engine, masks, cancel)
        walks = list(self._walks(known)) if self.rules.neighbours else []
        # A model of boxes finds no new objects, but follows those there are.
        points = "points" in self.engine.model.spec.prompts
        looks = self.rules.grid and (points or not walks)
        searches = self._searches(like, cancel) if looks else {}
        total = len(walks) + sum(len(s.looks) for s in searches.values())
        done = 0
        here: dict[Plane, list[Proposal]] = defaultdict(list)
        for plane, kept in self.kept.items():
            here[plane] += kept
        for object_id, keys, (first, last) in walks:
            for _, found in suggest_along(
                self.engine, {object_id: keys}, first=first, last=last, cancel=cancel
            ):
                news = [s for s in found if self._wanted(s, here[s.plane])]
                for s in news:
                    here[s.plane].append(s)
                done += 1
                yield Found(done, total, tuple(news))
        for plane, search in searches.items():
            search.known.extend(here[plane])
            for step in search.run():
                done += 1
                yield Found(done, total, step.found, step.withdrawn)
        if not total:
            yield Found(0, 0)

    def _searches(
        self, like: Exemplars | None, cancel: Cancel | None
    ) -> dict[Plane, PlaneSuggestions]:
        return {
            plane: PlaneSuggestions(
                self.engine, plane, annotated_on(self.labels, plane), self.rules, like,
                self.region, refused=self.refused.get(plane, ()), cancel=cancel,
            )
            for plane in self.planes
        }  # fmt: skip

    def _known_objects(self) -> Known:
        """Masks on planes that were worked on, or else wherever there are labels."""
        from napari_sam.results.label_objects import iter_objects, iter_planes

        planes: Any = sorted(self.touched, key=lambda p: p.index)
        if not planes and self.planes[0].axis == 0:
            planes = iter_planes(self.labels.shape)
        known: Known = {}
        for plane in planes:
            for object_id, bbox, mask in iter_objects(self.labels, plane):
                known.setdefault(object_id, {})[plane] = MaskPrompt(bbox, mask)
        return known

    def _walks(
        self, known: Known
    ) -> Iterator[tuple[int, dict[Plane, MaskPrompt], tuple[int, int]]]:
        """Objects to follow from plane to plane: id, key planes, first and last."""
        if len(self.labels.shape) < 3:
            return
        wanted: dict[Stack, list[int]] = defaultdict(list)
        for plane in self.planes:
            wanted[plane.index[:-1]].append(plane.index[-1])
        for object_id, masks in known.items():
            for stack, numbers in wanted.items():
                there = {p.index[-1] for p in masks if p.index[:-1] == stack}
                low, high = min(numbers), max(numbers)
                keys = _nearest(there, low, high)
                if not keys or not set(numbers) - there:
                    continue
                yield (
                    object_id,
                    {p: m for p, m in masks.items()
                     if p.index[:-1] == stack and p.index[-1] in keys},
                    (min(low, *keys), max(high, *keys)),
                )  # fmt: skip

    def _wanted(self, s: Proposal, others: list[Proposal]) -> bool:
        """Whether a mask carried over from another plane is worth showing."""
        if s.plane not in self.planes or s.doubt > self.rules.max_doubt:
            return False
        if self.region is not None:
            y, x = (s.bbox[0] + s.bbox[2]) / 2, (s.bbox[1] + s.bbox[3]) / 2
            y0, x0, y1, x1 = self.region
            if not (y0 <= y < y1 and x0 <= x < x1):
                return False
        free = s.mask & ~annotated_on(self.labels, s.plane)(s.bbox, 1)
        if np.count_nonzero(free) < 0.7 * s.area:
            return False
        refused = self.refused.get(s.plane, ())
        if any(r.overlap(s.bbox, s.mask) > 0.5 for r in refused):
            return False
        return all(
            crops_overlap(o.bbox, o.mask, s.bbox, s.mask) <= 0.3 * min(o.area, s.area)
            for o in others
        )


def annotated_on(labels: Any, plane: Plane) -> Taken:
    """Return what tells which pixels of a plane are annotated."""

    def taken(bbox: Bbox, step: int) -> np.ndarray:
        window = plane.window(bbox)
        if step > 1:
            window = tuple(
                slice(w.start, w.stop, step) if isinstance(w, slice) else w
                for w in window
            )
        return np.asarray(labels[window]) > 0

    return taken


def _nearest(there: set[int], low: int, high: int) -> set[int]:
    """Key planes in a range and the next beyond it; the nearest, for one plane."""
    if not there:
        return set()
    if low == high:
        return {min(there, key=lambda n: (abs(n - low), n))}
    inside = {n for n in there if low <= n <= high}
    below = max((n for n in there if n < low), default=None)
    above = min((n for n in there if n > high), default=None)
    return inside | {n for n in (below, above) if n is not None}
