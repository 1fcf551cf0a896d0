"""Sessions on disk: ``name.nsam/`` with an append-only journal and label checkpoints.

``session.json``
    Volume reference, model, intensity mapping, and which label checkpoint counts;
    replaced by rename.
``journal.bin``
    Records of a length, a checksum and a step, in order, synced within a second.
``labels.<n>.zarr``
    Labels as they were after so many records as ``session.json`` says. A checkpoint is
    never changed: a newer one is written beside it, synced, named in ``session.json``,
    and only then is the older one deleted.
``labels.live.*``
    Labels too big for memory, as they are worked on; nobody else reads them.

Only who holds ``session.lock`` changes anything. Readers leave a torn last record
alone: it may be the one that is being written.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import uuid
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sam.core.atomic_files import sync_folder, sync_tree
from napari_sam.errors import SessionError, SessionLockedError
from napari_sam.results.label_arrays import ChunkedLabels, open_labels, write_labels

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger(__name__)

FORMAT = 2
"""Version of the files' layout."""
_MAGIC = b"napari-sam journal 2\n"
_HEAD_BYTES = 8
"""Length and CRC-32 before each record, little endian."""


class Log:
    """The journal's file, appended to by one thread.

    Parameters
    ----------
    path : Path
    size : int
        Bytes of it that are whole; what lies beyond is cut.
    """

    def __init__(self, path: Path, size: int = 0) -> None:
        self.path = path
        self.pending: list[bytes] = []
        """Records that are not written yet."""
        self.records = 0
        """Records written."""
        self._size = size
        self._file: int | None = None
        self._unsynced = False

    def write(self) -> None:
        """Write what is pending; what cannot be written stays so."""
        while self.pending:
            payload = self.pending[0]
            if payload:
                head = len(payload).to_bytes(4, "little")
                check = zlib.crc32(payload).to_bytes(4, "little")
                self._append(head + check + payload)
                self.records += 1
            del self.pending[0]

    def sync(self) -> None:
        """Wait until what was written is on the disk."""
        if self._file is not None and self._unsynced:
            os.fsync(self._file)
            self._unsynced = False

    def close(self) -> None:
        """Write and sync what can be, and let go of the file."""
        try:
            self.write()
            self.sync()
        finally:
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def _append(self, data: bytes) -> None:
        if self._file is None:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | _BINARY, 0o644)
            os.ftruncate(self._file, self._size)
        if not self._size:
            data = _MAGIC + data
        os.lseek(self._file, self._size, os.SEEK_SET)
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._file, view) :]
        except OSError:
            os.ftruncate(self._file, self._size)
            raise
        self._size += len(data)
        self._unsynced = True


_BINARY = getattr(os, "O_BINARY", 0)


class SessionFiles:
    """The folder of one session, held by one writer at a time.

    Parameters
    ----------
    path : path-like
        Folder, by convention ``name.nsam``; made when missing.
    create : bool
        Whether a new session starts here; False opens one that exists.

    Raises
    ------
    SessionError
        If the folder cannot be made, or holds no session (with `create`: one).
    SessionLockedError
        If another process has it open.
    """

    def __init__(self, path: str | os.PathLike[str], *, create: bool) -> None:
        from filelock import FileLock, Timeout

        self.path = resolved(path)
        exists = (self.path / "session.json").exists()
        if create and exists:
            raise SessionError(
                f"{self.path} already holds a session: open it with Session.load, or "
                "choose another name"
            )
        if not create and not exists:
            raise SessionError(
                f"no session at {self.path}: expected a folder with a session.json"
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.path / "session.lock")
            self._lock.acquire(timeout=0)
        except Timeout:
            raise SessionLockedError(
                f"{self.path} is open in another process: close it there, or only look "
                "at it (napari-sam view, or read_only=True in Python)"
            ) from None
        except OSError as error:
            raise SessionError(
                f"cannot write the session to {self.path} ({error}): choose a folder "
                "you may write to"
            ) from error
        self.log = Log(self.path / "journal.bin")
        self._generation: dict[str, Any] | None = None

    def adopt(self, head: dict[str, Any]) -> None:
        """Go on with what is here; clear what a kill left behind."""
        self._generation = head["labels"]
        self.clear_older()
        for folder in self.path.glob("labels.live.*"):
            shutil.rmtree(folder, ignore_errors=True)

    def write_head(
        self, head: dict[str, Any], generation: dict[str, Any] | None = None
    ) -> None:
        """Replace ``session.json``; with what `write_labels` gave, that counts now."""
        self._generation = generation or self._generation
        whole = {"format": FORMAT, **head, "labels": self._generation}
        data = json.dumps(whole, indent=1).encode()
        part = self.path / "session.part"
        file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _BINARY, 0o644)
        try:
            os.write(file, data)
            os.fsync(file)
        finally:
            os.close(file)
        os.replace(part, self.path / "session.json")
        sync_folder(self.path)

    def write_labels(self, labels: Any, records: int) -> dict[str, Any]:
        """Write a checkpoint that holds so many records; `write_head` makes it count.

        Labels too big for memory move into this folder the first time; checkpoints
        share their chunks as far as the file system can.
        """
        number = 1 + (self._generation["number"] if self._generation else 0)
        target = self.path / f"labels.{number}.zarr"
        shutil.rmtree(target, ignore_errors=True)
        try:
            if isinstance(labels, ChunkedLabels):
                if (former := labels.path).parent != self.path:
                    labels.move_to(self.live())
                    if ".live." in former.name:
                        shutil.rmtree(former, ignore_errors=True)
                labels.copy_to(target)
            else:
                write_labels(target, labels)
            sync_tree(target)
            sync_folder(self.path)
        except OSError as error:
            shutil.rmtree(target, ignore_errors=True)
            raise SessionError(
                f"the labels cannot be saved in {self.path} ({error}); every change is "
                "still in its journal"
            ) from error
        return {"number": number, "records": records}

    def live(self) -> Path:
        """Return a new name for labels that are worked on in this folder."""
        return self.path / f"labels.live.{uuid.uuid4().hex[:8]}.zarr"

    def clear_older(self) -> None:
        """Delete checkpoints that no longer count."""
        current = self._generation and f"labels.{self._generation['number']}.zarr"
        for folder in self.path.glob("labels.*.zarr"):
            if folder.name != current and ".live." not in folder.name:
                shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Let others open the session; nothing may be under way."""
        try:
            self.log.close()
        finally:
            self._lock.release()


def resolved(path: str | os.PathLike[str]) -> Path:
    """Return the one spelling of a path, which stays right after ``chdir``."""
    return Path(path).expanduser().resolve()


def read_head(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read ``session.json``.

    Raises
    ------
    SessionError
        If there is none, or it was written by another version.
    """
    file = Path(path).expanduser() / "session.json"
    try:
        head: dict[str, Any] = json.loads(file.read_text())
        found = int(head["format"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SessionError(
            f"{path} holds no readable session ({error}): choose a folder that a "
            "session was saved in, such as work.nsam"
        ) from error
    if found > FORMAT:
        raise SessionError(
            f"{path} was written by a newer napari-sam (format {found}, this one reads "
            f"{FORMAT}): update napari-sam"
        )
    if found < FORMAT:
        raise SessionError(
            f"{path} was saved in a former format ({found}) that this napari-sam does "
            "not read: export its labels with the version that saved it"
        )
    return head


def read_labels(
    path: str | os.PathLike[str], head: dict[str, Any], *, live: Path | None = None
) -> tuple[Any, int]:
    """Open the label checkpoint; return it and the records it holds; (None, 0): none.

    Parameters
    ----------
    path : path-like
    head : dict
        What `read_head` gave.
    live : Path, optional
        Where labels too big for memory are to be worked on; else a temporary folder.
    """
    if not head["labels"]:
        return None, 0
    folder = Path(path).expanduser() / f"labels.{head['labels']['number']}.zarr"
    return open_labels(folder, live=live), int(head["labels"]["records"])


def read_saved(path: str | os.PathLike[str]) -> tuple[dict[str, Any], Any, int]:
    """Read a session's head and labels, also beside a writer that saves meanwhile.

    Returns
    -------
    head : dict
    labels : array-like or None
    records : int
        Records of the journal that the labels hold.
    """
    for attempt in range(5):
        head = read_head(path)
        try:
            return (head, *read_labels(path, head))
        except (OSError, shutil.Error) as error:
            # A writer may have put another checkpoint in this one's place.
            if attempt == 4:
                raise SessionError(
                    f"the labels of {path} cannot be read ({error}): the session was "
                    "damaged"
                ) from error
    raise AssertionError


def read_journal(path: str | os.PathLike[str]) -> Iterator[tuple[bytes, int]]:
    """Yield the whole records of a journal, and where in the file each one ends.

    A torn last record, as a kill or a writer at work leaves it, is not yielded.

    Raises
    ------
    SessionError
        If a record before the last cannot be read.
    """
    file = Path(path).expanduser() / "journal.bin"
    if not file.exists():
        return
    data = file.read_bytes()
    if len(data) < len(_MAGIC):
        return
    if not data.startswith(_MAGIC):
        raise SessionError(f"{file} is no journal of a session: it was damaged")
    at, number = len(_MAGIC), 0
    while at + _HEAD_BYTES <= len(data):
        number += 1
        size = int.from_bytes(data[at : at + 4], "little")
        check = int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + _HEAD_BYTES + size
        payload = data[at + _HEAD_BYTES : end]
        if end > len(data) or zlib.crc32(payload) != check or not size:
            rest = data[end:]
            if end < len(data) and size and rest.strip(b"\0"):
                raise SessionError(
                    f"record {number} of {file} cannot be read: the file was damaged. "
                    f"Cut it after byte {at} to open the session as it was before"
                )
            logger.warning("left out a torn last record of %s", file)
            return
        yield payload, end
        at = end
