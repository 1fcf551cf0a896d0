"""The engine: what answers prompts, as one frozen snapshot."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.candidates import Decoded
from napari_sam.core.frames import Frame, window_prompts
from napari_sam.core.lru import ByteLRU
from napari_sam.embeddings.source import EmbeddingSource, checksum
from napari_sam.engine.stores import AxisStores
from napari_sam.errors import StoreError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from napari_sam.core.embedding import Embedding
    from napari_sam.core.intensity import IntensityMapping
    from napari_sam.core.planes import Plane
    from napari_sam.core.prompts import Prompts, WindowPrompts
    from napari_sam.core.tiles import Tile, TileGrid, Window
    from napari_sam.embeddings.store import EmbeddingStore
    from napari_sam.engine.prediction import Refined
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
    other stores and another cache. Made by `Engine.of`.

    An embedding is looked up in memory, then in the store, and encoded (and stored)
    when neither has it. It answers only for the pixels that it was made from: a stored
    tile is compared with the image once a process, and everything that is of an array
    in memory, which its owner may change, each time it is used.
    """

    source: EmbeddingSource
    """Volume, model and intensity mapping, as all encoding takes them."""
    stores: Stores
    """Gives the embedding store of an axis, opened when it is first asked for: by
    workers alone, for opening may take long."""
    where: str | os.PathLike[str] | bool | None
    """Where the stores lie, as `Engine.of` takes it."""
    _cache: ByteLRU[tuple[Plane, Window], tuple[Embedding, int | None]]
    """Embeddings, and the checksums of the raw pixels of those of arrays."""

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
        source = EmbeddingSource.of(volume, model, intensity)
        return cls(
            source,
            stores or AxisStores(source, embeddings).get,
            embeddings,
            ByteLRU(cache_bytes, lambda kept: kept[0].nbytes, keep_last=True),
        )

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
            cache_bytes=self._cache.max_bytes,
        )

    @property
    def volume(self) -> Volume:
        """The image."""
        return self.source.volume

    @property
    def model(self) -> PromptableModel:
        """The model."""
        return self.source.model

    @property
    def intensity(self) -> IntensityMapping:
        """How raw values become the model's input."""
        return self.source.intensity

    def grid(self, axis: int = 0) -> TileGrid:
        """Return the tiles on which embeddings of an axis are stored."""
        return self.source.grid(axis)

    def frame(self, window: Window) -> Frame:
        """Return a window as the model sees it."""
        spec = self.model.spec
        return Frame(
            window, spec.input_side, spec.mask_side, spec.enlarges, spec.stretches
        )

    def decode(
        self,
        plane: Plane,
        window: Window,
        prompts: Prompts,
        refined: Refined | None = None,
    ) -> Decoded:
        """Decode prompts in a window.

        Parameters
        ----------
        plane : Plane
        window : Window
        prompts : Prompts
            In level-0 pixels of the plane.
        refined : (logits, Window), optional
            Low-res logits to go on from, and the window they were seen in.
        """
        [given] = self._given(plane, window, [prompts], refined)
        return Decoded(window, self.model.decode(self.embedding(plane, window), given))

    def decode_many(
        self, plane: Plane, window: Window, asked: Sequence[Prompts]
    ) -> list[Decoded]:
        """Decode several sets of prompts in one window, batched; see `decode`."""
        given = self._given(plane, window, asked)
        raw = self.model.decode_many(self.embedding(plane, window), given)
        return [Decoded(window, each) for each in raw]

    def _given(
        self,
        plane: Plane,
        window: Window,
        asked: Sequence[Prompts],
        refined: Refined | None = None,
    ) -> list[WindowPrompts]:
        """Prompts as the model takes them in a window."""
        frame = self.frame(window)
        previous = None
        if refined is not None:
            previous, seen = refined
            if seen != window:
                ys, xs = frame.low_res_in_plane()
                lowest = float(previous.min())
                previous = self.frame(seen).resample(previous, ys, xs, lowest)
        shape = plane.shape(self.volume.shape)
        forms = self.model.spec.forms
        return [window_prompts(p, frame, previous, shape, forms) for p in asked]

    def embedding(self, plane: Plane, window: Window) -> Embedding:
        """Return the embedding of a window: from memory, the store, or encoded now.

        Raises
        ------
        VolumeError
            If the pixels cannot be read.
        """
        raw = self.volume.read(plane, window) if self.volume.in_memory else None
        now = None if raw is None else checksum(raw)
        kept = self._cache.get((plane, window))
        if kept is not None and kept[1] == now:
            return kept[0]

        def pixels() -> np.ndarray:
            if raw is None:
                return self.source.pixels(plane, window)
            return self.intensity.apply(raw)

        found = self._look_up(plane, window, pixels)
        self._cache.put((plane, window), (found, now))
        return found

    def _look_up(
        self, plane: Plane, window: Window, read: Callable[[], np.ndarray]
    ) -> Embedding:
        store = self.stores(plane.axis)
        tile = self._tile(plane, window)
        if store is None or tile is None:
            return self._encode(read())
        linear = plane.linear(self.volume.shape)
        if store.is_checked(linear, tile) and not self.volume.in_memory:
            found = self._stored(store, linear, tile, None)
            if found is not None:
                return found
        with store.claim(linear, [tile]):  # background work may be encoding it
            pixels = read()
            now = checksum(pixels)
            found = self._stored(store, linear, tile, now)
            if found is None:
                found = self._encode(pixels)
                self._keep(store, linear, tile, found, now)
        return found

    def _encode(self, pixels: np.ndarray) -> Embedding:
        return _as_stored(self.model.encode(pixels[None])[0])

    def _stored(
        self, store: EmbeddingStore, linear: int, tile: Tile, pixels: int | None
    ) -> Embedding | None:
        try:
            return store.get(linear, tile, pixels)
        except StoreError as error:
            logger.warning("encoding again what the store has lost: %s", error)
            if store.writable:
                store.discard(linear, tile)
            return None

    def _keep(
        self,
        store: EmbeddingStore,
        linear: int,
        tile: Tile,
        embedding: Embedding,
        pixels: int,
    ) -> None:
        if not store.writable or store.is_full:
            return
        try:
            store.put(linear, tile, embedding, pixels)
        except StoreError as error:
            store.is_full = True
            logger.warning("further embeddings stay in memory: %s", error)

    def _tile(self, plane: Plane, window: Window) -> Tile | None:
        grid = self.grid(plane.axis)
        if not 0 <= window.level < grid.n_levels:
            return None
        center = window.y0 + (window.h - 1) / 2, window.x0 + (window.w - 1) / 2
        tile = grid.owner(window.level, *center)
        return tile if tile.window == window else None


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
