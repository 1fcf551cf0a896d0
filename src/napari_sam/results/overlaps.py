"""Which objects of two sets of labels lie on each other, and by how much."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.errors import VolumeError
from napari_sam.results.label_arrays import iter_blocks_of

if TYPE_CHECKING:
    from napari_sam.results.label_arrays import Spans


@dataclass(frozen=True, slots=True, eq=False)
class Overlaps:
    """Pixels of the objects of two sets of labels, and of what they share."""

    a: dict[int, int]
    """Pixels of each object of the first, by rising id."""
    b: dict[int, int]
    """Pixels of each object of the second."""
    pairs: np.ndarray
    """(n, 2) int64: ids of objects that share pixels, of the first and the second."""
    shared: np.ndarray
    """(n,) int64: how many pixels they share."""

    @property
    def ious(self) -> np.ndarray:
        """(n,) float64: intersection over union of each pair."""
        areas = [
            np.array([held[i] for i in ids], np.float64)
            for held, ids in zip((self.a, self.b), self.pairs.T.tolist(), strict=True)
        ]
        union = areas[0] + areas[1] - self.shared
        found: np.ndarray = self.shared / np.maximum(union, 1)
        return found


def overlaps(a: Any, b: Any) -> Overlaps:
    """Count the pixels that objects of two sets of labels share.

    Parameters
    ----------
    a, b : array-like
        Whole numbers of one shape, 0 for background; read block by block, so they may
        be larger than memory.

    Returns
    -------
    Overlaps

    Raises
    ------
    VolumeError
        If the shapes differ.

    Examples
    --------
    >>> found = overlaps(np.array([[1, 1, 2, 0]]), np.array([[7, 0, 9, 9]]))
    >>> found.pairs.tolist(), found.ious.tolist()
    ([[1, 7], [2, 9]], [0.5, 0.5])
    """
    if tuple(a.shape) != tuple(b.shape):
        raise VolumeError(
            f"labels to be compared have one shape; got {tuple(a.shape)} and "
            f"{tuple(b.shape)}"
        )
    areas_a: dict[int, int] = {}
    areas_b: dict[int, int] = {}
    codes: dict[int, int] = {}
    for spans in iter_blocks_of(a):
        here = _block(a, spans)
        _add(areas_a, here[here > 0])
        there = _block(b, spans)
        both = (here > 0) & (there > 0)
        _add(codes, (here[both] << np.uint64(32)) | there[both])
    for spans in iter_blocks_of(b):
        here = _block(b, spans)
        _add(areas_b, here[here > 0])
    known = sorted(codes.items())
    pairs = np.array([(c >> 32, c & 0xFFFFFFFF) for c, _ in known], np.int64)
    shared = np.array([n for _, n in known], np.int64)
    return Overlaps(
        dict(sorted(areas_a.items())),
        dict(sorted(areas_b.items())),
        pairs.reshape(-1, 2),
        shared,
    )


def matched(
    n_a: int, n_b: int, pairs: np.ndarray, ious: np.ndarray, threshold: float
) -> np.ndarray:
    """Match objects one to one: as many as can be, and of those the best IoU in all.

    Parameters
    ----------
    n_a, n_b : int
        Objects of either side.
    pairs : (n, 2) int
        Places, from 0, of objects that share pixels.
    ious : (n,) float
    threshold : float
        Least IoU of a match, 0..1.

    Returns
    -------
    (m,) int
        Which of the pairs are matches.
    """
    from scipy.optimize import linear_sum_assignment

    able = np.flatnonzero(ious >= threshold)
    if threshold > 0.5 or not len(able):  # no object has two of them
        return able
    out = []
    for part in _connected(n_a, n_b, pairs[able]):
        chosen = able[part]
        rows, at_row = np.unique(pairs[chosen, 0], return_inverse=True)
        columns, at_column = np.unique(pairs[chosen, 1], return_inverse=True)
        worth = np.zeros((len(rows), len(columns)))
        most = 2 * min(worth.shape)  # one match more outweighs any IoU
        worth[at_row, at_column] = 1 + ious[chosen] / most
        which = np.full(worth.shape, -1)
        which[at_row, at_column] = chosen
        out.append(which[linear_sum_assignment(worth, maximize=True)])
    found = np.concatenate(out)
    return np.sort(found[found >= 0])


def _connected(n_a: int, n_b: int, pairs: np.ndarray) -> list[np.ndarray]:
    """Pairs in groups that share no object: assignment is cubic in their size."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    ones = np.ones(len(pairs), bool)
    ends = (pairs[:, 0], pairs[:, 1] + n_a)
    graph = coo_matrix((ones, ends), shape=(n_a + n_b,) * 2)
    _, group = connected_components(graph, directed=False)
    of_pair = group[pairs[:, 0]]
    order = np.argsort(of_pair, kind="stable")
    cuts = np.flatnonzero(np.diff(of_pair[order])) + 1
    return np.split(order, cuts)


def _block(labels: Any, spans: Spans) -> np.ndarray:
    return np.asarray(labels[spans]).astype(np.uint64)


def _add(counts: dict[int, int], values: np.ndarray) -> None:
    found, n = np.unique(values, return_counts=True)
    for value, count in zip(found.tolist(), n.tolist(), strict=True):
        counts[value] = counts.get(value, 0) + count
