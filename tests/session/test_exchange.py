"""Objects that go out of a session and come into another."""

import json
import logging

import numpy as np
import pytest

from napari_sam import Session
from napari_sam.core.objects import ClassList, ObjectClass
from napari_sam.testing import ToyModel, phantom_image

CLASSES = ClassList((ObjectClass("nucleus", "#ff8800", {"SCT": "84640000"}),))


@pytest.fixture
def cells():
    return phantom_image((96, 128), n_objects=4)


@pytest.fixture
def session(cells):
    out = Session(cells.image, ToyModel(), embeddings=False)
    for i in (1, 2, 3):
        out.segment(i, points=[cells.center(i)])
    out.classes = CLASSES
    out.objects[1].class_name = "nucleus"
    out.objects[1].name, out.objects[1].note = "first", "looks odd"
    out.objects[2].review = "accepted"
    out.objects[3].parent = 1
    return out


@pytest.mark.parametrize("suffix", [".json", ".geojson", ".zip"])
def test_what_one_session_knows_the_next_one_knows(session, cells, tmp_path, suffix):
    if suffix == ".zip":
        pytest.importorskip("roifile")
    name = {".geojson": "qupath"}.get(suffix)
    session.export(tmp_path / f"a{suffix}", name)
    other = Session(cells.image, ToyModel(), embeddings=False)

    other.read(tmp_path / f"a{suffix}")

    np.testing.assert_array_equal(other.labels, session.labels)
    for i in (1, 2, 3):
        for field in ("name", "class_name", "review", "note", "parent"):
            want = getattr(session.objects[i], field)
            assert getattr(other.objects[i], field) == want, (i, field)
        assert {p.origin for p in other.objects[i].planes.values()} == {"imported"}
    assert other.classes == CLASSES


def test_reading_is_one_step_with_its_records_and_classes(session, cells, tmp_path):
    session.export(tmp_path / "a.json")
    other = Session(cells.image, ToyModel(), embeddings=False)
    other.read(tmp_path / "a.json")

    assert other.undo()

    assert not other.can_undo
    assert not np.asarray(other.labels).any()
    assert not other.classes.classes and not list(other.objects)
    assert other.redo()
    assert other.objects[1].class_name == "nucleus"


def test_what_was_read_is_there_after_a_reload(session, cells, tmp_path):
    session.export(tmp_path / "a.json")
    path = tmp_path / "work.nsam"
    other = Session(cells.image, ToyModel(), embeddings=False, path=path)
    other.read(tmp_path / "a.json")
    other.close()

    again = Session.load(path, volume=cells.image, model=ToyModel(), embeddings=False)

    np.testing.assert_array_equal(again.labels, session.labels)
    assert again.objects[1].class_name == "nucleus"
    assert again.classes == CLASSES
    again.close()


def test_parents_follow_their_new_ids(session, cells, tmp_path):
    session.export(tmp_path / "a.json")
    other = Session(cells.image, ToyModel(), embeddings=False)
    there = np.asarray(other.labels)
    there[0, 0] = 1
    other = Session(cells.image, ToyModel(), embeddings=False, labels=there)

    found = other.read(tmp_path / "a.json")

    assert sorted(found.objects) == [2, 3, 4]
    assert other.objects[3].parent == 4 and other.objects[4].name == "first"


def test_only_accepted_objects_go_out_when_asked(session, tmp_path):
    session.export(tmp_path / "a.json", reviewed_only=True)

    content = json.loads((tmp_path / "a.json").read_text())
    assert [a["object_id"] for a in content["annotations"]] == [2]


@pytest.mark.parametrize("rule", ["keep", "overwrite"])
def test_reading_respects_what_is_there(session, cells, tmp_path, rule):
    session.export(tmp_path / "a.json")
    taken = np.full(cells.image.shape[:2], 9, np.uint16)
    taken[:, 64:] = 0
    other = Session(cells.image, ToyModel(), embeddings=False, labels=taken.copy())
    other.rule = rule

    other.read(tmp_path / "a.json")

    read, was = np.asarray(other.labels), np.asarray(session.labels)
    want = np.where((was > 0) & ((taken == 0) | (rule == "overwrite")), was, taken)
    np.testing.assert_array_equal(read, want)


def test_what_is_left_out_is_told_and_logged(session, tmp_path, caplog):
    h, w = session.labels.shape
    content = {
        "images": [{"id": 1, "height": h, "width": w, "file_name": "a"}],
        "annotations": [
            {"id": 1, "image_id": 1, "segmentation": [[-9, -9, -5, -9, -5, -5]]}
        ],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))

    with caplog.at_level(logging.WARNING, "napari_sam"):
        found = session.read(tmp_path / "a.json")

    assert found.notes == ("1 annotations hold no pixel of the image: left out",)
    assert found.notes[0] in caplog.text
