"""DICOM headers as values, and frames decoded one by one when they are looked at."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.errors import NapariSamError, VolumeError
from napari_sam.volume.lazy_arrays import LazyArray

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CACHE_BYTES = 512 << 20
"""Decoded frames that one volume keeps, so that planes across slices stay quick."""

COLOUR = ("RGB", "YBR", "PALETTE")
"""Beginnings of the photometric interpretations that are colour."""

TAGS = [
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID",
    "FrameOfReferenceUID", "Modality", "SeriesDescription", "SeriesNumber",
    "InstanceNumber", "AcquisitionNumber", "TemporalPositionIdentifier", "EchoTime",
    "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames",
    "BitsAllocated", "BitsStored", "PixelRepresentation", "ImagePositionPatient",
    "ImageOrientationPatient", "PixelSpacing", "ImagerPixelSpacing", "FrameTime",
    "GridFrameOffsetVector", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence",
    "WindowCenter", "WindowWidth", "VOILUTFunction", "PerFrameFunctionalGroupsSequence",
    "SharedFunctionalGroupsSequence",
]  # fmt: skip
"""What is read of a header; the rest, patient data among it, is passed over."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One 2-D image of a DICOM file and where it lies in the patient."""

    path: str
    number: int
    """Position in the file, from 0."""
    instance_uid: str
    position: tuple[float, float, float] | None
    """ImagePositionPatient: (x, y, z) of the first pixel's centre, LPS, in mm."""
    orientation: tuple[float, ...] | None
    """ImageOrientationPatient: directions of increasing column, then row."""
    spacing: tuple[float, float] | None
    """Millimetres between rows and between columns."""
    slope: float
    intercept: float
    window: tuple[float, float] | None
    """(low, high) of the first VOI window, in rescaled values."""
    order: tuple[float, ...]
    """Sorts frames that lie at one place or at none."""

    @property
    def label(self) -> str:
        """How messages name it."""
        name = Path(self.path).name
        return f"{name}, frame {self.number + 1}" if self.number else name


@dataclass(frozen=True, slots=True)
class Header:
    """What a DICOM file says about all of its frames."""

    path: str
    series_uid: str
    description: str
    modality: str
    size: tuple[int, int]
    """(rows, columns)."""
    photometric: str
    bits_allocated: int
    bits_stored: int
    signed: bool
    is_float: bool
    has_lut: bool
    """Whether a modality table, not slope and intercept, gives the values."""
    frame_time_ms: float | None
    uids: dict[str, str]
    frames: tuple[Frame, ...]

    @property
    def is_colour(self) -> bool:
        """Whether pixels are decoded to RGB."""
        return self.photometric.startswith(COLOUR)


def read_header(path: str, *, force: bool = False) -> Header | None:
    """Read the header of a file; None where it is no DICOM image.

    Raises
    ------
    VolumeError
        If nothing that is installed decodes the file's compression.
    """
    import pydicom
    from pydicom.errors import InvalidDicomError

    tags = [*TAGS]
    try:
        ds = pydicom.dcmread(
            path, stop_before_pixels=True, specific_tags=tags, force=force
        )
    except (InvalidDicomError, EOFError, OSError, ValueError, KeyError):
        return None
    if not {"Rows", "Columns", "BitsAllocated"} <= set(ds.dir()):
        return None
    _check_decoder(path, ds)
    try:
        return _header(path, ds)
    except (TypeError, ValueError) as error:
        raise VolumeError(f"the header of {path!r} is damaged: {error}") from error


def _header(path: str, ds: Any) -> Header:
    return Header(
        path=path,
        series_uid=str(ds.get("SeriesInstanceUID", "")),
        description=_describe(ds),
        modality=str(ds.get("Modality", "")),
        size=(int(ds.Rows), int(ds.Columns)),
        photometric=str(ds.get("PhotometricInterpretation", "MONOCHROME2")),
        bits_allocated=int(ds.BitsAllocated),
        bits_stored=int(ds.get("BitsStored") or ds.BitsAllocated),
        signed=bool(ds.get("PixelRepresentation")),
        is_float=int(ds.BitsAllocated) in (32, 64) and "BitsStored" not in ds,
        has_lut=bool(ds.get("ModalityLUTSequence")),
        frame_time_ms=_float(ds.get("FrameTime")),
        uids={
            "study_uid": str(ds.get("StudyInstanceUID", "")),
            "series_uid": str(ds.get("SeriesInstanceUID", "")),
            "frame_of_reference_uid": str(ds.get("FrameOfReferenceUID", "")),
        },
        frames=tuple(_frames(path, ds)),
    )


def _describe(ds: Any) -> str:
    parts = [str(ds.get("Modality", "")), str(ds.get("SeriesDescription") or "")]
    number = ds.get("SeriesNumber")
    text = " ".join(p for p in parts if p) or "image"
    return text if number is None else f"{text} (number {number})"


def _check_decoder(path: str, ds: Any) -> None:
    from pydicom.pixels.decoders.base import get_decoder

    syntax = ds.file_meta.get("TransferSyntaxUID") if hasattr(ds, "file_meta") else None
    if syntax is None or not syntax.is_compressed or syntax.is_deflated:
        return
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        raise VolumeError(
            f"{path!r} is compressed as {syntax.name}, which nothing installed "
            "decodes: "
            "pip install pylibjpeg pylibjpeg-openjpeg pyjpegls imagecodecs"
        )


def _frames(path: str, ds: Any) -> Iterator[Frame]:
    count = int(ds.get("NumberOfFrames") or 1)
    shared = _first(ds.get("SharedFunctionalGroupsSequence"))
    each = ds.get("PerFrameFunctionalGroupsSequence") or [None] * count
    offsets = [float(v) for v in ds.get("GridFrameOffsetVector") or []]
    for number in range(count):
        own = each[number] if number < len(each) else None
        find = _Finder(own, shared, ds)
        position = _floats(find("PlanePositionSequence", "ImagePositionPatient"), 3)
        orientation = _floats(
            find("PlaneOrientationSequence", "ImageOrientationPatient"), 6
        )
        if own is None and count > 1:
            position = _shifted(position, orientation, offsets, number)
        yield Frame(
            path=path,
            number=number,
            instance_uid=str(ds.get("SOPInstanceUID", path)),
            position=position,
            orientation=orientation,
            spacing=_spacing(find),
            slope=_or(_float(find(TRANSFORM, "RescaleSlope")), 1.0),
            intercept=_or(_float(find(TRANSFORM, "RescaleIntercept")), 0.0),
            window=_window(find),
            order=(
                *(_or(_float(ds.get(name)), 0.0) for name in ORDER_TAGS),
                float(number),
            ),
        )


TRANSFORM = "PixelValueTransformationSequence"
ORDER_TAGS = (
    "TemporalPositionIdentifier", "EchoTime", "AcquisitionNumber", "InstanceNumber",
)  # fmt: skip


class _Finder:
    """Look an attribute up in a frame's own groups, the shared ones, then the file."""

    def __init__(self, own: Any, shared: Any, ds: Any) -> None:
        self.own, self.shared, self.ds = own, shared, ds

    def __call__(self, group: str, name: str) -> Any:
        for groups in (self.own, self.shared):
            item = _first(groups.get(group)) if groups is not None else None
            if item is not None and item.get(name) is not None:
                return item.get(name)
        return self.ds.get(name)


def _first(sequence: Any) -> Any:
    return sequence[0] if sequence else None


def _float(value: Any) -> float | None:
    if value is None or value == "":
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _floats(value: Any, count: int) -> Any:
    if value is None or len(value) != count:
        return None
    return tuple(float(v) for v in value)


def _spacing(find: _Finder) -> tuple[float, float] | None:
    for name in ("PixelSpacing", "ImagerPixelSpacing"):
        found: tuple[float, float] | None = _floats(
            find("PixelMeasuresSequence", name), 2
        )
        if found is not None and min(found) > 0:
            return found
    return None


def _window(find: _Finder) -> tuple[float, float] | None:
    center, width = (
        find("FrameVOILUTSequence", name) for name in ("WindowCenter", "WindowWidth")
    )
    if center is None or width is None or center == "" or width == "":
        return None
    if not isinstance(center, (str, float, int)):
        center = center[0]
    if not isinstance(width, (str, float, int)):
        width = width[0]
    c, w = float(center), float(width)
    exact = find("FrameVOILUTSequence", "VOILUTFunction") == "LINEAR_EXACT"
    # PS3.3 C.11.2.1.2: the plain function is shifted by half a value.
    low, high = (c - w / 2, c + w / 2) if exact else (c - w / 2, c + w / 2 - 1)
    return (low, high) if high > low else None


def _shifted(position: Any, orientation: Any, offsets: Sequence[float], n: int) -> Any:
    """Place a frame of a dose grid; other plain multi-frame files have no places."""
    if position is None or orientation is None or n >= len(offsets):
        return None
    normal = np.cross(orientation[:3], orientation[3:])
    shift = offsets[n] - (offsets[0] if offsets[0] else 0.0)
    return tuple(float(v) for v in np.asarray(position) + shift * normal)


class DicomFrames(LazyArray):
    """Frames of DICOM files as one array, (..., y, x) or (..., y, x, 3).

    Parameters
    ----------
    headers : dict of str to Header
        By path.
    frames : ndarray of Frame
        Object array whose shape becomes the leading axes.
    """

    def __init__(self, headers: dict[str, Header], frames: np.ndarray) -> None:
        self.headers, self.frames = headers, frames
        first = headers[frames.flat[0].path]
        tail = (*first.size, 3) if first.is_colour else first.size
        super().__init__((*frames.shape, *tail), value_dtype(headers, frames))
        self.chunks = (*(1 for _ in frames.shape), *tail)
        self._decoded: OrderedDict[int, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, spans: tuple[slice, ...]) -> np.ndarray:
        """Read a block, decoding the frames that it meets."""
        lead = self.frames.ndim
        numbers = np.arange(self.frames.size).reshape(self.frames.shape)[spans[:lead]]
        pixels = [self.frame(int(n))[spans[lead:]] for n in numbers.flat]
        if not pixels:
            sizes = [len(range(s.start, s.stop, s.step or 1)) for s in spans]
            return np.empty(sizes, self.dtype)
        return np.stack(pixels).reshape(*numbers.shape, *pixels[0].shape)

    def frame(self, number: int) -> np.ndarray:
        """Return one decoded and rescaled frame, from memory where it still is."""
        with self._lock:
            if number in self._decoded:
                self._decoded.move_to_end(number)
                return self._decoded[number]
        frame: Frame = self.frames.flat[number]
        pixels = decode(self.headers[frame.path], frame, self.dtype)
        with self._lock:
            self._decoded[number] = pixels
            while len(self._decoded) > max(1, CACHE_BYTES // max(1, pixels.nbytes)):
                self._decoded.popitem(last=False)
        return pixels

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_decoded": OrderedDict(), "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())


def value_dtype(headers: dict[str, Header], frames: np.ndarray) -> np.dtype[Any]:
    """Smallest type that holds every rescaled value of every frame exactly.

    Slopes or intercepts that are no integers give float32.
    """
    used = [headers[f.path] for f in frames.flat]
    if used[0].is_colour:
        return np.dtype(f"u{max(1, used[0].bits_allocated // 8)}")
    if any(h.is_float for h in used):
        return np.dtype(np.float32 if used[0].bits_allocated == 32 else np.float64)
    if used[0].has_lut:
        return np.dtype(np.uint16)
    low, high = 0.0, 1.0
    for frame, header in zip(frames.flat, used, strict=True):
        if frame.slope != int(frame.slope) or frame.intercept != int(frame.intercept):
            return np.dtype(np.float32)
        span = 1 << header.bits_stored
        stored = (-span // 2, span // 2 - 1) if header.signed else (0, span - 1)
        ends = [v * frame.slope + frame.intercept for v in stored]
        low, high = min(low, *ends), max(high, *ends)
    kinds = (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32)
    fits = [k for k in kinds if np.iinfo(k).min <= low and high <= np.iinfo(k).max]
    return np.dtype(fits[0] if fits else np.float64)


def decode(header: Header, frame: Frame, dtype: np.dtype[Any]) -> np.ndarray:
    """Decode one frame: colour to RGB, grey values rescaled.

    Raises
    ------
    VolumeError
        If the pixels are damaged or cannot be decoded.
    """
    import pydicom
    from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
    from pydicom.pixels.utils import pixel_array

    try:
        pixels = pixel_array(frame.path, index=frame.number)
        if header.photometric.startswith("PALETTE") or header.has_lut:
            ds = pydicom.dcmread(frame.path, stop_before_pixels=True, force=True)
            if header.has_lut:
                return np.asarray(apply_modality_lut(pixels, ds).astype(dtype))
            return _palette(apply_color_lut(pixels, ds), dtype)
    except NapariSamError:
        raise
    except (RuntimeError, ValueError, AttributeError, OSError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise VolumeError(
            f"the pixels of {frame.label} cannot be decoded ({reason}): the file is "
            "damaged, or its compression needs another decoder (pip install "
            "pylibjpeg pylibjpeg-openjpeg pyjpegls imagecodecs)"
        ) from error
    expected = (*header.size, 3) if header.is_colour else header.size
    if pixels.shape != expected:
        raise VolumeError(
            f"{frame.label} should hold pixels of shape {expected}; got {pixels.shape}"
        )
    if header.is_colour or (frame.slope == 1 and frame.intercept == 0):
        return np.asarray(pixels.astype(dtype, copy=False))
    return np.asarray((pixels * frame.slope + frame.intercept).astype(dtype))


def _palette(colours: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    # Palettes of 16-bit entries behind 8-bit pixels keep the colour in the high byte.
    if colours.dtype == np.uint16 and dtype == np.uint8:
        colours = colours >> 8
    return np.asarray(colours[..., :3].astype(dtype))
