import json

import nibabel
import numpy as np
import pytest
import tifffile
from dicom_phantoms import write_ct_series
from pycocotools import mask as pycoco

from napari_sam import Session, open_volume
from napari_sam.errors import ExportError, VolumeError
from napari_sam.testing import ToyModel

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)
"""pycocotools' own arrays, when they are decoded here for comparison."""


def session_of(source, seed=0, n_objects=4):
    """A session whose labels are random blobs of a few ids."""
    volume = open_volume(source)
    session = Session(volume, ToyModel(), embeddings=False)
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_objects + 1, volume.shape)
    labels[rng.random(volume.shape) < 0.5] = 0
    session.labels[...] = labels
    return session


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("tilt", [0.0, 0.7])
def test_nifti_labels_of_a_ct_lie_where_the_ct_lies(tmp_path, suffix, tilt):
    write_ct_series(tmp_path / "ct", step=(0, tilt, 3.0))
    session = session_of(tmp_path / "ct")
    session.export(tmp_path / f"labels{suffix}")
    image = nibabel.load(tmp_path / f"labels{suffix}")
    np.testing.assert_array_equal(
        np.asarray(image.dataobj), np.asarray(session.labels).T
    )
    lps = session.volume.affine @ [4, 30, 50, 1]
    ras = image.affine @ [50, 30, 4, 1]
    np.testing.assert_allclose(ras[:3], lps[:3][::-1] * (-1, -1, 1), atol=1e-4)
    assert image.header.get_data_dtype() == session.labels.dtype
    assert (image.header["qform_code"] == 0) == bool(tilt)
    np.testing.assert_allclose(image.header.get_zooms()[:2], 0.661468, rtol=1e-5)


def test_nifti_labels_of_a_nifti_keep_its_affine(tmp_path):
    affine = np.array([[-2, 0.1, 0, 5], [0, 3, 0.2, 6], [0, 0, 4, 7], [0, 0, 0, 1.0]])
    values = np.zeros((9, 8, 7, 2), np.int16)
    source = nibabel.Nifti1Image(values, affine)
    source.header.set_xyzt_units("mm", "sec")
    source.to_filename(tmp_path / "a.nii.gz")
    session = session_of(tmp_path / "a.nii.gz")
    session.export(tmp_path / "b.nii.gz")
    image = nibabel.load(tmp_path / "b.nii.gz")
    assert image.shape == values.shape
    np.testing.assert_allclose(image.affine, affine, rtol=1e-6)
    again = open_volume(tmp_path / "b.nii.gz")
    np.testing.assert_allclose(again.affine, session.volume.affine, rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(again.levels[0]), session.labels)


def test_nifti_labels_of_a_microscope_are_in_millimetres(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.ome.tif", np.zeros((20, 30), "u1"),
        metadata={"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25},
    )  # fmt: skip
    session = session_of(tmp_path / "a.ome.tif")
    session.export(tmp_path / "b.nii")
    image = nibabel.load(tmp_path / "b.nii")
    np.testing.assert_allclose(np.diag(image.affine), [5e-4, 2.5e-4, 1, 1], rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(image.dataobj).T, session.labels)


def test_an_axis_too_long_for_nifti_1_takes_nifti_2(tmp_path):
    session = session_of(np.zeros((2, 40_000), "u1"))
    session.export(tmp_path / "a.nii")
    image = nibabel.load(tmp_path / "a.nii")
    assert isinstance(image, nibabel.Nifti2Image)
    np.testing.assert_array_equal(np.asarray(image.dataobj).T, session.labels)


def test_what_nifti_cannot_hold_is_an_error(tmp_path):
    many = session_of(np.zeros((2, 2, 2, 8, 8), "u1"))
    with pytest.raises(ExportError, match="no place for the axes"):
        many.export(tmp_path / "a.nii")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [(23, 31), (4, 23, 31)])
def test_coco_reads_back_exactly(tmp_path, shape):
    session = session_of(np.zeros(shape, "u1"))
    session.export(tmp_path / "a.json")
    other = Session(np.zeros(shape, "u1"), ToyModel(), embeddings=False)
    ids = other.read(tmp_path / "a.json").objects
    np.testing.assert_array_equal(other.labels, session.labels)
    assert set(ids) == {1, 2, 3, 4}
    assert other.undo()
    assert not np.asarray(other.labels).any()


def coco_file(path, segmentation, shape):
    content = {
        "images": [{"id": 9, "file_name": "a.png", "height": shape[0],
                    "width": shape[1]}],
        "annotations": [{"id": 1, "image_id": 9, "category_id": 1,
                         "segmentation": segmentation}],
        "categories": [],
    }  # fmt: skip
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("density", [0.02, 0.5, 0.98, 1.0])
def test_masks_of_other_programs_are_read(tmp_path, seed, density):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 40, 2).tolist())
    mask = rng.random(shape) < density
    packed = pycoco.encode(np.asfortranarray(mask.astype(np.uint8)))
    packed["counts"] = packed["counts"].decode()
    session = Session(np.zeros(shape, "u1"), ToyModel(), embeddings=False)
    session.read(coco_file(tmp_path / "a.json", packed, shape))
    np.testing.assert_array_equal(np.asarray(session.labels), mask)


def test_polygons_are_filled_as_coco_fills_them(tmp_path):
    polygons = [[12.5, 8, 40.2, 10, 33, 29.7], [5, 30, 9, 30, 9, 38, 5, 38]]
    packed = pycoco.frPyObjects(polygons, 50, 60)
    expected = pycoco.decode(pycoco.merge(packed))
    session = Session(np.zeros((50, 60), "u1"), ToyModel(), embeddings=False)
    found = session.read(coco_file(tmp_path / "a.json", polygons, (50, 60)))
    assert list(found.objects) == [1]
    np.testing.assert_array_equal(np.asarray(session.labels), expected)


@pytest.mark.parametrize("rule", ["keep", "overwrite"])
def test_reading_respects_what_is_painted_already(tmp_path, rule):
    session = Session(np.zeros((20, 20), "u1"), ToyModel(), embeddings=False)
    session.labels[:10] = 7
    session.rule = rule
    square = [[5, 5, 15, 5, 15, 15, 5, 15]]
    (new,) = session.read(coco_file(tmp_path / "a.json", square, (20, 20))).objects
    labels = np.asarray(session.labels)
    assert labels[7, 7] == (7 if rule == "keep" else new)
    assert labels[12, 7] == new


def test_coco_that_does_not_fit_is_an_error(tmp_path):
    session = Session(np.zeros((20, 20), "u1"), ToyModel(), embeddings=False)
    with pytest.raises(VolumeError, match="30 x 20 pixels"):
        session.read(coco_file(tmp_path / "a.json", [[1, 1, 5, 1, 5, 5]], (30, 20)))
    (tmp_path / "b.json").write_text("{}")
    with pytest.raises(VolumeError, match="no COCO JSON"):
        session.read(tmp_path / "b.json", "coco")
    assert not np.asarray(session.labels).any()


@pytest.mark.parametrize("codes", [(4, 1), (1, 1), (0, 1), (2, 0)])
@pytest.mark.parametrize("unit", ["mm", "micron"])
def test_nifti_labels_carry_both_affines_of_their_image(tmp_path, codes, unit):
    """Where the two differ, ITK and nibabel place labels as they place the image."""
    sitk = pytest.importorskip("SimpleITK")
    sform, qform = codes
    rigid = np.diag([-2.0, 2.0, 2.5, 1.0])
    rigid[:3, 3] = 90, -126, -72
    c, s = np.cos(0.15), np.sin(0.15)
    turned = np.array([[1, 0, 0, 3], [0, c, -s, -9], [0, s, c, 6], [0, 0, 0, 1.0]])
    sheared = (
        turned
        @ rigid
        @ np.array([[1, 0.2, 0, 0], [0, 1, 0.1, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    )
    image = nibabel.Nifti1Image(np.zeros((9, 8, 7), np.int16), None)
    image.set_qform(rigid, qform)
    image.set_sform(sheared if qform else turned @ rigid, sform)
    image.header.set_xyzt_units(unit, "sec")
    nibabel.save(image, tmp_path / "image.nii.gz")
    session = session_of(tmp_path / "image.nii.gz")

    session.export(tmp_path / "labels.nii.gz")

    first, second = (
        nibabel.load(tmp_path / f"{n}.nii.gz") for n in ("image", "labels")
    )
    for name in ("sform_code", "qform_code", "xyzt_units", "pixdim", "srow_x", "srow_z",
                 "quatern_b", "quatern_d", "qoffset_y"):  # fmt: skip
        np.testing.assert_array_equal(second.header[name], first.header[name], name)
    np.testing.assert_array_equal(second.affine, first.affine)
    np.testing.assert_array_equal(np.asarray(second.dataobj).T, session.labels)
    assert second.header.get_intent()[0] == "label"
    one, other = (
        sitk.ReadImage(str(tmp_path / f"{n}.nii.gz")) for n in ("image", "labels")
    )
    assert other.GetOrigin() == one.GetOrigin()
    assert other.GetDirection() == one.GetDirection()
    assert other.GetSpacing() == one.GetSpacing()
