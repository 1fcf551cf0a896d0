import json

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image
from pycocotools import mask as pycoco

from napari_sam import Session, open_volume
from napari_sam.core.masks import crop_mask
from napari_sam.core.planes import Plane
from napari_sam.errors import ExportError
from napari_sam.results import rle
from napari_sam.results.label_objects import iter_objects
from napari_sam.results.registry import FORMATS
from napari_sam.testing import ToyModel, phantom_image, phantom_volume

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)
"""pycocotools' own arrays, when they are decoded here for comparison."""


@pytest.fixture
def flat():
    phantom = phantom_image((96, 128), n_objects=4)
    session = Session(phantom.image, ToyModel(), embeddings=False)
    for i in (1, 2):
        session.segment(i, points=[phantom.center(i)])
    return session


@pytest.fixture
def deep(tmp_path):
    phantom = phantom_volume((8, 600, 700))
    path = tmp_path / "stack.ome.tif"
    tifffile.imwrite(
        path, phantom.image, ome=True,
        metadata={
            "axes": "ZYX",
            "PhysicalSizeZ": 2.5, "PhysicalSizeY": 0.5, "PhysicalSizeX": 0.25,
            "PhysicalSizeZUnit": "µm", "PhysicalSizeYUnit": "µm",
            "PhysicalSizeXUnit": "µm",
        },
    )  # fmt: skip
    session = Session(path, ToyModel(), embeddings=False)
    z, y, x = phantom.center(1)
    session.segment(7, z, points=[(y, x)])
    return session


@pytest.mark.parametrize("seed", range(8))
def test_rle_equals_pycocotools(seed):
    rng = np.random.default_rng(seed)
    full = np.zeros(rng.integers(3, 30, 2), bool)
    h, w = full.shape
    y0, x0 = rng.integers(0, h), rng.integers(0, w)
    full[y0:, x0:] = rng.random((h - y0, w - x0)) < 0.7
    bbox, mask = crop_mask(full)

    ours = rle.encode(mask, bbox, full.shape)

    theirs = pycoco.encode(np.asfortranarray(full.astype(np.uint8)))
    assert ours["counts"] == theirs["counts"].decode()
    assert ours["size"] == list(full.shape)


@pytest.mark.parametrize(
    "full",
    [
        pytest.param(np.ones((4, 5), bool), id="all"),
        pytest.param(np.eye(5, dtype=bool), id="diagonal"),
        pytest.param(np.tile([[True], [False]], (3, 4)), id="rows"),
    ],
)
def test_rle_decodes_to_the_mask(full):
    bbox, mask = crop_mask(full)

    decoded = pycoco.decode(rle.encode(mask, bbox, full.shape))

    np.testing.assert_array_equal(decoded.astype(bool), full)


def test_rle_of_an_enormous_plane_holds_only_the_box():
    found = rle.encode(
        np.ones((2, 2), bool), (99_000, 99_000, 99_002, 99_002), (10**5,) * 2
    )

    assert sum(found["counts"]) == 10**10
    assert found["counts"][1::2] == [2, 2]


def test_objects_across_blocks_come_whole():
    labels = np.zeros((50, 60), np.uint16)
    labels[5:45, 10:50] = 3
    labels[20:25, 20:25] = 9

    found = sorted(
        iter_objects(labels, Plane.of((50, 60)), block=16), key=lambda f: f[0]
    )

    assert [f[0] for f in found] == [3, 9]
    assert found[0][1] == (5, 10, 45, 50)
    np.testing.assert_array_equal(found[0][2], labels[5:45, 10:50] == 3)


def test_coco_file_reads_back_through_pycocotools(flat, tmp_path, capsys):
    from pycocotools.coco import COCO

    path = tmp_path / "cells.json"
    flat.export(path)
    coco = COCO(str(path))

    found = coco.loadAnns(coco.getAnnIds())
    assert [a["object_id"] for a in found] == [1, 2]
    for a in found:
        mask = coco.annToMask(a).astype(bool)
        np.testing.assert_array_equal(mask, flat.labels == a["object_id"])
        assert a["area"] == mask.sum()
        x, y, w, h = a["bbox"]
        assert crop_mask(mask)[0] == (y, x, y + h, x + w)
        assert 0 < a["score"] <= 1


def test_coco_image_names_its_plane_and_spacing(deep, tmp_path):
    deep.export(tmp_path / "a.json")

    written = json.loads((tmp_path / "a.json").read_text())

    (plane,) = deep.objects[7].planes
    assert [i["plane"] for i in written["images"]] == [plane.to_json()]
    assert written["info"]["spacing"] == {"z": 2.5, "y": 0.5, "x": 0.25}


def test_ome_zarr_labels_open_with_the_same_geometry(deep, tmp_path):
    deep.export(tmp_path / "out.zarr")

    volume = open_volume(tmp_path / "out.zarr")

    assert volume.axes == deep.volume.axes
    assert volume.spacing == deep.volume.spacing
    assert volume.units == deep.volume.units
    np.testing.assert_allclose(volume.affine, deep.volume.affine)
    np.testing.assert_array_equal(volume.levels[0][:], deep.labels)
    np.testing.assert_array_equal(volume.levels[1][:], deep.labels[:, ::2, ::2])


def test_ome_zarr_labels_follow_the_specification(deep, tmp_path):
    import yaozarrs

    deep.export(tmp_path / "out.zarr")

    yaozarrs.validate_zarr_store(str(tmp_path / "out.zarr"))
    group = zarr.open_group(tmp_path / "out.zarr", mode="r")
    assert group.attrs["ome"]["image-label"]["properties"][0]["label-value"] == 7


def test_labels_go_into_an_existing_ome_zarr_image(flat, tmp_path):
    import yaozarrs

    image = tmp_path / "image.zarr"
    group = zarr.create_group(image)
    group.create_array(
        "0", data=np.asarray(flat.volume.levels[0]), dimension_names=["y", "x"]
    )
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [
            {
                "name": "cells",
                "axes": [{"name": a, "type": "space"} for a in "yx"],
                "datasets": [
                    {
                        "path": "0",
                        "coordinateTransformations": [
                            {"type": "scale", "scale": [1.0, 1.0]}
                        ],
                    }
                ],
            }
        ],
    }

    flat.export(image, name="cells")

    labels = zarr.open_group(image / "labels", mode="r")
    assert labels.attrs["ome"]["labels"] == ["cells"]
    np.testing.assert_array_equal(labels["cells/0"][:], flat.labels)
    yaozarrs.validate_zarr_store(str(image))
    with pytest.raises(ExportError, match="choose another name"):
        flat.export(image, name="cells")


def test_labels_never_replace_a_folder(flat, tmp_path):
    (tmp_path / "mine.zarr").mkdir()
    (tmp_path / "mine.zarr" / "thesis.txt").write_text("precious")

    with pytest.raises(ExportError, match="exists and is no OME-Zarr"):
        flat.export(tmp_path / "mine.zarr")

    assert (tmp_path / "mine.zarr" / "thesis.txt").read_text() == "precious"


def test_tiff_reads_back_with_spacing(deep, tmp_path):
    deep.export(tmp_path / "out.ome.tif")

    volume = open_volume(tmp_path / "out.ome.tif")

    assert volume.spacing == deep.volume.spacing
    assert volume.units == deep.volume.units
    np.testing.assert_array_equal(
        tifffile.imread(tmp_path / "out.ome.tif"), deep.labels
    )


def test_png_holds_ids(flat, tmp_path):
    flat.export(tmp_path / "out.png")

    np.testing.assert_array_equal(Image.open(tmp_path / "out.png"), flat.labels)


def test_png_of_many_objects_has_16_bits(flat, tmp_path):
    flat.labels[0, 0] = 300
    flat.export(tmp_path / "out.png")

    assert np.asarray(Image.open(tmp_path / "out.png"))[0, 0] == 300


@pytest.mark.parametrize("name", sorted({*FORMATS} - {"dicom_seg", "rtstruct"}))
def test_target_that_cannot_be_written_is_one_clear_error(name, flat, tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(ExportError, match="cannot be written"):
        flat.export(tmp_path / "file" / "out", name)


def test_failed_write_leaves_the_old_file(flat, tmp_path, monkeypatch):
    path = tmp_path / "out.json"
    path.write_text("old")
    monkeypatch.setattr(
        "os.replace", lambda *a: (_ for _ in ()).throw(OSError(28, "full"))
    )

    with pytest.raises(ExportError, match="full"):
        flat.export(path)

    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out.json"]
