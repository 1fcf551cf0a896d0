"""Planes of two axes that say different things of one object."""

import numpy as np
import pytest

from napari_sam.core.planes import Plane
from napari_sam.session import Session
from napari_sam.testing import ToyModel

SHAPE = (40, 60, 70)


@pytest.fixture
def session():
    return Session(np.zeros(SHAPE, np.uint8), ToyModel(64), embeddings=False)


def draw(session, number, axis, rows, cols, object_id=1):
    """Give an object a rectangle on a plane, as if the model had answered so."""
    plane = Plane.of(SHAPE, number, axis=axis)
    key = object_id, plane
    mask = np.zeros(plane.shape(SHAPE), bool)
    mask[slice(*rows), slice(*cols)] = True
    session.segment(object_id, plane=number, axis=axis, mask=mask)
    document = session.document
    with document.changing() as changes:
        box = rows[0], cols[0], rows[1], cols[1]
        inside = np.ones((rows[1] - rows[0], cols[1] - cols[0]), bool)
        document.pixels.claim(changes, key, box, inside, document.order, "overwrite")
    document.commit(document.entry("segment", changes, {}))


def test_planes_that_agree_where_they_cross_are_no_conflict(session):
    draw(session, 20, 0, (10, 30), (15, 40))  # y 10..30, x 15..40
    draw(session, 25, 1, (12, 28), (15, 41))  # z 12..28: plane 20 is among them
    draw(session, 30, 2, (12, 28), (10, 30))
    assert session.conflicts() == []


def test_planes_that_disagree_are_told_with_how_far(session):
    draw(session, 20, 0, (10, 30), (15, 40))
    draw(session, 25, 1, (12, 28), (15, 25))
    (found,) = session.conflicts()
    assert [p.axis for p in found.planes] == [0, 1]
    assert (found.object_id, found.voxels) == (1, 15)
    assert found.iou == pytest.approx(10 / 25)
    assert session.conflicts(2) == []


@pytest.mark.parametrize(("number", "voxels"), [(35, 25), (20, 0)])
def test_a_plane_that_ends_short_of_another_denies_it(session, number, voxels):
    # The coronal mask spans z 12..28; an axial one beyond that has nothing to meet.
    draw(session, number, 0, (10, 30), (15, 40))
    draw(session, 25, 1, (12, 28), (15, 40))
    assert [c.voxels for c in session.conflicts()] == [voxels] * bool(voxels)


def test_where_neither_has_anything_there_is_nothing_to_disagree_on(session):
    draw(session, 20, 0, (10, 20), (15, 40))
    draw(session, 50, 1, (12, 16), (15, 40))
    draw(session, 20, 0, (10, 20), (50, 60), object_id=2)
    assert session.conflicts() == []
