"""A proposal: a mask that nobody has accepted yet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.masks import crop_iou, described
from napari_sam.core.prompts import Prompts

if TYPE_CHECKING:
    from napari_sam.core.masks import Bbox
    from napari_sam.core.planes import Plane


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Proposal:
    """One object proposed on one plane."""

    plane: Plane
    bbox: Bbox
    """(y0, x0, y1, x1) in level-0 pixels of the plane, half-open."""
    mask: np.ndarray
    """(y1 - y0, x1 - x0), bool."""
    predicted_iou: float
    """The model's own estimate of its overlap with the truth, about 0..1."""
    stability_score: float
    """IoU between the mask cut at logit +1 and at logit -1, 0..1."""
    doubt: float = 0.0
    """0 for a sure one, at most 1: 1 - predicted IoU x stability score x likeness."""
    origin: str = "everything"
    """What proposed it: "everything", "like", "text", "detector", "propagated"."""
    likeness: float = 1.0
    """How well it agrees with the examples that were given, 0..1."""
    prompts: Prompts = field(default_factory=Prompts)
    """What the model was asked; prompting on refines the mask. Empty for none."""
    choice: int = 0
    """Candidate that this is, of those the prompts give."""
    scores: tuple[float, ...] = ()
    """Predicted IoU of each of those candidates."""
    object_id: int = 0
    """Known object that this continues; 0: a new one."""
    group: int = 0
    """Shared by proposals on several planes that are one new object; 0: alone."""
    number: int = 0
    """Tells the proposals of a session apart."""
    parent: int = 0
    """`number` of the smallest proposal that this is a part of; 0: of none."""

    def __repr__(self) -> str:
        return described(self.area, self.bbox, self.predicted_iou, self.stability_score)

    @property
    def area(self) -> int:
        """Pixels in the mask."""
        return int(np.count_nonzero(self.mask))

    def overlap(self, bbox: Bbox, mask: np.ndarray) -> float:
        """IoU with another mask on the same plane, given as a crop."""
        return crop_iou(self.bbox, self.mask, bbox, mask)
