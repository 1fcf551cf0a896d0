"""Labelled frames in numbers: where objects are, and how they move to the next one.

Objects move together where a stage drifts or tissue flows, and each a little by itself.
So the motion of a frame is first one shift for all of it, then, from what can be linked
without doubt, a shift for each place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_matrix
from scipy.spatial import cKDTree

from napari_sam.core.tracks import Node

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST_PIXELS = 2**16
"""Pixels of objects that are looked at in a frame; of more, every second and so on."""
_NEIGHBOURS = 8
"""Linked objects that the motion at a place is taken from."""
_STILL = 0.6
"""Share of objects' pixels from which on a frame has not drifted."""
_COARSE = 128
"""Longest side of the pictures that a frame's shift is found in."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """The objects of one labelled frame, in 2-D or 3-D."""

    number: int
    shape: tuple[int, ...]
    ids: np.ndarray
    """(n,) labels, rising."""
    areas: np.ndarray
    """(n,) in pixels or voxels."""
    centers: np.ndarray
    """(n, d) centroids, in units of the finest spacing."""
    looks: np.ndarray | None
    """(n, k) what each looks like, as unit vectors; or None."""
    labels: np.ndarray
    scale: np.ndarray
    """(d,) spacing by axis, in units of the finest."""
    where: tuple[np.ndarray, ...]
    """Where pixels of objects are: one array of indices an axis."""
    owner: np.ndarray
    """Index into `ids` of each of those."""
    step: int
    """Only every such pixel is in `where`."""
    rank: np.ndarray | None
    """Index into `ids` by label; None where labels are too large for such a table."""
    nodes: tuple[Node, ...]
    """In the order of `ids`."""

    @classmethod
    def of(
        cls,
        labels: np.ndarray,
        number: int = 0,
        spacing: Sequence[float] | None = None,
        looks: np.ndarray | None = None,
    ) -> Frame:
        """Measure a frame.

        Parameters
        ----------
        labels : ndarray, (y, x) or (z, y, x), unsigned integers
        number : int
        spacing : sequence of float, optional
            Of each axis; equal when left out.
        looks : ndarray, (n, k), optional
            In the order of the ids.
        """
        scale = np.ones(labels.ndim) if spacing is None else np.asarray(spacing, float)
        scale = scale / scale.min()
        labels = np.ascontiguousarray(labels)
        flat = np.flatnonzero(labels)
        ids, rank, owner = _ranked(labels.reshape(-1)[flat])
        areas = np.bincount(owner, minlength=len(ids)).astype(float)
        where = tuple(w.astype(np.int32) for w in np.unravel_index(flat, labels.shape))
        sums = [np.bincount(owner, weights=w, minlength=len(ids)) for w in where]
        centers = np.stack(sums, axis=1) / np.maximum(areas, 1)[:, None] * scale
        step = -(-len(flat) // _MOST_PIXELS) or 1
        return cls(
            number, labels.shape, ids, areas, centers, _unit(looks), labels, scale,
            tuple(w[::step] for w in where), owner[::step], step, rank,
            tuple(Node(number, i) for i in ids.tolist()),
        )  # fmt: skip

    def index(self, labels: np.ndarray) -> np.ndarray:
        """Return the places of labels among `ids`."""
        if self.rank is None:
            return np.searchsorted(self.ids, labels)
        return np.asarray(self.rank[labels])

    @property
    def diameters(self) -> np.ndarray:
        """(n,) of the circles or balls of the same size, in units of the spacing."""
        d = len(self.shape)
        size = self.areas * float(np.prod(self.scale))
        return np.asarray(
            2 * np.sqrt(size / np.pi) if d == 2 else np.cbrt(size * 6 / np.pi)
        )


def overlaps(a: Frame, b: Frame, shifts: np.ndarray) -> coo_matrix:
    """Count the pixels that objects share with those of another frame, once moved.

    Parameters
    ----------
    a, b : Frame
    shifts : ndarray, (n, d)
        How far each object of `a` is moved, in units of the spacing.

    Returns
    -------
    coo_matrix, (n, m)
    """
    moves = np.rint(shifts / a.scale).astype(np.int32)
    target = np.zeros(len(a.owner), np.int64)
    inside = np.ones(len(a.owner), bool)
    for axis, where in enumerate(a.where):
        there = where + moves[:, axis][a.owner]
        inside &= (there >= 0) & (there < b.shape[axis])
        target *= b.shape[axis]
        target += there
    rows = a.owner
    if not inside.all():
        target, rows = target[inside], rows[inside]
    found = b.labels.reshape(-1)[target]
    hit = found > 0
    n = max(len(b.ids), 1)
    at, counts = np.unique(
        rows[hit].astype(np.int64) * n + b.index(found[hit]), return_counts=True
    )
    return coo_matrix(
        (counts * float(a.step), (at // n, at % n)), shape=(len(a.ids), len(b.ids))
    )


def drift(a: Frame, b: Frame) -> np.ndarray:
    """Return the one shift that lays most objects of `a` onto those of `b`.

    Found by cross-correlation of the coarse frames, which is greatest where most is
    covered; no shift where that is not clearly more than without one.

    Returns
    -------
    ndarray, (d,), in units of the spacing
    """
    from skimage.registration import phase_cross_correlation

    still = np.zeros(len(a.shape))
    if not len(a.ids) or not len(b.ids):
        return still
    covered = overlaps(a, b, np.broadcast_to(still, a.centers.shape)).sum()
    if covered > _STILL * min(a.areas.sum(), b.areas.sum()):
        return still
    cell = max(1, -(-max(a.shape[-2:]) // _COARSE))
    one, two = _coarse(a, cell), _coarse(b, cell)
    found, *_ = phase_cross_correlation(two, one, normalization=None)
    shift = np.asarray(found, float) * cell * a.scale
    if not np.isfinite(shift).all() or not shift.any():
        return still
    then = overlaps(a, b, np.broadcast_to(shift, a.centers.shape)).sum()
    return shift if then > 1.1 * covered else still


def flow(
    frame: Frame, sources: np.ndarray, moved: np.ndarray, otherwise: np.ndarray
) -> np.ndarray:
    """Motion at each object: the median of what its linked neighbours did.

    Parameters
    ----------
    frame : Frame
    sources : ndarray of int, (k,)
        Objects of the frame that are linked.
    moved : ndarray, (k, d)
        How far each of them went.
    otherwise : ndarray, (d,)
        For frames with too few of them.

    Returns
    -------
    ndarray, (n, d)
    """
    out = np.tile(otherwise.astype(float), (len(frame.ids), 1))
    if len(sources) < 3:
        return out
    k = min(_NEIGHBOURS, len(sources))
    _, near = cKDTree(frame.centers[sources]).query(frame.centers, k=k)
    return np.asarray(np.median(moved[near.reshape(len(frame.ids), k)], axis=1))


def _coarse(frame: Frame, cell: int) -> np.ndarray:
    """Share of each cell that objects cover, as far as pixels were looked at."""
    cells = tuple(-(-n // cell) for n in frame.shape)
    at = np.ravel_multi_index(tuple(w // cell for w in frame.where), cells)
    filled = np.bincount(at, minlength=int(np.prod(cells)))
    return filled.reshape(cells).astype(float)


def _ranked(values: np.ndarray) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Distinct values, their places by value, and the place of each."""
    top = int(values.max(initial=0))
    if top > 2**22:
        ids, owner = np.unique(values, return_inverse=True)
        return ids.astype(np.int64), None, owner.reshape(-1).astype(np.int32)
    there = np.zeros(top + 1, bool)
    there[values] = True
    ids = np.flatnonzero(there)
    rank = np.zeros(top + 1, np.int32)
    rank[ids] = np.arange(len(ids))
    return ids, rank, rank[values]


def _unit(looks: np.ndarray | None) -> np.ndarray | None:
    if looks is None:
        return None
    length = np.linalg.norm(looks, axis=1, keepdims=True)
    return np.asarray(looks / np.maximum(length, 1e-12))
