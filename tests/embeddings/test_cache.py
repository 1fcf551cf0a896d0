"""The cache of embeddings: bounded, and never taken from under somebody's feet."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time

import numpy as np
import pytest
import zarr

from napari_sam.embeddings.cache import (
    DEFAULT_LIMIT,
    IN_USE,
    cache_folder,
    cache_limit,
    oldest_beyond,
    prune,
    stored,
)
from napari_sam.embeddings.encode import encode_volume
from napari_sam.embeddings.opening import open_store
from napari_sam.errors import StoreError
from napari_sam.testing import ToyModel
from napari_sam.volume.opening import open_volume


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def image(tmp_path):
    """Make an image on disk, filled with a value."""

    def make(value):
        path = tmp_path / f"image{value}.zarr"
        if not path.exists():
            zarr.create_array(path, data=np.full((64, 64), value, np.uint8))
        return open_volume(path)

    return make


def images():
    return sorted(one.image for one in stored())


def encode(volume):
    list(encode_volume(volume, ToyModel(64)))


def test_the_limit_is_read_from_the_environment(monkeypatch):
    assert cache_limit() == DEFAULT_LIMIT
    for text, limit in (("2 GB", 2 * 10**9), ("500mb", 500 * 10**6), ("none", None)):
        monkeypatch.setenv("NAPARI_SAM_CACHE_LIMIT", text)
        assert cache_limit() == limit
    monkeypatch.setenv("NAPARI_SAM_CACHE_LIMIT", "much")
    with pytest.raises(StoreError, match="NAPARI_SAM_CACHE_LIMIT takes a size"):
        cache_limit()


def test_opening_for_writing_removes_the_oldest_beyond_the_limit(image, monkeypatch):
    for value in range(3):
        encode(image(value))
    for one in stored():
        then = time.time() - 100 * int(one.image[5])
        os.utime(one.path / IN_USE / f"{one.signature.key}.used", (then, then))
    each = stored()[0].size_bytes
    monkeypatch.setenv("NAPARI_SAM_CACHE_LIMIT", f"{2 * each} B")
    with open_store(image(2), ToyModel(64), mode="r"):
        assert len(images()) == 3  # reading removes nothing
    open_store(image(9), ToyModel(64)).close()
    assert images() == ["image0.zarr", "image2.zarr", "image9.zarr"]


def test_embeddings_that_are_open_count_and_stay(image, monkeypatch):
    encode(image(0))
    monkeypatch.setenv("NAPARI_SAM_CACHE_LIMIT", "1 B")
    with open_store(image(0), ToyModel(64)) as held:
        encode(image(1))
        open_store(image(2), ToyModel(64)).close()
        assert "image0.zarr" in images() and "image1.zarr" not in images()
        assert held.get(0, held.grid.tile(0, 0, 0)) is not None


def test_stores_elsewhere_are_not_bounded(image, tmp_path, monkeypatch):
    list(encode_volume(image(0), ToyModel(64), tmp_path / "own.nsam-emb"))
    monkeypatch.setenv("NAPARI_SAM_CACHE_LIMIT", "1 B")
    open_store(image(1), ToyModel(64)).close()
    assert stored(tmp_path / "own.nsam-emb")[0].tiles == 1


def _hold(path, cache, opened, done):
    os.environ["NAPARI_SAM_CACHE"] = cache
    store = open_store(open_volume(path), ToyModel(64))
    opened.set()
    done.wait(30)
    os._exit(0 if store.get(0, store.grid.tile(0, 0, 0)) is not None else 3)


def test_another_process_that_reads_is_never_harmed(image, cache, tmp_path):
    encode(image(0))
    context = multiprocessing.get_context("spawn")
    opened, done = context.Event(), context.Event()
    path = str(tmp_path / "image0.zarr")
    reader = context.Process(target=_hold, args=(path, str(cache), opened, done))
    reader.start()
    assert opened.wait(60)
    assert stored()[0].in_use
    assert prune(stored()) == []
    done.set()
    reader.join(60)
    assert reader.exitcode == 0
    # It ended without closing anything; its lock went with it.
    assert not stored()[0].in_use
    assert len(prune(stored())) == 1
    assert stored() == []


def test_a_store_removed_meanwhile_is_started_anew(image):
    encode(image(0))
    prune(stored())
    encode(image(0))
    assert [one.tiles for one in stored()] == [1]
    assert not list(cache_folder().glob(".deleted-*"))


def test_opening_and_pruning_at_once_lose_nothing(image):
    volume, stop, failures = image(0), threading.Event(), []

    def use():
        try:
            for _ in range(8):
                model = ToyModel(64)
                with open_store(volume, model) as store:
                    list(encode_volume(volume, model, store))
                    assert store.count() == (1, 1)
                    assert store.get(0, store.grid.tile(0, 0, 0)) is not None
        except (StoreError, AssertionError) as error:
            failures.append(error)

    def clear():
        while not stop.is_set():
            prune(stored())

    threads = [threading.Thread(target=use) for _ in range(2)]
    cleaner = threading.Thread(target=clear)
    for thread in (*threads, cleaner):
        thread.start()
    for thread in threads:
        thread.join(120)
    stop.set()
    cleaner.join(30)
    assert failures == []


def test_the_longest_unused_are_chosen_first(image):
    for value in range(3):
        encode(image(value))
    found = stored()
    size = sum(one.size_bytes for one in found)
    assert oldest_beyond(found, size) == []
    assert oldest_beyond(found, size - 1) == found[:1]
    assert oldest_beyond(reversed(found), 0) == found
