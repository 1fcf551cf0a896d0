"""Paths: along a bent line, dark or bright, as wide as it is."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam.core.masks import mask_iou
from napari_sam.core.planes import Plane
from napari_sam.engine.engine import Engine
from napari_sam.engine.trace import trace
from napari_sam.testing import ToyModel
from napari_sam.volume.opening import open_volume


@pytest.mark.parametrize("bright", [True, False])
def test_two_clicks_find_a_bent_line_with_its_width(bright):
    ys, xs = np.indices((120, 200))
    truth = np.abs(ys - 60 - 30 * np.sin(xs / 25)) * 0.75 < 3
    truth[:, :10] = truth[:, 190:] = False
    noise = np.random.default_rng(0).normal(0, 6, truth.shape)
    image = np.where(truth == bright, 180, 70) + noise
    engine = Engine.of(open_volume(image.astype(np.uint8)), ToyModel(64))
    ends = [(60 + 30 * np.sin(x / 25), float(x)) for x in (14, 185)]
    found = trace(engine, Plane(()), [tuple(ends)])
    whole = np.zeros(truth.shape, bool)
    y0, x0, y1, x1 = found.bbox
    whole[y0:y1, x0:x1] = found.mask
    assert mask_iou(whole, truth) > 0.7
