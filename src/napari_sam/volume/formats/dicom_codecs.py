"""Compressed DICOM pixels: what decodes them, and what to install where nothing does.

imagecodecs is offered to pydicom as a decoder of its own, because pydicom's plugins
leave JPEG Lossless to packages that few people have.
"""

from __future__ import annotations

import importlib.util
import threading
from typing import TYPE_CHECKING, Any

from pydicom import uid as uids

if TYPE_CHECKING:
    import numpy as np
    from pydicom.pixels.decoders.base import DecodeRunner

_CODEC = {
    uids.JPEGExtended12Bit: "jpeg_decode",
    uids.JPEGLossless: "jpegsof3_decode",
    uids.JPEGLosslessSV1: "jpegsof3_decode",
    uids.JPEGLSLossless: "jpegls_decode",
    uids.JPEGLSNearLossless: "jpegls_decode",
    uids.JPEG2000Lossless: "jpeg2k_decode",
    uids.JPEG2000: "jpeg2k_decode",
    uids.HTJ2KLossless: "jpeg2k_decode",
    uids.HTJ2KLosslessRPCL: "jpeg2k_decode",
    uids.HTJ2K: "jpeg2k_decode",
}
"""Function of imagecodecs for each transfer syntax."""

DECODER_DEPENDENCIES = dict.fromkeys(_CODEC, ("imagecodecs",))
"""What pydicom shows where the plugin cannot be used."""

_OPENJPEG = ("pylibjpeg pylibjpeg-openjpeg", ("pylibjpeg", "openjpeg"))
_PYJPEGLS = ("pyjpegls", ("jpeg_ls",))
_HELPERS = {
    uids.JPEGLSLossless: _PYJPEGLS,
    uids.JPEGLSNearLossless: _PYJPEGLS,
    uids.JPEG2000Lossless: _OPENJPEG,
    uids.JPEG2000: _OPENJPEG,
    uids.HTJ2KLossless: _OPENJPEG,
    uids.HTJ2KLosslessRPCL: _OPENJPEG,
    uids.HTJ2K: _OPENJPEG,
}
"""Other packages, and the modules they bring, for each transfer syntax."""

_PLUGIN = "imagecodecs"
_lock = threading.Lock()


def is_available(uid: str) -> bool:
    """Whether imagecodecs decodes this transfer syntax (asked by pydicom)."""
    name = _CODEC.get(uids.UID(uid))
    if name is None:
        return False
    try:
        import imagecodecs
    except ImportError:
        return False
    codec = getattr(imagecodecs, name.removesuffix("_decode").upper(), None)
    return bool(getattr(codec, "available", False))


def decode_frame(src: bytes, runner: DecodeRunner) -> bytes:
    """Decode one frame (called by pydicom)."""
    import imagecodecs

    name = _CODEC[runner.transfer_syntax]
    pixels: np.ndarray = getattr(imagecodecs, name)(src)
    expected = (runner.rows, runner.columns)
    if pixels.shape[:2] != expected:
        raise ValueError(f"the frame should be {expected}; decoded {pixels.shape[:2]}")
    if str(runner.photometric_interpretation) in ("YBR_ICT", "YBR_RCT"):
        runner.set_option("photometric_interpretation", "RGB")
    bits = 16 if pixels.dtype.itemsize > 1 else 8
    runner.set_option("bits_allocated", bits)
    if runner.samples_per_pixel > 1:
        runner.set_option("planar_configuration", 0)
    return pixels.astype(f"<{pixels.dtype.kind}{bits // 8}", copy=False).tobytes()


def decoder_for(syntax: str) -> Any:
    """Return pydicom's decoder of a transfer syntax, with imagecodecs added to it.

    Raises
    ------
    NotImplementedError
        If pydicom knows no decoder of this syntax.
    """
    from pydicom.pixels.decoders.base import get_decoder

    _offer_imagecodecs()
    return get_decoder(uids.UID(syntax))


def _offer_imagecodecs() -> None:
    """Add imagecodecs to pydicom's decoders, behind the plugins that are there."""
    from pydicom.pixels.decoders.base import get_decoder

    with _lock:
        for syntax in _CODEC:
            decoder = get_decoder(syntax)
            if _PLUGIN not in (*decoder._available, *decoder._unavailable):
                decoder.add_plugin(_PLUGIN, (__name__, "decode_frame"))


def problem_with(syntax: str, bits_stored: int = 8) -> str:
    """Say why a transfer syntax cannot be decoded here; "" where it can."""
    name = uids.UID(syntax).name if syntax else ""
    try:
        decoder = decoder_for(syntax)
        plugins = set(decoder.available_plugins)
        if syntax == uids.JPEGExtended12Bit and bits_stored > 8:
            plugins.discard("pillow")  # which reads 8 bits only
        if plugins or not decoder.is_encapsulated:
            return ""
    except NotImplementedError:
        known = "" if name in ("", syntax) else f" ({name})"
        return (
            f"its transfer syntax {syntax}{known} is none that can be decoded: convert "
            "it with another program first, such as gdcmconv --raw or dcmconv"
        )
    packages = " or ".join(missing_packages(syntax))
    return f"it is compressed as {name}, which needs a decoder: pip install {packages}"


def missing_packages(syntax: str) -> list[str]:
    """Packages, each of which would decode a transfer syntax, that are missing."""
    choices: list[tuple[str, tuple[str, ...]]] = [("imagecodecs", ("imagecodecs",))]
    if uids.UID(syntax) in _HELPERS:
        choices.insert(0, _HELPERS[uids.UID(syntax)])
    missing = [
        package
        for package, modules in choices
        if not all(importlib.util.find_spec(module) for module in modules)
    ]
    return missing or [package for package, _ in choices]
