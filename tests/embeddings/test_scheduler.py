"""What is encoded next: the view, its plane, neighbours; re-ordered while it runs."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from napari_sam.core.planes import Plane
from napari_sam.core.tiles import TileGrid
from napari_sam.embeddings.encode import encode_queue, encode_volume
from napari_sam.embeddings.opening import open_store
from napari_sam.embeddings.scheduler import EncodingQueue, Pace, Viewport
from napari_sam.embeddings.source import EmbeddingSource
from napari_sam.engine.engine import Engine
from napari_sam.errors import NapariSamError, StoreError
from napari_sam.testing import ToyModel, phantom_volume
from napari_sam.volume.opening import open_volume

SHAPE = (5, 300, 400)
GRID = TileGrid.of(SHAPE[1:], 64)


def nothing(plane):
    return ()


def queue_at(plane=2, box=None, level=0, present=nothing, **options):
    view = Viewport(Plane((plane,)), box, level)
    return EncodingQueue(SHAPE, GRID, present, view, **options)


def drain(queue, n=1):
    """(plane, tile) in the order taken."""
    regions = iter(lambda: queue.take(n), None)
    return [
        (r.plane.index[0], GRID.tile_by_number(i)) for r in regions for i in r.numbers
    ]


def meets(tile, box):
    y0, x0, y1, x1 = (v * tile.core.step[0] for v in tile.core.bbox)
    return y0 < box[2] and x0 < box[3] and y1 > box[0] and x1 > box[1]


@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("box", [None, (100, 150, 180, 260), (290, 390, 300, 400)])
@pytest.mark.parametrize("level", [0, 1, 9])
def test_every_tile_comes_exactly_once(n, box, level):
    taken = drain(queue_at(box=box, level=level), n)
    assert len(taken) == len(set(taken)) == 5 * GRID.n_tiles()


def test_view_comes_first_then_its_plane_then_the_nearest_planes():
    box = (100, 150, 180, 260)
    taken = drain(queue_at(plane=3, box=box))
    seen = [meets(tile, box) for _, tile in taken[: GRID.n_tiles()]]
    assert sum(seen) > 4
    assert seen == sorted(seen, reverse=True)
    planes = [plane for plane, _ in taken]
    assert planes[:: GRID.n_tiles()] == [3, 2, 4, 1, 0]
    assert all(len(set(block)) == 1 for block in np.split(np.array(planes), 5))


def test_levels_in_view_come_as_the_screen_shows_them():
    box = (100, 150, 180, 260)
    taken = drain(queue_at(box=box, level=1))[: GRID.n_tiles()]
    shown = [tile.level for _, tile in taken if meets(tile, box)]
    assert list(dict.fromkeys(shown)) == [1, 2, 3, 0]


def test_tiles_come_from_the_middle_of_the_view_outwards():
    box = (64, 64, 256, 320)
    first = drain(queue_at(box=box))
    here = [tile for _, tile in first if tile.level == 0 and meets(tile, box)]
    y, x = 160, 192
    far = [
        np.hypot(t.core.y0 + t.core.h / 2 - y, t.core.x0 + t.core.w / 2 - x)
        for t in here[: len([t for t in GRID.tiles(0) if meets(t, box)])]
    ]
    assert far == sorted(far)
    assert meets(here[0], (y, x, y + 1, x + 1))


def test_tiles_that_are_there_are_left_out():
    there = {2: range(GRID.n_tiles()), 3: [0, 5]}
    queue = queue_at(present=lambda plane: there.get(plane, ()))
    total = 5 * GRID.n_tiles()
    assert queue.count() == (GRID.n_tiles() + 2, total)
    taken = drain(queue)
    assert len(taken) == total - GRID.n_tiles() - 2
    assert 2 not in {plane for plane, _ in taken}
    assert queue.count() == (total, total)


def test_looking_elsewhere_changes_what_comes_next():
    queue = queue_at(plane=0, box=(0, 0, 60, 60))
    before = [queue.take() for _ in range(3)]
    queue.look(Viewport(Plane((4,)), (200, 300, 260, 360)))
    after = queue.take()
    assert {r.plane.index for r in before} == {(0,)}
    assert after.plane.index == (4,)
    assert meets(GRID.tile_by_number(after.numbers[0]), (229, 329, 231, 331))
    rest = drain(queue)
    assert len(rest) == 5 * GRID.n_tiles() - 4


def test_only_the_view_is_taken_unless_everything_is_wanted():
    box = (100, 150, 180, 260)
    queue = queue_at(box=box, level=1, everything=False)
    n = sum(meets(tile, box) for tile in GRID.tiles(1))
    assert queue.count() == (0, n)
    taken = drain(queue)
    assert len(taken) == n and queue.count() == (n, n)
    assert all(p == 2 and t.level == 1 and meets(t, box) for p, t in taken)
    queue.look(Viewport(Plane((2,)), (0, 0, 20, 20), 1))
    assert len(drain(queue)) == 1
    queue.everything = True
    assert len(drain(queue)) == 5 * GRID.n_tiles() - n - 1


def test_tiles_put_back_are_taken_again():
    queue = queue_at(levels=[3])
    taken = [queue.take() for _ in range(5)]
    assert queue.take() is None
    queue.give_back(taken[1])
    assert queue.take() == taken[1]


def test_looking_never_waits_for_who_takes_tiles():
    asked, go = threading.Event(), threading.Event()

    def slow(plane):
        asked.set()
        go.wait(10)
        return ()

    queue = queue_at(present=slow)
    thread = threading.Thread(target=queue.take)
    thread.start()
    assert asked.wait(10)
    queue.look(Viewport(Plane((1,))))
    assert thread.is_alive() and queue.view.plane.index == (1,)
    go.set()
    thread.join(10)


def test_a_plane_of_a_hundred_thousand_pixels_is_ordered_without_listing_its_tiles():
    grid = TileGrid.of((100_000, 100_000), 512)
    view = Viewport(Plane(()), (40_000, 50_000, 41_000, 52_000))
    queue = EncodingQueue((100_000, 100_000), grid, nothing, view)
    first = [grid.tile_by_number(queue.take().numbers[0]) for _ in range(8)]
    assert all(meets(tile, view.box) and tile.level == 0 for tile in first)


def test_a_view_along_another_axis_needs_another_queue():
    with pytest.raises(ValueError, match="along 1"):
        queue_at().look(Viewport(Plane((3,), axis=1)))


# -- encoding ------------------------------------------------------------------------


@pytest.fixture
def volume():
    return open_volume(phantom_volume((6, 100, 80)).image)


@pytest.fixture
def model():
    return ToyModel(64)


@pytest.fixture
def desk(volume, model, tmp_path):
    store = open_store(volume, model, tmp_path / "emb")
    view = Viewport(Plane((1,)), (0, 0, 30, 30))
    return store, EncodingQueue.of(volume, model, store.numbers, view)


def encode(volume, model, store, queue, **options):
    source = EmbeddingSource.of(volume, model)
    return encode_queue(source, store, queue, **options)


def test_encoding_a_queue_gives_the_store_that_encode_volume_gives(
    volume, model, desk, tmp_path
):
    store, queue = desk
    steps = list(encode(volume, model, store, queue))
    total = 6 * store.grid.n_tiles()
    assert steps == [(n, total) for n in range(total + 1)]
    list(encode_volume(volume, model, tmp_path / "other"))
    other = open_store(volume, model, tmp_path / "other")
    for plane in range(6):
        for tile in store.grid.tiles():
            mine, theirs = store.get(plane, tile), other.get(plane, tile)
            np.testing.assert_array_equal(
                mine.features["colors"], theirs.features["colors"]
            )


def test_a_view_that_moves_while_tiles_are_encoded_is_followed(volume, model, desk):
    store, queue = desk
    steps = encode(volume, model, store, queue)
    for _ in range(3):
        next(steps)
    queue.look(Viewport(Plane((3,)), (60, 40, 90, 70)))
    next(steps)
    assert len(store.numbers(1)) == 2 and len(store.numbers(3)) == 1


def test_a_stopped_queue_goes_on_where_it_was(volume, model, desk):
    store, queue = desk
    steps = encode(volume, model, store, queue)
    for _ in range(6):
        next(steps)
    steps.close()
    again = EncodingQueue.of(volume, model, store.numbers, queue.view)
    assert next(encode(volume, model, store, again))[0] == 5
    list(encode(volume, model, store, again))
    assert model.n_encoded == 6 * store.grid.n_tiles()


def test_cancel_ends_it_between_tiles(volume, model, desk):
    store, queue = desk
    steps = encode(volume, model, store, queue, cancel=lambda: True)
    assert [done for done, _ in steps] == [0]


def test_tiles_that_fail_are_wanted_again(volume, model, desk, monkeypatch):
    store, queue = desk
    monkeypatch.setattr(
        store, "put", lambda *args: (_ for _ in ()).throw(StoreError("full"))
    )
    with pytest.raises(StoreError, match="full"):
        list(encode(volume, model, store, queue))
    assert queue.count()[0] == 0


def test_progress_counts_what_is_in_view_where_only_that_is_wanted(volume, model, desk):
    store, queue = desk
    queue.everything = False
    assert list(encode(volume, model, store, queue)) == [(0, 1), (1, 1)]
    queue.look(Viewport(Plane((0,))))
    *_, last = encode(volume, model, store, queue)
    assert last == (store.grid.n_tiles(0),) * 2


def test_an_array_in_memory_cannot_go_to_a_cluster(volume, model, desk):
    pytest.importorskip("distributed")
    store, queue = desk
    with pytest.raises(NapariSamError, match="array of this process"):
        list(encode(volume, model, store, queue, client=object()))


def test_remaining_time_follows_the_latest_steps_and_forgets_pauses():
    pace = Pace()
    assert pace.seconds_left(10) is None
    for second, done in enumerate((0, 1, 2, 3)):
        pace.note(done, second)
    assert pace.seconds_left(10) == 7
    for step in range(40):
        pace.note(3 + step, 100 + 2 * step)
    assert pace.seconds_left(52) == pytest.approx(20)
    pace.rest()
    assert pace.seconds_left(52) is None
    pace.note(5, 0)
    pace.note(3, 1)
    assert pace.seconds_left(9) is None


def test_a_click_waits_for_the_tile_it_needs_rather_than_encode_it_too(volume, desk):
    store, queue = desk
    model = ToyModel(64, delay_s=0.2)
    window = store.grid.tile_by_number(
        next(
            iter(
                EncodingQueue.of(volume, model, store.numbers, queue.view)
                .take()
                .numbers
            )
        )
    ).window
    engine = Engine.of(volume, model, stores=lambda axis: store)
    steps = encode(volume, model, store, queue)
    next(steps)
    thread = threading.Thread(target=next, args=(steps,))
    thread.start()
    while not store._claimed:
        time.sleep(0.001)
    found = engine.embedding(queue.view.plane, window)
    thread.join(10)
    assert model.n_encoded == 1 and found.features["colors"].any()
