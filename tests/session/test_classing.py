"""Classes: of new objects, renamed, removed, from other lists; and views of them."""

import json

import numpy as np
import pytest

from napari_sam import open_volume
from napari_sam.core.objects import ClassList, ObjectClass
from napari_sam.errors import SessionError
from napari_sam.session import Session, read_classes
from napari_sam.testing import ToyModel, phantom_image

PHANTOM = phantom_image()


@pytest.fixture
def session():
    return Session(PHANTOM.image, ToyModel(), embeddings=False)


def test_new_objects_get_the_class_in_the_same_step(session):
    session.class_of_new = "cell"
    assert [c.name for c in session.classes.classes] == ["cell"]
    session.segment(1, points=[PHANTOM.center(1)])
    session.segment(1, points=[PHANTOM.center(1), PHANTOM.center(1)])
    assert session.objects[1].class_name == "cell"
    session.objects[1].class_name = None
    session.segment(1, box=PHANTOM.box(1))
    assert session.objects[1].class_name is None, "only as it is made"
    for _ in range(4):
        session.undo()
    assert not session.objects and not session.labels.any()
    session.redo()
    assert session.objects[1].class_name == "cell"
    session.class_of_new = None
    session.segment(2, points=[PHANTOM.center(2)])
    assert session.objects[2].class_name is None


def test_a_class_is_renamed_and_removed_with_its_objects(session, tmp_path):
    for i in (1, 2, 3):
        session.segment(i, points=[PHANTOM.center(i)])
    session.describe([1, 2], class_name="cell")
    session.describe([3], class_name="debris")
    session.class_of_new = "cell"
    assert session.change_class("cell", ObjectClass(" blast ", "#ff0000")) == 2
    kinds = [session.objects[i].class_name for i in (1, 2, 3)]
    assert kinds == ["blast", "blast", "debris"] and session.class_of_new == "blast"
    assert session.change_class("blast", None) == 2
    assert session.objects[1].class_name is None and session.class_of_new is None
    with pytest.raises(SessionError, match="no class 'cell'; there are: debris"):
        session.change_class("cell", None)
    session.undo()
    with pytest.raises(SessionError, match="names of their own"):
        session.change_class("blast", ObjectClass("debris"))
    session.save(tmp_path / "a.nsam")
    session.close()
    again = Session.load(tmp_path / "a.nsam", volume=PHANTOM.image, model=ToyModel())
    assert again.objects[2].class_name == "blast"
    again.undo()
    assert again.objects[2].class_name == "cell"
    assert again.classes.get("cell").color is None
    again.close()


def test_coco_s_categories_are_a_list_of_classes(session, tmp_path):
    categories = [
        {"id": 7, "name": "dog", "supercategory": "animal", "color": [1, 2, 255]},
        {"id": 2, "name": "cat"},
    ]
    (tmp_path / "a.json").write_text(json.dumps({"categories": categories}))
    want = ClassList((ObjectClass("cat"), ObjectClass("dog", "#0102ff")))
    assert read_classes(tmp_path / "a.json") == want
    session.classes = want
    session.segment(1, points=[PHANTOM.center(1)])
    session.objects[1].class_name = "dog"
    session.export(tmp_path / "b.json")
    assert read_classes(tmp_path / "b.json") == want
    (tmp_path / "c.json").write_text('{"categories": [{"id": "x"}]}')
    with pytest.raises(SessionError, match="COCO's categories"):
        read_classes(tmp_path / "c.json")


def test_classes_are_exported_as_values_of_pixels(session, tmp_path):
    for i in (1, 2):
        session.segment(i, points=[PHANTOM.center(i)])
    session.describe([1, 2], class_name="cell")
    session.objects[2].review = "accepted"
    told = session.export(tmp_path / "a.tif", view="semantic")
    assert "values are classes: 1 cell" in told
    pixels = np.asarray(open_volume(tmp_path / "a.tif").levels[0])
    np.testing.assert_array_equal(pixels, session.labels > 0)
    session.export(tmp_path / "b.tif", view="panoptic", reviewed_only=True)
    pixels = np.asarray(open_volume(tmp_path / "b.tif").levels[0])
    np.testing.assert_array_equal(pixels, np.where(session.labels == 2, 1001, 0))
