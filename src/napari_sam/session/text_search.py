"""A search for what a word names: a snapshot that any thread may run."""

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
    from napari_sam.engine.propose import Proposer
    from napari_sam.engine.propose_options import SelectOptions
    from napari_sam.models.protocol import TextScorer

ORIGIN = "text"
"""`Proposal.origin` of what is found here."""
_SAME = 0.5
"""Share of the smaller of two masks from which they are one object, or its part."""
_REFUSED = 0.5
"""IoU with a mask that was rejected from which a mask is not proposed again."""


@dataclass(frozen=True, slots=True, eq=False)
class TextSearch:
    """Everything a search for words needs, as it was when it was asked for."""

    text: str
    proposers: tuple[Proposer, ...]
    """One for each plane, in the order they are looked at."""
    chosen: SelectOptions
    reader: Callable[[], TextScorer] | None
    """Loads what reads the words; None: the model, whose masks they are already."""
    min_score: float | None
    """Least score; None: what is usual for the reader."""
    refused: Mapping[Plane, Sequence[Proposal]] = field(default_factory=dict)

    def run(self, cancel: Callable[[], bool] | None = None) -> Iterator[Found]:
        """Look; yields after each window, with proposals after each plane.

        Once `cancel` returns True, it ends.
        """
        total = sum(len(p.looks) for p in self.proposers)
        yield Found(0, total)
        scorer = None if self.reader is None else self.reader()
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
                found = self._fitting(proposer, list(chosen), scorer)
                yield Found(done, total, tuple(found))
        except Cancelled:
            return

    def _fitting(
        self,
        proposer: Proposer,
        found: Sequence[Proposal],
        scorer: TextScorer | None,
    ) -> list[Proposal]:
        """Those that the words fit, the best first, with how well as likeness."""
        engine, plane = proposer.engine, proposer.plane
        refused = self.refused.get(plane, ())
        found = [
            p for p in found
            if not any(r.overlap(p.bbox, p.mask) > _REFUSED for r in refused)
        ]  # fmt: skip
        if scorer is None:
            return [replace(p, origin=ORIGIN) for p in found]
        masks = [MaskPrompt(p.bbox, p.mask) for p in found]
        crops = masked_crops(engine, plane, masks, scorer.crop_side, scorer.fill)
        scores = scorer.score(self.text, crops) if found else np.zeros(0)
        least = scorer.usual_score if self.min_score is None else self.min_score
        return [
            scored(found[k], float(scores[k]))
            for k in apart(found, scores)
            if scores[k] >= least
        ]


def scored(p: Proposal, score: float) -> Proposal:
    """Return a proposal that says how well words fit it."""
    sure = float(np.clip(p.predicted_iou, 0, 1)) * p.stability_score * score
    doubt = min(max(1 - sure, 0.0), 1.0)
    return replace(p, origin=ORIGIN, likeness=score, doubt=doubt)


def apart(found: Sequence[Proposal], scores: np.ndarray) -> list[int]:
    """Indices, best score first, of masks that no better one shares most pixels with.

    Proposals come as parts and wholes; words decide which of them is meant.
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
