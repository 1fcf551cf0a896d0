from __future__ import annotations

import numpy as np
import torch

from napari_sam.training.prompts import (
    PromptMix,
    first_prompts,
    inner_point,
    next_clicks,
)


def _disk(cy: int, cx: int, r: int) -> np.ndarray:
    ys, xs = np.ogrid[:48, :48]
    return np.asarray((ys - cy) ** 2 + (xs - cx) ** 2 <= r * r)


MASKS = np.stack([_disk(20, 22, 10), _disk(30, 12, 3), _disk(10, 40, 1)])
IMAGE_OF = np.zeros(3, np.int64)


def test_first_clicks_lie_in_their_objects() -> None:
    mix = PromptMix(click=1.0, box_and_click=0.0, mask=0.0)
    for seed in range(20):
        batch = first_prompts(MASKS, IMAGE_OF, np.random.default_rng(seed), mix=mix)
        cells = (batch.points[:, 0] / 2).long()
        assert all(m[y, x] for m, (y, x) in zip(MASKS, cells.tolist(), strict=True))
        assert batch.labels.tolist() == [[1]] * 3
        assert not batch.has_box.any()


def test_boxes_stay_near_their_objects() -> None:
    mix = PromptMix(click=0.0, box_and_click=0.0, mask=0.0)
    batch = first_prompts(MASKS, IMAGE_OF, np.random.default_rng(0), mix=mix)
    assert batch.has_box.all()
    assert (batch.labels == -1).all()
    true = torch.tensor([[20.0, 24, 62, 66]])
    assert (batch.box[:1] - true).abs().max() < 15


def test_every_object_is_prompted_somehow() -> None:
    mix = PromptMix(click=0.2, box_and_click=0.2, mask=0.4)
    for seed in range(20):
        batch = first_prompts(MASKS, IMAGE_OF, np.random.default_rng(seed), mix=mix)
        said = batch.has_box + batch.has_prev + (batch.labels == 1).sum(1)
        assert (said > 0).all()


def test_deep_point_is_the_centre() -> None:
    point = inner_point(MASKS[0], np.random.default_rng(0), depth=1.0)
    assert point == (20.0, 22.0)


def test_next_click_is_in_the_error_with_the_right_label() -> None:
    rng = np.random.default_rng(0)
    batch = first_prompts(MASKS, IMAGE_OF, rng)
    predicted = MASKS.copy()
    predicted[0] = False  # missed: wants a positive click
    predicted[1] = _disk(30, 12, 9)  # too much: wants a negative one
    after = next_clicks(batch, MASKS, predicted, torch.zeros(3, 24, 24), rng)
    assert after.labels[:, -1].tolist()[:2] == [1, 0]
    cells = (after.points[:, -1] / 2).long().tolist()
    assert MASKS[0][tuple(cells[0])]
    assert predicted[1][tuple(cells[1])]
    assert not MASKS[1][tuple(cells[1])]
    assert MASKS[2][tuple(cells[2])]  # no error left: anywhere in the object
    assert after.has_prev.all()
