"""The answer to a set of prompts: candidates, where they were seen, which is taken."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from napari_sam.core.masks import MaskCandidate
    from napari_sam.core.prompts import Prompts
    from napari_sam.core.tiles import Window


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """Answer to one set of prompts on one plane."""

    prompts: Prompts
    candidates: tuple[MaskCandidate, ...]
    """Best first, in level-0 pixels of the plane."""
    window: Window
    """Where the model looked."""
    choices: tuple[int, ...]
    """Candidate taken at each step of `Prompts.steps`; the last one is in force."""
    coarse: tuple[MaskCandidate, ...] = ()
    """Candidates in the window's own pixels, when that lies on a coarse level."""
    refined: tuple[np.ndarray, Window] | None = None
    """Low-res logits that the last step refined, and their window."""

    @property
    def chosen(self) -> MaskCandidate:
        """The candidate in force."""
        return self.candidates[self.choices[-1]]

    def choose(self, k: int) -> Prediction:
        """Return the same answer with candidate `k` in force."""
        if not 0 <= k < len(self.candidates):
            raise IndexError(
                f"there are {len(self.candidates)} candidates, 0 to "
                f"{len(self.candidates) - 1}; got {k}"
            )
        return replace(self, choices=(*self.choices[:-1], k))
