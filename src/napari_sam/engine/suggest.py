"""Objects proposed where nothing is annotated yet, each with a doubt."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from napari_sam.core.mask_prompt import MaskPrompt
from napari_sam.core.prompts import Prompts
from napari_sam.core.proposals import Proposal
from napari_sam.engine.exemplars import look_of
from napari_sam.engine.follow import innermost
from napari_sam.engine.propagate import propagate
from napari_sam.errors import Cancelled, PromptError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from napari_sam.core.candidates import PlaneCandidate
    from napari_sam.core.planes import Plane
    from napari_sam.engine.engine import Engine
    from napari_sam.engine.exemplars import Exemplars

    Cancel = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class SuggestRules:
    """What a proposal must be like; names and meanings are those of SAM's generator."""

    pred_iou_thresh: float | None = field(default=None, metadata={"range": (0, 1)})
    """Least predicted IoU; None: 0.7 of the known objects' lowest, or 0.5."""
    stability_score_thresh: float | None = field(
        default=None, metadata={"range": (0, 1)}
    )
    """Least IoU of the mask cut at logit +1 and at -1; None: likewise, or 0.7."""
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


def judged(
    engine: Engine, plane: Plane, mask: PlaneCandidate, like: Exemplars | None
) -> tuple[float, float]:
    """How doubtful a mask is, 1 - predicted IoU x stability score, and how like.

    With known objects the product is measured by theirs, and counts the less the less
    the mask is like them in size and look. Both 0..1.
    """
    sure = min(max(mask.predicted_iou, 0.0), 1.0) * mask.stability_score
    likeness = 1.0
    if like is not None:
        seen = look_of(engine, plane, MaskPrompt(mask.bbox, mask.mask))
        likeness = like.likeness(mask.area, seen)
        sure = min(sure / max(like.sure, 1e-6), 1.0) * likeness
    return float(min(max(1 - sure, 0.0), 1.0)), likeness


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


def proposal_of(
    plane: Plane,
    prompts: Prompts,
    candidates: Sequence[PlaneCandidate],
    k: int,
    doubt: float,
    likeness: float,
    origin: str,
) -> Proposal:
    """Keep what a review needs of a candidate; its logits would fill the memory."""
    c = candidates[k]
    scores = tuple(float(c.predicted_iou) for c in candidates)
    return Proposal(
        plane, c.bbox, c.mask, scores[k], float(c.stability_score), doubt,
        origin, likeness, prompts, k, scores,
    )  # fmt: skip


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
