"""Planes with unequal spacing are shown to a model with square pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_sam.core.masks import mask_iou
from napari_sam.core.planes import Plane
from napari_sam.core.prompts import Prompts
from napari_sam.core.tiles import Window, zoom_for
from napari_sam.embeddings.source import EmbeddingSource
from napari_sam.engine.engine import Engine
from napari_sam.engine.predict import predict
from napari_sam.engine.refine import refine
from napari_sam.testing import ToyModel
from napari_sam.volume.opening import open_volume

MM = ("millimeter",) * 3


def volume_of(pixels: np.ndarray, spacing=(5.0, 1.0, 1.0), units=MM):
    return replace(open_volume(pixels), spacing=spacing, units=units)


@pytest.mark.parametrize(
    ("size", "zoom"),
    [((1, 1), (1, 1)), ((5, 1), (5, 1)), ((1.05, 1), (1, 1)), ((0.5, 2), (1, 4)),
     ((0, 1), (1, 1)), ((1000, 1), (1, 1)), ((float("nan"), 1), (1, 1))],
)  # fmt: skip
def test_both_axes_get_the_finer_distance(size, zoom):
    assert zoom_for(size) == pytest.approx(zoom)


def test_only_axes_in_space_with_one_unit_are_compared():
    pixels = np.zeros((6, 7, 8), np.uint8)
    assert volume_of(pixels).zoom(0) == (1, 1)
    assert volume_of(pixels).zoom(1) == (5, 1)
    assert volume_of(pixels, units=("second", MM[0], MM[0])).zoom(1) == (1, 1)
    time = replace(open_volume(pixels, axes="tyx"), spacing=(5.0, 1.0, 1.0))
    assert time.zoom(1) == (1, 1)


def test_a_ramp_stays_a_ramp_and_averages_stay():
    rng = np.random.default_rng(0)
    ramp = np.arange(40.0, dtype=np.float32)[:, None, None] * np.ones((1, 3, 200))
    volume = volume_of(ramp.astype(np.float32))
    plane = Plane((1,), axis=1)
    window = Window(0, 20, 10, 100, 60, (5.0, 1.0))
    seen = volume.read(plane, window)
    ys, _ = window.to_plane(np.arange(100), 0)
    np.testing.assert_allclose(seen, np.repeat(ys[:, None], 60, 1), atol=1e-4)
    noise = volume_of(rng.integers(0, 255, (40, 3, 200), np.uint8))
    coarse = noise.read(plane, Window(2, 0, 0, 50, 50, (5.0, 1.0)))
    raw = noise.read(plane, Window(0, 0, 0, 40, 200))
    assert abs(coarse.mean() - raw.mean()) < 1


def test_enlarged_pixels_lie_between_those_there_are():
    ramp = np.tile(np.arange(0, 200, 4, dtype=np.uint8), (50, 1))
    volume = open_volume(ramp)
    window = Window(-1, 10, 20, 30, 40)
    _, xs = window.to_plane(0, np.arange(40))
    np.testing.assert_allclose(volume.read(Plane(()), window)[5], 4 * xs, atol=0.51)


def test_missing_values_are_left_out_of_what_is_mixed():
    pixels = np.full((30, 40), 7.0, np.float32)
    pixels[:, 20:] = np.nan
    seen = open_volume(pixels).read(Plane(()), Window(-1, 0, 0, 60, 80))
    assert np.isnan(seen[:, 42:]).all()
    np.testing.assert_allclose(seen[:, :39], 7)


@pytest.mark.parametrize("spacing", [(5.0, 1.0, 1.0), (1.0, 1.0, 3.3)])
def test_clicks_boxes_and_masks_are_converted_both_ways(spacing):
    """The object is a ball in millimetres; planes are cut along y."""
    sz, _, sx = spacing
    nz, nx = round(120 / sz), round(150 / sx)
    z, x = np.ogrid[:nz, :nx]
    truth = np.hypot((z + 0.5) * sz - 60, (x + 0.5) * sx - 70) < 30
    pixels = np.where(truth, 200, 40).astype(np.uint8)[:, None].repeat(3, 1)
    seen = []

    class Spy(ToyModel):
        def encode(self, batch):
            seen.append(batch)
            return super().encode(batch)

    engine = Engine.of(volume_of(pixels, spacing), Spy(128))
    click = Prompts.of(points=[(60 / sz - 0.5, 70 / sx - 0.5)])
    rows, cols = np.flatnonzero(truth.any(1)), np.flatnonzero(truth.any(0))
    box = Prompts.of(box=(rows[0], cols[0], rows[-1] + 1, cols[-1] + 1))
    for prompts in (click, box, Prompts.of(mask=truth)):
        found = predict(engine, prompts, Plane((1,), axis=1))
        *_, found = (found, *refine(engine, found, Plane((1,), axis=1)))
        assert mask_iou(found.chosen.full(truth.shape), truth) > 0.93
    bright = seen[0][0, :, :, 0] > 120
    h, w = bright.any(1).sum(), bright.any(0).sum()
    assert abs(h / w - 1) < 0.1  # a ball is round to the model


def test_embeddings_of_another_sampling_are_others():
    pixels, model = np.zeros((6, 7, 8), np.uint8), ToyModel(64)
    mapping, keys = open_volume(pixels).intensity, set()
    for spacing in ((5.0, 1.0, 1.0), (1.0, 1.0, 1.0), (2.5, 1.0, 1.0)):
        volume = replace(volume_of(pixels, spacing), mapping=mapping)
        keys.add(EmbeddingSource.of(volume, model).signature(1).key)
    assert len(keys) == 3
