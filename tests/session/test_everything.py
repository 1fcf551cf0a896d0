"""Everything in a session: proposals that wait, and are replaced, kept or refused."""

import numpy as np
import pytest

from napari_sam.errors import PromptError, VolumeError
from napari_sam.session import Session
from napari_sam.testing import ToyModel, phantom_image, phantom_volume

FEW = {"points_per_side": 16, "thorough": False, "pred_iou_thresh": 0.85,
       "stability_score_thresh": 0.5, "max_area": 2000}  # fmt: skip


@pytest.fixture
def cells():
    return phantom_image((72, 108), n_objects=6, noise=0)


@pytest.fixture
def session(cells):
    with_tiles = Session(cells.image, ToyModel(64), embeddings=False)
    yield with_tiles
    with_tiles.close()


def test_accepted_objects_are_those_of_the_image(session, cells):
    assert len(session.everything(**FEW)) == 6
    assert session.proposals.accept() == 6
    labels = np.asarray(session.labels)
    for k in range(1, 7):
        mine = labels[cells.labels == k]
        assert mine.min() == mine.max() > 0
    assert np.array_equal(labels > 0, cells.labels > 0)
    assert session.undo() and not np.asarray(session.labels).any()


def test_asking_again_replaces_what_waits_and_keeps_what_is_decided(session, cells):
    found = session.everything(**FEW)
    session.proposals.reject(found[:1])
    session.proposals.accept(found[1:3])
    again = session.everything(**FEW)
    assert len(again) == len(session.proposals.pending) == 3
    refused = found[0]
    assert not any(p.overlap(refused.bbox, refused.mask) for p in again)


def test_a_plane_of_a_volume_is_named(cells):
    stack = phantom_volume()
    session = Session(stack.image, ToyModel(), embeddings=False)
    with pytest.raises(VolumeError, match="many planes"):
        session.everything(**FEW)
    z = int(stack.center(1)[0])
    found = session.everything(z, **FEW)
    assert found and all(p.plane.index == (z,) for p in found)
    with pytest.raises(PromptError, match="region"):
        session.everything(z, region=(5, 5, 5, 9), **FEW)
    session.close()
