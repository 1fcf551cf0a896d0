"""Open PNG, JPG, GIF, WebP, BMP and their kin as Pillow understands them."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.short_reads import ShortReads
from napari_sam.errors import SeriesError, VolumeError
from napari_sam.volume.arrays import assemble
from napari_sam.volume.formats.world_file import read_world_file
from napari_sam.volume.layout import Layout
from napari_sam.volume.orientation import turned, turned_layout, turned_shape
from napari_sam.volume.whole import WholeArray, check_memory, is_mask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL.Image import Image

    from napari_sam.volume.volume import Volume

FORMATS = (
    "PNG", "JPEG", "BMP", "DIB", "GIF", "WEBP", "PPM", "TGA", "AVIF",
    "JPEG2000",
)  # fmt: skip
"""Formats of Pillow that are opened; some others would start other programs."""
_GREY = {
    "1": np.bool_, "L": np.uint8, "LA": np.uint8, "La": np.uint8, "I;16": np.uint16,
    "I;16L": np.uint16, "I;16B": np.uint16, "I;16N": np.uint16, "I": np.int32,
    "F": np.float32,
}  # fmt: skip
"""Modes of one channel, and what their values are."""
_ORIENTATION = 0x0112
_LIMIT = threading.Lock()


@dataclass(frozen=True, slots=True)
class _Kind:
    """What is decoded of a picture."""

    frames: int
    """0 for a single picture."""
    mode: str
    """Pillow's mode that frames are converted to; "deep" for 16-bit colour."""
    dtype: Any
    alpha: bool
    orientation: int


def open_picture(
    path: str,
    *,
    axes: Any = None,
    channels: Any = None,
    series: Any = None,
    as_labels: bool = False,
) -> Volume:
    """Open a picture; only its header is read at once.

    Orientation tags are obeyed. CMYK, YCbCr and CIELAB become RGB; palettes too, but
    for `as_labels`, which reads their indices. A transparency channel is left out, and
    where it masks the picture, transparent pixels are black and count as no data.

    Parameters
    ----------
    path : str
    axes, channels
        As in `open_volume`.
    series
        Must be None: these files hold one image.
    as_labels : bool

    Raises
    ------
    SeriesError
        If a series was asked for.
    """
    if series is not None:
        raise SeriesError(f"{path!r} holds one image: leave series= out")
    notes: list[str] = []
    with _opened(path) as image:
        kind = _kind_of(path, image, as_labels, notes)
        stored = (image.height, image.width)
    names = "yxc" if kind.mode in ("RGB", "deep") else "yx"
    shape = (*stored, 3)[: len(names)]
    layout = Layout(tuple(names), rgb="c" in names, affine=read_world_file(path))
    layout = turned_layout(layout, kind.orientation, stored)
    shape = turned_shape(shape, kind.orientation, 0, 1)
    if kind.frames:
        shape = (kind.frames, *shape)
        layout = Layout(("t", *names), rgb=layout.rgb)
    array = WholeArray(path, partial(_decode, path, kind), shape, kind.dtype)
    metadata: dict[str, Any] = {"nodata": 0} if kind.alpha else {}
    return assemble(
        [array], layout, axes=axes, channels=channels, notes=notes,
        name=Path(path).stem, source=path, metadata=metadata,
    )  # fmt: skip


@contextlib.contextmanager
def _opened(path: str) -> Iterator[Image]:
    """Open a picture without Pillow's limit of pixels: ours is the memory there is."""
    from PIL import Image

    with ShortReads(path) as file:
        # The limit is a variable of Pillow's module, so it is put aside for as short
        # as possible, and by one thread at a time.
        with _LIMIT:
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                Image.init()
                known = [name for name in FORMATS if name in Image.OPEN]
                image: Any = Image.open(file, formats=known)
            finally:
                Image.MAX_IMAGE_PIXELS = limit
        with image:
            yield image


def _kind_of(path: str, image: Image, as_labels: bool, notes: list[str]) -> _Kind:
    if image.mode in ("P", "PA"):  # asking for its palette decodes it
        check_memory(path, image.width * image.height)
    frames = 0
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        frames = int(image.n_frames)  # type: ignore[attr-defined]
    mode, orientation = image.mode, _orientation(path, image)
    alpha = mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
    if as_labels and mode in ("P", "PA") and not frames:
        return _Kind(0, "P", np.uint8, False, orientation)
    if image.format == "PNG" and not frames and _is_deep_colour(path):
        if _has_imagecodecs():
            return _Kind(0, "deep", np.uint16, alpha, orientation)
        notes.append(
            "its 16-bit colours were read as 8-bit ones; imagecodecs reads them whole"
        )
    if image.format == "GIF" and frames:
        # Frames of one GIF are grey, of a palette or in full colour as they come.
        return _Kind(frames, "RGB", np.uint8, alpha, orientation)
    if mode in ("P", "PA") and _grey_palette(image):
        mode = "L"
    if mode in _GREY:
        return _Kind(frames, mode, _GREY[mode], alpha, orientation)
    return _Kind(frames, "RGB", np.uint8, alpha, orientation)


def _orientation(path: str, image: Image) -> int:
    from PIL import UnidentifiedImageError

    # Pillow decodes a whole PNG to find its EXIF, which may come last.
    if image.format == "PNG" and not _has_exif(path):
        return 1
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except (ValueError, TypeError, KeyError, OSError, SyntaxError, IndexError,
            OverflowError, AttributeError, UnidentifiedImageError):  # fmt: skip
        return 1  # no readable EXIF: nothing is declared


def _has_exif(path: str) -> bool:
    """Whether any chunk of a PNG can hold an orientation."""
    with open(path, "rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, kind = int.from_bytes(head[:4], "big"), head[4:]
            if kind in (b"eXIf", b"iTXt", b"zTXt", b"tEXt"):
                text = file.read(min(length, 64))
                if kind == b"eXIf" or text.startswith((b"XML:com.adobe", b"Raw prof")):
                    return True
                length -= len(text)
            file.seek(length + 4, 1)
    return False


def _is_deep_colour(path: str) -> bool:
    """Whether a PNG has 16 bits for each of several channels."""
    with open(path, "rb") as file:
        head = file.read(26)
    return len(head) == 26 and head[24] == 16 and head[25] in (2, 6)


def _has_imagecodecs() -> bool:
    from importlib.util import find_spec

    return find_spec("imagecodecs") is not None


def _grey_palette(image: Image) -> bool:
    found = image.getpalette("RGB")
    if not found:
        return False
    colours = np.reshape(found[: len(found) // 3 * 3], (-1, 3))
    return bool((colours == colours[:, :1]).all())


def _decode(path: str, kind: _Kind) -> np.ndarray:
    if kind.mode == "deep":
        import imagecodecs

        pixels = imagecodecs.png_decode(Path(path).read_bytes())
        parts = [_without_alpha(pixels)]
    else:
        with _opened(path) as image:
            parts, size = [], image.size
            for number in range(max(1, kind.frames)):
                if kind.frames:
                    image.seek(number)
                if image.size != size:
                    raise VolumeError(
                        f"frame {number} of {path!r} has {image.size[0]} x "
                        f"{image.size[1]} pixels, unlike the first with {size[0]} x "
                        f"{size[1]}: the file is damaged"
                    )
                parts.append(_frame(image, kind))
    parts = [turned(part, kind.orientation, 0, 1) for part in parts]
    return np.stack(parts) if kind.frames else parts[0]


def _frame(image: Image, kind: _Kind) -> np.ndarray:
    if kind.mode == "P":
        index = image if image.mode == "P" else image.convert("P")
        return np.asarray(index)
    if kind.alpha:
        wide = "LA" if kind.mode in ("L", "LA", "La") else "RGBA"
        if kind.mode in ("RGB", "L", "LA", "La"):
            return _without_alpha(np.asarray(image.convert(wide)))
    if kind.mode in ("I;16", "I;16L", "I;16B", "I;16N", "I", "F", "1"):
        return np.asarray(image if image.mode == kind.mode else image.convert("L"))
    grey = kind.mode in _GREY
    return np.asarray(image.convert("L" if grey else "RGB"))


def _without_alpha(pixels: np.ndarray) -> np.ndarray:
    """Leave the last channel out; where it masks, what it hides becomes 0."""
    if pixels.shape[-1] not in (2, 4):
        return pixels
    colours, alpha = pixels[..., :-1], pixels[..., -1]
    if is_mask(alpha):
        colours = np.where(alpha[..., None] == 0, 0, colours).astype(pixels.dtype)
    return colours[..., 0] if pixels.shape[-1] == 2 else colours
