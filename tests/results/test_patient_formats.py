"""DICOM-SEG, RTSTRUCT and NRRD, also as other programs write them."""

import copy

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
from dicom_phantoms import ct_slice, write_ct_series
from pydicom.data import get_testdata_file
from shapely.geometry import Polygon

from napari_sam import Session, open_volume
from napari_sam.core.objects import ClassList, ObjectClass, ObjectRecord, PlaneRecord
from napari_sam.core.planes import Plane
from napari_sam.errors import ExportError, VolumeError
from napari_sam.results import registry
from napari_sam.results.results import Results
from napari_sam.testing import ToyModel

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
LIVER = ObjectClass("liver", "#aa3344", {"SCT": "10200004"})


@pytest.fixture(scope="module")
def ct(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ct") / "scan"
    write_ct_series(folder, count=5)
    return open_volume(folder)


def ring_with_island(shape):
    """An object with a hole, and in the hole an island of it and one of another."""
    labels = np.zeros(shape, np.uint16)
    labels[1:4, 20:60, 30:80] = 1
    labels[1:4, 25:55, 40:70] = 0
    labels[1:4, 35:45, 45:50] = 1
    labels[2:5, 35:45, 60:62] = 70_000 % 2**16
    labels[2, 35, 62] = 1  # touches at a corner
    return labels


@pytest.mark.parametrize("format_name", ["dicom_seg", "rtstruct", "seg_nrrd"])
def test_objects_come_back_with_names_classes_and_colours(ct, tmp_path, format_name):
    labels = ring_with_island(ct.shape)
    other = int(labels.max())
    objects = {
        1: ObjectRecord(1, name="segment IV", class_name="liver"),
        other: ObjectRecord(other, class_name="liver", color="#00ff40"),
    }
    path = tmp_path / f"a{registry.FORMATS[format_name].suffixes[0]}"
    results = Results(labels, ct, objects, ClassList((LIVER,)))
    registry.write(path, results, format_name)

    back = registry.read(path, ct)  # recognised by its content

    np.testing.assert_array_equal(back.labels[...], labels)
    assert back.classes == ClassList((LIVER,))
    assert back.record(1).name == "segment IV"
    assert back.record(1).color is None and back.record(1).class_name == "liver"
    assert back.record(other).color == "#00ff40" and back.record(other).name == ""


def test_a_session_goes_to_the_clinic_and_back(tmp_path):
    write_ct_series(tmp_path / "scan", count=4)
    session = Session(tmp_path / "scan", ToyModel(), embeddings=False)
    session.segment(3, 2, points=[(60, 60)])
    before = np.array(session.labels)
    for name in ("dicom_seg", "rtstruct"):
        session.export(tmp_path / f"{name}.dcm", format=name)
        fresh = Session(tmp_path / "scan", ToyModel(), embeddings=False)
        fresh.read(tmp_path / f"{name}.dcm")
        np.testing.assert_array_equal(fresh.labels, before)
        continued = Session(
            tmp_path / "scan", ToyModel(), embeddings=False,
            labels=tmp_path / f"{name}.dcm",
        )  # fmt: skip
        np.testing.assert_array_equal(continued.labels, before)


def test_a_segmentation_says_how_its_objects_came(ct, tmp_path):
    labels = ring_with_island(ct.shape)
    other = int(labels.max())
    painted = {Plane((1,)): PlaneRecord("painted")}
    objects = {1: ObjectRecord(1, planes=painted), other: ObjectRecord(other)}
    registry.write(tmp_path / "a.dcm", Results(labels, ct, objects))

    seg = highdicom.seg.segread(tmp_path / "a.dcm")

    first, second = (seg.get_segment_description(n) for n in (1, 2))
    assert first.algorithm_type.value == "MANUAL"
    assert second.algorithm_type.value == "SEMIAUTOMATIC"
    assert second.segmented_property_type.meaning == "Tissue"
    sources = {f[2] for f in ct.metadata["frames"][1:5]}
    uids = {uid for _, _, uid in seg.get_source_image_uids()}
    assert sources <= uids


def foreign_seg(ct, array, kind="BINARY", planes=None, segments=1):
    """A segmentation as highdicom makes one, of some slices in another order."""
    from pydicom.sr.codedict import codes

    planes = list(range(ct.shape[0])) if planes is None else planes
    files = [pydicom.dcmread(ct.metadata["frames"][z][0]) for z in planes]
    for file in files:
        file.pop("SpacingBetweenSlices", None)
    return highdicom.seg.Segmentation(
        files, array[planes], kind,
        [
            highdicom.seg.SegmentDescription(
                n, f"part {n}", codes.SCT.Organ, codes.SCT.Liver, "MANUAL"
            )
            for n in range(1, segments + 1)
        ],
        highdicom.UID(), 1, highdicom.UID(), 1, "somebody", "model", "1", "0",
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_a_segmentation_of_some_slices_in_any_order_is_read(ct, tmp_path, kind):
    labels = np.clip(ring_with_island(ct.shape), 0, 1).astype(np.uint8)
    labels[1:4, 70:80, 70:80] = 2
    seg = foreign_seg(ct, labels, kind, [3, 1, 2, 4], segments=2)
    seg.save_as(tmp_path / "a.dcm")

    back = registry.read(tmp_path / "a.dcm", ct)

    np.testing.assert_array_equal(back.labels[...], labels)
    assert back.record(2).name == "part 2" and back.record(2).class_name == "Liver"


def test_fractions_count_from_one_half(ct, tmp_path):
    share = np.zeros(ct.shape, np.float32)
    share[2, 10:20, 10:20], share[2, 30:40, 10:20] = 0.4, 0.6
    foreign_seg(ct, share, "FRACTIONAL").save_as(tmp_path / "a.dcm")

    back = registry.read(tmp_path / "a.dcm", ct)

    np.testing.assert_array_equal(back.labels[...] > 0, share > 0.5)


def test_overlapping_segments_are_told(ct, tmp_path):
    stack = np.zeros((*ct.shape, 2), np.uint8)
    stack[2, 10:20, 10:20, 0] = stack[2, 15:25, 10:20, 1] = 1
    foreign_seg(ct, stack, segments=2).save_as(tmp_path / "a.dcm")

    back = registry.read(tmp_path / "a.dcm", ct)

    assert "overlap in 50 pixels" in back.notes[0]
    assert (back.labels[2, 15:25, 10:20] == 2).all()


def test_the_segmentation_that_pydicom_ships_opens(tmp_path):
    path = get_testdata_file("liver_1frame.dcm", download=False)
    seg = pydicom.dcmread(path)
    shared = seg.SharedFunctionalGroupsSequence[0]
    frame = seg.PerFrameFunctionalGroupsSequence[0]
    image = ct_slice()
    image.Rows, image.Columns = seg.Rows, seg.Columns
    image.PixelData = bytes(2 * seg.Rows * seg.Columns)
    image.FrameOfReferenceUID = seg.FrameOfReferenceUID
    image.ImagePositionPatient = frame.PlanePositionSequence[0].ImagePositionPatient
    image.ImageOrientationPatient = shared.PlaneOrientationSequence[
        0
    ].ImageOrientationPatient
    image.PixelSpacing = shared.PixelMeasuresSequence[0].PixelSpacing
    (tmp_path / "scan").mkdir()
    for k in range(3):
        one = copy.deepcopy(image)
        one.ImagePositionPatient[2] += 2.5 * (k - 1)
        one.SOPInstanceUID = highdicom.UID()
        one.InstanceNumber = k + 1
        one.save_as(tmp_path / "scan" / f"{k}.dcm")
    volume = open_volume(tmp_path / "scan")

    back = registry.read(path, volume)

    np.testing.assert_array_equal(back.labels[1] > 0, seg.pixel_array > 0)
    assert not back.labels[0].any() and not back.labels[2].any()
    assert back.record(1).class_name == "Liver"


def test_the_structure_set_that_pydicom_ships_opens(tmp_path):
    path = get_testdata_file("rtstruct.dcm", download=False)
    ds = pydicom.dcmread(path, force=True)
    (item, *points_only) = ds.ROIContourSequence
    contours = [np.array(c.ContourData, float) for c in item.ContourSequence]
    affine = np.diag([-2.0, -2.0, 10.0, 1])
    affine[:3, 3] = 210, 170, -210
    nibabel.save(
        nibabel.Nifti1Image(np.zeros((215, 175, 5), np.uint8), affine),
        tmp_path / "image.nii.gz",
    )

    back = registry.read(path, open_volume(tmp_path / "image.nii.gz"), "rtstruct")

    assert list(back.objects) == [1] and len(points_only) == 2
    assert back.record(1).name == "patient"
    assert "POINT" in back.notes[0]
    for z, contour in enumerate(contours, 1):
        shape = Polygon(contour.reshape(-1, 3)[:, :2])
        area = (np.asarray(back.labels[z]) == 1).sum() * 4
        assert abs(area - shape.area) <= 2 * shape.length
        ys, xs = np.nonzero(back.labels[z])
        np.testing.assert_allclose(-210 + xs.min() * 2, shape.bounds[0], atol=2)
        np.testing.assert_allclose(-170 + ys.max() * 2, shape.bounds[3], atol=2)
    assert not back.labels[0].any() and not back.labels[4].any()


def test_contours_through_pixel_centres_of_other_planes_are_read(ct, tmp_path):
    """Drawn on a sagittal plane: contours keep to the image's axis x."""
    labels = np.zeros(ct.shape, np.uint16)
    labels[1:4, 20:40, 50] = 1
    registry.write(tmp_path / "a.dcm", Results(labels, ct), "rtstruct")
    ds = pydicom.dcmread(tmp_path / "a.dcm")
    inverse = np.linalg.inv(np.asarray(ct.affine))
    assert inverse.shape == (4, 4)
    corners = [(0.5, 19.5), (3.5, 19.5), (3.5, 39.5), (0.5, 39.5)]
    world = [(ct.affine @ (z, y, 50, 1))[2::-1] for z, y in corners]
    (item,) = ds.ROIContourSequence
    item.ContourSequence = item.ContourSequence[:1]
    contour = item.ContourSequence[0]
    contour.ContourData = [f"{v:.6f}" for v in np.ravel(world)]
    contour.NumberOfContourPoints = 4
    ds.save_as(tmp_path / "b.dcm")

    back = registry.read(tmp_path / "b.dcm", ct)

    np.testing.assert_array_equal(back.labels[...], labels)


@pytest.mark.parametrize("format_name", ["dicom_seg", "rtstruct"])
def test_another_frame_of_reference_is_refused(ct, tmp_path, format_name):
    results = Results(ring_with_island(ct.shape), ct)
    registry.write(tmp_path / "a.dcm", results, format_name)
    write_ct_series(tmp_path / "other", count=5, FrameOfReferenceUID="1.2.3")

    with pytest.raises(VolumeError, match="another frame of reference"):
        registry.read(tmp_path / "a.dcm", open_volume(tmp_path / "other"))


def test_a_segmentation_off_the_pixels_is_refused(ct, tmp_path):
    results = Results(ring_with_island(ct.shape), ct)
    registry.write(tmp_path / "a.dcm", results)
    write_ct_series(tmp_path / "other", count=5, PixelSpacing=[0.7, 0.7])

    with pytest.raises(VolumeError, match="pixels off"):
        registry.read(tmp_path / "a.dcm", open_volume(tmp_path / "other"))


@pytest.mark.parametrize("format_name", ["dicom_seg", "rtstruct"])
def test_images_that_are_not_dicom_are_refused(tmp_path, format_name):
    volume = open_volume(np.zeros((3, 8, 9), "u1"))
    with pytest.raises(ExportError, match=r"NIfTI or seg\.nrrd"):
        registry.write(
            tmp_path / "a.dcm", Results(np.ones((3, 8, 9), "u1"), volume), format_name
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"\0" * 128 + b"DICM", b"no DICOM at all"])
def test_what_is_neither_is_refused(ct, tmp_path, content):
    (tmp_path / "a.dcm").write_bytes(content)
    for name in (None, "dicom_seg", "rtstruct"):
        with pytest.raises(VolumeError):
            registry.read(tmp_path / "a.dcm", ct, name)


@pytest.mark.parametrize("name", ["dicom_seg", "rtstruct", "nrrd", "nifti"])
def test_labels_of_one_dicom_image_lie_where_it_lies(ct, tmp_path, name):
    path, *_ = ct.metadata["frames"][2]
    volume = open_volume(path)
    labels = ring_with_island(ct.shape)[2]
    target = tmp_path / f"a{registry.FORMATS[name].suffixes[0]}"

    registry.write(target, Results(labels, volume), name)

    np.testing.assert_array_equal(registry.read(target, volume).labels[...], labels)
    if name in ("dicom_seg", "rtstruct"):  # and in the whole series
        whole = registry.read(target, ct).labels
        np.testing.assert_array_equal(whole[2], labels)
        assert not whole[[0, 1, 3, 4]].any()
    if name == "nifti":
        at = nibabel.load(target).affine @ (0, 0, 0, 1)
        np.testing.assert_allclose(at[2], ct.affine[0, -1] + 2 * ct.spacing[0])


def test_slicers_files_are_read_layer_by_layer(tmp_path):
    import slicerio

    affine = np.diag([-1.0, -1.0, 2.0, 1.0])
    nibabel.save(
        nibabel.Nifti1Image(np.zeros((6, 7, 8), "i2"), np.diag([1, 1, 2, 1.0])),
        tmp_path / "image.nii",
    )
    voxels = np.zeros((2, 6, 7, 8), np.uint8)
    voxels[0, 1:4, 1:4, 1:4], voxels[1, 3:5, 1:4, 1:4] = 1, 1
    terms = {"contextName": "any", "category": ["SCT", "123037004", "Structure"],
             "type": ["SCT", "10200004", "Liver"]}  # fmt: skip
    slicerio.write_segmentation(
        str(tmp_path / "a.seg.nrrd"),
        {
            "voxels": voxels, "ijkToLPS": affine, "encoding": "gzip",
            "segments": [
                {"name": "one", "labelValue": 1, "layer": 0, "color": [1, 0, 0]},
                {"name": "two", "labelValue": 1, "layer": 1, "terminology": terms,
                 "color": [0, 0, 1]},
            ],
        },
    )  # fmt: skip

    back = registry.read(tmp_path / "a.seg.nrrd", open_volume(tmp_path / "image.nii"))

    expected = np.where(voxels[1].T > 0, 2, voxels[0].T)
    np.testing.assert_array_equal(back.labels[...], expected)
    assert back.record(1).name == "one" and back.record(1).color == "#ff0000"
    assert back.record(2).class_name == "Liver"
    assert "overlap in 9 pixels" in back.notes[0]


@pytest.mark.parametrize("space", ["RAS", "left-posterior-superior", None])
def test_nrrd_of_other_spaces_is_read(tmp_path, space):
    import nrrd

    signs = (-1, -1, 1) if space == "left-posterior-superior" else (1, 1, 1)
    image = nibabel.Nifti1Image(np.zeros((6, 7, 8), "i2"), np.diag([1, 1, 2, 1.0]))
    nibabel.save(image, tmp_path / "image.nii")
    values = np.random.default_rng(0).integers(0, 3, (6, 7, 8)).astype("i2")
    header = {"spacings": [1, 1, 2]}
    if space:
        ways = np.diag([1.0, 1, 2]) * signs
        header = {"space": space, "space directions": ways, "space origin": [0, 0, 0]}
    nrrd.write(str(tmp_path / "a.nrrd"), values, header)

    back = registry.read(tmp_path / "a.nrrd", open_volume(tmp_path / "image.nii"))

    np.testing.assert_array_equal(back.labels[...], values.T)


@pytest.mark.parametrize("name", ["dicom_seg", "rtstruct"])
def test_a_radiograph_has_no_place_in_a_patient(tmp_path, name):
    image = ct_slice()
    for tag in ("ImagePositionPatient", "ImageOrientationPatient"):
        delattr(image, tag)
    image.save_as(tmp_path / "image.dcm")
    volume = open_volume(tmp_path / "image.dcm")

    with pytest.raises(ExportError, match="position in their patient"):
        registry.write(
            tmp_path / "a.dcm", Results(np.ones(volume.shape, "u1"), volume), name
        )
