"""Boxes, points and outlines from files that others write."""

import json

import numpy as np
import pytest

from napari_sam.errors import VolumeError
from napari_sam.results.detections import read_detections

SHAPE = (100, 200)


def read(tmp_path, name, text, shape=SHAPE):
    path = tmp_path / name
    path.write_text(text)
    return read_detections(path, shape)


@pytest.mark.parametrize(
    "header",
    ["y0,x0,y1,x1", "ymin,xmin,ymax,xmax", "top,left,bottom,right", "Y1, X1, Y2, X2"],
)
def test_tables_of_boxes(tmp_path, header):
    [a, b] = read(
        tmp_path, "a.csv",
        f"{header},label,score\n1,2,30,40,cell,0.9\n5,6.5,7,8,,\n",
    )  # fmt: skip
    assert a.prompts.box == (1, 2, 30, 40)
    assert (a.class_name, a.score, a.plane) == ("cell", 0.9, None)
    assert b.prompts.box == (5, 6.5, 7, 8) and b.class_name is None and b.score is None


def test_tables_of_sizes_and_of_points_with_planes(tmp_path):
    [a] = read(tmp_path, "a.csv", "x,y,width,height\n10,20,5,6\n")
    assert a.prompts.box == (20, 10, 26, 15)
    [b] = read(tmp_path, "b.csv", "z,y,x\n3,20,10\n")
    assert b.prompts.points == ((20, 10),) and b.plane == (3,)


def test_what_napari_saves_comes_back(tmp_path):
    pytest.importorskip("napari", reason="napari writes these files")
    from napari.layers import Points, Shapes
    from napari_builtins.io import napari_write_points, napari_write_shapes

    shapes = Shapes(ndim=3)
    corners = [(2, 9.5, 19.5), (2, 9.5, 39.5), (2, 29.5, 39.5), (2, 29.5, 19.5)]
    shapes.add_rectangles(np.array(corners))
    shapes.add_polygons(np.array([(4, 1, 2), (4, 30, 2), (4, 20, 25.0)]))
    shapes.add_paths(np.array([(1, 5, 5), (1, 9, 40.0)]))
    data, meta, _ = shapes.as_layer_data_tuple()
    napari_write_shapes(str(tmp_path / "shapes.csv"), data, meta)
    box, outline, stroke = read_detections(tmp_path / "shapes.csv", (8, 100, 200))
    assert box.prompts.box == (10, 20, 30, 40) and box.plane == (2,)
    assert outline.prompts.polygon == ((1, 2), (30, 2), (20, 25))
    assert outline.plane == (4,) and stroke.prompts.scribbles == (((5, 5), (9, 40)),)
    data, meta, _ = Points([[7, 8], [9, 10]]).as_layer_data_tuple()
    napari_write_points(str(tmp_path / "points.csv"), data, meta)
    found = read_detections(tmp_path / "points.csv", SHAPE)
    assert [d.prompts.points for d in found] == [((7, 8),), ((9, 10),)]


def test_coco_results_and_annotations(tmp_path):
    result = {"image_id": 7, "category_id": 1, "bbox": [10, 20, 5, 6], "score": 0.5}
    [a] = read(tmp_path, "a.json", json.dumps([result]))
    assert a.prompts.box == (20, 10, 26, 15) and a.score == 0.5
    whole = {
        "images": [{"id": 4}, {"id": 7}],
        "categories": [{"id": 1, "name": "nucleus"}],
        "annotations": [result],
    }
    [b] = read(tmp_path, "b.json", json.dumps(whole), (3, 100, 200))
    assert b.class_name == "nucleus" and b.plane == (1,)


def test_yolo_boxes_and_polygons_against_their_definition(tmp_path):
    text = "0 0.5 0.5 0.1 0.2\n3 0.25 0.5 0.5 0.5 0.9\n1 0 0 1 0 1 1 0 1\n"
    a, b, c = read(tmp_path, "a.txt", text)
    np.testing.assert_allclose(a.prompts.box, (40, 90, 60, 110))
    assert b.score == 0.9 and b.class_name == "3"
    corners = [(-0.5, -0.5), (-0.5, 199.5), (99.5, 199.5), (99.5, -0.5)]
    np.testing.assert_allclose(c.prompts.polygon, corners)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        pytest.param("a.csv", "a,b\n1,2\n", "columns y0, x0", id="columns"),
        pytest.param("a.csv", "y0,x0,y1,x1\n", "holds no box", id="no rows"),
        pytest.param("a.csv", "y0,x0,y1,x1\n1,2,3,x\n", "understood", id="number"),
        pytest.param("a.json", "{", "cannot be understood", id="json"),
        pytest.param("a.json", "[]", "holds no box", id="empty"),
        pytest.param("a.txt", "0 30 40 10 10\n", "shares", id="pixels"),
        pytest.param("a.txt", "0 0.5 0.5 0.5\n", "understood", id="three"),
        pytest.param("a.xml", "", "are read from", id="suffix"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path, name, text, message):
    with pytest.raises(VolumeError, match=message):
        read(tmp_path, name, text)
