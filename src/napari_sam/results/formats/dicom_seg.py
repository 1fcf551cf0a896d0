"""DICOM-SEG through highdicom: segments that refer to the images they were made on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_sam.core.atomic_files import whole
from napari_sam.errors import ExportError, VolumeError
from napari_sam.results.label_arrays import new_labels
from napari_sam.results.patient import (
    PatientFrame,
    PatientGrid,
    check_patient,
    frame_affine,
    frame_value,
    hex_of,
    object_color,
    object_title,
    overlap_note,
    read_object,
    read_object_file,
    read_source,
    sop_class,
)
from napari_sam.results.records import RecordReader
from napari_sam.results.renumbered import object_ids
from napari_sam.results.results import Results
from napari_sam.results.terms import class_of, concept_of
from napari_sam.volume.geometry import is_uneven

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_sam.core.objects import ClassList, ObjectRecord
    from napari_sam.volume.volume import Volume

STORAGE = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""SOP classes of segmentations: in bits, and as a label map."""
_HIGHEST = 65535
_OWN_ID = re.compile(r"object (\d{1,10})")
"""Tracking id that keeps an object's number, which segments are numbered without."""


def write(
    path: Path, results: Results, *, kind: Literal["binary", "labelmap"] = "binary"
) -> list[str]:
    """Write the labels as a DICOM segmentation of the series they were made on.

    Each object is a segment with its name, colour, the coded term of its class and its
    id as tracking id. Slices without objects are left out.

    Parameters
    ----------
    path : Path
    results : Results
    kind : {"binary", "labelmap"}
        One bit for each pixel and segment, which every program reads, or one number
        for each pixel (of 2024).

    Returns
    -------
    list of str
        What the file does not hold.

    Raises
    ------
    ExportError
        If the image is no DICOM series, there is no object, or the file cannot be
        written.
    """
    import highdicom

    labels = check_patient(results, "DICOM-SEG")
    ids = object_ids(results.labels)
    if not ids:
        raise ExportError("DICOM-SEG holds objects, and these labels have none")
    if ids[-1] > _HIGHEST and kind == "labelmap":
        raise ExportError(
            f"a DICOM label map holds ids up to {_HIGHEST}; got {ids[-1]}: write "
            "kind='binary', or OME-Zarr"
        )
    numbers = {i: i if kind == "labelmap" else n for n, i in enumerate(ids, 1)}
    sources, order = _sources(results.volume)
    provenance = {k: str(v) for k, v in results.provenance.items() if v}
    segmentation = highdicom.seg.Segmentation(
        source_images=sources,
        pixel_array=_numbered(labels, numbers)[order],
        segmentation_type=kind.upper(),
        segment_descriptions=[
            _description(results, i, number, provenance)
            for i, number in numbers.items()
        ],
        series_instance_uid=highdicom.UID(),
        series_number=300,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="napari-sam",
        manufacturer_model_name=provenance.get("model", "napari-sam")[:64],
        software_versions=provenance.get("version", "unknown")[:64],
        device_serial_number="0",
        content_label="SEGMENTATION",
        content_description="Objects segmented in napari-sam",
        omit_empty_frames=True,
    )
    with whole(path) as part:
        segmentation.save_as(part)
    return []


def recognises_file(path: Path) -> bool:
    """Whether a file is of this format."""
    return sop_class(path) in STORAGE


def read(path: Path, volume: Volume) -> Results:
    """Read a segmentation of any program onto an image of the same patient.

    Frames are placed by their positions in the patient, whatever side they are seen
    from. Fractions of .5 and more count as the object.

    Raises
    ------
    VolumeError
        If it is no segmentation, or its frames do not lie on the image's pixels.
    """
    ds = _open(path)
    check_reference(ds, volume, path.name)
    grid = PatientGrid(volume)
    objects, classes, ids = _segments(ds)
    out = new_labels(grid.shape, np.uint16 if max(ids.values()) <= _HIGHEST else "u4")
    hidden = 0
    for number, frame in enumerate(_frames(ds)):
        index, pixels = grid.place(frame, f"frame {number + 1} of {path.name!r}")
        segment = frame_value(
            ds, number, "SegmentIdentificationSequence", "ReferencedSegmentNumber"
        )
        here = _in_ids(pixels, ids, None if segment is None else int(segment))
        before = np.array(out[index])
        hidden += int(np.count_nonzero((here > 0) & (before > 0) & (before != here)))
        out[index] = np.where(here > 0, here, before)
    labels = out if "z" in volume.axes else out[0]
    told = (overlap_note(hidden, path.name),) * bool(hidden)
    return Results(labels, volume, objects, classes, notes=told)


def check_reference(ds: Any, volume: Volume, name: str) -> None:
    """Check that an object and an image have one frame of reference.

    Raises
    ------
    VolumeError
        If both name one, and they differ: their coordinates have nothing in common.
    """
    theirs = ds.get("FrameOfReferenceUID")
    if theirs is None:
        for item in ds.get("ReferencedFrameOfReferenceSequence") or []:
            theirs = item.get("FrameOfReferenceUID")
    ours = volume.metadata.get("frame_of_reference_uid")
    if ours and theirs and str(ours) != str(theirs):
        raise VolumeError(
            f"{name!r} lies in another frame of reference ({theirs}) than "
            f"{volume.name!r} ({ours}), so their coordinates do not correspond: open "
            "the series that it was made on"
        )


def _open(path: Path) -> Any:
    ds = read_object_file(path)
    if ds.get("SOPClassUID") not in STORAGE or not ds.get("SegmentSequence"):
        kind = getattr(ds.get("SOPClassUID"), "name", "no DICOM object")
        raise VolumeError(
            f"{str(path)!r} is {kind}: expected a DICOM segmentation with segments"
        )
    return ds


def _sources(volume: Volume) -> tuple[list[Any], list[int]]:
    """Headers of the source images, and the planes in their order."""
    frames = volume.metadata["frames"]
    paths = list(dict.fromkeys(str(f[0]) for f in frames))
    headers = {p: _completed(read_source(p)) for p in paths}
    steps = dict(zip(volume.axes, volume.spacing, strict=True))
    for ds in headers.values():
        _set_step(ds, None if is_uneven(volume) else steps.get("z"))
    if len(paths) == len(frames):
        return [headers[str(f[0])] for f in frames], list(range(len(frames)))
    if len(paths) > 1:
        raise ExportError(
            "DICOM-SEG refers to single images or to one multi-frame image; this "
            f"series has {len(paths)} files with {len(frames)} frames: write NIfTI"
        )
    (only,) = headers.values()
    if int(only.get("NumberOfFrames") or 1) != len(frames):
        raise ExportError(
            f"only {len(frames)} of the {only.get('NumberOfFrames')} frames of "
            f"{paths[0]!r} are in this volume, and DICOM-SEG refers to all: write NIfTI"
        )
    return [only], list(np.argsort([int(f[1]) for f in frames]))


def _completed(ds: Any) -> Any:
    """Fill in what every image must say of its patient and study, if only nothing."""
    for name in (
        "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID",
        "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName",
    ):  # fmt: skip
        if name not in ds:
            setattr(ds, name, None)
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        if name not in ds and "SharedFunctionalGroupsSequence" not in ds:
            raise ExportError(
                f"DICOM-SEG needs {name}, which the images do not have: write NIfTI or "
                "OME-Zarr"
            )
    return ds


def _set_step(ds: Any, step: float | None) -> None:
    """Correct the distance of slices in a header, which is often a stale copy."""
    from pydicom.valuerep import DSfloat

    groups = [
        *(ds.get("SharedFunctionalGroupsSequence") or []),
        *(ds.get("PerFrameFunctionalGroupsSequence") or []),
    ]
    measures = (g.get("PixelMeasuresSequence") or [] for g in groups)
    for item in (ds, *(m for found in measures for m in found)):
        if "SpacingBetweenSlices" in item:
            del item.SpacingBetweenSlices
        if step is not None and "PixelSpacing" in item:
            item.SpacingBetweenSlices = DSfloat(step, auto_format=True)
        if "PixelSpacing" in item and not item.get("SliceThickness"):
            item.SliceThickness = DSfloat(step or 1.0, auto_format=True)


def _numbered(labels: Any, numbers: dict[int, int]) -> np.ndarray:
    """Labels with segment numbers for ids, in the smallest type."""
    top = max(numbers.values())
    out = np.zeros(labels.shape, np.uint8 if top < 256 else np.uint16)
    for z in range(len(out)):
        plane = np.asarray(labels[z])
        found, places = np.unique(plane, return_inverse=True)
        new = np.array([numbers.get(int(i), 0) for i in found], out.dtype)
        out[z] = new[places].reshape(plane.shape)
    return out


def _description(
    results: Results, object_id: int, number: int, provenance: dict[str, str]
) -> Any:
    import highdicom
    from pydicom.sr.codedict import codes

    record = results.record(object_id)
    origins = {p.origin for p in record.planes.values()}
    by_hand = bool(origins) and origins <= {"drawn", "painted"}
    alone = bool(origins) and origins <= {"suggested", "propagated", "interpolated"}
    how = "MANUAL" if by_hand else "AUTOMATIC" if alone else "SEMIAUTOMATIC"
    category, kind = concept_of(results.classes.get(record.class_name))
    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=object_title(results, object_id)[:64],
        segmented_property_category=category,
        segmented_property_type=kind,
        algorithm_type=how,
        algorithm_identification=None if by_hand else (
            highdicom.AlgorithmIdentificationSequence(
                name=provenance.get("model", "Segment Anything")[:64],
                family=codes.DCM.ArtificialIntelligence,
                version=provenance.get("version", "unknown")[:64],
            )
        ),
        tracking_uid=highdicom.UID(),
        tracking_id=f"object {object_id}",
        display_color=highdicom.color.CIELabColor.from_rgb(
            *object_color(results, object_id)
        ),
    )  # fmt: skip


def _segments(
    ds: Any,
) -> tuple[dict[int, ObjectRecord], ClassList, dict[int, int]]:
    """Records by id, classes, and the id of each segment number."""
    own = {
        int(s.SegmentNumber): _OWN_ID.fullmatch(str(s.get("TrackingID") or ""))
        for s in ds.SegmentSequence
        if int(s.SegmentNumber) > 0
    }
    if not own:
        raise VolumeError("this segmentation has no segments")
    named = [int(m[1]) for m in own.values() if m]
    keep = len(set(named)) == len(own) and 0 < min(named) and max(named) < 2**32
    ids = {n: int(m[1]) if keep and m else n for n, m in own.items()}
    records = RecordReader()
    for segment in ds.SegmentSequence:
        if (number := int(segment.SegmentNumber)) in ids:
            read_object(
                records,
                ids[number],
                str(segment.get("SegmentLabel") or ""),
                class_of(segment.get("SegmentedPropertyTypeCodeSequence")),
                _color(segment.get("RecommendedDisplayCIELabValue")),
            )
    return records.objects, records.classes, ids


def _color(given: Any) -> str | None:
    if given is None or len(given) != 3:
        return None
    from skimage.color import lab2rgb

    scaled = np.asarray(given, float) / 65535
    lab = scaled * (100, 255, 255) - (0, 128, 128)
    return hex_of(np.round(lab2rgb(lab) * 255).tolist())


def _frames(ds: Any) -> Iterator[PatientFrame]:
    """Yield the frames, (h, w), with their places."""
    pixels = ds.pixel_array
    pixels = pixels.reshape(-1, *pixels.shape[-2:])
    if ds.get("SegmentationType") == "FRACTIONAL":
        top = int(ds.get("MaximumFractionalValue") or 255)
        pixels = (pixels >= top / 2).astype(np.uint8)
    for number, frame in enumerate(pixels):
        affine = frame_affine(ds, number)
        if affine is None:
            raise VolumeError(
                "this segmentation does not say where its frames lie in the patient: "
                "only those of volumes can be read"
            )
        yield PatientFrame(frame, affine)


def _in_ids(pixels: np.ndarray, ids: dict[int, int], segment: int | None) -> np.ndarray:
    """Object ids of a frame: of one segment's bits, or of a label map's numbers."""
    if segment is not None:
        return np.where(pixels > 0, ids.get(segment, 0), 0)
    found, places = np.unique(pixels, return_inverse=True)
    new = np.array([ids.get(int(n), 0) for n in found], np.int64)
    return np.asarray(new[places].reshape(pixels.shape))
