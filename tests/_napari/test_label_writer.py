import numpy as np
import pytest
import zarr
from napari.components import ViewerModel

from napari_sam._napari.label_writer import LabelWriter
from napari_sam.core.masks import LabelPatch
from napari_sam.core.planes import Plane

SHAPE = (5, 20, 24)


def _make(data):
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros(SHAPE), name="scan", scale=(2, 1, 1))
    writer = LabelWriter(viewer, image)
    writer.show(data)
    painted = []
    writer.painted.connect(painted.extend)
    return viewer, writer, painted


def _patch(plane, before, value=7):
    after = before.copy()
    after[1:, :-1] = value
    return LabelPatch(
        plane, (3, 4, 3 + before.shape[0], 4 + before.shape[1]), before, after
    )


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("kind", ["numpy", "zarr"])
def test_a_patch_changes_its_box_and_nothing_else(kind, axis):
    data = np.zeros(SHAPE, np.uint16)
    if kind == "zarr":
        data = zarr.create_array({}, shape=SHAPE, dtype="u2", chunks=(1, 20, 24))
    _, writer, painted = _make(data)
    shape = (2, 3) if axis == 0 else (2, 2)
    patch = _patch(Plane((2,), axis), np.zeros(shape, np.uint16))
    if axis:  # (z, x) and (z, y) planes are only five rows high
        patch = LabelPatch(patch.plane, (1, 4, 3, 6), patch.before, patch.after)
    wanted = np.zeros(SHAPE, np.uint16)
    wanted[patch.plane.window(patch.bbox)] = patch.after
    writer.write(patch)
    np.testing.assert_array_equal(np.asarray(data[...]), wanted)
    np.testing.assert_array_equal(np.asarray(writer.layer.data[...]), wanted)
    writer.write(patch.reversed())
    assert not np.asarray(data[...]).any()
    assert painted == []


def test_one_patch_is_one_data_setitem(monkeypatch):
    _, writer, _ = _make(np.zeros(SHAPE, np.uint16))
    calls = []
    real = writer.layer.data_setitem
    monkeypatch.setattr(
        writer.layer, "data_setitem", lambda *a: (calls.append(a), real(*a))
    )
    writer.write(_patch(Plane((2,)), np.zeros((2, 3), np.uint16)))
    assert len(calls) == 1
    assert len(calls[0][1]) == 2  # two of the six pixels differ


@pytest.mark.parametrize(
    ("axis", "index", "order", "drawn"),
    [
        pytest.param(0, 2, (0, 1, 2), True, id="shown"),
        pytest.param(0, 4, (0, 1, 2), False, id="another"),
        pytest.param(1, 4, (0, 1, 2), True, id="crosses what is shown"),
        pytest.param(0, 4, (1, 0, 2), True, id="crosses another view"),
    ],
)
def test_only_what_is_in_view_is_drawn(monkeypatch, axis, index, order, drawn):
    data = np.zeros(SHAPE, np.uint16)
    viewer, writer, _ = _make(data)
    viewer.dims.order = order
    viewer.dims.set_point(order[0], 2 * viewer.dims.range[order[0]].step)
    calls = []
    real = writer.layer.data_setitem
    monkeypatch.setattr(
        writer.layer, "data_setitem", lambda *a: (calls.append(a), real(*a))
    )
    patch = LabelPatch(
        Plane((index,), axis),
        (1, 4, 3, 6),
        np.zeros((2, 2), "u2"),
        np.ones((2, 2), "u2"),
    )
    writer.write(patch)
    assert data.sum() == 4 and bool(calls) is drawn
    viewer.dims.ndisplay = 3
    writer.write(patch.reversed())
    assert not data.any() and len(calls) == drawn + 1


def test_patches_are_written_when_the_layer_is_gone_and_shown_when_it_is_back():
    data = np.zeros(SHAPE, np.uint16)
    viewer, writer, _ = _make(data)
    viewer.layers.remove(writer.layer)
    writer.write(_patch(Plane((2,)), np.zeros((2, 3), np.uint16)))
    assert data.sum() == 14
    assert writer.show(data) in viewer.layers and writer.layer.data is data


def test_the_layer_lies_right_above_its_image_and_selects_nothing():
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros(SHAPE), name="scan", translate=(0, 3, 1))
    points = viewer.add_points(ndim=3)
    writer = LabelWriter(viewer, image)
    layer = writer.show(np.zeros(SHAPE, np.uint16))
    assert list(viewer.layers) == [image, layer, points]
    assert viewer.layers.selection.active is points
    np.testing.assert_array_equal(layer.translate, image.translate)


def _paint(layer):
    layer.selected_label = 3
    with layer.block_history():
        layer.paint((2, 8, 8), 3)
        layer.paint((2, 10, 9), 3)


def _fill(layer):
    layer.fill((2, 0, 0), 5)


def _setitem(layer):
    layer.data_setitem((np.array([2, 2]), np.array([1, 2]), np.array([3, 3])), 9)


def _erase(layer):
    layer.data[2, 5:15, 5:15] = 4
    layer.paint((2, 8, 8), 0)


@pytest.mark.parametrize("how", [_paint, _fill, _setitem, _erase])
def test_painting_is_told_as_a_patch_that_can_be_taken_back(how):
    data = np.zeros(SHAPE, np.uint16)
    data[2, 9, 9] = 1
    _, writer, painted = _make(data)
    writer.layer.brush_size = 3
    if how is _erase:
        data[2, 5:15, 5:15] = 4
    before = data.copy()
    how(writer.layer)
    [patch] = painted
    assert patch.plane == Plane((2,))
    window = patch.plane.window(patch.bbox)
    np.testing.assert_array_equal(patch.after, data[window])
    np.testing.assert_array_equal(patch.before, before[window])
    writer.write(patch.reversed())
    np.testing.assert_array_equal(data, before)


def test_a_brush_through_planes_gives_one_patch_for_each():
    data = np.zeros(SHAPE, np.uint16)
    _, writer, painted = _make(data)
    writer.layer.n_edit_dimensions = 3
    writer.layer.brush_size = 6
    writer.layer.paint((2, 8, 8), 1)
    assert [p.plane.index for p in painted] == [(1,), (2,), (3,)]
    for patch in painted:
        writer.write(patch.reversed())
    assert not data.any()
