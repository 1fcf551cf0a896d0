"""A search for a kind of objects, said by words or shown by examples."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.mask_prompt import MaskPrompt
from napari_sam.core.masks import crops_overlap
from napari_sam.engine.crops import masked_crops
from napari_sam.engine.select import select
from napari_sam.errors import Cancelled
from napari_sam.session.search import Found

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from napari_sam.core.planes import Plane
    from napari_sam.core.proposals import Proposal
    from napari_sam.engine.example_bank import ExampleBank
    from napari_sam.engine.propose import Proposer
    from napari_sam.engine.propose_options import SelectOptions
    from napari_sam.models.protocol import TextScorer

    Judge = tuple[Callable[[Proposer, list[MaskPrompt]], np.ndarray], float]

BY_TEXT, BY_EXAMPLE = "text", "like"
"""`Proposal.origin` of what words found, and of what examples found."""
_SAME = 0.5
"""Share of the smaller of two masks from which they are one object, or its part."""
_REFUSED = 0.5
"""IoU with a mask that was rejected from which a mask is not proposed again."""


@dataclass(frozen=True, slots=True, eq=False)
class KindSearch:
    """Everything such a search needs, as it was when it was asked for."""

    text: str
    proposers: tuple[Proposer, ...]
    """One for each plane, in the order they are looked at."""
    chosen: SelectOptions
    reader: Callable[[], TextScorer] | None
    """Loads what reads the words; None: the model, whose masks they are already."""
    min_score: float | None
    """Least score; None: what is usual for the reader."""
    examples: Callable[[], ExampleBank] | None = None
    """Gives the examples to be like; None: words alone count."""
    min_likeness: float = 0.5
    refused: Mapping[Plane, Sequence[Proposal]] = field(default_factory=dict)

    def run(self, cancel: Callable[[], bool] | None = None) -> Iterator[Found]:
        """Look; yields after each window, with proposals after each plane.

        Once `cancel` returns True, it ends.
        """
        total = sum(len(p.looks) for p in self.proposers)
        yield Found(0, total)
        judges = self._judges()
        done = 0
        try:
            for proposer in self.proposers:
                proposer.cancel = cancel
                parts = []
                for step in proposer.run():
                    parts.append(step.found)
                    done += 1
                    yield Found(done, total)
                chosen = select(proposer.candidates(parts), self.chosen)
                found = self._fitting(proposer, list(chosen), judges)
                yield Found(done, total, tuple(found))
        except Cancelled:
            return

    def _judges(self) -> list[Judge]:
        """What says how well masks fit: (proposer, masks) -> scores, least score."""
        out: list[Judge] = []
        if self.reader is not None:
            scorer = self.reader()
            least = scorer.usual_score if self.min_score is None else self.min_score

            def read(at: Proposer, masks: list[MaskPrompt]) -> np.ndarray:
                crops = masked_crops(
                    at.engine, at.plane, masks, scorer.crop_side, scorer.fill
                )
                return scorer.score(self.text, crops)

            out.append((read, least))
        if self.examples is not None:
            bank = self.examples()

            def compare(at: Proposer, masks: list[MaskPrompt]) -> np.ndarray:
                return bank.likeness(at.engine, at.plane, masks)

            out.append((compare, self.min_likeness))
        return out

    def _fitting(
        self, at: Proposer, found: Sequence[Proposal], judges: Sequence[Judge]
    ) -> list[Proposal]:
        """Those that fit, the best first, with how well as likeness."""
        refused = self.refused.get(at.plane, ())
        found = [
            p for p in found
            if not any(r.overlap(p.bbox, p.mask) > _REFUSED for r in refused)
        ]  # fmt: skip
        origin = BY_TEXT if self.text else BY_EXAMPLE
        if not judges or not found:
            return [replace(p, origin=origin) for p in found]
        masks = [MaskPrompt(p.bbox, p.mask) for p in found]
        fits, enough = np.ones(len(found)), np.ones(len(found), bool)
        for judge, least in judges:
            scores = judge(at, masks)
            fits, enough = fits * scores, enough & (scores >= least)
        return [
            scored(found[k], float(fits[k]), origin)
            for k in apart(found, fits)
            if enough[k]
        ]


def scored(p: Proposal, score: float, origin: str) -> Proposal:
    """Return a proposal that says how well it fits."""
    sure = float(np.clip(p.predicted_iou, 0, 1)) * p.stability_score * score
    doubt = min(max(1 - sure, 0.0), 1.0)
    return replace(p, origin=origin, likeness=score, doubt=doubt)


def apart(found: Sequence[Proposal], scores: np.ndarray) -> list[int]:
    """Indices, best score first, of masks that no better one shares most pixels with.

    Proposals come as parts and wholes; what fits best decides which of them is meant.
    """
    kept: list[int] = []
    for k in np.argsort(-np.asarray(scores), kind="stable").tolist():
        p = found[k]
        if not any(_share(p, found[j]) > _SAME for j in kept):
            kept.append(k)
    return kept


def _share(a: Proposal, b: Proposal) -> float:
    smaller = max(min(a.area, b.area), 1)
    return crops_overlap(a.bbox, a.mask, b.bbox, b.mask) / smaller
