"""Weights from the network: verified, resumable, never half a file under its name."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sam.errors import CheckpointError, DownloadError
from napari_sam.models.checkpoints import file_sha256

if TYPE_CHECKING:
    from collections.abc import Iterator

_log = logging.getLogger(__name__)

CACHE_VARIABLE = "NAPARI_SAM_CACHE"
"""Environment variable that moves the folder of downloaded weights."""
OFFLINE_VARIABLE = "NAPARI_SAM_OFFLINE"
"""Environment variable that, set to anything but 0, forbids the network."""
MIRROR_VARIABLE = "NAPARI_SAM_MIRROR"
"""Environment variable with addresses, asked in turn before the authors' server."""

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


def iter_download(url: str, path: Path, digest: str) -> Iterator[tuple[int, int]]:
    """Download to `path`, going on where an earlier try stopped.

    The file grows under a name ending in ``.part`` and gets its own name only when its
    hash is right. Closing the generator stops the transfer and keeps what came. Mirrors
    named by the environment are asked first, for the last part of `path`.

    Parameters
    ----------
    url : str
    path : Path
        Where the file will be; its folder is made.
    digest : str
        Expected hash: hexadecimal SHA-256, or another with its name before it, such
        as "md5:..." or "xxh128:...".

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
    kind, _, expected = digest.rpartition(":")
    if not can_hash(kind or "sha256"):
        raise DownloadError(
            f"{path.name} can be checked by its {kind} hash alone, which needs the "
            f"package xxhash: pip install xxhash, or get {url} yourself and put it at "
            f"{path}"
        )
    part = path.with_name(path.name + ".part")
    sources = [*(f"{mirror}/{path.name}" for mirror in mirrors()), url]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for source in sources:
            try:
                yield from _fetch(source, part, kind or "sha256", expected)
                break
            except DownloadError as error:
                if source == url:
                    raise
                _log.warning("%s. The next source is asked", error)
        os.replace(part, path)
        _note_verified(path, file_sha256(path) if kind else expected)
    except OSError as error:
        raise DownloadError(
            f"cannot write {path}: {error}. Make room, or set {CACHE_VARIABLE} to a "
            "folder with room; what came so far is kept and will be used"
        ) from error


def mirrors() -> list[str]:
    """Addresses of folders that hold copies of the files, from the environment."""
    named = os.environ.get(MIRROR_VARIABLE, "").replace(",", " ").split()
    return [address.rstrip("/") for address in named]


def can_hash(kind: str) -> bool:
    """Whether a file's "sha256", "md5" or "xxh128" can be computed here."""
    return kind != "xxh128" or importlib.util.find_spec("xxhash") is not None


def _fetch(url: str, part: Path, kind: str, expected: str) -> Iterator[tuple[int, int]]:
    """Complete `part` from one source and verify it."""
    resumed = part.exists()
    yield from _transfer(url, part)
    found = _hash(part, kind)
    if found != expected and resumed:
        part.unlink()  # what lay there may have been of another file
        yield from _transfer(url, part)
        found = _hash(part, kind)
    if found != expected:
        size = part.stat().st_size
        part.unlink()
        kind = "SHA-256" if kind == "sha256" else kind
        raise DownloadError(
            f"{url} gave {size} bytes with {kind} {found}; expected {expected}. The "
            "file was thrown away. Try again later or from another network; a "
            "proxy or log-in page may have answered instead"
        )


def _hash(path: Path, kind: str) -> str:
    if kind == "sha256":
        return file_sha256(path)
    with path.open("rb") as f:
        if kind == "md5":
            return hashlib.file_digest(f, _md5).hexdigest()
        import xxhash

        state = xxhash.xxh128()
        while piece := f.read(_CHUNK_BYTES):
            state.update(piece)
        return str(state.hexdigest())


def _md5() -> hashlib._Hash:
    return hashlib.md5(usedforsecurity=False)


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


def hash_at_first_use(path: Path, checksum: str = "") -> str:
    """SHA-256 of a file whose authors publish none, as it was when first used.

    Recorded beside the file, so that `is_verified` notices a later change.

    Parameters
    ----------
    path : Path
    checksum : str
        Another hash that its authors publish, such as "md5:...", which the file must
        have at its first use.

    Raises
    ------
    CheckpointError
        If it has another.
    """
    try:
        return str(json.loads(_note(path).read_text())["sha256"])
    except (OSError, ValueError, LookupError, TypeError):
        kind, _, expected = checksum.partition(":")
        if kind and can_hash(kind) and (found := _hash(path, kind)) != expected:
            raise CheckpointError(
                f"{path} has {kind} {found}; its authors published {expected}. It is "
                "cut off, damaged or another file: delete it and get it again"
            ) from None
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
