"""Which proposals are shown: pure, and quick enough to hang on a slider."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.errors import PromptError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sam.core.proposals import Proposal


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What a proposal must reach to be shown, and accepted with all others.

    Names and meanings are those of SAM's ``SamAutomaticMaskGenerator`` where it has
    them. Whoever fails them is kept: moving a threshold back shows it again.
    """

    max_doubt: float = field(default=1.0, metadata={"range": (0, 1)})
    """Most doubt."""
    pred_iou_thresh: float = field(default=0.0, metadata={"range": (0, 1)})
    """Least predicted IoU."""
    stability_score_thresh: float = field(default=0.0, metadata={"range": (0, 1)})
    """Least IoU of the mask cut at two logits."""
    min_likeness: float = field(default=0.0, metadata={"range": (0, 1)})
    """Least agreement with the examples."""
    min_area: float = field(default=0.0, metadata={"range": (0, 10**9)})
    """Fewest pixels."""
    max_area: float | None = field(default=None, metadata={"range": (1, 10**9)})
    """Most pixels; None: any number."""

    def __post_init__(self) -> None:
        for name in (
            "max_doubt", "pred_iou_thresh", "stability_score_thresh", "min_likeness",
        ):  # fmt: skip
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise PromptError(f"{name} is a number from 0 to 1; got {value}")
        most = self.max_area
        if self.min_area < 0 or (most is not None and most < self.min_area):
            raise PromptError(
                "min_area is 0 or more, and max_area not less; got "
                f"{self.min_area} and {most}"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What thresholds ask of N proposals, as arrays."""

    doubt: np.ndarray
    """(N,) float"""
    predicted_iou: np.ndarray
    """(N,) float"""
    stability_score: np.ndarray
    """(N,) float"""
    likeness: np.ndarray
    """(N,) float"""
    area: np.ndarray
    """(N,) float, pixels."""

    @classmethod
    def of(cls, proposals: Sequence[Proposal]) -> Scores:
        """Take the scores of proposals, in their order."""
        return cls(
            *(
                np.array([getattr(p, f.name) for p in proposals], np.float64)
                for f in fields(cls)
            )
        )

    def passing(self, thresholds: Thresholds) -> np.ndarray:
        """(N,) bool: which proposals pass.

        Examples
        --------
        >>> some = Scores(*np.array([[0.1, 0.5], [0.9, 0.6], [1, 1], [1, 1], [9, 9]]))
        >>> some.passing(Thresholds(pred_iou_thresh=0.8))
        array([ True, False])
        """
        t = thresholds
        out = (self.doubt <= t.max_doubt) & (self.area >= t.min_area)
        # A threshold of 0 asks for nothing: predictions may be negative.
        for least, values in (
            (t.pred_iou_thresh, self.predicted_iou),
            (t.stability_score_thresh, self.stability_score),
            (t.min_likeness, self.likeness),
        ):
            if least > 0:
                out &= values >= least
        if t.max_area is not None:
            out &= self.area <= t.max_area
        return np.asarray(out)
