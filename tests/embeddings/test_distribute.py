"""Encoding on a cluster: real worker processes, killed, stopped and misled."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time

import numpy as np
import pytest

from napari_sam.core.intensity import IntensityMapping
from napari_sam.core.planes import Plane
from napari_sam.embeddings.distribute import connect
from napari_sam.embeddings.encode import encode_volume
from napari_sam.embeddings.opening import open_store
from napari_sam.embeddings.source import EmbeddingSource
from napari_sam.embeddings.task import EncodingTask, ModelSource, encode_task
from napari_sam.embeddings.tile_batches import Region
from napari_sam.errors import ModelError, NapariSamError, StoreError, VolumeError
from napari_sam.testing import ToyModel, phantom_volume
from napari_sam.volume.opening import open_volume
from napari_sam.volume.volume import Volume

pytest.importorskip("distributed")


@pytest.fixture
def volume(tmp_path):
    np.save(tmp_path / "stack.npy", phantom_volume((6, 100, 80)).image)
    return open_volume(tmp_path / "stack.npy")


@pytest.fixture(scope="module")
def client():
    with connect(workers=2) as client:
        yield client


def features(store):
    """Every flagged tile's features, by plane and number."""
    return {
        (plane, number): store.get(plane, store.grid.tile_by_number(number))
        .features["colors"]
        .tobytes()
        for plane in range(store.n_planes)
        for number in store.numbers(plane)
    }


@pytest.fixture
def expected(volume, tmp_path):
    """What one uninterrupted process makes."""
    list(encode_volume(volume, ToyModel(64), tmp_path / "reference"))
    return features(open_store(volume, ToyModel(64), tmp_path / "reference"))


def test_workers_store_what_one_process_would(client, volume, expected, tmp_path):
    model = ToyModel(64)
    steps = list(encode_volume(volume, model, tmp_path / "emb", client=client))
    assert steps[0] == (0, len(expected))
    assert steps[-1] == (len(expected), len(expected))
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert features(open_store(volume, model, tmp_path / "emb")) == expected
    assert model.n_encoded == 0
    again = list(encode_volume(volume, model, tmp_path / "emb", client=client))
    assert set(again) == {(len(expected), len(expected))}


@pytest.mark.parametrize("n", [1])
def test_as_many_workers_start_as_were_asked_for(n):
    with connect(workers=n) as client:
        assert list(client.nthreads().values()) == [1] * n


def _process_ids(client):
    return sorted(client.run(os.getpid).values())


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
def test_killed_worker_loses_nothing_and_stops_nothing(
    client, volume, expected, tmp_path
):
    model = ToyModel(64, delay_s=0.05)
    victim = _process_ids(client)[0]
    steps = []
    for step in encode_volume(volume, model, tmp_path / "emb", client=client):
        steps.append(step)
        if len(steps) == 3:
            os.kill(victim, signal.SIGKILL)
    assert steps[-1] == (len(expected), len(expected))
    assert features(open_store(volume, model, tmp_path / "emb")) == expected
    assert victim not in _process_ids(client)


def _faults_of_ten_arrays():
    import resource

    def faults():
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

    np.ones(2**18)  # what is kept from now on
    before = faults()
    for _ in range(10):
        np.ones(2**18)
    return faults() - before


@pytest.mark.skipif(
    "CS_GNU_LIBC_VERSION" not in getattr(os, "confstr_names", ()),
    reason="another allocator",
)
def test_workers_keep_memory_from_one_tile_to_the_next(client, volume, tmp_path):
    client.wait_for_workers(2, timeout=20)
    list(encode_volume(volume, ToyModel(64), tmp_path / "emb", client=client))
    pages = 2**18 * 8 // 4096
    assert min(client.run(_faults_of_ten_arrays).values()) < 2 * pages


def test_cancel_ends_within_a_second_and_the_workers_stop(client, volume, tmp_path):
    client.wait_for_workers(2, timeout=20)
    model, event = ToyModel(64, delay_s=0.1), threading.Event()
    path, steps = tmp_path / "emb", []
    for step in encode_volume(
        volume, model, path, client=client, cancel=event, planes=range(6)
    ):
        steps.append(step)
        if len(steps) == 2:
            event.set()
            start = time.perf_counter()
    assert time.perf_counter() - start < 1
    store = open_store(volume, model, path)
    time.sleep(0.6)
    before = store.count()
    time.sleep(0.4)
    assert store.count() == before
    assert before[0] < before[1]
    assert all(not tasks for tasks in client.processing().values())


def test_error_of_a_worker_arrives_as_it_was(client, volume, tmp_path):
    source = volume.source
    steps = encode_volume(volume, ToyModel(64), tmp_path / "emb", client=client)
    next(steps)
    os.rename(source, tmp_path / "moved.npy")
    with pytest.raises(VolumeError, match="no file"):
        list(steps)


def test_array_of_this_process_is_refused(client, tmp_path):
    volume = open_volume(phantom_volume((6, 100, 80)).image)
    with pytest.raises(VolumeError, match="save it"):
        list(encode_volume(volume, ToyModel(64), tmp_path / "emb", client=client))


# -- without a cluster ---------------------------------------------------------------


def task_of(volume, store, model=None):
    model = model or ToyModel(64)
    source = EmbeddingSource.of(volume, model)
    return EncodingTask.of(source, ModelSource.of(model), store, None)


def test_a_worker_encodes_anew_what_was_made_of_other_pixels(tmp_path, monkeypatch):
    # What identifies the image cannot tell: only the tiles can.
    monkeypatch.setattr(Volume, "identity", lambda self: {"uri": "same"})
    image, model = phantom_volume((6, 100, 80)).image[3], ToyModel(64)
    window = IntensityMapping.grey(0, 255)
    for number in range(2):
        np.save(tmp_path / f"{number}.npy", image)
        volume = open_volume(tmp_path / f"{number}.npy")
        store = open_store(volume, model, tmp_path / "emb", intensity=window)
        tiles = tuple(t.number for t in store.grid.tiles())
        source = EmbeddingSource.of(volume, model, window)
        task = EncodingTask.of(source, ModelSource.of(model), store, None)
        region = Region(Plane(()), tiles[: store.grid.n_tiles(0)], store.numbers(0))
        new = encode_task(pickle.dumps(task), region)
        assert new == (0 if number else len(region.numbers))
        found = store.get(0, store.grid.tile(0, 0, 0)).features["colors"]
        seen = source.pixels(Plane(()), store.grid.tile(0, 0, 0).window)
        right = model.encode(seen[None])
        np.testing.assert_array_equal(found, right[0].features["colors"])
        image = image[::-1].copy()


def test_task_can_run_twice_and_in_any_process(volume, expected, tmp_path):
    store = open_store(volume, ToyModel(64), tmp_path / "emb")
    packed = pickle.dumps(task_of(volume, store))
    assert len(packed) < 8192
    region = Region(Plane((2,)), (0, 1, 3))
    assert encode_task(packed, region) == encode_task(packed, region) == 3
    assert features(store) == {k: expected[k] for k in [(2, 0), (2, 1), (2, 3)]}


def test_worker_that_sees_another_image_refuses(volume, tmp_path):
    store = open_store(volume, ToyModel(64), tmp_path / "emb")
    packed = pickle.dumps(task_of(volume, store))
    np.save(volume.source, phantom_volume((6, 100, 80), seed=1).image)
    with pytest.raises(VolumeError, match="same files"):
        encode_task(packed, Region(Plane((0,)), (0,)))
    assert store.count()[0] == 0


def test_worker_that_does_not_see_the_store_refuses(volume, tmp_path):
    store = open_store(volume, ToyModel(64), tmp_path / "emb")
    packed = pickle.dumps(task_of(volume, store))
    os.rename(tmp_path / "emb", tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="no embedding store"):
        encode_task(packed, Region(Plane((0,)), (0,)))


def test_other_weights_under_the_same_name_are_refused(monkeypatch):
    monkeypatch.setattr(
        "napari_sam.models.registry.load_model", lambda name, *, device: ToyModel(64)
    )
    source = ModelSource("nano", b"", "0" * 64, "cpu")
    with pytest.raises(ModelError, match="same file"):
        source.load()


def test_model_that_no_worker_could_load_is_refused():
    class Local(ToyModel):
        """Cannot be pickled: made inside a function."""

    with pytest.raises(ModelError, match="load_model"):
        ModelSource.of(Local(64))


def test_store_object_is_refused(volume):
    from zarr.storage import MemoryStore

    store = open_store(volume, ToyModel(64), MemoryStore())
    with pytest.raises(StoreError, match="path or URL"):
        task_of(volume, store)


@pytest.mark.parametrize("n", [1, 3, 7])
def test_shards_cover_everything_once(volume, expected, tmp_path, n):
    models = [ToyModel(64) for _ in range(n)]
    totals = [
        list(encode_volume(volume, model, tmp_path / "emb", shard=(i, n)))[-1]
        for i, model in enumerate(models)
    ]
    assert all(done == total for done, total in totals)
    assert sum(total for _, total in totals) == len(expected)
    assert sum(m.n_encoded for m in models) == len(expected)
    assert max(m.n_encoded for m in models) <= 2 * len(expected) / n
    assert features(open_store(volume, ToyModel(64), tmp_path / "emb")) == expected


@pytest.mark.parametrize("shard", [(3, 3), (-1, 2), (0, 0)])
def test_shard_that_is_none_is_refused(volume, tmp_path, shard):
    with pytest.raises(NapariSamError, match="shard"):
        list(encode_volume(volume, ToyModel(64), tmp_path / "emb", shard=shard))


def test_scheduler_that_does_not_answer_is_named(monkeypatch):
    import distributed

    def fail(address, timeout):
        raise OSError("timed out")

    monkeypatch.setattr(distributed, "Client", fail)
    with pytest.raises(NapariSamError, match="no scheduler answers at 'tcp://x:1'"):
        with connect("tcp://x:1"):
            pass
