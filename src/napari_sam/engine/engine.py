"""The engine: what answers prompts, as one frozen snapshot."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.frames import Frame
from napari_sam.embeddings.encode import grid_for
from napari_sam.engine.stores import AxisStores
from napari_sam.errors import StoreError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from napari_sam.core.embedding import Embedding
    from napari_sam.core.intensity import IntensityMapping
    from napari_sam.core.planes import Plane
    from napari_sam.core.tiles import Tile, TileGrid, Window
    from napari_sam.embeddings.store import EmbeddingStore
    from napari_sam.models.protocol import PromptableModel
    from napari_sam.volume.volume import Volume

    Stores = Callable[[int], EmbeddingStore | None]
    """Gives the embedding store of an axis, or None where there is none."""

logger = logging.getLogger(__name__)

CACHE_BYTES = 512 * 2**20
"""Embeddings kept in memory by one `Engine`, unless it is told otherwise."""


@dataclass(frozen=True, slots=True, eq=False)
class Engine:
    """A volume, a model and an intensity mapping: everything that an answer rests on.

    Frozen, so that work in any thread goes on with what it was begun with, whatever the
    session does meanwhile: another model or mapping is another engine (`using`), with
    other stores and another cache. Made by `Engine.of`. Embeddings are looked up in
    memory, then in the store, and encoded (and stored) when neither has them.
    """

    volume: Volume
    model: PromptableModel
    intensity: IntensityMapping
    """How raw values become the model's input."""
    stores: Stores
    """Gives the embedding store of an axis, opened when it is first asked for: by
    workers alone, for opening may take long."""
    where: str | os.PathLike[str] | bool | None = False
    """Where the stores lie, as `Engine.of` takes it."""
    cache: EmbeddingCache = field(default_factory=lambda: EmbeddingCache(CACHE_BYTES))

    @classmethod
    def of(
        cls,
        volume: Volume,
        model: PromptableModel,
        *,
        intensity: IntensityMapping | None = None,
        embeddings: str | os.PathLike[str] | bool | None = False,
        stores: Stores | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> Engine:
        """Make an engine.

        Parameters
        ----------
        volume : Volume
        model : PromptableModel
        intensity : IntensityMapping, optional
            The volume's own when left out.
        embeddings : path, bool or None
            As for `Session`; nothing is stored when left out.
        stores : callable, optional
            Gives the embedding store of an axis, in place of `embeddings`.
        cache_bytes : int
            Memory for embeddings.
        """
        mapping = intensity or volume.intensity
        if stores is None:
            stores = AxisStores(volume, model, mapping, embeddings).get
        cache = EmbeddingCache(cache_bytes)
        return cls(volume, model, mapping, stores, embeddings, cache)

    def using(
        self,
        *,
        model: PromptableModel | None = None,
        intensity: IntensityMapping | None = None,
    ) -> Engine:
        """Return an engine of another model or intensity mapping, on the same image."""
        return Engine.of(
            self.volume,
            model or self.model,
            intensity=intensity or self.intensity,
            embeddings=self.where,
            cache_bytes=self.cache.max_bytes,
        )

    def grid(self, axis: int = 0) -> TileGrid:
        """Return the tiles on which embeddings of an axis are stored."""
        return grid_for(self.volume, self.model, axis)

    def embedding(self, plane: Plane, window: Window) -> Embedding:
        """Return the embedding of a window: from memory, the store, or encoded now."""
        found = self.cache.get(plane, window)
        if found is None:
            found = self._stored(plane, window) or self._encode(plane, window)
            self.cache.put(plane, window, found)
        return found

    def frame(self, window: Window) -> Frame:
        """Return a window as the model sees it."""
        spec = self.model.spec
        return Frame(
            window, spec.input_side, spec.mask_side, spec.enlarges, spec.stretches
        )

    def _encode(self, plane: Plane, window: Window) -> Embedding:
        store = self.stores(plane.axis)
        tile = self._tile(plane, window) if store is not None else None
        if store is None or tile is None:
            return self._encode_now(plane, window)
        with store.claim(plane.linear(self.volume.shape), [tile]) as waited:
            # Background work may just have encoded it.
            found = self._stored(plane, window) if waited else None
            return found or self._encode_now(plane, window)

    def _encode_now(self, plane: Plane, window: Window) -> Embedding:
        pixels = self.intensity.apply(self.volume.read(plane, window))
        found = _as_stored(self.model.encode(pixels[None])[0])
        self._keep(plane, window, found)
        return found

    def _stored(self, plane: Plane, window: Window) -> Embedding | None:
        store = self.stores(plane.axis)
        tile = self._tile(plane, window) if store is not None else None
        if store is None or tile is None:
            return None
        number = plane.linear(self.volume.shape)
        try:
            return store.get(number, tile)
        except StoreError as error:
            logger.warning("encoding again what the store has lost: %s", error)
            if store.writable:
                store.discard(number, tile)
            return None

    def _keep(self, plane: Plane, window: Window, embedding: Embedding) -> None:
        store = self.stores(plane.axis)
        tile = self._tile(plane, window) if store is not None else None
        if store is None or tile is None or not store.writable or self.cache.store_full:
            return
        try:
            store.put(plane.linear(self.volume.shape), tile, embedding)
        except StoreError as error:
            self.cache.store_full = True
            logger.warning("further embeddings stay in memory: %s", error)

    def _tile(self, plane: Plane, window: Window) -> Tile | None:
        grid = self.grid(plane.axis)
        if not 0 <= window.level < grid.n_levels:
            return None
        center = window.y0 + (window.h - 1) / 2, window.x0 + (window.w - 1) / 2
        tile = grid.owner(window.level, *center)
        return tile if tile.window == window else None


class EmbeddingCache:
    """Embeddings lately used by one engine, up to a number of bytes."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.store_full = False
        """Whether the store took no more, so that embeddings stay in memory."""
        self._kept: OrderedDict[tuple[Plane, Window], Embedding] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, plane: Plane, window: Window) -> Embedding | None:
        """Return the embedding of a window, or None."""
        key = (plane, window)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, plane: Plane, window: Window, embedding: Embedding) -> None:
        """Keep an embedding; the oldest go first."""
        key = (plane, window)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = embedding
                self._bytes += embedding.nbytes
            while self._bytes > self.max_bytes and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes


def _as_stored(embedding: Embedding) -> Embedding:
    """Round features as stores do, so that a mask is the same with and without one."""
    top = float(np.finfo(np.float16).max)

    def rounded(values: np.ndarray) -> np.ndarray:
        if values.dtype == np.float16:
            return values
        if values.max() > top or values.min() < -top:
            values = np.clip(values, -top, top)
        return values.astype(np.float16)

    features = {name: rounded(v) for name, v in embedding.features.items()}
    return replace(embedding, features=features)
