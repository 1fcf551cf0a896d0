"""Open any image as a `Volume`, whatever it is: a path, a URL, an array, a layer."""

from __future__ import annotations

import inspect
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import numpy as np

from napari_sam.errors import VolumeError, refused_as
from napari_sam.volume.arrays import is_zarr_group, open_array
from napari_sam.volume.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from napari_sam.core.intensity import IntensityMapping


def open_volume(
    source: Any,
    *,
    axes: str | Sequence[str] | None = None,
    channels: int | Sequence[int] | None = None,
    series: str | int | None = None,
    spacing: str | None = None,
    as_labels: bool = False,
) -> Volume:
    """Open an image of any kind and size; nothing of image size is read.

    Parameters
    ----------
    source : path, URL or array-like
        A DICOM folder, file, zip archive or DICOMDIR, a list of DICOM files, OME-Zarr
        or zarr (local, ``s3://``, ``https://``), NIfTI, TIFF or OME-TIFF, PNG or JPG;
        or a numpy, dask or zarr array, a list of arrays (a pyramid, finest first), an
        xarray DataArray, a napari layer, a Volume.
    axes : str or sequence of str, optional
        One name for each axis of the stored array, such as "czyx", where the format
        does not say or says it wrongly. "c" (or "s") is the channel axis.
    channels : int or sequence of int, optional
        Channels to keep, in this order.
    series : str or int, optional
        Which series of a folder or file: a DICOM SeriesInstanceUID or series number
        (``201:2`` for the second of that number), the number of an OME-TIFF series, the
        path of an image inside a zarr group.
    spacing : {"resample", "positions"}, optional
        What becomes of DICOM slices at uneven distances, which are refused without it:
        planes at even distances, interpolated between the slices, or the slices as they
        are stored, with their places in ``metadata["slice_positions_mm"]``. It changes
        nothing about even slices.
    as_labels : bool
        Whether the pixels are numbers of objects: the indices of a palette are read
        then, not its colours. Only files and URLs are read otherwise by it.

    Raises
    ------
    VolumeError
        If the source cannot be opened.
    SeriesError
        If the source holds several series; its `series` lists them.
    SpacingError
        If slices lie at uneven distances and `spacing` is not given.

    Examples
    --------
    >>> import numpy as np
    >>> cells = np.zeros((3, 64, 48), np.uint8)
    >>> volume = open_volume(cells, axes="cyx", channels=[0, 2])
    >>> volume.shape, volume.n_channels
    ((64, 48), 2)
    """
    if isinstance(source, Volume):
        if axes is None and channels is None and series is None and spacing is None:
            return source
        if source.recipe is None:
            return open_volume(
                list(source.levels) if len(source.levels) > 1 else source.levels[0],
                axes=axes, channels=channels, series=series,
            )  # fmt: skip
        source = source.recipe["source"]
    if isinstance(source, (str, os.PathLike)) or _is_files(source):
        options = {
            "axes": axes, "channels": channels, "series": series,
            "spacing": spacing, "as_labels": as_labels,
        }  # fmt: skip
        if isinstance(source, (str, os.PathLike)):
            opened = _open_path(os.fspath(source), options)
            place: Any = opened.source
        else:
            place = [str(Path(p).expanduser().absolute()) for p in source]
            opened = _open_files(place, options)
        recipe = {
            "source": place,
            "axes": axes if axes is None or isinstance(axes, str) else list(axes),
            "channels": None if channels is None else [int(c) for c in _list(channels)],
            "series": series,
            **({} if spacing is None else {"spacing": spacing}),
            **({"as_labels": True} if as_labels else {}),
        }
        return replace(opened, recipe=recipe, reopen=reopen)
    if series is not None:
        raise VolumeError("series= chooses inside a folder or file; this is an array")
    if is_zarr_group(source):
        from napari_sam.volume.formats.ome_zarr import open_group

        return open_group(source, axes=axes, channels=channels)
    return open_array(source, axes=axes, channels=channels)


def _list(given: int | Sequence[int]) -> Sequence[int]:
    return [given] if isinstance(given, (int, np.integer)) else given


def _is_files(source: Any) -> bool:
    return (
        isinstance(source, (list, tuple))
        and len(source) > 0
        and all(isinstance(p, (str, os.PathLike)) for p in source)
    )


def _open_files(paths: list[str], options: dict[str, Any]) -> Volume:
    """Open some slices of a DICOM series, or one file of any kind."""
    if len(paths) == 1:
        return _open_path(paths[0], options)
    missing = [p for p in paths if not Path(p).is_file()]
    if missing:
        raise VolumeError(
            "a list of paths is opened as slices of one DICOM series, so each has to "
            f"be a file; {missing[0]!r} is none"
        )
    from napari_sam.volume.formats.detect import load_opener

    with _opening(f"{paths[0]!r} and {len(paths) - 1} more files"):
        return _opened(load_opener("dicom", "open_dicom"), paths, options)


def _open_path(path: str, options: dict[str, Any]) -> Volume:
    if path.startswith("file://"):
        path = unquote(path.removeprefix("file://"))
    remote, given = "://" in path, path.strip()
    if not remote:
        path = str(Path(path).expanduser().absolute())
        if not given or "\0" in path or not os.path.exists(path):
            raise VolumeError(f"there is no file or folder {path!r}: check the path")
    from napari_sam.volume.formats.detect import opener_for, opener_for_url

    with _opening(repr(path)):
        opener = opener_for_url(path) if remote else opener_for(Path(path))
        return _opened(opener, path, options)


def _opening(what: str) -> AbstractContextManager[None]:
    return refused_as(
        VolumeError, f"{what} cannot be opened",
        "check that it is whole and of the kind that its name says",
    )  # fmt: skip


def _opened(opener: Callable[..., Any], source: Any, options: dict[str, Any]) -> Volume:
    """Call an opener with those options that its format knows."""
    known = inspect.signature(opener).parameters
    volume: Volume = opener(source, **{k: v for k, v in options.items() if k in known})
    return volume


def reopen(recipe: dict[str, Any], mapping: IntensityMapping | None) -> Volume:
    """Open what a recipe names; how a pickled volume comes back."""
    volume = open_volume(**recipe)
    return volume if mapping is None else replace(volume, mapping=mapping)
