"""The embedding stores of a session, opened when an axis is first used."""

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


class Stores:
    """Opens a store for each axis, once, from any thread.

    Parameters
    ----------
    where : path, bool or None
        Folder; None or True: next to the data or in the user's cache; False: none.
    """

    def __init__(self, where: str | os.PathLike[str] | bool | None) -> None:
        self._wanted = where is not False
        self._where = None if isinstance(where, bool) else where
        self._opened: dict[int, EmbeddingStore | None] = {}
        self._lock = threading.Lock()

    def get(
        self,
        volume: Volume,
        model: PromptableModel,
        axis: int,
        intensity: IntensityMapping,
    ) -> EmbeddingStore | None:
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
                try:
                    self._opened[axis] = open_store(
                        volume, model, self._where, axis=axis, intensity=intensity
                    )
                except StoreError as error:
                    if self._where is not None:
                        raise
                    logger.warning("embeddings stay in memory: %s", error)
                    self._opened[axis] = None
            return self._opened[axis]

    def clear(self) -> None:
        """Open them anew when they are next used."""
        with self._lock:
            self._opened.clear()
