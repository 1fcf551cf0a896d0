"""The journal: what was done, what was undone, and the thread that writes it down.

One thread compresses and writes, in order; whoever changes the session only hands
entries over. A write that fails is kept and tried again before the next one.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING

from napari_sam.errors import SessionError
from napari_sam.session.entries import Entry, encode
from napari_sam.session.files import Log

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

SYNC_S = 0.2
"""What was written is on the disk after this time."""
_REMEMBERED = 256
"""Steps that late answers are compared with; older requests are stale."""


class Writer:
    """A thread that does tasks in order, and syncs its logs soon after."""

    def __init__(self) -> None:
        self.logs: list[Log] = []
        """Where steps are written; only the thread changes this."""
        self.error: SessionError | None = None
        """Why the last write failed; None once it has been made good."""
        self.on_error: Callable[[SessionError], None] = lambda _: None
        """Called in the thread when a write fails."""
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def put(self, task: Callable[[], None]) -> None:
        """Do something after all that was put before."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="napari-sam journal", daemon=True
                )
                self._thread.start()
            self._tasks.put(task)

    def append(self, payload: Callable[[], bytes]) -> None:
        """Write one step to every log; made by the thread."""
        self.put(lambda: self._write(payload()))

    def submit(self, task: Callable[[], None]) -> Callable[[], None]:
        """Do something in order; returns what waits for it and raises its error."""
        done, failed = threading.Event(), list[BaseException]()

        def run() -> None:
            try:
                task()
            except BaseException as error:
                failed.append(error)
                if not isinstance(error, Exception):
                    raise
            finally:
                done.set()

        def wait() -> None:
            thread = self._thread
            while not done.wait(0.5):
                if thread is not None and not thread.is_alive():
                    raise SessionError("the journal is not written any more")
            if failed:
                raise failed[0]

        self.put(run)
        return wait

    def do(self, task: Callable[[], None]) -> None:
        """Do something in order and wait for it; its error is raised here."""
        self.submit(task)()

    def flush(self) -> None:
        """Wait until all is on the disk.

        Raises
        ------
        SessionError
            If something could not be written.
        """
        self.do(self._retry)
        if self.error is not None:
            raise self.error

    def stop(self) -> None:
        """Finish what was put, and end the thread."""
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is not None:
                self._tasks.put(None)
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _work(self) -> None:
        unsynced: float | None = None
        while True:
            try:
                wait = None if unsynced is None else max(0.0, unsynced - time.time())
                task = self._tasks.get(timeout=wait)
            except queue.Empty:
                unsynced = None
                self._sync()
                continue
            if task is None:
                self._retry()
                return
            try:
                task()
            except Exception:
                logger.exception("the journal could not do a task")
            if unsynced is None:
                unsynced = time.time() + SYNC_S
            elif time.time() > unsynced:
                unsynced = None
                self._sync()

    def _write(self, payload: bytes) -> None:
        for log in self.logs:
            log.pending.append(payload)
        self._try(Log.write)

    def _retry(self) -> None:
        self._try(Log.write)
        self._sync()

    def _sync(self) -> None:
        self._try(Log.sync)

    def _try(self, write: Callable[[Log], None]) -> None:
        try:
            for log in self.logs:
                write(log)
        except OSError as error:
            where = ", ".join(str(log.path.parent) for log in self.logs)
            self.error = SessionError(
                f"changes are not saved: {where} cannot be written ({error}). Free "
                "some space or save the session elsewhere; everything is still in "
                "memory and the next change tries again"
            )
            self.on_error(self.error)
        else:
            if not any(log.pending for log in self.logs):
                self.error = None


class Journal:
    """Entries done and undone, and every step in order for late answers."""

    def __init__(self) -> None:
        self.done: list[Entry] = []
        self.undone: list[Entry] = []
        self.lock = threading.RLock()
        """Held while a step is made; whoever saves holds it to see whole steps."""
        self.writer = Writer()
        self._steps: deque[tuple[str, Entry]] = deque(maxlen=_REMEMBERED)
        self._count = 0
        self._closing = weakref.finalize(self, Writer.stop, self.writer)

    @property
    def position(self) -> int:
        """Number of steps so far."""
        return self._count

    def since(self, position: int) -> list[tuple[str, Entry]] | None:
        """Steps after a position, (kind, entry); None when that is too long ago."""
        missing = self._count - position
        if missing > len(self._steps):
            return None
        return list(self._steps)[len(self._steps) - missing :] if missing else []

    def commit(self, entry: Entry) -> None:
        """Add a change that has been made."""
        self.done.append(entry)
        self.undone.clear()
        self._step(entry.kind, entry)
        self._hand_over("commit", entry)

    def replace(self, entry: Entry) -> None:
        """Put a change in the place of the last one, which is its beginning."""
        self.done[-1] = whole = self.done[-1].followed_by(entry)
        self._step(entry.kind, entry)
        self._hand_over("replace", whole)

    def note(self, entry: Entry) -> None:
        """Write down what no undo takes back."""
        self._hand_over("note", entry)

    def undo(self) -> Entry | None:
        """Step back; return the change to take back, or None at the beginning."""
        if not self.done:
            return None
        self.undone.append(self.done.pop())
        self._step("undo", self.undone[-1])
        self._hand_over("undo")
        return self.undone[-1]

    def redo(self) -> Entry | None:
        """Step forward; return the change to make again, or None at the end."""
        if not self.undone:
            return None
        self.done.append(self.undone.pop())
        self._step("redo", self.done[-1])
        self._hand_over("redo")
        return self.done[-1]

    def steps(self) -> list[tuple[str, Entry | None]]:
        """Return the fewest steps that lead here, with what can be redone."""
        out: list[tuple[str, Entry | None]] = [("commit", e) for e in self.done]
        out += [("commit", e) for e in reversed(self.undone)]
        return out + [("undo", None)] * len(self.undone)

    def _step(self, kind: str, entry: Entry) -> None:
        self._count += 1
        self._steps.append((kind, entry))

    def _hand_over(self, step: str, entry: Entry | None = None) -> None:
        def payload() -> bytes:
            if entry is not None:
                entry.pack()
            return encode(step, entry) if writer.logs else b""

        writer = self.writer
        writer.append(payload)
