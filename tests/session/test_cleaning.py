"""Objects tidied in a session: in 2-D and 3-D, undoable, others left alone."""

import numpy as np
import pytest

from napari_sam.core.clean import CleanOptions, clean
from napari_sam.core.planes import Plane
from napari_sam.errors import PromptError
from napari_sam.session import Session
from napari_sam.testing import ToyModel


@pytest.fixture
def session():
    """Object 1: a block with holes and a fragment; object 2 fills one of the holes."""
    labels = np.zeros((8, 40, 50), np.uint16)
    labels[1:7, 5:25, 5:25] = 1
    labels[3, 12:14, 12:14] = 0  # a hole inside the volume
    labels[:, 18, 18] = 0  # a tunnel: a hole on each plane, none in 3-D
    labels[4, 8, 8] = 2
    labels[5, 35, 45] = 1
    image = np.zeros(labels.shape, np.uint8)
    return Session(image, ToyModel(64), embeddings=False, labels=labels)


def test_in_3d_tunnels_stay_and_in_2d_they_are_filled(session):
    before = session.labels.copy()
    assert session.clean(1) == 1
    assert session.labels[3, 12, 12] == 1 and session.labels[3, 18, 18] == 0
    assert session.undo() and np.array_equal(session.labels, before)
    session.clean(1, plane=3)
    assert session.labels[3, 12, 12] == 1 and session.labels[3, 18, 18] == 1
    assert session.labels[2, 18, 18] == 0


def test_other_objects_keep_their_pixels(session):
    session.clean(1, plane=4)
    assert session.labels[4, 8, 8] == 2


def test_the_largest_part_alone_is_kept_as_the_function_says(session):
    options = CleanOptions(largest_only=True)
    expected = clean(session.labels == 1, options)
    session.clean(1, options)
    assert session.labels[5, 35, 45] == 0
    assert np.array_equal(session.labels == 1, expected & (session.labels != 2))


def test_a_clicked_mask_stays_clicked_and_comes_back(session):
    session.segment(3, plane=2, box=(28, 28, 38, 38))
    drawn = session.labels.copy()
    options = CleanOptions(smooth=2.0)
    session.clean(3, options, plane=2)
    assert session.objects[3].planes[Plane((2,))].origin == "drawn"
    cleaned = session.labels.copy()
    session.undo()
    assert np.array_equal(session.labels, drawn)
    session.redo()
    assert np.array_equal(session.labels, cleaned)


def test_what_is_tidied_is_saved(session, tmp_path):
    session.save(tmp_path / "a.nsam")
    session.clean(1, CleanOptions(largest_only=True, smooth=1.0))
    labels = session.labels.copy()
    session.close()
    again = Session.load(
        tmp_path / "a.nsam", volume=np.zeros(labels.shape, np.uint8),
        model=ToyModel(64), embeddings=False,
    )  # fmt: skip
    assert np.array_equal(again.labels, labels)
    again.close()


def test_deleting_a_tidied_object_leaves_nothing_of_it(session):
    session.clean(1, CleanOptions(smooth=1.5))
    session.delete_object(1)
    assert set(np.unique(session.labels)) == {0, 2}


def test_an_object_that_is_not_there_is_said(session):
    with pytest.raises(PromptError, match="no pixel of object 9"):
        session.clean(9)
