"""Which objects labels hold, and the same labels with other ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.results.label_arrays import iter_blocks_of, written_blocks

if TYPE_CHECKING:
    from collections.abc import Mapping


def object_ids(labels: Any) -> list[int]:
    """Return the ids that are in labels, rising; one pass over what was written."""
    ids: set[int] = set()
    for spans in iter_blocks_of(labels):
        ids.update(np.unique(np.asarray(labels[spans])).tolist())
    return sorted(ids - {0})


class Renumbered:
    """Read-only labels with other ids, several of which may be one.

    Parameters
    ----------
    labels : array-like, unsigned integers
    ids : mapping of int to int
        New value of each id that is there.
    """

    def __init__(self, labels: Any, ids: Mapping[int, int]) -> None:
        self._labels = labels
        self.shape: tuple[int, ...] = tuple(labels.shape)
        self.ndim = len(self.shape)
        pairs = sorted(ids.items())
        self._old = np.array([0, *(old for old, _ in pairs)], np.uint64)
        self._new = np.array([0, *(new for _, new in pairs)], np.uint64)
        small = int(self._new.max()) < 2**16
        self.dtype = np.dtype(np.uint16 if small else np.uint32)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        block = np.asarray(self._labels[key])
        places = np.searchsorted(self._old, block.astype(np.uint64))
        return self._new[places].astype(self.dtype)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[...], dtype=dtype)

    def written_blocks(self) -> Any:
        """Return the blocks that were ever written; None: not known."""
        return written_blocks(self._labels)
