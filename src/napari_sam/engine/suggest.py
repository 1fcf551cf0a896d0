"""Objects proposed where nothing is annotated yet, each with a doubt."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.mask_prompt import MaskPrompt
from napari_sam.core.masks import boxes_meet
from napari_sam.core.prompts import Prompts
from napari_sam.core.proposals import Proposal
from napari_sam.engine.candidates import Candidates
from napari_sam.engine.follow import innermost
from napari_sam.engine.predict import predict
from napari_sam.engine.propagate import propagate
from napari_sam.engine.propose import Proposer
from napari_sam.engine.propose_options import ProposeOptions, SelectOptions
from napari_sam.engine.refine import refine
from napari_sam.engine.select import select
from napari_sam.errors import Cancelled, PromptError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from napari_sam.core.masks import Bbox
    from napari_sam.core.planes import Plane
    from napari_sam.engine.engine import Engine
    from napari_sam.engine.exemplars import Exemplars
    from napari_sam.engine.looks import Look, Taken
    from napari_sam.engine.select import Selection

    Cancel = Callable[[], bool]

_SHARED = 0.3
"""Share of the smaller of two suggestions that both may cover."""
_SHOWN = 64
"""Times that what was found on a plane is shown while it is looked at."""


@dataclass(frozen=True, slots=True)
class SuggestRules:
    """What a proposal must be like; names and meanings are those of SAM's generator."""

    pred_iou_thresh: float | None = field(default=None, metadata={"range": (0, 1)})
    """Least predicted IoU; None: 0.7 of the known objects' lowest, or what suits the
    model."""
    stability_score_thresh: float | None = field(
        default=None, metadata={"range": (0, 1)}
    )
    """Least IoU of the mask cut at logit +1 and at -1; None: likewise."""
    max_doubt: float = field(default=0.8, metadata={"range": (0, 1)})
    """Proposals that are more doubtful are not made."""
    min_area: float | None = field(default=None, metadata={"range": (1, 10**9)})
    """Fewest pixels; None: half of the smallest known object's, or 16."""
    max_area: float | None = field(default=None, metadata={"range": (1, 10**9)})
    """Most pixels; None: twice the largest known object's, or half of the plane."""
    points_per_side: int | None = field(default=None, metadata={"range": (1, 256)})
    """Points tried on a tile's side; None: as the known objects' size asks for."""
    points_per_batch: int = 64
    neighbours: bool = True
    """Whether known objects are followed from plane to plane."""
    grid: bool = True
    """Whether new objects are looked for at points all over a plane."""

    def __post_init__(self) -> None:
        n = self.points_per_side
        if (n is not None and n < 1) or self.points_per_batch < 1:
            raise PromptError(
                "points_per_side and points_per_batch must be 1 or more; got "
                f"{n} and {self.points_per_batch}"
            )
        if not (self.neighbours or self.grid):
            raise PromptError(
                "neighbours and grid are both off: nothing is left to suggest from"
            )


@dataclass(frozen=True, slots=True, eq=False)
class News:
    """What looking at one more window of a plane changed."""

    found: tuple[Proposal, ...] = ()
    withdrawn: tuple[Proposal, ...] = ()
    """Earlier ones whose place better ones took."""


@dataclass
class PlaneSuggestions:
    """New objects of one plane, shown while they are found.

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
        Proposals of this plane so far, whose pixels are left to them.
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
        rules, like = self.rules, self.like
        h, w = self.plane.shape(self.engine.volume.shape)
        options = ProposeOptions(
            points_per_side=rules.points_per_side,
            points_per_batch=rules.points_per_batch,
            thorough=False,
            least_predicted_iou=_least(0.3, rules.pred_iou_thresh),
            least_stability_score=_least(0.5, rules.stability_score_thresh),
        )
        self._proposer = Proposer(
            self.engine, self.plane, options, self.region, self._is_taken, like,
            self.cancel,
        )  # fmt: skip
        self._options = SelectOptions(
            rules.pred_iou_thresh,
            rules.stability_score_thresh,
            min_area=16 if like is None and rules.min_area is None else rules.min_area,
            max_area=h * w / 2
            if like is None and rules.max_area is None
            else rules.max_area,
            max_doubt=rules.max_doubt,
            max_overlap=_SHARED,
        )
        self._shown: dict[tuple[int, ...], Proposal | None] = {}
        """By the candidates that make it; None: looked at, and not wanted."""

    @property
    def looks(self) -> list[Look]:
        """Windows that are looked at."""
        return self._proposer.looks

    def run(self) -> Iterator[News]:
        """Look at one window after the other; yields after each.

        Raises
        ------
        Cancelled
        """
        parts = []
        every = max(1, len(self.looks) // _SHOWN)
        for step in self._proposer.run():
            parts.append(step.found)
            news = News()
            if step.done % every == 0 or step.done == step.total:
                news = self._news(select(Candidates.together(parts), self._options))
            yield news

    def _news(self, chosen: Selection) -> News:
        now = {tuple(chosen.groups[k].tolist()): k for k in range(len(chosen))}
        gone = [key for key in self._shown if key not in now]
        withdrawn = [p for key in gone if (p := self._shown.pop(key)) is not None]
        found = []
        for key, k in now.items():
            if key in self._shown:
                continue
            proposal: Proposal | None = chosen.proposal(k)
            assert proposal is not None
            if self.like is not None:
                proposal = replace(proposal, origin="like")
            proposal = self._sharp(proposal)
            if any(r.overlap(proposal.bbox, proposal.mask) > 0.5 for r in self.refused):
                proposal = None
            self._shown[key] = proposal
            if proposal is not None:
                found.append(proposal)
        return News(tuple(found), tuple(withdrawn))

    def _sharp(self, p: Proposal) -> Proposal:
        """Draw what was seen on a coarse level with the details of the finest."""
        if p.prompts.level == 0:
            return p
        seen = predict(self.engine, p.prompts, self.plane)
        overlap = [p.overlap(c.bbox, c.mask) for c in seen.candidates]
        best = int(np.argmax(overlap))
        if overlap[best] < 0.5:
            return p
        seen = seen.choose(best)
        for sharper in refine(self.engine, seen, self.plane, self.cancel):
            seen = sharper
        return replace(p, bbox=seen.chosen.bbox, mask=seen.chosen.mask)

    def _is_taken(self, bbox: Bbox, step: int) -> np.ndarray:
        """Whether pixels are annotated, or known proposals have them."""
        out = np.array(self.taken(bbox, step), bool)
        for p in self.known:
            if boxes_meet(bbox, p.bbox):
                y0, x0 = bbox[0] - p.bbox[0], bbox[1] - p.bbox[1]
                rows = np.arange(out.shape[0]) * step + y0
                cols = np.arange(out.shape[1]) * step + x0
                h, w = p.mask.shape
                inside = np.ix_((rows >= 0) & (rows < h), (cols >= 0) & (cols < w))
                rows, cols = (v[v >= 0] for v in (rows, cols))
                out[inside] |= p.mask[np.ix_(rows[rows < h], cols[cols < w])]
        return out


def _least(usual: float, wanted: float | None) -> float:
    return usual if wanted is None else min(usual, wanted)


def suggest_along(
    engine: Engine,
    known: Mapping[int, Mapping[Plane, MaskPrompt]],
    *,
    first: int = 0,
    last: int | None = None,
    cancel: Cancel | None = None,
) -> Iterator[tuple[int, list[Proposal]]]:
    """Follow known objects to the planes between and beyond those they are known on.

    Parameters
    ----------
    engine : Engine
    known : mapping of int to mapping of Plane to MaskPrompt
        Each object's masks on planes of one stack.
    first, last : int
        Planes to stay between, both included.
    cancel : callable, optional

    Yields
    ------
    tuple of int and list of Proposal
        An object and what was found of it.

    Raises
    ------
    Cancelled
    """
    boxes = "box" in engine.model.spec.prompts
    for object_id, keys in known.items():
        found: list[Proposal] = []
        walk = propagate(engine, keys, first=first, last=last, cancel=cancel)
        try:
            for one in walk:
                if boxes:
                    prompts = Prompts.of(box=one.bbox)
                else:
                    mask = MaskPrompt(one.bbox, one.mask)
                    prompts = Prompts.of(points=[innermost(mask)])
                score = 0.0 if one.score is None else float(one.score)
                proposal = Proposal(
                    one.plane, one.bbox, one.mask, score, 1 - one.doubt, one.doubt,
                    "propagated", prompts=prompts, scores=(score,),
                    object_id=object_id,
                )  # fmt: skip
                found.append(proposal)
        except Cancelled:
            yield object_id, found
            raise
        yield object_id, found


def regrouped(found: Proposal, others: Sequence[Proposal], new_group: int) -> Proposal:
    """Return a proposal that shares the object of the neighbour it goes on from.

    Parameters
    ----------
    found : Proposal
    others : sequence of Proposal
        Those on the planes before and after.
    new_group : int
        Group to take where none of them shares half of the mask.
    """
    if found.object_id:
        return found
    best = max(others, key=lambda s: s.overlap(found.bbox, found.mask), default=None)
    if best is None or best.overlap(found.bbox, found.mask) < 0.5:
        return replace(found, group=new_group)
    return replace(found, object_id=best.object_id, group=best.group)
