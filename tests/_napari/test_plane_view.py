import numpy as np
import pytest
from napari.components import ViewerModel

from napari_sam._napari.plane_view import (
    layer_over,
    order_for_axis,
    shown_axis,
    shown_plane,
)
from napari_sam.core.planes import Plane
from napari_sam.errors import VolumeError

ROTATED = [[0.8, -0.6], [0.6, 0.8]]


def _shown(viewer, layer):
    return shown_plane(viewer.dims, layer, layer.data.shape)


def test_a_2d_image_has_one_plane_whatever_the_order():
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((8, 9)))
    assert _shown(viewer, layer) == Plane(())
    viewer.dims.order = (1, 0)
    assert _shown(viewer, layer) == Plane(())


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_plane_follows_slider_and_order(axis):
    viewer = ViewerModel()
    layer = viewer.add_image(
        np.zeros((6, 8, 10)), scale=(3, 1, 0.5), translate=(7, 0, 2)
    )
    viewer.dims.order = order_for_axis(viewer.dims, 3, axis)
    assert shown_axis(viewer.dims, 3) == axis
    for index in (0, 2, layer.data.shape[axis] - 1):
        world = layer.data_to_world([index] * 3)[axis]
        viewer.dims.set_point(axis, world)
        assert _shown(viewer, layer) == Plane((index,), axis)
        seen = np.asarray(layer.data[Plane((index,), axis).slicer()])
        assert layer._slice.image.raw.shape == seen.shape


def test_the_plane_is_the_one_napari_draws():
    data = np.arange(7.0)[:, None, None] * np.ones((1, 4, 5))
    viewer = ViewerModel()
    layer = viewer.add_image(data, scale=(2.5, 1, 1), translate=(1, 0, 0))
    for step in range(7):
        viewer.dims.set_current_step(0, step)
        assert layer._slice.image.raw[0, 0] == _shown(viewer, layer).index[0]


def test_an_image_is_hidden_by_a_solid_one_that_covers_it():
    viewer = ViewerModel()
    below = viewer.add_image(np.zeros((8, 9)), name="below")
    assert layer_over(viewer, below) is None
    above = viewer.add_image(np.zeros((4, 20, 20)), scale=(1, 1, 0.5))
    viewer.add_labels(np.zeros((20, 20), int))
    assert layer_over(viewer, below) is above
    assert layer_over(viewer, above) is None
    above.translate = (0, 3, 0)
    assert layer_over(viewer, below) is None
    above.translate = (0, 0, 0)
    for change in ({"visible": False}, {"opacity": 0.5}, {"blending": "additive"}):
        before = {k: getattr(above, k) for k in change}
        for values, expected in ((change, None), (before, above)):
            for k, v in values.items():
                setattr(above, k, v)
            assert layer_over(viewer, below) is expected


def test_time_and_depth_are_both_indexed():
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((3, 5, 8, 9)))
    viewer.dims.set_current_step((0, 1), (2, 4))
    assert _shown(viewer, layer) == Plane((2, 4), 0)
    viewer.dims.order = order_for_axis(viewer.dims, 4, 2)
    viewer.dims.set_current_step((0, 3), (1, 6))
    assert _shown(viewer, layer) == Plane((1, 6), 2)


def test_an_image_with_fewer_axes_than_the_viewer_counts_from_the_last():
    viewer = ViewerModel()
    viewer.add_image(np.zeros((3, 5, 8, 9)))
    flat = viewer.add_image(np.zeros((5, 8, 9)))
    viewer.dims.set_current_step((0, 1), (2, 3))
    assert _shown(viewer, flat) == Plane((3,), 0)


def test_rotation_within_the_plane_changes_nothing():
    viewer = ViewerModel()
    rotate = np.eye(3)
    rotate[1:, 1:] = ROTATED
    layer = viewer.add_image(np.zeros((6, 8, 10)), rotate=rotate)
    viewer.dims.set_current_step(0, 4)
    assert _shown(viewer, layer) == Plane((4,), 0)


@pytest.mark.parametrize(
    ("change", "advice"),
    [
        pytest.param(lambda v: setattr(v.dims, "ndisplay", 3), "3-D display", id="3d"),
        pytest.param(
            lambda v: setattr(v.dims, "order", (1, 2, 0, 3)), "roll the axes", id="time"
        ),
    ],
)
def test_what_is_no_plane_says_what_to_change(change, advice):
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((3, 5, 8, 9)))
    change(viewer)
    with pytest.raises(VolumeError, match=advice):
        _shown(viewer, layer)


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
def test_an_oblique_cut_is_refused():
    viewer = ViewerModel()
    rotate = np.eye(3)
    rotate[:2, :2] = ROTATED
    layer = viewer.add_image(np.zeros((6, 8, 10)), rotate=rotate)
    with pytest.raises(VolumeError, match="turned out of the view"):
        _shown(viewer, layer)
