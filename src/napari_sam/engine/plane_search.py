"""New objects on one plane: a grid of points, and of their masks the best."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.frames import touches_cut_edge, window_prompts
from napari_sam.core.masks import boxes_meet, crops_overlap
from napari_sam.core.prompts import Prompts
from napari_sam.engine.predict import predict
from napari_sam.engine.prediction import Prediction
from napari_sam.engine.refine import refine
from napari_sam.engine.suggest import judged, proposal_of
from napari_sam.errors import Cancelled, ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from napari_sam.core.candidates import PlaneCandidate
    from napari_sam.core.masks import Bbox, MaskCandidate
    from napari_sam.core.planes import Plane
    from napari_sam.core.proposals import Proposal
    from napari_sam.core.tiles import Tile, TileGrid, Window
    from napari_sam.engine.engine import Engine
    from napari_sam.engine.exemplars import Exemplars
    from napari_sam.engine.looks import Taken
    from napari_sam.engine.suggest import SuggestRules

    Cancel = Callable[[], bool]

SURE = 0.3
"""Doubt below which no further point is tried inside a proposal."""
_FREE = 0.7
"""Share of a proposal that must not be annotated or proposed yet."""
_POINTS = 8, 48
"""Fewest and most points on a tile's side, unless told otherwise."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What one batch of points gave."""

    found: list[Proposal]
    withdrawn: list[Proposal]
    """Earlier proposals whose place better ones took."""


@dataclass
class PlaneSearch:
    """Looks for objects all over one plane, at points on a grid.

    Every point is prompted alone, tile by tile and in batches; what passes the rules
    is kept, best first, unless annotated or already proposed pixels make up most of
    it. A mask that its tile cuts is predicted again in a window that holds it.

    Parameters
    ----------
    engine : Engine
    plane : Plane
    taken : callable
        (bbox, step) -> (h, w) bool: every `step`-th pixel of a level-0 box, whether it
        is annotated.
    rules : SuggestRules
    like : Exemplars, optional
        Known objects; they decide on level, points, scores and areas.
    region : tuple of int, optional
        (y0, x0, y1, x1), level-0 pixels: look only for objects prompted in here.
    known : list of Proposal
        Proposals of this plane so far, which are not made again; those found are added.
    refused : sequence of Proposal
        Proposals never to be made again.
    cancel : callable, optional
        Asked before each batch; True raises `Cancelled`.

    Raises
    ------
    ModelError
        If the model takes no points.
    """

    engine: Engine
    plane: Plane
    taken: Taken
    rules: SuggestRules
    like: Exemplars | None = None
    region: Bbox | None = None
    known: list[Proposal] = field(default_factory=list)
    refused: Sequence[Proposal] = ()
    cancel: Cancel | None = None

    def __post_init__(self) -> None:
        spec = self.engine.model.spec
        if "points" not in spec.prompts:
            raise ModelError(
                f"{spec.name} takes no points, so it finds no new objects by itself: "
                "use another model, or only follow known objects (grid=False)"
            )
        self.shape = self.plane.shape(self.engine.volume.shape)
        self.grid: TileGrid = self.engine.grid(self.plane.axis)
        self.level = self._level()
        self._near: list[Proposal] = []
        """Those of `known` that reach into the tile at hand."""
        self._seen: Bbox = (0, 0, *self.shape)
        """Level-0 box of that tile."""

    @property
    def tiles(self) -> list[Tile]:
        """Tiles that are looked at."""
        whole = 0, 0, *self.shape
        y0, x0, y1, x1 = (v / (1 << self.level) for v in self.region or whole)
        return [
            t
            for t in self.grid.tiles(self.level)
            if t.core.y0 < y1
            and t.core.x0 < x1
            and t.core.y0 + t.core.h > y0
            and t.core.x0 + t.core.w > x0
        ]

    def tile(self, tile: Tile) -> Iterator[Batch]:
        """Look at the points of one tile; yields after each batch of them.

        Raises
        ------
        Cancelled
        """
        scale = 1 << self.level
        window = tile.window
        self._seen = (
            window.y0 * scale, window.x0 * scale,
            (window.y0 + window.h) * scale, (window.x0 + window.w) * scale,
        )  # fmt: skip
        self._near = [s for s in self.known if boxes_meet(s.bbox, self._seen)]
        size = self.rules.points_per_batch
        for points in _coarse_to_fine(self._points(tile)):
            todo = points
            while todo := [p for p in todo if not self._settled(p)]:
                if self.cancel is not None and self.cancel():
                    raise Cancelled("stopped; what was suggested so far is kept")
                yield self._select(self._decode(window, todo[:size]))
                todo = todo[size:]

    def _level(self) -> int:
        """Finest level on which a usual object spans at most half a tile."""
        if self.like is None:
            return 0
        span, level = math.sqrt(self.like.areas[1] * 4 / math.pi), 0
        while level < self.grid.n_levels - 1 and span > self.grid.side / 2:
            span, level = span / 2, level + 1
        return level

    def _likely(
        self, candidate: MaskCandidate | PlaneCandidate, pixels: float = 1
    ) -> bool:
        """Whether a candidate passes, each pixel being that many at level 0."""
        rules, like = self.rules, self.like
        low, high = rules.min_area, rules.max_area
        iou, stability = rules.pred_iou_thresh, rules.stability_score_thresh
        if low is None:
            low = 16 if like is None else 0.5 * like.areas[0]
        if high is None:
            whole = self.shape[0] * self.shape[1]
            high = 0.5 * whole if like is None else 2 * like.areas[2]
        if iou is None:
            iou = 0.5 if like is None else 0.7 * like.predicted_iou
        if stability is None:
            stability = 0.7 if like is None else 0.7 * like.stability_score
        return (
            candidate.predicted_iou >= iou
            and candidate.stability_score >= stability
            and low <= candidate.area * pixels <= high
        )

    def _spacing(self) -> float:
        """Level-0 pixels from point to point."""
        side = self.grid.side << self.level
        if self.rules.points_per_side is not None:
            return side / self.rules.points_per_side
        if self.like is None:
            return side / 32
        across = 0.6 * math.sqrt(self.like.areas[0] * 4 / math.pi)
        return min(max(across, side / _POINTS[1]), side / _POINTS[0])

    def _points(self, tile: Tile) -> np.ndarray:
        """(rows, cols, 2) level-0 points of the plane's grid that lie in a tile's core.

        Points outside the region or on annotated pixels are nan.
        """
        step, scale = self._spacing(), 1 << self.level
        core = tile.core
        h, w = self.shape
        low, high = self.region or (0, 0, h, w), None
        y0, x0 = max(core.y0 * scale, 0), max(core.x0 * scale, 0)
        high = min((core.y0 + core.h) * scale, h), min((core.x0 + core.w) * scale, w)
        ys = np.arange(math.ceil(y0 / step - 0.5), math.ceil(high[0] / step - 0.5))
        xs = np.arange(math.ceil(x0 / step - 0.5), math.ceil(high[1] / step - 0.5))
        ys, xs = np.floor((ys + 0.5) * step), np.floor((xs + 0.5) * step)
        out = np.stack(np.meshgrid(ys, xs, indexing="ij"), axis=-1)
        annotated = self.taken((y0, x0, *high), scale)
        rows = ((ys - y0) // scale).astype(int).clip(0, annotated.shape[0] - 1)
        cols = ((xs - x0) // scale).astype(int).clip(0, annotated.shape[1] - 1)
        outside_y = (ys < low[0]) | (ys >= low[2])
        outside_x = (xs < low[1]) | (xs >= low[3])
        skip = annotated[np.ix_(rows, cols)] | outside_y[:, None] | outside_x
        out[skip] = np.nan
        return out

    def _settled(self, point: tuple[float, float]) -> bool:
        """Whether a point lies in a proposal that leaves little doubt."""
        y, x = int(point[0]), int(point[1])
        for s in self._near:
            y0, x0, y1, x1 = s.bbox
            inside = y0 <= y < y1 and x0 <= x < x1
            if inside and s.doubt < SURE and s.mask[y - y0, x - x0]:
                return True
        return False

    def _decode(
        self, window: Window, points: Sequence[tuple[float, float]]
    ) -> Iterator[tuple[Proposal, Prediction]]:
        """Prompt points one by one; yields what passes the rules."""
        if not points:
            return
        engine = self.engine
        asked = [Prompts.of(points=[p], level=self.level) for p in points]
        frame, forms = engine.frame(window), engine.model.spec.forms
        answers = engine.model.decode_many(
            engine.embedding(self.plane, window),
            [window_prompts(p, frame, None, self.shape, forms) for p in asked],
        )
        for prompts, raw in zip(asked, answers, strict=True):
            for k, candidate in enumerate(raw):
                pixels = window.step[0] * window.step[1]
                if not self._likely(candidate, pixels):
                    continue
                seen = Prediction.of(prompts, raw, window, self.shape, (k,))
                yield self._judged(prompts, seen.candidates, k), seen

    def _judged(
        self, prompts: Prompts, candidates: Sequence[PlaneCandidate], k: int
    ) -> Proposal:
        doubt, likeness = judged(self.engine, self.plane, candidates[k], self.like)
        origin = "everything" if self.like is None else "like"
        return proposal_of(self.plane, prompts, candidates, k, doubt, likeness, origin)

    def _select(self, found: Iterator[tuple[Proposal, Prediction]]) -> Batch:
        """Keep the best of those that overlap, each made whole and sharp."""
        batch = Batch([], [])
        for proposal, seen in sorted(found, key=lambda pair: pair[0].doubt):
            rivals = self._rivals(proposal)
            if rivals is None:
                continue
            whole = self._finished(proposal, seen)
            rivals = None if whole is None else self._rivals(whole)
            if whole is None or rivals is None:
                continue
            for rival in rivals:
                for held in (self.known, self._near, batch.found):
                    if rival in held:
                        held.remove(rival)
                batch.withdrawn.append(rival)
            for held in (self.known, self._near, batch.found):
                held.append(whole)
        return batch

    def _rivals(self, proposal: Proposal) -> list[Proposal] | None:
        """Proposals that this one would replace; None if it is not wanted."""
        bbox, mask = proposal.bbox, proposal.mask
        area = proposal.area
        if area == 0 or proposal.doubt > self.rules.max_doubt:
            return None
        if any(s.overlap(bbox, mask) > 0.5 for s in self.refused):
            return None
        free = mask & ~self.taken(bbox, 1)
        if np.count_nonzero(free) < _FREE * area:
            return None
        y0, x0, y1, x1 = self._seen
        inside = y0 <= bbox[0] and x0 <= bbox[1] and bbox[2] <= y1 and bbox[3] <= x1
        rivals = []
        for s in self._near if inside else self.known:
            shared = crops_overlap(s.bbox, s.mask, bbox, mask)
            if shared > (1 - _FREE) * min(area, s.area):
                if s.object_id or s.doubt <= proposal.doubt:
                    return None
                rivals.append(s)
        return rivals

    def _finished(self, proposal: Proposal, seen: Prediction) -> Proposal | None:
        """Predict a mask that its tile cuts in a window that holds it, and sharpen."""
        engine, window = self.engine, seen.window
        bbox = seen.candidates[proposal.choice].seen.bbox
        if touches_cut_edge(bbox, window, self.grid.level_shape(window.level)):
            seen = predict(engine, proposal.prompts, self.plane)
            whole = [
                self._judged(seen.prompts, seen.candidates, k)
                for k, c in enumerate(seen.candidates)
                if self._likely(c)
            ]
            if not whole:
                return None
            proposal = min(whole, key=lambda s: s.doubt)
            seen = seen.choose(proposal.choice)
        for sharper in refine(engine, seen, self.plane, self.cancel):
            seen = sharper
        return replace(proposal, bbox=seen.chosen.bbox, mask=seen.chosen.mask)


def _coarse_to_fine(points: np.ndarray) -> Iterator[list[tuple[float, float]]]:
    """Every 4th point each way first, then every 2nd, then the rest; without nan."""
    rows, cols = np.indices(points.shape[:2])
    late = np.where((rows % 2 == 0) & (cols % 2 == 0), 1, 2)
    late[(rows % 4 == 0) & (cols % 4 == 0)] = 0
    for turn in range(3):
        chosen = points[(late == turn) & ~np.isnan(points[..., 0])]
        yield [(float(y), float(x)) for y, x in chosen]
