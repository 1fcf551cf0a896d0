"""Encode on many processes or machines: the work of `encode_volume(client=...)`.

A task owns whole tiles, which no other task writes, and carries only names: where the
image lies, which model, where the store is. A worker process opens the three once.
Tasks may die, run twice or be stopped at any moment, because a tile counts only once it
is whole; so nothing has to be told to the client but how many tiles are there.
"""

from __future__ import annotations

import logging
import pickle
import threading
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from napari_sam.engine.regions import Region, encode_region, stopped
from napari_sam.errors import ModelError, NapariSamError, StoreError, VolumeError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator
    from threading import Event

    from napari_sam.core.embedding import EmbeddingSignature
    from napari_sam.core.intensity import IntensityMapping
    from napari_sam.core.tiles import TileGrid
    from napari_sam.io.embeddings import EmbeddingStore
    from napari_sam.io.volume import Volume
    from napari_sam.models.base import PromptableModel

logger = logging.getLogger(__name__)

_RETRIES = 3
"""How often a task is tried again after an error, and after killed workers."""
_POLL_S = 0.2
"""How often the client looks for finished tasks and for `cancel`."""


@dataclass(frozen=True, slots=True)
class ModelSource:
    """How another process gets the same model: by name or path, never its weights.

    Examples
    --------
    >>> from napari_sam.testing import ToyModel
    >>> ModelSource.of(ToyModel(64)).load().spec.input_side
    64
    """

    source: str | None
    """What `load_model` takes; None for a model that is sent pickled."""
    pickled: bytes
    sha256: str
    """`ModelSpec.sha256` that the loaded model must have."""
    device: str = "auto"
    """Where workers run it; "auto" takes the best that each has."""
    precision: str = ""
    """What its encoder multiplies in, where that is not float32."""

    @classmethod
    def of(cls, model: PromptableModel, device: str = "auto") -> ModelSource:
        """Describe a model.

        Raises
        ------
        ModelError
            If it has no name or path to load it by, and is too big to send.
        """
        from napari_sam.models.registry import list_models

        spec = model.spec
        precision = spec.encoder_revision.partition("-")[2]
        if source := spec.source:
            return cls(source, b"", spec.sha256, device, precision)
        if any(m.name == spec.name for m in list_models()):
            return cls(spec.name, b"", spec.sha256, device, precision)
        try:
            pickled = pickle.dumps(model)
        except (pickle.PicklingError, TypeError, AttributeError):
            pickled = b""
        if not 0 < len(pickled) < 2**20:
            raise ModelError(
                f"the model {spec.name!r} cannot be sent to other processes: load it "
                "by name or from a file with load_model, so that they can do the same"
            )
        return cls(None, pickled, spec.sha256, device)

    def load(self) -> PromptableModel:
        """Load the model here.

        Raises
        ------
        ModelError
            If it cannot be loaded, or its file is another one here.
        """
        model: PromptableModel
        if self.source is None:
            model = pickle.loads(self.pickled)
        else:
            from napari_sam.models.registry import load_model

            chosen = {"precision": self.precision} if self.precision else {}
            model = load_model(self.source, device=self.device, **chosen)
        if model.spec.sha256 != self.sha256:
            raise ModelError(
                f"the weights of {self.source!r} differ on this machine (SHA-256 "
                f"{model.spec.sha256[:12]} instead of {self.sha256[:12]}): copy the "
                "same file to every machine"
            )
        return model


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker needs to encode any region of a volume; small, sent with each."""

    volume: Volume
    model: ModelSource
    store: str | os.PathLike[str]
    signature: EmbeddingSignature
    grid: TileGrid
    n_planes: int
    intensity: IntensityMapping
    batch_size: int | None
    stop: str
    """Name of the `distributed.Event` that ends the job's tasks early."""

    @classmethod
    def of(
        cls,
        volume: Volume,
        model: ModelSource,
        store: EmbeddingStore,
        intensity: IntensityMapping,
        batch_size: int | None,
    ) -> Job:
        """Describe the work.

        Raises
        ------
        VolumeError, StoreError
            If the volume or the store has no path that other processes could open.
        """
        import os

        if volume.recipe is None:
            raise VolumeError(
                f"{volume.name!r} is an array of this process, which others cannot "
                "read: save it (as OME-Zarr or TIFF) and open that with open_volume"
            )
        if not isinstance(store.path, (str, os.PathLike)):
            raise StoreError(
                "the embedding store is an object of this process, which others cannot "
                "open: give encode_volume a path or URL"
            )
        path = os.fspath(store.path)
        if "://" not in path:
            path = os.path.abspath(path)
        return cls(
            volume, model, path, store.signature, store.grid, store.n_planes,
            intensity, batch_size, f"napari-sam-stop-{uuid.uuid4().hex}",
        )  # fmt: skip


def encode_on(
    client: Any,
    job: Job,
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
    job : Job
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

    packed = pickle.dumps(job)
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
            SharedEvent(job.stop, client).set()
            for future in running:
                future.release()


def encode_task(packed: bytes, region: Region) -> int:
    """Encode a region in a worker process; returns how many tiles are there more."""
    place = _workplace(packed)
    job = place.job
    steps = encode_region(
        place.volume, place.model, place.store, region,
        intensity=job.intensity, batch_size=place.batch_size, cancel=_Stop(job.stop),
    )  # fmt: skip
    return sum(steps)


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
            'several workers need dask: pip install "napari-sam[cluster]"'
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


# -- in the worker processes ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Workplace:
    job: Job
    volume: Volume
    model: PromptableModel
    store: EmbeddingStore
    batch_size: int


_opening = threading.Lock()


def _workplace(packed: bytes) -> _Workplace:
    # Several threads of a process would open the same model at the same moment.
    with _opening:
        return _open(packed)


@lru_cache(maxsize=2)
def _open(packed: bytes) -> _Workplace:
    from napari_sam.io.embeddings import EmbeddingStore

    job: Job = pickle.loads(packed)
    found = job.volume.identity()
    if found != job.signature.source:
        raise VolumeError(
            f"{job.volume.source!r} is another image on this worker: every machine "
            "must see the same files under the same paths"
        )
    model = _load(job.model)
    store = EmbeddingStore.open(
        job.store, job.signature, job.grid, job.n_planes, model.spec.feature_shapes,
        mode="r+", cache_bytes=0,
    )  # fmt: skip
    size = job.batch_size or (1 if model.device == "cpu" else 4)
    return _Workplace(job, job.volume, model, store, size)


@lru_cache(maxsize=1)
def _load(source: ModelSource) -> PromptableModel:
    return source.load()


class _Stop:
    """Whether the client has stopped the job; asked for at most a few times a second.

    Outside of a worker, as in tests of one task, nothing stops it.
    """

    def __init__(self, name: str) -> None:
        self._name, self._asked, self._set = name, time.monotonic(), False

    def __call__(self) -> bool:
        from distributed import Event as SharedEvent
        from distributed import get_worker

        if time.monotonic() - self._asked > _POLL_S and not self._set:
            self._asked = time.monotonic()
            try:
                get_worker()
            except ValueError:
                return False
            self._set = SharedEvent(self._name).is_set()
        return self._set
