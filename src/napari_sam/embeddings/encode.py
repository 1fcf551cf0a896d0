"""Encode volumes tile by tile into a store: resumable, cancellable, in any order."""

from __future__ import annotations

from contextlib import closing, nullcontext
from typing import TYPE_CHECKING, Any

from napari_sam.embeddings.opening import open_store
from napari_sam.embeddings.source import EmbeddingSource, levels_of, planes_of
from napari_sam.embeddings.tile_batches import (
    REGION_TILES,
    TASK_TILES,
    Shard,
    encode_region,
    stopped,
)
from napari_sam.errors import NapariSamError, StoreError
from napari_sam.models.given import as_model

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Generator, Iterable, Iterator
    from threading import Event

    from napari_sam.core.intensity import IntensityMapping
    from napari_sam.core.planes import Plane
    from napari_sam.embeddings.scheduler import EncodingQueue
    from napari_sam.embeddings.store import EmbeddingStore
    from napari_sam.embeddings.tile_batches import Region
    from napari_sam.models.protocol import PromptableModel
    from napari_sam.volume.volume import Volume


def encode_volume(
    volume: Volume,
    model: PromptableModel | str | os.PathLike[str],
    store: EmbeddingStore | Any = None,
    *,
    planes: Iterable[Any] | None = None,
    axis: int = 0,
    levels: Iterable[int] | None = None,
    client: Any = None,
    device: str = "auto",
    shard: tuple[int, int] | None = None,
    cancel: Callable[[], bool] | Event | None = None,
    intensity: IntensityMapping | None = None,
    batch_size: int | None = None,
    check: bool | None = None,
) -> Iterator[tuple[int, int]]:
    """Encode all tiles of some planes that the store does not have yet.

    Stopped at any moment, by `cancel`, an error or the end of the process, it goes on
    where it was when called again: finished tiles are kept, and no other counts.

    Parameters
    ----------
    volume : Volume
    model : PromptableModel, str or path-like
        A model, its name, or a checkpoint.
    store : EmbeddingStore, path-like, URL or True, optional
        `default_store_path` when left out, and ``<image>.nsam-emb`` beside the image
        when True. An array in memory has no such place.
    planes : iterable of int, sequence of int or Plane, optional
        In the order they are wanted; all when left out.
    axis : int
        Sliced axis among the last three.
    levels : iterable of int, optional
        Pyramid levels; all when left out. The coarsest is encoded first.
    client : distributed.Client, optional
        Encodes on the workers of a dask cluster, which must see the image and the
        store under the same paths; see `napari_sam.embeddings.distribute`.
    device : str
        Where the workers run the model; "auto": the best that each has.
    shard : (i, n), optional
        Encode the i-th of n parts only, i from 0: for job arrays, whose n jobs share
        a store and nothing else.
    cancel : callable or threading.Event, optional
        Asked before each batch; once true, the generator ends.
    intensity : IntensityMapping, optional
        The volume's own when left out.
    batch_size : int, optional
        Windows that the model encodes at once: 1 on a CPU, 4 elsewhere.
    check : bool, optional
        Read the pixels of tiles that are there, too, and encode anew those that were
        made from others. Left out: unless the image lies on a server, where tiles are
        compared when they are first used.

    Yields
    ------
    done, total : int
        Tiles there and tiles wanted: once before any work, then after each batch, or
        each task of the cluster.

    Raises
    ------
    StoreError, SignatureError, VolumeError
        If the store or the image cannot be used.
    NapariSamError
        If the cluster cannot be reached any more, or its workers fail.

    Examples
    --------
    >>> for done, total in encode_volume(volume, model):  # doctest: +SKIP
    ...     print(f"{done} of {total} tiles")
    """
    source = EmbeddingSource.of(volume, as_model(model), intensity)
    wanted = planes_of(volume, planes, axis)
    _check_client(client)
    opened = _opened(source, store, axis)
    with nullcontext() if opened is store else opened:
        n_tiles = REGION_TILES if client is None and shard is None else TASK_TILES
        part = Shard.of(opened.grid, levels_of(opened.grid, levels), shard, n_tiles)
        # A plane's own tiles, and those that were there at the start.
        owned = [part.numbers(i, p) for i, p in enumerate(wanted)]
        started = [
            len(_there(volume, opened, p) & n)
            for p, n in zip(wanted, owned, strict=True)
        ]
        done, total = sum(started), sum(map(len, owned))
        yield done, total
        compare = not volume.is_remote if check is None else check

        def todo() -> Generator[Region]:
            nonlocal done
            for i, plane in enumerate(wanted):
                there = _there(volume, opened, plane)
                # Clicks and others encode, too.
                done += len(there & owned[i]) - started[i]
                known = opened.checked_numbers(plane.linear(volume.shape))
                yield from part.regions(i, plane, known if compare else there, there)

        options = {"client": client, "device": device, "batch_size": batch_size}
        for n in encode_regions(source, opened, todo(), cancel=cancel, **options):
            done += n
            yield done, total


def encode_queue(
    source: EmbeddingSource,
    store: EmbeddingStore,
    queue: EncodingQueue,
    *,
    client: Any = None,
    device: str = "auto",
    cancel: Callable[[], bool] | Event | None = None,
    batch_size: int | None = None,
) -> Iterator[tuple[int, int]]:
    """Encode what a queue wants, tile by tile, until it wants nothing more.

    `encode_volume` for work whose order changes meanwhile. Stopped at any moment, all
    finished tiles are kept, and a new queue goes on from there.

    Parameters
    ----------
    source : EmbeddingSource
    store : EmbeddingStore
        Of this source, open.
    queue : EncodingQueue
        Of this source and store.
    client, device, cancel, batch_size
        As for `encode_volume`.

    Yields
    ------
    done, total : int
        As `EncodingQueue.count`: once before any work, then after each batch.

    Raises
    ------
    StoreError, VolumeError, NapariSamError
        As `encode_volume` does.
    """
    done, total = queue.count()
    yield done, total
    n_tiles = TASK_TILES if client is not None else _batch(source.model, batch_size)
    options = {"client": client, "device": device, "batch_size": batch_size}
    taken = queue.take_each(n_tiles)
    for n in encode_regions(source, store, taken, cancel=cancel, **options):
        done += n
        if client is None and (total != queue.total or done > total):
            done, total = queue.count()  # the view has moved
        yield min(done, total), total


def encode_regions(
    source: EmbeddingSource,
    store: EmbeddingStore,
    regions: Generator[Region],
    *,
    client: Any = None,
    device: str = "auto",
    cancel: Callable[[], bool] | Event | None = None,
    batch_size: int | None = None,
) -> Iterator[int]:
    """Encode regions in the order given; yields how many tiles are there more.

    Whatever ends it, `regions` is closed, which tells it what was not done.
    Parameters are those of `encode_volume`.
    """
    with closing(regions):
        if client is not None:
            from napari_sam.embeddings.distribute import encode_on
            from napari_sam.embeddings.task import EncodingTask, ModelSource

            model = ModelSource.of(source.model, device)
            task = EncodingTask.of(source, model, store, batch_size)
            yield from encode_on(client, task, regions, cancel=cancel)
            return
        size = _batch(source.model, batch_size)
        while not stopped(cancel) and (region := next(regions, None)) is not None:
            yield from encode_region(
                source, store, region, batch_size=size, cancel=cancel
            )


def _batch(model: PromptableModel, batch_size: int | None) -> int:
    return batch_size or (1 if model.device == "cpu" else 4)


def _check_client(client: Any) -> None:
    if client is not None and not (
        hasattr(client, "submit") and hasattr(client, "scheduler_info")
    ):
        raise NapariSamError(
            f"client must be a dask.distributed Client; got {type(client).__name__}"
        )


def _there(volume: Volume, store: EmbeddingStore, plane: Plane) -> frozenset[int]:
    return store.numbers(plane.linear(volume.shape))


def _opened(source: EmbeddingSource, store: Any, axis: int) -> EmbeddingStore:
    from napari_sam.embeddings.store import EmbeddingStore

    if not isinstance(store, EmbeddingStore):
        # Nobody reads what is written here.
        return open_store(
            source.volume, source.model, store,
            axis=axis, intensity=source.intensity, cache_bytes=0,
        )  # fmt: skip
    if different := source.signature(axis).differences(store.signature):
        raise StoreError(
            f"the store {store.path} is open for other embeddings; different: "
            f"{', '.join(different)}. Open it with open_store(volume, model, path)"
        )
    return store
