"""All instances of an image as few numbers, and the masks they stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

MOST = 300
"""Instances kept of one image, the surest first; what the authors' code keeps."""
_LOOKED_AT = 3000
MIN_SCORE = 0.1
"""Confidence below which nothing is kept."""
CONFIDENT = 0.4
"""Confidence from which the authors show an instance."""
_MAX_OVERLAP = 0.9
"""IoU of boxes above which the less sure instance is a duplicate."""
_WHOLE = 0.9
"""IoU with the whole image from which a box is taken to be the whole image."""


def pack(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the network told of one batch -> features that a store can keep.

    Parameters
    ----------
    found : mapping
        As `network.Head` returns it.

    Returns
    -------
    dict of Tensor
        ``prototypes`` (B, K, m, m) and ``instances`` (B, 1, MOST, 9 + K): the box as
        whole pixels and as fractions of one, which halves hold well, the confidence,
        the coefficients; zeros where there are fewer.
    """
    rows = []
    for boxes, scores, coefficients in zip(
        found["boxes"], found["scores"], found["coefficients"], strict=True
    ):
        best = scores.amax(0)
        at = best.topk(min(_LOOKED_AT, best.numel())).indices
        at = at[best[at] >= MIN_SCORE]
        at = at[without_duplicates(boxes[:, at].T, _MAX_OVERLAP)][:MOST]
        whole = boxes[:, at].T.floor()
        row = torch.cat(
            [whole, boxes[:, at].T - whole, best[at, None], coefficients[:, at].T], 1
        )
        room = row.new_zeros(1, MOST, row.shape[1])
        room[0, : len(row)] = row
        rows.append(room)
    return {"instances": torch.stack(rows), "prototypes": found["prototypes"]}


def without_duplicates(boxes: Tensor, max_overlap: float) -> Tensor:
    """Indices of boxes (N, 4), best first, that overlap no better one too much."""
    size = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0)
    area = size.prod(1)
    low = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(2)
    union = area[:, None] + area[None] - shared
    alike = (shared > max_overlap * union).cpu().numpy()
    gone = torch.zeros(len(boxes), dtype=torch.bool).numpy()
    kept = []
    for i in range(len(boxes)):
        if not gone[i]:
            kept.append(i)
            gone |= alike[i]
    return torch.tensor(kept, dtype=torch.long, device=boxes.device)


@dataclass(frozen=True, slots=True, eq=False)
class Instances:
    """Instances of one image, the surest first, on the model's device."""

    boxes: Tensor
    """(N, 4), x0, y0, x1, y1 in pixels of the frame."""
    scores: Tensor
    """(N,), confidences 0..1."""
    coefficients: Tensor
    """(N, K)."""
    prototypes: Tensor
    """(K, m, m)."""
    side: int
    """Of the frame, in pixels."""
    inside: Tensor
    """(N, m, m), bool: the masks at the prototypes' resolution."""

    @classmethod
    def of(
        cls, features: Mapping[str, Tensor], input_size: tuple[int, int], side: int
    ) -> Instances:
        """Unpack what `pack` packed, for an image of (height, width) in the frame."""
        rows = features["instances"][0]
        rows = rows[rows[:, 8] > 0]
        h, w = input_size
        boxes = whole_images((rows[:, :4] + rows[:, 4:8]), h, w)
        bare = cls(
            boxes, rows[:, 8], rows[:, 9:], features["prototypes"], side,
            torch.zeros(0, *features["prototypes"].shape[1:], dtype=torch.bool),
        )  # fmt: skip
        every = torch.arange(len(rows), device=rows.device)
        parts = [bare.logits(some) > 0 for some in torch.split(every, 32)]
        inside = torch.cat(parts) if parts else bare.inside
        return cls(
            bare.boxes, bare.scores, bare.coefficients, bare.prototypes, side, inside
        )

    def logits(self, which: Tensor) -> Tensor:
        """Masks (n, m, m) of some instances, as logits.

        Beyond an instance's box they fall by 1 a pixel, so that enlarging them, which
        is linear, ends the mask where its box ends.
        """
        mixed = torch.einsum("nk,kyx->nyx", self.coefficients[which], self.prototypes)
        m = self.prototypes.shape[-1]
        centre = (torch.arange(m, device=mixed.device) + 0.5) * (self.side / m)
        x0, y0, x1, y1 = (v[:, None] for v in self.boxes[which].T)
        in_x = torch.minimum(centre - x0, x1 - centre)
        in_y = torch.minimum(centre - y0, y1 - centre)
        return torch.minimum(mixed, torch.minimum(in_y[:, :, None], in_x[:, None]))


def whole_images(boxes: Tensor, height: int, width: int) -> Tensor:
    """Cut boxes (N, 4) to the image; those that hold nearly all of it get the rest."""
    edge = boxes.new_tensor([width, height, width, height])
    cut = boxes.clamp(min=0).minimum(edge)
    area = (cut[:, 2:] - cut[:, :2]).prod(1)
    full = torch.cat([torch.zeros_like(edge[:2]), edge[2:]])
    return torch.where((area > _WHOLE * height * width)[:, None], full, cut)
