"""The embedding store on disk: whole or absent, found again, never someone else's."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zarr

from napari_sam.core.embedding import Embedding
from napari_sam.core.tiles import TileGrid
from napari_sam.embeddings.store import EmbeddingStore
from napari_sam.errors import SignatureError, StoreError
from napari_sam.testing import StoreContract
from napari_sam.testing.contracts import SOURCE

GRID = TileGrid.of((150, 90), 64)
SHAPES = {"a": (3, 4, 4), "b": (2, 8, 8)}
TILE = GRID.tile(0, 1, 0)


class TestFolder(StoreContract):
    def open_store(self, place, signature, mode):
        path = place / "emb"
        return EmbeddingStore.open(
            path, signature, self.grid, self.n_planes, self.shapes, mode=mode
        )


class TestMemoryStore(StoreContract):
    stores: dict = {}  # noqa: RUF012

    def open_store(self, place, signature, mode):
        store = self.stores.setdefault(place, zarr.storage.MemoryStore())
        return EmbeddingStore.open(
            store, signature, self.grid, self.n_planes, self.shapes, mode=mode
        )


signature = StoreContract.signature


def features(seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    made = {k: (rng.normal(size=s) * scale).astype("f4") for k, s in SHAPES.items()}
    return Embedding(made, (64, 64))


def opened(path, mode="a", n_planes=2, **options):
    return EmbeddingStore.open(
        path, signature(), GRID, n_planes, SHAPES, mode=mode, **options
    )


def chunk(path, array, tile=TILE, plane=0):
    parts = [plane, tile.number, 0, 0, 0][: 2 if array == "present" else 5]
    return Path(path, signature().key, array, "c", *map(str, parts))


def test_flag_is_written_after_all_features(tmp_path, monkeypatch):
    store = opened(tmp_path / "emb")
    seen = []
    put = zarr.storage.LocalStore.set

    async def watch(self, key, value):
        seen.append(key.split("/c/")[0].split("/", 1)[1])
        await put(self, key, value)

    monkeypatch.setattr(zarr.storage.LocalStore, "set", watch)
    store.put(0, TILE, features(), SOURCE)
    assert seen == ["features/a", "features/b", "present"]


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        pytest.param(errno.ENOSPC, "disk is full", id="full disk"),
        pytest.param(errno.EROFS, "read-only", id="read-only disk"),
        pytest.param(errno.EIO, "check the path and the connection", id="broken disk"),
    ],
)
def test_disk_error_says_what_to_do_and_keeps_finished_tiles(
    tmp_path, monkeypatch, error, advice
):
    store = opened(tmp_path / "emb")
    store.put(0, TILE, features(), SOURCE)

    async def fail(self, key, value):
        raise OSError(error, "no")

    with monkeypatch.context() as patch:
        patch.setattr(zarr.storage.LocalStore, "set", fail)
        with pytest.raises(StoreError, match=advice):
            store.put(0, GRID.tile(0, 0, 0), features(1), SOURCE)
    again = opened(tmp_path / "emb", "r")
    assert again.numbers(0) == {TILE.number}
    assert again.get(0, TILE) is not None
    store.put(0, GRID.tile(0, 0, 0), features(1), SOURCE)
    assert again.count()[0] == 2


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-5])


def _flip(path):
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [_truncate, _flip, Path.unlink])
def test_damaged_tile_is_told_and_can_be_encoded_again(tmp_path, damage):
    path = tmp_path / "emb"
    with opened(path) as store:
        store.put(0, TILE, features(), SOURCE)
        store.put(1, TILE, features(1), SOURCE)
    damage(chunk(path, "features/b"))
    store = opened(path)
    with pytest.raises(StoreError, match=r"damaged.*discard"):
        store.get(0, TILE)
    assert store.get(1, TILE) is not None
    store.discard(0, TILE)
    store.put(0, TILE, features(), SOURCE)
    assert opened(path).get(0, TILE) is not None


def test_the_same_tile_put_by_two_is_never_missed_between(tmp_path, monkeypatch):
    path = tmp_path / "emb"
    first, second = opened(path), opened(path)
    first.put(0, TILE, features(), SOURCE)
    seen = []
    write = zarr.Array.__setitem__

    def watched(array, key, value):
        write(array, key, value)
        seen.append(first.count()[0])

    monkeypatch.setattr(zarr.Array, "__setitem__", watched)
    second.put(0, TILE, features(), SOURCE)
    assert 0 not in seen and second.get(0, TILE, SOURCE) is not None
    second.put(0, TILE, features(1), SOURCE)  # another one has to be replaced
    assert 0 in seen
    np.testing.assert_allclose(
        opened(path).get(0, TILE).features["a"], features(1).features["a"], atol=1e-3
    )


def test_unfinished_tile_does_not_count(tmp_path):
    path = tmp_path / "emb"
    with opened(path) as store:
        store.put(0, TILE, features(), SOURCE)
    chunk(path, "present").rename(chunk(path, "present").with_suffix(".x.partial"))
    store = opened(path)
    assert store.count()[0] == 0
    assert store.get(0, TILE) is None


@pytest.mark.parametrize("mode", ["a", "r", "r+"])
def test_foreign_folder_is_refused_and_left_alone(tmp_path, mode):
    (tmp_path / "thesis.txt").write_text("words")
    with pytest.raises(StoreError, match="embedding store"):
        opened(tmp_path, mode)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_foreign_zarr_is_refused_and_left_alone(tmp_path):
    zarr.create_group(tmp_path / "image.zarr", attributes={"ome": {"version": "0.5"}})
    with pytest.raises(StoreError, match="not an embedding store"):
        opened(tmp_path / "image.zarr")
    assert [p.name for p in (tmp_path / "image.zarr").iterdir()] == ["zarr.json"]


def test_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "emb").write_text("words")
    with pytest.raises(StoreError, match="emb"):
        opened(tmp_path / "emb")
    with pytest.raises(StoreError, match="emb"):
        opened(tmp_path / "emb" / "below")
    assert (tmp_path / "emb").read_text() == "words"


def test_broken_metadata_is_told(tmp_path):
    opened(tmp_path / "emb").close()
    (tmp_path / "emb" / signature().key / "zarr.json").write_text("{")
    with pytest.raises(StoreError, match="delete it"):
        opened(tmp_path / "emb")


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_missing_store_is_not_made_by_reading(tmp_path, mode):
    with pytest.raises(StoreError, match="there is no embedding store"):
        opened(tmp_path / "emb", mode)
    assert not (tmp_path / "emb").exists()


def test_same_signature_with_another_plane_count_is_refused(tmp_path):
    opened(tmp_path / "emb").close()
    with pytest.raises(SignatureError, match="n_planes: wanted 5, stored 2"):
        opened(tmp_path / "emb", n_planes=5)


def test_half_made_store_is_completed(tmp_path):
    path = tmp_path / "emb"
    opened(path).close()
    (path / signature().key / "present" / "zarr.json").unlink()
    store = opened(path)
    store.put(0, TILE, features(), SOURCE)
    assert store.count()[0] == 1


def test_list_names_what_is_there(tmp_path):
    opened(tmp_path / "emb").close()
    assert EmbeddingStore.list(tmp_path / "emb") == (signature(),)
    with pytest.raises(StoreError, match="there is no embedding store"):
        EmbeddingStore.list(tmp_path / "other")


def test_values_beyond_float16_are_clipped_and_logged(tmp_path, caplog):
    huge = features()
    huge.features["a"][0, 0, 0] = 1e6
    huge.features["a"][0, 0, 1] = -1e6
    store = opened(tmp_path / "emb")
    with caplog.at_level(logging.WARNING):
        store.put(0, TILE, huge, SOURCE)
    found = store.get(0, TILE).features["a"]
    assert found[0, 0, :2].tolist() == [65504, -65504]
    assert np.isfinite(found).all()
    assert "dtype='float32'" in caplog.text


def test_float32_store_keeps_values_exactly(tmp_path):
    huge = features(scale=1e6)
    opened(tmp_path / "emb", dtype="float32").put(0, TILE, huge, SOURCE)
    found = opened(tmp_path / "emb").get(0, TILE)  # an existing store keeps its dtype
    np.testing.assert_array_equal(found.features["a"], huge.features["a"])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(tmp_path, bad):
    broken = features()
    broken.features["b"][0, 0, 0] = bad
    store = opened(tmp_path / "emb")
    with pytest.raises(StoreError, match="NaN or infinite"):
        store.put(0, TILE, broken, SOURCE)
    assert store.count()[0] == 0


def test_huge_plane_opens_at_once_and_costs_nothing(tmp_path):
    grid = TileGrid.of((100_000, 100_000), 512)
    start = time.perf_counter()
    store = EmbeddingStore.open(
        tmp_path / "emb", signature(), grid, 100, {"f": (256, 64, 64)}
    )
    done, total = store.count()
    assert time.perf_counter() - start < 1
    assert (done, total) == (0, 100 * grid.n_tiles())
    assert sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file()) < 20_000


def test_memory_keeps_the_tiles_last_used(tmp_path, monkeypatch):
    tile_bytes = 2 * sum(np.prod(s) for s in SHAPES.values())
    tiles = list(GRID.tiles(0))[:3]
    store = opened(tmp_path / "emb", cache_bytes=2 * tile_bytes)
    for tile in tiles[:2]:
        store.put(0, tile, features(), SOURCE)
    first = store.get(0, tiles[0])
    store.put(0, tiles[2], features(), SOURCE)  # pushes out tiles[1], used longest ago
    assert store.get(0, tiles[0]) is first
    loaded = store.get(0, tiles[1])
    assert loaded is not None
    assert store.get(0, tiles[1]) is loaded
    assert store.get(0, tiles[0]) is not None


def test_zip_file_holds_a_store(tmp_path):
    path = tmp_path / "emb.zip"
    with opened(path) as store:
        store.put(0, TILE, features(), SOURCE)
    assert opened(path, "r").get(0, TILE) is not None


def _put_every_second(path, first):
    store = opened(path)
    for tile in list(GRID.tiles())[first::2]:
        for plane in range(2):
            store.put(plane, tile, features(tile.number), SOURCE)


def test_two_processes_lose_nothing(tmp_path):
    path = tmp_path / "emb"
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_put_every_second, args=(path, i)) for i in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    store = opened(path, "r")
    assert store.count() == (2 * GRID.n_tiles(), 2 * GRID.n_tiles())
    for tile in GRID.tiles():
        expected = features(tile.number).features["a"].astype("f2")
        np.testing.assert_array_equal(store.get(1, tile).features["a"], expected)


def test_store_can_be_started_by_several_at_once(tmp_path):
    with ThreadPoolExecutor(4) as pool:
        for i in range(15):
            path = tmp_path / str(i)
            stores = list(pool.map(opened, [path] * 4))
            stores[0].put(1, TILE, features(), SOURCE)
            assert [s.count()[0] for s in stores] == [1] * 4


def test_leftover_of_a_killed_writer_is_overlooked(tmp_path):
    path = tmp_path / "emb"
    path.mkdir()
    (path / "zarr.0123.partial").write_text("{")
    opened(path).close()
    (path / signature().key / "zarr.0123.partial").write_text("{")
    (path / signature().key / "features" / "a" / "zarr.0123.partial").write_text("{")
    assert opened(path, "r").count()[0] == 0
    assert EmbeddingStore.list(path) == (signature(),)


def test_place_outside_the_store_is_refused(tmp_path):
    store = opened(tmp_path / "emb")
    with pytest.raises(StoreError, match=r"no tile \d+ of plane 2"):
        store.put(2, TILE, features(), SOURCE)
    with pytest.raises(StoreError, match="of plane -1"):
        store.has(-1, TILE)
