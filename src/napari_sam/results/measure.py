"""Measurements of objects: size, shape, place and raw values, in world units.

The names and definitions are those of `skimage.measure.regionprops_table`.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.planes import Plane
from napari_sam.core.tiles import Window
from napari_sam.errors import Cancelled, ExportError
from napari_sam.results.label_arrays import iter_blocks_of
from napari_sam.results.moments import (
    HALO,
    Moments,
    all_of,
    block_moments,
    outline_weights,
    pairs,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_sam.results.label_arrays import Spans
    from napari_sam.results.results import Results
    from napari_sam.volume.volume import Volume

MORE = (
    "area_convex", "area_filled", "euler_number", "feret_diameter_max", "solidity",
    "surface_area",
)  # fmt: skip
"""Measurements made object by object, milliseconds each. ``surface_area`` is that of a
mesh by marching cubes, which has steps: a ball's is 7 % too large."""
_LARGEST = 2**27
"""Pixels of a box up to which an object is measured by itself."""
_SHORT = {
    "micrometer": "um", "nanometer": "nm", "millimeter": "mm", "centimeter": "cm",
    "meter": "m", "pixel": "px",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class MeasureOptions:
    """What is measured of each object, beside its size and its place."""

    intensity: bool = True
    """Mean, standard deviation, least and greatest raw value, of each channel."""
    shape: bool = True
    """Axes of the ellipse or ellipsoid of equal moments, extent, and in 2-D outline."""
    more: tuple[str, ...] = field(default=(), metadata={"choices": MORE})
    """Slower ones, of `MORE`: milliseconds an object."""

    def __post_init__(self) -> None:
        if unknown := [name for name in self.more if name not in MORE]:
            raise ExportError(
                f"there is no measurement {unknown[0]!r}: more are {', '.join(MORE)}"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """Objects by rising time point and id, and what was measured of each."""

    ids: np.ndarray
    """(n,), int."""
    times: np.ndarray | None
    """(n,), int: time point; None where the image has no time."""
    columns: dict[str, np.ndarray]
    """By name, (n,) each; NaN where it has no meaning."""
    size_unit: str
    """Of ``size``, as "um^2"."""

    def at(self, time: int) -> Measured:
        """Return what was measured at one time point."""
        if self.times is None:
            return self
        here = self.times == time
        columns = {name: values[here] for name, values in self.columns.items()}
        return Measured(self.ids[here], self.times[here], columns, self.size_unit)


def measure(
    results: Results,
    options: MeasureOptions | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Measured:
    """Measure every object, and at each time point where there is time.

    Labels are read block by block, in one pass, and only blocks that were written; the
    image is read where there are objects.

    Parameters
    ----------
    results : Results
    options : MeasureOptions, optional
    cancel : callable, optional
        Asked between blocks; True raises `Cancelled`.

    Returns
    -------
    Measured
        ``pixels``; ``size``, area or volume; ``bbox_<axis>_start`` and ``_stop``, in
        pixels and half-open; ``centroid_<axis>`` in the world. Of the shape, in the
        unit of the image where its axes share one and in pixels elsewhere:
        ``equivalent_diameter_area``, ``axis_major_length``, ``axis_minor_length``,
        ``extent``, and in 2-D ``eccentricity``, ``orientation`` in radians,
        ``perimeter`` and ``circularity`` (the last two where pixels are square).
        ``intensity_mean``, ``_std``, ``_min`` and ``_max`` of raw values, with the name
        of the channel where there are several.

    Raises
    ------
    VolumeError
        If the image cannot be read.
    Cancelled
    """
    options = options or MeasureOptions()
    volume = results.volume
    time = volume.axes.index("t") if "t" in volume.axes else None
    step, unit = _scale(volume)
    drawn = options.shape and _square(volume, step)
    blocks = _blocks(results, time, options, drawn, cancel)
    found = all_of(part for part in blocks if part is not None)
    axes = [i for i in range(volume.ndim) if i != time]
    if found is None:
        none = np.zeros(0, np.int64)
        return Measured(none, None if time is None else none, {}, unit)
    columns = _size_and_place(found, volume, axes, step, time)
    if options.shape and len(axes) in (2, 3):
        columns |= _shape(found, step, drawn=drawn)
    if options.intensity:
        columns |= _intensity(found, volume)
    if options.more:
        columns |= _object_by_object(results, found, time, step, options.more, cancel)
    times = None if time is None else found.keys[:, 0]
    return Measured(found.keys[:, 1], times, columns, unit)


def _scale(volume: Volume) -> tuple[np.ndarray, str]:
    """Pixel size on each axis of space, and the unit of areas or volumes."""
    space = [i for i, a in enumerate(volume.axes) if a != "t"]
    units = {volume.units[i] for i in space}
    if len(units) != 1:
        return np.ones(len(space)), "px"
    short = _SHORT.get(unit := units.pop(), unit)
    step = np.array([abs(volume.spacing[i]) for i in space], float)
    return step, short if short == "px" else f"{short}^{len(space)}"


def _square(volume: Volume, step: np.ndarray) -> bool:
    """Whether objects have an outline that can be measured."""
    flat = [a for a in volume.axes if a != "t"] == ["y", "x"]
    return flat and bool(np.allclose(step, step[0], rtol=1e-3))


def _blocks(
    results: Results,
    time: int | None,
    options: MeasureOptions,
    drawn: bool,
    cancel: Callable[[], bool] | None,
) -> Iterator[Moments | None]:
    labels, volume = results.labels, results.volume
    for spans in iter_blocks_of(labels):
        if cancel is not None and cancel():
            raise Cancelled("the measurement was stopped")
        block = np.asarray(labels[spans])
        if not block.any():
            continue
        values = _values(volume, spans, block) if options.intensity else None
        outline = _outline(labels, spans) if drawn else None
        corner = [s.start for s in spans]
        yield block_moments(block, corner, time, values, outline)


def _values(volume: Volume, spans: Spans, block: np.ndarray) -> np.ndarray:
    """Raw values of a block, (..., c); 0 on planes without objects."""
    y, x = spans[-2:]
    window = Window(0, y.start, x.start, y.stop - y.start, x.stop - x.start)
    out: np.ndarray | None = None
    for index in np.ndindex(*block.shape[:-2]):
        if block[index].any():
            at = tuple(s.start + i for s, i in zip(spans, index, strict=False))
            pixels = volume.read(Plane(at), window)
            pixels = pixels[..., None] if pixels.ndim == 2 else pixels
            if out is None:
                out = np.zeros((*block.shape, pixels.shape[-1]), pixels.dtype)
            out[index] = pixels
    assert out is not None
    return out


def _outline(labels: Any, spans: Spans) -> np.ndarray:
    """What each pixel of a block adds to its object's outline."""
    y, x = spans[-2:]
    h, w = labels.shape[-2:]
    wide = (
        slice(max(y.start - HALO, 0), min(y.stop + HALO, h)),
        slice(max(x.start - HALO, 0), min(x.stop + HALO, w)),
    )
    block = np.asarray(labels[(*spans[:-2], *wide)])
    gaps = [
        (HALO - (s.start - v.start), HALO - (v.stop - s.stop))
        for s, v in zip((y, x), wide, strict=True)
    ]
    block = np.pad(block, [(0, 0)] * (block.ndim - 2) + gaps)
    shape = tuple(s.stop - s.start for s in spans)
    out = np.empty(shape)
    for index in np.ndindex(*shape[:-2]):
        out[index] = outline_weights(block[index])
    return out


def _size_and_place(
    found: Moments, volume: Volume, axes: list[int], step: np.ndarray, time: int | None
) -> dict[str, np.ndarray]:
    n = len(found)
    affine = np.asarray(volume.affine, float)
    pixel = abs(float(np.linalg.det(affine[np.ix_(axes, axes)])))
    units = {volume.units[i] for i in axes}
    size = found.count * (pixel if len(units) == 1 else 1.0)
    out = {"pixels": found.count.astype(np.int64), "size": size}
    index = np.ones((n, volume.ndim + 1))
    index[:, axes] = found.mean
    if time is not None:
        index[:, time] = found.keys[:, 0]
    world = index @ affine.T
    for i, a in enumerate(axes):
        out[f"bbox_{volume.axes[a]}_start"] = found.low[:, i]
        out[f"bbox_{volume.axes[a]}_stop"] = found.high[:, i]
    for a in axes:
        out[f"centroid_{volume.axes[a]}"] = world[:, a]
    return out


def _shape(found: Moments, step: np.ndarray, *, drawn: bool) -> dict[str, np.ndarray]:
    ndim = len(step)
    spread = np.zeros((len(found), ndim, ndim))
    for k, (i, j) in enumerate(pairs(ndim)):
        value = found.scatter[:, k] * step[i] * step[j] / found.count
        spread[:, i, j] = spread[:, j, i] = value
    lengths = np.linalg.eigvalsh(spread)[:, ::-1].clip(0)
    pixel = float(np.prod(step))
    area = found.count * pixel
    box = np.prod(found.high - found.low, axis=1) * pixel
    ball = (2 * ndim * area / math.pi) ** (1 / ndim)
    out = {"equivalent_diameter_area": ball}
    if ndim == 2:
        major, minor = 4 * np.sqrt(lengths.T)
    else:
        # Of the ellipsoid with these moments of inertia.
        major, minor = 2 * np.sqrt(5 * lengths[:, (0, 2)].T)
    out |= {"axis_major_length": major, "axis_minor_length": minor}
    out["extent"] = area / box
    if ndim == 2:
        first = np.where(lengths[:, 0] > 0, lengths[:, 0], 1.0)
        ratio = np.where(lengths[:, 0] > 0, lengths[:, 1] / first, 1.0)
        out["eccentricity"] = np.sqrt((1 - ratio).clip(0))
        a, b, c = spread[:, 1, 1], -spread[:, 0, 1], spread[:, 0, 0]
        turned = 0.5 * np.arctan2(-2 * b, c - a)
        even = np.where(b < 0, math.pi / 4, -math.pi / 4)
        level = abs(a - c) <= 1e-12 * (a + c)
        out["orientation"] = np.where(level, even, turned)
    if drawn:
        around = found.outline * step[0]
        out["perimeter"] = around
        long = np.where(around > 0, around, np.nan)
        out["circularity"] = 4 * math.pi * area / long**2
    return out


def _intensity(found: Moments, volume: Volume) -> dict[str, np.ndarray]:
    n = found.value.shape[1]
    names = list(volume.channel_names) if len(volume.channel_names) == n else []
    if not names:
        names = (
            ["red", "green", "blue"][:n] if volume.rgb else [str(i) for i in range(n)]
        )
    out = {}
    for c in range(n):
        end = f"_{names[c]}" if n > 1 else ""
        out[f"intensity_mean{end}"] = found.value[:, c]
        deviation = np.sqrt(found.value_scatter[:, c] / found.count)
        out[f"intensity_std{end}"] = deviation
        out[f"intensity_min{end}"] = found.value_low[:, c]
        out[f"intensity_max{end}"] = found.value_high[:, c]
    return out


def _object_by_object(
    results: Results,
    found: Moments,
    time: int | None,
    step: np.ndarray,
    names: tuple[str, ...],
    cancel: Callable[[], bool] | None,
) -> dict[str, np.ndarray]:
    """Measure each object in its own box."""
    out = {name: np.full(len(found), np.nan) for name in names}
    sides = found.high - found.low
    for n, (t, object_id) in enumerate(found.keys.tolist()):
        if cancel is not None and cancel():
            raise Cancelled("the measurement was stopped")
        if float(np.prod(sides[n])) > _LARGEST:
            continue
        spans = [
            slice(int(a), int(b))
            for a, b in zip(found.low[n], found.high[n], strict=True)
        ]
        if time is not None:
            spans.insert(time, slice(t, t + 1))
        mask = np.asarray(results.labels[tuple(spans)]) == object_id
        mask = mask if time is None else mask.squeeze(time)
        for name in names:
            out[name][n] = _one(mask, step, name)
    return out


def _one(mask: np.ndarray, step: np.ndarray, name: str) -> float:
    """Measure one object; NaN where that has no meaning."""
    from skimage.measure import marching_cubes, mesh_surface_area, regionprops

    if name == "surface_area":
        if mask.ndim != 3:
            return math.nan
        corners, faces, *_ = marching_cubes(np.pad(mask, 1), 0.5, spacing=tuple(step))
        return float(mesh_surface_area(corners, faces))
    (one,) = regionprops(mask.astype(np.uint8), spacing=tuple(step))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # flat objects have no hull
        try:
            value = float(getattr(one, name))
        except (ValueError, RuntimeError, NotImplementedError, ZeroDivisionError):
            return math.nan
    return value if math.isfinite(value) else math.nan
