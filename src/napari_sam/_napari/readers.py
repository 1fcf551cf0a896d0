"""Readers of images with a place; each returns None for what is not its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_sam._napari.layer_data import LayerData

NOTHING: Any = [(None,)]
"""What a reader returns for "read, but there is nothing to show"."""
_TIFF = (".tif", ".tiff", ".btf", ".lsm", ".svs", ".ndpi", ".scn", ".qptiff")


def get_dicom_reader(path: str | list[str]) -> Callable[[Any], list[LayerData]] | None:
    """Return a reader for DICOM: a file, some slices, a folder, an archive."""
    paths = [os.fspath(path)] if isinstance(path, (str, os.PathLike)) else list(path)
    if not paths or any("://" in p for p in paths):
        return None
    from napari_sam.volume.formats.dicom_files import folder_holds_dicom, holds_dicom

    first = Path(paths[0])
    if len(paths) == 1 and first.is_dir():
        return None if _is_zarr(paths[0]) or not folder_holds_dicom(first) else _read
    return _read if all(holds_dicom(Path(p)) for p in paths) else None


def get_ome_zarr_reader(
    path: str | list[str],
) -> Callable[[Any], list[LayerData]] | None:
    """Return a reader for an OME-Zarr (or plain zarr) folder or URL."""
    one = _one(path)
    return _read if one is not None and _is_zarr(one) else None


def get_image_reader(
    path: str | list[str],
) -> Callable[[Any], list[LayerData]] | None:
    """Return a reader for TIFF, GeoTIFF, NIfTI and folders of slices, with their place.

    napari's own reader stays a choice: it shows the pixels alone.
    """
    one = _one(path)
    if one is None or "://" in one:
        return None
    from napari_sam.volume.formats.detect import is_stack

    place = Path(one)
    if place.is_dir():
        return None if _is_zarr(one) or not is_stack(place) else _read
    return _read if place.is_file() and _looks_right(place) else None


def _looks_right(path: Path) -> bool:
    """Whether a file begins as its name says; other kinds have no fixed beginning."""
    if not path.name.lower().endswith(_TIFF):
        return True
    with path.open("rb") as file:
        return file.read(2) in (b"II", b"MM")


def _read(path: str | list[str]) -> list[LayerData]:
    import napari

    from napari_sam._napari.anatomy import show_anatomy
    from napari_sam._napari.label_images import layers_of
    from napari_sam._napari.study import open_for_window

    volumes = open_for_window(_one(path) or list(path))
    layers = [layer for volume in volumes for layer in layers_of(volume)]
    viewer = napari.current_viewer()
    if viewer is not None:
        show_anatomy(viewer)
    return layers or list(NOTHING)


def _one(path: str | list[str] | os.PathLike[str]) -> str | None:
    if isinstance(path, (str, os.PathLike)):
        return os.fspath(path)
    return os.fspath(path[0]) if len(path) == 1 else None


def _is_zarr(path: str) -> bool:
    if "://" in path:
        return path.rstrip("/").endswith(".zarr")
    from napari_sam.volume.formats.detect import ZARR_FILES

    return any((Path(path) / name).exists() for name in ZARR_FILES)
