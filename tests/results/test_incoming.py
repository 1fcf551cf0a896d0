"""Labels that come in: any whole numbers, turned onto the image, or refused."""

import nibabel
import numpy as np
import pytest
import tifffile
import zarr

from napari_sam import Session, open_volume
from napari_sam.errors import VolumeError
from napari_sam.results.existing import shown_labels, writable_labels
from napari_sam.results.incoming import incoming_labels
from napari_sam.testing import ToyModel

RAS = np.array([[1.5, 0, 0, -20], [0, 1.2, 0, -30], [0, 0, 3, 12], [0, 0, 0, 1.0]])
OBLIQUE = RAS.copy()
OBLIQUE[:3, :3] = [[1.45, 0.2, -0.3], [-0.22, 1.18, 0.1], [0.2, 0, 2.97]]


def blob(seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 4, (9, 8, 7)).astype(np.uint8)


def save(path, values, affine):
    image = nibabel.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, path)
    return path


def image_of(tmp_path, affine=RAS):
    return open_volume(save(tmp_path / "image.nii", np.zeros((9, 8, 7), "i2"), affine))


@pytest.mark.parametrize("affine", [RAS, OBLIQUE], ids=["straight", "oblique"])
@pytest.mark.parametrize("codes", ["LAS", "LPI", "RSA", "SPL", "IRP"])
def test_labels_stored_along_other_axes_are_turned(tmp_path, affine, codes):
    volume = image_of(tmp_path, affine)
    labels = nibabel.Nifti1Image(blob(), affine)
    to = nibabel.orientations.axcodes2ornt(codes)
    here = nibabel.orientations.io_orientation(affine)
    turned = labels.as_reoriented(nibabel.orientations.ornt_transform(here, to))
    nibabel.save(turned, tmp_path / "labels.nii.gz")

    found = incoming_labels(volume, tmp_path / "labels.nii.gz")

    np.testing.assert_array_equal(np.asarray(found), blob().T)
    np.testing.assert_array_equal(found[1:6:2, 3, ::-1], blob().T[1:6:2, 3, ::-1])
    np.testing.assert_array_equal(
        np.asarray(found[2:3, 1:5, 0:7:3]), blob().T[2:3, 1:5, ::3]
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(lambda a: _moved(a, 0, 1.5), "1 pixels away", id="aside"),
        pytest.param(lambda a: _moved(a, 2, 700), "233.3", id="far up"),
        pytest.param(lambda a: a @ np.diag([2, 1, 1, 1]), "spacing", id="coarser"),
        pytest.param(lambda a: a @ np.diag([-1, 1, 1, 1]), "mirrored", id="mirrored"),
        pytest.param(lambda a: _rotated(a, 0.05), "do not lie", id="tilted"),
    ],
)
def test_labels_elsewhere_in_the_world_are_refused(tmp_path, change, words):
    volume = image_of(tmp_path)
    save(tmp_path / "labels.nii", blob(), change(RAS))

    with pytest.raises(VolumeError, match=words) as raised:
        incoming_labels(volume, tmp_path / "labels.nii")

    assert "Resample" in str(raised.value)


def _moved(affine, axis, by):
    out = affine.copy()
    out[axis, 3] += by
    return out


def _rotated(affine, angle):
    c, s = np.cos(angle), np.sin(angle)
    turn = np.eye(4)
    turn[:2, :2] = [[c, -s], [s, c]]
    return turn @ affine


def test_rounded_headers_are_the_same_grid(tmp_path):
    volume = image_of(tmp_path, OBLIQUE)
    save(tmp_path / "labels.nii", blob(), np.round(OBLIQUE, 3) + 1e-4)

    found = incoming_labels(volume, tmp_path / "labels.nii")

    np.testing.assert_array_equal(np.asarray(found), blob().T)


@pytest.mark.parametrize("kind", ["?", "i1", "i2", "i8", "u8", "f2", "f4", "f8"])
def test_whole_numbers_of_any_type_are_labels(kind):
    values = (blob() > 1).astype(kind)
    session = Session(
        np.zeros(values.shape, "u1"), ToyModel(), embeddings=False, labels=values
    )

    assert session.labels.dtype.kind == "u"
    np.testing.assert_array_equal(session.labels, values)
    session.segment(2, 0, points=[(3, 3)])


def test_unsigned_labels_are_changed_in_place():
    values = blob()
    assert writable_labels(open_volume(np.zeros((9, 8, 7), "u1")), values) is values


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.5, "fractions, such as 0.5"), (2.0**40, "1099511627776"), (1e300, "up to 429")],
)
def test_values_that_are_no_labels_are_refused(value, words):
    values = np.zeros((4, 5))
    values[2, 3] = value

    with pytest.raises(VolumeError, match=words):
        writable_labels(open_volume(np.zeros((4, 5), "u1")), values)


def test_what_is_unknown_or_negative_is_background():
    values = np.array([[-1, 2.0], [np.nan, 3]])
    found = writable_labels(open_volume(np.zeros((2, 2), "u1")), values)
    assert found.tolist() == [[0, 2], [0, 3]]


def test_a_session_takes_a_label_file(tmp_path):
    volume = image_of(tmp_path)
    save(tmp_path / "labels.nii", blob().astype("f8"), RAS)

    session = Session(
        volume, ToyModel(), embeddings=False, labels=tmp_path / "labels.nii"
    )

    np.testing.assert_array_equal(session.labels, blob().T)
    assert session.labels.dtype == np.uint16


def test_a_flat_image_takes_labels_of_one_slice(tmp_path):
    tifffile.imwrite(
        tmp_path / "image.ome.tif", np.zeros((8, 9), "u1"),
        metadata={"axes": "YX", "PhysicalSizeX": 1500, "PhysicalSizeY": 1200},
    )  # fmt: skip
    save(tmp_path / "labels.nii", blob()[:, :, :1], np.diag([1.5, 1.2, 3, 1]))

    found = incoming_labels(
        open_volume(tmp_path / "image.ome.tif"), tmp_path / "labels.nii"
    )

    np.testing.assert_array_equal(np.asarray(found), blob()[:, :, 0].T)
    np.testing.assert_array_equal(found[2:5, 3], blob()[3, 2:5, 0])


def test_spacing_is_compared_where_a_file_says_no_more(tmp_path):
    volume = image_of(tmp_path)
    for name, z in (("same", 3000), ("other", 3500)):
        tifffile.imwrite(
            tmp_path / f"{name}.ome.tif", blob().T,
            metadata={"axes": "ZYX", "PhysicalSizeX": 1500, "PhysicalSizeY": 1200,
                      "PhysicalSizeZ": z},
        )  # fmt: skip

    found = incoming_labels(volume, tmp_path / "same.ome.tif")
    np.testing.assert_array_equal(np.asarray(found), blob().T)
    with pytest.raises(VolumeError, match="another pixel size"):
        incoming_labels(volume, tmp_path / "other.ome.tif")


@pytest.mark.parametrize("shift", [0.0, 40.0])
def test_ome_zarr_labels_are_compared_by_their_translation(tmp_path, shift):
    for name, start in (("image", 1200.0), ("labels", 1200.0 + shift)):
        group = zarr.open_group(tmp_path / f"{name}.zarr", mode="w")
        group.create_array("0", data=blob(3)[0])
        axes = [{"name": a, "type": "space", "unit": "micrometer"} for a in "yx"]
        steps = [
            {"type": "scale", "scale": [0.5, 0.5]},
            {"type": "translation", "translation": [start, 3400.0]},
        ]
        datasets = [{"path": "0", "coordinateTransformations": steps}]
        group.attrs["ome"] = {
            "version": "0.5",
            "multiscales": [{"axes": axes, "datasets": datasets}],
        }
    volume = open_volume(tmp_path / "image.zarr")

    if shift:
        with pytest.raises(VolumeError, match="80 pixels away"):
            incoming_labels(volume, tmp_path / "labels.zarr")
    else:
        found = shown_labels(volume, str(tmp_path / "labels.zarr"))
        np.testing.assert_array_equal(found, blob(3)[0])
        found[0, 0] = 9  # can be painted in


@pytest.mark.parametrize("shape", [(8, 9, 6), (8, 9), (2, 9, 8, 7)])
def test_another_size_is_refused_with_both(shape):
    volume = open_volume(np.zeros((9, 8, 7), "u1"))
    with pytest.raises(VolumeError, match=r"shape.*\(9, 8, 7\).*got"):
        incoming_labels(volume, np.zeros(shape, "u1"))


def test_labels_that_itk_placed_by_the_other_affine_are_taken(tmp_path):
    """ITK reads the qform of an image and writes labels with that alone."""
    sitk = pytest.importorskip("SimpleITK")
    image = nibabel.Nifti1Image(np.zeros((9, 8, 7), "i2"), OBLIQUE)
    image.set_sform(_moved(OBLIQUE, 1, 4.5) @ np.diag([1.01, 1, 1, 1]), 4)
    image.set_qform(RAS, 1)
    nibabel.save(image, tmp_path / "image.nii")
    opened = sitk.ReadImage(str(tmp_path / "image.nii"))
    drawn = sitk.GetImageFromArray(blob().T)
    drawn.CopyInformation(opened)
    sitk.WriteImage(drawn, str(tmp_path / "labels.nii.gz"))
    volume = open_volume(tmp_path / "image.nii")

    found = incoming_labels(volume, tmp_path / "labels.nii.gz")

    np.testing.assert_array_equal(np.asarray(found), blob().T)


def test_a_header_that_says_nothing_of_the_place_is_not_compared(tmp_path):
    labels = nibabel.Nifti1Image(blob(), None)
    labels.header.set_zooms((1.5, 1.2, 3))
    labels.header.set_xyzt_units("mm")
    nibabel.save(labels, tmp_path / "labels.nii")

    found = incoming_labels(image_of(tmp_path), tmp_path / "labels.nii")

    np.testing.assert_array_equal(np.asarray(found), blob().T)


def test_nested_lists_are_labels():
    session = Session(
        np.zeros((2, 3), "u1"),
        ToyModel(),
        embeddings=False,
        labels=[[0, 1, 1], [0] * 3],
    )
    assert session.labels.tolist() == [[0, 1, 1], [0, 0, 0]]


def test_an_image_with_labels_inside_gives_its_labels(tmp_path):
    from napari_sam.results import registry
    from napari_sam.results.results import Results

    group = zarr.open_group(tmp_path / "image.zarr", mode="w")
    group.create_array("0", data=blob(3)[0] + np.uint8(9))
    steps = [{"type": "scale", "scale": [0.5, 0.5]}]
    axes = [{"name": a, "type": "space", "unit": "micrometer"} for a in "yx"]
    datasets = [{"path": "0", "coordinateTransformations": steps}]
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [{"axes": axes, "datasets": datasets}],
    }
    volume = open_volume(tmp_path / "image.zarr")
    registry.write(tmp_path / "image.zarr", Results(blob(4)[0], volume))

    np.testing.assert_array_equal(
        writable_labels(volume, tmp_path / "image.zarr"), blob(4)[0]
    )
