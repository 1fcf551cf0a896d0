"""Files that commands write: refused before any work where they cannot be written."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from napari_sam.cli import arguments
from napari_sam.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from napari_sam.core.planes import Plane
    from napari_sam.session import Session

SUFFIXES = (".zarr", ".tif", ".tiff", ".png", ".json", ".gpkg", ".geojson", ".fgb")
"""What results can be written as."""


def check_results(paths: Iterable[Path]) -> None:
    """Check where results are to be written, before the work is done.

    Raises
    ------
    ArgumentError
        If a suffix names no format.
    ExportError
        If a folder is missing or cannot be written, or something is in the way.
    """
    for path in paths:
        suffix = path.suffix.lower()
        arguments.one_of(suffix, SUFFIXES, "a result's suffix (--out)")
        check_target(path)
        if suffix == ".zarr" and path.expanduser().exists():
            from napari_sam.results.formats.labels import check_label_target

            check_label_target(path.expanduser())
        elif path.expanduser().is_dir():
            raise ExportError(
                f"{str(path)!r} is a folder: choose another name, or remove it first"
            )


def check_target(path: Path) -> None:
    """Check that the folder a file is to go into is there and can be written."""
    folder = path.expanduser().parent
    if not folder.is_dir():
        raise ExportError(
            f"{str(path)!r} cannot be written: there is no folder {str(folder)!r}. "
            "Make it first, or choose another"
        )
    if not os.access(folder, os.W_OK):
        raise ExportError(
            f"{str(path)!r} cannot be written: you may not write into "
            f"{str(folder)!r}. Choose another folder"
        )


def write(path: Path, session: Session, plane: Plane) -> None:
    """Write a session's labels in the format that the suffix names."""
    from napari_sam.results.formats.coco import write_coco
    from napari_sam.results.formats.labels import (
        write_ome_zarr_labels,
        write_png,
        write_tiff,
    )
    from napari_sam.results.formats.vectors import write_vectors

    suffix = path.suffix.lower()
    if suffix == ".zarr":
        write_ome_zarr_labels(path, session)
    elif suffix == ".json":
        write_coco(path, session)
    elif suffix == ".png":
        write_png(path, session, plane=plane)
    elif suffix in (".gpkg", ".geojson", ".fgb"):
        write_vectors(path, session)
    else:
        write_tiff(path, session)
