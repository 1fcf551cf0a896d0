"""The user's cache of embeddings: what is there, how much, and what may go.

Who uses a store holds a lock on a file of its own in ``.in-use/``, beside the
embeddings, in any process. Who wants to remove embeddings looks for such locks first,
under a lock that users take while they enter.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import shutil
import threading
import time
import uuid
import weakref
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.embedding import EmbeddingSignature
from napari_sam.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

logger = logging.getLogger(__name__)

IN_USE = ".in-use"
"""Folder inside a store's folder, with the locks of those who use it."""
LIMIT_VARIABLE = "NAPARI_SAM_CACHE_LIMIT"
"""Environment variable: the most that embeddings in the cache may take."""
DEFAULT_LIMIT = 20 * 10**9
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_GUARD_S = 60.0
"""Longest wait for others who enter or remove: they take milliseconds."""


@dataclass(frozen=True, slots=True)
class StoredEmbeddings:
    """Embeddings of one signature, in a store on this machine."""

    path: Path
    """The store's folder."""
    signature: EmbeddingSignature
    tiles: int
    size_bytes: int
    """Of the tiles that are there."""
    last_used: float
    """Seconds since 1970."""
    in_use: bool
    """Whether some process holds them open."""

    @property
    def image(self) -> str:
        """Name of the image, where it has one."""
        return str(self.signature.source.get("uri") or "an array in memory")


def cache_folder() -> Path:
    """Return the folder of the cache's stores.

    ``embeddings`` in ``$NAPARI_SAM_CACHE``, or in the system's folder for caches.
    """
    import platformdirs

    cache = os.environ.get("NAPARI_SAM_CACHE") or platformdirs.user_cache_dir(
        "napari-sam", appauthor=False
    )
    return Path(cache).expanduser().absolute() / "embeddings"


def cache_limit() -> int | None:
    """Return the most bytes that embeddings in the cache may take; None: any number.

    ``$NAPARI_SAM_CACHE_LIMIT``, such as "50 GB" or "none"; 20 GB when it is not set.

    Raises
    ------
    StoreError
        If the variable holds something else.
    """
    text = os.environ.get(LIMIT_VARIABLE, "").strip()
    if not text:
        return DEFAULT_LIMIT
    return None if text.lower() == "none" else size_bytes(text, LIMIT_VARIABLE)


def in_cache(path: Any) -> bool:
    """Whether a store lies in the cache, so that it may be removed at any time."""
    local = isinstance(path, (str, os.PathLike))
    return local and Path(path).absolute().parent == cache_folder()


def size_bytes(text: str, what: str) -> int:
    """Read a size such as "500 MB".

    Raises
    ------
    StoreError
        If it is none; the message names `what`.

    Examples
    --------
    >>> size_bytes("1.5 GB", "the limit")
    1500000000
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?B|)", text.strip().upper())
    if found is None:
        raise StoreError(f"{what} takes a size such as 20 GB; got {text!r}")
    return int(float(found[1]) * _UNITS[found[2]])


def stored(folder: str | os.PathLike[str] | None = None) -> list[StoredEmbeddings]:
    """List embeddings, the longest unused first.

    Parameters
    ----------
    folder : path-like, optional
        A store, or a folder of stores; the cache when left out.

    Raises
    ------
    StoreError
        If a folder was given that is not there.
    """
    where = cache_folder() if folder is None else Path(folder)
    if folder is not None and not where.is_dir():
        raise StoreError(f"there is no folder {str(where)!r} with embeddings")
    found: list[StoredEmbeddings] = []
    for root in _roots(where):
        found += _of_root(root)
    return sorted(found, key=lambda s: s.last_used)


def prune(
    chosen: Iterable[StoredEmbeddings], *, wait: bool = True
) -> list[StoredEmbeddings]:
    """Remove embeddings, except those in use; return what was removed.

    Parameters
    ----------
    chosen : iterable of StoredEmbeddings
        As `stored` lists them.
    wait : bool
        Return once all files are gone; False: once nobody finds them any more, while
        a thread removes the files.
    """
    removed, trash = [], []
    for one in chosen:
        with suppress(OSError, StoreError):
            aside = _set_aside(one)
            if aside is not None:
                removed.append(one)
                trash.append(aside)
    if wait:
        _empty(trash)
    elif trash:
        threading.Thread(target=_empty, args=(trash,), daemon=True).start()
    return removed


def oldest_beyond(
    found: Iterable[StoredEmbeddings], limit: int
) -> list[StoredEmbeddings]:
    """Choose what has to go for the rest to stay within a number of bytes.

    The longest unused first; those in use stay, and count.
    """
    entries = sorted(found, key=lambda s: s.last_used)
    size = sum(s.size_bytes for s in entries)
    out = []
    for one in entries:
        if size <= limit:
            break
        if not one.in_use:
            out.append(one)
            size -= one.size_bytes
    return out


def enforce_limit(path: Any) -> None:
    """Remove the oldest embeddings of the cache beyond its limit.

    Does nothing for stores that lie elsewhere: those are their owner's.
    """
    limit = cache_limit() if in_cache(path) else None
    if limit is None:
        return
    gone = prune(oldest_beyond(stored(), limit), wait=False)
    for one in gone:
        logger.info(
            "removed embeddings of %s by %s from the cache, which is full",
            one.image, one.signature.model,
        )  # fmt: skip


class Use:
    """Says that somebody uses a signature of a store, until it is closed or gone.

    Only folders of this machine are noted, and only where they can be written: nobody
    removes what lies elsewhere.
    """

    def __init__(self, path: Any, key: str) -> None:
        from filelock import FileLock

        self.close: Callable[[], object] = lambda: None
        """Ends the use; may be called again."""
        if not isinstance(path, (str, os.PathLike)) or "://" in str(path):
            return
        root = Path(path).absolute()
        if root.is_file() or root.suffix == ".zip":
            return
        try:
            with _guard(root):
                folder = root / IN_USE
                folder.mkdir(parents=True, exist_ok=True)
                used = folder / f"{key}.used"
                used.touch()
                mark = folder / f"{key}-{uuid.uuid4().hex}.lock"
                lock = FileLock(mark, thread_local=False)
                lock.acquire(timeout=0)
        except (OSError, NotImplementedError) as error:
            # Who cannot write here cannot remove anything either.
            logger.debug("nobody will know that %s is in use: %s", root, error)
            return
        self.close = weakref.finalize(self, _leave, lock, mark, used)


def _leave(lock: Any, mark: Path, used: Path) -> None:
    with suppress(OSError):
        used.touch()
    with suppress(OSError):
        lock.release()
        mark.unlink(missing_ok=True)


@contextmanager
def _guard(root: Path) -> Iterator[None]:
    """Let one at a time enter a store or remove from it."""
    from filelock import FileLock, Timeout

    where = root.parent if in_cache(root) else root / IN_USE
    file = where / ".guard.lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        # Looked at often, so that who comes in a hurry does not keep others out.
        with FileLock(file, timeout=_GUARD_S, poll_interval=0.005, thread_local=False):
            yield
    except Timeout as error:
        raise StoreError(f"{file} is held by another process: try again") from error


def _is_held(root: Path, key: str) -> bool:
    try:
        with _guard(root):
            return _is_used(root, key)
    except (OSError, StoreError):
        return False  # nobody can remove anything there


def _is_used(root: Path, key: str) -> bool:
    """Whether somebody holds a lock; those of killed processes are removed.

    Looking takes the lock for a moment, so it is done under the guard only.
    """
    from filelock import FileLock, Timeout

    for mark in (root / IN_USE).glob(f"{key}-*.lock"):
        try:
            with FileLock(mark, timeout=0, thread_local=False):
                mark.unlink(missing_ok=True)
        except Timeout:
            return True
    return False


def _set_aside(one: StoredEmbeddings) -> Path | None:
    """Give embeddings a name under which nobody looks for them; None: in use."""
    root, key = one.path, one.signature.key
    with _guard(root):
        if _is_used(root, key):
            return None
        others = [p.name for p in _groups(root) if p.name != key]
        if not others and in_cache(root):
            whole = not any(_is_used(root, p.stem) for p in _used_files(root))
            if whole:
                aside = root.with_name(f".deleted-{uuid.uuid4().hex}")
                os.replace(root, aside)
                return aside
        aside = root / IN_USE / f"deleted-{uuid.uuid4().hex}"
        os.replace(root / key, aside)
        (root / IN_USE / f"{key}.used").unlink(missing_ok=True)
        return aside


def _empty(trash: Iterable[Path]) -> None:
    for folder in trash:
        shutil.rmtree(folder, ignore_errors=True)


def _roots(folder: Path) -> list[Path]:
    if (folder / "zarr.json").is_file():
        return [folder]
    with suppress(OSError):
        for left in folder.glob(".deleted-*"):  # by a process that was killed
            if time.time() - left.stat().st_mtime > 3600:
                shutil.rmtree(left, ignore_errors=True)
        return [
            p
            for p in sorted(folder.iterdir())
            if not p.name.startswith(".") and (p / "zarr.json").is_file()
        ]
    return []


def _groups(root: Path) -> list[Path]:
    with suppress(OSError):
        return [
            p
            for p in sorted(root.iterdir())
            if not p.name.startswith(".") and (p / "zarr.json").is_file()
        ]
    return []


def _used_files(root: Path) -> list[Path]:
    return list((root / IN_USE).glob("*.used"))


def _of_root(root: Path) -> Iterator[StoredEmbeddings]:
    for group in _groups(root):
        try:
            signature = EmbeddingSignature.from_json(_attributes(group)["signature"])
            each = _tile_bytes(group)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # not ours, or being made
        tiles = _count_tiles(group)
        yield StoredEmbeddings(
            root, signature, tiles, tiles * each,
            _last_used(root, group), _is_held(root, group.name),
        )  # fmt: skip


def _attributes(node: Path) -> dict[str, Any]:
    found: dict[str, Any] = _metadata(node)["attributes"]
    return found


def _metadata(node: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((node / "zarr.json").read_text())
    return found


def _tile_bytes(group: Path) -> int:
    """Bytes of one tile on disk: its features and its flag."""
    size = 8
    for name in _attributes(group)["features"]:
        array = _metadata(group / "features" / name)
        size += math.prod(array["shape"][2:]) * np.dtype(array["data_type"]).itemsize
    return size


def _count_tiles(group: Path) -> int:
    """Tiles whose flag is there: one listing a plane."""
    count = 0
    with suppress(OSError):
        for plane in os.scandir(group / "present" / "c"):
            if plane.name.isdecimal():
                with suppress(OSError):
                    names = os.scandir(plane.path)
                    count += sum(entry.name.isdecimal() for entry in names)
    return count


def _last_used(root: Path, group: Path) -> float:
    for file in (root / IN_USE / f"{group.name}.used", group / "zarr.json"):
        with suppress(OSError):
            return file.stat().st_mtime
    return 0.0
