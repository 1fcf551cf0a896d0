"""Refine, split and merge: every pixel, origin and class kept, one step each."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam import Session
from napari_sam.core.masks import LabelPatch
from napari_sam.core.planes import Plane
from napari_sam.errors import PromptError
from napari_sam.testing import ToyModel

PLANE = Plane(())


def two_halves() -> np.ndarray:
    """A bright and a dim half that touch: one object that holds two things."""
    image = np.zeros((48, 80), np.uint8)
    image[10:40, 8:40] = 200
    image[10:40, 40:70] = 90
    return image


@pytest.fixture
def session(tmp_path):
    made = Session(two_halves(), ToyModel(64), path=tmp_path / "a.nsam")
    yield made
    made.close()


def joined(session, object_id=1):
    """Make both halves one object, by a prompt."""
    session.segment(object_id, mask=two_halves() > 0)
    here = session.labels == 0
    patch_labels(session, here & (two_halves() > 0), object_id)


def patch_labels(session, where, value):
    before = session.labels.copy()
    session.labels[where] = value
    box = (0, 0, *before.shape)
    patch = LabelPatch(PLANE, box, before, session.labels.copy())
    session.record_paint(patch, value)


def test_split_draws_the_models_border_and_keeps_every_pixel(session):
    joined(session)
    before = session.labels.copy()
    assert session.split(1, [(20, 20), (20, 60)]) == [1, 2]
    np.testing.assert_array_equal(session.labels > 0, before > 0)
    np.testing.assert_array_equal(session.labels == 1, two_halves() == 200)
    np.testing.assert_array_equal(session.labels == 2, two_halves() == 90)
    session.undo()
    np.testing.assert_array_equal(session.labels, before)
    assert list(session.objects) == [1]
    session.redo()
    assert sorted(session.objects) == [1, 2]


def test_parts_have_class_and_origin_of_the_whole(session):
    joined(session)
    session.objects[1].class_name = "cell"
    origin = session.objects[1].planes[PLANE].origin
    session.split(1, [(20, 20), (20, 60)])
    assert session.objects[2].class_name == "cell"
    assert session.objects[2].planes[PLANE].origin == origin
    session.delete_object(2)
    assert not (session.labels[two_halves() == 90]).any()  # not the whole again


def test_three_parts_of_painted_pixels_come_back_from_the_disk(session):
    image = two_halves()
    patch_labels(session, image > 0, 7)
    ids = session.split(7, [(15, 12), (20, 60), (35, 36)])
    assert ids == [7, 8, 9]
    assert (session.labels > 0).sum() == (image > 0).sum()
    assert {r.planes[PLANE].origin for r in session.objects.values()} == {"painted"}
    labels, path = session.labels.copy(), session.path
    session.close()
    again = Session.load(path, volume=image, model=ToyModel(64))
    np.testing.assert_array_equal(again.labels, labels)
    again.undo()
    assert set(np.unique(again.labels)) == {0, 7}
    again.close()


def test_clicks_go_on_from_the_part_that_a_split_left(session):
    joined(session)
    session.split(1, [(20, 20), (20, 60)])
    state = session.object(2, PLANE)
    assert state.prompts.mask is not None
    session.segment(2, mask=state.prompts.mask, points=[(20, 50)])
    assert (session.labels == 2)[20, 50]
    np.testing.assert_array_equal(session.labels == 1, two_halves() == 200)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        pytest.param([(20, 20)], "two points", id="one point"),
        pytest.param([(20, 20), (20.2, 20.3)], "different pixels", id="the same"),
        pytest.param([(20, 20), (2, 2)], "outside object 1", id="outside"),
    ],
)
def test_a_split_that_cannot_be_is_refused(session, points, message):
    joined(session)
    before = session.labels.copy()
    with pytest.raises(PromptError, match=message):
        session.split(1, points)
    np.testing.assert_array_equal(session.labels, before)


def test_a_late_split_of_what_has_changed_since_is_refused(session):
    joined(session)
    asked = session.set_split(1, PLANE, [(20, 20), (20, 60)])
    patch_labels(session, np.indices(session.labels.shape)[0] < 15, 0)
    with pytest.raises(PromptError, match="has changed"):
        session.accept_split(asked, asked.run())


def test_merge_makes_one_object_and_undo_gives_both_back(session):
    image = two_halves()
    session.segment(1, points=[(20, 20)])
    session.segment(2, points=[(20, 60)])
    session.objects[1].name = "left"
    before = session.labels.copy()
    assert session.merge([1, 2]) == 1
    np.testing.assert_array_equal(session.labels == 1, image > 0)
    assert list(session.objects) == [1]
    assert session.objects[1].name == "left"
    assert session.objects[1].planes[PLANE].origin == "clicked"
    session.undo()
    np.testing.assert_array_equal(session.labels, before)
    session.redo()
    session.delete_object(1)
    assert not session.labels.any()


def test_merge_takes_painted_pixels_and_other_planes_along():
    volume = np.stack([two_halves()] * 3)
    session = Session(volume, ToyModel(64))
    session.segment(1, 0, points=[(20, 20)])
    session.segment(2, 1, points=[(20, 60)])
    plane = Plane.of(volume.shape, 2)
    before = session.labels.copy()
    session.labels[2, 5:9, 5:9] = 2
    patch = LabelPatch(plane, (0, 0, 48, 80), before[2], session.labels[2].copy())
    session.record_paint(patch, 2)
    whole = session.labels > 0
    session.merge([1, 2])
    np.testing.assert_array_equal(session.labels, whole)
    assert len(session.objects[1].planes) == 3
    session.undo()
    assert set(np.unique(session.labels)) == {0, 1, 2}


def test_merge_needs_objects(session):
    session.segment(1, points=[(20, 20)])
    with pytest.raises(PromptError, match="two objects"):
        session.merge([1, 1])
    with pytest.raises(PromptError, match="object 5 has no pixel"):
        session.merge([1, 5])


def test_refine_draws_a_painted_object_again(session):
    image = two_halves()
    hole = np.indices(image.shape).sum(0) % 9 == 0
    rim = np.zeros(image.shape, bool)
    rim[8:42, 6:40] = True  # too large, and full of holes
    patch_labels(session, rim & ~hole, 3)
    painted = session.labels.copy()
    [found] = session.refine(3)
    np.testing.assert_array_equal(found.full(image.shape), image == 200)
    np.testing.assert_array_equal(session.labels == 3, image == 200)
    session.undo()
    np.testing.assert_array_equal(session.labels, painted)
    session.redo()
    np.testing.assert_array_equal(session.labels == 3, image == 200)
    session.delete_object(3)
    assert not session.labels.any()  # nothing painted comes back from beneath
    with pytest.raises(PromptError, match="no pixel on plane"):
        session.refine(9)
