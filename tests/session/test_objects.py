"""What is known of objects: names, classes, review, origin; set, undone, saved."""

from __future__ import annotations

import json

import numpy as np
import pytest

from napari_sam.core.masks import LabelPatch
from napari_sam.core.objects import ClassList, ObjectClass
from napari_sam.core.planes import Plane
from napari_sam.core.prompts import Prompts
from napari_sam.errors import PromptError, SessionError
from napari_sam.session import Session, read_classes, write_classes
from napari_sam.testing import ToyModel, phantom_image, phantom_volume

PHANTOM = phantom_image()
PLANE = Plane(())


@pytest.fixture
def session() -> Session:
    session = Session(PHANTOM.image, ToyModel(), embeddings=False)
    session.segment(1, points=[PHANTOM.center(1)])
    session.segment(2, points=[PHANTOM.center(2)])
    return session


def test_what_is_said_of_an_object_is_undone_step_by_step_and_saved(session, tmp_path):
    one = session.objects[1]
    one.class_name, one.name, one.color = "nucleus", "n1", "#ff0080"
    one.review, one.note, session.objects[2].parent = "accepted", "odd", 1
    session.save(tmp_path / "a.nsam")
    session.close()
    again = Session.load(tmp_path / "a.nsam", volume=PHANTOM.image, model=ToyModel())
    record = again.objects[1].record
    assert (record.class_name, record.name, record.color) == (
        "nucleus",
        "n1",
        "#ff0080",
    )
    assert (record.review, record.note) == ("accepted", "odd")
    assert again.objects[2].parent == 1 and again.classes.get("nucleus") is not None
    for _ in range(6):
        assert again.undo()
    assert again.objects[1].class_name is None and not again.classes.classes
    assert (again.labels == 1).any()
    again.close()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("color", "red"),
        ("review", "perhaps"),
        ("class_name", ""),
        ("parent", 1),
        ("class_name", 3),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(session, name, value):
    before = len(session.document.journal.done)
    with pytest.raises(SessionError):
        setattr(session.objects[1], name, value)
    assert len(session.document.journal.done) == before


def test_an_object_does_not_come_from_its_own_daughter(session):
    session.objects[2].parent = 1
    with pytest.raises(SessionError, match="came from it"):
        session.objects[1].parent = 2


def test_deleting_a_mother_leaves_daughters_without_one(session):
    session.objects[2].parent = 1
    session.delete_object(1)
    assert session.objects[2].parent is None
    session.undo()
    assert session.objects[2].parent == 1


def test_origin_says_how_pixels_came(session):
    session.segment(3, box=(5, 5, 60, 60))
    before = session.labels[:4, :4].copy()
    session.labels[:4, :4] = 4
    session.record_paint(LabelPatch(PLANE, (0, 0, 4, 4), before, before * 0 + 4), 4)
    given = Session(PHANTOM.image, ToyModel(), labels=PHANTOM.labels.copy())
    origins = {i: session.objects[i].planes[PLANE].origin for i in (1, 3, 4)}
    assert origins == {1: "clicked", 3: "drawn", 4: "painted"}
    assert set(given.objects) == set(np.unique(PHANTOM.labels)) - {0}
    assert given.objects[1].planes[PLANE].origin == "imported"


def test_a_plane_can_be_marked_as_reviewed(session):
    session.objects[1].set_reviewed(PLANE)
    assert session.objects[1].planes[PLANE].reviewed
    session.undo()
    assert not session.objects[1].planes[PLANE].reviewed
    with pytest.raises(SessionError, match="not on plane"):
        session.objects[1].set_reviewed(Plane((7,)))


def test_results_hold_what_is_known_and_do_not_change_any_more(session):
    session.objects[1].class_name = "nucleus"
    session.objects[1].review = "accepted"
    results = session.results()
    only = session.results(reviewed_only=True)
    session.delete_object(1)
    assert results.objects[1].class_name == "nucleus" and (results.labels == 1).any()
    assert results.classes.get("nucleus") is not None
    assert set(only.objects) == {1} and set(np.unique(only.labels)) == {0, 1}


def test_classes_are_shared_as_a_file(session, tmp_path):
    classes = ClassList(
        (ObjectClass("nucleus", "#00ff00", {"SCT": "84640000"}), ObjectClass("cell"))
    )
    write_classes(tmp_path / "classes.json", classes)
    session.classes = read_classes(tmp_path / "classes.json")
    assert session.classes.classes == classes.classes
    assert session.undo() and not session.classes.classes


@pytest.mark.parametrize(
    "data",
    [
        "no json",
        "[]",
        json.dumps({"napari_sam_classes": 2, "classes": []}),
        json.dumps({"napari_sam_classes": 1, "classes": [{"name": ""}]}),
        json.dumps(
            {"napari_sam_classes": 1, "classes": [{"name": "a"}, {"name": "a"}]}
        ),
        json.dumps({"napari_sam_classes": 1, "classes": [{"name": "a", "color": "x"}]}),
        json.dumps({"napari_sam_classes": 1, "classes": ["a"]}),
    ],
)
def test_a_file_that_is_no_list_of_classes_is_refused(data, tmp_path):
    (tmp_path / "classes.json").write_text(data)
    with pytest.raises(SessionError):
        read_classes(tmp_path / "classes.json")


def test_what_was_erased_or_deleted_since_a_click_stays_so(session):
    request = session.set_prompts(1, PLANE, Prompts.of(points=[PHANTOM.center(1)]))
    late = session.run(request)
    y, x = (int(v) for v in PHANTOM.center(1))
    bbox = (y - 2, x - 2, y + 2, x + 2)
    before = session.labels[PLANE.window(bbox)].copy()
    session.labels[PLANE.window(bbox)] = 0
    session.record_paint(LabelPatch(PLANE, bbox, before, before * 0), 1)
    session.accept(late)
    assert not session.labels[PLANE.window(bbox)].any()
    request = session.set_prompts(1, PLANE, Prompts.of(points=[PHANTOM.center(1)]))
    session.delete_object(1)
    assert session.accept(session.run(request)) is None
    assert not (session.labels == 1).any()


def test_planes_that_cross_keep_the_line_they_share():
    phantom = phantom_volume()
    session = Session(phantom.image, ToyModel(), embeddings=False)
    z, y, x = phantom.center(1)
    session.segment(1, z, points=[(y, x)])
    first = session.labels.copy()
    session.segment(1, y, points=[(z, x)], axis=1)
    session.delete_object(1, Plane.of(phantom.image.shape, y, axis=1))
    assert np.array_equal(session.labels, first)


@pytest.mark.parametrize("object_id", ["1", 1.5, None, True])
def test_ids_are_whole_numbers(session, object_id):
    with pytest.raises((PromptError, TypeError)):
        session.set_prompts(object_id, PLANE, Prompts.of(points=[(5, 5)]))


@pytest.mark.parametrize("object_id", [np.int64(3), np.uint8(3), 3.0])
def test_ids_of_any_whole_type_are_taken_and_saved(session, object_id, tmp_path):
    session.segment(object_id, points=np.array([PHANTOM.center(3)]))
    session.save(tmp_path / "a.nsam")
    session.close()
    assert set(session.objects) == {1, 2, 3}


def test_a_volume_asks_for_the_plane():
    session = Session(phantom_volume().image, ToyModel(), embeddings=False)
    with pytest.raises(PromptError, match="plane is needed"):
        session.segment(1, points=[(5, 5)])


@pytest.mark.parametrize("points", [(120, 85), [120, 85], np.array([120, 85])])
def test_a_lone_pair_is_told_from_a_list_of_pairs(session, points):
    with pytest.raises(PromptError, match="list of pairs"):
        session.segment(1, points=points)


@pytest.mark.parametrize("labels", ["+", ["+"], [2], [0.5]])
def test_point_labels_are_0_or_1(session, labels):
    with pytest.raises(PromptError, match="point_labels"):
        session.segment(1, points=[(5, 5)], point_labels=labels)
