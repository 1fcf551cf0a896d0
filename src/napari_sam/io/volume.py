"""Open any image as a `Volume`: lazy pixels, axes, spacing, affine, intensity."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.planes import Plane
from napari_sam.core.tiles import Window
from napari_sam.errors import NapariSamError, VolumeError
from napari_sam.io.pyramid import CoarseBlocks, read_window, spatial_shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sam.core.intensity import IntensityMapping
    from napari_sam.io.views import Array


@dataclass(frozen=True, eq=False, repr=False)
class Volume:
    """An image of any size, read only where it is looked at.

    Made by `open_volume`. Volumes of a path or URL are cheap to pickle: they are
    opened again where they arrive.

    Examples
    --------
    >>> import numpy as np
    >>> volume = open_volume(np.zeros((5, 64, 48), np.uint16))
    >>> volume.axes, volume.shape
    (('z', 'y', 'x'), (5, 64, 48))
    >>> volume.plane(2).shape
    (64, 48)
    """

    levels: tuple[Array, ...]
    """The data's own pyramid, finest first; axes as in `axes`, with `channel_axis`."""
    axes: tuple[str, ...]
    """Names of the spatial and leading axes, ("y", "x") last, without channels."""
    spacing: tuple[float, ...]
    """Distance of neighbouring pixels on each of `axes`, in `units`."""
    units: tuple[str, ...]
    """Unit of each of `axes`: "micrometer", "millimeter", "second", "pixel", ..."""
    affine: np.ndarray
    """(n + 1, n + 1): index to world, both in the order of `axes`."""
    channel_axis: int | None = None
    """Channel axis of the levels; None for one channel."""
    channels: tuple[int, ...] | None = None
    """Indices of the chosen channels in the source; None: all there are."""
    channel_names: tuple[str, ...] = ()
    """Names of the channels left after the choice, where known."""
    rgb: bool = False
    """Whether the channels are red, green and blue."""
    name: str = "image"
    source: str | None = None
    """Path or URL; None for data in memory."""
    crs: str | None = None
    """Coordinate reference system of the world, as text, for geographic images."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """What else the format said; keys depend on the format."""
    mapping: IntensityMapping | None = None
    """Intensity given by the caller or the format; None: `intensity` samples one."""
    inverted: bool = False
    """Whether low values are white, as in DICOM's MONOCHROME1."""
    recipe: dict[str, Any] | None = None
    """Arguments of `open_volume` that open the same volume, as JSON holds them; None
    for memory."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape without channels: (y, x), (z, y, x) or (t, ..., z, y, x)."""
        return spatial_shape(self.levels[0], self.channel_axis)

    @property
    def ndim(self) -> int:
        """Number of axes without channels."""
        return len(self.axes)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the raw values."""
        dtype: np.dtype[Any] = np.dtype(self.levels[0].dtype)
        return dtype

    @property
    def n_channels(self) -> int:
        """Channels after the choice; 1 for an image without a channel axis."""
        axis = self.channel_axis
        return 1 if axis is None else self.levels[0].shape[axis]

    @cached_property
    def intensity(self) -> IntensityMapping:
        """Default mapping: the format's own, else percentiles of a fixed sample.

        Raises
        ------
        IntensityError
            If every sampled pixel is NaN or infinite.
        """
        if self.mapping is not None:
            return self.mapping
        from napari_sam.io.sampling import default_intensity

        with _reading(self):
            found = default_intensity(
                self.levels, self.channel_axis,
                rgb=self.rgb, nodata=self.metadata.get("nodata"),
            )  # fmt: skip
        return replace(found, invert=self.inverted)

    def with_intensity(self, mapping: IntensityMapping | tuple[float, float]) -> Volume:
        """Return the same volume with another default mapping, or (low, high)."""
        if isinstance(mapping, tuple):
            mapping = self.intensity.with_window(*mapping)
        return replace(self, mapping=mapping)

    def plane(
        self, index: int | Sequence[int] | Plane = 0, axis: int = 0
    ) -> np.ndarray:
        """Read one whole plane at level 0.

        Parameters
        ----------
        index : int, sequence of int or Plane
            Which plane; see `Plane.of`.
        axis : int
            Sliced axis among the last three.

        Returns
        -------
        ndarray, (h, w) or (h, w, C)
            Raw values.
        """
        plane = Plane.of(self.shape, index, axis=axis)
        return self.read(plane, Window(0, 0, 0, *plane.shape(self.shape)))

    def read(self, plane: Plane, window: Window) -> np.ndarray:
        """Read raw values of a window of a plane at pyramid level `window.level`.

        Levels that the data does not have are averaged from the nearest finer one,
        block by block.

        Returns
        -------
        ndarray, (h, w) or (h, w, C), of `dtype`

        Raises
        ------
        VolumeError
            If the window leaves the plane, or the pixels cannot be read.
        """
        plane = Plane.of(self.shape, plane)
        h, w = (-(-n // window.scale) for n in plane.shape(self.shape))
        y0, x0, y1, x1 = window.bbox
        if y0 < 0 or x0 < 0 or y1 > h or x1 > w:
            raise VolumeError(
                f"window (y0, x0, y1, x1) = {window.bbox} leaves the plane, which has "
                f"{h} x {w} pixels at level {window.level}"
            )
        with _reading(self):
            return read_window(
                self.levels, self.channel_axis, plane, window, self._coarse
            )

    @cached_property
    def _coarse(self) -> CoarseBlocks | None:
        # An array in memory may be changed by its owner at any time.
        memory = isinstance(self.levels[0], np.ndarray)
        return None if memory else CoarseBlocks()

    def identity(self) -> dict[str, Any]:
        """Tell this image from others without reading it whole.

        The path is left out except for its last part, so that data may move. The
        hash covers a few small windows at fixed places.
        """
        return dict(self._identity)

    @cached_property
    def _identity(self) -> dict[str, Any]:
        from napari_sam.io.sampling import sample_hash

        with _reading(self):
            sample = sample_hash(self.levels[0], self.channel_axis)
        return {
            "uri": None if self.source is None else _last_part(self.source),
            "shape": list(self.shape),
            "axes": list(self.axes),
            "dtype": self.dtype.newbyteorder("=").name,
            "channels": None if self.channels is None else list(self.channels),
            "sample_sha256": sample,
        }

    def __reduce__(self) -> Any:
        if self.recipe is None:
            names = self.__dataclass_fields__
            return _rebuild, ({n: getattr(self, n) for n in names},)
        return _reopen, (self.recipe, self.mapping)

    def __repr__(self) -> str:
        pairs = zip(self.axes, self.shape, strict=True)
        sizes = ", ".join(f"{a}={n}" for a, n in pairs)
        more = f", {self.n_channels} channels" if self.n_channels > 1 else ""
        return f"<Volume {self.name!r} ({sizes}{more}) {self.dtype}>"


def open_volume(
    source: Any,
    *,
    axes: str | Sequence[str] | None = None,
    channels: int | Sequence[int] | None = None,
    series: str | int | None = None,
) -> Volume:
    """Open an image of any kind and size; nothing of image size is read.

    Parameters
    ----------
    source : path, URL or array-like
        A DICOM folder or file, OME-Zarr or zarr (local, ``s3://``, ``https://``),
        NIfTI, TIFF or OME-TIFF, PNG or JPG; or a numpy, dask or zarr array, a list of
        arrays (a pyramid, finest first), an xarray DataArray, a napari layer, a Volume.
    axes : str or sequence of str, optional
        One name for each axis of the stored array, such as "czyx", where the format
        does not say or says it wrongly. "c" (or "s") is the channel axis.
    channels : int or sequence of int, optional
        Channels to keep, in this order.
    series : str or int, optional
        Which series of a folder or file: a DICOM SeriesInstanceUID, the number of an
        OME-TIFF series, the path of an image inside a zarr group.

    Raises
    ------
    VolumeError
        If the source cannot be opened.
    SeriesError
        If the source holds several series; its `series` lists them.

    Examples
    --------
    >>> import numpy as np
    >>> cells = np.zeros((3, 64, 48), np.uint8)
    >>> volume = open_volume(cells, axes="cyx", channels=[0, 2])
    >>> volume.shape, volume.n_channels
    ((64, 48), 2)
    """
    if isinstance(source, Volume):
        if axes is None and channels is None and series is None:
            return source
        if source.recipe is None:
            return open_volume(
                list(source.levels) if len(source.levels) > 1 else source.levels[0],
                axes=axes, channels=channels, series=series,
            )  # fmt: skip
        source = source.recipe["source"]
    if isinstance(source, (str, os.PathLike)):
        opened = _open_path(os.fspath(source), axes, channels, series)
        recipe = {
            "source": opened.source,
            "axes": axes if axes is None or isinstance(axes, str) else list(axes),
            "channels": None if channels is None else [int(c) for c in _list(channels)],
            "series": series,
        }
        return replace(opened, recipe=recipe)
    from napari_sam.io.arrays import open_array

    if series is not None:
        raise VolumeError("series= chooses inside a folder or file; this is an array")
    return open_array(source, axes=axes, channels=channels)


def _list(given: int | Sequence[int]) -> Sequence[int]:
    return [given] if isinstance(given, (int, np.integer)) else given


def _open_path(path: str, axes: Any, channels: Any, series: Any) -> Volume:
    if path.startswith("file://"):
        path = path.removeprefix("file://")
    options = {"axes": axes, "channels": channels, "series": series}
    if "://" in path:
        from napari_sam.io.formats import opener_for_url

        remote: Volume = opener_for_url(path)(path, **options)
        return remote
    local = Path(path).expanduser().absolute()
    if not local.exists():
        raise VolumeError(f"there is no file or folder {str(local)!r}: check the path")
    from napari_sam.io.formats import opener_for

    try:
        opened: Volume = opener_for(local)(str(local), **options)
        return opened
    except OSError as error:
        raise VolumeError(f"cannot read {str(local)!r}: {error}") from error


def _last_part(source: str) -> str:
    return source.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1]


class _reading:
    """Turn failures of a format's reader into one error that names the image."""

    def __init__(self, volume: Volume) -> None:
        self.volume = volume

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        failures = (OSError, ValueError, RuntimeError, LookupError, ImportError)
        if isinstance(error, failures) and not isinstance(error, NapariSamError):
            raise VolumeError(
                f"pixels of {self.volume.name!r} cannot be read "
                f"({type(error).__name__}: {error}): check that the file is whole and "
                "the storage reachable"
            ) from error


def _rebuild(fields: dict[str, Any]) -> Volume:
    return Volume(**fields)


def _reopen(recipe: dict[str, Any], mapping: IntensityMapping | None) -> Volume:
    volume = open_volume(**recipe)
    return volume if mapping is None else replace(volume, mapping=mapping)
