"""What other programs read of our DICOM objects: voxel by voxel, in the patient.

Where the image's slices lie is read by SimpleITK, never by us.
"""

import subprocess
from dataclasses import dataclass
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
import shapely
from dicom_phantoms import write_ct_series
from scipy import ndimage

from napari_sam import open_volume
from napari_sam.results import registry
from napari_sam.results.results import Results

sitk = pytest.importorskip("SimpleITK")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
N = 5

# Slices lie in files of shuffled names and numbers in all of them.
SERIES = {
    "axial": {},
    "sagittal": {
        "step": (2.5, 0, 0),
        "ImageOrientationPatient": [0, 1, 0, 0, 0, -1],
    },
    "oblique": {
        "step": (0, -1.8, 2.4),
        "ImageOrientationPatient": [1, 0, 0, 0, 0.8, 0.6],
    },
    "reversed": {"step": (0, 0, -3.0)},
    "uneven": {"ImagePositionPatient": lambda k: [-100, -90, (0, 3, 6, 13, 16)[k]]},
}
UPRIGHT = ("axial", "oblique", "reversed", "uneven")
"""Where plastimatch fills contours: those whose rows run from head to foot it fills
on every other row."""


@dataclass
class Scan:
    """A series, objects on it, and its slices as SimpleITK places them."""

    folder: Any
    volume: Any
    labels: np.ndarray
    slices: list[Any]

    def marked(self, points):
        """Mask over the volume of points (x, y, z) in the patient."""
        out = np.zeros(self.labels.shape, bool)
        left = len(points)
        for z, image in enumerate(self.slices):
            origin, ways = np.array(image.GetOrigin()), image.GetDirection()
            ways = np.reshape(ways, (3, 3))
            at = (points - origin) @ ways / (*image.GetSpacing()[:2], 1.0)
            here = at[np.abs(at[:, 2]) < 0.01]
            left -= len(here)
            index = np.round(here[:, :2]).astype(int)
            assert np.abs(index - here[:, :2]).max(initial=0) < 0.01
            out[z, index[:, 1], index[:, 0]] = True
        assert left == 0  # points of no slice
        return out


@pytest.fixture(scope="module", params=SERIES)
def scan(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    write_ct_series(folder / "ct", count=N, **SERIES[request.param])
    spacing = {"spacing": "positions"} if request.param == "uneven" else {}
    volume = open_volume(folder / "ct", **spacing)
    images = [sitk.ReadImage(str(f)) for f in sorted((folder / "ct").iterdir())]
    arrays = [sitk.GetArrayFromImage(image)[0] for image in images]
    slices = [
        next(i for i, a in zip(images, arrays, strict=True) if np.array_equal(a, plane))
        for plane in np.asarray(volume.levels[0])
    ]
    return Scan(folder, volume, blobs(volume.shape), slices)


def blobs(shape):
    """Objects with holes, islands in holes, and pixels that touch at corners."""
    noise = np.random.default_rng(4).normal(size=shape)
    smooth = ndimage.gaussian_filter(noise, (0.7, 2.5, 2.5))
    labels = np.zeros(shape, np.uint16)
    labels[smooth > np.quantile(smooth, 0.75)] = 2
    labels[1:4, 20:60, 30:80] = 1
    labels[1:4, 25:55, 40:70] = 0
    labels[1:4, 35:45, 45:50] = 1
    labels[2, 100:103, 90:93] = np.eye(3) * 7
    return labels


def folder_of(scan, name):
    path = scan.folder / name
    path.mkdir()
    return path


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_a_segmentation_is_what_highdicom_and_dcmqi_read(scan, kind):
    pytest.importorskip("dcmqi")
    path = scan.folder / f"{kind}.dcm"
    registry.write(path, Results(scan.labels, scan.volume), "dicom_seg", kind=kind)
    seg = highdicom.seg.segread(path)
    numbers = {
        i: seg.get_segment_numbers(tracking_id=f"object {i}")[0] for i in (1, 2, 7)
    }
    by_slice = seg.get_pixels_by_source_instance(
        [f[2] for f in scan.volume.metadata["frames"]], combine_segments=True,
        ignore_spatial_locations=True, assert_missing_frames_are_empty=True,
    )  # fmt: skip
    for i, number in numbers.items():
        np.testing.assert_array_equal(by_slice == number, scan.labels == i)
    if "uneven" in scan.folder.name:  # dcmqi spaces slices evenly
        return

    grid = seg.get_volume(combine_segments=True)
    out = folder_of(scan, kind)
    subprocess.run(
        ["segimage2itkimage", "--inputDICOM", path, "--outputDirectory", out],
        check=True, capture_output=True,
    )  # fmt: skip
    images = [sitk.ReadImage(str(f)) for f in out.glob("*.nrrd")]
    for i, number in numbers.items():
        at = np.argwhere(grid.array == number)
        places = at @ grid.affine[:3, :3].T + grid.affine[:3, 3]
        np.testing.assert_array_equal(scan.marked(places), scan.labels == i)
        points = np.array([
            image.TransformIndexToPhysicalPoint(index[::-1].tolist())
            for image in images
            for index in np.argwhere(sitk.GetArrayFromImage(image) == number)
        ])  # fmt: skip
        np.testing.assert_array_equal(scan.marked(points), scan.labels == i)


def write_outlines(scan, name):
    path = scan.folder / name
    registry.write(path, Results(scan.labels, scan.volume), "rtstruct")
    return path


def test_outlines_hold_the_pixels_by_pydicom_and_shapely(scan):
    ds = pydicom.dcmread(write_outlines(scan, "shapely.dcm"))
    uids = {f[2]: z for z, f in enumerate(scan.volume.metadata["frames"])}
    h, w = scan.labels.shape[1:]
    x, y = np.meshgrid(np.arange(w), np.arange(h))
    for item in ds.ROIContourSequence:
        held = np.zeros(scan.labels.shape, bool)
        for contour in item.ContourSequence:
            z = uids[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
            points = np.reshape(np.array(contour.ContourData, float), (-1, 3))
            at = [
                scan.slices[z].TransformPhysicalPointToContinuousIndex(p.tolist())
                for p in points
            ]
            assert np.abs(np.array(at)[:, 2]).max() < 1e-3
            ring = shapely.Polygon(np.array(at)[:, :2])
            held[z] ^= shapely.contains_xy(ring, x, y)
        np.testing.assert_array_equal(
            held, scan.labels == int(item.ReferencedROINumber)
        )


def test_outlines_are_what_plastimatch_fills(scan):
    pytest.importorskip("plastimatch")
    if not any(name in scan.folder.name for name in UPRIGHT):
        pytest.skip("plastimatch fills every other row of such slices")
    path, out = write_outlines(scan, "plastimatch.dcm"), folder_of(scan, "masks")
    subprocess.run(
        ["plastimatch", "convert", "--input", path, "--referenced-ct",
         scan.folder / "ct", "--xor-contours", "--output-prefix", out,
         "--prefix-format", "nrrd"],
        check=True, capture_output=True,
    )  # fmt: skip
    files = sorted(out.iterdir())
    assert [f.stem for f in files] == ["object 1", "object 2", "object 7"]
    for file in files:
        image = sitk.ReadImage(str(file))
        filled = np.argwhere(sitk.GetArrayFromImage(image))[:, ::-1]
        points = np.array(
            [image.TransformIndexToPhysicalPoint(i) for i in filled.tolist()]
        )
        if "uneven" in scan.folder.name:  # it lays slices on the nearest multiple
            stated = np.array([image.GetOrigin()[2] for image in scan.slices])
            nearest = np.abs(points[:, 2:] - stated).argmin(1)
            assert np.abs(points[:, 2] - stated[nearest]).max() <= 1.0
            points[:, 2] = stated[nearest]
        expected = scan.labels == int(file.stem.split()[1])
        np.testing.assert_array_equal(scan.marked(points), expected)
