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
    less for a mask that fills a small image. Between scales counts, too, how well
    answers of neighbouring scales agree, and how far a scale lies from the one
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
    filling: float = 0.3
    """Share of a reduced image above which a mask fills it."""
    filling_malus: float = 0.0
    """Taken off then, the more the smaller the image is beside the model's frame."""
    finer: int = 2
    """Levels below the first one that may be asked for."""
    coarser: int = 4
    """Levels above the first one that may be asked for."""

    def worth(
        self, best: MaskCandidate, size: tuple[int, int], input_side: int
    ) -> float:
        """How good a scale's best candidate is by itself, about 0..1.

        Parameters
        ----------
        best : MaskCandidate
        size : tuple of int
            (height, width) of the window it was seen in.
        input_side : int
            Side of the model's frame.
        """
        stable = float(max(best.stability_score, 0) ** self.stability_power)
        worth = best.predicted_iou * stable
        if best.area > self.filling * size[0] * size[1]:
            worth -= self.filling_malus * max(0.0, 1 - max(size) / input_side)
        return worth

    def score(self, worth: float, agreements: Sequence[float], away: int) -> float:
        """How good it is among the scales that were asked for."""
        agreed = self.unknown_agreement
        if agreements:
            agreed = sum(agreements) / len(agreements)
        return worth + self.agreement * agreed - self.distance * away
