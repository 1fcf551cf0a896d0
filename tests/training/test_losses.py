from __future__ import annotations

import torch

from napari_sam.models.nano.network import BEST_GUESS
from napari_sam.training.losses import (
    candidate_losses,
    coincidence,
    dice,
    normalised_focal,
)

TRUTH = torch.zeros(2, 16, 16, dtype=torch.bool)
TRUTH[0, 4:12, 4:12] = True
TRUTH[1, 7:9, 7:9] = True


def _perfect(sign: float = 1.0) -> torch.Tensor:
    return ((TRUTH.float() * 2 - 1) * 9 * sign)[:, None]


def test_perfect_masks_cost_nothing_and_inverted_ones_most() -> None:
    target = TRUTH[:, None].float()
    for loss in (dice, normalised_focal):
        assert loss(_perfect(), target).max() < 0.05
        assert loss(_perfect(-1), target).min() > 0.8


def test_best_guess_and_nearest_candidate_count_for_a_lone_click() -> None:
    logits = torch.cat([_perfect(-1)] * BEST_GUESS + [_perfect()] + [_perfect(-1)], 1)
    iou = torch.full((2, 3), 0.5)
    ones = torch.ones(2)
    lone = candidate_losses(logits, iou, TRUTH, ones, ones)
    clear = candidate_losses(logits, iou, TRUTH, ones, 0 * ones)
    assert lone.mask < clear.mask / 2
    assert lone.reached[:, BEST_GUESS].tolist() == [1.0, 1.0]
    assert lone.reached.sum() == 2
    other = candidate_losses(logits.roll(1, 1), iou, TRUTH, ones, ones)
    assert other.mask > 2 * lone.mask


def test_right_ranking_costs_less_than_wrong_ranking() -> None:
    logits = torch.cat([_perfect(), _perfect(-1), _perfect(-1)], 1)
    right = torch.tensor([[0.9, 0.1, 0.1]] * 2)
    wrong = torch.tensor([[0.1, 0.9, 0.1]] * 2)
    ones = torch.ones(2)
    a = candidate_losses(logits, right, TRUTH, ones, ones)
    b = candidate_losses(logits, wrong, TRUTH, ones, ones)
    assert a.rank < 0.1 < b.rank
    assert a.iou < b.iou


def test_of_objects_no_click_can_mean_only_the_nearest_candidate_learns() -> None:
    logits = torch.cat([_perfect(-1), _perfect(-1) / 9, _perfect() / 9], 1)
    logits.requires_grad_()
    ones = torch.ones(2)
    iou = torch.full((2, 3), 0.5)
    losses = candidate_losses(logits, iou, TRUTH, ones, ones, ones.bool())
    (gradient,) = torch.autograd.grad(losses.mask, logits)
    assert gradient[:, :2].abs().max() == 0 < gradient[:, 2].abs().min()
    known = candidate_losses(logits, iou, TRUTH, ones, ones)
    assert losses.iou < 0.1 * known.iou


def test_candidates_that_coincide_cost_more_for_a_lone_click() -> None:
    smaller = torch.zeros(2, 1, 16, 16)
    smaller[:, :, 6:9, 6:9] = 18
    same = _perfect().expand(-1, 3, -1, -1)
    apart = torch.cat([_perfect(), _perfect(), smaller - 9], 1)
    assert coincidence(same).min() > 0.75 > coincidence(apart).min()
    iou, ones = torch.full((2, 3), 0.5), torch.ones(2)

    def cost(logits: torch.Tensor) -> float:
        """Of a lone click beyond that of a clear prompt."""
        lone, clear = (
            candidate_losses(logits, iou, TRUTH, ones, ambiguous)
            for ambiguous in (ones, 0 * ones)
        )
        return float(lone.mask - clear.mask)

    assert cost(same) > max(cost(apart), 0)
