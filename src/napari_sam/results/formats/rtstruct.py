"""DICOM structure sets: outlines in the patient's coordinates, holes by XOR."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.atomic_files import whole
from napari_sam.errors import ExportError, VolumeError
from napari_sam.results.formats.dicom_seg import check_reference
from napari_sam.results.label_arrays import new_labels
from napari_sam.results.label_objects import iter_objects
from napari_sam.results.outlines import fill, outline
from napari_sam.results.patient import (
    PatientGrid,
    check_patient,
    hex_of,
    object_color,
    object_title,
    overlap_note,
    patient_affine,
    read_object,
    read_object_file,
    read_source,
    sop_class,
)
from napari_sam.results.records import RecordReader
from napari_sam.results.results import Results
from napari_sam.results.terms import class_of, term_of
from napari_sam.volume.geometry import plane_origins_lps

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pydicom.dataset import Dataset

    from napari_sam.volume.volume import Volume

STORAGE = "1.2.840.10008.5.1.4.1.1.481.3"
"""SOP class of structure sets."""
_STUDY_MANAGEMENT = "1.2.840.10008.3.1.2.3.1"
_PATIENT = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientAge",
    "StudyInstanceUID", "StudyID", "StudyDate", "StudyTime", "StudyDescription",
    "AccessionNumber", "ReferringPhysicianName", "SpecificCharacterSet",
)  # fmt: skip
"""What a structure set takes over from the images."""
_FLAT = 0.5
"""Slices by which the corners of a contour may leave its plane."""


def write(path: Path, results: Results) -> list[str]:
    """Write the labels as a DICOM structure set of the series they were made on.

    Each object is a region of interest with its id as number. Its outlines run along
    the edges of its pixels, in millimetres of the patient; a contour inside of
    another is a hole.

    Raises
    ------
    ExportError
        If the image is no DICOM series, there is no object, or the file cannot be
        written.
    """
    labels = check_patient(results, "RTSTRUCT")
    frames = results.volume.metadata["frames"]
    paths = dict.fromkeys(str(f[0]) for f in frames)
    headers = {p: read_source(p) for p in paths}
    instances = [_instance(headers[str(f[0])], int(f[1])) for f in frames]
    contours = _contours(results.volume, labels, instances)
    if not contours:
        raise ExportError("RTSTRUCT holds objects, and these labels have none")
    ds = _header(next(iter(headers.values())))
    reference = ds.ReferencedFrameOfReferenceSequence[0]
    series = reference.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    series.ContourImageSequence = instances
    for object_id in sorted(contours):
        _add_object(ds, results, object_id, contours[object_id])
    with whole(path) as part:
        ds.save_as(part, enforce_file_format=True)
    return []


def recognises_file(path: Path) -> bool:
    """Whether a file is of this format."""
    return sop_class(path) == STORAGE


def read(path: Path, volume: Volume) -> Results:
    """Read a structure set of any program onto an image of the same patient.

    A pixel is in an object where its centre is inside of an odd number of the
    object's contours of one plane.

    Raises
    ------
    VolumeError
        If it is no structure set, or its contours do not lie along the image's planes.
    """
    ds = _open(path)
    check_reference(ds, volume, path.name)
    grid = PatientGrid(volume)
    rois = {int(r.ROINumber): r for r in ds.StructureSetROISequence}
    ids = rois if 0 < min(rois) else {n: i for i, n in enumerate(rois, 1)}
    top = max(ids if ids is rois else ids.values())
    out = new_labels(grid.shape, np.uint16 if top < 2**16 else np.uint32)
    records, notes, hidden = RecordReader(), list[str](), 0
    observed = {
        int(o.ReferencedROINumber): o
        for o in ds.get("RTROIObservationsSequence") or []
        if o.get("ReferencedROINumber") is not None
    }
    for item in ds.get("ROIContourSequence") or []:
        number = int(item.ReferencedROINumber)
        if number not in rois:
            continue
        object_id = number if ids is rois else ids[number]
        title = str(rois[number].get("ROIName") or "")
        rings, left_out = _rings(grid, item, f"{title or number} of {path.name!r}")
        notes += left_out
        if not rings:
            continue
        for index, mask in _masks(grid, rings):
            before = np.array(out[index])
            hidden += int(np.count_nonzero(mask & (before > 0) & (before != object_id)))
            out[index] = np.where(mask, object_id, before)
        known = observed.get(number)
        color = item.get("ROIDisplayColor")
        read_object(
            records,
            object_id,
            title,
            class_of(known and known.get("RTROIIdentificationCodeSequence")),
            hex_of([int(v) for v in color]) if color else None,
        )
    if hidden:
        notes.append(overlap_note(hidden, path.name))
    labels = out if "z" in volume.axes else out[0]
    return Results(labels, volume, records.objects, records.classes, notes=tuple(notes))


def _instance(ds: Any, number: int) -> Dataset:
    """Reference to an image, and to its frame where it has several."""
    from pydicom.dataset import Dataset

    for name in ("SOPClassUID", "SOPInstanceUID"):
        if not ds.get(name):
            raise ExportError(f"RTSTRUCT refers to images, and one has no {name}")
    out = Dataset()
    out.ReferencedSOPClassUID = ds.SOPClassUID
    out.ReferencedSOPInstanceUID = ds.SOPInstanceUID
    if int(ds.get("NumberOfFrames") or 1) > 1:
        out.ReferencedFrameNumber = number + 1
    return out


def _contours(
    volume: Volume, labels: Any, instances: list[Dataset]
) -> dict[int, list[Dataset]]:
    """Contours of each object, plane by plane."""
    from pydicom.dataset import Dataset

    from napari_sam.core.planes import Plane

    affine = patient_affine(volume)
    origins = plane_origins_lps(volume) if "z" in volume.axes else affine[None, :3, 3]
    found: dict[int, list[Dataset]] = defaultdict(list)
    for z, origin in enumerate(origins):
        plane = Plane.of(labels.shape, z)
        for object_id, bbox, mask in iter_objects(labels, plane):
            for ring in (r for part in outline(mask, bbox[:2]) for r in part):
                # Corners of the outline are counted from the first pixel's corner.
                yx = ring - 0.5
                points = yx[:, 1:] * affine[:3, 0] + yx[:, :1] * affine[:3, 1] + origin
                contour = Dataset()
                contour.ContourImageSequence = [instances[z]]
                contour.ContourGeometricType = "CLOSED_PLANAR"
                contour.NumberOfContourPoints = len(points)
                contour.ContourData = _decimals(points)
                found[object_id].append(contour)
    return found


def _decimals(points: np.ndarray) -> list[str]:
    """Numbers as text of at most 16 characters, as exact as that allows."""
    from pydicom.valuerep import format_number_as_ds

    return [format_number_as_ds(float(v) + 0.0) for v in np.round(points, 9).ravel()]


def _header(source: Any) -> Any:
    import pydicom
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    if not source.get("FrameOfReferenceUID"):
        raise ExportError(
            "RTSTRUCT needs the images' FrameOfReferenceUID, and they have none: write "
            "NIfTI or seg.nrrd"
        )
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = pydicom.uid.UID(STORAGE)
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    for name in _PATIENT:
        if name in source:
            ds[name] = source[name]
        elif name not in ("PatientAge", "StudyDescription", "SpecificCharacterSet"):
            setattr(ds, name, "")
    now = datetime.now()
    ds.SOPClassUID, ds.SOPInstanceUID = STORAGE, meta.MediaStorageSOPInstanceUID
    ds.Modality, ds.SeriesInstanceUID, ds.SeriesNumber = "RTSTRUCT", generate_uid(), 301
    ds.Manufacturer = ds.ManufacturerModelName = "napari-sam"
    ds.FrameOfReferenceUID = source.FrameOfReferenceUID
    ds.PositionReferenceIndicator = source.get("PositionReferenceIndicator") or ""
    ds.OperatorsName = ""
    ds.StructureSetLabel, ds.StructureSetName = "napari-sam", "Objects"
    ds.StructureSetDate, ds.StructureSetTime = f"{now:%Y%m%d}", f"{now:%H%M%S}"
    ds.InstanceNumber, ds.ApprovalStatus = 1, "UNAPPROVED"
    series = Dataset()
    series.SeriesInstanceUID = source.SeriesInstanceUID
    study = Dataset()
    study.ReferencedSOPClassUID = _STUDY_MANAGEMENT
    study.ReferencedSOPInstanceUID = source.StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    reference = Dataset()
    reference.FrameOfReferenceUID = source.FrameOfReferenceUID
    reference.RTReferencedStudySequence = [study]
    ds.ReferencedFrameOfReferenceSequence = [reference]
    ds.StructureSetROISequence, ds.ROIContourSequence = [], []
    ds.RTROIObservationsSequence = []
    return ds


def _add_object(
    ds: Any, results: Results, object_id: int, contours: list[Dataset]
) -> None:
    from pydicom.dataset import Dataset

    record = results.record(object_id)
    origins = {p.origin for p in record.planes.values()}
    by_hand = bool(origins) and origins <= {"drawn", "painted"}
    roi = Dataset()
    roi.ROINumber = object_id
    roi.ReferencedFrameOfReferenceUID = ds.FrameOfReferenceUID
    roi.ROIName = object_title(results, object_id)[:64]
    roi.ROIGenerationAlgorithm = "MANUAL" if by_hand else "SEMIAUTOMATIC"
    ds.StructureSetROISequence.append(roi)
    item = Dataset()
    item.ROIDisplayColor = list(object_color(results, object_id))
    item.ContourSequence = contours
    item.ReferencedROINumber = object_id
    ds.ROIContourSequence.append(item)
    observed = Dataset()
    observed.ObservationNumber = len(ds.RTROIObservationsSequence) + 1
    observed.ReferencedROINumber = object_id
    known = results.classes.get(record.class_name)
    if known is not None:
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = term_of(known)
        observed.RTROIIdentificationCodeSequence = [code]
    observed.RTROIInterpretedType, observed.ROIInterpreter = "", ""
    ds.RTROIObservationsSequence.append(observed)


def _open(path: Path) -> Any:
    ds = read_object_file(path)
    if ds.get("SOPClassUID") != STORAGE or not ds.get("StructureSetROISequence"):
        kind = getattr(ds.get("SOPClassUID"), "name", "no DICOM object")
        raise VolumeError(
            f"{str(path)!r} is {kind}: expected a DICOM structure set with objects"
        )
    return ds


_Rings = dict[tuple[int, float], list[np.ndarray]]
"""(n, 2) corners by axis (of x, y, z) and place along it."""


def _rings(grid: PatientGrid, item: Any, name: str) -> tuple[_Rings, list[str]]:
    """Corners of an object's contours in the image's pixels, by plane."""
    found: _Rings = defaultdict(list)
    other: set[str] = set()
    for contour in item.get("ContourSequence") or []:
        kind = str(contour.get("ContourGeometricType"))
        if kind not in ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR"):
            other.add(kind)
            continue
        points = np.asarray(contour.get("ContourData") or [], float).reshape(-1, 3)
        if len(points) < 3:
            continue
        at = grid.index_of(points)
        spread = np.ptp(at, axis=0)
        axis = _axis_of(spread, grid)
        if spread[axis] > _FLAT:
            raise VolumeError(
                f"a contour of {name} is turned against the planes of "
                f"{grid.volume.name!r} (it spans {spread[axis]:.3g} slices): open the "
                "series that it was drawn on"
            )
        place = round(float(at[:, axis].mean()), 3)
        found[axis, place].append(np.delete(at, axis, axis=1)[:, ::-1])
    notes = [
        f"{k} contours of {name} hold no area and are left out" for k in sorted(other)
    ]
    return found, notes


def _axis_of(spread: np.ndarray, grid: PatientGrid) -> int:
    """The axis (of x, y, z) that a contour stays on; z where several would do."""
    if spread[2] <= _FLAT or grid.shape[0] == 1:
        return 2
    return int(np.argmin(spread))


def _masks(grid: PatientGrid, rings: _Rings) -> Iterator[tuple[Any, np.ndarray]]:
    """Yield what contours hold of the nearest planes, as (index into labels, mask)."""
    for (axis, place), corners in rings.items():
        nearest = round(place)
        sizes = [n for i, n in enumerate(grid.shape) if i != 2 - axis]
        (y0, x0, y1, x1), mask = fill(corners, (sizes[0], sizes[1]), centre=0.0)
        if mask.size and 0 <= nearest < grid.shape[2 - axis]:
            index: list[Any] = [slice(y0, y1), slice(x0, x1)]
            index.insert(2 - axis, nearest)
            yield tuple(index), mask
