"""Open GeoTIFF and COG through rasterio: bands, overviews, no-data, CRS, transform."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from napari_sam.errors import SeriesError, VolumeError
from napari_sam.volume.arrays import assemble
from napari_sam.volume.formats.geo_bands import Bands, find_mask
from napari_sam.volume.formats.geo_colours import shown_bands
from napari_sam.volume.formats.geo_place import find_place
from napari_sam.volume.formats.world_file import find_world_file
from napari_sam.volume.layout import Layout
from napari_sam.volume.lazy_arrays import LazyArray

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_sam.volume.volume import Volume

_GEO_TAGS = (34735, 33550, 34264, 50844)
"""Tags of GeoTIFF: keys, pixel scale, matrix, rational polynomials."""
_UNITS = {"metre": "meter", "m": "meter", "degree": "degree", "US survey foot": "foot"}
_COLOURS = ("red", "green", "blue")


def is_geotiff(path: str) -> bool:
    """Whether a TIFF file says where on Earth it lies, itself or in a world file."""
    import tifffile

    if find_world_file(path) is not None:
        return True
    try:
        with tifffile.TiffFile(path) as tif:
            tags = tif.pages[0].tags
            return any(t in tags for t in _GEO_TAGS)
    except (tifffile.TiffFileError, IndexError):
        return False


def require_rasterio(path: str) -> Any:
    """Import rasterio, or say what is missing.

    Raises
    ------
    VolumeError
        If it is not installed: read otherwise, the place on Earth would get lost.
    """
    try:
        import rasterio
    except ImportError as error:
        raise VolumeError(
            f"{path!r} is a geographic image, and its coordinate system can only be "
            "read with rasterio: pip install rasterio"
        ) from error
    return rasterio


def open_geo(
    path: str,
    *,
    axes: Any = None,
    channels: Any = None,
    series: Any = None,
    as_labels: bool = False,
) -> Volume:
    """Open a raster that GDAL reads, lazily; overviews become pyramid levels.

    Of many bands, those marked or named red, green and blue are shown, else the first
    three. The world of `Volume.affine` has (northing, easting), in the order of the
    axes y and x; pixel centres are at integers.

    Parameters
    ----------
    path : str
        File or URL of a GeoTIFF, COG, JPEG 2000, VRT ...
    axes, channels
        As in `open_volume`; three channels make a colour picture, in that order.
    series : str, optional
        Which raster of a file that holds several.
    as_labels : bool
        Whether to read the numbers of classes rather than the colours of their table.

    Raises
    ------
    VolumeError
        If rasterio is not installed, or the file cannot be read.
    SeriesError
        If the file holds several rasters and none was chosen.
    """
    require_rasterio(path)
    name = path if series is None else str(series)
    notes: list[str] = []
    with opened(name) as dataset:
        if not dataset.count:
            raise _no_raster(path, dataset.subdatasets)
        mask = find_mask(dataset, channels)
        if channels is None:
            channels = _default_bands(dataset)
        chosen = [int(c) for c in np.atleast_1d(channels)]
        levels = _levels(name, dataset, mask)
        several = dataset.count > 1
        shown = shown_bands(levels, dataset, as_labels)
        transform, crs = find_place(dataset, notes)
        layout = Layout(
            axes=shown.axes,
            spacing={} if transform is None else _spacing(transform),
            units={} if transform is None else dict.fromkeys("yx", _unit(crs)),
            affine=None if transform is None else _affine(transform),
            rgb=shown.rgb or (len(chosen) == 3 and several),
            channel_names=() if shown.rgb else tuple(
                d or f"band {i}" for i, d in enumerate(dataset.descriptions, 1)
            ),
        )  # fmt: skip
        metadata = {"driver": dataset.driver, "bands": dataset.count}
        if (nodata := levels[0].nodata) is not None and np.isfinite(nodata):
            metadata["nodata"] = nodata
    return assemble(
        shown.levels, layout, axes=axes, notes=notes, inverted=shown.inverted,
        channels=channels if several and not shown.rgb else None,
        name=path.rsplit("/", 1)[-1].rsplit(".", 1)[0], source=path,
        crs=None if crs is None else str(crs.to_string()), metadata=metadata,
    )  # fmt: skip


class GeoArray(LazyArray):
    """One pyramid level of a raster; (band, y, x), or (y, x) for one band.

    Each thread that reads has a handle of its own, because GDAL's are not shared
    safely. Floating-point pixels without data are NaN; integers keep their value, or
    get that of `nodata` where a mask hides them. Bands with a scale or offset are read
    in its units, as floats.
    """

    def __init__(self, path: str, overview: int | None, bands: Bands) -> None:
        super().__init__(bands.shape, bands.dtype)
        self.path, self.overview, self.bands = path, overview, bands
        self.chunks, self.nodata = bands.chunks, bands.nodata
        self._local = threading.local()

    def read(self, spans: tuple[slice, ...]) -> np.ndarray:
        """Read a block through one window."""
        rows, cols = spans[-2:]
        numbers = [0]
        if len(spans) == 3:
            numbers = list(range(*spans[0].indices(self.shape[0])))
        window = ((rows.start, rows.stop), (cols.start, cols.stop))
        if min(s.stop - s.start for s in spans) < 1:
            out = np.empty([len(range(*s.indices(10**9))) for s in spans], self.dtype)
            return out
        with _gdal(self.path):
            dataset = self._dataset()
            stored = dataset.read([n + 1 for n in numbers], window=window)
            hidden = self.bands.hidden(dataset, window)
        out = self.bands.finished(stored, numbers, hidden)
        out = out[..., :: rows.step or 1, :: cols.step or 1]
        return out if len(spans) == 3 else np.asarray(out[0])

    def _dataset(self) -> Any:
        if not hasattr(self._local, "dataset"):
            self._local.dataset = _open(self.path, self.overview)
        return self._local.dataset

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_local": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _local=threading.local())


@contextlib.contextmanager
def opened(path: str) -> Iterator[Any]:
    """Open a raster for a moment.

    Raises
    ------
    VolumeError
        If GDAL cannot read it.
    """
    from rasterio.errors import RasterioError

    try:
        with _gdal(path), _open(path, None) as dataset:
            yield dataset
    except (RasterioError, OSError) as error:
        raise VolumeError(
            f"{path!r} cannot be read as a raster ({error}): check the path and that "
            "the file is whole"
        ) from error


def _open(path: str, overview: int | None) -> Any:
    import rasterio

    options = {} if overview is None else {"overview_level": overview}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        return rasterio.open(path, **options)


def _gdal(path: str) -> Any:
    """Settings for reading a path: none for files, patience for servers."""
    import rasterio

    if "://" not in path:
        return rasterio.Env()
    options: dict[str, Any] = {
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
        "GDAL_HTTP_MAX_RETRY": 5,
        "GDAL_HTTP_RETRY_DELAY": 0.2,
        "GDAL_HTTP_RETRY_CODES": "ALL",
        "GDAL_HTTP_CONNECTTIMEOUT": 5,
        "GDAL_HTTP_TIMEOUT": 60,
    }
    if endpoint := os.environ.get("AWS_ENDPOINT_URL"):
        parts = urlsplit(endpoint)
        options["AWS_S3_ENDPOINT"] = parts.netloc
        options["AWS_HTTPS"] = "YES" if parts.scheme == "https" else "NO"
        options["AWS_VIRTUAL_HOSTING"] = "FALSE"
    if "AWS_ACCESS_KEY_ID" not in os.environ:
        options["AWS_NO_SIGN_REQUEST"] = "YES"
    return rasterio.Env(**options)


def _levels(path: str, dataset: Any, mask: int | None) -> list[GeoArray]:
    """Full size, and the overviews that halve it; others are of no use."""
    out = [GeoArray(path, None, Bands.of(dataset, mask))]
    for number, factor in enumerate(dataset.overviews(1)):
        if factor & (factor - 1) == 0:
            with _open(path, number) as overview:
                out.append(GeoArray(path, number, Bands.of(overview, mask)))
    return out


def _no_raster(path: str, found: Sequence[str]) -> VolumeError:
    if not found:
        return VolumeError(f"{path!r} holds no raster")
    listing = "".join(f"\n  {name}" for name in found[:30])
    return SeriesError(
        f"{path!r} holds {len(found)} rasters; choose one with series=...:{listing}",
        dict.fromkeys(found, "raster"),
    )


def _default_bands(dataset: Any) -> list[int]:
    """Indices of the bands to show: marked or named as colours, else the first."""
    marks = [c.name for c in dataset.colorinterp]
    names = [(d or "").lower() for d in dataset.descriptions]
    for words in (marks, names):
        if all(words.count(colour) == 1 for colour in _COLOURS):
            return [words.index(colour) for colour in _COLOURS]
    shown = [i for i, mark in enumerate(marks) if mark != "alpha"]
    return shown[:3] if len(shown) >= 3 else shown[:1]


def _affine(transform: Any) -> np.ndarray:
    """Index (y, x) of pixel centres to world (y, x), from GDAL's corner transform."""
    t = transform
    y = [t.e, t.d, t.f + 0.5 * (t.d + t.e)]
    x = [t.b, t.a, t.c + 0.5 * (t.a + t.b)]
    return np.array([y, x, [0.0, 0.0, 1.0]])


def _spacing(transform: Any) -> dict[str, float]:
    t = transform
    return {"y": float(np.hypot(t.b, t.e)), "x": float(np.hypot(t.a, t.d))}


def _unit(crs: Any) -> str:
    if crs is None:
        return "pixel"
    if crs.is_geographic:
        return "degree"
    unit = str(crs.linear_units)
    return _UNITS.get(unit, unit)
