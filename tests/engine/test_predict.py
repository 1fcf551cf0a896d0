"""Predicting: the same mask wherever tiles lie, and as little work as a click needs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sam.core.masks import mask_iou
from napari_sam.core.planes import Plane
from napari_sam.core.prompts import Prompts
from napari_sam.core.tiles import TileGrid
from napari_sam.embeddings.opening import open_store
from napari_sam.engine.engine import Engine
from napari_sam.engine.predict import choose, predict
from napari_sam.engine.refine import refine
from napari_sam.engine.windows import choose_window
from napari_sam.errors import Cancelled, StoreError
from napari_sam.testing import ToyModel, phantom_image, phantom_volume
from napari_sam.volume.opening import open_volume

PLANE = Plane(())


def disc(
    shape: tuple[int, int], center: tuple[float, float], radius: float
) -> np.ndarray:
    y, x = np.ogrid[: shape[0], : shape[1]]
    return (y - center[0]) ** 2 + (x - center[1]) ** 2 <= radius**2


def image_of(mask: np.ndarray) -> np.ndarray:
    return np.where(mask, 200, 40).astype(np.uint8)


@settings(max_examples=40)
@given(
    side=st.sampled_from([64, 96, 128]),
    height=st.integers(40, 500),
    width=st.integers(40, 500),
    y=st.floats(0.15, 0.85),
    x=st.floats(0.15, 0.85),
    radius=st.integers(5, 20),
)
def test_an_object_smaller_than_a_tile_is_whole_wherever_seams_lie(
    side, height, width, y, x, radius
):
    center = (round(y * height), round(x * width))
    truth = disc((height, width), center, radius)
    engine = Engine.of(open_volume(image_of(truth)), ToyModel(input_side=side))
    mask = predict(engine, Prompts.of(points=[center]), PLANE).chosen
    assert mask_iou(mask.full(truth.shape), truth) >= 0.99


@pytest.mark.parametrize("radius", [70, 150, 260])
def test_an_object_larger_than_a_tile_gets_one_whole_mask(radius):
    truth = disc((640, 700), (310, 350), radius)
    engine = Engine.of(open_volume(image_of(truth)), ToyModel(input_side=128))
    mask = predict(engine, Prompts.of(points=[(310, 350)]), PLANE).chosen
    assert mask_iou(mask.full(truth.shape), truth) >= 0.95


@settings(max_examples=25)
@given(
    side=st.sampled_from([64, 96, 128]),
    height=st.integers(150, 560),
    width=st.integers(150, 560),
    y=st.floats(0, 1),
    x=st.floats(0, 1),
    radius=st.integers(10, 300),
)
def test_a_refined_mask_equals_the_object_whatever_its_size_and_place(
    side, height, width, y, x, radius
):
    center = (round(y * (height - 1)), round(x * (width - 1)))
    truth = disc((height, width), center, radius)
    engine = Engine.of(open_volume(image_of(truth)), ToyModel(input_side=side))
    found = predict(engine, Prompts.of(points=[center]), PLANE)
    *_, found = (found, *refine(engine, found, PLANE))
    assert mask_iou(found.chosen.full(truth.shape), truth) >= 0.99


@pytest.mark.parametrize("radius", [45, 100])
@pytest.mark.parametrize("center", [(88, 100), (112, 160), (200, 200)])
def test_a_candidate_that_its_window_cuts_is_whole_once_chosen(center, radius):
    """A bright core is found first; the halo around it crosses seams."""
    shape = 400, 420
    halo = disc(shape, center, radius)
    image = np.where(halo, 178, 40).astype(np.uint8)
    image[disc(shape, center, 8)] = 200
    engine = Engine.of(open_volume(image), ToyModel(input_side=128))
    prompts = Prompts.of(points=[center])
    first = predict(engine, prompts, PLANE)
    assert first.chosen.area < 300
    chosen = choose(engine, first, PLANE, 2)
    assert chosen.choices == (2,)
    sharp = [chosen, *refine(engine, chosen, PLANE)][-1]
    assert mask_iou(sharp.chosen.full(shape), halo) >= 0.99
    again = predict(engine, prompts, PLANE, choices=(2,))
    assert again.window == chosen.window
    assert np.array_equal(again.chosen.mask, chosen.chosen.mask)
    further = Prompts.of(points=[center, (center[0] + 20, center[1])])
    one = predict(engine, further, PLANE, previous=chosen)
    other = predict(engine, further, PLANE, choices=(2,))
    assert np.array_equal(one.chosen.mask, other.chosen.mask)


def test_a_candidate_in_its_window_is_chosen_without_looking_again():
    model = ToyModel()
    engine = Engine.of(open_volume(phantom_image().image), model)
    first = predict(engine, Prompts.of(points=[phantom_image().center(1)]), PLANE)
    decoded = model.n_decoded
    for k in range(len(first.candidates)):
        assert choose(engine, first, PLANE, k).chosen is first.candidates[k]
    assert model.n_decoded == decoded
    with pytest.raises(IndexError, match="there are"):
        choose(engine, first, PLANE, len(first.candidates))


def test_refining_stops_when_asked():
    truth = disc((640, 700), (310, 350), 260)
    engine = Engine.of(open_volume(image_of(truth)), ToyModel(input_side=128))
    found = predict(engine, Prompts.of(points=[(310, 350)]), PLANE)
    with pytest.raises(Cancelled):
        list(refine(engine, found, PLANE, cancel=lambda: True))


def test_a_click_near_the_rim_of_a_large_object_gets_all_of_it():
    truth = disc((640, 700), (310, 350), 200)
    engine = Engine.of(open_volume(image_of(truth)), ToyModel(input_side=128))
    mask = predict(engine, Prompts.of(points=[(310, 160)]), PLANE).chosen
    assert mask_iou(mask.full(truth.shape), truth) >= 0.95


def test_prompts_far_apart_are_all_heard():
    one, other = disc((600, 600), (80, 80), 60), disc((600, 600), (500, 520), 60)
    engine = Engine.of(open_volume(image_of(one | other)), ToyModel(input_side=128))
    prompts = Prompts.of(points=[(80, 80), (500, 520)])
    mask = predict(engine, prompts, PLANE).chosen
    assert mask_iou(mask.full(one.shape), one | other) >= 0.85


def test_one_click_on_a_huge_image_encodes_one_window():
    model = ToyModel(input_side=64)
    image = np.zeros((4000, 3000), np.uint8)
    image[disc(image.shape, (1999, 1600), 12)] = 200
    engine = Engine.of(open_volume(image), model)
    predict(engine, Prompts.of(points=[(1999, 1600)]), PLANE)
    assert model.n_encoded == 1
    predict(engine, Prompts.of(points=[(1999, 1600), (2003, 1600)]), PLANE)
    assert model.n_encoded == 1


def test_stored_embeddings_are_used_and_new_ones_kept(tmp_path):
    phantom = phantom_volume()
    volume, model = open_volume(phantom.image), ToyModel()
    store = open_store(volume, model, tmp_path / "e")
    z, y, x = phantom.center(1)
    prompts = Prompts.of(points=[(y, x)])
    first = Engine.of(volume, model, stores=lambda axis: store)
    a = predict(first, prompts, Plane((z,))).chosen
    assert model.n_encoded == 1 and store.count()[0] == 1
    second = Engine.of(volume, model, stores=lambda axis: store)
    b = predict(second, prompts, Plane((z,))).chosen
    assert model.n_encoded == 1
    assert a.bbox == b.bbox and np.array_equal(a.mask, b.mask)


def test_a_mask_is_the_same_with_and_without_a_store(tmp_path):
    phantom = phantom_volume()
    volume, model = open_volume(phantom.image), ToyModel(dtype="float32", stride=2)
    store = open_store(volume, model, tmp_path / "e")
    z, y, x = phantom.center(1)
    prompts, plane = Prompts.of(points=[(y, x)]), Plane((z,))
    for _ in range(2):
        stored = Engine.of(volume, model, stores=lambda axis: store)
        a = predict(stored, prompts, plane).chosen
        b = predict(Engine.of(volume, model), prompts, plane).chosen
        assert np.array_equal(a.low_res_logits, b.low_res_logits)


def test_a_damaged_stored_tile_is_encoded_again(tmp_path, caplog):
    phantom = phantom_image()
    volume, model = open_volume(phantom.image), ToyModel()
    prompts = Prompts.of(points=[phantom.center(1)])
    with open_store(volume, model, tmp_path / "e") as store:
        once = Engine.of(volume, model, stores=lambda axis: store)
        good = predict(once, prompts, PLANE)
    damaged = 0
    for file in (tmp_path / "e").rglob("*"):
        if file.is_file() and file.stat().st_size > 1000 and "json" not in file.name:
            file.write_bytes(file.read_bytes()[:-500])
            damaged += 1
    assert damaged
    with open_store(volume, model, tmp_path / "e") as store:
        again = Engine.of(volume, model, stores=lambda axis: store)
        mask = predict(again, prompts, PLANE).chosen.mask
    assert np.array_equal(mask, good.chosen.mask)
    assert "encoding again" in caplog.text


def test_a_full_disk_does_not_stop_a_click(tmp_path, monkeypatch, caplog):
    phantom = phantom_image()
    volume, model = open_volume(phantom.image), ToyModel()
    store = open_store(volume, model, tmp_path / "e")

    def full(*_: object) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(type(store), "put", full)
    engine = Engine.of(volume, model, stores=lambda axis: store)
    prompts = Prompts.of(points=[phantom.center(1)])
    assert predict(engine, prompts, PLANE).chosen.area > 0
    assert "disk is full" in caplog.text


def test_memory_for_embeddings_is_bounded():
    phantom = phantom_volume()
    model = ToyModel()
    volume = open_volume(phantom.image)
    one = Engine.of(volume, model).embedding(Plane((0,)), _whole(volume)).nbytes
    engine = Engine.of(volume, model, cache_bytes=3 * one)
    for z in range(8):
        engine.embedding(Plane((z,)), _whole(volume))
    before = model.n_encoded
    engine.embedding(Plane((7,)), _whole(volume))
    assert model.n_encoded == before
    engine.embedding(Plane((0,)), _whole(volume))
    assert model.n_encoded == before + 1


def test_cancel_stops_between_steps():
    phantom = phantom_image()
    engine = Engine.of(open_volume(phantom.image), ToyModel())
    with pytest.raises(Cancelled):
        predict(
            engine, Prompts.of(points=[phantom.center(1)]), PLANE, cancel=lambda: True
        )


@settings(max_examples=100)
@given(
    height=st.integers(1, 3000),
    width=st.integers(1, 3000),
    a=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    b=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_the_window_holds_every_prompt_and_lies_in_the_image(height, width, a, b):
    grid = TileGrid.of((height, width), 128)
    points = [(p[0] * (height - 1), p[1] * (width - 1)) for p in (a, b)]
    window = choose_window(Prompts.of(points=points), grid)
    rows, cols = grid.level_shape(window.level)
    assert 0 <= window.y0 and window.y0 + window.h <= rows
    assert 0 <= window.x0 and window.x0 + window.w <= cols
    for y, x in points:
        wy, wx = window.to_window(y, x)
        assert -0.5 <= wy <= window.h - 0.5 and -0.5 <= wx <= window.w - 0.5


def test_a_polygon_and_a_mask_prompt_find_the_object_they_cover():
    phantom = phantom_image()
    truth = phantom.labels == 2
    y0, x0, y1, x1 = phantom.box(2)
    engine = Engine.of(open_volume(phantom.image), ToyModel())
    polygon = [(y0, x0), (y0, x1), (y1, x1), (y1, x0)]
    for prompts in (Prompts.of(polygon=polygon), Prompts.of(mask=truth)):
        mask = predict(engine, prompts, PLANE).chosen
        assert mask_iou(mask.full(truth.shape), truth) >= 0.9


def _whole(volume):
    from napari_sam.core.tiles import Window

    return Window(0, 0, 0, *volume.shape[-2:])
