"""The same objects as instances, as classes, and as both."""

import numpy as np
import pytest

from napari_sam import open_volume
from napari_sam.core.objects import ClassList, ObjectClass, ObjectRecord
from napari_sam.errors import ExportError
from napari_sam.results.registry import read, write
from napari_sam.results.results import Results
from napari_sam.results.views import seen_as


@pytest.fixture
def results():
    """Four objects of three classes, one of which the list lacks, and one of none."""
    labels = np.zeros((20, 30), np.uint32)
    labels[2:6, 2:9] = 70_000
    labels[2:6, 12:20] = 3
    labels[8:12, 2:9] = 5
    labels[8:12, 12:20] = 7
    labels[14:18, 2:9] = 8
    classes = ClassList((ObjectClass("unused"), ObjectClass("cell", "#ff8800")))
    kinds = {70_000: "cell", 3: "debris", 5: "cell", 7: None}
    records = {i: ObjectRecord(i, f"n{i}", kind) for i, kind in kinds.items()}
    return Results(labels, open_volume(labels), records, classes)


def test_semantic_values_are_places_in_the_list_of_classes(results):
    seen = seen_as(results, "semantic")
    values = np.asarray(seen.labels)
    assert values.dtype == np.uint16
    names = [c.name for c in seen.classes.classes]
    assert names == ["unused", "cell", "debris", "object"]
    expected = {70_000: 2, 5: 2, 3: 3, 7: 4, 8: 4, 0: 0}
    for old, new in expected.items():
        assert (values[results.labels == old] == new).all()
    assert seen.objects[2].color == "#ff8800" and seen.objects[3].name == "debris"
    assert seen.notes == ("values are classes: 1 unused, 2 cell, 3 debris, 4 object",)


def test_panoptic_values_give_class_and_object_back(results):
    seen = seen_as(results, "panoptic")
    values = np.asarray(seen.labels)
    np.testing.assert_array_equal(
        values // 1000, np.asarray(seen_as(results, "semantic").labels)
    )
    for old in (70_000, 3, 5, 7, 8):
        (new,) = np.unique(values[results.labels == old])
        assert (values == new).sum() == (results.labels == old).sum()
    assert seen.objects[2002].name == "n70000"


def test_classes_of_a_thousand_objects_get_more_room():
    labels = np.arange(1, 1201, dtype=np.uint32).reshape(30, 40)
    results = Results(labels, open_volume(labels))
    seen = seen_as(results, "panoptic")
    assert np.asarray(seen.labels).max() == 11_200 and "x 10000" in seen.notes[0]
    assert len(np.unique(np.asarray(seen.labels))) == 1200


@pytest.mark.parametrize("view", ["semantic", "panoptic"])
def test_views_are_written_and_read_like_any_labels(results, view, tmp_path):
    seen = seen_as(results, view)
    for name in ("a.ome.tif", "a.png", "a.zarr", "a.json"):
        write(tmp_path / name, seen)
        found = read(tmp_path / name, results.volume)
        np.testing.assert_array_equal(
            np.asarray(found.labels[...]), np.asarray(seen.labels)
        )


def test_another_view_is_refused(results):
    with pytest.raises(ExportError, match="instance, semantic, panoptic; got 'x'"):
        seen_as(results, "x")
