"""Planes of any axis of 2-D to 5-D volumes, against numpy's own take."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sam.core.planes import Plane, count_planes, plane_at
from napari_sam.errors import VolumeError


@st.composite
def cuts(draw):
    """Draw a volume and one of its planes: array, axis, indices of hidden axes."""
    ndim = draw(st.integers(3, 5))
    shape = tuple(draw(st.integers(1, 5)) for _ in range(ndim))
    axis = draw(st.integers(0, 2))
    hidden = [*range(ndim - 3), ndim - 3 + axis]
    index = tuple(draw(st.integers(0, shape[a] - 1)) for a in hidden)
    return np.arange(np.prod(shape)).reshape(shape), axis, hidden, index


def taken(volume, hidden, index):
    for a, i in sorted(zip(hidden, index, strict=True), reverse=True):
        volume = np.take(volume, i, axis=a)
    return volume


@given(cuts())
def test_slicer_cuts_what_numpy_takes(cut):
    volume, axis, hidden, index = cut
    plane = Plane.of(volume.shape, index, axis=axis)
    expected = taken(volume, hidden, index)
    np.testing.assert_array_equal(volume[plane.slicer()], expected)
    assert plane.shape(volume.shape) == expected.shape


@given(cuts(), st.data())
def test_window_cuts_a_box_out_of_the_plane(cut, data):
    volume, axis, hidden, index = cut
    plane = Plane.of(volume.shape, index, axis=axis)
    expected = taken(volume, hidden, index)
    y0, x0 = (data.draw(st.integers(0, n - 1)) for n in expected.shape)
    y1 = data.draw(st.integers(y0 + 1, expected.shape[0]))
    x1 = data.draw(st.integers(x0 + 1, expected.shape[1]))
    found = volume[plane.window((y0, x0, y1, x1))]
    np.testing.assert_array_equal(found, expected[y0:y1, x0:x1])


@given(cuts())
def test_window_writes_where_it_reads(cut):
    volume, axis, hidden, index = cut
    plane = Plane.of(volume.shape, index, axis=axis)
    h, w = plane.shape(volume.shape)
    volume[plane.window((0, 0, h, w))] = -1
    assert (taken(volume, hidden, index) == -1).all()
    assert np.count_nonzero(volume == -1) == h * w


@given(cuts())
def test_linear_numbers_count_all_planes_in_order(cut):
    volume, axis, _, index = cut
    n = count_planes(volume.shape, axis)
    planes = [plane_at(volume.shape, i, axis) for i in range(n)]
    assert [p.linear(volume.shape) for p in planes] == list(range(n))
    assert planes == sorted(planes, key=lambda p: p.index)
    assert Plane.of(volume.shape, index, axis=axis) in planes
    assert n * np.prod(planes[0].shape(volume.shape)) == volume.size


@given(cuts())
def test_negative_indices_count_back(cut):
    volume, axis, hidden, index = cut
    back = [i - volume.shape[a] for i, a in zip(index, hidden, strict=True)]
    assert Plane.of(volume.shape, back, axis=axis) == Plane.of(
        volume.shape, index, axis=axis
    )


@given(cuts())
def test_json_round_trip(cut):
    volume, axis, _, index = cut
    plane = Plane.of(volume.shape, index, axis=axis)
    assert Plane.from_json(json.loads(json.dumps(plane.to_json()))) == plane
    assert Plane.of(volume.shape, plane) == plane


@given(cuts())
def test_shown_axes_are_those_not_hidden(cut):
    volume, axis, hidden, index = cut
    shown = Plane.of(volume.shape, index, axis=axis).shown_axes()
    assert shown == tuple(a for a in range(volume.ndim) if a not in hidden)


def test_image_has_one_plane():
    image = np.arange(12).reshape(3, 4)
    plane = Plane.of(image.shape)
    assert plane == Plane.of(image.shape, (0,)) == plane_at(image.shape, 0)
    assert count_planes(image.shape) == 1
    assert plane.linear(image.shape) == 0
    assert plane.shown_axes() == (0, 1)
    np.testing.assert_array_equal(image[plane.slicer()], image)
    np.testing.assert_array_equal(image[plane.window((1, 0, 3, 2))], image[1:3, :2])


def test_int_means_the_first_time_point():
    assert Plane.of((4, 9, 8, 7), 5) == Plane.of((4, 9, 8, 7), (0, 5))
    assert Plane.of((4, 9, 8, 7), np.int64(5)).index == (0, 5)


@pytest.mark.parametrize(
    ("shape", "plane", "axis"),
    [
        pytest.param((8, 9), 1, 0, id="second plane of an image"),
        pytest.param((8, 9), 0, 1, id="axis of an image"),
        pytest.param((5, 8, 9), 5, 0, id="past the end"),
        pytest.param((5, 8, 9), -6, 0, id="before the start"),
        pytest.param((5, 8, 9), 0, 3, id="no such axis"),
        pytest.param((5, 8, 9), 0, -1, id="negative axis"),
        pytest.param((5, 8, 9), (0, 0), 0, id="too many indices"),
        pytest.param((2, 5, 8, 9), (0,), 0, id="too few indices"),
        pytest.param((2, 5, 8, 9), (2, 0), 0, id="no such time"),
    ],
)
def test_planes_that_are_not_there_are_refused(shape, plane, axis):
    with pytest.raises(VolumeError):
        Plane.of(shape, plane, axis=axis)


@pytest.mark.parametrize("ask", [count_planes, lambda s, axis: plane_at(s, 0, axis)])
def test_planes_of_an_axis_that_is_not_there_are_refused(ask):
    with pytest.raises(VolumeError, match="axis must be"):
        ask((5, 8, 9), 3)
