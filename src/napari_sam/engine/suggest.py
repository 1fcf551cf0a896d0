"""Objects proposed where nothing is annotated yet, each with a doubt."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.masks import crops_overlap
from napari_sam.core.prompts import MaskPrompt, Prompts
from napari_sam.engine.exemplars import look_of
from napari_sam.engine.follow import innermost
from napari_sam.engine.propagate import propagate
from napari_sam.errors import Cancelled, PromptError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from napari_sam.core.candidates import PlaneCandidate
    from napari_sam.core.masks import Bbox
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


@dataclass(frozen=True, slots=True, eq=False)
class Suggestion:
    """One object proposed on one plane."""

    plane: Plane
    bbox: Bbox
    """(y0, x0, y1, x1) in level-0 pixels of the plane, half-open."""
    mask: np.ndarray
    """(y1 - y0, x1 - x0), bool."""
    prompts: Prompts
    """What the model was asked; prompting on refines the mask."""
    choice: int
    """Candidate that this is, of those the prompts give."""
    scores: tuple[float, ...]
    """Predicted IoU of each of those candidates."""
    stability_score: float
    doubt: float
    """0 for a mask as good as the known objects', at most 1: see `doubt_of`."""
    object_id: int = 0
    """Known object that this continues; 0: a new one."""
    group: int = 0
    """Shared by suggestions on neighbouring planes that are one new object."""
    number: int = 0
    """Tells the suggestions of a session apart."""

    @property
    def predicted_iou(self) -> float:
        """The model's own estimate of its overlap with the truth, about 0..1."""
        return self.scores[self.choice]

    @property
    def area(self) -> int:
        """Pixels in the mask."""
        return int(np.count_nonzero(self.mask))

    def overlap(self, bbox: Bbox, mask: np.ndarray) -> float:
        """IoU with another mask on the same plane, given as a crop."""
        shared = crops_overlap(self.bbox, self.mask, bbox, mask)
        union = self.area + int(np.count_nonzero(mask)) - shared
        return shared / union if union else 0.0


def doubt_of(
    engine: Engine, plane: Plane, mask: PlaneCandidate, like: Exemplars | None
) -> float:
    """How doubtful a mask is: 1 - predicted IoU x stability score.

    With known objects the product is measured by theirs, and counts the less the less
    the mask is like them in size and look.
    """
    sure = min(max(mask.predicted_iou, 0.0), 1.0) * mask.stability_score
    if like is not None:
        seen = look_of(engine, plane, MaskPrompt(mask.bbox, mask.mask))
        sure = min(sure / max(like.sure, 1e-6), 1.0) * like.likeness(mask.area, seen)
    return float(min(max(1 - sure, 0.0), 1.0))


def suggest_along(
    engine: Engine,
    known: Mapping[int, Mapping[Plane, MaskPrompt]],
    *,
    first: int = 0,
    last: int | None = None,
    cancel: Cancel | None = None,
) -> Iterator[tuple[int, list[Suggestion]]]:
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
    tuple of int and list of Suggestion
        An object and what was found of it.

    Raises
    ------
    Cancelled
    """
    boxes = "box" in engine.model.spec.prompts
    for object_id, keys in known.items():
        found: list[Suggestion] = []
        walk = propagate(engine, keys, first=first, last=last, cancel=cancel)
        try:
            for one in walk:
                if boxes:
                    prompts = Prompts.of(box=one.bbox)
                else:
                    mask = MaskPrompt(one.bbox, one.mask)
                    prompts = Prompts.of(points=[innermost(mask)])
                score = 0.0 if one.score is None else float(one.score)
                found.append(
                    Suggestion(
                        one.plane,
                        one.bbox,
                        one.mask,
                        prompts,
                        0,
                        (score,),
                        1 - one.doubt,
                        one.doubt,
                        object_id,
                    )
                )
        except Cancelled:
            yield object_id, found
            raise
        yield object_id, found


def suggestion_of(
    plane: Plane,
    prompts: Prompts,
    candidates: Sequence[PlaneCandidate],
    k: int,
    doubt: float,
    object_id: int = 0,
) -> Suggestion:
    """Keep what a review needs of a candidate; its logits would fill the memory."""
    c = candidates[k]
    scores = tuple(float(c.predicted_iou) for c in candidates)
    return Suggestion(
        plane, c.bbox, c.mask, prompts, k, scores, float(c.stability_score), doubt,
        object_id,
    )  # fmt: skip


def regrouped(
    found: Suggestion, others: Sequence[Suggestion], new_group: int
) -> Suggestion:
    """Return a suggestion that shares the object of the neighbour it goes on from.

    Parameters
    ----------
    found : Suggestion
    others : sequence of Suggestion
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
