"""Objects followed beside each other keep to themselves."""

from dataclasses import replace

import numpy as np
import pytest

from napari_sam.core.masks import LabelPatch
from napari_sam.core.planes import Plane
from napari_sam.engine.propagate import PlaneMask
from napari_sam.session import Session
from napari_sam.session.propagation import settled
from napari_sam.testing import ToyModel

N = 16


@pytest.fixture
def session():
    """One column of one brightness, of which two people see two objects."""
    image = np.full((N, 64, 64), 30, np.uint8)
    image[:, 20:44, 20:44] = 200
    return Session(image, ToyModel(64), embeddings=False)


def planes(session, object_id):
    return np.flatnonzero(
        (np.asarray(session.labels) == object_id).any((1, 2))
    ).tolist()


def test_nobody_is_followed_onto_what_is_anothers_by_hand(session):
    session.segment(1, plane=2, points=[(30, 30)])
    session.segment(2, plane=9, points=[(30, 30)])
    alone = session.set_propagation(1)
    task = replace(alone, rivals=type(alone.rivals)())
    assert {m.plane.index[0] for _, m in task.run()} == set(range(N)) - {2}

    session.propagate(1)

    assert planes(session, 1) == list(range(9))
    task = session.set_propagation([1, 2])
    session.accept_propagation(task, list(task.run()))
    assert task.notes[-2:] == [
        "object 1 runs into object 2 on plane 9, and was not followed onto it: is it "
        "wrong before?",
        "object 2 runs into object 1 on plane 2, and was not followed onto it: is it "
        "wrong before?",
    ]
    assert max(planes(session, 1)) < 9 and min(planes(session, 2)) > 2
    assert sorted(planes(session, 1) + planes(session, 2)) == list(range(N))
    # What both were followed onto is one's, and nothing tells which it is.
    doubts = [
        record.doubt
        for i in (1, 2)
        for plane, record in session.objects[i].planes.items()
        if 2 < plane.index[0] < 9
    ]
    assert len(doubts) == 6


def test_what_another_was_painted_on_is_left_and_the_rest_followed(session):
    session.segment(1, plane=2, points=[(30, 30)])
    strip = np.zeros((64, 64), bool)
    strip[20:44, 38:44] = True
    box, there = (20, 38, 44, 44), np.zeros((24, 6), "u2")
    session.labels[4][strip] = 7
    session.record_paint(LabelPatch(Plane((4,)), box, there, there + 7))

    session.propagate(1, planes=(0, 6))

    assert planes(session, 1) == list(range(7))
    assert (session.labels[4][strip] == 7).all()
    assert (session.labels[4][20:44, 20:38] == 1).all()


def test_an_object_that_loses_its_pixels_to_another_is_doubtful():
    box, other = (0, 0, 4, 10), (0, 6, 4, 16)
    full = np.ones((4, 10), bool)
    sure = PlaneMask(Plane((3,)), box, full, "propagated", 0.1)
    less = PlaneMask(Plane((3,)), other, full, "propagated", 0.2)
    same = PlaneMask(Plane((3,)), box, full, "propagated", 0.3)
    found = dict(settled([(5, less), (1, same), (4, sure)]))
    assert found[4].doubt == 0.1 and found[4].bbox == box
    assert found[5].bbox == (0, 10, 4, 16) and found[5].doubt == pytest.approx(0.4)
    assert 1 not in found  # nothing is left of it
