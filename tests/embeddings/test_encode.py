"""Encoding volumes: resumable, cancellable, counted, and where it puts its tiles."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import zarr

from napari_sam.core.intensity import IntensityMapping
from napari_sam.core.planes import Plane
from napari_sam.core.tiles import Window
from napari_sam.embeddings.encode import encode_volume
from napari_sam.embeddings.estimate import estimate_encoding
from napari_sam.embeddings.opening import default_store_path, open_store, path_beside
from napari_sam.embeddings.source import EmbeddingSource, grid_for
from napari_sam.embeddings.store import EmbeddingStore
from napari_sam.embeddings.tile_batches import regions
from napari_sam.errors import NapariSamError, StoreError, VolumeError
from napari_sam.testing import ToyModel, phantom_image, phantom_volume
from napari_sam.volume.opening import open_volume


@pytest.fixture
def volume():
    return open_volume(phantom_volume((6, 100, 80)).image)


@pytest.fixture
def model():
    return ToyModel(64)


def run(*args, **options):
    return list(encode_volume(*args, **options))


def test_every_tile_is_encoded_once_and_counted(volume, model, tmp_path):
    steps = run(volume, model, tmp_path / "emb")
    total = 6 * grid_for(volume, model).n_tiles()
    assert steps == [(n, total) for n in range(total + 1)]
    assert model.n_encoded == total
    assert open_store(volume, model, tmp_path / "emb").count() == (total, total)


def test_stored_tile_is_the_models_answer_to_its_window(volume, model, tmp_path):
    run(volume, model, tmp_path / "emb", planes=[4], levels=[1])
    store = open_store(volume, model, tmp_path / "emb", mode="r")
    tile = store.grid.tile(1, 0, 0)
    pixels = volume.intensity.apply(volume.read(Plane((4,)), tile.window))
    expected = model.encode(pixels[None])[0].features["colors"]
    np.testing.assert_array_equal(store.get(4, tile).features["colors"], expected)


def test_second_run_encodes_nothing(volume, model, tmp_path):
    total = run(volume, model, tmp_path / "emb")[-1][1]
    again = ToyModel(64)
    assert set(run(volume, again, tmp_path / "emb")) == {(total, total)}
    assert again.n_encoded == 0


def test_stopped_run_goes_on_where_it_was(volume, model, tmp_path):
    first = encode_volume(volume, model, tmp_path / "emb")
    for _ in range(6):
        done, total = next(first)
    first.close()
    again = ToyModel(64)
    steps = run(volume, again, tmp_path / "emb")
    assert steps[0] == (done, total) == (5, total)
    assert steps[-1] == (total, total)
    assert model.n_encoded + again.n_encoded == total


def test_planes_axis_and_levels_choose_the_tiles(volume, model, tmp_path):
    steps = run(volume, model, tmp_path / "emb", planes=[3, -1, 3], axis=1, levels=[0])
    store = open_store(volume, model, tmp_path / "emb", axis=1)
    per_plane = store.grid.n_tiles(0)
    assert steps[-1] == (2 * per_plane, 2 * per_plane)
    expected = {t.number for t in store.grid.tiles(0)}
    assert store.numbers(3) == store.numbers(99) == expected
    assert store.count()[0] == 2 * per_plane


def test_coarsest_level_comes_first(volume, model, tmp_path):
    steps = encode_volume(volume, model, tmp_path / "emb", planes=[0])
    next(steps), next(steps)
    store = open_store(volume, model, tmp_path / "emb")
    [number] = store.numbers(0)
    assert store.grid.tile_by_number(number).level == store.grid.n_levels - 1


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_batches_change_nothing_but_the_number_of_calls(volume, tmp_path, batch_size):
    one, many = ToyModel(64), ToyModel(64)
    run(volume, one, tmp_path / "one", planes=[2])
    steps = run(volume, many, tmp_path / "many", planes=[2], batch_size=batch_size)
    assert steps[-1][0] == steps[-1][1] == many.n_encoded == one.n_encoded
    assert len(steps) == 1 + many.n_encode_calls
    a = open_store(volume, one, tmp_path / "one")
    b = open_store(volume, many, tmp_path / "many")
    for tile in a.grid.tiles():
        np.testing.assert_array_equal(
            a.get(2, tile).features["colors"], b.get(2, tile).features["colors"]
        )


@pytest.mark.parametrize("kind", ["event", "callable"])
def test_cancel_ends_within_a_second_and_keeps_the_rest(volume, tmp_path, kind):
    model, event = ToyModel(64, delay_s=0.05), threading.Event()
    cancel = event if kind == "event" else event.is_set
    stopped = []

    def work():
        for step in encode_volume(volume, model, tmp_path / "emb", cancel=cancel):
            stopped.append(step)

    thread = threading.Thread(target=work)
    thread.start()
    while len(stopped) < 3:
        time.sleep(0.005)
    event.set()
    start = time.perf_counter()
    thread.join()
    assert time.perf_counter() - start < 1
    done, total = stopped[-1]
    assert done < total
    assert open_store(volume, model, tmp_path / "emb").count()[0] == done


_VICTIM = """
import sys
from napari_sam.embeddings.encode import encode_volume
from napari_sam.volume.opening import open_volume
from napari_sam.testing import ToyModel, phantom_volume
volume = open_volume(phantom_volume((6, 100, 80)).image)
for done, total in encode_volume(volume, ToyModel(64, delay_s=0.01), sys.argv[1]):
    print(done, total, flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
def test_killed_process_loses_no_finished_tile(volume, model, tmp_path):
    path = tmp_path / "emb"
    victim = subprocess.Popen(
        [sys.executable, "-c", _VICTIM, str(path)], stdout=subprocess.PIPE, text=True
    )
    with victim:
        for line in victim.stdout:
            done, total = map(int, line.split())
            if done == 9:
                break
        victim.send_signal(signal.SIGKILL)
    assert victim.returncode == -signal.SIGKILL
    store = open_store(volume, model, path)
    present = [(p, n) for p in range(6) for n in sorted(store.numbers(p))]
    assert 9 <= len(present) < total
    before = {key: _bytes(store, *key) for key in present}
    steps = run(volume, model, path)
    assert steps[0][0] == len(present)
    assert steps[-1] == (total, total)
    assert model.n_encoded == total - len(present)
    reference = tmp_path / "reference"
    run(volume, ToyModel(64), reference)
    whole, clean = (open_store(volume, model, p) for p in (path, reference))
    for key, data in before.items():
        assert _bytes(whole, *key) == data
    for plane in range(6):
        for tile in whole.grid.tiles():
            key = plane, tile.number
            assert _bytes(whole, *key) == _bytes(clean, *key)


def _bytes(store, plane, number):
    tile = store.grid.tile_by_number(number)
    return store.get(plane, tile).features["colors"].tobytes()


def test_error_in_the_middle_keeps_what_was_done(volume, model, tmp_path, monkeypatch):
    put = EmbeddingStore.put

    def full(self, *args):
        if self.count()[0] == 4:
            raise StoreError("the disk is full")
        put(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(EmbeddingStore, "put", full)
        with pytest.raises(StoreError, match="full"):
            run(volume, model, tmp_path / "emb")
    assert next(encode_volume(volume, model, tmp_path / "emb"))[0] == 4


def test_intensity_is_part_of_the_signature(volume, model, tmp_path):
    run(volume, model, tmp_path / "emb", planes=[0])
    dark = IntensityMapping.grey(0, 1000)
    steps = run(volume, model, tmp_path / "emb", planes=[0], intensity=dark)
    assert steps[0][0] == 0
    assert len(EmbeddingStore.list(tmp_path / "emb")) == 2


def test_intensity_given_is_the_one_used(volume, model, tmp_path):
    dark = IntensityMapping.grey(0, 1000)
    run(volume, model, tmp_path / "emb", planes=[0], intensity=dark)
    store = open_store(volume, model, tmp_path / "emb", intensity=dark)
    top = store.get(0, store.grid.tile(0, 0, 0)).features["colors"].max()
    assert 0 < top < 80


@pytest.mark.parametrize(
    ("change", "field"),
    [
        pytest.param({"axis": 2}, "axis", id="axis"),
        pytest.param({"model": ToyModel(32)}, "tile_side", id="tile side"),
        pytest.param({"model": ToyModel(64, stride=2)}, "checkpoint_sha256", id="file"),
        pytest.param({"volume": 1}, "source", id="image"),
    ],
)
def test_signature_differs_when_anything_differs(volume, model, change, field):
    base = EmbeddingSource.of(volume, model).signature()
    if "volume" in change:
        change["volume"] = open_volume(phantom_volume((6, 100, 80), seed=1).image)
    given = {"volume": volume, "model": model, "axis": 0, **change}
    other = EmbeddingSource.of(given["volume"], given["model"]).signature(given["axis"])
    assert field in base.differences(other)
    assert base.key != other.key


def test_open_store_can_be_passed_and_must_fit(volume, model, tmp_path):
    store = open_store(volume, model, tmp_path / "emb")
    run(volume, model, store, planes=[1])
    assert store.count()[0] == store.grid.n_tiles()
    other = open_volume(phantom_volume((6, 100, 80), seed=2).image)
    with pytest.raises(StoreError, match="source"):
        run(other, model, store)


def test_tile_that_a_click_encoded_meanwhile_is_not_encoded_again(
    volume, model, tmp_path
):
    store = open_store(volume, model, tmp_path / "emb")
    steps = encode_volume(volume, model, store, planes=[0])
    next(steps)
    tile = store.grid.tile(0, 0, 0)
    clicked = model.encode(np.zeros((1, 64, 64, 3), np.uint8))[0]
    store.put(0, tile, clicked, 1)
    *_, last = steps
    assert last[0] == last[1]
    assert not store.get(0, tile).features["colors"].any()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        pytest.param({"planes": [6]}, VolumeError, id="plane"),
        pytest.param({"axis": 3}, VolumeError, id="axis"),
        pytest.param({"levels": [9]}, NapariSamError, id="level"),
        pytest.param({"levels": []}, NapariSamError, id="no level"),
        pytest.param({"planes": []}, NapariSamError, id="no plane"),
        pytest.param({"client": object()}, NapariSamError, id="client"),
    ],
)
def test_bad_choices_are_refused(volume, model, tmp_path, options, error):
    with pytest.raises(error):
        run(volume, model, tmp_path / "emb", **options)
    assert model.n_encoded == 0


def test_axis_of_a_2d_image_can_only_be_0(model, tmp_path):
    image = open_volume(phantom_image((64, 64)).image)
    with pytest.raises(VolumeError, match="one plane"):
        run(image, model, tmp_path / "emb", axis=1)


def test_the_estimate_says_what_encoding_will_take(volume, model, tmp_path):
    plan = estimate_encoding(volume, model, planes=[0, 1])
    run(volume, model, tmp_path / "emb", planes=[0, 1])
    files = [p for p in tmp_path.rglob("c/**/*") if p.is_file()]
    assert plan.tiles == open_store(volume, model, tmp_path / "emb").count()[0]
    assert plan.disk_bytes == sum(p.stat().st_size for p in files)


def test_plan_of_a_huge_image_reads_nothing(model):
    huge = open_volume(np.broadcast_to(np.uint8(0), (100_000, 100_000)))
    plan = estimate_encoding(huge, model, levels=[0])
    assert plan.tiles == ((100_000 - 16 + 47) // 48) ** 2


def test_regions_own_every_tile_once(volume, model):
    grid = grid_for(volume, model)
    owned = [
        n
        for region in regions(Plane((0,)), grid, range(grid.n_levels), n_tiles=3)
        for n in region.numbers
    ]
    assert sorted(owned) == list(range(grid.n_tiles()))


def test_peak_of_what_is_read_is_one_tile(model, tmp_path, monkeypatch):
    volume = open_volume(np.broadcast_to(np.uint8(7), (3000, 3000)))
    sizes = []
    read = type(volume).read

    def watch(self, plane, window):
        sizes.append(max(window.h, window.w))
        return read(self, plane, window)

    monkeypatch.setattr(type(volume), "read", watch)
    steps = encode_volume(
        volume, ToyModel(256), tmp_path / "emb", intensity=IntensityMapping()
    )
    for _ in range(4):
        next(steps)
    assert max(sizes) <= 256
    assert len(sizes) == 3


def test_stores_go_to_the_users_cache_and_find_images_that_moved(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "cells.zarr"
    zarr.create_array(path, data=phantom_image((64, 64)).image)
    found = default_store_path(open_volume(path))
    assert found.parent == tmp_path / "cache" / "embeddings"
    assert found.name.startswith("cells.zarr-")
    run(open_volume(path), ToyModel(64))
    assert (found / "zarr.json").is_file()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "cells.zarr"]

    (tmp_path / "elsewhere").mkdir()
    moved = path.rename(tmp_path / "elsewhere" / "cells.zarr")
    again = ToyModel(64)
    run(open_volume(moved), again)
    assert again.n_encoded == 0


def test_stores_lie_beside_the_data_on_request_only(tmp_path):
    path = tmp_path / "cells.zarr"
    zarr.create_array(path, data=phantom_image((64, 64)).image)
    run(open_volume(path), ToyModel(64), True)
    assert (tmp_path / "cells.zarr.nsam-emb" / "zarr.json").is_file()


def test_a_store_is_never_inside_a_dicom_series(tmp_path):
    from pydicom.data import get_testdata_file

    series = tmp_path / "series"
    series.mkdir()
    shutil.copy(get_testdata_file("CT_small.dcm"), series / "a.dcm")
    for source in (series, series / "a.dcm"):
        volume = open_volume(source)
        for where in (None, True):
            run(volume, ToyModel(64), where, levels=[0])
    assert [p.name for p in series.iterdir()] == ["a.dcm"]
    beside = sorted(p.name for p in tmp_path.glob("series?*"))
    assert beside == ["series-a.dcm.nsam-emb", "series.nsam-emb"]


def test_an_array_in_memory_has_no_store_by_default(volume, model, tmp_path):
    with pytest.raises(StoreError, match=r"array in memory.*give the path"):
        run(volume, model)
    with pytest.raises(StoreError, match="lie beside"):
        run(volume, model, True)
    assert model.n_encoded == 0
    assert run(volume, model, tmp_path / "emb", planes=[0])[-1][0] > 0


def test_remote_and_file_urls_are_told_apart(tmp_path):
    class Source:
        metadata: dict = {}  # noqa: RUF012
        name = "image"

        def __init__(self, source):
            self.source = source

    local = path_beside(Source((tmp_path / "a b.zarr").as_uri()))
    assert local == tmp_path / "a b.zarr.nsam-emb"
    for remote in ("s3://bucket/image.zarr", "https://host/image.zarr"):
        with pytest.raises(StoreError, match="no file or folder"):
            path_beside(Source(remote))


@pytest.fixture
def same_identity(monkeypatch):
    monkeypatch.setattr(
        "napari_sam.volume.volume.Volume.identity",
        lambda self: {"uri": "image", "shape": [3, 100, 80]},
    )


def _image(value):
    image = np.zeros((3, 100, 80), np.uint8)
    image[1:, 40:60, 20:40] = value
    image[2, 90:, 70:] = value
    return open_volume(image).with_intensity((0, 255))


def _features(volume, path):
    store = open_store(volume, ToyModel(64), path, mode="r")
    return [
        store.get(plane, tile).features["colors"].tobytes()
        for plane in range(store.n_planes)
        for tile in store.grid.tiles()
    ]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_tiles_of_pixels_that_changed_are_encoded_anew(
    tmp_path, same_identity, batch_size
):
    path, model = tmp_path / "emb", ToyModel(64)
    total = run(_image(50), ToyModel(64), path)[-1][1]
    steps = run(_image(90), model, path, batch_size=batch_size)
    assert set(steps) == {(total, total)}
    assert 0 < model.n_encoded < total  # the first plane is as it was
    run(_image(90), ToyModel(64), tmp_path / "new")
    assert _features(_image(90), path) == _features(_image(90), tmp_path / "new")
    assert run(_image(50), ToyModel(64), path, check=False) == [(total, total)]


def test_window_of_the_grid_is_the_models_side(volume, model):
    grid = grid_for(volume, model, axis=2)
    assert grid.shape == (6, 100)
    assert grid.tile(0, 0, 0).window == Window(0, 0, 0, 6, 64)
