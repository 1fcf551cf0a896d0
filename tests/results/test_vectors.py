"""Polygons of objects: they give the labels back when rasterised, in place on Earth."""

from __future__ import annotations

import numpy as np
import pytest

rasterio = pytest.importorskip("rasterio")
geopandas = pytest.importorskip("geopandas")
from rasterio.features import rasterize  # noqa: E402
from rasterio.transform import Affine  # noqa: E402

from napari_sam.errors import ExportError, VolumeError  # noqa: E402
from napari_sam.results.vectors import corner_matrix  # noqa: E402
from napari_sam.session import Session  # noqa: E402
from napari_sam.testing import ToyModel, phantom_volume  # noqa: E402
from napari_sam.volume.opening import open_volume  # noqa: E402

TRANSFORM = Affine(10, 1, 500_000, 2, -10, 5_200_000)


@pytest.fixture
def scene(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (3, 120, 150), np.uint8)
    path = str(tmp_path / "scene.tif")
    with rasterio.open(
        path, "w", driver="GTiff", width=150, height=120, count=3, dtype="uint8",
        crs="EPSG:32633", transform=TRANSFORM,
    ) as out:  # fmt: skip
        out.write(pixels)
    return path


@pytest.fixture
def labels():
    """A ring, an object of two parts, pixels touching at a corner, one at the edge."""
    labels = np.zeros((120, 150), np.uint16)
    labels[10:40, 20:60] = 1
    labels[20:30, 30:45] = 0
    labels[60:70, 5:15] = labels[80:95, 100:140] = 2
    labels[50, 50] = labels[51, 51] = 3
    labels[110:, 140:] = 700
    return labels


def session_of(source, labels):
    return Session(open_volume(source), ToyModel(64), embeddings=False, labels=labels)


@pytest.mark.parametrize("name", ["fields.gpkg", "fields.fgb"])
def test_rasterised_polygons_are_the_labels(scene, labels, tmp_path, name):
    session_of(scene, labels).export(tmp_path / name)
    frame = geopandas.read_file(tmp_path / name)
    assert sorted(frame["object_id"]) == [1, 2, 3, 700]
    assert frame.crs == "EPSG:32633"
    assert frame.geometry.is_valid.all()
    with rasterio.open(scene) as dataset:
        got = rasterize(
            zip(frame.geometry, frame["object_id"], strict=True),
            out_shape=dataset.shape,
            transform=dataset.transform,
        )
    np.testing.assert_array_equal(got, labels)


def test_areas_are_those_of_the_pixels(scene, labels, tmp_path):
    session_of(scene, labels).export(tmp_path / "fields.gpkg")
    frame = geopandas.read_file(tmp_path / "fields.gpkg").set_index("object_id")
    pixel = abs(TRANSFORM.determinant)
    for object_id in (1, 2, 3, 700):
        n = int((labels == object_id).sum())
        assert frame.loc[object_id, "area_px"] == n
        assert frame.geometry[object_id].area == pytest.approx(n * pixel)
    assert len(frame.geometry[1].geoms[0].interiors) == 1
    assert len(frame.geometry[3].geoms) == 2


def test_geojson_is_in_longitude_and_latitude(scene, labels, tmp_path):
    session_of(scene, labels).export(tmp_path / "fields.geojson")
    frame = geopandas.read_file(tmp_path / "fields.geojson")
    assert frame.crs == "EPSG:4326"
    west, south, east, north = frame.total_bounds
    assert 14.9 < west < east < 15.1
    assert 46.9 < south < north < 47.0


def test_corners_lie_where_the_file_says(scene):
    matrix = corner_matrix(open_volume(scene))
    with rasterio.open(scene) as dataset:
        for row, column in ((0, 0), (40, 7), (3, 50)):
            x, y = dataset.transform @ (column, row)
            assert (matrix @ (row, column, 1))[:2] == pytest.approx((y, x))


def test_scores_and_planes_go_along_and_no_place_is_made_up(tmp_path):
    phantom = phantom_volume((6, 60, 60))
    session = Session(phantom.image, ToyModel(64), embeddings=False)
    z, y, x = (int(v) for v in phantom.center(1))
    found = session.segment(object_id=5, plane=z, points=[(y, x)])
    session.export(tmp_path / "objects.gpkg")
    frame = geopandas.read_file(tmp_path / "objects.gpkg")
    assert frame["plane"].tolist() == [str(z)]
    assert frame["predicted_iou"].tolist() == [pytest.approx(found[0].predicted_iou)]
    assert frame.crs is None
    y0, x0, y1, x1 = found[0].bbox
    assert frame.total_bounds.tolist() == [x0 - 0.5, y0 - 0.5, x1 - 0.5, y1 - 0.5]


def test_failed_writing_leaves_the_older_file(scene, labels, tmp_path):
    session = session_of(scene, labels)
    session.export(tmp_path / "fields.gpkg")
    before = (tmp_path / "fields.gpkg").read_bytes()
    session.labels[:] = 0
    with pytest.raises(ExportError, match="no object"):
        session.export(tmp_path / "fields.gpkg")
    assert (tmp_path / "fields.gpkg").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fields.gpkg", "scene.tif"]


def test_other_suffix_is_refused(scene, labels, tmp_path):
    with pytest.raises(ExportError, match=r"\.gpkg"):
        session_of(scene, labels).export(tmp_path / "fields.shp")


# -- reading -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fields.gpkg", "fields.fgb", "fields.geojson"])
def test_polygons_read_back_are_the_labels(scene, labels, tmp_path, name):
    session_of(scene, labels).export(tmp_path / name)
    again = session_of(scene, np.zeros_like(labels))
    assert sorted(again.read(tmp_path / name).objects) == [1, 2, 3, 700]
    np.testing.assert_array_equal(again.labels, labels)
    while again.undo():
        pass
    assert not np.asarray(again.labels).any()


def test_polygons_go_back_to_their_planes(tmp_path):
    labels = np.zeros((4, 30, 40), np.uint16)
    labels[1, 5:9, 6:20], labels[3, 20:, 30:] = 2, 9
    pixels = np.zeros((4, 30, 40), np.uint8)
    pixels[:, :15] = 9
    session_of(pixels, labels).export(tmp_path / "objects.gpkg")
    again = session_of(pixels, np.zeros_like(labels))
    assert sorted(again.read(tmp_path / "objects.gpkg").objects) == [2, 9]
    np.testing.assert_array_equal(again.labels, labels)


def test_polygons_of_other_programs_become_new_objects(scene, labels, tmp_path):
    from shapely.geometry import box

    middle = [TRANSFORM @ (50, 20), TRANSFORM @ (90, 60), TRANSFORM @ (-50, 20)]
    near = [box(x - 60, y - 60, x + 60, y + 60) for x, y in middle]
    geopandas.GeoDataFrame(geometry=near, crs="EPSG:32633").to_crs("EPSG:3035").to_file(
        tmp_path / "other.gpkg", engine="pyogrio"
    )
    session = session_of(scene, labels)
    found = session.read(tmp_path / "other.gpkg")
    ids = sorted(found.objects)
    assert len(set(ids) - {1, 2, 3, 700}) == len(ids) == 2
    assert found.notes == ("1 polygons hold no pixel of the image: left out",)
    got = np.asarray(session.labels)
    np.testing.assert_array_equal(got[labels > 0], labels[labels > 0])
    assert 90 < (got == ids[1]).sum() < 170


@pytest.mark.parametrize("content", ["", "{}", "no polygons"])
def test_file_without_polygons_is_said(scene, labels, tmp_path, content):
    (tmp_path / "bad.geojson").write_text(content)
    with pytest.raises(VolumeError, match=r"bad\.geojson"):
        session_of(scene, labels).read(tmp_path / "bad.geojson", "geojson")
