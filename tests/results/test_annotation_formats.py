"""Formats of annotations: written, read back, and compared with others' readers."""

import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from napari_sam import Prompts, open_volume
from napari_sam.core.objects import (
    ClassList,
    ObjectClass,
    ObjectRecord,
    PlaneRecord,
)
from napari_sam.core.planes import Plane
from napari_sam.errors import ExportError, VolumeError
from napari_sam.results.registry import FORMATS, read, write
from napari_sam.results.results import Results

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)
FLAT = Plane(())
READ = [n for n, f in FORMATS.items() if f.reads and ".dcm" not in f.suffixes]
"""Those that need no DICOM images."""
VOLUMES = [n for n in READ if "volume" in FORMATS[n].holds]
RECORDS = [n for n in READ if "records" in FORMATS[n].holds and n != "ome_zarr"]
"""OME-Zarr keeps them in a way of its own."""


@pytest.fixture(autouse=True)
def packages(request):
    name = (
        request.node.callspec.params.get("name")
        if hasattr(request.node, "callspec")
        else None
    )
    for package in FORMATS[name].packages if name in FORMATS else ():
        pytest.importorskip(package)


@pytest.fixture
def labels():
    """A ring, an object of two parts, one with a corner hole, specks, a large id."""
    out = np.zeros((60, 90), np.uint32)
    out[5:25, 5:30] = 1
    out[10:15, 10:20] = 0
    out[30:35, 5:10] = out[40:45, 20:26] = 2
    out[30:42, 40:60] = 3
    out[30, 40] = out[31, 41] = out[35, 50] = 0
    out[0, 0] = out[59, 89] = out[59, 0] = 4
    out[50:58, 60:80] = 70_000
    return out


def volume_of(shape):
    pixels = np.broadcast_to(np.zeros((), np.uint8), shape)
    return open_volume(pixels, axes="tzyx"[4 - len(shape) :])


def full_results(labels):
    """Results with everything that is known of objects."""
    classes = ClassList(
        (ObjectClass("nucleus", "#ff8800", {"SCT": "84640000"}), ObjectClass("debris"))
    )
    prompts = Prompts.of(points=[(33.0, 45.5)], box=(1, 2, 30, 40))
    records = {
        1: ObjectRecord(1, "the ring", "nucleus", "#00ff00", "accepted", "odd: a hole"),
        2: ObjectRecord(2, class_name="debris", review="rejected"),
        3: ObjectRecord(3, class_name="nucleus", parent=1),
    }
    for i, record in records.items():
        known = PlaneRecord("clicked", prompts if i == 3 else None, 0.75, 0.25, i == 1)
        where = FLAT if labels.ndim == 2 else Plane((2,))
        records[i] = replace(record, planes={where: known})
    return Results(labels, volume_of(labels.shape), records, classes)


@pytest.mark.parametrize("name", READ)
def test_labels_come_back_as_they_were(name, labels, tmp_path):
    if name in ("png", "ctc"):
        labels = np.where(labels == 70_000, 60_000, labels)
    path = tmp_path / f"a{FORMATS[name].suffixes[0]}"
    results = full_results(labels)
    write(path, results, name)

    found = read(path, results.volume)

    np.testing.assert_array_equal(np.asarray(found.labels[...]), labels)
    assert found.notes == ()


@pytest.mark.parametrize("name", RECORDS)
def test_no_objects_come_back_as_none_or_are_not_written(name, tmp_path):
    path = tmp_path / f"a{FORMATS[name].suffixes[0]}"
    results = Results(np.zeros((8, 9), np.uint16), volume_of((8, 9)))
    if FORMATS[name].packages and name != "imagej":
        with pytest.raises(ExportError, match="no object to write"):
            write(path, results, name)
        return
    write(path, results, name)

    found = read(path, results.volume, name)

    assert not np.asarray(found.labels[...]).any() and not found.objects


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        *((n, (4, 30, 40)) for n in VOLUMES),
        *((n, (2, 3, 30, 40)) for n in VOLUMES if "nrrd" not in n),
    ],
)
def test_labels_of_volumes_come_back_to_their_planes(name, shape, tmp_path):
    rng = np.random.default_rng(3)
    labels = np.zeros(shape, np.uint16)
    labels[..., 4:20, 5:30] = rng.integers(0, 4, (*shape[:-2], 16, 25))
    labels[0] = 0
    path = tmp_path / f"a{FORMATS[name].suffixes[0]}"
    results = Results(labels, volume_of(shape))
    write(path, results, name)

    found = read(path, results.volume)

    np.testing.assert_array_equal(np.asarray(found.labels[...]), labels)


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize("deep", [False, True])
def test_records_and_classes_come_back(name, labels, tmp_path, deep):
    if deep and "volume" not in FORMATS[name].holds:
        pytest.skip("holds one plane")
    if deep:
        labels = np.stack([labels * 0, labels * 0, labels])
    path = tmp_path / f"a{FORMATS[name].suffixes[0]}"
    results = full_results(labels)
    write(path, results, name)

    found = read(path, results.volume)

    for i, want in results.objects.items():
        got = found.objects[i]
        where = FLAT if labels.ndim == 2 else Plane((2,))
        assert set(got.planes) == set(want.planes)
        for field in ("id", "name", "class_name", "color", "review", "note", "parent"):
            assert getattr(got, field) == getattr(want, field), field
        for field in ("origin", "score", "doubt", "reviewed"):
            assert getattr(got.planes[where], field) == getattr(
                want.planes[where], field
            )
        prompts = want.planes[where].prompts
        if prompts is not None:
            assert got.planes[where].prompts.to_json() == prompts.to_json()
    assert found.objects[70_000].class_name is None
    assert found.classes.get("nucleus") == results.classes.get("nucleus")
    assert found.classes.get("debris") == results.classes.get("debris")


@pytest.mark.parametrize("polygons", [False, True])
def test_coco_is_what_pycocotools_reads(labels, tmp_path, polygons, capsys):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    write(tmp_path / "a.json", full_results(labels), "coco", polygons=polygons)
    coco = COCO(str(tmp_path / "a.json"))

    found = coco.loadAnns(coco.getAnnIds())
    for a in found:
        mask = coco.annToMask(a).astype(bool)
        np.testing.assert_array_equal(mask, labels == a["object_id"])
    names = {c["id"]: c["name"] for c in coco.loadCats(coco.getCatIds())}
    assert [names[a["category_id"]] for a in found] == [
        "nucleus", "debris", "nucleus", "object", "object"
    ]  # fmt: skip
    kinds = {a["object_id"]: type(a["segmentation"]) for a in found}
    assert kinds[1] is dict  # it has a hole
    assert kinds[2] is (list if polygons else dict)
    scored = coco.loadRes([{**a, "score": 1.0} for a in found])
    evaluation = COCOeval(coco, scored, "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)


def test_sa1b_has_the_keys_of_the_data_set(labels, tmp_path):
    from pycocotools import mask as coco

    write(tmp_path / "a.json", full_results(labels), "sa1b")
    content = json.loads((tmp_path / "a.json").read_text())

    assert content["image"] | {"file_name": ""} == {
        "image_id": 1, "width": 90, "height": 60, "file_name": ""
    }  # fmt: skip
    for a in content["annotations"]:
        mask = coco.decode(a["segmentation"]).astype(bool)
        np.testing.assert_array_equal(mask, labels == a["id"])
        x, y, w, h = a["bbox"]
        assert mask[y : y + h, x : x + w].sum() == mask.sum() == a["area"]
    assert content["annotations"][2]["point_coords"] == [[45.5, 33.0]]


def test_sa1b_of_others_gets_new_ids(tmp_path):
    from pycocotools import mask as coco

    packed = coco.encode(np.asfortranarray(np.eye(8, 9, dtype=np.uint8)))
    packed["counts"] = packed["counts"].decode()
    content = {
        "image": {"image_id": 223750, "width": 9, "height": 8, "file_name": "sa_1.jpg"},
        "annotations": [
            {"id": 5_000_000_001, "segmentation": packed, "predicted_iou": 0.9}
        ],
    }
    (tmp_path / "sa_1.json").write_text(json.dumps(content))

    found = read(tmp_path / "sa_1.json", volume_of((8, 9)))

    np.testing.assert_array_equal(found.labels, np.eye(8, 9))
    assert found.objects[1].planes[FLAT].score == 0.9


# -- QuPath --------------------------------------------------------------------------


def qupath_file(path, *geometries, **properties):
    features = [
        {"type": "Feature", "id": "PathAnnotationObject", "geometry": g,
         "properties": {"objectType": "annotation", **properties}}
        for g in geometries
    ]  # fmt: skip
    content = {"type": "FeatureCollection", "features": features}
    path.write_text(json.dumps(content))
    return path


SQUARE = {
    "type": "Polygon",
    "coordinates": [[[20, 10], [50, 10], [50, 30], [20, 30], [20, 10]]],
}


@pytest.mark.parametrize("spacing", [None, 0.25])
def test_qupath_counts_pixels_from_the_first_corner(tmp_path, spacing):
    volume = volume_of((60, 90))
    if spacing:
        affine = np.diag([spacing, spacing, 1.0])
        volume = replace(volume, spacing=(spacing,) * 2, affine=affine)
    path = qupath_file(
        tmp_path / "a.geojson",
        {"type": "Point", "coordinates": [10, 10]},
        {"type": "LineString", "coordinates": [[10, 40], [40, 40]]},
        SQUARE,
        classification={"name": "Tumor", "color": [200, 0, 0]},
    )

    found = read(path, volume)

    want = np.zeros((60, 90))
    want[10:30, 20:50] = 1
    np.testing.assert_array_equal(found.labels, want)
    assert found.objects[1].class_name == "Tumor"
    assert found.classes.get("Tumor").color == "#c80000"
    assert found.notes == ("2 features are no polygons: left out",)


def test_qupath_file_is_what_shapely_and_gdal_read(labels, tmp_path):
    geopandas = pytest.importorskip("geopandas")
    write(tmp_path / "a.geojson", full_results(labels), "qupath")

    content = json.loads((tmp_path / "a.geojson").read_text())
    frame = geopandas.read_file(tmp_path / "a.geojson")

    assert frame.geometry.is_valid.all()
    ids = [
        json.loads(f["properties"]["metadata"]["napari_sam"])["object_id"]
        for f in content["features"]
    ]
    for i, polygon in zip(ids, frame.geometry, strict=True):
        y, x = np.nonzero(labels == i)
        assert polygon.area == len(y)
        assert polygon.bounds == (x.min(), y.min(), x.max() + 1, y.max() + 1)


def test_qupath_planes_are_z_and_t(tmp_path):
    path = qupath_file(tmp_path / "a.geojson", SQUARE | {"plane": {"z": 2, "t": 1}})

    found = read(path, volume_of((3, 4, 60, 90)))

    assert np.argwhere(np.asarray(found.labels)).min(0).tolist() == [1, 2, 10, 20]


def test_geojson_of_others_on_a_volume_needs_a_plane(tmp_path):
    pytest.importorskip("geopandas")
    content = {
        "type": "FeatureCollection",
        "features": [{"type": "Feature", "properties": {}, "geometry": SQUARE}],
    }
    (tmp_path / "a.geojson").write_text(json.dumps(content))

    with pytest.raises(VolumeError, match="give the plane"):
        read(tmp_path / "a.geojson", volume_of((3, 60, 90)))


# -- labelme -------------------------------------------------------------------------


def labelme_file(path, *shapes, size=(60, 90)):
    content = {"shapes": list(shapes), "imageHeight": size[0], "imageWidth": size[1]}
    path.write_text(json.dumps(content))
    return path


def test_labelme_of_others_is_read(tmp_path):
    path = labelme_file(
        tmp_path / "a.json",
        {"label": "cat", "points": [[20, 10], [50, 30]], "shape_type": "rectangle"},
        {"label": "cat", "points": [[70, 40], [70, 50]], "shape_type": "circle"},
        {"label": "dog", "points": [[1, 50], [5, 50], [5, 55]], "group_id": 0},
        {"label": "dog", "points": [[11, 50], [15, 50], [15, 55]], "group_id": 0},
        {"label": "way", "points": [[1, 1], [5, 5]], "shape_type": "line"},
    )

    found = read(path, volume_of((60, 90)))

    got = np.asarray(found.labels)
    groups = {i: o.class_name for i, o in found.objects.items()}
    assert sorted(groups.values()) == ["cat", "cat", "dog"]
    assert (got == got[20, 30]).sum() == 20 * 30
    assert (got == got[40, 70]).sum() == pytest.approx(np.pi * 100, rel=0.03)
    assert got[51, 3] == got[51, 13] > 0
    assert found.notes == ("1 features are no polygons: left out",)


def test_labelme_of_another_image_is_refused(tmp_path):
    path = labelme_file(tmp_path / "a.json", size=(61, 90))

    with pytest.raises(VolumeError, match="61 x 90 pixels"):
        read(path, volume_of((60, 90)))


# -- ImageJ --------------------------------------------------------------------------


def test_rois_are_what_roifile_reads(labels, tmp_path):
    roifile = pytest.importorskip("roifile")
    stack = np.stack([labels * 0, labels])
    write(tmp_path / "a.zip", full_results(stack), "imagej")

    rois = roifile.roiread(tmp_path / "a.zip")

    assert [r.position for r in rois] == [2] * 5
    for roi, i in zip(rois, (1, 2, 3, 4, 70_000), strict=True):
        y, x = np.nonzero(labels == i)
        points = np.concatenate(roi.coordinates(multi=True))
        assert points.min(0).tolist() == [x.min(), y.min()]
        assert points.max(0).tolist() == [x.max() + 1, y.max() + 1]
        assert (roi.left, roi.top, roi.right, roi.bottom)[:2] == (x.min(), y.min())
    assert rois[0].composite and not rois[4].composite


def test_rois_drawn_in_imagej_are_read(tmp_path):
    roifile = pytest.importorskip("roifile")
    kind = roifile.ROI_TYPE
    box = roifile.ImagejRoi()
    box.roitype, box.name = kind.RECT, "box"
    box.top, box.left, box.bottom, box.right = 10, 20, 30, 50
    line = roifile.ImagejRoi.frompoints([[1, 1], [5, 9]], name="line")
    line.roitype = kind.POLYLINE
    drawn = roifile.ImagejRoi.frompoints([[60.0, 40], [70, 40], [70, 50.5]], name="d")
    drawn.position = 3
    roifile.roiwrite(tmp_path / "a.zip", [box, line, drawn])

    with pytest.raises(VolumeError, match="give the plane"):
        read(tmp_path / "a.zip", volume_of((4, 60, 90)))
    box.position = 1
    roifile.roiwrite(tmp_path / "b.zip", [box, line, drawn])
    found = read(tmp_path / "b.zip", volume_of((4, 60, 90)))

    got = np.asarray(found.labels)
    assert (got[0] == 1).sum() == 600 == (got[0, 10:30, 20:50] == 1).sum()
    assert set(np.unique(got[2])) == {0, 2}
    assert found.objects[1].name == "box"


def test_rois_beyond_imagejs_coordinates_are_refused(tmp_path):
    pytest.importorskip("roifile")
    wide = Results(np.zeros((2, 70_000), np.uint8), volume_of((2, 70_000)))

    with pytest.raises(ExportError, match=r"60535.*write coco"):
        write(tmp_path / "a.zip", wide)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    pytest.importorskip("roifile")
    monkeypatch.setattr("napari_sam.results.formats.imagej._LARGEST", 1000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.roi", bytes(5000))

    with pytest.raises(VolumeError, match="unpacks to more"):
        read(tmp_path / "a.zip", volume_of((8, 9)))


# -- COCO of other programs ----------------------------------------------------------


def coco_of(images, annotations, **more):
    categories = more.pop("categories", [])
    return {
        "images": [
            {"id": n, "height": 20, "width": 30, **i} for n, i in images.items()
        ],
        "annotations": [{"id": 1, **a} for a in annotations],
        "categories": categories,
        **more,
    }


def read_coco(tmp_path, content, shape=(20, 30), **options):
    (tmp_path / "a.json").write_text(json.dumps(content))
    return read(tmp_path / "a.json", volume_of(shape), "coco", **options)


def box_of(y0, x0, y1, x1):
    return [[x0, y0, x1, y0, x1, y1, x0, y1]]


def test_coco_images_are_the_planes_in_their_order(tmp_path):
    content = coco_of(
        {7: {"file_name": "s1.png"}, 8: {"file_name": "s2.png"}},
        [{"image_id": 8, "segmentation": box_of(2, 3, 6, 9)},
         {"image_id": 7, "segmentation": box_of(5, 5, 9, 9)}],
    )  # fmt: skip

    found = read_coco(tmp_path, content, (2, 20, 30))

    got = np.asarray(found.labels)
    assert (got[0] == 2).sum() == 16 and (got[1] == 1).sum() == 24
    assert (got > 0).sum() == 40


def test_of_many_coco_images_the_one_of_this_name_is_taken(tmp_path):
    content = coco_of(
        {1: {"file_name": "train/array.png"}, 2: {"file_name": "other.png"}},
        [{"image_id": i, "segmentation": box_of(i, i, i + 4, i + 4)} for i in (1, 2)],
    )
    found = read_coco(tmp_path, content)  # arrays are called "array"

    np.testing.assert_array_equal(np.argwhere(found.labels).min(0), (1, 1))
    assert (np.asarray(found.labels) > 0).sum() == 16
    assert found.notes == ("1 images of the file are others",)


def test_coco_images_that_could_be_any_are_refused(tmp_path):
    content = coco_of(
        {1: {"file_name": "a.png"}, 2: {"file_name": "b.png"}},
        [{"image_id": 1, "segmentation": box_of(1, 1, 4, 4)}],
    )
    with pytest.raises(VolumeError, match="2 images, and which of them"):
        read_coco(tmp_path, content)


@pytest.mark.parametrize("given", [{}, {"segmentation": []}, {"segmentation": None}])
def test_coco_detections_are_refused_or_boxes(tmp_path, given):
    content = coco_of({1: {}}, [{"image_id": 1, "bbox": [3, 2, 10, 5], **given}])

    with pytest.raises(VolumeError, match=r"only a box.*boxes=True"):
        read_coco(tmp_path, content)
    found = read_coco(tmp_path, content, boxes=True)

    want = np.zeros((20, 30))
    want[2:7, 3:13] = 1
    np.testing.assert_array_equal(found.labels, want)


@pytest.mark.parametrize(
    "polygons",
    [
        pytest.param([[10, 10, 20, 10]], id="two corners"),
        pytest.param([[-50, -50, -10, -50, -10, -10]], id="outside"),
    ],
)
def test_coco_polygons_without_pixels_are_left_out_and_told(tmp_path, polygons):
    good = {"image_id": 1, "segmentation": box_of(1, 1, 4, 4)}
    content = coco_of({1: {}}, [{"image_id": 1, "segmentation": polygons}, good])

    found = read_coco(tmp_path, content)

    assert (np.asarray(found.labels) > 0).sum() == 9
    assert found.notes == ("1 annotations hold no pixel of the image: left out",)


def test_a_flat_coco_polygon_stands_for_itself(tmp_path):
    flat = box_of(1, 1, 4, 4)[0]
    content = coco_of({1: {}}, [{"image_id": 1, "segmentation": flat}])

    assert (np.asarray(read_coco(tmp_path, content).labels) == 1).sum() == 9


@pytest.mark.parametrize("given", ["70000", 70000, 70000.0])
def test_coco_ids_may_be_text_and_large(tmp_path, given):
    mask = {"image_id": 1, "segmentation": box_of(1, 1, 4, 4)}
    content = coco_of({1: {}}, [{**mask, "object_id": given}])

    assert np.unique(read_coco(tmp_path, content).labels).tolist() == [0, 70_000]


def test_coco_ids_that_are_names_become_names(tmp_path):
    mask = {"image_id": 1, "segmentation": box_of(1, 1, 4, 4)}
    content = coco_of({1: {}}, [{**mask, "object_id": "cell-7"}])

    assert read_coco(tmp_path, content).objects[1].name == "cell-7"


def test_coco_ids_beyond_labels_are_refused(tmp_path):
    mask = {"image_id": 1, "segmentation": box_of(1, 1, 4, 4)}
    with pytest.raises(VolumeError, match="1 to 4294967295; got"):
        read_coco(tmp_path, coco_of({1: {}}, [{**mask, "object_id": 2**32}]))


def test_masks_on_top_of_each_other_are_told(tmp_path):
    masks = [
        {"image_id": 1, "segmentation": box_of(*b)}
        for b in ((1, 1, 5, 5), (3, 3, 9, 9))
    ]
    found = read_coco(tmp_path, coco_of({1: {}}, masks))

    assert found.notes == ("4 pixels belong to several objects: labels hold the last",)


def test_a_coco_image_without_a_size_has_the_planes(tmp_path):
    mask = {"image_id": 1, "segmentation": box_of(1, 1, 4, 4)}
    content = coco_of({1: {"height": None, "width": None}}, [mask])

    assert (np.asarray(read_coco(tmp_path, content).labels) == 1).sum() == 9


def test_one_json_suffix_is_told_apart_by_content(labels, tmp_path):
    results = full_results(labels)
    for name in ("coco", "sa1b", "labelme", "qupath"):
        write(tmp_path / f"{name}.json", results, name)

        found = read(tmp_path / f"{name}.json", results.volume)

        np.testing.assert_array_equal(np.asarray(found.labels[...]), labels)
    (tmp_path / "x.json").write_text("[1, 2]")
    with pytest.raises(VolumeError, match="none of the formats coco, coco_"):
        read(tmp_path / "x.json", results.volume)
