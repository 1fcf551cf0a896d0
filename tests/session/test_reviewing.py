"""Many objects at once: the table, bulk changes, review, and the error rate."""

from __future__ import annotations

import math

import numpy as np
import pytest

from napari_sam.core.error_rate import ErrorRate
from napari_sam.core.objects import PlaneRecord
from napari_sam.errors import Cancelled, SessionError
from napari_sam.results.measure import MeasureOptions
from napari_sam.session import Session
from napari_sam.testing import ToyModel, phantom_image

PHANTOM = phantom_image()


def many(n: int = 30) -> Session:
    """A session with n squares that were imported, and doubts of some."""
    labels = np.zeros((60, 10 * n), np.uint16)
    for i in range(n):
        labels[5:9, 10 * i : 10 * i + 4] = i + 1
    pixels = np.arange(labels.size, dtype=np.uint16).reshape(labels.shape)
    session = Session(pixels, ToyModel(), embeddings=False, labels=labels)
    for key in list(session.document.painted):
        if key[0] % 3:
            doubt = (key[0] * 7 % n) / n
            session.document.painted[key] = PlaneRecord("imported", doubt=doubt)
    return session


def test_the_table_joins_what_is_known_with_what_is_measured():
    session = Session(PHANTOM.image, ToyModel(), embeddings=False)
    session.segment(1, points=[PHANTOM.center(1)])
    session.segment(2, points=[PHANTOM.center(2)])
    session.objects[2].class_name, session.objects[2].review = "cell", "accepted"
    table = session.table().set_index("object_id")
    inside = session.labels == 2
    assert table.loc[2, "class"] == "cell" and table.loc[2, "model"] == "toy"
    assert table.loc[2, "pixels"] == inside.sum()
    mean = PHANTOM.image[inside].mean()
    assert table.loc[2, "intensity_mean"] == pytest.approx(mean)
    assert session.table(reviewed_only=True)["object_id"].tolist() == [2]
    bare = session.table(MeasureOptions(intensity=False, shape=False))
    assert "perimeter" not in bare and "centroid_y" in bare
    with pytest.raises(Cancelled):
        session.table(cancel=lambda: True)


def test_many_objects_change_as_one_step():
    session = many()
    assert session.describe(range(5, 15), class_name="cell", review="accepted") == 10
    assert session.describe([15], class_name="dust") == 1
    assert [c.name for c in session.classes.classes] == ["cell", "dust"]
    assert session.objects[9].review == "accepted"
    session.undo()
    session.undo()
    assert session.objects[9].class_name is None and not session.classes.classes
    for values in ({"review": "perhaps"}, {"size": 3}, {"parent": 2}):
        with pytest.raises(SessionError):
            session.describe([1, 2], **values)
    with pytest.raises(SessionError, match="no object 99"):
        session.describe([1, 99], review="accepted")
    assert not session.can_undo


def test_many_objects_are_deleted_as_one_step():
    session = many()
    before = session.labels.copy()
    session.segment(3, points=[(50, 50)])
    assert session.delete_objects([3, 7, 20]) == 3
    assert not np.isin(session.labels, (3, 7, 20)).any() and 7 not in session.objects
    assert (session.labels > 0).sum() == 27 * 16
    session.undo()
    session.undo()
    np.testing.assert_array_equal(session.labels, before)


def test_the_most_doubtful_comes_first_and_what_is_reviewed_not_again():
    session = many()
    queue = session.review_queue()
    doubts = [i * 7 % 30 / 30 if i % 3 else -1 for i in queue]
    assert doubts == sorted(doubts, reverse=True) and len(queue) == 30
    session.objects[queue[0]].review = "accepted"
    assert session.review_queue() == queue[1:]
    assert set(session.review_queue(among=[4, 5])) == {4, 5}
    with pytest.raises(SessionError, match="random"):
        session.review_queue("size")


def test_objects_drawn_at_random_say_how_many_are_wrong(tmp_path):
    session = many()
    queue = session.review_queue("random")
    assert queue == session.review_queue("random") and sorted(queue) != queue
    for n, object_id in enumerate(queue[:10]):
        session.judge(object_id, right=n != 4)
    rate = session.error_rate()
    assert (rate.checked, rate.wrong, rate.rate) == (10, 1, 0.1)
    assert session.review_queue("random") == queue[10:]
    assert session.objects[queue[4]].review == "rejected"
    # Mending or removing what was found wrong does not make it right.
    session.objects[queue[4]].review = "accepted"
    session.delete_objects([queue[4]])
    assert session.error_rate() == rate
    session.save(tmp_path / "a.nsam")
    session.close()
    pixels = np.asarray(session.volume.levels[0])
    again = Session.load(tmp_path / "a.nsam", volume=pixels, model=ToyModel())
    assert again.error_rate() == rate
    for _ in range(3):
        again.undo()
    assert again.error_rate().checked == 9
    again.close()


def test_the_interval_holds_the_truth_as_often_as_it_says():
    # Of all outcomes of 40 draws at a rate of 10 %, by their probability.
    n, p, held = 40, 0.1, 0.0
    for wrong in range(n + 1):
        low, high = ErrorRate(n, wrong).interval
        chance = math.comb(n, wrong) * p**wrong * (1 - p) ** (n - wrong)
        held += chance * (low <= p <= high)
    assert 0.93 < held < 0.99
    low, high = ErrorRate(10, 2).interval  # Newcombe 1998's way, by hand
    assert (round(low, 4), round(high, 4)) == (0.0567, 0.5098)
    assert ErrorRate(0, 0).interval == (0.0, 1.0)


def test_changes_name_the_objects_they_touch():
    session = many()
    seen = session.document.revision
    session.describe([4, 8], class_name="cell")
    session.objects[8].note = "odd"
    assert session.document.changed_since(seen) == [8, 4]
    seen = session.document.revision
    session.undo()
    assert session.document.changed_since(seen) == [8]
    assert session.document.changed_since(session.document.revision) == []
