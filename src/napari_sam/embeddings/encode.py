"""Encode volumes tile by tile into a store: resumable, cancellable, planned."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from napari_sam.core.embedding import EmbeddingSignature
from napari_sam.core.planes import Plane, count_planes, plane_at
from napari_sam.core.tiles import TileGrid
from napari_sam.embeddings.tile_batches import (
    REGION_TILES,
    TASK_TILES,
    Share,
    encode_region,
    stopped,
)
from napari_sam.errors import NapariSamError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from threading import Event

    from napari_sam.core.intensity import IntensityMapping
    from napari_sam.embeddings.store import EmbeddingStore
    from napari_sam.models.protocol import PromptableModel
    from napari_sam.volume.volume import Volume


def grid_for(volume: Volume, model: PromptableModel, axis: int = 0) -> TileGrid:
    """Return the tiles that embeddings of a volume's planes live on.

    The tile side is the model's input side, neighbours share a quarter of it, and the
    coarsest level is one tile. Pixels are square, whatever the volume's spacing.
    """
    shape = Plane.of(volume.shape, 0, axis=axis).shape(volume.shape)
    return TileGrid.of(shape, model.spec.input_side, zoom=volume.zoom(axis))


def signature_for(
    volume: Volume,
    model: PromptableModel,
    grid: TileGrid,
    axis: int = 0,
    intensity: IntensityMapping | None = None,
) -> EmbeddingSignature:
    """Return what must agree before stored embeddings serve this volume and model.

    Parameters
    ----------
    volume, model
    grid : TileGrid
        As `grid_for` gives it.
    axis : int
        Sliced axis among the last three.
    intensity : IntensityMapping, optional
        The volume's own when left out.
    """
    spec = model.spec
    return EmbeddingSignature(
        model=spec.name,
        checkpoint_sha256=spec.sha256,
        encoder_revision=spec.encoder_revision,
        tile_side=grid.side,
        overlap=grid.overlap,
        n_levels=grid.n_levels,
        zoom=grid.zoom,
        axis=axis,
        intensity=(intensity or volume.intensity).to_json(),
        source=dict(volume.identity()),
    )


def open_store(
    volume: Volume,
    model: PromptableModel,
    path: Any = None,
    *,
    axis: int = 0,
    intensity: IntensityMapping | None = None,
    mode: str = "a",
    cache_bytes: int = 2**28,
) -> EmbeddingStore:
    """Open (or start) the embedding store of a volume's axis for a model.

    Parameters
    ----------
    volume, model
    path : path-like, URL or zarr store, optional
        `default_store_path` when left out.
    axis : int
        Sliced axis among the last three.
    intensity : IntensityMapping, optional
        The volume's own when left out.
    mode : {"a", "r+", "r"}
        As in `EmbeddingStore.open`.
    cache_bytes : int
        Memory for tiles.

    Raises
    ------
    StoreError, SignatureError
        As `EmbeddingStore.open` does.
    """
    from napari_sam.embeddings.store import EmbeddingStore

    grid = grid_for(volume, model, axis)
    return EmbeddingStore.open(
        default_store_path(volume) if path is None else path,
        signature_for(volume, model, grid, axis, intensity),
        grid,
        count_planes(volume.shape, axis),
        model.spec.feature_shapes,
        mode=mode,  # type: ignore[arg-type]
        cache_bytes=cache_bytes,
    )


def default_store_path(volume: Volume) -> Path:
    """Return where embeddings go by default: beside the data, else the user cache.

    Beside the data it is ``<name>.nsam-emb``. The cache is ``$NAPARI_SAM_CACHE`` or the
    system's folder for caches; it serves volumes in memory, on servers and in folders
    that cannot be written.
    """
    local = _local_path(volume.source)
    if local is not None and os.access(local.parent, os.W_OK):
        return local.with_name(f"{local.name}.nsam-emb")
    import hashlib
    import json

    import platformdirs

    cache = os.environ.get("NAPARI_SAM_CACHE") or platformdirs.user_cache_dir(
        "napari-sam", appauthor=False
    )
    identity = json.dumps(volume.identity(), sort_keys=True, default=str)
    key = hashlib.sha256(identity.encode()).hexdigest()[:16]
    return Path(cache).expanduser() / "embeddings" / f"{key}.nsam-emb"


def encode_volume(
    volume: Volume,
    model: PromptableModel,
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
) -> Iterator[tuple[int, int]]:
    """Encode all tiles of some planes that the store does not have yet.

    Stopped at any moment, by `cancel`, an error or the end of the process, it goes on
    where it was when called again: finished tiles are kept, and no other counts.

    Parameters
    ----------
    volume : Volume
    model : PromptableModel
    store : EmbeddingStore, path-like or URL, optional
        `default_store_path` when left out.
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
    wanted = planes_of(volume, planes, axis)
    _check_client(client)
    opened = _opened(volume, model, store, axis, intensity)
    n_tiles = REGION_TILES if client is None and shard is None else TASK_TILES
    share = Share.of(opened.grid, levels_of(opened.grid, levels), shard, n_tiles)
    # A plane's own tiles, and those that were there at the start.
    owned = [share.numbers(i, p) for i, p in enumerate(wanted)]
    started = [
        len(_there(volume, opened, p) & n) for p, n in zip(wanted, owned, strict=True)
    ]
    done, total = sum(started), sum(map(len, owned))
    yield done, total
    if client is not None:
        from napari_sam.embeddings.distribute import encode_on
        from napari_sam.embeddings.task import Job, ModelSource

        source = ModelSource.of(model, device)
        mapping = intensity or volume.intensity
        job = Job.of(volume, source, opened, mapping, batch_size)
        todo = (
            region
            for i, plane in enumerate(wanted)
            for region in share.regions(i, plane, _there(volume, opened, plane))
        )
        for n in encode_on(client, job, todo, cancel=cancel):
            done += n
            yield done, total
        return
    size = batch_size or (1 if model.device == "cpu" else 4)
    for i, plane in enumerate(wanted):
        there = _there(volume, opened, plane)
        done += len(there & owned[i]) - started[i]  # clicks and others encode too
        for region in share.regions(i, plane, there):
            for n in encode_region(
                volume, model, opened, region,
                intensity=intensity, batch_size=size, cancel=cancel,
            ):  # fmt: skip
                done += n
                yield done, total
            if stopped(cancel):
                return


def _check_client(client: Any) -> None:
    if client is not None and not (
        hasattr(client, "submit") and hasattr(client, "scheduler_info")
    ):
        raise NapariSamError(
            f"client must be a dask.distributed Client; got {type(client).__name__}"
        )


def _there(volume: Volume, store: EmbeddingStore, plane: Plane) -> frozenset[int]:
    return store.numbers(plane.linear(volume.shape))


def _opened(
    volume: Volume,
    model: PromptableModel,
    store: Any,
    axis: int,
    intensity: IntensityMapping | None,
) -> EmbeddingStore:
    from napari_sam.embeddings.store import EmbeddingStore

    if not isinstance(store, EmbeddingStore):
        # Nobody reads what is written here.
        return open_store(
            volume, model, store, axis=axis, intensity=intensity, cache_bytes=0
        )
    wanted = signature_for(volume, model, store.grid, axis, intensity)
    if different := wanted.differences(store.signature):
        raise StoreError(
            f"the store {store.path} is open for other embeddings; different: "
            f"{', '.join(different)}. Open it with open_store(volume, model, path)"
        )
    return store


def planes_of(volume: Volume, planes: Iterable[Any] | None, axis: int) -> list[Plane]:
    """Check the planes that a caller named, each once; None: all on the axis."""
    if planes is None:
        Plane.of(volume.shape, 0, axis=axis)  # refuses an axis that is not there
        n = count_planes(volume.shape, axis)
        return [plane_at(volume.shape, i, axis) for i in range(n)]
    given = [Plane.of(volume.shape, p, axis=axis) for p in planes]
    return list(dict.fromkeys(given))


def levels_of(grid: TileGrid, levels: Iterable[int] | None) -> list[int]:
    """Check the levels that a caller named; None: all of the grid."""
    chosen = list(range(grid.n_levels)) if levels is None else sorted(set(levels))
    if not chosen or chosen[0] < 0 or chosen[-1] >= grid.n_levels:
        raise NapariSamError(
            f"levels must be one or more of 0 ... {grid.n_levels - 1}; got {chosen}"
        )
    return chosen


def _local_path(source: str | None) -> Path | None:
    if not source:
        return None
    parts = urlsplit(source)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return None if "://" in source else Path(source)
