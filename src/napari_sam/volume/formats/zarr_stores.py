"""zarr stores of files that are not trusted: no way out, no bombs, no code."""

from __future__ import annotations

import math
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zarr.storage import LocalStore, ZipStore

from napari_sam.core.memory import available_bytes, readable_size
from napari_sam.errors import SeriesError, VolumeError
from napari_sam.volume.formats.detect import ZARR_FILES

if TYPE_CHECKING:
    from collections.abc import Iterable

METADATA_BYTES = 64 << 20
"""Longest metadata document that is read."""
_BOMB_BYTES, _BOMB_RATIO = 64 << 20, 100
"""Size and compression from which on an entry of a zip is taken for a bomb."""
_CHUNK_BYTES, _MOST_PACKED = 128 << 20, 5000
"""Bytes any chunk may unpack to, and how many a byte of a larger one may."""
_MOST_IN_SHARD = 1 << 20
_METADATA = (*ZARR_FILES, ".zmetadata")


def is_inside(path: str) -> bool:
    """Whether the path of a node or file in a zarr stays in it."""
    parts = path.strip("/").split("/")
    return not path.startswith(("/", "\\")) and all(
        part not in ("", ".", "..") and "\\" not in part and ":" not in part
        for part in parts
    )


class ContainedStore(LocalStore):
    """A folder whose links lead nowhere else.

    Links to other places inside the zarr are followed, and those of git-annex into
    its own repository.

    Parameters
    ----------
    root : Path or str
    read_only : bool
    """

    def __init__(self, root: Path | str, *, read_only: bool = True) -> None:
        super().__init__(root, read_only=read_only)
        home = _outermost(Path(os.path.realpath(root)))
        self._home, self._parents = str(home), tuple(home.parents)
        self._folders: dict[str, str] = {}

    async def get(self, key: str, *args: Any, **options: Any) -> Any:
        """Read a value, or a part of it; None if there is none."""
        self._check(key)
        return _checked(key, await super().get(key, *args, **options))

    async def get_partial_values(
        self, prototype: Any, key_ranges: Iterable[Any]
    ) -> Any:
        """Read parts of several values."""
        wanted = list(key_ranges)
        for key, _ in wanted:
            self._check(key)
        values = await super().get_partial_values(prototype, wanted)
        return [_checked(k, v) for (k, _), v in zip(wanted, values, strict=True)]

    async def exists(self, key: str) -> bool:
        """Whether there is a value."""
        self._check(key)
        return await super().exists(key)

    def _check(self, key: str) -> None:
        place = os.path.join(self.root, key)
        real = self._resolved(place)
        if not _is_below(real, self._home) and not self._is_annexed(real):
            raise VolumeError(
                f"{place!r} leads out of its zarr, to {real!r}: it was refused. "
                "Copy the zarr with its links resolved (cp -rL) if you trust it"
            )
        if key.rsplit("/", 1)[-1] in _METADATA and os.path.isfile(real):
            _check_metadata(place, os.path.getsize(real))

    def _resolved(self, place: str) -> str:
        """Follow links; folders, of which many chunks share one, only once."""
        folder, name = os.path.split(place)
        if name in ("", ".", "..") or os.path.islink(place):
            return os.path.realpath(place)
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        return os.path.join(self._folders[folder], name)

    def _is_annexed(self, real: str) -> bool:
        annexes = (parent / ".git" / "annex" / "objects" for parent in self._parents)
        return any(_is_below(real, str(annex)) for annex in annexes)


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


class ZippedStore(ZipStore):
    """A zip file whose values claim no more than they can hold."""

    async def get(self, key: str, *args: Any, **options: Any) -> Any:
        """Read a value, or a part of it; None if there is none."""
        return _checked(key, await super().get(key, *args, **options))


def _checked(key: str, value: Any) -> Any:
    """Refuse a compressed chunk whose header makes its codec allocate without end."""
    if value is None or len(value) < 16:
        return value
    size, head = len(value), value[:16].to_bytes()
    claimed = _claimed(head, size)
    if claimed > _CHUNK_BYTES and claimed > _MOST_PACKED * size:
        raise VolumeError(
            f"the chunk {key!r} would unpack to {readable_size(claimed)} from "
            f"{readable_size(size)}: it is damaged, or made to fill the memory"
        )
    return value


def _claimed(head: bytes, size: int) -> int:
    """Size that the first 16 bytes of a Blosc or Zstandard frame name, or 0."""
    if head[0] in (1, 2) and int.from_bytes(head[12:16], "little") == size:
        return int.from_bytes(head[4:8], "little")
    if head[:4] != b"\x28\xb5\x2f\xfd":
        return 0
    flags = head[4]
    width = (0, 2, 4, 8)[flags >> 6] or (1 if flags & 32 else 0)
    at = 5 + (0 if flags & 32 else 1) + (0, 1, 2, 4)[flags & 3]
    return int.from_bytes(head[at : at + width], "little")


def _outermost(folder: Path) -> Path:
    """Return the zarr that a node on the disk lies in, itself or above it."""
    while any((folder.parent / name).is_file() for name in ZARR_FILES):
        folder = folder.parent
    return folder


def _check_metadata(name: str, size: int) -> None:
    if size > METADATA_BYTES:
        raise VolumeError(
            f"{name!r} takes {readable_size(size)}, more than any metadata of a zarr: "
            "it was refused"
        )


def open_zip(path: str) -> tuple[ZippedStore, str]:
    """Open a zipped zarr.

    Parameters
    ----------
    path : str

    Returns
    -------
    store : ZippedStore
    root : str
        Folder inside the zip that the zarr lies in; "" for the zip itself.

    Raises
    ------
    VolumeError
        If it is no zip, holds no zarr, or is a bomb.
    SeriesError
        If it holds several.
    """
    try:
        with zipfile.ZipFile(path) as zipped:
            entries = zipped.infolist()
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
        raise VolumeError(f"{path!r} is not a whole zip file: {error}") from error
    free = available_bytes()
    for entry in entries:
        _check_entry(path, entry, free)
    return ZippedStore(path, mode="r"), _root(path, [e.filename for e in entries])


def _check_entry(path: str, entry: zipfile.ZipInfo, free: int) -> None:
    name = f"{path}/{entry.filename}"
    if not is_inside(entry.filename):
        raise VolumeError(f"{name!r} leads out of its zip file: it was refused")
    if entry.flag_bits & 1:
        raise VolumeError(f"{name!r} is encrypted: unpack the zip file first")
    if entry.filename.rsplit("/", 1)[-1] in _METADATA:
        _check_metadata(name, entry.file_size)
    ratio = entry.file_size / max(1, entry.compress_size)
    bomb = entry.file_size > _BOMB_BYTES and ratio > _BOMB_RATIO
    if bomb or entry.file_size > free // 4:
        raise VolumeError(
            f"{name!r} would unpack to {readable_size(entry.file_size)} from "
            f"{readable_size(entry.compress_size)}: it was refused as a zip bomb"
        )


def _root(path: str, names: list[str]) -> str:
    """Return the folder of the zarr closest to the top."""
    folders = {
        name.rpartition("/")[0]
        for name in names
        if name.rsplit("/", 1)[-1] in ZARR_FILES and not name.startswith("__MACOSX/")
    }
    if not folders:
        raise VolumeError(f"{path!r} holds no zarr: none of {', '.join(ZARR_FILES)}")
    tops = {f for f in folders if not any(_is_above(g, f) for g in folders)}
    if len(tops) > 1:
        listed = "".join(f"\n  {top}" for top in sorted(tops)[:30])
        raise SeriesError(
            f"{path!r} holds {len(tops)} zarrs; unpack it and open one:{listed}",
            dict.fromkeys(sorted(tops), "zarr"),
        )
    return tops.pop()


def _is_above(folder: str, other: str) -> bool:
    return other != folder and (not folder or other.startswith(f"{folder}/"))


def check_array(array: Any) -> None:
    """Refuse an array that runs code when it is decoded, or whose shards have no end.

    Raises
    ------
    VolumeError
    """
    shard = array.shards or array.chunks
    inner = math.prod(shard) // max(1, math.prod(array.chunks))
    if inner > _MOST_IN_SHARD:
        raise VolumeError(
            f"a shard of the array {array.path!r} holds {inner} chunks, more than its "
            "index can be read for: the metadata are damaged"
        )
    metadata = array.metadata
    codecs = [*(getattr(metadata, "filters", None) or ()), *_codecs(metadata)]
    names = {str(getattr(c, "codec_id", type(c).__name__)).lower() for c in codecs}
    if any("pickle" in name for name in names):
        raise VolumeError(
            f"the array {array.path!r} holds pickled Python objects, which could only "
            "be read by running code from the file: it was refused"
        )


def _codecs(metadata: Any) -> list[Any]:
    compressor = getattr(metadata, "compressor", None)
    return [*(getattr(metadata, "codecs", None) or ()), compressor]
