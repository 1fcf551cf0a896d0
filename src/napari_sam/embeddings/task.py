"""What a worker process is told of an encoding, and what it does with it.

A task carries only names: where the image lies, which model, where the store is. A
worker process opens the three once.
"""

from __future__ import annotations

import pickle
import threading
import time
import uuid
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from napari_sam.embeddings.source import EmbeddingSource
from napari_sam.embeddings.tile_batches import Region, encode_region
from napari_sam.errors import ModelError, StoreError, VolumeError

if TYPE_CHECKING:
    import os

    from napari_sam.core.embedding import EmbeddingSignature
    from napari_sam.core.intensity import IntensityMapping
    from napari_sam.core.tiles import TileGrid
    from napari_sam.embeddings.store import EmbeddingStore
    from napari_sam.models.protocol import PromptableModel
    from napari_sam.volume.volume import Volume

_ASK_S = 0.2
"""How often a task asks whether its encoding was stopped."""
_KEPT_BYTES = 2**30
"""Freed memory that a worker keeps for its next tile."""


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
class EncodingTask:
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
    """Name of the `distributed.Event` that ends tasks early."""

    @classmethod
    def of(
        cls,
        source: EmbeddingSource,
        model: ModelSource,
        store: EmbeddingStore,
        batch_size: int | None,
    ) -> EncodingTask:
        """Describe the work.

        Raises
        ------
        VolumeError, StoreError
            If the volume or the store has no path that other processes could open.
        """
        import os

        volume = source.volume
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
            source.intensity, batch_size, f"napari-sam-stop-{uuid.uuid4().hex}",
        )  # fmt: skip


def encode_task(packed: bytes, region: Region) -> int:
    """Encode a region in a worker process; returns how many tiles are there more."""
    own = _worker(packed)
    steps = encode_region(
        own.source, own.store, region,
        batch_size=own.batch_size, cancel=_Stop(own.stop),
    )  # fmt: skip
    return sum(steps)


@dataclass(frozen=True, slots=True)
class _Worker:
    """What this process has opened for one encoding."""

    source: EmbeddingSource
    store: EmbeddingStore
    batch_size: int
    stop: str


_opening = threading.Lock()


def _worker(packed: bytes) -> _Worker:
    # Several threads of a process would open the same model at the same moment.
    with _opening:
        return _open(packed)


@lru_cache(maxsize=2)
def _open(packed: bytes) -> _Worker:
    from napari_sam.embeddings.store import EmbeddingStore

    task: EncodingTask = pickle.loads(packed)
    found = task.volume.identity()
    if found != task.signature.source:
        raise VolumeError(
            f"{task.volume.source!r} is another image on this worker: every machine "
            "must see the same files under the same paths"
        )
    model = _load(task.model)
    store = EmbeddingStore.open(
        task.store, task.signature, task.grid, task.n_planes, model.spec.feature_shapes,
        mode="r+", cache_bytes=0,
    )  # fmt: skip
    size = task.batch_size or (1 if model.device == "cpu" else 4)
    source = EmbeddingSource(task.volume, model, task.intensity)
    return _Worker(source, store, size, task.stop)


@lru_cache(maxsize=1)
def _load(source: ModelSource) -> PromptableModel:
    _keep_freed_memory()
    return source.load()


def _keep_freed_memory() -> None:
    """Let glibc keep what a network frees, for the next tile needs the same again.

    Dask starts workers with MALLOC_TRIM_THRESHOLD_=65536, after which every large
    array is fetched from the system anew: half of a small network's time.
    """
    import ctypes
    import sys

    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl has none
        trim_threshold, mmap_threshold = -1, -3
        mallopt(trim_threshold, _KEPT_BYTES)
        mallopt(mmap_threshold, 2**25)  # the most that glibc takes


class _Stop:
    """Whether the client has stopped; asked for at most a few times a second.

    Outside of a worker, as in tests of one task, nothing stops it.
    """

    def __init__(self, name: str) -> None:
        self._name, self._asked, self._set = name, time.monotonic(), False

    def __call__(self) -> bool:
        from distributed import Event as SharedEvent
        from distributed import get_worker

        if time.monotonic() - self._asked > _ASK_S and not self._set:
            self._asked = time.monotonic()
            try:
                get_worker()
            except ValueError:
                return False
            self._set = SharedEvent(self._name).is_set()
        return self._set
