"""Files that commands write: refused before any work where they cannot be written."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from napari_sam.errors import ExportError
from napari_sam.results.registry import check_holds, format_for

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from napari_sam.core.planes import Plane
    from napari_sam.session import Session
    from napari_sam.volume.volume import Volume


def check_results(
    paths: Iterable[Path], name: str | None = None, *, overwrite: bool = False
) -> None:
    """Check where results are to be written, before the work is done.

    Raises
    ------
    ExportError
        If a suffix names no format, a package is missing, a folder is missing or cannot
        be written, or something is in the way.
    """
    for path in paths:
        chosen = format_for(path, name)
        chosen.load()
        check_target(path)
        if not path.expanduser().is_dir():
            continue
        if chosen.name == "ome_zarr":
            from napari_sam.results.formats.ome_zarr import check_label_target

            check_label_target(path.expanduser(), overwrite=overwrite)
        else:
            raise ExportError(
                f"{str(path)!r} is a folder: choose another name, or remove it first"
            )


def check_planes(paths: Iterable[Path], volume: Volume) -> None:
    """Check that the results can hold all planes of a volume, before the work is done.

    Raises
    ------
    ExportError
        If one cannot; the message names formats that can.
    """
    for path in paths:
        try:
            check_holds(format_for(path), volume)
        except ExportError as error:
            raise ExportError(f"{str(path)!r}: {error}") from None


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


def write(
    path: Path,
    session: Session,
    plane: Plane | None = None,
    *,
    name: str | None = None,
    **options: Any,
) -> list[str]:
    """Write a session's labels; formats of one plane get the one that is given.

    Returns
    -------
    list of str
        What the file does not hold.
    """
    flat = "volume" not in format_for(path, name).holds
    return session.export(path, name, plane=plane if flat else None, **options)
