"""The embedding stores of an engine, opened when an axis is first used."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from napari_sam.embeddings.encode import open_store
from napari_sam.errors import StoreError

if TYPE_CHECKING:
    import os

    from napari_sam.core.intensity import IntensityMapping
    from napari_sam.embeddings.store import EmbeddingStore
    from napari_sam.models.protocol import PromptableModel
    from napari_sam.volume.volume import Volume

logger = logging.getLogger(__name__)


class AxisStores:
    """Opens a store for each axis, once, from any thread but the one that draws.

    Parameters
    ----------
    volume, model, intensity
        What the embeddings are of.
    where : path, bool or None
        Folder; None or True: next to the data or in the user's cache; False: none.
    """

    def __init__(
        self,
        volume: Volume,
        model: PromptableModel,
        intensity: IntensityMapping,
        where: str | os.PathLike[str] | bool | None,
    ) -> None:
        self._volume, self._model, self._intensity = volume, model, intensity
        self._wanted = where is not False
        self._where = None if isinstance(where, bool) else where
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
        if not self._wanted:
            return None
        with self._lock:
            if axis not in self._opened:
                self._opened[axis] = self._open(axis)
            return self._opened[axis]

    def _open(self, axis: int) -> EmbeddingStore | None:
        try:
            return open_store(
                self._volume, self._model, self._where,
                axis=axis, intensity=self._intensity,
            )  # fmt: skip
        except StoreError as error:
            if self._where is not None:
                raise
            logger.warning("embeddings stay in memory: %s", error)
            return None
