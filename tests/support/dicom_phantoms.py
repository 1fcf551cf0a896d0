"""DICOM folders made of pydicom's own CT and MR, for tests of opening."""

import copy

import numpy as np
import pydicom
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid


def ct_slice():
    path = get_testdata_file("CT_small.dcm", download=False)
    return pydicom.dcmread(path)


def write_ct_series(
    folder,
    *,
    count=6,
    step=(0.0, 0.0, 3.0),
    seed=3,
    series_uid=None,
    description="abdomen",
    **tags,
):
    """Write slices of CT_small shifted along `step`, in shuffled files and numbers.

    Slice k holds the pixels of CT_small rolled by 5 k rows. Returns the (z, y, x)
    values in Hounsfield units, lowest position first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    base = ct_slice()
    start = np.array(base.ImagePositionPatient, float)
    uid = series_uid or generate_uid(entropy_srcs=[description, str(seed)])
    shuffled = np.random.default_rng(seed).permutation(count)
    values = []
    for k in range(count):
        ds = copy.deepcopy(base)
        stored = np.roll(base.pixel_array, 5 * k, axis=0)
        ds.PixelData = stored.tobytes()
        ds.ImagePositionPatient = [
            f"{v:.6f}" for v in start + k * np.asarray(step, float)
        ]
        ds.InstanceNumber = int(shuffled[k]) + 1
        ds.SeriesInstanceUID = uid
        ds.SeriesDescription = description
        ds.SOPInstanceUID = generate_uid(entropy_srcs=[uid, str(k)])
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        for name, value in tags.items():
            setattr(ds, name, value(k) if callable(value) else value)
        ds.save_as(folder / f"IM{int(shuffled[k]):04d}.dcm")
        values.append(stored.astype(int) - 1024)
    return np.stack(values)


def write_enhanced_mr(path, *, count=5, gap=2.5):
    """Write one enhanced multi-frame MR whose frames are stored from the top down.

    Returns the (z, y, x) values after each frame's own rescaling, lowest place first.
    """
    base = pydicom.dcmread(get_testdata_file("MR_small.dcm", download=False))
    ds = copy.deepcopy(base)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = (
        "1.2.840.10008.5.1.4.1.1.4.1"
    )
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
                 "WindowCenter", "WindowWidth"):  # fmt: skip
        if name in ds:
            delattr(ds, name)
    shared = Dataset()
    orientation, measures = Dataset(), Dataset()
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    measures.PixelSpacing = [0.5, 0.75]
    measures.SpacingBetweenSlices = 99
    shared.PlaneOrientationSequence = Sequence([orientation])
    shared.PixelMeasuresSequence = Sequence([measures])
    ds.SharedFunctionalGroupsSequence = Sequence([shared])
    groups, frames, values = [], [], []
    for k in reversed(range(count)):
        place, transform, window, group = Dataset(), Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [10, 20, 30 + k * gap]
        transform.RescaleSlope, transform.RescaleIntercept = k + 1, 0.5
        window.WindowCenter, window.WindowWidth = 1000, 801
        group.PlanePositionSequence = Sequence([place])
        group.PixelValueTransformationSequence = Sequence([transform])
        group.FrameVOILUTSequence = Sequence([window])
        groups.append(group)
        stored = np.roll(base.pixel_array, k, axis=1)
        frames.append(stored.tobytes())
        values.append(stored * (k + 1) + 0.5)
    ds.PerFrameFunctionalGroupsSequence = Sequence(groups)
    ds.NumberOfFrames = count
    ds.PixelData = b"".join(frames)
    ds.save_as(path)
    return np.stack(values[::-1])


CLASSES = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
    "NM": "1.2.840.10008.5.1.4.1.1.20",
    "US": "1.2.840.10008.5.1.4.1.1.6.1",
    "DX": "1.2.840.10008.5.1.4.1.1.1.1",
    "OT": "1.2.840.10008.5.1.4.1.1.7",
}


def make_image(pixels, modality="MR", syntax=ExplicitVRLittleEndian, **tags):
    """Return a data set with only what an image needs, and the given tags.

    `pixels` is (rows, columns) or (frames, rows, columns); tags whose value is None
    are left out.
    """
    pixels = np.asarray(pixels)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CLASSES[modality]
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = syntax
    ds = Dataset()
    ds.file_meta = meta
    ds.SOPClassUID = meta.MediaStorageSOPClassUID
    ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.826.0.1", "1.2.826.0.1.5"
    ds.Modality = modality
    ds.Rows, ds.Columns = pixels.shape[-2:]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    bits = pixels.dtype.itemsize * 8
    ds.BitsAllocated = ds.BitsStored = bits
    ds.HighBit = bits - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    if pixels.ndim == 3:
        ds.NumberOfFrames = len(pixels)
    ds.PixelData = pixels.tobytes()
    for name, value in tags.items():
        if value is not None:
            setattr(ds, name, value)
    return ds


def place(z, *, orientation=(1, 0, 0, 0, 1, 0), spacing=(1.0, 1.0)):
    """Tags that place a slice at z of the patient."""
    return {
        "ImagePositionPatient": [0, 0, z],
        "ImageOrientationPatient": list(orientation),
        "PixelSpacing": list(spacing),
    }


def write_phases(folder, tags, *, n_z=4, value=lambda t, z: 10 * t + z, **common):
    """Write a stack for each item of `tags`, whose files come in random order.

    `tags` is a list of dicts, or of functions from the slice's number to a dict. Every
    pixel of phase t and slice z is `value(t, z)`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = iter(np.random.default_rng(5).permutation(10_000))
    for t, each in enumerate(tags):
        for z in range(n_z):
            more = each(z) if callable(each) else each
            pixels = np.full((8, 8), value(t, z), np.int16)
            ds = make_image(pixels, **{**place(3.0 * z), **common, **more})
            ds.save_as(folder / f"{next(names):05d}.dcm", enforce_file_format=True)


def phase_values(volume):
    """Value of each (t, z) of a volume that `write_phases` wrote."""
    return np.asarray(volume.levels[0])[..., 0, 0]
