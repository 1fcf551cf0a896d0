"""Encode on many processes or machines: the work of `encode_volume(client=...)`.

A task owns whole tiles, which no other task writes (see `napari_sam.embeddings.task`).
Tasks may die, run twice or be stopped at any moment, because a tile counts only once it
is whole; so nothing has to be told to the client but how many tiles are there.
"""

from __future__ import annotations

import logging
import pickle
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from napari_sam.embeddings.task import encode_task
from napari_sam.embeddings.tile_batches import stopped
from napari_sam.errors import NapariSamError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from threading import Event

    from napari_sam.embeddings.task import EncodingTask
    from napari_sam.embeddings.tile_batches import Region

logger = logging.getLogger(__name__)

_RETRIES = 3
"""How often a task is tried again after an error, and after killed workers."""
_POLL_S = 0.2
"""How often the client looks for finished tasks and for `cancel`."""


def encode_on(
    client: Any,
    task: EncodingTask,
    regions: Iterator[Region],
    *,
    cancel: Callable[[], bool] | Event | None = None,
) -> Iterator[int]:
    """Encode regions on the workers of a `distributed.Client`.

    Tasks are handed out a few for each worker thread at a time, so workers may come
    and go, and stopping is quick. A killed worker's tasks run again elsewhere.

    Parameters
    ----------
    client : distributed.Client
    task : EncodingTask
    regions : iterator of Region
        Of at most `TASK_TILES` tiles each, best.
    cancel
        As in `encode_volume`.

    Yields
    ------
    int
        How many tiles are there more after each task.

    Raises
    ------
    NapariSamError
        What a worker raised, or that the scheduler cannot be reached any more. All
        tiles finished before are safe.
    """
    from distributed import Event as SharedEvent

    packed = pickle.dumps(task)
    running: dict[Any, tuple[Region, int]] = {}
    size = _Size(client)
    try:
        while not stopped(cancel):
            while len(running) < size.now() and (region := next(regions, None)):
                running[_submit(client, packed, region)] = region, 0
            if not running:
                return
            for future in _finished(running):
                region, tries = running.pop(future)
                n = _result(future, tries)
                if n is None:
                    running[_submit(client, packed, region)] = region, tries + 1
                else:
                    yield n
    finally:
        if running and client.status == "running":
            SharedEvent(task.stop, client).set()
            for future in running:
                future.release()


@contextmanager
def connect(scheduler: str | None = None, workers: int | None = None) -> Iterator[Any]:
    """Give a client of a running scheduler, or of worker processes of its own.

    Parameters
    ----------
    scheduler : str, optional
        Address such as "tcp://login-node:8786".
    workers : int, optional
        Processes to start on this machine, one thread each, ended afterwards.

    Raises
    ------
    NapariSamError
        If dask.distributed is not installed, or no scheduler answers.
    """
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise NapariSamError(
            "several workers need dask: pip install distributed"
        ) from error
    if (scheduler is None) == (workers is None):
        raise NapariSamError("give either the address of a scheduler or workers")
    if workers is not None:
        if workers < 1:
            raise NapariSamError(f"workers must be 1 or more; got {workers}")
        with (
            LocalCluster(
                n_workers=workers, threads_per_worker=1, dashboard_address="127.0.0.1:0"
            ) as own,
            Client(own) as client,
        ):
            yield client
        return
    try:
        client = Client(scheduler, timeout=10)
    except (OSError, ValueError) as error:
        raise NapariSamError(
            f"no scheduler answers at {scheduler!r} ({error}): start one with `dask "
            "scheduler` and give the address it prints, such as tcp://node:8786"
        ) from error
    with client:
        yield client


class _Size:
    """How many tasks to keep handed out; the cluster may grow and shrink."""

    def __init__(self, client: Any) -> None:
        self._client, self._asked, self._n = client, 0.0, 0

    def now(self) -> int:
        if time.monotonic() - self._asked > 2 and self._client.status == "running":
            self._asked = time.monotonic()
            threads = sum(self._client.nthreads().values())
            if not threads:
                logger.warning("the scheduler has no workers yet: waiting for some")
            self._n = 2 * max(threads, 1)
        return self._n


def _submit(client: Any, packed: bytes, region: Region) -> Any:
    _require_connection(client)
    return client.submit(encode_task, packed, region, pure=False, retries=_RETRIES)


def _finished(running: dict[Any, Any]) -> list[Any]:
    from distributed import wait

    try:
        done = wait(list(running), timeout=_POLL_S, return_when="FIRST_COMPLETED").done
    except TimeoutError:
        done = {f for f in running if f.done()}
    return [f for f in running if f in done]


def _result(future: Any, tries: int) -> int | None:
    """Tiles a task gave, or None if it has to run again."""
    from distributed.scheduler import KilledWorker

    error = None if future.status == "finished" else future.exception()
    if error is None:
        return int(future.result())
    if isinstance(error, NapariSamError):
        raise error
    if isinstance(error, KilledWorker):
        if tries < _RETRIES:
            return None
        raise NapariSamError(
            "workers keep dying while they encode, most likely for want of memory: "
            "start them with more, or with one thread each. Finished tiles are safe"
        ) from error
    _require_connection(future.client)
    if future.status == "cancelled" and tries < _RETRIES:
        return None  # the scheduler was restarted
    raise NapariSamError(
        f"a worker could not encode ({type(error).__name__}: {error}): check that "
        "napari-sam of this version is installed there. Finished tiles are safe"
    ) from error


def _require_connection(client: Any) -> None:
    if client.status != "running":
        raise NapariSamError(
            "the connection to the scheduler was lost: start it again and call "
            "encode_volume again; finished tiles are safe, and it goes on from there"
        )
