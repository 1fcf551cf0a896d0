"""Colour models of TIFF, converted block by block to what a viewer shows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.errors import VolumeError
from napari_sam.volume.lazy_arrays import LazyArray
from napari_sam.volume.whole import is_mask

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_sam.volume.lazy_arrays import Array

_MINISWHITE, _MINISBLACK, _RGB, _PALETTE, _SEPARATED, _YCBCR = 0, 1, 2, 3, 5, 6
_CIELAB, _ICCLAB = 8, 9
_REFUSED = {10: "ITU L*a*b*", 32844: "CIE Log2(L)", 32845: "CIE Log2(L) (u', v')"}
_AS_STORED = frozenset({1, 5, 8, 32773, 32946, 34925, 50000})
"""Compressions that keep a colour model; codecs for pictures give RGB."""
_COEFFICIENTS, _REFERENCE, _INK_SET = 529, 532, 332
_ASSOCIATED, _ALPHAS = 1, (1, 2)


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """Levels as they are to be shown."""

    levels: Sequence[Array]
    axes: str
    """tifffile's letters, "S" for samples."""
    rgb: bool
    inverted: bool = False
    nodata: float | None = None


def shown_levels(
    path: str, levels: Sequence[Array], axes: str, page: Any, as_labels: bool
) -> Shown:
    """Convert the levels of a series as its photometric interpretation says.

    Parameters
    ----------
    path : str
        For messages.
    levels : sequence of array-likes
        As stored.
    axes : str
        tifffile's letters for their axes.
    page : tifffile.TiffPage
        The series' first page.
    as_labels : bool
        Whether to leave numbers as they are stored.

    Raises
    ------
    VolumeError
        If the colour model cannot be converted.
    """
    photometric = int(page.photometric)
    if photometric in _REFUSED:
        raise VolumeError(
            f"{path!r} holds colours as {_REFUSED[photometric]}, which are not read: "
            "convert it to RGB first"
        )
    samples = levels[0].shape[axes.index("S")] if "S" in axes else 1
    if photometric == _PALETTE:
        if "S" in axes:  # the index, and samples that are no colours
            at = axes.index("S")
            levels = [SamplesArray(a, at, (0,)) for a in levels]
            axes = axes.replace("S", "")
        return _palette(path, levels, axes, page, as_labels)
    if photometric == _MINISWHITE and "S" not in axes:
        if as_labels and np.dtype(levels[0].dtype) == bool:
            return Shown([MappedArray(a, np.logical_not) for a in levels], axes, False)
        return Shown(levels, axes, False, inverted=not as_labels)
    if "S" not in axes or (as_labels and photometric in (_MINISBLACK, _MINISWHITE)):
        return Shown(levels, axes, rgb=False)
    convert, colours = _converter(path, photometric, page, samples)
    extra = [int(e) for e in page.extrasamples]
    alphas = [i for i, e in enumerate(extra, colours or samples) if e in _ALPHAS]
    alpha = alphas[0] if alphas and alphas[0] < samples else None
    if convert is None and alpha is None:
        return Shown(levels, axes, rgb=photometric == _RGB and samples in (3, 4))
    kept = tuple(i for i in range(samples) if i != alpha and (
        convert is None or i < (colours or samples)))  # fmt: skip
    at, associated = axes.index("S"), alpha is not None and extra[0] == _ASSOCIATED
    out: list[Array] = [
        SamplesArray(a, at, kept, alpha, convert, associated=associated) for a in levels
    ]
    left = out[0].shape[at] if len(out[0].shape) == len(axes) else 1
    return Shown(
        out, axes if left > 1 else axes.replace("S", ""), rgb=left == 3,
        inverted=photometric == _MINISWHITE,
        nodata=None if alpha is None else _blank(levels[0]),
    )  # fmt: skip


def _blank(level: Array) -> float | None:
    return None if np.dtype(level.dtype).kind == "f" else 0.0


def _converter(
    path: str, photometric: int, page: Any, samples: int
) -> tuple[Callable[[np.ndarray], np.ndarray] | None, int | None]:
    """Conversion to RGB, and how many samples are colours."""
    if photometric in (_MINISBLACK, _MINISWHITE):
        return None, 1
    if photometric == _RGB:
        return None, 3
    dtype = np.dtype(page.dtype)
    if photometric == _SEPARATED:
        inks = page.tags.get(_INK_SET)
        if samples >= 4 and (inks is None or inks.value == 1) and dtype.kind == "u":
            return cmyk_to_rgb, 4
        return None, None
    if photometric == _YCBCR and int(page.compression) in _AS_STORED:
        if page.is_subsampled or dtype != np.uint8:
            raise VolumeError(
                f"{path!r} holds YCbCr colours at a lower resolution without JPEG, "
                "which are not read: convert it to RGB first"
            )
        return partial(
            ycbcr_to_rgb,
            coefficients=_fractions(page, _COEFFICIENTS, (0.299, 0.587, 0.114)),
            reference=_fractions(page, _REFERENCE, (0, 255, 128, 255, 128, 255)),
        ), 3
    if photometric in (_CIELAB, _ICCLAB):
        if dtype not in (np.uint8, np.uint16, np.int8, np.int16) or samples < 3:
            raise VolumeError(f"{path!r} holds CIELAB colours of type {dtype}, which "
                              "are not read: convert it to RGB first")  # fmt: skip
        return partial(lab_to_rgb, signed=photometric == _CIELAB), 3
    return None, None


def _fractions(page: Any, tag: int, otherwise: tuple[float, ...]) -> tuple[float, ...]:
    found = page.tags.get(tag)
    if found is None:
        return otherwise
    flat = [float(v) for v in np.ravel(found.value)]
    if len(flat) == len(otherwise):
        return tuple(flat)
    if len(flat) != 2 * len(otherwise) or not all(flat[1::2]):
        return otherwise
    return tuple(a / b for a, b in zip(flat[::2], flat[1::2], strict=True))


def cmyk_to_rgb(cmyk: np.ndarray) -> np.ndarray:
    """Convert (..., 4) inks of an unsigned type to (..., 3) RGB of that type."""
    high = float(np.iinfo(cmyk.dtype).max)
    wide: Any = cmyk.astype(np.float32 if cmyk.dtype == np.uint8 else np.float64)
    light = (high - wide[..., :3]) * (high - wide[..., 3:4]) / high
    return np.asarray(np.rint(light).astype(cmyk.dtype))


def ycbcr_to_rgb(
    pixels: np.ndarray,
    coefficients: Sequence[float] = (0.299, 0.587, 0.114),
    reference: Sequence[float] = (0, 255, 128, 255, 128, 255),
) -> np.ndarray:
    """Convert (..., 3) uint8 YCbCr to RGB, by TIFF's coefficients and references."""
    red, green, blue = coefficients
    black, white = np.array(reference[::2]), np.array(reference[1::2])
    if not green or (white == black).any():
        raise VolumeError("the YCbCr coefficients of this TIFF cannot be true")
    scale = np.array([255.0, 127.0, 127.0]) / (white - black)
    y, cb, cr = np.moveaxis((pixels.astype(np.float32) - black) * scale, -1, 0)
    r = cr * (2 - 2 * red) + y
    b = cb * (2 - 2 * blue) + y
    g = (y - blue * b - red * r) / green
    rgb = np.stack([r, g, b], -1)
    return np.asarray(np.clip(np.rint(rgb), 0, 255).astype(np.uint8))


# From XYZ under D50, TIFF's white, to linear sRGB, adapted to D65 after Bradford.
_D50 = np.array([0.9642, 1.0, 0.8249])
_TO_SRGB = np.array([
    [3.1338561, -1.6168667, -0.4906146],
    [-0.9787684, 1.9161415, 0.0334540],
    [0.0719453, -0.2289914, 1.4052427],
])  # fmt: skip


def lab_to_rgb(pixels: np.ndarray, *, signed: bool) -> np.ndarray:
    """Convert (..., 3) CIELAB of 8 or 16 bits to RGB of as many.

    Parameters
    ----------
    pixels : ndarray
    signed : bool
        Whether a* and b* are two's complement (CIELAB); ICC's are offset by a half.
    """
    bits = pixels.dtype.itemsize * 8
    full, unit = float(2**bits - 1), float(2 ** (bits - 8))
    values = pixels.view(f"u{pixels.dtype.itemsize}").astype(np.float64)
    lightness = values[..., 0] * (100 / full)
    ab = values[..., 1:]
    ab = (
        np.where(ab >= 2 ** (bits - 1), ab - 2**bits, ab) if signed else ab - 128 * unit
    )
    ab = ab / unit
    fy = (lightness + 16) / 116
    f = np.stack([fy + ab[..., 0] / 500, fy, fy - ab[..., 1] / 200], -1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * _D50
    linear = np.clip(xyz @ _TO_SRGB.T, 0, 1)
    rgb = np.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055
    )
    return np.asarray(np.rint(rgb * full).astype(f"u{pixels.dtype.itemsize}"))


def _palette(
    path: str, levels: Sequence[Array], axes: str, page: Any, as_labels: bool
) -> Shown:
    table = page.colormap
    if as_labels or table is None:
        return Shown(levels, axes, rgb=False)
    colours = np.asarray(table).T  # (n, 3)
    if np.dtype(levels[0].dtype).kind not in "bu" or colours.shape[-1:] != (3,):
        raise VolumeError(f"{path!r} has a palette that does not fit its pixels")
    if colours.dtype == np.uint16:
        # Some writers fill only the low byte.
        colours = (colours if colours.max() < 256 else colours >> 8).astype(np.uint8)
    if (colours == colours[:, :1]).all():
        grey = colours[:, 0]
        return Shown([MappedArray(a, partial(_looked_up, grey), np.uint8)
                      for a in levels], axes, rgb=False)  # fmt: skip
    return Shown([PaletteArray(a, colours) for a in levels], f"{axes}S", rgb=True)


def _looked_up(table: np.ndarray, index: np.ndarray) -> np.ndarray:
    return np.asarray(table[np.minimum(index.astype(np.intp), len(table) - 1)])


class MappedArray(LazyArray):
    """Another array with each value replaced by a function of it."""

    def __init__(
        self,
        base: Array,
        function: Callable[[np.ndarray], np.ndarray],
        dtype: Any = None,
    ) -> None:
        super().__init__(base.shape, base.dtype if dtype is None else dtype)
        self.base, self.function = base, function
        self.chunks = getattr(base, "chunks", None)

    def read(self, spans: tuple[slice, ...]) -> np.ndarray:
        """Read a block."""
        return np.asarray(self.function(np.asarray(self.base[spans])))


class PaletteArray(LazyArray):
    """Indices as the colours of a palette, on a last axis of three.

    Parameters
    ----------
    base : array-like
        Indices.
    colours : ndarray, (n, 3)
    """

    def __init__(self, base: Array, colours: np.ndarray) -> None:
        super().__init__((*base.shape, 3), colours.dtype)
        self.base, self.colours = base, colours
        if chunks := getattr(base, "chunks", None):
            self.chunks = (*chunks, 3)

    def read(self, spans: tuple[slice, ...]) -> np.ndarray:
        """Read a block."""
        index = np.asarray(self.base[spans[:-1]])
        return _looked_up(self.colours, index)[..., spans[-1]]


class SamplesArray(LazyArray):
    """Samples of a pixel without those that are not shown, converted to RGB.

    Parameters
    ----------
    base : array-like
    axis : int
        Axis of the samples; it vanishes if one sample is left.
    kept : sequence of int
        Samples that hold colours or values.
    alpha : int, optional
        Sample that says how much is seen of a pixel. Where it masks the image, what it
        hides becomes 0, or NaN in floats.
    convert : callable, optional
        Conversion of the kept samples, on the last axis.
    associated : bool
        Whether colours are multiplied by alpha.
    """

    def __init__(
        self,
        base: Array,
        axis: int,
        kept: Sequence[int],
        alpha: int | None = None,
        convert: Callable[[np.ndarray], np.ndarray] | None = None,
        *,
        associated: bool = False,
    ) -> None:
        self.base, self.axis, self.kept = base, axis, list(kept)
        self.alpha, self.convert, self.associated = alpha, convert, associated
        shape = list(base.shape)
        shape[axis] = len(self.kept) if convert is None else 3
        self.single = shape[axis] == 1
        dtype = np.dtype(base.dtype)
        if convert is not None:
            dtype = convert(np.zeros((1, len(self.kept)), dtype)).dtype
        chunks = list(getattr(base, "chunks", None) or base.shape)
        chunks[axis] = shape[axis]
        if self.single:
            del shape[axis], chunks[axis]
        super().__init__(shape, dtype)
        self.chunks = tuple(chunks)
        self._masks: bool | None = None

    def read(self, spans: tuple[slice, ...]) -> np.ndarray:
        """Read a block."""
        index = list(spans)
        if self.single:
            index.insert(self.axis, slice(None))
        else:
            index[self.axis] = slice(None)
        block = np.moveaxis(np.asarray(self.base[tuple(index)]), self.axis, -1)
        out = block[..., self.kept]
        if self.convert is not None:
            out = self.convert(out)
        if self.alpha is not None:
            out = self._masked(out, block[..., self.alpha])
        if self.single:
            return np.asarray(out[..., 0])
        return np.asarray(np.moveaxis(out[..., spans[self.axis]], -1, self.axis))

    def _masked(self, out: np.ndarray, alpha: np.ndarray) -> np.ndarray:
        if self.associated and out.dtype.kind == "u":
            high = float(np.iinfo(out.dtype).max)
            share = np.maximum(alpha[..., None], 1) / high
            out = np.minimum(np.rint(out / share), high).astype(out.dtype)
        if self._masks is None:
            self._masks = is_mask(self._sample())
        if not self._masks:
            return out
        blank = np.nan if out.dtype.kind == "f" else 0
        return np.where(alpha[..., None] == 0, out.dtype.type(blank), out)

    def _sample(self) -> np.ndarray:
        """Read alpha at a few fixed places, to see whether it masks."""
        assert self.alpha is not None
        parts = []
        shape = self.base.shape
        for share in (0.0, 0.25, 0.5, 0.75, 1.0):
            index: list[Any] = []
            for a, n in enumerate(shape):
                side = 64 if a >= len(shape) - 3 else 1
                start = int(share * max(0, n - side))
                index.append(slice(start, min(n, start + side)))
            index[self.axis] = slice(self.alpha, self.alpha + 1)
            parts.append(np.asarray(self.base[tuple(index)]).ravel())
        return np.concatenate(parts)
