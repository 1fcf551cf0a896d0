"""Labels beyond memory: on disk from the start, never copied whole, growing types."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import zarr

from napari_sam.results import label_arrays
from napari_sam.results.label_arrays import (
    ChunkedLabels,
    copy_labels,
    grown,
    highest_label,
    iter_blocks_of,
    new_labels,
)
from napari_sam.session import Session
from napari_sam.testing import ToyModel, phantom_image, phantom_volume
from napari_sam.volume.opening import open_volume

PHANTOM = phantom_image()


@pytest.fixture
def little_memory(monkeypatch):
    """Make every array of labels too big for memory."""
    monkeypatch.setattr(label_arrays, "MEMORY_BYTES", 0)


@pytest.fixture
def session(little_memory):
    return Session(PHANTOM.image, ToyModel(), embeddings=False)


def segment(session, *object_ids):
    for k in object_ids:
        session.segment(k, points=[PHANTOM.center((k - 1) % 3 + 1)])


# -- the array -----------------------------------------------------------------------


def test_labels_of_a_huge_image_cost_nothing_until_written():
    tracemalloc.start()
    labels = new_labels((100_000, 100_000))
    labels[70_000:70_100, 30_700:30_900] = 7
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(labels, ChunkedLabels)
    assert peak < 40e6
    assert labels[70_050, 30_800] == 7
    assert not np.asarray(labels[:50, :50]).any()
    assert highest_label(labels) == 7
    assert len(list(labels.iter_written())) == 2
    folder = labels.path
    del labels
    assert not folder.exists()


def test_indexing_is_numpys(little_memory):
    labels, array = new_labels((4, 60, 70)), np.zeros((4, 60, 70), np.uint16)
    for target in (labels, array):
        target[2, 10:20, 30:50] = np.arange(200).reshape(10, 20)
        target[1] = 5
        target[(np.array([0, 3]), np.array([1, 2]), np.array([4, 5]))] = [8, 9]
    np.testing.assert_array_equal(np.asarray(labels), array)
    np.testing.assert_array_equal(labels[2, :, 40], array[2, :, 40])
    assert (labels.ndim, labels.size, len(labels)) == (3, array.size, 4)


@pytest.mark.parametrize("make", [new_labels, np.zeros], ids=["chunked", "numpy"])
def test_type_grows_and_values_stay(little_memory, make):
    labels = make((3, 1500, 1100), dtype=np.uint16)
    labels[1, 1000:1100, 1000:1050] = 65535
    folder = getattr(labels, "path", None)
    bigger = grown(labels, 65536)
    assert bigger.dtype == np.uint32
    assert grown(bigger, 70000) is bigger
    assert getattr(bigger, "path", None) == folder
    assert int((np.asarray(bigger[1]) == 65535).sum()) == 5000


def test_blocks_cover_everything_once():
    seen = np.zeros((3, 2500, 4100), np.uint8)
    for spans in iter_blocks_of(seen):
        seen[spans] += 1
    assert (seen == 1).all()


def test_copy_leaves_empty_chunks_out(tmp_path):
    source = np.zeros((4100, 4100), np.uint16)
    source[10:20, 10:20] = 3
    out = zarr.create_array(
        tmp_path / "o", shape=source.shape, dtype="uint16", chunks=(1024, 1024)
    )
    copy_labels(source, out)
    assert out.nchunks_initialized <= 4
    np.testing.assert_array_equal(out[:], source)


# -- sessions ------------------------------------------------------------------------


def test_session_on_disk_does_what_one_in_memory_does(session):
    memory = Session(
        PHANTOM.image,
        ToyModel(),
        embeddings=False,
        labels=np.zeros(PHANTOM.image.shape, np.uint16),
    )
    for s in (session, memory):
        segment(s, 1, 2)
        s.choose(1)
        s.undo()
        segment(s, 3)
        s.delete_object(1)
        s.undo()
        s.redo()
    np.testing.assert_array_equal(np.asarray(session.labels), memory.labels)
    assert session.new_object() == memory.new_object() == 4


def test_labels_move_into_the_sessions_folder_and_stay_there(session, tmp_path):
    segment(session, 1)
    labels, before = session.labels, session.labels.path
    session.save(tmp_path / "a.nsam")
    assert session.labels is labels
    assert labels.path.parent == tmp_path / "a.nsam"
    assert not before.exists()
    segment(session, 2)
    written = np.asarray(zarr.open_array(labels.path, mode="r")[:])
    assert set(np.unique(written)) == {0, 1, 2}


def test_later_saving_copies_nothing(session, tmp_path):
    session.save(tmp_path / "a.nsam")
    segment(session, 1, 2)
    session.save()
    (checkpoint,) = (tmp_path / "a.nsam").glob("labels.[0-9]*.zarr")
    chunks = [p for p in (checkpoint / "c").rglob("*") if p.is_file()]
    assert chunks and all(p.stat().st_nlink == 2 for p in chunks)
    session.close()


def test_a_checkpoint_stays_as_it_was_while_work_goes_on(session, tmp_path):
    segment(session, 1)
    session.save(tmp_path / "a.nsam")
    segment(session, 2)
    (checkpoint,) = (tmp_path / "a.nsam").glob("labels.[0-9]*.zarr")
    assert highest_label(label_arrays.open_labels(checkpoint)) == 1
    assert highest_label(session.labels) == 2
    session.close()


def test_session_saved_elsewhere_leaves_the_first_one_whole(session, tmp_path):
    session.save(tmp_path / "a.nsam")
    segment(session, 1)
    session.save(tmp_path / "b.nsam")
    segment(session, 2)
    session.save()
    session.close()
    first, second = (
        Session.load(tmp_path / n, volume=PHANTOM.image, model=ToyModel(),
                     embeddings=False)
        for n in ("a.nsam", "b.nsam")
    )  # fmt: skip
    assert set(first.objects) == {1}
    assert set(second.objects) == {1, 2}
    assert highest_label(first.labels) == 1
    first.close(), second.close()


def load(path, **options):
    return Session.load(
        path, volume=PHANTOM.image, model=ToyModel(), embeddings=False, **options
    )


def test_loading_opens_and_goes_on_without_reading_all(session, tmp_path):
    session.save(tmp_path / "a.nsam")
    segment(session, 1, 2)
    expected = np.asarray(session.labels)
    session.close()
    again = load(tmp_path / "a.nsam")
    assert isinstance(again.labels, ChunkedLabels)
    np.testing.assert_array_equal(np.asarray(again.labels), expected)
    assert again.undo()
    assert highest_label(again.labels) == 1
    again.close()


def test_reading_only_changes_nothing_on_disk(session, tmp_path):
    session.save(tmp_path / "a.nsam")
    segment(session, 1)
    session.close()
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "a.nsam").rglob("*")}
    looking = load(tmp_path / "a.nsam", read_only=True)
    segment(looking, 2)
    assert highest_label(looking.labels) == 2
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "a.nsam").rglob("*")}


@pytest.mark.parametrize("scale", ["memory", "disk"])
def test_ids_beyond_the_type_make_it_grow_and_undo_goes_on(
    scale, monkeypatch, tmp_path
):
    if scale == "disk":
        monkeypatch.setattr(label_arrays, "MEMORY_BYTES", 0)
    session = Session(PHANTOM.image, ToyModel(), embeddings=False)
    session.save(tmp_path / "a.nsam")
    grew = []
    session.grown.connect(lambda: grew.append(session.labels.dtype))
    segment(session, 1)
    before = np.asarray(session.labels).copy()
    session.segment(70_000, points=[PHANTOM.center(2)])
    assert grew == [np.uint32]
    assert highest_label(session.labels) == 70_000
    assert session.new_object() == 70_001
    session.undo()
    np.testing.assert_array_equal(np.asarray(session.labels), before)
    session.undo()
    assert not np.asarray(session.labels).any()
    session.redo(), session.redo()
    after = np.asarray(session.labels)
    session.close()  # without a checkpoint of the grown labels
    again = load(tmp_path / "a.nsam")
    np.testing.assert_array_equal(np.asarray(again.labels), after)
    again.undo()
    np.testing.assert_array_equal(np.asarray(again.labels), before)
    again.close()


def test_labels_of_the_caller_are_used_as_they_are(tmp_path):
    labels = zarr.create_array(
        tmp_path / "mine.zarr", shape=PHANTOM.image.shape, dtype="uint16",
        chunks=(32, 32), fill_value=0,
    )  # fmt: skip
    labels[:8, :8] = 40
    session = Session(PHANTOM.image, ToyModel(), embeddings=False, labels=labels)
    assert session.new_object() == 41
    segment(session, 1)
    assert 1 in np.asarray(zarr.open_array(tmp_path / "mine.zarr", mode="r")[:])
    session.delete_object(40)
    assert not (labels[:8, :8] == 40).any()


def test_object_is_deleted_on_every_plane_of_a_volume(little_memory):
    phantom = phantom_volume()
    session = Session(phantom.image, ToyModel(), embeddings=False)
    labels = phantom.labels.astype(np.uint16)
    session.labels[...] = labels
    session.delete_object(2)
    expected = np.where(labels == 2, 0, labels)
    np.testing.assert_array_equal(np.asarray(session.labels), expected)
    session.undo()
    np.testing.assert_array_equal(np.asarray(session.labels), labels)


def test_export_of_huge_labels_takes_the_memory_of_a_few_chunks(tmp_path):
    image = zarr.create_array(
        tmp_path / "image.zarr", shape=(40_000, 40_000), dtype="uint8",
        chunks=(1024, 1024), fill_value=9,
    )  # fmt: skip
    session = Session(
        open_volume(tmp_path / "image.zarr"), ToyModel(64), embeddings=False
    )
    session.labels[20_000:23_000, 10_000:11_000] = 5
    del image
    tracemalloc.start()
    session.export(tmp_path / "out.zarr")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 120e6
    group = zarr.open_group(tmp_path / "out.zarr", mode="r")
    sizes = [d["path"] for d in group.attrs["ome"]["multiscales"][0]["datasets"]]
    assert [group[s].shape[0] for s in sizes] == [-(-40_000 // 2**i) for i in range(8)]
    want = np.zeros((5000, 5000), bool)
    want[2500:2875, 1250:1375] = True
    np.testing.assert_array_equal(np.asarray(group["3"][:]) == 5, want)
