"""Losses for several candidate masks and their predicted IoU."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_sam.models.nano.network import BEST_GUESS

ALIKE = 0.6
"""Mean overlap of the candidates of a lone click that costs nothing."""


class Losses(NamedTuple):
    """Parts of the loss, means over objects, and the IoU that was reached."""

    mask: Tensor
    iou: Tensor
    rank: Tensor
    reached: Tensor  # (P, 3) IoU of each candidate


def normalised_focal(logits: Tensor, truth: Tensor, gamma: float = 2.0) -> Tensor:
    """Focal loss whose focal weights sum to 1 in each mask; (P, M, h, w) -> (P, M).

    Small objects and almost finished ones keep their gradient (Sofiiuk et al., RITM).
    """
    ce = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    beta = (1 - torch.exp(-ce)).pow(gamma)
    total = beta.detach().sum((2, 3)) + 1e-2 * truth.sum((2, 3)).clamp_min(1)
    return (beta * ce).sum((2, 3)) / total


def dice(logits: Tensor, truth: Tensor) -> Tensor:
    """1 - soft Dice; (P, M, h, w) -> (P, M)."""
    p = logits.sigmoid()
    both = (p * truth).sum((2, 3))
    return 1 - (2 * both + 1) / (p.sum((2, 3)) + truth.sum((2, 3)) + 1)


def coincidence(logits: Tensor) -> Tensor:
    """Mean soft IoU of the pairs of candidates; (P, M, h, w) -> (P,)."""
    p = logits.sigmoid()
    pairs = []
    for i in range(p.shape[1]):
        for j in range(i):
            a, b = p[:, i], p[:, j]
            both = (a * b).sum((1, 2))
            pairs.append(both / ((a + b).sum((1, 2)) - both + 1))
    return torch.stack(pairs, 1).mean(1)


def candidate_losses(
    logits: Tensor,
    predicted_iou: Tensor,
    truth: Tensor,
    weight: Tensor,
    ambiguous: Tensor,
    unknowable: Tensor | None = None,
) -> Losses:
    """Losses of P objects with M candidates each.

    For a lone click, the best guess and the nearest candidate share the loss, and
    candidates that coincide cost: several answers are worth something where they
    differ. For clear prompts the nearest and the mean share. Of objects that the prompt
    cannot tell from others only the nearest candidate learns, so that one comes to try
    them and none is expected to.

    Parameters
    ----------
    logits : (P, M, h, w)
    predicted_iou : (P, M)
    truth : (P, h, w) bool
    weight : (P,) trust in each outline
    ambiguous : (P,) float, 1 for a lone click
    unknowable : (P,) bool, optional
    """
    target = truth[:, None].to(logits.dtype).expand_as(logits)
    each = normalised_focal(logits, target) + dice(logits, target)  # (P, M)
    nearest, mean = each.amin(1), each.mean(1)  # (P,)
    lone = 0.4 * each[:, BEST_GUESS] + 0.55 * nearest + 0.05 * mean
    lone = lone + 0.3 * (coincidence(logits) - ALIKE).clamp_min(0)
    mask = ambiguous * lone + (1 - ambiguous) * 0.5 * (nearest + mean)
    ranked = weight
    if unknowable is not None:
        mask = torch.where(unknowable, 0.4 * nearest, mask)
        ranked = torch.where(unknowable, 0.05 * weight, weight)
    with torch.no_grad():
        found, true = logits > 0, truth[:, None]
        both = (found & true).sum((2, 3)).to(logits.dtype)
        reached = both / (found | true).sum((2, 3)).clamp_min(1)  # (P, M)
        soft = F.softmax(reached * 20, 1)
    iou = F.mse_loss(predicted_iou, reached, reduction="none").mean(1)
    rank = -(soft * F.log_softmax(predicted_iou * 20, 1)).sum(1)
    rank = rank + (soft * soft.clamp_min(1e-6).log()).sum(1)  # 0 when they agree
    n = weight.sum()
    return Losses(
        (mask * weight).sum() / n,
        (iou * ranked).sum() / n,
        (rank * ranked).sum() / n,
        reached,
    )
