"""Proposing: where a model is asked, what is kept, how it is stopped."""

import numpy as np
import pytest

from napari_sam.core.planes import Plane
from napari_sam.engine.engine import Engine
from napari_sam.engine.propose import propose
from napari_sam.engine.propose_options import ProposeOptions, SelectOptions
from napari_sam.engine.select import select
from napari_sam.testing import ToyModel, phantom_image
from napari_sam.volume.opening import open_volume

HERE = Plane(())
FEW = ProposeOptions(points_per_side=16)
CELLS = SelectOptions(pred_iou_thresh=0.7, stability_score_thresh=0.5, max_area=2000)


@pytest.fixture(scope="module")
def cells():
    return phantom_image((72, 108), n_objects=6, noise=0)


def engine_of(image, side=128):
    return Engine.of(open_volume(image), ToyModel(side))


def test_each_object_is_proposed_once(cells):
    found = propose(engine_of(cells.image), HERE, FEW)
    chosen = list(select(found, CELLS))
    assert len(chosen) == 6
    for k in range(1, 7):
        y, x = cells.center(k)
        hits = [
            p for p in chosen
            if p.bbox[0] <= y < p.bbox[2] and p.bbox[1] <= x < p.bbox[3]
        ]  # fmt: skip
        assert len(hits) == 1
        assert hits[0].area == np.count_nonzero(cells.labels == k)
