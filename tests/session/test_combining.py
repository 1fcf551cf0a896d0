"""Two people's sessions of one image: how far they agree, and one made of both."""

import numpy as np
import pytest

from napari_sam.errors import SessionError, VolumeError
from napari_sam.session import Session
from napari_sam.session.combining import CombineOptions
from napari_sam.testing import ToyModel

SHAPE = (60, 100)


def square(labels, value, y, x, side=10):
    labels[y : y + side, x : x + side] = value


def session_of(labels, kinds, path=None):
    image = np.zeros(SHAPE, np.uint8)
    session = Session(image, ToyModel(), embeddings=False, labels=labels)
    for i, kind in kinds.items():
        session.objects[i].class_name = kind
    if path is not None:
        session.save(path)
    return session


@pytest.fixture
def ours():
    """Same (1), in another shape (2), of another class (3), alone (4), nameless (5)."""
    labels = np.zeros(SHAPE, np.uint16)
    for n in range(1, 6):
        square(labels, n, 5, 16 * n)
    return session_of(labels, {1: "cell", 2: "cell", 3: "cell", 4: "dust"})


@pytest.fixture
def theirs():
    labels = np.zeros(SHAPE, np.uint16)
    square(labels, 10, 5, 16)
    labels[5, 16:26] = 0  # IoU .9
    square(labels, 20, 9, 34)
    square(labels, 30, 5, 48)
    square(labels, 50, 5, 80)
    square(labels, 60, 40, 10)
    square(labels, 4, 40, 40)
    return session_of(labels, {10: "cell", 30: "dust", 50: "hair", 60: "cell"})


def test_every_object_of_either_is_accounted_for(ours, theirs):
    found = ours.compare(theirs)
    counts = {"same": 2, "shape": 1, "class": 1, "ours": 1, "theirs": 2}
    assert found.counts == counts
    assert [m.kind for m in found.conflicts] == [
        "theirs", "theirs", "ours", "shape", "class"
    ]  # fmt: skip
    shape = found.conflicts[3]
    assert (shape.ours, shape.theirs) == (2, 20)
    assert shape.iou == pytest.approx(48 / 152)
    assert found.scores.at(0.5).tp == 3 and found.mean_iou < 0.85
    # Of three objects with two classes: "cell" twice alike, "cell" and "dust" once.
    assert found.kappa == pytest.approx(0.0)
    assert "another shape | 1" in found.table()
    assert ours.compare(theirs, agree=0.3).counts["shape"] == 0
    with pytest.raises(SessionError, match="at most 1; got 2"):
        ours.compare(theirs, agree=2)


def test_agreement_beyond_chance_is_cohen_s_kappa(ours):
    same = ours.compare(ours)
    assert same.kappa == 1 and not same.conflicts and same.mean_iou == 1
    # 20 and 15 alike, 5 and 10 not: the example of Cohen's paper as it is told.
    labels = np.zeros((20, 200), np.uint16)
    for n in range(50):
        labels[2:6, 4 * n : 4 * n + 3] = n + 1
    sides = ["yy"] * 20 + ["yn"] * 5 + ["ny"] * 10 + ["nn"] * 15
    people = []
    for side in (0, 1):
        image = np.zeros(labels.shape, np.uint8)
        made = Session(image, ToyModel(), embeddings=False, labels=labels.copy())
        for kind in "yn":
            ids = [n + 1 for n, two in enumerate(sides) if two[side] == kind]
            made.describe(ids, class_name=kind)
        people.append(made)
    assert people[0].compare(people[1]).kappa == pytest.approx(0.4)


def test_a_merge_keeps_ours_adds_theirs_and_flags_what_differs(ours, theirs):
    before = np.asarray(ours.labels).copy()
    ours.combine(theirs)
    now = np.asarray(ours.labels)
    np.testing.assert_array_equal(now[before > 0], before[before > 0])
    assert set(np.unique(now)) == {*range(8)}
    said = {i: (o.class_name, o.review, o.note) for i, o in ours.objects.items()}
    assert said[1] == ("cell", "open", "")
    assert said[2] == ("cell", "flagged", "their object 20: IoU 0.32")
    assert said[3] == ("cell", "flagged", "their object 30: IoU 1.00, class dust")
    assert said[4] == ("dust", "flagged", "they have no such object")
    assert said[5] == ("hair", "open", "")
    assert sorted(said[i][2] for i in (6, 7)) == [
        "only they have it, as object 4", "only they have it, as object 60"
    ]  # fmt: skip
    assert (now[40:50, 10:20] > 5).all() and (now[40:50, 40:50] > 5).all()
    assert ours.undo()
    np.testing.assert_array_equal(ours.labels, before)
    assert ours.objects[2].review == "open" and 6 not in ours.objects


@pytest.mark.parametrize(
    ("options", "pixels"),
    [
        pytest.param(CombineOptions(), {1: 100, 2: 100}, id="ours"),
        pytest.param(
            CombineOptions(consensus="intersection"), {1: 90, 2: 100}, id="both"
        ),
        pytest.param(CombineOptions(prefer="theirs"), {1: 100, 2: 100}, id="theirs"),
        pytest.param(CombineOptions(0.3, "union"), {1: 100, 2: 152}, id="either"),
    ],
)
def test_pixels_are_those_asked_for(ours, theirs, options, pixels):
    before = np.asarray(ours.labels).copy()
    ours.combine(theirs, options)
    now = np.asarray(ours.labels)
    assert {i: int((now == i).sum()) for i in pixels} == pixels
    if options.prefer == "theirs":
        np.testing.assert_array_equal(now == 2, np.asarray(theirs.labels) == 20)
    others = np.isin(before, (3, 4, 5))
    np.testing.assert_array_equal(now[others], before[others])


def test_saved_sessions_and_files_of_volumes_are_merged(tmp_path):
    labels = np.zeros((3, 40, 40), np.uint16)
    labels[1, 5:15, 5:15] = 1
    other = labels.copy()
    other[2, 5:15, 5:15] = 1
    other[0, 20:30, 20:30] = 2
    image = np.zeros(labels.shape, np.uint8)
    ours, theirs = (
        Session(image, ToyModel(), embeddings=False, labels=v) for v in (labels, other)
    )
    theirs.objects[2].name = "small one"
    theirs.save(tmp_path / "b.nsam")
    theirs.export(tmp_path / "b.ome.tif")
    theirs.close()
    assert ours.compare(tmp_path / "b.ome.tif").counts["theirs"] == 1
    pending = ours.set_combination(tmp_path / "b.nsam", CombineOptions(0.5, "union"))
    assert not np.asarray(ours.labels)[2].any(), "nothing has changed yet"
    ours.accept_combination(pending)
    np.testing.assert_array_equal(ours.labels, other)
    assert ours.objects[2].name == "small one" and len(ours.objects[1].planes) == 2
    with pytest.raises(SessionError, match="combine again"):
        ours.accept_combination(pending)
    flat = session_of(np.zeros(SHAPE, np.uint16), {})
    with pytest.raises((SessionError, VolumeError)):
        flat.compare(tmp_path / "b.nsam")
