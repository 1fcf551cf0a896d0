"""Readers of DICOM and OME-Zarr; each returns None for what is not its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sam.errors import SeriesError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from napari_sam._napari.layer_data import LayerData

MOST_SERIES = 8
"""Series of one folder that are opened together."""
_LOOKED_AT = 32
"""Files of a folder that are looked at to see whether it holds DICOM."""


def get_dicom_reader(path: str | list[str]) -> Callable[[Any], list[LayerData]] | None:
    """Return a reader for a DICOM file or a folder of them."""
    one = _one(path)
    if one is None or "://" in one:
        return None
    place = Path(one)
    if place.is_dir():
        return None if _is_zarr(one) or not _holds_dicom(place) else _read
    return _read if _is_dicom(place) else None


def get_ome_zarr_reader(
    path: str | list[str],
) -> Callable[[Any], list[LayerData]] | None:
    """Return a reader for an OME-Zarr (or plain zarr) folder or URL."""
    one = _one(path)
    return _read if one is not None and _is_zarr(one) else None


def _read(path: str | list[str]) -> list[LayerData]:
    from napari_sam._napari.layer_data import layer_data
    from napari_sam.volume.opening import open_volume

    one = _one(path)
    assert one is not None
    try:
        volumes = [open_volume(one)]
    except SeriesError as error:
        if not 1 <= len(error.series) <= MOST_SERIES:
            raise
        volumes = [open_volume(one, series=key) for key in error.series]
    return [layer for volume in volumes for layer in layer_data(volume)]


def _one(path: str | list[str] | os.PathLike[str]) -> str | None:
    if isinstance(path, (str, os.PathLike)):
        return os.fspath(path)
    return os.fspath(path[0]) if len(path) == 1 else None


def _is_zarr(path: str) -> bool:
    if "://" in path:
        return path.rstrip("/").endswith(".zarr")
    from napari_sam.volume.formats.detect import ZARR_FILES

    return any((Path(path) / name).exists() for name in ZARR_FILES)


def _holds_dicom(folder: Path) -> bool:
    """Whether any of a folder's first files is DICOM, also one folder further down."""
    return any(_is_dicom(path) for path in _first_files(folder, _LOOKED_AT))


def _first_files(folder: Path, n: int) -> Iterable[Path]:
    entries = sorted(folder.iterdir())
    files = [path for path in entries if path.is_file()]
    if not files:
        folders = (path for path in entries[:n] if path.is_dir())
        files = [p for inner in folders for p in sorted(inner.iterdir())[:n]]
    return [path for path in files if path.is_file()][:n]


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False
