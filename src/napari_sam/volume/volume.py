"""Volume: an image of any size as a value: lazy pixels, axes, spacing, affine."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.planes import Plane
from napari_sam.core.tiles import Window, level_shape, zoom_for
from napari_sam.core.urls import is_url
from napari_sam.errors import VolumeError, refused_as
from napari_sam.volume.pyramid import (
    CoarseBlocks,
    best_level,
    read_window,
    spatial_shape,
)
from napari_sam.volume.resample import is_sampled, read_level, read_sampled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from napari_sam.core.intensity import IntensityMapping
    from napari_sam.core.tiles import Zoom
    from napari_sam.volume.lazy_arrays import Array


@dataclass(frozen=True, eq=False, repr=False)
class Volume:
    """An image of any size, read only where it is looked at.

    Made by `open_volume`. Volumes of a path or URL are cheap to pickle: they are
    opened again where they arrive.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_sam.volume.opening import open_volume
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
    reopen: Callable[[dict[str, Any], IntensityMapping | None], Volume] | None = None
    """Opens `recipe` again where a pickled volume arrives; None for memory."""

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

    @property
    def is_remote(self) -> bool:
        """Whether the data lies on a server."""
        return is_url(self.source)

    @cached_property
    def in_memory(self) -> bool:
        """Whether the pixels are numpy arrays, which their owner may change."""
        array: Any = self.levels[0]
        while not isinstance(array, np.ndarray) and hasattr(array, "base"):
            array = array.base  # a view with other axes or channels
        return isinstance(array, np.ndarray)

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
        from napari_sam.volume.identity import default_intensity

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
        block by block. Levels below 0, and windows with another `Window.zoom` than
        (1, 1), are interpolated.

        Returns
        -------
        ndarray, (h, w) or (h, w, C), of `dtype`

        Raises
        ------
        VolumeError
            If the window leaves the plane, or the pixels cannot be read.
        """
        plane = Plane.of(self.shape, plane)
        shape = plane.shape(self.shape)
        h, w = level_shape(shape, window.level, window.zoom)
        y0, x0, y1, x1 = window.bbox
        if y0 < 0 or x0 < 0 or y1 > h or x1 > w:
            raise VolumeError(
                f"window (y0, x0, y1, x1) = {window.bbox} leaves the plane, which has "
                f"{h} x {w} pixels at level {window.level}"
            )
        with _reading(self):
            if is_sampled(window):
                return read_sampled(lambda w: self._read(plane, w), window, shape)
            return self._read(plane, window)

    def _read(self, plane: Plane, window: Window) -> np.ndarray:
        return read_window(self.levels, self.channel_axis, plane, window, self._coarse)

    def pixels_read(self, plane: Plane, window: Window) -> int:
        """Count the pixels of the data that reading a window takes, about.

        A level that the data does not have is averaged from a finer one, and each level
        in between takes four times as many pixels.
        """
        level = read_level(window)
        _, own = best_level(self.levels, self.channel_axis, plane, level)
        y, x = window.step
        return int(window.h * window.w * y * x / 4.0**own)

    def zoom(self, axis: int = 0) -> Zoom:
        """How often each axis of the planes is sampled, so that a model sees squares.

        Other than (1, 1) where the two axes lie in space, have one unit and unequal
        spacing, such as the coronal planes of a CT scan of thick slices.

        Parameters
        ----------
        axis : int
            Sliced axis among the last three.
        """
        y, x = Plane.of(self.shape, 0, axis=axis).shown_axes()
        in_space = {self.axes[y], self.axes[x]} <= {"z", "y", "x"}
        if not in_space or self.units[y] != self.units[x]:
            return 1.0, 1.0
        return zoom_for((self.spacing[y], self.spacing[x]))

    @cached_property
    def _coarse(self) -> CoarseBlocks | None:
        # An array in memory may be changed by its owner at any time.
        return None if self.in_memory else CoarseBlocks()

    def identity(self) -> dict[str, Any]:
        """Tell this image from others without reading it whole.

        The path is left out except for its last part, so that data may move. The hash
        covers every pixel of images up to 4 MB, and a few small windows at fixed places
        of larger ones. Those it may confuse: whoever keeps something for an image
        compares its pixels, as embedding stores do.
        """
        return dict(self._identity)

    @cached_property
    def _identity(self) -> dict[str, Any]:
        from napari_sam.volume.identity import sample_hash

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
        if self.recipe is None or self.reopen is None:
            names = self.__dataclass_fields__
            return _rebuild, ({n: getattr(self, n) for n in names},)
        return self.reopen, (self.recipe, self.mapping)

    def __repr__(self) -> str:
        pairs = zip(self.axes, self.shape, strict=True)
        sizes = ", ".join(f"{a}={n}" for a, n in pairs)
        more = f", {self.n_channels} channels" if self.n_channels > 1 else ""
        return f"<Volume {self.name!r} ({sizes}{more}) {self.dtype}>"


def _last_part(source: str) -> str:
    return source.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1]


def _reading(volume: Volume) -> AbstractContextManager[None]:
    """Turn failures of a format's reader into one error that names the image."""
    return refused_as(
        VolumeError, f"pixels of {volume.name!r} cannot be read",
        "check that the file is whole and the storage reachable",
    )  # fmt: skip


def _rebuild(fields: dict[str, Any]) -> Volume:
    return Volume(**fields)
