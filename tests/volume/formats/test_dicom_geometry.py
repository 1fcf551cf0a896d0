import json

import numpy as np
import pydicom
import pytest
from dicom_phantoms import make_image, place, write_ct_series
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from napari_sam.volume.opening import open_volume

REVERSE = np.eye(4)[[2, 1, 0, 3]]


def opened(tmp_path, ds):
    path = tmp_path / "image.dcm"
    ds.save_as(path, enforce_file_format=True)
    return open_volume(path)


def frames(n=6):
    return np.arange(n, dtype=np.int16)[:, None, None] * np.ones((1, 10, 12), np.int16)


def test_the_affine_is_that_of_simpleitk(tmp_path):
    itk = pytest.importorskip("SimpleITK")
    o = (0.96, 0.28, 0, -0.28, 0.96, 0)
    write_ct_series(
        tmp_path, step=np.cross(o[:3], o[3:]) * 2.5, ImageOrientationPatient=list(o),
        PixelSpacing=[0.7, 0.4],
    )  # fmt: skip
    names = itk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path))
    image = itk.ReadImage(names)
    ours = open_volume(tmp_path)
    turned = np.array(image.GetDirection()).reshape(3, 3)
    xyz = np.eye(4)
    xyz[:3, :3] = turned @ np.diag(image.GetSpacing())
    xyz[:3, 3] = image.GetOrigin()
    np.testing.assert_allclose(ours.affine, REVERSE @ xyz @ REVERSE, atol=1e-4)
    pixels = itk.GetArrayFromImage(image)
    np.testing.assert_array_equal(np.asarray(ours.levels[0]), pixels)


def spect(**tags):
    detector = Dataset()
    detector.ImagePositionPatient = [-100, -90, 40]
    detector.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    return make_image(
        frames(), "NM", PixelSpacing=[4, 4.5], SliceThickness=3, NumberOfSlices=6,
        FrameIncrementPointer=Tag(0x0054, 0x0080), SliceVector=[1, 2, 3, 4, 5, 6],
        DetectorInformationSequence=Sequence([detector]),
        ImageType=["ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION"], **tags,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("gap", "z_of_slice_5"),
    [(None, 40 + 15), (4.0, 40 + 20), (-4.0, 40 - 20)],
)
def test_slices_of_a_spect_file_are_z(tmp_path, gap, z_of_slice_5):
    volume = opened(tmp_path, spect(SpacingBetweenSlices=gap))
    assert volume.axes == ("z", "y", "x")
    np.testing.assert_allclose(volume.spacing, (abs(gap or 3), 4, 4.5))
    index = int(np.flatnonzero(np.asarray(volume.levels[0])[:, 0, 0] == 5)[0])
    there = (volume.affine @ [index, 0, 0, 1])[:3]
    np.testing.assert_allclose(there, (z_of_slice_5, -90, -100))


def test_gates_of_a_spect_file_are_t(tmp_path):
    ds = spect(SpacingBetweenSlices=4)
    ds.SliceVector = [1, 2, 3] * 2
    ds.TimeSlotVector = [1, 1, 1, 2, 2, 2]
    volume = opened(tmp_path, ds)
    assert volume.axes == ("t", "z", "y", "x")
    assert np.asarray(volume.levels[0])[..., 0, 0].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_planar_scintigraphy_stays_t(tmp_path):
    ds = make_image(frames(), "NM", PixelSpacing=[4, 4], PhaseVector=[1] * 6)
    ds.FrameIncrementPointer = Tag(0x0054, 0x0030)
    assert opened(tmp_path, ds).axes == ("t", "y", "x")


@pytest.mark.parametrize(
    ("modality", "tags", "axes", "step"),
    [
        pytest.param(
            "CT", {**place(-7.0), "SpacingBetweenSlices": 0.4}, "zyx", 0.4, id="cbct"
        ),
        pytest.param(
            "CT", {**place(-7.0), "SliceThickness": 0.3}, "zyx", 0.3, id="thickness"
        ),
        pytest.param(
            "OT", {**place(-7.0), "SpacingBetweenSlices": 2}, "zyx", 2, id="capture"
        ),
        pytest.param(
            "OT",
            {**place(-7.0), "SliceLocationVector": [0, 2, 4, 6, 8, 10]},
            "zyx", 2, id="locations",
        ),
        pytest.param("OT", {}, "tyx", 1, id="plain-capture"),
        pytest.param("US", {"FrameTime": 40}, "tyx", 40, id="film"),
        pytest.param("US", {"CineRate": 50}, "tyx", 20, id="film-of-a-rate"),
        pytest.param(
            "US", {"FrameTimeVector": [0, 10, 10, 10, 10, 10]}, "tyx", 10, id="vector"
        ),
    ],
)  # fmt: skip
def test_plain_multiframe_files_are_z_or_t(tmp_path, modality, tags, axes, step):
    volume = opened(tmp_path, make_image(frames(), modality, **tags))
    assert "".join(volume.axes) == axes
    assert volume.spacing[0] == pytest.approx(step)
    assert np.asarray(volume.levels[0])[:, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]
    if axes == "zyx":
        corner = (volume.affine @ [0, 0, 0, 1])[:3]
        np.testing.assert_allclose(corner, (-7, 0, 0))


def region(x, y, area, units=3, kind=1):
    out = Dataset()
    out.RegionSpatialFormat, out.PhysicalUnitsXDirection = kind, units
    out.PhysicalUnitsYDirection = units
    out.PhysicalDeltaX, out.PhysicalDeltaY = x, y
    out.RegionLocationMinX0 = out.RegionLocationMinY0 = 0
    out.RegionLocationMaxX1, out.RegionLocationMaxY1 = area
    return out


def test_ultrasound_regions_give_the_spacing(tmp_path):
    ds = make_image(frames(1)[0], "US")
    ds.SequenceOfUltrasoundRegions = Sequence(
        [region(0.5, 0.5, (1, 1)), region(0.02, 0.03, (90, 90)),
         region(1, 1, (900, 900), units=4, kind=3)]
    )  # fmt: skip
    volume = opened(tmp_path, ds)
    np.testing.assert_allclose(volume.spacing, (0.3, 0.2))
    assert volume.units == ("millimeter", "millimeter")
    assert "ultrasound regions" in volume.metadata["notes"][0]


@pytest.mark.parametrize(
    "spacing", [["0", "0"], ["-1", "1"], ["nan", "nan"], ["1e400", "1"], ["a", "b"]]
)
def test_a_spacing_that_is_none_is_left_out_and_told(tmp_path, spacing):
    ds = make_image(frames(1)[0], "CT", **{**place(1.0), "PixelSpacing": [1, 1]})
    raw = "\\".join(spacing)
    raw += " " * (len(raw) % 2)
    path = tmp_path / "image.dcm"
    ds.PixelSpacing = ["1.5", "1" * (len(raw) - 4)]
    ds.save_as(path, enforce_file_format=True)
    data = path.read_bytes()
    path.write_bytes(
        data.replace(f"1.5\\{'1' * (len(raw) - 4)}".encode(), raw.encode())
    )
    volume = open_volume(path)
    assert volume.spacing == (1.0, 1.0) and volume.units == ("pixel", "pixel")
    assert any("PixelSpacing" in note for note in volume.metadata["notes"])
    json.dumps(
        [volume.affine.tolist(), volume.metadata["notes"], volume.spacing],
        allow_nan=False,
    )


@pytest.mark.parametrize("orientation", [[0] * 6, [1, 0, 0, 1, 0, 0]])
def test_an_orientation_that_is_none_leaves_slices_in_order(tmp_path, orientation):
    for k in range(3):
        tags = {**place(float(k), orientation=orientation), "InstanceNumber": 3 - k}
        ds = make_image(np.full((8, 8), k, np.int16), **tags)
        ds.save_as(tmp_path / f"{k}.dcm", enforce_file_format=True)
    volume = open_volume(tmp_path)
    assert np.asarray(volume.levels[0])[:, 0, 0].tolist() == [2, 1, 0]


def test_uneven_slices_with_a_tilted_gantry_are_resampled_along_the_tilt(tmp_path):
    write_ct_series(tmp_path, step=(0, 0.8, 3.0), count=7)
    removed = next(
        p for p in tmp_path.iterdir()
        if abs(pydicom.dcmread(p).ImagePositionPatient[2] + 75.699997 - 9) < 0.1
    )  # fmt: skip
    removed.unlink()
    volume = open_volume(tmp_path, spacing="resample")
    assert volume.shape[0] == 7
    np.testing.assert_allclose(volume.affine[:3, 0], [3.0, 0.8, 0.0], atol=1e-6)


@pytest.mark.parametrize(
    ("gaps", "step", "planes"),
    [
        pytest.param([4] * 13 + [1.08] + [7] * 8, 4, 28, id="head-ct"),
        pytest.param([5] * 12 + [10] + [5] * 16, 5, 31, id="missing"),
        pytest.param([7] * 20 + [2] * 5, 2, 76, id="fine-part"),
        pytest.param([3, 6], 3, 4, id="three-slices"),
        pytest.param([1] * 3 + [500], 500 / 80, 81, id="far-off"),
    ],
)
def test_planes_are_as_far_apart_as_the_closest_usual_slices(gaps, step, planes):
    from napari_sam.volume.formats.dicom_stack import regular_planes

    found = regular_planes([0.0, *np.cumsum(gaps)])
    np.testing.assert_allclose(np.diff(found), step, rtol=0.01)
    assert len(found) == planes
    assert found[-1] <= sum(gaps) + 1e-6
