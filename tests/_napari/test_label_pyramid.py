import numpy as np
import pytest
import zarr
from napari.components import ViewerModel

from napari_sam._napari import label_pyramid
from napari_sam._napari.label_pyramid import EveryNth, LabelPyramid
from napari_sam._napari.label_writer import LabelWriter
from napari_sam.core.masks import LabelPatch
from napari_sam.core.planes import Plane

SHAPE = (3, 4100, 4099)


@pytest.fixture
def small_memory(monkeypatch):
    monkeypatch.setattr(label_pyramid, "HELD", 2**21)


def _patch(plane, bbox, seed=0):
    after = np.random.default_rng(seed).integers(
        0, 9, (bbox[2] - bbox[0], bbox[3] - bbox[1])
    )
    return LabelPatch(
        plane, bbox, np.zeros_like(after, np.uint16), after.astype(np.uint16)
    )


@pytest.mark.parametrize(
    ("plane", "bbox"),
    [
        (Plane((1,)), (1000, 7, 1031, 300)),
        (Plane((1,)), (4095, 4094, 4100, 4099)),
        (Plane((1,)), (5, 5, 6, 6)),
        (Plane((8,), 1), (0, 3, 3, 90)),
        (Plane((7,), 1), (0, 3, 3, 90)),
        (Plane((4098,), 2), (1, 10, 3, 90)),
    ],
)
def test_every_level_follows_a_patch(small_memory, plane, bbox):
    labels = np.zeros(SHAPE, np.uint16)
    pyramid = LabelPyramid(labels)
    assert [type(level) for level in pyramid.levels] == [
        np.ndarray,
        EveryNth,
        np.ndarray,
    ]
    patch = _patch(plane, bbox)
    labels[plane.window(bbox)] = patch.after
    pyramid.put(patch)
    for n, level in enumerate(pyramid.levels):
        step = 2**n
        np.testing.assert_array_equal(np.asarray(level), labels[:, ::step, ::step])


def test_labels_that_are_there_fill_the_pyramid():
    labels = np.zeros((5000, 3001), np.uint16)
    labels[1020:1030, 5:99] = 3
    labels[4999, 3000] = 1
    pyramid = LabelPyramid(labels, fill=True)
    for n, level in enumerate(pyramid.levels):
        np.testing.assert_array_equal(level, labels[:: 2**n, :: 2**n])


def test_a_view_reads_what_is_indexed():
    base = np.arange(7 * 10).reshape(7, 10)
    view, whole = EveryNth(base, 2), base[::2, ::2]
    assert view.shape == whole.shape == (4, 5)
    for key in [np.s_[:], np.s_[1:3, 2:], np.s_[3], np.s_[-1, 4], np.s_[::2, 1:1]]:
        np.testing.assert_array_equal(view[key], whole[key])


def test_a_huge_plane_is_drawn_and_written_without_being_read_whole(monkeypatch):
    monkeypatch.setattr(label_pyramid, "WHOLE", 2**22)
    shape = (6000, 8000)
    data = zarr.create_array({}, shape=shape, dtype="u2", chunks=(1024, 1024))
    viewer = ViewerModel()
    image = viewer.add_image(
        [np.zeros(shape, np.uint8), np.zeros((3000, 4000), np.uint8)],
        multiscale=True, contrast_limits=(0, 255),
    )  # fmt: skip
    writer = LabelWriter(viewer, image)
    layer = writer.show(data, LabelPyramid(data))
    assert layer.multiscale and label_pyramid.is_huge(data.shape)
    patch = _patch(Plane(()), (100, 200, 164, 264))
    writer.write(patch)
    np.testing.assert_array_equal(data[100:164, 200:264], patch.after)
    np.testing.assert_array_equal(
        np.asarray(layer.data[-1])[25:41, 50:66], patch.after[::4, ::4]
    )
    writer.write(patch.reversed())
    assert not np.asarray(layer.data[-1]).any()
    viewer.layers.remove(layer)
    writer.write(patch)
    again = writer.show(data)
    assert again.multiscale and np.asarray(again.data[-1]).any()
    assert writer.found() is data
