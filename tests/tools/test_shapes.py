from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.measure import regionprops

from tools.nano.data import CropSampler, LabelledImage
from tools.nano.seed_loss import seed_loss, seed_targets
from tools.nano.shapes import KINDS, odd_shapes, touching_equals


def test_odd_shapes_leave_a_third_of_their_hull_empty() -> None:
    hollow = []
    for kind in KINDS:
        for seed in range(4):
            rng = np.random.default_rng([seed, 3])
            mask = kind(rng, 128, np.array([64.0, 64.0]), 30.0)
            (found,) = regionprops(mask.astype(int))
            hollow.append(found.solidity)
    assert np.median(hollow) < 0.66
    assert max(hollow) < 0.95


def test_odd_shapes_repeat() -> None:
    a, b = (odd_shapes(np.random.default_rng(4), 96) for _ in range(2))
    assert np.array_equal(a, b)
    assert a.max() >= 1


def test_equals_touch_and_are_of_one_size() -> None:
    labels = touching_equals(np.random.default_rng(1), 200)
    grown = ndimage.grey_dilation(labels, size=3)
    assert ((labels > 0) & (grown != labels) & (grown > 0)).any()
    radii = [
        r.equivalent_diameter_area for r in regionprops(labels) if r.solidity > 0.9
    ]
    assert len(radii) >= 2
    assert max(radii) < 2.5 * np.median(radii)


def test_seed_targets_are_one_at_the_innermost_and_split_touching_objects() -> None:
    labels = np.zeros((20, 20), int)
    labels[2:12, 2:10], labels[2:12, 10:18] = 1, 2
    inside, edge, depth = seed_targets(labels)
    assert np.array_equal(inside > 0, labels > 0)
    assert edge[5, 9] == edge[5, 10] == 1
    assert edge[6, 5] == edge[0, 0] == 0
    for i in (1, 2):
        assert depth[labels == i].max() == 1
        assert depth[labels == i].min() > 0
    assert (depth[labels == 0] == 0).all()


def test_seed_loss_falls_to_the_truth_and_leaves_incomplete_labels_out() -> None:
    labels = np.zeros((2, 20, 20), int)
    labels[:, 4:12, 4:12] = 1
    truth = torch.from_numpy(np.stack([seed_targets(x) for x in labels]))
    right = torch.cat([(truth[:, :2] * 2 - 1) * 9, truth[:, 2:]], 1)
    wrong = torch.zeros_like(right)
    both = np.array([True, True])
    assert seed_loss(right, labels, both) < 0.01 < seed_loss(wrong, labels, both)
    mixed = torch.stack([right[0], wrong[1]])
    assert seed_loss(mixed, labels, np.array([True, False])) < 0.01
    assert seed_loss(wrong, labels, np.array([False, False])) == 0


@pytest.mark.parametrize("united", [0.0, 1.0])
def test_now_and_then_an_object_means_all_that_touches_it(
    united: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.zeros((200, 200), np.int32)
    labels[60:140, 60:100], labels[60:140, 100:140] = 1, 2
    source = LabelledImage("d", "x", (labels * 60).astype(np.uint8), labels)
    monkeypatch.setattr("tools.nano.data.UNITED", united)
    batch = CropSampler([source], objects_per_crop=1).batch([1], n_crops=1, side=96)
    both = (batch.labels[0] > 0).sum()
    assert batch.composite[0] == bool(united)
    share = batch.masks[0].sum() / both
    assert share > 0.9 if united else share < 0.9


def test_targets_run_from_small_to_beyond_the_window() -> None:
    labels = np.zeros((512, 512), np.int32)
    labels[176:336, 176:336] = 1
    source = LabelledImage("d", "x", (labels * 60).astype(np.uint8), labels)
    sampler = CropSampler([source], objects_per_crop=1)
    areas = [
        float(sampler.batch([i], n_crops=1, side=160).masks[0].mean())
        for i in range(60)
    ]
    assert min(areas) < 0.25
    assert max(areas) > 0.9
