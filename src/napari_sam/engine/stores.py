"""The embedding stores of an engine, opened when an axis is first used."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from napari_sam.embeddings.opening import memory_store, open_store
from napari_sam.errors import StoreError

if TYPE_CHECKING:
    import os

    from napari_sam.embeddings.source import EmbeddingSource
    from napari_sam.embeddings.store import EmbeddingStore

logger = logging.getLogger(__name__)


class AxisStores:
    """Opens a store for each axis, once, from any thread but the one that draws.

    Parameters
    ----------
    source : EmbeddingSource
        What the embeddings are of.
    where : path, bool or None
        Folder; None: the user's cache, or memory for an array that has no name; True:
        beside the image; False: none.
    """

    def __init__(
        self, source: EmbeddingSource, where: str | os.PathLike[str] | bool | None
    ) -> None:
        self._source, self._where = source, where
        self._opened: dict[int, EmbeddingStore | None] = {}
        self._lock = threading.Lock()

    def get(self, axis: int) -> EmbeddingStore | None:
        """Return the store of an axis, or None when there is none.

        Raises
        ------
        StoreError
            If the folder that was asked for cannot be used; where none was asked for,
            embeddings stay in memory and the log says why.
        """
        if self._where is False:
            return None
        with self._lock:
            if axis not in self._opened:
                self._opened[axis] = self._open(axis)
            return self._opened[axis]

    def _open(self, axis: int) -> EmbeddingStore | None:
        source = self._source
        if self._where is None and source.volume.source is None:
            return memory_store(source, axis)
        try:
            return open_store(
                source.volume, source.model, self._where,
                axis=axis, intensity=source.intensity,
            )  # fmt: skip
        except StoreError as error:
            if self._where is not None:
                raise
            logger.warning("embeddings stay in memory: %s", error)
            return None
