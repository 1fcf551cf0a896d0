"""Encode volumes tile by tile into a store: resumable, cancellable, planned."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import numpy as np

from napari_sam.core.embedding import EmbeddingSignature
from napari_sam.core.planes import Plane, count_planes, plane_at
from napari_sam.core.tiles import TileGrid
from napari_sam.errors import NapariSamError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Sequence
    from threading import Event

    from napari_sam.core.intensity import IntensityMapping
    from napari_sam.core.tiles import Tile
    from napari_sam.io.embeddings import EmbeddingStore
    from napari_sam.io.volume import Volume
    from napari_sam.models.base import PromptableModel

_REGION_TILES = 64
"""Most tiles that one region, and so later one task, owns."""


def grid_for(volume: Volume, model: PromptableModel, axis: int = 0) -> TileGrid:
    """Return the tiles that embeddings of a volume's planes live on.

    The tile side is the model's input side, neighbours share a quarter of it, and the
    coarsest level is one tile.
    """
    shape = Plane.of(volume.shape, 0, axis=axis).shape(volume.shape)
    return TileGrid.of(shape, model.spec.input_side)


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

    Raises
    ------
    StoreError, SignatureError
        As `EmbeddingStore.open` does.
    """
    from napari_sam.io.embeddings import EmbeddingStore

    grid = grid_for(volume, model, axis)
    return EmbeddingStore.open(
        default_store_path(volume) if path is None else path,
        signature_for(volume, model, grid, axis, intensity),
        grid,
        count_planes(volume.shape, axis),
        model.spec.feature_shapes,
        mode=mode,  # type: ignore[arg-type]
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


@dataclass(frozen=True, slots=True)
class EncodingPlan:
    """What an encoding will take, found without reading a pixel."""

    n_planes: int
    tiles_per_plane: int
    bytes_per_tile: int
    """On disk, in float16."""

    @property
    def tiles(self) -> int:
        """Windows to encode when nothing is stored yet."""
        return self.n_planes * self.tiles_per_plane

    @property
    def disk_bytes(self) -> int:
        """Size of the finished store."""
        return self.tiles * self.bytes_per_tile


def plan_encoding(
    volume: Volume,
    model: PromptableModel,
    *,
    planes: Iterable[Any] | None = None,
    axis: int = 0,
    levels: Iterable[int] | None = None,
) -> EncodingPlan:
    """Return the number of tiles and the disk space that `encode_volume` will need.

    Parameters are those of `encode_volume`.
    """
    grid = grid_for(volume, model, axis)
    chosen = _levels(grid, levels)
    values = sum(math.prod(shape) for shape in model.spec.feature_shapes.values())
    return EncodingPlan(
        n_planes=len(_planes(volume, planes, axis)),
        tiles_per_plane=sum(grid.n_tiles(n) for n in chosen),
        bytes_per_tile=2 * values + 4,
    )


def encode_volume(
    volume: Volume,
    model: PromptableModel,
    store: EmbeddingStore | Any = None,
    *,
    planes: Iterable[Any] | None = None,
    axis: int = 0,
    levels: Iterable[int] | None = None,
    client: Any = None,
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
    client : None
        Encoding on several machines is not available yet.
    cancel : callable or threading.Event, optional
        Asked before each batch; once true, the generator ends.
    intensity : IntensityMapping, optional
        The volume's own when left out.
    batch_size : int, optional
        Windows that the model encodes at once: 1 on a CPU, 4 elsewhere.

    Yields
    ------
    done, total : int
        Tiles there and tiles wanted: once before any work, then after each batch.

    Raises
    ------
    StoreError, SignatureError, VolumeError
        If the store or the image cannot be used.

    Examples
    --------
    >>> for done, total in encode_volume(volume, model):  # doctest: +SKIP
    ...     print(f"{done} of {total} tiles")
    """
    if client is not None:
        raise NapariSamError(
            "encoding on several machines is not available yet: call without client"
        )
    wanted = _planes(volume, planes, axis)
    opened = _opened(volume, model, store, axis, intensity)
    chosen = _levels(opened.grid, levels)
    numbers = {n for level in chosen for n in _numbers(opened.grid, level)}
    total = len(wanted) * len(numbers)
    started = [len(_there(volume, opened, p) & numbers) for p in wanted]
    done = sum(started)
    yield done, total
    size = batch_size or (1 if model.device == "cpu" else 4)
    for plane, at_start in zip(wanted, started, strict=True):
        there = _there(volume, opened, plane)
        done += len(there & numbers) - at_start  # clicks and others encode too
        for region in regions(plane, opened.grid, chosen, skip=there):
            for n in encode_region(
                volume, model, opened, region,
                intensity=intensity, batch_size=size, cancel=cancel,
            ):  # fmt: skip
                done += n
                yield done, total
            if _stopped(cancel):
                return


@dataclass(frozen=True, slots=True)
class Region:
    """Tiles of one level of one plane that one task encodes and no other writes."""

    plane: Plane
    numbers: tuple[int, ...]
    """`Tile.number` of each."""


def regions(
    plane: Plane,
    grid: TileGrid,
    levels: Sequence[int],
    *,
    skip: Container[int] = (),
    n_tiles: int = _REGION_TILES,
) -> Iterator[Region]:
    """Cut a plane's tiles, less those to skip, into regions; coarsest level first."""
    for level in sorted(levels, reverse=True):
        span = _numbers(grid, level)
        for first in range(span.start, span.stop, n_tiles):
            block = range(first, min(first + n_tiles, span.stop))
            if numbers := tuple(n for n in block if n not in skip):
                yield Region(plane, numbers)


def encode_region(
    volume: Volume,
    model: PromptableModel,
    store: EmbeddingStore,
    region: Region,
    *,
    intensity: IntensityMapping | None = None,
    batch_size: int = 1,
    cancel: Callable[[], bool] | Event | None = None,
) -> Iterator[int]:
    """Encode a region's tiles; yields how many are there more after each batch."""
    linear = region.plane.linear(volume.shape)
    for start in range(0, len(region.numbers), batch_size):
        if _stopped(cancel):
            return
        numbers = region.numbers[start : start + batch_size]
        tiles = [store.grid.tile_by_number(n) for n in numbers]
        # A click may have encoded some of them meanwhile.
        missing = [t for t in tiles if not store.has(linear, t)]
        if missing:
            mapping = intensity or volume.intensity
            windows = _read(volume, region.plane, missing, mapping)
            for tile, embedding in zip(missing, model.encode(windows), strict=True):
                store.put(linear, tile, embedding)
        yield len(tiles)


def _there(volume: Volume, store: EmbeddingStore, plane: Plane) -> frozenset[int]:
    return store.numbers(plane.linear(volume.shape))


def _read(
    volume: Volume, plane: Plane, tiles: Sequence[Tile], intensity: IntensityMapping
) -> np.ndarray:
    """(B, h, w, 3) uint8: all tiles of a level have one size."""
    return np.stack([intensity.apply(volume.read(plane, t.window)) for t in tiles])


def _opened(
    volume: Volume,
    model: PromptableModel,
    store: Any,
    axis: int,
    intensity: IntensityMapping | None,
) -> EmbeddingStore:
    from napari_sam.io.embeddings import EmbeddingStore

    if not isinstance(store, EmbeddingStore):
        return open_store(volume, model, store, axis=axis, intensity=intensity)
    wanted = signature_for(volume, model, store.grid, axis, intensity)
    if different := wanted.differences(store.signature):
        raise StoreError(
            f"the store {store.path} is open for other embeddings; different: "
            f"{', '.join(different)}. Open it with open_store(volume, model, path)"
        )
    return store


def _planes(volume: Volume, planes: Iterable[Any] | None, axis: int) -> list[Plane]:
    if planes is None:
        Plane.of(volume.shape, 0, axis=axis)  # refuses an axis that is not there
        n = count_planes(volume.shape, axis)
        return [plane_at(volume.shape, i, axis) for i in range(n)]
    given = [Plane.of(volume.shape, p, axis=axis) for p in planes]
    return list(dict.fromkeys(given))


def _levels(grid: TileGrid, levels: Iterable[int] | None) -> list[int]:
    chosen = list(range(grid.n_levels)) if levels is None else sorted(set(levels))
    if not chosen or chosen[0] < 0 or chosen[-1] >= grid.n_levels:
        raise NapariSamError(
            f"levels must be one or more of 0 ... {grid.n_levels - 1}; got {chosen}"
        )
    return chosen


def _numbers(grid: TileGrid, level: int) -> range:
    first = sum(grid.n_tiles(n) for n in range(level))
    return range(first, first + grid.n_tiles(level))


def _stopped(cancel: Callable[[], bool] | Event | None) -> bool:
    if cancel is None:
        return False
    return cancel() if callable(cancel) else cancel.is_set()


def _local_path(source: str | None) -> Path | None:
    if not source:
        return None
    parts = urlsplit(source)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return None if "://" in source else Path(source)
