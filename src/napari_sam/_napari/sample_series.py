"""The MR volume among the samples as a DICOM series, so that its results can be DICOM.

nibabel ships the head as NIfTI, without a patient. It is written once as a series of a
patient called "Sample^MR", into the cache, and opened from there.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.atomic_files import whole
from napari_sam.errors import VolumeError

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

_MR = "1.2.840.10008.5.1.4.1.1.4"
_LPS = np.diag([-1.0, -1.0, 1.0])
"""From nibabel's directions to DICOM's."""


def mr_head(cache: Path) -> Path:
    """Return the folder of the series below `cache`; written if it is not there yet.

    Raises
    ------
    VolumeError
        If nibabel, whose tests it is from, is not installed.
    ExportError
        If the folder cannot be written.
    """
    folder = cache / "samples" / "mr_head"
    if not folder.is_dir():
        slices = _slices()
        folder.parent.mkdir(parents=True, exist_ok=True)
        with whole(folder) as part:
            part.mkdir()
            for i, ds in enumerate(slices):
                ds.save_as(part / f"{i:03d}.dcm", enforce_file_format=True)
    return folder


def _slices() -> list[FileDataset]:
    try:
        import nibabel
    except ImportError as error:
        raise VolumeError(
            "this sample comes with nibabel: pip install nibabel"
        ) from error
    path = Path(nibabel.__file__).parent / "tests" / "data" / "example4d.nii.gz"
    image = nibabel.load(path)
    # Rows run from front to back, as scanners write them.
    stored = np.asarray(image.dataobj[..., 0]).astype(np.int16)[:, ::-1]
    turned = np.diag([1.0, -1.0, 1.0, 1.0])
    turned[1, 3] = stored.shape[1] - 1
    affine = _LPS @ (image.affine @ turned)[:3]
    sides = np.linalg.norm(affine[:, :3], axis=0)
    # DICOM has no shear; the file's directions are at right angles but for rounding.
    q, r = np.linalg.qr(affine[:, :3])
    ways = q * np.sign(np.diag(r))
    origins = affine[:, 3] + np.outer(np.arange(stored.shape[2]) * sides[2], ways[:, 2])
    return [
        _slice(stored[:, :, z].T, z, origin, ways, sides)
        for z, origin in enumerate(origins)
    ]


def _slice(
    pixels: np.ndarray,
    number: int,
    origin: np.ndarray,
    ways: np.ndarray,
    sides: np.ndarray,
) -> FileDataset:
    """Data set of one slice: (rows, columns) pixels, its first one at `origin`."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

    def uid(*parts: Any) -> UID:
        """The same for everybody, so that results fit any copy."""
        return generate_uid(
            entropy_srcs=["napari-sam sample MR head", *map(str, parts)]
        )

    def decimals(values: np.ndarray) -> list[str]:
        return [f"{v:.6f}" for v in values]

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(_MR)
    meta.MediaStorageSOPInstanceUID = uid("instance", number)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = _MR, meta.MediaStorageSOPInstanceUID
    ds.PatientName, ds.PatientID = "Sample^MR", "napari-sam"
    ds.PatientBirthDate = ds.PatientSex = ds.StudyID = ds.AccessionNumber = ""
    ds.StudyDate = ds.StudyTime = ds.ReferringPhysicianName = ""
    ds.Modality, ds.SeriesDescription, ds.Manufacturer = "MR", "MR head", "nibabel"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = uid("study"), uid("series")
    ds.FrameOfReferenceUID, ds.SeriesNumber = uid("frame"), 1
    ds.InstanceNumber = number + 1
    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.ScanningSequence = ds.SequenceVariant = ds.ScanOptions = ""
    ds.ImagePositionPatient = decimals(origin)
    ds.ImageOrientationPatient = decimals(ways[:, :2].T.ravel())
    ds.PixelSpacing = decimals(sides[[1, 0]])
    ds.SliceThickness = f"{sides[2]:.6f}"
    ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation = 15, 1
    ds.PixelData = np.ascontiguousarray(pixels).tobytes()
    return ds
