"""Sessions on disk: ``name.nsam/`` with an append-only history and a label checkpoint.

``session.json``
    Volume reference, model, intensity mapping, dtype; rewritten as a whole.
``history.jsonl``
    One line a change, undo or redo, in order, handed to the system before `append`
    returns (so a killed process loses nothing) and fsynced within a second.
``labels.zarr``
    The labels as they were after the change numbered in its attribute ``changes``.
    Lines hold absolute pixel values, so replaying those after it is safe even when
    some planes of the checkpoint are newer: labels too big for memory live here and
    are written with every change.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sam.errors import SessionError, SessionLockedError
from napari_sam.results.label_arrays import ChunkedLabels, open_labels, write_labels

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger(__name__)

FORMAT = 1
"""Version of the files' layout."""


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

        self.path = Path(path)
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
        self.changes = 0
        """Lines in the history."""
        self._pending: list[bytes] = []
        self._history: int | None = None
        self._unsynced = threading.Event()
        self._closed = threading.Event()
        self._syncer: threading.Thread | None = None

    def write_head(self, head: dict[str, Any]) -> None:
        """Replace ``session.json``."""
        target = self.path / "session.json"
        part = target.with_suffix(".part")
        part.write_text(json.dumps({"format": FORMAT, **head}, indent=1))
        os.replace(part, target)

    def append(self, kind: str, change: bytes | None = None) -> None:
        """Add one line to the history.

        Parameters
        ----------
        kind : str
            What happened: a change, "undo" or "redo".
        change : bytes, optional
            What `encode_change` made of it.

        Raises
        ------
        SessionError
            If it cannot be written: the disk is full, or the folder has gone.
        """
        number = self.changes + len(self._pending) + 1
        head = f'{{"n":{number},"time":{time.time():.3f},"kind":"{kind}"'
        body = b"" if change is None else b',"change":' + change
        self._pending.append(head.encode() + body + b"}\n")
        try:
            while self._pending:
                _write_all(self._open_history(), self._pending[0])
                del self._pending[0]
                self.changes += 1
        except OSError as error:
            raise SessionError(
                f"this change is not saved: {self.path} cannot be written ({error}). "
                "Free some space or save the session elsewhere; the labels are still "
                "in memory and the next change tries again"
            ) from error
        self._unsynced.set()

    def write_labels(self, labels: Any) -> None:
        """Write the labels as they are now, with the number of changes they hold.

        Written under a temporary name and moved into place, so a crash leaves the
        former checkpoint. Labels too big for memory move into this folder the first
        time and are written there from then on, so only their number is noted.
        """
        target = self.path / "labels.zarr"
        held = self.changes  # what another thread adds meanwhile is replayed on top
        try:
            if isinstance(labels, ChunkedLabels):
                if labels.path.absolute() != target.absolute():
                    labels.move_to(target)
                labels.note(changes=held)
                return
            part = self.path / "labels.part"
            shutil.rmtree(part, ignore_errors=True)
            write_labels(part, labels).attrs["changes"] = held
        except OSError as error:
            raise SessionError(
                f"the labels cannot be saved in {self.path} ({error}); every change is "
                "still in its history.jsonl"
            ) from error
        shutil.rmtree(target, ignore_errors=True)
        os.replace(part, target)

    def sync(self) -> None:
        """Wait until everything appended is on the disk."""
        if self._history is not None:
            self._unsynced.clear()
            os.fsync(self._history)

    def close(self) -> None:
        """Sync, and let others open the session."""
        self._closed.set()
        self._unsynced.set()
        if self._syncer is not None:
            self._syncer.join()
        if self._history is not None:
            os.close(self._history)
            self._history = None
        self._lock.release()

    def _open_history(self) -> int:
        if self._history is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            self._history = os.open(self.path / "history.jsonl", flags, 0o644)
            self._syncer = threading.Thread(
                target=self._sync_often, name="napari-sam history", daemon=True
            )
            self._syncer.start()
        return self._history

    def _sync_often(self) -> None:
        while not self._closed.is_set():
            self._unsynced.wait()
            self._closed.wait(0.2)
            try:
                self.sync()
            except OSError:
                logger.exception("could not sync the history in %s", self.path)


def read_head(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read ``session.json``.

    Raises
    ------
    SessionError
        If there is none, or it was written by a newer version.
    """
    file = Path(path) / "session.json"
    try:
        head: dict[str, Any] = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise SessionError(
            f"{path} holds no readable session ({error}): choose a folder that a "
            "session was saved in, such as work.nsam"
        ) from error
    if head.get("format", 0) > FORMAT:
        raise SessionError(
            f"{path} was written by a newer napari-sam (format {head['format']}, this "
            f"one reads up to {FORMAT}): update napari-sam"
        )
    return head


def read_labels(
    path: str | os.PathLike[str], *, read_only: bool = False
) -> tuple[Any, int] | None:
    """Open the label checkpoint; return it and the changes it holds, or None.

    Parameters
    ----------
    path : path-like
    read_only : bool
        As in `open_labels`.
    """
    import zarr

    folder = Path(path) / "labels.zarr"
    if not folder.exists():
        return None
    changes = zarr.open_array(folder, mode="r").attrs["changes"]
    return open_labels(folder, read_only=read_only), int(changes)  # type: ignore[arg-type]


def read_history(path: str | os.PathLike[str]) -> Iterator[tuple[str, bytes | None]]:
    """Yield every line of the history: its kind, and its change encoded or None.

    A torn last line, as a crash can leave, is dropped with a warning.

    Raises
    ------
    SessionError
        If a line before the last cannot be read.
    """
    file = Path(path) / "history.jsonl"
    if not file.exists():
        return
    start = 0
    lines = file.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        if line:
            try:
                value = json.loads(line)
                kind, change = value["kind"], value.get("change")
            except (ValueError, KeyError) as error:
                if number < len(lines):
                    raise SessionError(
                        f"line {number} of {file} cannot be read ({error}): the file "
                        "was damaged. Move that line and those after it elsewhere to "
                        "open the session as it was before"
                    ) from error
                logger.warning("dropped a torn last line of %s", file)
                _cut(file, start)
                return
            yield kind, None if change is None else json.dumps(change).encode()
        start += len(line) + 1


def _cut(file: Path, size: int) -> None:
    try:
        os.truncate(file, size)
    except OSError:
        logger.warning("could not cut the torn line off %s", file)


def _write_all(descriptor: int, data: bytes) -> None:
    start = os.lseek(descriptor, 0, os.SEEK_END)
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError:
        os.ftruncate(descriptor, start)
        raise
