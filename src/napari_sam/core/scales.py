"""How good a mask seen at one scale is likely to be, beside those of other scales."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sam.core.masks import MaskCandidate


@dataclass(frozen=True, slots=True)
class ScaleRule:
    """Which scale's answer to a lone click is taken, and when others are asked for.

    The worth of an answer is its predicted IoU times a power of its stability score,
    less for a speck and for a mask that fills the frame. Between scales counts, too,
    how well answers of neighbouring scales agree, and how far a scale lies from the one
    that the user looks at. docs/any_size.md has the measurements; the defaults are
    cautious, for models whose scores mean what they say.
    """

    enough: float = 0.7
    """Worth from which no other scale is asked for."""
    poor: float = 0.4
    """While the best worth is below this, coarser scales are asked for, all of them."""
    stability_power: float = 0.3
    agreement: float = 0.4
    """Weight of the mean IoU with the answers of neighbouring scales."""
    unknown_agreement: float = 0.35
    """Taken where no neighbouring scale was asked for."""
    distance: float = 0.05
    """Taken off for each level between a scale and the first one."""
    speck: float = 60 / 512**2
    """Share of the frame below which a mask is a speck."""
    speck_malus: float = 0.1
    filling: float = 0.3
    """Share of the frame above which a mask fills it."""
    filling_malus: float = 0.0
    finer: int = 2
    """Levels below the first one that may be asked for."""
    coarser: int = 4
    """Levels above the first one that may be asked for."""

    def worth(self, best: MaskCandidate, input_side: int) -> float:
        """How good a scale's best candidate is by itself, about 0..1."""
        share = best.area / input_side**2
        stable = float(max(best.stability_score, 0) ** self.stability_power)
        worth = best.predicted_iou * stable
        worth -= self.speck_malus * (share < self.speck)
        return worth - self.filling_malus * (share > self.filling)

    def score(self, worth: float, agreements: Sequence[float], away: int) -> float:
        """How good it is among the scales that were asked for."""
        agreed = self.unknown_agreement
        if agreements:
            agreed = sum(agreements) / len(agreements)
        return worth + self.agreement * agreed - self.distance * away
