"""Embedding ahead of clicks: by itself, paused, resumed, after closing, remote."""

import threading

import numpy as np
import pytest
import zarr

from napari_sam._napari import encoding
from napari_sam._napari.encoding import describe_workers, duration
from napari_sam._napari.layer_data import layer_data
from napari_sam._napari.plane_view import shown_view
from napari_sam.core.planes import Plane
from napari_sam.embeddings import distribute
from napari_sam.embeddings.distribute import connect
from napari_sam.errors import NapariSamError
from napari_sam.testing import ToyModel, phantom_volume
from napari_sam.volume.opening import open_volume


@pytest.fixture(autouse=True)
def still(monkeypatch):
    monkeypatch.setattr(encoding, "STILL_S", 0.0)


@pytest.fixture(scope="module")
def wide():
    return phantom_volume((6, 200, 260), n_objects=3, noise=0, seed=3)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Where embeddings of files go."""
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def show(desk, y0, x0, y1, x1, zoom=1.0):
    """Stand for a canvas that has been drawn."""
    layer = desk.annotation.image
    corners = np.zeros((2, layer.ndim), int)
    corners[:, -2:] = (y0, x0), (y1 - 1, x1 - 1)
    layer.corner_pixels = corners
    desk.viewer.scene.camera.zoom = zoom * (
        1 + 1e-9 * np.random.default_rng(y0).random()
    )
    desk.viewer.scene.camera.center = (0, (y0 + y1) / 2, (x0 + x1) / 2)
    desk.main.settle()


def open_file(desk, image, folder):
    """Open an image as File > Open does: a file, which has a name."""
    path = folder / "image.zarr"
    if not path.exists():
        zarr.create_array(path, data=image, chunks=(1, *image.shape[1:]))
    (data, options, _), *_ = layer_data(open_volume(path))
    return desk.open(data, **options)


def there(desk):
    store = desk.session.engine.stores(0)
    return {
        (plane, store.grid.tile_by_number(n))
        for plane in range(6)
        for n in store.numbers(plane)
    }


def begin(desk, tiles=30):
    """Embed everything until some tiles are there."""
    desk.model.delay_s = 0.03
    desk.controller.embed()
    desk.main.pump(lambda: desk.state.encoding.done >= tiles)


def test_what_the_view_shows_is_embedded_by_itself_and_nothing_else(desk, wide, cache):
    desk.open(wide.image)  # not drawn yet: the whole plane counts as shown
    store = desk.session.engine.stores(0)
    assert len(there(desk)) == len(store.numbers(2)) == store.grid.n_tiles(0)
    desk.viewer.dims.set_current_step(0, 0)
    show(desk, 0, 0, 50, 60)
    assert store.numbers(0) >= {0}
    desk.viewer.dims.set_current_step(0, 4)
    show(desk, 120, 180, 160, 230)
    assert {p for p, _ in there(desk)} == {0, 2, 4}
    new = [t for p, t in there(desk) if p == 4]
    assert all(t.level == 0 and t.core.y0 + t.core.h > 120 for t in new)
    assert desk.model.n_encoded == len(there(desk))
    show(desk, 0, 0, 200, 260, zoom=0.2)
    assert {t.level for p, t in there(desk) if p == 4} == {0, 2}


def test_nothing_is_embedded_by_itself_once_that_is_switched_off(desk, wide, cache):
    desk.open(wide.image)
    n = desk.model.n_encoded
    desk.controller.encoding.set_ahead(False)
    desk.viewer.dims.set_current_step(0, 0)
    show(desk, 0, 0, 50, 60)
    assert len(there(desk)) == desk.model.n_encoded == n
    desk.controller.encoding.set_ahead(True)
    desk.main.settle()
    assert len(there(desk)) == desk.model.n_encoded == n + 2


def test_everything_is_embedded_in_the_order_of_the_view(desk, wide, cache):
    desk.open(wide.image)
    desk.controller.encoding.set_ahead(False)
    desk.viewer.dims.set_current_step(0, 5)
    show(desk, 100, 150, 160, 210)
    seen = []
    desk.controller.board.changed.connect(lambda s: seen.append(s.encoding))
    begin(desk, len(there(desk)) + 2)
    assert {p for p, _ in there(desk)} == {2, 5}
    assert desk.state.encoding.phase == "all"
    desk.viewer.dims.set_current_step(0, 0)
    desk.main.pump(lambda: any(p == 0 for p, _ in there(desk)))
    assert not {p for p, _ in there(desk)} & {1, 3, 4}
    desk.model.delay_s = 0
    desk.main.settle()
    store = desk.session.engine.stores(0)
    assert store.count() == (6 * store.grid.n_tiles(),) * 2
    assert desk.state.encoding.phase == "idle"
    assert "All planes are embedded" in desk.state.status
    assert any(s.seconds_left is not None for s in seen)


def test_a_click_is_answered_while_everything_is_embedded(desk, wide, cache):
    desk.open(wide.image)
    begin(desk)
    desk.annotation.layers.points.add(wide.center(1))
    desk.main.pump(lambda: desk.labels.any())
    assert desk.state.encoding.done < desk.state.encoding.total
    desk.model.delay_s = 0
    desk.main.settle()


def test_a_click_on_what_is_embedded_waits_for_no_tile(desk, cache):
    volume = phantom_volume((6, 64, 64), n_objects=3, noise=0, seed=3)
    desk.open(volume.image)
    plane = int(volume.center(1)[0])
    desk.viewer.dims.set_current_step(0, plane)
    desk.main.settle()
    release = threading.Event()
    encode = desk.model.encode

    def held(batch):
        assert release.wait(20)
        return encode(batch)

    desk.model.encode = held
    desk.controller.embed()
    desk.main.pump(lambda: desk.state.encoding.total)
    desk.annotation.layers.points.add(np.array(volume.center(1), float))
    desk.main.pump(lambda: desk.labels.any())
    assert desk.state.encoding.done < desk.state.encoding.total
    release.set()
    desk.main.settle()


def test_pause_holds_it_and_resume_goes_on_without_encoding_twice(desk, wide, cache):
    desk.open(wide.image)
    begin(desk)
    desk.controller.encoding.pause()
    assert desk.state.encoding.phase == "paused"
    desk.main.pump(lambda: desk.main.jobs.idle)
    held = len(there(desk))
    show(desk, 100, 150, 160, 210)
    assert len(there(desk)) == held and 0 < desk.state.encoding.done
    desk.model.delay_s = 0
    desk.controller.embed()
    desk.main.settle()
    store = desk.session.engine.stores(0)
    assert store.count()[0] == store.count()[1] == desk.model.n_encoded


def test_cancel_stops_it_and_keeps_what_is_done(desk, wide, cache):
    desk.open(wide.image)
    begin(desk)
    desk.controller.cancel()
    assert desk.state.encoding.phase == "idle" and "Stopped" in desk.state.status
    desk.main.settle()
    done, total = desk.session.engine.stores(0).count()
    assert 0 < done < total


def test_closed_in_the_middle_it_goes_on_where_it_was(desk_for, wide, cache, tmp_path):
    desk = desk_for(ToyModel(64))
    open_file(desk, wide.image, tmp_path)
    begin(desk)
    session = desk.session
    desk.controller.close()
    desk.main.jobs.close(timeout_s=5)
    done, total = session.engine.stores(0).count()
    assert 0 < done < total and desk.model.n_encoded == done

    again = desk_for(ToyModel(64))
    open_file(again, wide.image, tmp_path)
    again.controller.embed()
    again.main.settle()
    assert again.session.engine.stores(0).count() == (total, total)
    assert again.model.n_encoded == total - done


def test_planes_of_an_array_beyond_what_memory_takes_are_refused(
    desk, wide, monkeypatch
):
    monkeypatch.setattr("napari_sam.embeddings.opening.MEMORY_BYTES", 300_000)
    desk.open(wide.image)
    desk.controller.embed()
    desk.main.settle()
    assert "more than the 300 kB" in desk.state.status
    assert "save it to a file" in desk.state.status
    assert desk.state.encoding.phase == "paused"
    desk.click(2, *wide.center(1)[-2:])
    assert desk.labels.any()


def test_planes_beyond_what_the_cache_takes_are_refused(
    desk, wide, cache, tmp_path, monkeypatch
):
    monkeypatch.setenv("NAPARI_SAM_CACHE_LIMIT", "300 kB")
    open_file(desk, wide.image, tmp_path)
    desk.controller.embed()
    desk.main.settle()
    assert "set NAPARI_SAM_CACHE_LIMIT" in desk.state.status


def test_another_intensity_window_embeds_anew_and_goes_on(desk, wide, cache):
    desk.open(wide.image)
    begin(desk)
    desk.controller.intensity.set_window(10, 200)
    assert desk.state.encoding.phase == "all"
    desk.model.delay_s = 0
    desk.main.settle()
    store = desk.session.engine.stores(0)
    assert store.count()[0] == store.count()[1]


def test_another_axis_is_embedded_in_a_store_of_its_own(desk, cache):
    desk.open(phantom_volume((6, 16, 40), n_objects=1).image)
    desk.controller.use_axis(1)
    desk.controller.embed()
    desk.main.settle()
    store = desk.session.engine.stores(1)
    assert store.count() == (16, 16) and desk.session.engine.stores(0).count()[0] == 1


def test_images_on_a_server_are_never_embedded_without_being_asked(
    desk, wide, cache, monkeypatch
):
    monkeypatch.setattr(encoding, "_is_remote", lambda source: True)
    desk.open(wide.image)
    assert desk.state.encoding.remote and not desk.state.encoding.ahead
    show(desk, 0, 0, 50, 60)
    assert desk.model.n_encoded == 0
    bills = []
    desk.controller.encoding.agreement_wanted.connect(bills.append)
    desk.controller.embed()
    desk.main.settle()
    assert desk.model.n_encoded == 0 and desk.state.encoding.phase == "idle"
    assert "on a server" in bills[0] and "may cost money" in bills[0]
    desk.controller.embed(agreed=True)
    desk.main.settle()
    assert desk.session.engine.stores(0).count()[0] == desk.model.n_encoded > 0


def test_where_nothing_can_be_kept_it_says_so_and_clicks_still_work(
    desk, wide, tmp_path, monkeypatch
):
    nowhere = tmp_path / "file"
    nowhere.write_text("")
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(nowhere))
    open_file(desk, wide.image, tmp_path)
    show(desk, 0, 0, 50, 60)
    assert desk.state.status_kind != "error"
    desk.controller.embed()
    desk.main.settle()
    assert "NAPARI_SAM_CACHE" in desk.state.status
    assert desk.state.encoding.phase == "paused"
    desk.click(*wide.center(1))
    assert desk.labels.any()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (59, "59 s"), (150, "2 min"), (7200, "2.0 h"), (4e5, "4.6 days")],
)
def test_remaining_time_is_told_in_one_unit(seconds, text):
    assert duration(seconds) == text


def test_the_view_of_a_pyramid_is_in_pixels_of_its_finest_level(desk, cells):
    levels = [np.zeros((800, 1000), np.uint8), np.zeros((400, 500), np.uint8)]
    layer = desk.viewer.add_image(levels, multiscale=True)
    layer._data_level = 1
    layer.corner_pixels = np.array([[10, 20], [99, 119]])
    view = shown_view(desk.viewer, layer, Plane(()), 2)
    assert view.box == (20, 40, 199, 239)
    layer.corner_pixels = np.zeros((2, 2), int)
    assert shown_view(desk.viewer, layer, Plane(()), 2) is None


def test_workers_of_a_scheduler_embed_everything_and_are_shown(desk, tmp_path, cache):
    pytest.importorskip("distributed")
    np.save(tmp_path / "stack.npy", phantom_volume((6, 64, 90)).image)
    [(data, options, _)] = layer_data(open_volume(tmp_path / "stack.npy"))
    desk.open(data, **options)
    n = desk.model.n_encoded
    with connect(workers=1) as client:
        desk.controller.encoding.use_scheduler(client.scheduler.address)
        desk.main.settle()
        assert desk.state.encoding.workers.startswith("1 worker, 1 thread on 127.0.0.1")
        desk.controller.embed()
        desk.main.settle()
    store = desk.session.engine.stores(0)
    assert store.count()[0] == store.count()[1] and desk.model.n_encoded == n
    assert desk.state.encoding.phase == "idle"


def test_a_scheduler_that_does_not_answer_pauses_and_says_so(
    desk, wide, cache, monkeypatch
):
    def refuse(address):
        raise NapariSamError(f"no scheduler answers at {address!r}")

    monkeypatch.setattr(distribute, "connect", refuse)
    desk.open(wide.image)
    desk.controller.encoding.use_scheduler("tcp://nobody:8786")
    desk.main.settle()
    assert "no scheduler" in desk.state.encoding.workers
    desk.controller.embed()
    desk.main.settle()
    assert desk.state.encoding.phase == "paused" and "nobody" in desk.state.status
    desk.controller.encoding.use_scheduler("")
    desk.controller.embed()
    desk.main.settle()
    store = desk.session.engine.stores(0)
    assert store.count()[0] == store.count()[1]


class Cluster:
    """Stands for a `distributed.Client`."""

    def __init__(self, *workers):
        self.workers = dict(enumerate(workers))

    def scheduler_info(self, n_workers=5):
        return {"workers": self.workers}


def test_workers_are_counted_by_machine():
    node = [{"host": f"10.0.0.{i}", "nthreads": 2} for i in (1, 1, 2)]
    assert describe_workers(Cluster(*node)) == (
        "3 workers, 6 threads on 10.0.0.1, 10.0.0.2"
    )
    assert describe_workers(Cluster(node[0])).startswith("1 worker, 2 threads")
    assert "no workers yet" in describe_workers(Cluster())


def test_the_panel_says_where_embeddings_are_kept(desk, cells, tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path / "cache"))
    desk.open(cells.image, name="in memory")
    assert "in memory" in desk.state.encoding.place
    path = tmp_path / "cells.npy"
    np.save(path, cells.image)
    (layer,) = layer_data(open_volume(path))
    desk.controller.use_image(desk.viewer.add_image(layer[0], **layer[1]))
    desk.main.settle()
    assert str(tmp_path / "cache") in desk.state.encoding.place
    assert "20 GB" in desk.state.encoding.place
