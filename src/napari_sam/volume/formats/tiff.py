"""Open TIFF and OME-TIFF files lazily, as their tags say that they are to be shown."""

from __future__ import annotations

import math
import threading
import weakref
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.errors import SeriesError, VolumeError
from napari_sam.volume.arrays import assemble
from napari_sam.volume.formats.ome_xml import OME_UNITS, Ome, OmeImage, read_ome
from napari_sam.volume.formats.tiff_chain import check_chain
from napari_sam.volume.formats.tiff_colours import Shown, shown_levels
from napari_sam.volume.layout import Layout
from napari_sam.volume.lazy_arrays import LazyArray
from napari_sam.volume.orientation import turned_layout, turned_levels
from napari_sam.volume.plausible import check_chunks
from napari_sam.volume.whole import check_claim

if TYPE_CHECKING:
    from napari_sam.volume.lazy_arrays import Array
    from napari_sam.volume.volume import Volume

_ORIENTATION, _GDAL_NODATA = 274, 42113


def open_tiff(
    path: str,
    *,
    axes: Any = None,
    channels: Any = None,
    series: Any = None,
    as_labels: bool = False,
) -> Volume:
    """Open a TIFF file lazily, tile by tile or strip by strip.

    The Orientation tag is obeyed; CMYK, YCbCr, CIELAB and palettes become RGB; alpha
    is left out, and where it masks, what it hides counts as no data. Of an OME-TIFF of
    several files any one opens the whole, with its companion file if it has one.

    Parameters
    ----------
    path : str
    axes, channels
        As in `open_volume`.
    series : int, optional
        Number of one of the file's series.
    as_labels : bool
        Whether to read the indices of a palette rather than its colours.

    Raises
    ------
    SeriesError
        If the file holds several images of different sizes and none was chosen.
    VolumeError
        If the file is damaged, or of a colour model that is not read.
    """
    import tifffile

    notes: list[str] = []
    check_chain(path)
    try:
        with tifffile.TiffFile(path) as tif:
            ome, omexml = _metadata(tif, path, notes)
    except tifffile.TiffFileError as error:
        raise VolumeError(f"{path!r} is not a whole TIFF file: {error}") from error
    with tifffile.TiffFile(
        path, **({} if omexml is None else {"omexml": omexml})
    ) as tif:
        number = _choose_series(tif, path, series)
        chosen = tif.series[number]
        _check_codecs(path, {lev.keyframe.compression for lev in chosen.levels})
        image = _ome_image(ome, chosen, number) if ome.images else None
        _tell_missing(path, image, notes)
        levels: list[Array] = [
            _level(path, number, i, level, omexml)
            for i, level in enumerate(chosen.levels)
        ]
        layout = _tiff_layout(tif, chosen, image)
        shown = shown_levels(path, levels, chosen.axes, chosen.keyframe, as_labels)
        orientation = _orientation(chosen.keyframe)
        metadata: dict[str, Any] = {
            "tiff_axes": chosen.axes, "tiff_kind": chosen.kind,
            "labels": image is not None and image.labels,
        }  # fmt: skip
        if not as_labels and (nodata := _gdal_nodata(chosen.keyframe)) is not None:
            metadata["nodata"] = nodata
    return _assembled(
        path, shown, layout, orientation, metadata,
        axes=axes, channels=channels, notes=notes,
    )  # fmt: skip


def open_companion(
    path: str, *, axes: Any = None, channels: Any = None, series: Any = None
) -> Volume:
    """Open the image that a companion file of OME-XML describes.

    Parameters
    ----------
    path : str
    axes, channels, series
        As in `open_tiff`.

    Raises
    ------
    VolumeError
        If none of its files is beside it.
    """
    ome = read_ome(Path(path).read_text(encoding="utf-8", errors="replace"), path)
    names = sorted({name for image in ome.images for name in image.files})
    for name in names:
        if (Path(path).parent / name).is_file():
            first = str(Path(path).with_name(name))
            return open_tiff(first, axes=axes, channels=channels, series=series)
    raise VolumeError(
        f"{path!r} only describes an image, whose files ({', '.join(names[:3])} ...) "
        "are not beside it: copy them there"
    )


def _assembled(
    path: str,
    shown: Shown,
    layout: Layout,
    orientation: int,
    metadata: dict[str, Any],
    **choices: Any,
) -> Volume:
    names = shown.axes.lower()
    layout = replace(layout, axes=tuple(names), rgb=shown.rgb)
    if "y" in names and "x" in names:
        shape = shown.levels[0].shape
        size = shape[names.index("y")], shape[names.index("x")]
        layout = turned_layout(layout, orientation, size)
        levels = turned_levels(shown.levels, orientation, names)
    else:
        levels = list(shown.levels)
    if shown.nodata is not None:
        metadata["nodata"] = shown.nodata
    return assemble(
        levels, layout, name=_stem(path), source=path, metadata=metadata,
        inverted=shown.inverted, **choices,
    )  # fmt: skip


def _orientation(page: Any) -> int:
    tag = page.tags.get(_ORIENTATION)
    value = 1 if tag is None else tag.value
    return value if isinstance(value, int) else 1


def _gdal_nodata(page: Any) -> float | None:
    """Value without data that GDAL noted in a TIFF that lies nowhere."""
    tag = page.tags.get(_GDAL_NODATA)
    try:
        value = math.nan if tag is None else float(str(tag.value).strip("\0 "))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _metadata(tif: Any, path: str, notes: list[str]) -> tuple[Ome, str | None]:
    """Read the OME-XML before tifffile does; (what it says, a companion's text)."""
    if not len(tif.pages):
        raise VolumeError(f"{path!r} holds no image: it is not a whole TIFF file")
    text = tif.pages[0].description or ""
    if "<!DOCTYPE" not in text and "<!ENTITY" not in text and not tif.is_ome:
        return Ome(), None
    ome = read_ome(text, path)
    if ome.companion is None:
        return ome, None
    name = ome.companion
    if name and Path(name).name == name:
        companion = Path(path).with_name(name)
        if companion.is_file():
            text = companion.read_text(encoding="utf-8", errors="replace")
            return read_ome(text, str(companion)), text
    notes.append(
        f"what its axes are stands in {name or 'another file'!r}, which is not beside "
        "it: only the pages of this file were read"
    )
    return Ome(), None


def _ome_image(ome: Ome, series: Any, number: int) -> OmeImage:
    # Images without planes are left out of the series, so numbers may differ.
    named = [i for i in ome.images if i.name and i.name == series.name]
    if len(named) == 1:
        return named[0]
    return ome.images[number] if number < len(ome.images) else OmeImage()


def _tell_missing(path: str, image: OmeImage | None, notes: list[str]) -> None:
    folder = Path(path).parent
    missing = sorted(
        f for f in (image.files if image else ()) if not _beside(folder, f)
    )
    if missing:
        notes.append(
            f"{len(missing)} of its files are missing, such as {missing[0]!r}: their "
            "planes are empty"
        )


def _beside(folder: Path, name: str) -> bool:
    return (folder / name).is_file()


def _level(path: str, series: int, number: int, level: Any, omexml: Any) -> TiffArray:
    page, chunks = level.keyframe, _chunks(level)
    if max(page.databytecounts, default=0) > page.parent.filehandle.size:
        raise VolumeError(
            f"{path!r} names pixels beyond its end: it is cut off or damaged. Copy it "
            "again"
        )
    check_claim(path, math.prod(chunks) * np.dtype(level.dtype).itemsize)
    check_chunks(level.shape, chunks, np.dtype(level.dtype))
    return TiffArray(path, series, number, level.shape, level.dtype, chunks, omexml)


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
        omexml: str | None = None,
    ) -> None:
        super().__init__(shape, dtype)
        self.path, self.series, self.level, self.chunks = path, series, level, chunks
        self.omexml = omexml
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

        more = {} if self.omexml is None else {"omexml": self.omexml}
        store = tifffile.imread(
            self.path, aszarr=True, series=self.series, level=self.level, **more
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
    sizes = [math.prod(tif.series[int(i)].shape) for i in found]
    if len(found) > 1 and (tif.is_ome or sorted(sizes)[-2] * 8 > max(sizes)):
        listing = "".join(f"\n  {i}  {text}" for i, text in list(found.items())[:30])
        raise SeriesError(
            f"{path!r} holds {len(found)} images; choose one with series=...:{listing}",
            found,
        )
    return int(list(found)[sizes.index(max(sizes))])


def _tiff_layout(tif: Any, series: Any, image: OmeImage | None) -> Layout:
    if image is None:
        spacing, units = _imagej_spacing(tif)
        return Layout(spacing=spacing, units=units)
    names: tuple[str, ...] = image.channel_names
    count = dict(zip(series.axes, series.shape, strict=True)).get("C", 1)
    return Layout(
        spacing=image.spacing, units=image.units, origin=image.origin,
        channel_names=names if len(names) == count else (),
    )  # fmt: skip


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


def _stem(path: str) -> str:
    name = Path(path).name
    for suffix in (".ome.tif", ".ome.tiff"):
        name = name.removesuffix(suffix)
    return name.rsplit(".", 1)[0] or name
