"""Weights from the network: verified, resumable, never half a file under its name."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sam.errors import DownloadError
from napari_sam.models.checkpoints import file_sha256

if TYPE_CHECKING:
    from collections.abc import Iterator

CACHE_VARIABLE = "NAPARI_SAM_CACHE"
"""Environment variable that moves the folder of downloaded weights."""
OFFLINE_VARIABLE = "NAPARI_SAM_OFFLINE"
"""Environment variable that, set to anything but 0, forbids the network."""

_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = (15.0, 60.0)
"""To connect, and between two pieces of data."""


def cache_folder() -> Path:
    """Folder of downloaded weights; need not exist yet."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("napari-sam", appauthor=False)) / "models"


def is_offline() -> bool:
    """Whether the environment forbids the network."""
    return os.environ.get(OFFLINE_VARIABLE, "").strip().lower() not in (
        "",
        "0",
        "false",
    )


def iter_download(url: str, path: Path, sha256: str) -> Iterator[tuple[int, int]]:
    """Download to `path`, going on where an earlier try stopped.

    The file grows under a name ending in ``.part`` and gets its own name only when its
    hash is right. Closing the generator stops the transfer and keeps what came.

    Parameters
    ----------
    url : str
    path : Path
        Where the file will be; its folder is made.
    sha256 : str
        Expected hash, hexadecimal.

    Yields
    ------
    tuple of int
        Bytes so far, and in all (0 where the server does not say).

    Raises
    ------
    DownloadError
        If the network is forbidden or fails, the server refuses, the disk is full, or
        the file is not the one expected.
    """
    if is_offline():
        raise DownloadError(
            f"{path.name} is not here yet and {OFFLINE_VARIABLE} forbids the network: "
            f"unset it, or get {url} on another machine and put it at {path}"
        )
    part = path.with_name(path.name + ".part")
    resumed = part.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield from _transfer(url, part)
        if file_sha256(part) != sha256 and resumed:
            part.unlink()  # what lay there may have been of another file
            yield from _transfer(url, part)
        found = file_sha256(part)
        if found != sha256:
            size = part.stat().st_size
            part.unlink()
            raise DownloadError(
                f"{url} gave {size} bytes with SHA-256 {found}; expected {sha256}. The "
                "file was thrown away. Try again later or from another network; a "
                "proxy or log-in page may have answered instead"
            )
        os.replace(part, path)
        _note_verified(path, sha256)
    except OSError as error:
        raise DownloadError(
            f"cannot write {path}: {error}. Make room, or set {CACHE_VARIABLE} to a "
            "folder with room; what came so far is kept and will be used"
        ) from error


def is_verified(path: Path, sha256: str) -> bool:
    """Whether a file has the hash expected; hashed once, then known by its time."""
    stamp = _stamp(path, sha256)
    try:
        if json.loads(_note(path).read_text()) == stamp:
            return True
    except (OSError, ValueError):
        pass
    if file_sha256(path) != sha256:
        return False
    _note_verified(path, sha256)
    return True


def hash_at_first_use(path: Path) -> str:
    """Hash of a file whose authors publish none, as it was when first used.

    Recorded beside the file, so that `is_verified` notices a later change.
    """
    try:
        return str(json.loads(_note(path).read_text())["sha256"])
    except (OSError, ValueError, LookupError, TypeError):
        sha256 = file_sha256(path)
        _note_verified(path, sha256)
        return sha256


def _transfer(url: str, part: Path) -> Iterator[tuple[int, int]]:
    """Append to `part` what it lacks."""
    import requests

    done = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"}
    if done:
        headers["Range"] = f"bytes={done}-"
    total = 0
    try:
        with requests.get(
            url, headers=headers, stream=True, timeout=_TIMEOUT_S
        ) as answer:
            if answer.status_code == requests.codes.requested_range_not_satisfiable:
                return  # all of it is here; the hash will tell
            if not answer.ok:
                raise DownloadError(
                    f"{url} answered {answer.status_code} {answer.reason}. If the file "
                    f"has moved, get it elsewhere and put it at {_final(part)}"
                )
            if answer.status_code != requests.codes.partial_content:
                done = 0
            total = done + int(answer.headers.get("Content-Length", -done))
            yield done, total
            with part.open("ab" if done else "wb") as f:
                for chunk in answer.iter_content(_CHUNK_BYTES):
                    f.write(chunk)
                    done += len(chunk)
                    yield done, total
    except requests.RequestException as error:
        raise _broken_off(url, done, total, type(error).__name__) from error
    if done < total:
        raise _broken_off(url, done, total, "the server stopped early")


def _broken_off(url: str, done: int, total: int, reason: str) -> DownloadError:
    of_all = f" of {total}" if total else ""
    return DownloadError(
        f"the download of {url} broke off after {done}{of_all} bytes ({reason}). "
        "Check the connection and try again: it goes on from there"
    )


def _final(part: Path) -> Path:
    return part.with_name(part.name.removesuffix(".part"))


def _note(path: Path) -> Path:
    return path.with_name(path.name + ".verified.json")


def _stamp(path: Path, sha256: str) -> dict[str, Any]:
    stat = path.stat()
    return {"sha256": sha256, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def _note_verified(path: Path, sha256: str) -> None:
    try:
        _note(path).write_text(json.dumps(_stamp(path, sha256)))
    except OSError:
        return  # a read-only cache: the file is hashed again next time
