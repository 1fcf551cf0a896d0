"""Open TIFF, OME-TIFF, PNG, JPG and NPY files."""

from __future__ import annotations

import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.errors import SeriesError, VolumeError
from napari_sam.volume.arrays import Layout, assemble
from napari_sam.volume.lazy_arrays import LazyArray

if TYPE_CHECKING:
    from napari_sam.volume.lazy_arrays import Array
    from napari_sam.volume.volume import Volume

OME_UNITS = {
    "µm": "micrometer", "um": "micrometer", "nm": "nanometer", "mm": "millimeter",
    "cm": "centimeter", "m": "meter", "Å": "angstrom", "s": "second",
    "ms": "millisecond",
    "min": "minute", "h": "hour", "pixel": "pixel", "micron": "micrometer",
    "\\u00B5m": "micrometer",
}  # fmt: skip
"""Unit symbols of OME-XML and ImageJ, and the names used here."""


def open_tiff(
    path: str, *, axes: Any = None, channels: Any = None, series: Any = None
) -> Volume:
    """Open a TIFF file lazily, tile by tile or strip by strip.

    Parameters
    ----------
    path : str
    axes, channels
        As in `open_volume`.
    series : int, optional
        Number of one of the file's series.

    Raises
    ------
    SeriesError
        If the file holds several images of different sizes and none was chosen.
    """
    import tifffile

    try:
        with tifffile.TiffFile(path) as tif:
            number = _choose_series(tif, path, series)
            chosen = tif.series[number]
            layout = _tiff_layout(tif, chosen, number)
            compressions = {lev.keyframe.compression for lev in chosen.levels}
            levels: list[Array] = [
                TiffArray(path, number, i, level.shape, level.dtype, _chunks(level))
                for i, level in enumerate(chosen.levels)
            ]
            metadata = {"tiff_axes": chosen.axes, "tiff_kind": chosen.kind}
    except tifffile.TiffFileError as error:
        raise VolumeError(f"{path!r} is not a whole TIFF file: {error}") from error
    _check_codecs(path, compressions)
    return assemble(
        levels, layout, axes=axes, channels=channels,
        name=_stem(path), source=path, metadata=metadata,
    )  # fmt: skip


class TiffArray(LazyArray):
    """One pyramid level of one series of a TIFF file, opened when it is first read."""

    def __init__(
        self,
        path: str,
        series: int,
        level: int,
        shape: tuple[int, ...],
        dtype: Any,
        chunks: tuple[int, ...],
    ) -> None:
        super().__init__(shape, dtype)
        self.path, self.series, self.level, self.chunks = path, series, level, chunks
        self._array: Any = None
        self._lock = threading.Lock()

    def read(self, spans: tuple[slice, ...]) -> np.ndarray:
        """Read a block, decoding the tiles or strips that it meets."""
        with self._lock:
            if self._array is None:
                self._array = self._open()
        return np.asarray(self._array[spans])

    def _open(self) -> Any:
        import tifffile
        import zarr

        store = tifffile.imread(
            self.path, aszarr=True, series=self.series, level=self.level
        )
        # Without this the file would be closed by chance, with a ResourceWarning.
        weakref.finalize(self, store.close)
        return zarr.open_array(store, mode="r")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_array": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())


def _chunks(level: Any) -> tuple[int, ...]:
    """Shape of what is decoded at once: a tile or strip of one page."""
    inner = [int(n) for n in level.keyframe.chunks]
    shape = tuple(int(n) for n in level.shape)
    if len(inner) > len(shape):
        return shape
    lead = [1] * (len(shape) - len(inner))
    return tuple(min(c, n) for c, n in zip([*lead, *inner], shape, strict=True))


def _choose_series(tif: Any, path: str, series: Any) -> int:
    found = {str(i): f"{s.name or 'image'}, {s.axes} {s.shape}, {s.dtype}"
             for i, s in enumerate(tif.series) if s.ndim >= 2}  # fmt: skip
    if not found:
        raise VolumeError(f"{path!r} holds no image of two or more axes")
    if series is not None:
        if str(series) not in found:
            raise SeriesError(
                f"there is no series {series!r} in {path!r}: choose one of "
                f"{', '.join(found)}", found,
            )  # fmt: skip
        return int(series)
    # Labels, macros and thumbnails beside the one big image need no choice.
    sizes = [int(np.prod(tif.series[int(i)].shape)) for i in found]
    if len(found) > 1 and (tif.is_ome or sorted(sizes)[-2] * 8 > max(sizes)):
        listing = "".join(f"\n  {i}  {text}" for i, text in list(found.items())[:30])
        raise SeriesError(
            f"{path!r} holds {len(found)} images; choose one with series=...:{listing}",
            found,
        )
    return int(list(found)[sizes.index(max(sizes))])


def _tiff_layout(tif: Any, series: Any, number: int) -> Layout:
    axes = tuple(str(a).lower() for a in series.axes)
    colour = "s" in axes and series.shape[axes.index("s")] in (3, 4)
    spacing, units = _ome_spacing(tif, number) if tif.is_ome else _imagej_spacing(tif)
    names = _channel_names(tif, number) if tif.is_ome else ()
    if "c" not in axes or len(names) != series.shape[axes.index("c")]:
        names = ()
    return Layout(axes, spacing, units, rgb=colour, channel_names=names)


def _ome_image(tif: Any, number: int) -> dict[str, Any]:
    import tifffile

    images = tifffile.xml2dict(tif.ome_metadata)["OME"].get("Image", [])
    entry: dict[str, Any] = (images if isinstance(images, list) else [images])[number]
    return dict(entry.get("Pixels", {}))


def _ome_spacing(tif: Any, number: int) -> tuple[dict[str, float], dict[str, str]]:
    pixels = _ome_image(tif, number)
    spacing, units = {}, {}
    for axis in "xyz":
        if pixels.get(f"PhysicalSize{axis.upper()}"):
            spacing[axis] = float(pixels[f"PhysicalSize{axis.upper()}"])
            unit = str(pixels.get(f"PhysicalSize{axis.upper()}Unit", "µm"))
            units[axis] = OME_UNITS.get(unit, unit)
    if pixels.get("TimeIncrement"):
        spacing["t"] = float(pixels["TimeIncrement"])
        unit = str(pixels.get("TimeIncrementUnit", "s"))
        units["t"] = OME_UNITS.get(unit, unit)
    return spacing, units


def _channel_names(tif: Any, number: int) -> tuple[str, ...]:
    channels = _ome_image(tif, number).get("Channel", [])
    entries = channels if isinstance(channels, list) else [channels]
    return tuple(str(c.get("Name", i)) for i, c in enumerate(entries))


def _imagej_spacing(tif: Any) -> tuple[dict[str, float], dict[str, str]]:
    page = tif.pages[0]
    ij = tif.imagej_metadata or {}
    unit = OME_UNITS.get(str(ij.get("unit", "")), "")
    if not unit and page.tags.get("ResolutionUnit") is not None:
        unit = {2: "inch", 3: "centimeter"}.get(
            int(page.tags["ResolutionUnit"].value), ""
        )
    if not unit or unit == "inch":
        # Dots per inch are nearly always the printer's default, not a pixel size.
        return {}, {}
    spacing, units = {}, {}
    for axis, tag in (("y", "YResolution"), ("x", "XResolution")):
        value = page.tags.get(tag)
        if value is not None and value.value[0]:
            spacing[axis], units[axis] = value.value[1] / value.value[0], unit
    if ij.get("spacing"):
        spacing["z"], units["z"] = float(ij["spacing"]), unit
    if ij.get("finterval"):
        spacing["t"], units["t"] = float(ij["finterval"]), "second"
    return spacing, units


def _check_codecs(path: str, compressions: set[Any]) -> None:
    needing = {int(c) for c in compressions} - {0, 1, 8, 32946}
    if not needing:
        return
    try:
        import imagecodecs  # noqa: F401
    except ImportError as error:
        names = ", ".join(sorted(getattr(c, "name", str(c)) for c in compressions))
        raise VolumeError(
            f"{path!r} is compressed with {names}, which needs imagecodecs: "
            "pip install imagecodecs"
        ) from error


class PictureArray(LazyArray):
    """A picture whose format can only be read whole: decoded at the first look."""

    def __init__(self, path: str, shape: tuple[int, ...], dtype: Any) -> None:
        super().__init__(shape, dtype)
        self.path = path
        self._pixels: np.ndarray | None = None

    def read(self, spans: tuple[slice, ...]) -> np.ndarray:
        """Cut a block out of the decoded picture."""
        if self._pixels is None:
            import imageio.v3 as iio

            self._pixels = iio.imread(self.path, plugin="pillow")
        return self._pixels[spans]


def open_picture(
    path: str, *, axes: Any = None, channels: Any = None, series: Any = None
) -> Volume:
    """Open a PNG, JPG, BMP, GIF or WebP file; only its header is read at once."""
    import imageio.v3 as iio

    if series is not None:
        raise SeriesError(f"{path!r} holds one image: leave series= out")
    try:
        properties = iio.improps(path, plugin="pillow")
    except (OSError, ValueError, SyntaxError) as error:
        raise VolumeError(
            f"{path!r} is not a whole {Path(path).suffix[1:].upper()} picture: {error}"
        ) from error
    shape = tuple(int(n) for n in properties.shape)
    colour = shape[-1] in (3, 4) and len(shape) > 2
    names = {2: "yx", 3: "yxc", 4: "tyxc"}[len(shape)]
    if len(shape) == 3 and shape[-1] > 4:
        names = "tyx"
    if len(shape) == 3 and shape[-1] == 2 and channels is None:
        channels = 0  # the other one is transparency
    return assemble(
        [PictureArray(path, shape, properties.dtype)], Layout(tuple(names), rgb=colour),
        axes=axes, channels=channels, name=_stem(path), source=path,
    )  # fmt: skip


def open_npy(
    path: str, *, axes: Any = None, channels: Any = None, series: Any = None
) -> Volume:
    """Open an NPY file as a memory map."""
    if series is not None:
        raise SeriesError(f"{path!r} holds one array: leave series= out")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise VolumeError(f"{path!r} is not a whole NPY file: {error}") from error
    return assemble(
        [array], Layout(), axes=axes, channels=channels, name=_stem(path), source=path
    )


def _stem(path: str) -> str:
    name = Path(path).name
    for suffix in (".ome.tif", ".ome.tiff"):
        name = name.removesuffix(suffix)
    return name.rsplit(".", 1)[0] or name
