"""Bands of a raster: which hold data, where they hold none, and in what units."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.volume.whole import blank_value, is_mask

if TYPE_CHECKING:
    from collections.abc import Sequence

_INFRARED = re.compile(r"\b(nir\w*|infra.?red|near|ir|swir\w*|b8a?)\b", re.IGNORECASE)
_OWN_MASK = 0
"""Stands for the mask of a data set, where a number stands for an alpha band."""

_PLACES = (
    (0, 0), (0, 1), (1, 0), (1, 1), (0.5, 0.5), (0.25, 0.25), (0.75, 0.75), (0.5, 0),
    (0.5, 1),
)  # fmt: skip
"""Where a band is sampled, as shares of its height and width."""


@dataclass(frozen=True, slots=True)
class Bands:
    """How the bands of a raster are to be read."""

    shape: tuple[int, ...]
    """(band, y, x), or (y, x) for one band."""
    chunks: tuple[int, ...]
    stored: np.dtype[Any]
    dtype: np.dtype[Any]
    """Of what is read: floats where there is a scale or an offset."""
    nodatas: tuple[float | None, ...]
    """Value of each band that stands for no data."""
    nodata: float | None
    """Value that pixels without data have when they are read."""
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    mask: int | None = None
    """Number of the alpha band from 1 on; 0: the data set's own mask; None: none."""

    @classmethod
    def of(cls, dataset: Any, mask: int | None) -> Bands:
        """Describe an open dataset, with the mask that `find_mask` found."""
        h, w = (max(1, int(n)) for n in dataset.block_shapes[0])
        n, size = int(dataset.count), (int(dataset.height), int(dataset.width))
        chunks = (min(h, size[0]), min(w, size[1]))
        stored = np.dtype(np.result_type(*dataset.dtypes))
        scales, offsets = _calibration(dataset)
        scaled = any(s != 1 for s in scales) or any(o != 0 for o in offsets)
        dtype = stored
        if scaled and stored.kind in "iuf":
            narrow = stored.itemsize <= 2 or stored == np.float32
            dtype = np.dtype(np.float32 if narrow else np.float64)
        nodatas = tuple(dataset.nodatavals)
        nodata = next((v for v in nodatas if v is not None), None)
        if nodata is None and mask is not None:
            nodata = blank_value(dtype)
        if dtype.kind == "f" and nodata is not None:
            nodata = float("nan")
        return cls(
            size if n == 1 else (n, *size), chunks if n == 1 else (1, *chunks),
            stored, dtype, nodatas, nodata, scales, offsets, mask,
        )  # fmt: skip

    def hidden(self, dataset: Any, window: Any) -> np.ndarray | None:
        """Where a mask hides the pixels of a window."""
        if self.mask is None:
            return None
        if self.mask == _OWN_MASK:
            return np.asarray(dataset.read_masks(1, window=window) == 0)
        return np.asarray(dataset.read(self.mask, window=window) == 0)

    def finished(
        self, stored: np.ndarray, numbers: Sequence[int], hidden: np.ndarray | None
    ) -> np.ndarray:
        """Give stored bands their units, and pixels without data their value.

        Parameters
        ----------
        stored : ndarray, (n, h, w)
        numbers : sequence of int
            Which bands these are, from 0 on.
        hidden : ndarray, (h, w), optional
        """
        out = stored.astype(self.dtype, copy=False)
        for i, number in enumerate(numbers):
            missing = hidden
            own = self.nodatas[number]
            if own is not None and not np.isnan(own):
                same = stored[i] == _as_stored(own, stored.dtype)
                missing = same if missing is None else missing | same
            scale, offset = self.scales[number], self.offsets[number]
            if (scale, offset) != (1, 0):
                out[i] = stored[i] * scale + offset
            if missing is not None and self.nodata is not None and missing.any():
                out[i][missing] = self.nodata
        return out


def _as_stored(value: float, dtype: np.dtype[Any]) -> Any:
    # float32 pixels hold a rounded nodata; integers may not hold it at all.
    with np.errstate(over="ignore"):
        return dtype.type(value) if dtype.kind == "f" else value


def _calibration(dataset: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Scale and offset of each band; values that cannot be true count for none."""
    scales = [float(s) for s in dataset.scales]
    offsets = [float(o) for o in dataset.offsets]
    fine = [np.isfinite(s) and s != 0 and np.isfinite(o)
            for s, o in zip(scales, offsets, strict=True)]  # fmt: skip
    return (
        tuple(s if ok else 1.0 for s, ok in zip(scales, fine, strict=True)),
        tuple(o if ok else 0.0 for o, ok in zip(offsets, fine, strict=True)),
    )


def find_mask(dataset: Any, channels: Any) -> int | None:
    """Find what says where a raster holds data.

    A band marked alpha is one only if it is not asked for, is not named after a part
    of the spectrum, and holds nearly nothing but two values: infra-red bands are often
    marked so because they come fourth.

    Parameters
    ----------
    dataset : rasterio dataset
    channels : int, sequence of int or None
        Bands that were asked for, from 0 on.

    Returns
    -------
    int or None
        As `Bands.mask`.
    """
    from rasterio.enums import ColorInterp, MaskFlags

    marks, asked = (
        list(dataset.colorinterp),
        np.atleast_1d([] if channels is None else channels),
    )
    if ColorInterp.alpha in marks:
        number = marks.index(ColorInterp.alpha)
        name = str(dataset.descriptions[number] or "")
        if number in asked.tolist() or _INFRARED.search(name):
            return None
        return number + 1 if is_mask(_sample(dataset, number + 1)) else None
    flags = dataset.mask_flag_enums[0]
    return _OWN_MASK if MaskFlags.per_dataset in flags else None


def _sample(dataset: Any, band: int) -> np.ndarray:
    """Read a band at a few fixed places, never the whole."""
    parts = []
    for shares in _PLACES:
        spans = []
        for n, share in zip((dataset.height, dataset.width), shares, strict=True):
            start = int(share * max(0, n - 64))
            spans.append((start, min(n, start + 64)))
        parts.append(dataset.read(band, window=tuple(spans)).ravel())
    return np.concatenate(parts)
