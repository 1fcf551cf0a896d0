"""The files of a DICOM study: in folders, in zip archives, listed by a DICOMDIR."""

from __future__ import annotations

import io
import struct
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from napari_sam.core.short_reads import ShortReads
from napari_sam.errors import VolumeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SUFFIXES = (".dcm", ".dicom", ".ima")
"""Files of these names are tried even where their beginning says nothing."""
MEMBER = "!/"
"""Stands between the path of a zip archive and the name of a file inside it."""
OTHERS = (
    ".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".txt", ".xml", ".json",
    ".csv", ".pdf", ".html", ".nii", ".gz", ".npy",
)  # fmt: skip
"""Suffixes of files that are no DICOM, as a rule."""
MOST_ENTRIES, MOST_LOOKED_AT = 20_000, 50
"""Entries of a folder, and files of other suffixes, among which DICOM is looked for."""
MOST_FILES = 500_000
LARGEST_MEMBER = 8 << 30
LARGEST_RATIO = 200
"""Unpacked bytes for each packed byte, from which on a member is taken for a bomb."""
_NOT_BIG = 64 << 20

Skipped = tuple[str, str]
"""(file, reason) of what was passed over."""


@dataclass(slots=True)
class FileList:
    """Files that may be DICOM, and those that are passed over with the reason."""

    paths: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def list_files(where: Path) -> FileList:
    """List the files below a folder, in an archive, of a DICOMDIR, or the file itself.

    Raises
    ------
    VolumeError
        If an archive or a DICOMDIR is damaged, or holds too many files.
    """
    if where.is_dir():
        return _folder(where)
    if where.name.upper().startswith("DICOMDIR"):
        return _dicomdir(where)
    if is_zip(where):
        return _archive(where)
    return FileList([str(where)])


def is_zip(path: Path) -> bool:
    """Whether a file begins like a zip archive."""
    try:
        with path.open("rb") as file:
            return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    except OSError:
        return False


def holds_dicom(path: Path) -> bool:
    """Whether a file is DICOM, a DICOMDIR, or a zip archive with DICOM files in it."""
    if not is_zip(path):
        return path.is_file() and looks_like_dicom(str(path))
    try:
        return any(looks_like_dicom(p) for p in _archive(path).paths[:200])
    except VolumeError:
        return False


def folder_holds_dicom(folder: Path) -> bool:
    """Whether any of the first files of a folder of any nesting is DICOM.

    Files with the suffixes of other images come last: previews often lie before the
    slices.
    """
    later: list[str] = []
    for n, path in enumerate(folder.rglob("*")):
        if n > MOST_ENTRIES:
            break
        if not path.is_file():
            continue
        if path.suffix.lower() in OTHERS:
            later.append(str(path))
        elif looks_like_dicom(str(path)):
            return True
    return any(looks_like_dicom(p) for p in later[:MOST_LOOKED_AT])


@contextmanager
def open_file(path: str) -> Iterator[BinaryIO]:
    """Open a file for reading, also one inside a zip archive (``a.zip!/b/c``).

    Raises
    ------
    OSError
        If it cannot be opened.
    """
    archive, mark, member = path.partition(MEMBER)
    if not mark or Path(path).exists():
        with ShortReads(path) as file:
            yield file
        return
    try:
        with zipfile.ZipFile(archive) as zipped, zipped.open(member) as inner:
            yield inner  # type: ignore[misc]
    except (zipfile.BadZipFile, KeyError, RuntimeError, NotImplementedError) as error:
        raise OSError(f"{path}: {error}") from error


def read_whole(path: str) -> BinaryIO:
    """Return a file that can be sought in: itself, or a copy in memory of a member."""
    if MEMBER not in path or Path(path).exists():
        return ShortReads(path)
    with open_file(path) as file:
        return io.BytesIO(file.read())


def size_of(path: str) -> int:
    """Bytes of a file, unpacked."""
    archive, mark, member = path.partition(MEMBER)
    if not mark or Path(path).exists():
        return Path(path).stat().st_size
    with zipfile.ZipFile(archive) as zipped:
        return zipped.getinfo(member).file_size


def looks_like_dicom(path: str) -> bool:
    """Whether a file begins like DICOM: with its mark, or with a plausible element."""
    try:
        with open_file(path) as file:
            start = file.read(132)
    except OSError:
        return False
    return start[128:132] == b"DICM" or _is_element(start)


def _is_element(start: bytes) -> bool:
    """Whether the first bytes are an element of group 2 or 8, in any encoding."""
    if len(start) < 16:
        return False
    for order in "<>":
        group, element = struct.unpack(f"{order}HH", start[:4])
        if group not in (0x0002, 0x0008) or element > 0x2200:
            continue
        explicit = start[4:6].isalpha() and start[4:6].isupper()
        length = struct.unpack(f"{order}I", start[4:8])[0]
        if explicit or (order == "<" and length <= 256 and length % 2 == 0):
            return True
    return False


def _folder(where: Path) -> FileList:
    found = FileList()
    for path in sorted(where.rglob("*")):
        if len(found.paths) >= MOST_FILES:
            raise VolumeError(
                f"{str(where)!r} holds more than {MOST_FILES} files: choose the folder "
                "of one study"
            )
        if path.name.upper() != "DICOMDIR" and path.is_file():
            found.paths.append(str(path))
    return found


def _archive(where: Path) -> FileList:
    found = FileList()
    try:
        with zipfile.ZipFile(where) as zipped:
            infos = [i for i in zipped.infolist() if not i.is_dir()]
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        raise VolumeError(f"{str(where)!r} is no whole zip archive: {error}") from error
    if len(infos) > MOST_FILES:
        raise VolumeError(f"{str(where)!r} holds more than {MOST_FILES} files")
    for info in sorted(infos, key=lambda i: i.filename):
        reason = _danger(info)
        if reason:
            found.skipped.append((info.filename, reason))
        elif PurePosixPath(info.filename).name.upper() != "DICOMDIR":
            found.paths.append(f"{where}{MEMBER}{info.filename}")
    return found


def _danger(info: zipfile.ZipInfo) -> str:
    name = info.filename.replace("\\", "/")
    if name.startswith("/") or ".." in name.split("/") or name[1:2] == ":":
        return "its name leads out of the archive"
    if info.flag_bits & 1:
        return "it is encrypted: unpack the archive with its password first"
    packed = max(1, info.compress_size)
    big = info.file_size > _NOT_BIG and info.file_size > LARGEST_RATIO * packed
    if big or info.file_size > LARGEST_MEMBER:
        return (
            f"it would unpack from {info.compress_size} to {info.file_size} bytes, as "
            "no image does"
        )
    return ""


def _dicomdir(where: Path) -> FileList:
    import pydicom

    try:
        with ShortReads(where) as file:
            ds = pydicom.dcmread(file, force=False)
            records = list(ds.get("DirectoryRecordSequence") or [])
    except Exception as error:
        raise VolumeError(
            f"{str(where)!r} is no whole DICOMDIR ({error}): open its folder instead"
        ) from error
    found = FileList()
    for record in records:
        value = record.get("ReferencedFileID")
        if not value:
            continue
        parts = [value] if isinstance(value, str) else [str(v) for v in value]
        inside = _inside(where.parent, parts)
        if inside is None:
            found.skipped.append(("/".join(parts), "listed in DICOMDIR, but not there"))
        else:
            found.paths.append(str(inside))
    return found


def _inside(root: Path, parts: Sequence[str]) -> Path | None:
    """Find a listed file below a folder, whatever the case of its name."""
    here = root
    for part in parts:
        if part in ("", ".", "..") or "/" in part or "\\" in part:
            return None
        exact = here / part
        if exact.exists():
            here = exact
            continue
        if not here.is_dir():
            return None
        names = (p for p in here.iterdir() if p.name.upper() == part.upper())
        other = next(names, None)
        if other is None:
            return None
        here = other
    return here if here.is_file() else None
