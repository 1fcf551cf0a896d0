"""Engine: one frozen snapshot, whose answers are of the pixels that are there now."""

from __future__ import annotations

import dataclasses
import threading

import numpy as np
import pytest
from PIL import Image

from napari_sam.core.intensity import IntensityMapping
from napari_sam.core.planes import Plane
from napari_sam.core.tiles import Window
from napari_sam.embeddings.cache import cache_folder, stored
from napari_sam.embeddings.encode import encode_volume
from napari_sam.embeddings.opening import open_store
from napari_sam.engine.engine import Engine
from napari_sam.testing import ToyModel
from napari_sam.volume.opening import open_volume

HERE = Plane(())


def picture(y=20, x=20, side=60):
    image = np.zeros((1024, 1024), np.uint8)
    image[y : y + side, x : x + side] = 200
    return image


def colors(engine, window=None):
    whole = window or engine.grid().tile(0, 0, 0).window
    return np.asarray(engine.embedding(HERE, whole).features["colors"], float)


def fresh(array, window=None):
    """What an engine without any memory makes of the same pixels."""
    volume = open_volume(array).with_intensity((0, 255))
    return colors(Engine.of(volume, ToyModel(1024)), window)


@pytest.fixture
def same_identity(monkeypatch, tmp_path):
    """Images that their identity cannot tell apart, and a cache of their own."""
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        "napari_sam.volume.volume.Volume.identity", lambda self: {"uri": "same"}
    )


def test_nothing_of_an_engine_can_be_replaced():
    engine = Engine.of(open_volume(picture()), ToyModel())
    with pytest.raises(dataclasses.FrozenInstanceError):
        engine.source = None
    other = engine.using(intensity=IntensityMapping.grey(0, 400))
    assert other.model is engine.model and other.volume is engine.volume
    assert engine.intensity != other.intensity
    assert other.stores(0) is engine.stores(0) is None


@pytest.mark.parametrize("stored_first", [True, False])
def test_an_array_changed_in_place_is_never_answered_from_before(
    tmp_path, stored_first
):
    image = picture()
    volume, model = open_volume(image).with_intensity((0, 255)), ToyModel(1024)
    if stored_first:
        list(encode_volume(volume, model, tmp_path / "emb"))
    engine = Engine.of(volume, model, embeddings=tmp_path / "emb")
    before, encoded = colors(engine), model.n_encoded
    assert np.array_equal(colors(engine), before)
    assert model.n_encoded == encoded == 1
    image[500:560, 500:700] = 200
    assert np.array_equal(colors(engine), fresh(image))
    assert not np.array_equal(colors(engine), before)
    assert model.n_encoded == 2
    image[500:560, 500:700] = 0
    assert np.array_equal(colors(engine), before)


def test_averaged_windows_of_a_changed_array_are_read_anew():
    image = np.zeros((2048, 2048), np.uint8)
    volume = open_volume(image).with_intensity((0, 255))
    engine = Engine.of(volume, ToyModel(128))
    whole = Window(4, 0, 0, 128, 128)
    assert not colors(engine, whole).any()
    image[1000:1200, 1000:1200] = 200
    assert colors(engine, whole).any()


def test_a_file_that_was_rewritten_is_not_answered_from_its_old_embeddings(
    tmp_path, same_identity
):
    path = tmp_path / "cells.png"
    for image in (picture(20, 20), picture(300, 220), picture(300, 220)):
        Image.fromarray(image).save(path)
        model = ToyModel(1024)
        volume = open_volume(path).with_intensity((0, 255))
        engine = Engine.of(volume, model, embeddings=None)
        assert np.array_equal(colors(engine), fresh(image))
    assert model.n_encoded == 0, "the tile was replaced in the store"
    assert [one.tiles for one in stored()] == [1]


def test_arrays_without_a_name_share_nothing(same_identity):
    for image in (picture(20, 20), picture(300, 220)):
        volume = open_volume(image).with_intensity((0, 255))
        engine = Engine.of(volume, ToyModel(1024), embeddings=None)
        assert np.array_equal(colors(engine), fresh(image))
        assert engine.stores(0).numbers(0) == {0}
    assert not cache_folder().exists()


def test_a_tile_that_was_compared_is_not_read_again(tmp_path, monkeypatch):
    path = tmp_path / "cells.zarr"
    import zarr

    zarr.create_array(path, data=picture())
    volume, model = open_volume(path), ToyModel(1024)
    list(encode_volume(volume, model, tmp_path / "emb"))
    store = open_store(volume, model, tmp_path / "emb")
    first = Engine.of(volume, model, stores=lambda axis: store)
    colors(first)
    monkeypatch.setattr(type(volume), "read", None)
    assert colors(Engine.of(volume, model, stores=lambda axis: store)).any()
    assert model.n_encoded == 1


def test_what_an_engine_still_encodes_is_kept_under_its_own_name(tmp_path):
    image = np.zeros((100, 100), np.uint16)
    image[20:60, 20:60], image[20:60, 60:90] = 1000, 3000
    started, go = threading.Event(), threading.Event()

    class Slow(ToyModel):
        def encode(self, windows):
            started.set()
            go.wait(10)
            return super().encode(windows)

    narrow, wide = IntensityMapping.grey(0, 1000), IntensityMapping.grey(0, 4000)
    volume, path = open_volume(image), tmp_path / "emb"
    old = Engine.of(volume, Slow(128), intensity=narrow, embeddings=path)
    window = old.grid().tile(0, 0, 0).window
    thread = threading.Thread(target=old.embedding, args=(HERE, window))
    thread.start()
    started.wait()
    new = old.using(model=ToyModel(128), intensity=wide)
    go.set()
    thread.join()
    for intensity in (narrow, wide):
        alone = Engine.of(volume, ToyModel(128), intensity=intensity)
        shared = Engine.of(volume, ToyModel(128), intensity=intensity, embeddings=path)
        assert np.array_equal(colors(shared, window), colors(alone, window))
    assert not np.array_equal(colors(new, window), colors(old, window))


def test_stores_of_arrays_are_bounded(monkeypatch):
    monkeypatch.setattr("napari_sam.embeddings.opening.MEMORY_BYTES", 40_000)
    stack = np.random.default_rng(0).integers(0, 255, (30, 64, 64), np.uint8)
    model = ToyModel(64)
    engine = Engine.of(open_volume(stack), model, embeddings=None, cache_bytes=1)
    store = engine.stores(0)
    window = engine.grid().tile(0, 0, 0).window
    one = engine.embedding(Plane((0,)), window).nbytes
    for z in range(1, 30):
        engine.embedding(Plane((z,)), window)
    kept = [z for z in range(30) if store.numbers(z)]
    assert kept == list(range(30 - 40_000 // one, 30))
    held = sum(len(v.to_bytes()) for v in store.path._store_dict.values())
    assert held < 60_000
    engine.embedding(Plane((29,)), window)
    assert model.n_encoded == 30


def _read_often(folder, value, stop, right):
    """Ask again and again for a tile, and count answers for other pixels."""
    image = np.full((64, 64), value, np.uint8)
    expected = colors(Engine.of(_flat(image), ToyModel(64)), Window(0, 0, 0, 64, 64))
    wrong = asked = 0
    while not stop.is_set() or asked < 5:
        engine = Engine.of(_flat(image), ToyModel(64), embeddings=folder)
        found = colors(engine, Window(0, 0, 0, 64, 64))
        wrong += not np.array_equal(found, expected)
        asked += 1
    right.append((asked, wrong))


def _flat(image):
    return open_volume(image).with_intensity((0, 255))


def test_readers_beside_each_other_get_their_own_pixels(tmp_path, same_identity):
    """Two see different pixels under one name, and replace each other's tile."""
    stop, answers = threading.Event(), []
    folder = tmp_path / "emb"
    threads = [
        threading.Thread(target=_read_often, args=(folder, value, stop, answers))
        for value in (40, 90, 90)
    ]
    for thread in threads:
        thread.start()
    threads[0].join(2)
    stop.set()
    for thread in threads:
        thread.join(60)
    assert len(answers) == 3
    assert all(asked >= 5 and wrong == 0 for asked, wrong in answers)
