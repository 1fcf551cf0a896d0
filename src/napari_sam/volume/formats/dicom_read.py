"""Read the headers of DICOM files, which nobody checked before."""

from __future__ import annotations

import warnings
import zlib
from typing import Any

from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_partial
from pydicom.tag import Tag

from napari_sam.errors import VolumeError
from napari_sam.volume.formats.dicom_codecs import problem_with
from napari_sam.volume.formats.dicom_files import open_file, size_of
from napari_sam.volume.formats.dicom_groups import read_frames
from napari_sam.volume.formats.dicom_header import DEFLATED, PIXEL_TAGS, Header
from napari_sam.volume.formats.dicom_values import get, number, numbers, spacing, whole

MOST_FRAMES = 200_000
SUBSAMPLED = {"YBR_FULL_422": 2 / 3, "YBR_PARTIAL_422": 2 / 3, "YBR_PARTIAL_420": 0.5}
"""Share of the bytes that uncompressed pixels of subsampled colour take."""
MOST_ELEMENTS = 50_000
"""Elements of a header outside its sequences."""
LARGEST_DEFLATED = 256 << 20
"""Bytes that a deflated file may always unpack to, and else 100 times its own."""

TAGS = [
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID",
    "FrameOfReferenceUID", "Modality", "SeriesDescription", "SeriesNumber",
    "ImageType", "ComplexImageComponent", "InstanceNumber", "AcquisitionNumber",
    "AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime", "ContentDate",
    "ContentTime", "TriggerTime", "FrameReferenceTime", "TemporalPositionIdentifier",
    "TemporalResolution", "DiffusionBValue", "DiffusionGradientOrientation",
    "EchoTime", "EchoNumbers", "InversionTime", "FlipAngle", "StackID",
    "NominalPercentageOfCardiacPhase", "RepetitionTime", "PhaseNumber",
    "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames",
    "BitsAllocated", "BitsStored", "PixelRepresentation", "PixelPaddingValue",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
    "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio",
    "SpacingBetweenSlices", "SliceThickness", "SequenceOfUltrasoundRegions",
    "FrameTime", "FrameTimeVector", "CineRate", "RecommendedDisplayFrameRate",
    "FrameIncrementPointer", "GridFrameOffsetVector", "SliceLocationVector",
    "SliceVector", "EnergyWindowVector", "DetectorVector", "PhaseVector",
    "RotationVector", "RRIntervalVector", "TimeSlotVector", "TimeSliceVector",
    "AngularViewVector", "DetectorInformationSequence", "DimensionIndexSequence",
    "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "VOILUTSequence",
    "WindowCenter", "WindowWidth", "VOILUTFunction",
    "PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence",
]  # fmt: skip
"""What is read of a header; the rest, patient data among it, is passed over."""
_TAG_NUMBERS: list[Any] = [Tag(name) for name in TAGS]


def read_header(path: str, *, force: bool = False) -> Header:
    """Read the header of a file.

    Parameters
    ----------
    path : str
        Of a file, or of a member of a zip archive (`dicom_files.open_file`).
    force : bool
        Whether files without DICOM's mark at byte 128 are read, too.

    Raises
    ------
    VolumeError
        If it is no DICOM image, or is damaged; the message is the reason alone.
    """
    try:
        # Damaged values are told in `notes`, not by pydicom on the side.
        _check_deflated(path)
        with warnings.catch_warnings(), open_file(path) as file:
            warnings.simplefilter("ignore")
            ds = read_partial(file, _Stop(), specific_tags=_TAG_NUMBERS, force=force)
            return _header(path, ds)
    except VolumeError:
        raise
    except InvalidDicomError:
        raise VolumeError("it is no DICOM file") from None
    except RecursionError:
        raise VolumeError("its header is damaged: sequences without end") from None
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise VolumeError(
            f"its header is damaged ({type(error).__name__}: {reason})"
        ) from error


class _Stop:
    """Stop before the pixels, and where there are more elements than any file has."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, tag: int, vr: str | None, length: int) -> bool:
        self.count += 1
        if self.count > MOST_ELEMENTS:
            raise VolumeError("its header is damaged: it has no end")
        return tag in PIXEL_TAGS


def _check_deflated(path: str) -> None:
    """Refuse a deflated file that would fill the memory: pydicom unpacks it whole."""
    with open_file(path) as file:
        start = file.read(1024)
        if start[128:132] != b"DICM" or DEFLATED.encode() not in start:
            return
        begin = 144 + int.from_bytes(start[140:144], "little")
        most = max(LARGEST_DEFLATED, 100 * size_of(path))
        packed = start[begin:]
        unpack, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while packed and not unpack.eof:
            total += len(unpack.decompress(packed, 1 << 20))
            if total > most:
                raise VolumeError(f"it unpacks to more than {most} bytes")
            packed = unpack.unconsumed_tail or file.read(1 << 16)


def _header(path: str, ds: Any) -> Header:
    size = whole(get(ds, "Rows")) or 0, whole(get(ds, "Columns")) or 0
    allocated = whole(get(ds, "BitsAllocated")) or 0
    if not {"Rows", "Columns", "BitsAllocated"} <= set(ds.dir()):
        what = str(get(ds, "Modality") or "")
        raise VolumeError(f"it holds no image{f' but {what}' if what else ''}")
    if min(size) < 1 or allocated not in (1, 8, 16, 32, 64):
        raise VolumeError(
            f"its header is damaged: {size[0]} x {size[1]} pixels of {allocated} bits"
        )
    syntax = _syntax(ds)
    stored = whole(get(ds, "BitsStored")) or allocated
    notes = _notes(ds)
    if not 0 < stored <= allocated:
        notes.append(f"BitsStored {stored} does not fit BitsAllocated {allocated}")
        stored = allocated
    samples = 3 if whole(get(ds, "SamplesPerPixel")) == 3 else 1
    share = SUBSAMPLED.get(str(get(ds, "PhotometricInterpretation")), 1.0)
    bits = size[0] * size[1] * samples * allocated
    frame_bytes = max(1, int(bits * share) // 8)
    count = _count(ds, syntax, size_of(path), frame_bytes)
    frames, more = read_frames(path, ds, count)
    return Header(
        path=path,
        series_uid=str(get(ds, "SeriesInstanceUID") or ""),
        series_number=whole(get(ds, "SeriesNumber")),
        series_description=str(get(ds, "SeriesDescription") or "").strip(),
        modality=str(get(ds, "Modality") or ""),
        size=size,
        photometric=str(get(ds, "PhotometricInterpretation") or "MONOCHROME2"),
        samples=samples,
        bits_allocated=allocated,
        bits_stored=stored,
        signed=bool(get(ds, "PixelRepresentation")),
        is_float=allocated in (32, 64) and "BitsStored" not in ds,
        has_lut=bool(get(ds, "ModalityLUTSequence")),
        padding=whole(get(ds, "PixelPaddingValue")),
        syntax=syntax,
        problem=problem_with(syntax, stored),
        frame_time_ms=_frame_time(ds),
        uids={
            "study_uid": str(get(ds, "StudyInstanceUID") or ""),
            "series_uid": str(get(ds, "SeriesInstanceUID") or ""),
            "frame_of_reference_uid": str(get(ds, "FrameOfReferenceUID") or ""),
        },
        notes=(*notes, *more),
        frames=frames,
    )


def _syntax(ds: Any) -> str:
    meta = getattr(ds, "file_meta", None)
    named = str(get(meta, "TransferSyntaxUID") or "") if meta is not None else ""
    if named:
        return named
    # Without file meta the encoding is what pydicom found the elements to be in.
    implicit, little = ds.original_encoding
    if implicit or implicit is None:
        return "1.2.840.10008.1.2"
    return "1.2.840.10008.1.2.1" if little else "1.2.840.10008.1.2.2"


def _count(ds: Any, syntax: str, file_bytes: int, frame_bytes: int) -> int:
    """Frames that are there: a file cut short has fewer than it says."""
    from pydicom.uid import UID

    said = whole(get(ds, "NumberOfFrames")) or 1
    uid = UID(syntax)
    native = not (syntax == DEFLATED or uid.is_private or not uid.is_transfer_syntax)
    native = native and not uid.is_encapsulated
    if native and file_bytes < frame_bytes:
        raise VolumeError(
            f"it is cut short: one frame has {frame_bytes} bytes, the file {file_bytes}"
        )
    # A compressed frame takes 8 bytes for its item alone.
    most = file_bytes // frame_bytes if native else file_bytes // 8 + 1
    if syntax == DEFLATED:
        most = MOST_FRAMES
    if said > max(1, most) or said > MOST_FRAMES:
        raise VolumeError(
            f"it says it holds {said} frames, more than its {file_bytes} bytes can hold"
        )
    return max(1, said)


def _notes(ds: Any) -> list[str]:
    out = []
    for name in ("PixelSpacing", "ImagerPixelSpacing"):
        value = get(ds, name)
        if value not in (None, "") and spacing(value) is None:
            out.append(f"{name} {_text(value)} is no distance, and is left out")
    slope = get(ds, "RescaleSlope")
    if slope not in (None, "") and not number(slope):
        out.append(f"RescaleSlope {_text(slope)} is taken as 1")
    return out


def _text(value: Any) -> str:
    parts = [value] if isinstance(value, (str, float, int)) else list(value)
    return "\\".join(str(v) for v in parts[:4])


def _frame_time(ds: Any) -> float | None:
    """Milliseconds between frames, however the file says it."""
    times = numbers(get(ds, "FrameTimeVector"))[1:]
    rate = number(get(ds, "CineRate")) or number(get(ds, "RecommendedDisplayFrameRate"))
    found = number(get(ds, "FrameTime"))
    if not found and times:
        found = sum(times) / len(times)
    if not found and rate and rate > 0:
        found = 1000.0 / rate
    return found if found and found > 0 else None
