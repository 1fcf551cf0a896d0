"""Worker threads: one answers, the newest click first; the others take long."""

from __future__ import annotations

import atexit
import logging
import threading
import time
import weakref
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from napari_sam.errors import Cancelled

logger = logging.getLogger(__name__)

CLICK, PREPARE, BACKGROUND, TRAINING = 0, 1, 2, 3
"""Priorities, most urgent first: an answer to a click, opening things, work in steps,
and work that gives way to nothing until it ends."""
PROGRESS_EVERY_S = 0.2
"""Progress is posted at most this often: each time the whole window is drawn anew."""

EXIT_S = 20.0
"""How long the end of the process waits for a step that is under way: torch aborts
a process that ends while it computes."""

Lane = Literal["answers", "background", "training"]
Cancel = Callable[[], bool]
"""What work asks between steps; True means: stop."""
Work = Callable[[Cancel], Any]
"""Runs in the worker. Its result may be an iterator, which is then run step by step."""


@dataclass(eq=False)
class Job:
    """One piece of work, and what to call on the main thread about it."""

    key: Hashable
    """A newer job with the same key replaces this one."""
    priority: int
    work: Work
    done: Callable[[Any], None]
    failed: Callable[[Exception], None]
    progress: Callable[[Any], None] | None = None
    every: bool = False
    """Whether each value counts, or only the latest now and then."""
    steps: Iterator[Any] | None = field(default=None, init=False)
    _cancelled: threading.Event = field(default_factory=threading.Event, init=False)
    _posted: float = field(default=0.0, init=False)

    @property
    def lane(self) -> Lane:
        """Which thread runs it."""
        if self.priority >= TRAINING:
            return "training"
        return "background" if self.priority >= BACKGROUND else "answers"

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for this job any more."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Ask the work to stop; what it still returns is dropped."""
        self._cancelled.set()


class Jobs:
    """Runs jobs in threads: for `BACKGROUND` work, for `TRAINING`, and for the rest.

    In each, the most urgent priority runs first and, within it, the newest job. An
    iterator gives way between its steps to anything as urgent in its thread, and
    background work waits between its steps while there is anything to answer: a click
    never waits for a step of background work that takes long, and shares the
    processor with one such step, and with a training, at most. Callbacks are handed
    to `post`, which calls them on the main thread.

    Parameters
    ----------
    post : callable
        Takes a callable without arguments and runs it on the main thread, later.

    Examples
    --------
    >>> import queue
    >>> main = queue.SimpleQueue()
    >>> jobs = Jobs(main.put)
    >>> job = jobs.submit("sum", lambda cancelled: 1 + 1, print)
    >>> main.get(timeout=5)()
    2
    >>> jobs.close(timeout_s=5)
    """

    def __init__(self, post: Callable[[Callable[[], None]], None]) -> None:
        self.post = post
        """Runs a callable on the main thread, later."""
        self._waiting: list[Job] = []
        self._unheard: set[Job] = set()
        self._running: dict[Lane, Job] = {}
        self._closed = False
        self._wake = threading.Condition()
        self._threads: dict[Lane, threading.Thread] = {}
        atexit.register(_end, weakref.ref(self))

    def submit(
        self,
        key: Hashable,
        work: Work,
        done: Callable[[Any], None],
        failed: Callable[[Exception], None] | None = None,
        *,
        progress: Callable[[Any], None] | None = None,
        every: bool = False,
        priority: int = CLICK,
    ) -> Job:
        """Queue work; an older job with the same key is cancelled.

        Parameters
        ----------
        key : hashable
        work : callable
            Takes `cancelled` (a callable) and runs in a worker thread.
        done, failed : callable
            Called on the main thread with the result, or with the error. Neither is
            called for a job that was cancelled by then.
        progress : callable, optional
            Called on the main thread with values that the work yields: with `every`
            one of them, else with the latest every `PROGRESS_EVERY_S`.
        priority : int
            `CLICK`, `PREPARE`, `BACKGROUND` or `TRAINING`.
        """
        job = Job(key, priority, work, done, failed or _log_error, progress, every)
        with self._wake:
            if self._closed:
                job.cancel()
                return job
            self._cancel_where(lambda old: old.key == key)
            self._waiting.append(job)
            if job.lane not in self._threads:
                thread = threading.Thread(
                    target=self._run,
                    args=(job.lane,),
                    name=f"napari-sam {job.lane}",
                    daemon=True,
                )
                self._threads[job.lane] = thread
                thread.start()
            self._wake.notify_all()
        return job

    def cancel(self, *keys: Hashable) -> None:
        """Cancel the jobs with these keys, or all of them."""
        with self._wake:
            self._cancel_where(lambda job: not keys or job.key in keys)
            self._wake.notify_all()

    @property
    def keys(self) -> set[Hashable]:
        """Keys of the jobs whose answer is still to come and wanted."""
        with self._wake:
            return {job.key for job in self._open() if not job.cancelled}

    @property
    def idle(self) -> bool:
        """Whether no thread does anything, not even a step that nobody waits for."""
        with self._wake:
            return not self._running and not self._waiting

    def close(self, timeout_s: float = 0.0) -> None:
        """Cancel everything and let the threads end; wait up to `timeout_s` for each.

        A step that is under way cannot be broken off: its thread ends after it and
        its result is dropped.
        """
        with self._wake:
            self._closed = True
            self._cancel_where(lambda job: True)
            self._wake.notify_all()
            threads = list(self._threads.values())
        for thread in threads:
            if timeout_s > 0:
                thread.join(timeout_s)

    @property
    def alive(self) -> bool:
        """Whether a thread is still there."""
        return any(thread.is_alive() for thread in self._threads.values())

    def _cancel_where(self, matches: Callable[[Job], bool]) -> None:
        for job in self._open():
            if matches(job):
                job.cancel()
        self._waiting = [job for job in self._waiting if not job.cancelled]

    def _open(self) -> list[Job]:
        """Jobs that wait, run, or whose answer waits for the main thread."""
        return [*self._waiting, *self._running.values(), *self._unheard]

    def _run(self, lane: Lane) -> None:
        while (job := self._take(lane)) is not None:
            finished = self._step(job)
            with self._wake:
                del self._running[lane]
                if not finished and not job.cancelled:
                    self._waiting.insert(0, job)
                self._wake.notify_all()

    def _take(self, lane: Lane) -> Job | None:
        with self._wake:
            while not self._closed:
                mine = [job for job in self._waiting if job.lane == lane]
                if mine and not (lane == "background" and self._answering):
                    urgent = min(job.priority for job in mine)
                    job = next(j for j in reversed(mine) if j.priority == urgent)
                    self._waiting.remove(job)
                    self._running[lane] = job
                    return job
                self._wake.wait()
            return None

    @property
    def _answering(self) -> bool:
        """Whether there is anything but background work."""
        open_ = (*self._waiting, *self._running.values())
        return any(job.lane == "answers" for job in open_)

    def _step(self, job: Job) -> bool:
        """Run a job, or its iterator until it has to give way."""
        try:
            if job.steps is None:
                result = job.work(lambda: job.cancelled)
                if not isinstance(result, Iterator):
                    self._answer(job, job.done, result, last=True)
                    return True
                job.steps = result
            for value in job.steps:
                if job.cancelled:
                    break
                self._report(job, value)
                if self._gives_way(job):
                    return False
            _close_iterator(job.steps)
            self._answer(job, job.done, None, last=True)
        except Cancelled:
            job.cancel()
        except Exception as error:  # noqa: BLE001  shown by the GUI
            self._answer(job, job.failed, error, last=True)
        return True

    def _gives_way(self, job: Job) -> bool:
        """Whether something more urgent is wanted, or something as urgent and newer."""
        with self._wake:
            waiting = (o for o in self._waiting if o.lane == job.lane)
            newer = any(other.priority <= job.priority for other in waiting)
            return newer or (job.lane == "background" and self._answering)

    def _report(self, job: Job, value: Any) -> None:
        now = time.monotonic()
        due = job.every or now - job._posted >= PROGRESS_EVERY_S
        if job.progress is not None and due:
            job._posted = now
            self._answer(job, job.progress, value)

    def _answer(
        self,
        job: Job,
        callback: Callable[[Any], None],
        value: Any,
        *,
        last: bool = False,
    ) -> None:
        def call() -> None:
            with self._wake:
                wanted = not job.cancelled and not self._closed
                if last:
                    self._unheard.discard(job)
            if wanted:
                callback(value)

        with self._wake:
            if job.cancelled or self._closed:
                return
            if last:
                self._unheard.add(job)
        self.post(call)


def _end(jobs: weakref.ref[Jobs]) -> None:
    """Wait at the end of the process until no thread computes any more."""
    left = jobs()
    if left is not None:
        left.close(timeout_s=EXIT_S)


def _close_iterator(steps: Iterator[Any]) -> None:
    close = getattr(steps, "close", None)
    if close is not None:
        close()


def _log_error(error: Exception) -> None:
    logger.error("%s", error, exc_info=error)
