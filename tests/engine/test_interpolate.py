"""Shapes between key planes: moved, branched, ended, never empty in between."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sam.core.mask_prompt import MaskPrompt
from napari_sam.core.masks import mask_iou
from napari_sam.engine.interpolate import blend, interpolate


def disc(y, x, r, side=128):
    ys, xs = np.mgrid[:side, :side]
    return (ys - y) ** 2 + (xs - x) ** 2 <= r * r


def full(mask, side=128):
    out = np.zeros((side, side), bool)
    y0, x0, y1, x1 = mask.bbox
    out[y0:y1, x0:x1] = mask.mask
    return out


def between(low, high, n=4):
    return {
        k: full(m)
        for k, m in interpolate({0: MaskPrompt.of(low), n: MaskPrompt.of(high)})
    }


def test_a_growing_disc_is_the_disc_between():
    found = between(disc(60, 60, 10), disc(60, 60, 30))
    for k, mask in found.items():
        assert mask_iou(mask, disc(60, 60, 10 + 5 * k)) > 0.95


def test_a_disc_that_moves_by_more_than_its_width_moves():
    found = between(disc(30, 20, 8), disc(90, 100, 8))
    for k, mask in found.items():
        assert mask_iou(mask, disc(30 + 15 * k, 20 + 20 * k, 8)) > 0.9


def test_two_parts_move_each_their_own_way():
    low = disc(20, 20, 8) | disc(100, 100, 12)
    high = disc(40, 30, 8) | disc(90, 80, 12)
    found = between(low, high)
    expected = disc(30, 25, 8) | disc(95, 90, 12)
    assert mask_iou(found[2], expected) > 0.9


def test_a_part_that_branches_becomes_two():
    from scipy import ndimage

    low = disc(64, 50, 16) | disc(64, 74, 16)
    high = disc(64, 30, 12) | disc(64, 98, 12)
    found = between(low, high)
    for mask in found.values():
        assert mask[:, :64].any() and mask[:, 64:].any()
    assert ndimage.label(found[3])[1] == 2
    areas = [low.sum(), *(m.sum() for m in found.values()), high.sum()]
    assert all(a >= b for a, b in itertools.pairwise(areas))


def test_a_part_without_a_partner_ends_half_way():
    low = disc(30, 30, 10) | disc(100, 100, 10)
    found = between(low, disc(30, 30, 10), n=6)
    assert found[1][100, 100] and found[2][100, 100]
    assert not found[3][90:110, 90:110].any()
    assert all(mask_iou(m[:60, :60], disc(30, 30, 10)[:60, :60]) > 0.9
               for m in found.values())  # fmt: skip


def test_spacing_decides_what_is_far():
    # Rows are five times as thick: half-way, a bar has worn off evenly in millimetres.
    low, high = np.zeros((2, 128, 128), bool)
    low[40:80, 40:80] = True
    high[56:64, 40:80] = True
    keys = {0: MaskPrompt.of(low), 2: MaskPrompt.of(high)}
    thick = dict(interpolate(keys, spacing=(5.0, 1.0)))[1]
    assert thick.bbox[1] == 40 and thick.bbox[3] == 80
    assert 8 < thick.bbox[2] - thick.bbox[0] < 40


def test_wanted_planes_only_and_nothing_beyond_the_keys():
    keys = {3: MaskPrompt.of(disc(60, 60, 9)), 9: MaskPrompt.of(disc(60, 60, 9))}
    assert [n for n, _ in interpolate(keys, [0, 4, 8, 12])] == [4, 8]


def test_masks_are_cut_to_the_plane():
    moved = MaskPrompt((100, 100, 120, 120), np.ones((20, 20), bool))
    beyond = MaskPrompt((120, 100, 140, 120), np.ones((20, 20), bool))
    ((_, found),) = interpolate({0: moved, 2: beyond}, shape=(128, 128))
    assert found.bbox == (110, 100, 128, 120)


def test_votes_are_blended_by_weight():
    small, large = MaskPrompt.of(disc(60, 60, 10)), MaskPrompt.of(disc(60, 60, 30))
    even = full(blend([(small, 1), (large, 1)]))
    mostly = full(blend([(small, 3), (large, 1)]))
    assert mask_iou(even, disc(60, 60, 20)) > 0.93
    assert mask_iou(mostly, disc(60, 60, 15)) > 0.93


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(15, 110), st.integers(15, 110), st.integers(1, 12)),
    st.tuples(st.integers(15, 110), st.integers(15, 110), st.integers(1, 12)),
    st.integers(2, 7),
)
def test_one_part_on_both_keys_is_never_empty_between(low, high, n):
    apart = np.hypot(low[0] - high[0], low[1] - high[1])
    found = between(disc(*low), disc(*high), n)
    near = apart <= 1.5 * (low[2] + high[2]) / 2
    if near:
        assert set(found) == set(range(1, n))
    for k, mask in found.items():
        assert mask.any(), k


@pytest.mark.parametrize("axis", [0, 1])
def test_a_flip_of_the_image_flips_the_answer(axis):
    low, high = disc(40, 30, 9) | disc(90, 90, 6), disc(50, 44, 14)
    straight = between(low, high)
    flipped = between(np.flip(low, axis), np.flip(high, axis))
    for k, mask in straight.items():
        assert mask_iou(np.flip(flipped[k], axis), mask) > 0.97
