"""Image to model frame and back, for any size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sam.core.preprocess import ResizeTransform

SIZES = st.integers(1, 3000)
SIDES = st.sampled_from([1, 64, 256, 512, 1024])


@given(SIZES, SIZES, SIDES, st.booleans(), st.floats(0, 1), st.floats(0, 1))
def test_points_round_trip_within_half_a_pixel(h, w, side, enlarge, fy, fx):
    transform = ResizeTransform((h, w), side, enlarge)
    point = np.array([[fy * (h - 1), fx * (w - 1)]])
    back = transform.points_from_xy(transform.points_xy(point))
    np.testing.assert_allclose(back, point, rtol=0, atol=1e-6)


@given(SIZES, SIZES, SIDES, st.booleans())
def test_resized_image_fits_the_frame_and_keeps_its_shape(h, w, side, enlarge):
    transform = ResizeTransform((h, w), side, enlarge)
    rh, rw = transform.input_size
    assert 1 <= rh <= side
    assert 1 <= rw <= side
    if enlarge or max(h, w) > side:
        assert max(rh, rw) == side
        scale = side / max(h, w)
        assert abs(rh - h * scale) <= 1 - min(0.5, h * scale)
        assert abs(rw - w * scale) <= 1 - min(0.5, w * scale)
    else:
        assert (rh, rw) == (h, w)


@given(SIZES, SIZES, SIDES)
def test_pixel_centres_stay_inside_the_resized_image(h, w, side):
    transform = ResizeTransform((h, w), side)
    rh, rw = transform.input_size
    corners = transform.points_xy(np.array([[0, 0], [h - 1, w - 1]]))
    assert (corners >= 0).all()
    # The model adds the half pixel; a point's pixel then ends inside.
    assert corners[1, 0] <= rw
    assert corners[1, 1] <= rh


@given(SIZES, SIZES, SIDES)
def test_box_of_the_whole_image_is_the_resized_image(h, w, side):
    transform = ResizeTransform((h, w), side)
    rh, rw = transform.input_size
    np.testing.assert_allclose(transform.box_xyxy((0, 0, h, w)), (0, 0, rw, rh))


@given(SIZES, SIZES, SIDES)
def test_box_corners_go_where_points_go(h, w, side):
    transform = ResizeTransform((h, w), side)
    box = (0.2 * h, 0.3 * w, 0.7 * h, 0.9 * w)
    x0, y0, x1, y1 = transform.box_xyxy(box)
    corners = transform.points_xy(np.array([box[:2], box[2:]]))
    np.testing.assert_allclose(corners, [[x0, y0], [x1, y1]])


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((480, 640), (768, 1024)),
        ((1500, 2000), (768, 1024)),
        ((333, 500), (682, 1024)),
        ((1023, 1024), (1023, 1024)),
        ((1024, 1023), (1024, 1023)),
        ((1199, 1800), (682, 1024)),
        ((2, 4096), (1, 1024)),
    ],
)
def test_sizes_are_those_of_resize_longest_side(size, expected):
    # Worked out by hand from SAM's rule: the scaled length plus a half, rounded down.
    assert ResizeTransform(size, 1024).input_size == expected


@pytest.mark.parametrize("shape", [(1, 5000), (5000, 1), (1, 1)])
def test_images_one_pixel_thin_keep_a_pixel(shape):
    transform = ResizeTransform(shape, 64)
    assert min(transform.input_size) >= 1
    points = np.array([[0, 0], [shape[0] - 1, shape[1] - 1]])
    back = transform.points_from_xy(transform.points_xy(points))
    np.testing.assert_allclose(back, points, atol=1e-6)


def test_model_that_does_not_enlarge_sees_small_images_as_they_are():
    transform = ResizeTransform((30, 40), 64, enlarge=False)
    assert transform.input_size == (30, 40)
    np.testing.assert_array_equal(transform.points_xy(np.array([[3, 9]])), [[9, 3]])


@given(SIZES, SIZES, SIDES, st.floats(0, 1), st.floats(0, 1))
def test_stretched_image_fills_the_square_and_points_come_back(h, w, side, fy, fx):
    transform = ResizeTransform((h, w), side, stretch=True)
    assert transform.input_size == (side, side)
    np.testing.assert_allclose(transform.box_xyxy((0, 0, h, w)), (0, 0, side, side))
    point = np.array([[fy * (h - 1), fx * (w - 1)]])
    # SAM 2's transform_coords: (x / width, y / height) times the side.
    expected = point[:, ::-1] / (w, h) * side
    np.testing.assert_allclose(transform.points_xy(point), expected, atol=1e-9)
    back = transform.points_from_xy(transform.points_xy(point))
    np.testing.assert_allclose(back, point, rtol=0, atol=1e-6)
