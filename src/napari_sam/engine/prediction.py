"""The answer to a set of prompts: candidates, where they were seen, which is taken."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from napari_sam.core.candidates import PlaneCandidate

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from napari_sam.core.masks import MaskCandidate
    from napari_sam.core.prompts import Prompts
    from napari_sam.core.tiles import Window

Refined = tuple["np.ndarray", "Window"]
"""Low-res logits that a step refines, and their window."""


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """Answer to one set of prompts on one plane."""

    prompts: Prompts
    candidates: tuple[PlaneCandidate, ...]
    """Best first, in level-0 pixels of the plane; drawn when they are asked for."""
    window: Window
    """Where the model looked."""
    choices: tuple[int, ...]
    """Candidate taken at each step of `Prompts.steps`; the last one is in force."""
    refined: Refined | None = None
    """Low-res logits that the last step refined, and their window."""
    settled: bool = True
    """False for the first answer to a lone click that other scales may answer better.
    """
    first: Prediction | None = None
    """The first answer to a lone click, where another scale's is better."""

    @classmethod
    def of(
        cls,
        prompts: Prompts,
        raw: Sequence[MaskCandidate],
        window: Window,
        plane_shape: tuple[int, int],
        choices: tuple[int, ...],
        refined: Refined | None = None,
    ) -> Prediction:
        """Make one of what a model gave for a window, best first."""
        candidates = tuple(PlaneCandidate(c, window, plane_shape) for c in raw)
        return cls(prompts, candidates, window, choices, refined)

    @property
    def chosen(self) -> PlaneCandidate:
        """The candidate in force."""
        return self.candidates[self.choices[-1]]

    def choose(self, k: int) -> Prediction:
        """Return the same answer with candidate `k` in force."""
        if not 0 <= k < len(self.candidates):
            raise IndexError(
                f"there are {len(self.candidates)} candidates, 0 to "
                f"{len(self.candidates) - 1}; got {k}"
            )
        return replace(self, choices=(*self.choices[:-1], k), settled=True, first=None)

    def fitting(self, prompts: Prompts) -> Prediction:
        """Return the answer to go on from, when further clicks have been made.

        A click that contradicts the better scale's answer to the first one, and not the
        first scale's, tells that the first scale was right.
        """
        if self.first is None:
            return self
        wrong, before = (_contradictions(p.chosen, prompts) for p in (self, self.first))
        return self.first if before < wrong else self

    def with_chosen(self, candidate: PlaneCandidate) -> Prediction:
        """Return the same answer with another mask in place of the one in force."""
        candidates = list(self.candidates)
        candidates[self.choices[-1]] = candidate
        return replace(self, candidates=tuple(candidates))


def _contradictions(mask: PlaneCandidate, prompts: Prompts) -> int:
    """Count the points that a mask leaves on the wrong side."""
    count = 0
    for (y, x), label in zip(prompts.points, prompts.point_labels, strict=True):
        row = min(max(round(y), 0), mask.plane_shape[0] - 1)
        col = min(max(round(x), 0), mask.plane_shape[1] - 1)
        inside = bool(mask.read((row, col, row + 1, col + 1))[0, 0])
        count += inside != bool(label)
    return count
