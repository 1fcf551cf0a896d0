"""The same image given in another way: inverted, with less contrast, as 16 bit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.errors import PromptError
from napari_sam.volume.lazy_arrays import LazyArray

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_sam.core.intensity import IntensityMapping
    from napari_sam.volume.lazy_arrays import Array
    from napari_sam.volume.volume import Volume

VARIANTS = ("inverted", "half-contrast", "16bit")
"""Names of what can be done to an image before it is shown to a model."""


def check_variants(variants: Iterable[str]) -> tuple[str, ...]:
    """Return the names, each once.

    Raises
    ------
    PromptError
        If one is unknown.
    """
    names = tuple(dict.fromkeys(variants))
    if unknown := [n for n in names if n not in VARIANTS]:
        raise PromptError(
            f"variants are {', '.join(VARIANTS)}; got {', '.join(map(repr, unknown))}"
        )
    return names


def vary(volume: Volume, variant: str) -> Volume | None:
    """Return a volume whose raw values are changed where they are read.

    An intensity mapping that the caller or the format gave follows the values, but for
    "half-contrast", where it stays; the default one is sampled anew, as it would be for
    an image that came like this.

    Parameters
    ----------
    volume : Volume
    variant : {"inverted", "half-contrast", "16bit"}

    Returns
    -------
    Volume or None
        None for "16bit" of an image that has not 8 bits.

    Examples
    --------
    >>> from napari_sam.volume.opening import open_volume
    >>> volume = open_volume(np.array([[0, 100]], np.uint8))
    >>> [int(v) for v in vary(volume, "inverted").plane()[0]]
    [255, 155]
    """
    if variant == "16bit" and volume.dtype != np.uint8:
        return None
    line = _line(volume, variant)
    mapping = volume.mapping
    if mapping is not None and variant != "half-contrast":
        mapping = _follow(mapping, line)
    levels = tuple(ChangedValues(level, line) for level in volume.levels)
    name = f"{volume.name} ({variant})"
    return replace(volume, levels=levels, mapping=mapping, name=name, recipe=None)


@dataclass(frozen=True, slots=True)
class Line:
    """New value = `slope` * value + `shift`, rounded for integers."""

    slope: float
    shift: float
    dtype: np.dtype[Any]


def _line(volume: Volume, variant: str) -> Line:
    dtype = volume.dtype
    if variant == "16bit":
        return Line(257.0, 0.0, np.dtype(np.uint16))
    low, high = _range(volume)
    if variant == "inverted":
        return Line(-1.0, low + high, dtype)
    return Line(0.5, (low + high) / 4, dtype)


def _range(volume: Volume) -> tuple[float, float]:
    """Values that become each other when inverted: the window's, else the type's."""
    if volume.dtype == bool:
        return 0.0, 1.0
    if volume.mapping is None and volume.dtype.kind == "u":
        return 0.0, float(np.iinfo(volume.dtype).max)
    windows = volume.intensity.windows
    return min(w[0] for w in windows), max(w[1] for w in windows)


def _follow(mapping: IntensityMapping, line: Line) -> IntensityMapping:
    windows = tuple(
        tuple(sorted(line.slope * v + line.shift for v in w)) for w in mapping.windows
    )
    nodata = mapping.nodata
    if nodata is not None:
        nodata = line.slope * nodata + line.shift
    return replace(mapping, windows=windows, nodata=nodata)  # type: ignore[arg-type]


class ChangedValues(LazyArray):
    """Another array with its values moved along a line, block by block."""

    def __init__(self, base: Array, line: Line) -> None:
        super().__init__(base.shape, line.dtype)
        self.base, self.line = base, line

    def read(self, spans: tuple[slice, ...]) -> np.ndarray:
        """Read a block."""
        block = np.asarray(self.base[spans])
        if self.dtype == bool:
            return ~block if self.line.slope < 0 else block
        out = block * self.line.slope + self.line.shift
        if self.dtype.kind in "iu":
            info = np.iinfo(self.dtype)
            out = np.clip(np.rint(out), info.min, info.max)
        return np.asarray(out, self.dtype)
