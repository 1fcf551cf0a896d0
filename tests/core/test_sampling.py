"""Masks drawn in other pixels than their own: any part, without the rest."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_sam.core.candidates import PlaneCandidate
from napari_sam.core.masks import (
    MaskCandidate,
    crop_iou,
    crop_mask,
    deepest_point,
    mask_iou,
)
from napari_sam.core.tiles import Window


def candidate(mask: np.ndarray, window: Window, shape: tuple[int, int]):
    bbox, pixels = crop_mask(mask)
    seen = MaskCandidate(bbox, pixels, 0.9, 0.9, np.zeros((4, 4), np.float32))
    return PlaneCandidate(seen, window, shape)


@st.composite
def candidates(draw):
    level = draw(st.integers(-2, 4))
    zoom = draw(st.sampled_from([(1.0, 1.0), (2.5, 1.0), (1.0, 5.12)]))
    h, w = draw(st.integers(3, 24)), draw(st.integers(3, 24))
    window = Window(level, draw(st.integers(0, 9)), draw(st.integers(0, 9)), h, w, zoom)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    mask = ndimage.gaussian_filter(rng.normal(size=(h, w)), 1.2) > 0.1
    y, x = window.step
    shape = int((window.y0 + h) * y) + 1, int((window.x0 + w) * x) + 1
    return candidate(mask, window, shape)


@settings(max_examples=80)
@given(candidates())
def test_the_box_and_any_part_are_those_of_the_whole_mask(found):
    h, w = found.plane_shape
    whole = found.read((0, 0, h, w))
    bbox, mask = crop_mask(whole)
    assert found.bbox == bbox
    assert np.array_equal(found.mask, mask)
    part = (h // 3, w // 4, h // 3 + h // 2, w)
    assert np.array_equal(found.read(part), whole[part[0] : part[2], part[1] : part[3]])


def test_a_mask_of_level_0_is_drawn_as_it_is():
    mask = np.random.default_rng(0).random((20, 30)) > 0.5
    found = candidate(mask, Window(0, 5, 7, 20, 30), (40, 50))
    assert np.array_equal(found.full((40, 50))[5:25, 7:37], mask)
    assert found.area == mask.sum()


def test_a_huge_mask_is_read_where_it_is_asked_for():
    n = 1 << 16
    window = Window(7, 0, 0, n >> 7, n >> 7)
    mask = np.zeros((window.h, window.w), bool)
    mask[100:400, 50:300] = True
    found = candidate(mask, window, (n, n))
    y0, x0, y1, x1 = found.bbox
    assert abs(y0 - (100 << 7)) <= 1 and abs(x1 - (300 << 7)) <= 1
    assert found.read((20000, 20000, 20008, 20008)).all()
    assert abs(found.area / ((y1 - y0) * (x1 - x0)) - 1) < 0.01


@given(st.integers(0, 200), st.floats(0.1, 0.6))
def test_overlap_of_crops_is_that_of_whole_masks(seed, share):
    a, b = np.random.default_rng(seed).random((2, 9, 11)) < share
    assert crop_iou(*crop_mask(a), *crop_mask(b)) == mask_iou(a, b)


@given(st.integers(0, 200))
def test_the_deepest_point_is_the_farthest_from_all_that_is_outside(seed):
    field = np.random.default_rng(seed).normal(size=(14, 17))
    mask = ndimage.gaussian_filter(field, 1.5) > 0
    (y, x), radius = deepest_point(mask)
    outside = np.argwhere(~np.pad(mask, 1)) - 1
    inside = np.argwhere(mask)
    distances = [np.hypot(*(outside - p).T).min() for p in inside]
    assert radius == max(distances, default=0.0)
    if len(inside):
        assert np.hypot(*(outside - (y, x)).T).min() == radius
