"""Frames of DICOM files, decoded one by one when they are looked at."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.lru import ByteLRU
from napari_sam.errors import NapariSamError, VolumeError
from napari_sam.volume.formats.dicom_codecs import decoder_for
from napari_sam.volume.formats.dicom_files import read_whole, size_of
from napari_sam.volume.formats.dicom_header import DEFLATED, PIXEL_TAGS
from napari_sam.volume.lazy_arrays import LazyArray

if TYPE_CHECKING:
    from napari_sam.volume.formats.dicom_header import Frame, Header

logger = logging.getLogger(__name__)

CACHE_BYTES = 512 << 20
"""Decoded frames that one volume keeps, so that planes across slices stay quick."""

LARGEST_FRAME = 64 << 20
LARGEST_RATIO = 2000
"""Decoded bytes for each stored byte, from which on a big frame is not believed."""


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
        self._decoded = _frame_cache()

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

        def decoded() -> np.ndarray:
            frame: Frame = self.frames.flat[number]
            return decode(self.headers[frame.path], frame, self.dtype)

        return self._decoded.get_or_make(number, decoded)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_decoded": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _decoded=_frame_cache())


def _frame_cache() -> ByteLRU[int, np.ndarray]:
    return ByteLRU(CACHE_BYTES, lambda pixels: pixels.nbytes, keep_last=True)


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
    if header.problem:
        raise VolumeError(f"{frame.label} cannot be decoded: {header.problem}")
    try:
        pixels = _stored(header, frame)
        if header.photometric.startswith("PALETTE") or header.has_lut:
            pixels = _through_table(header, frame, pixels, dtype)
    except NapariSamError:
        raise
    except Exception as error:  # pydicom's decoders fail on damage in many ways
        reason = " ".join(str(error).split())[:300]
        raise VolumeError(
            f"the pixels of {frame.label} cannot be decoded ({reason}): the file is "
            "damaged or cut short. Copy it again, or leave it out"
        ) from error
    expected = (*header.size, 3) if header.is_colour else header.size
    if pixels.shape != expected:
        raise VolumeError(
            f"{frame.label} should hold pixels of shape {expected}; got {pixels.shape}"
        )
    plain = header.is_colour or header.has_lut
    if plain or (frame.slope == 1 and frame.intercept == 0):
        return np.asarray(pixels.astype(dtype, copy=False))
    return np.asarray((pixels * frame.slope + frame.intercept).astype(dtype))


def _stored(header: Header, frame: Frame) -> np.ndarray:
    import pydicom
    from pydicom.pixels.utils import pixel_array
    from pydicom.uid import UID

    rows, columns = header.size
    size = rows * columns * header.samples * header.bits_allocated // 8
    if size > LARGEST_FRAME and size > LARGEST_RATIO * size_of(frame.path):
        raise VolumeError(
            f"{frame.label} says that it is {rows} x {columns} pixels, "
            "more than its few bytes can hold: it is damaged"
        )
    decoder_for(header.syntax)
    with warnings.catch_warnings(), read_whole(frame.path) as file:
        warnings.simplefilter("ignore")
        if header.syntax != DEFLATED:
            try:
                return pixel_array(
                    file, index=frame.number, transfer_syntax_uid=header.syntax
                )
            except Exception as error:  # noqa: BLE001 - in many ways, too
                # Elements may be encoded otherwise than the file says, and only
                # reading it whole finds that out.
                logger.debug("%s is read whole: %s", frame.label, error)
                file.seek(0)
        ds = pydicom.dcmread(file, force=True)
        ds.file_meta.TransferSyntaxUID = UID(header.syntax)
        return np.asarray(pixel_array(ds, index=frame.number))


def _through_table(
    header: Header, frame: Frame, pixels: np.ndarray, dtype: np.dtype[Any]
) -> np.ndarray:
    import pydicom
    from pydicom.pixels.processing import apply_color_lut, apply_modality_lut

    with warnings.catch_warnings(), read_whole(frame.path) as file:
        warnings.simplefilter("ignore")
        ds = pydicom.dcmread(file, stop_before_pixels=True, force=True)
        if header.has_lut:
            return np.asarray(apply_modality_lut(pixels, ds).astype(dtype))
        return _palette(apply_color_lut(pixels, ds), dtype)


def stored_pixels(path: str) -> bytes:
    """Return the pixels of a file as they are stored, for telling copies."""
    from pydicom.filereader import read_partial
    from pydicom.tag import BaseTag

    seen: list[int] = []

    def after_pixels(tag: int, vr: str | None, length: int) -> bool:
        if seen:
            return True
        seen.extend([tag] if tag in PIXEL_TAGS else [])
        return False

    with warnings.catch_warnings(), read_whole(path) as file:
        warnings.simplefilter("ignore")
        tags: list[Any] = [BaseTag(tag) for tag in PIXEL_TAGS]
        ds = read_partial(file, after_pixels, force=True, specific_tags=tags)
        found = [bytes(ds[tag].value or b"") for tag in tags if tag in ds]
    return found[0] if found else b""


def _palette(colours: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    # Palettes of 16-bit entries behind 8-bit pixels keep the colour in the high byte.
    if colours.dtype == np.uint16 and dtype == np.uint8:
        colours = colours >> 8
    return np.asarray(colours[..., :3].astype(dtype))
