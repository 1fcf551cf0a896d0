"""Write files and folders so that they are there whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sam.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def whole(
    path: str | os.PathLike[str], *, replace_folder: bool = False
) -> Iterator[Path]:
    """Give a temporary path beside `path`; what was written there is renamed to it.

    A file that was at `path` is replaced. When the block raises, nothing is left
    behind, and what was there is as it was.

    Parameters
    ----------
    path : path-like
    replace_folder : bool
        Replace a folder that is there, too.

    Raises
    ------
    ExportError
        If the target cannot be written, or is a folder that exists and must not be
        replaced.
    """
    target = Path(path).expanduser()
    if target.is_dir() and not replace_folder:
        raise ExportError(
            f"{str(target)!r} exists: choose another name, or remove it first"
        )
    mark = uuid.uuid4().hex[:8]
    part = target.with_name(f".{target.name}.{mark}.part")
    try:
        yield part
        if target.is_dir():
            _exchange(part, target, target.with_name(f".{target.name}.{mark}.old"))
        else:
            os.replace(part, target)
    except OSError as error:
        raise ExportError(
            f"{str(target)!r} cannot be written ({error.strerror or error}): check "
            "that the folder exists, may be written and has space left"
        ) from error
    finally:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            with suppress(OSError):
                part.unlink()


def _exchange(new: Path, target: Path, aside: Path) -> None:
    """Put one folder in the place of another, which goes."""
    os.replace(target, aside)
    try:
        os.replace(new, target)
    except OSError:
        os.replace(aside, target)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def write_whole(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file, replacing an older one only once the new one is whole.

    Raises
    ------
    ExportError
        If it cannot be written.
    """
    with whole(path) as part:
        part.write_bytes(data)


def sync_folder(path: str | os.PathLike[str]) -> None:
    """Wait until the names in a folder are on the disk, where the system can."""
    try:
        folder = os.open(path, os.O_RDONLY)
    except OSError:  # Windows opens no folders, and keeps their names in order itself
        return
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def sync_tree(path: str | os.PathLike[str]) -> None:
    """Wait until a folder and all files in it are on the disk."""
    for folder, _, names in os.walk(path):
        for name in names:
            file = os.open(os.path.join(folder, name), os.O_RDWR)
            try:
                os.fsync(file)
            finally:
                os.close(file)
        sync_folder(folder)
