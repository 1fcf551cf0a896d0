import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_sam import open_volume
from napari_sam.core.planes import Plane
from napari_sam.results.label_arrays import ChunkedLabels, OnlyLabels, written_blocks
from napari_sam.results.label_objects import (
    boxes_in_block,
    find_objects,
    iter_blocks,
    iter_objects,
    planes_with_labels,
)
from napari_sam.results.registry import write
from napari_sam.results.results import Results


class Counted(ChunkedLabels):
    """Labels that count the pixels that are read of them."""

    pixels = 0

    def __getitem__(self, key):
        block = super().__getitem__(key)
        self.pixels += block.size
        return block


def chunked(path, shape, chunks, **options):
    return zarr.create_array(
        path, shape=shape, dtype="u2", chunks=chunks, fill_value=0, **options
    )


def results_of(labels):
    pixels = np.broadcast_to(np.zeros((), np.uint8), labels.shape)
    return Results(labels, open_volume(pixels))


@pytest.mark.parametrize("name", ["coco", "csv", "ome_zarr"])
def test_only_blocks_that_exist_are_read(tmp_path, name):
    array = chunked(tmp_path / "labels.zarr", (400, 4096, 4096), (1, 1024, 1024))
    array[200, 900:1300, 2000:2500] = 7  # in 4 chunks
    labels = Counted(array)

    write(tmp_path / "out", results_of(labels), name)

    assert labels.pixels <= 2 * 4 * 1024**2
    assert len(written_blocks(labels)) == 4


def test_many_objects_are_read_once(tmp_path):
    array = chunked(tmp_path / "labels.zarr", (1200, 1200), (1200, 1200))
    ids = np.arange(1, 3601, dtype=np.uint16).reshape(60, 60)
    array[:] = np.kron(ids, np.pad(np.ones((16, 16), np.uint16), 2))
    labels = Counted(array)

    found = list(find_objects(labels))

    assert [f.id for f in found] == list(range(1, 3601))
    assert {f.mask.shape for f in found} == {(16, 16)}
    assert labels.pixels == 1200**2


@pytest.mark.parametrize("separator", ["/", "."])
@pytest.mark.parametrize("shards", [None, (2, 32, 64)])
def test_written_blocks_of_any_zarr_hold_every_label(tmp_path, separator, shards):
    key = {"name": "default", "separator": separator}
    array = chunked(
        tmp_path / "a.zarr", (5, 70, 130), (1, 16, 32), shards=shards,
        chunk_key_encoding=key,
    )  # fmt: skip
    array[1, 60:, 100:] = 5
    array[4, :3, :3] = 6

    blocks = written_blocks(array)

    assert len(blocks) == 5
    assert [(f.id, f.plane.index) for f in find_objects(array)] == [
        (5, (1,)),
        (6, (4,)),
    ]
    only = OnlyLabels(array, [6])
    assert written_blocks(only) == blocks
    assert [f.id for f in find_objects(only)] == [6]


def test_what_was_written_is_not_known_of_other_fill_values_and_stores(tmp_path):
    filled = zarr.create_array(
        tmp_path / "a.zarr", shape=(8, 8), dtype="u2", chunks=(4, 4), fill_value=3
    )
    inside = zarr.create_array(
        zarr.storage.MemoryStore(), shape=(8, 8), dtype="u2", chunks=(4, 4)
    )
    second = zarr.create_array(
        tmp_path / "b.zarr", shape=(8, 8), dtype="u2", chunks=(4, 4), zarr_format=2
    )
    second[6, 6] = 2

    assert written_blocks(filled) is None
    assert written_blocks(inside) is None
    assert [f.id for f in find_objects(filled)] == [3]
    assert [f.id for f in find_objects(second)] == [2]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    side=st.integers(3, 50),
    top=st.sampled_from([3, 300, 4_000_000_000]),
)
def test_objects_are_those_of_scipy_however_blocks_cut_them(seed, shape, side, top):
    rng = np.random.default_rng(seed)
    few = rng.integers(0, 6, shape)
    ids = np.array([0, 1, 2, 3, top - 1, top], np.uint32)
    labels = np.where(rng.random(shape) < 0.5, ids[few], 0).astype(np.uint32)

    found = {i: (b, m) for i, b, m in iter_objects(labels, Plane(()), block=side)}

    present = np.unique(labels[labels > 0])
    assert sorted(found) == present.tolist()
    for object_id in present.tolist():
        ((y, x),) = ndimage.find_objects((labels == object_id).astype(int))
        bbox, mask = found[object_id]
        assert bbox == (y.start, x.start, y.stop, x.stop)
        np.testing.assert_array_equal(mask, labels[y, x] == object_id)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_planes_of_every_axis_hold_their_objects(tmp_path, axis):
    array = chunked(tmp_path / "a.zarr", (6, 40, 50), (1, 16, 16))
    array[2:4, 10:20, 5:9] = 3
    dense = array[:]

    found = list(find_objects(ChunkedLabels(array), axis))

    assert {f.plane.axis for f in found} == {axis}
    for f in found:
        want = dense[f.plane.window(f.bbox)] == 3
        np.testing.assert_array_equal(f.mask, want)
    assert sum(f.mask.sum() for f in found) == (dense == 3).sum()


def test_blocks_without_labels_are_left_out(tmp_path):
    array = chunked(tmp_path / "a.zarr", (3, 64, 64), (1, 16, 16))
    array[1, 40, 50] = 1
    array[2] = 0
    labels = ChunkedLabels(array)

    ((corner, part),) = iter_blocks(labels, Plane((1,)), block=32)

    assert corner == (32, 32) and part.sum() == 1
    assert list(iter_blocks(labels, Plane((0,)))) == []
    assert [p.index for p, _ in planes_with_labels(labels)] == [(1,)]


def test_ids_far_apart_take_no_memory_of_their_size():
    block = np.array([[4_294_967_295, 0], [7, 7]], np.uint32)

    assert boxes_in_block(block) == [
        (7, (slice(1, 2), slice(0, 2))),
        (4_294_967_295, (slice(0, 1), slice(0, 1))),
    ]


@pytest.mark.parametrize("axis", [1, 2])
def test_objects_cut_along_another_axis_go_out_and_come_back(tmp_path, axis):
    from napari_sam import Session
    from napari_sam.testing import ToyModel

    pixels = np.zeros((20, 30, 40), np.uint8)
    pixels[5:15, 8:20, 10:30] = 200
    session = Session(pixels, ToyModel(), embeddings=False)
    session.segment(4, plane=12, axis=axis, points=[(10, 15)])
    session.export(tmp_path / "a.json")
    session.export(tmp_path / "a.png", plane=Plane((12,), axis))

    for name, plane in (("a.json", None), ("a.png", Plane((12,), axis))):
        other = Session(pixels, ToyModel(), embeddings=False)
        other.read(tmp_path / name, plane=plane)
        np.testing.assert_array_equal(other.labels, session.labels)
    assert np.asarray(session.labels).any()
