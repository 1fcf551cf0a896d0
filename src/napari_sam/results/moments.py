"""Sums over objects, block by block: counts, places, second moments, raw values.

A block is cut into runs, stretches of a row with one label. The moments of a run are
known in closed form, so that the cost goes with the runs rather than the pixels, and
parts of an object are joined without loss (Chan, Golub and LeVeque 1983).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_WEIGHTS = np.zeros(64)
_WEIGHTS[[5, 7, 15, 17, 25, 27]] = 1.0
_WEIGHTS[[21, 33]] = 2**0.5
_WEIGHTS[[13, 23]] = (1 + 2**0.5) / 2
"""Length that a border pixel stands for, by its neighbours (Benkrid and Crookes)."""
_SIDES = ((0, 1), (1, 0), (0, -1), (-1, 0))
_CORNERS = ((1, 1), (1, -1), (-1, 1), (-1, -1))
HALO = 2
"""Pixels around a block that its outline depends on."""


def pairs(ndim: int) -> list[tuple[int, int]]:
    """Return the pairs of axes that second moments are of, each once."""
    return list(combinations_with_replacement(range(ndim), 2))


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Parts of objects, n of them: d axes of place, c channels."""

    keys: np.ndarray
    """(n, 2), int: time point, id."""
    count: np.ndarray
    """(n,), float: pixels."""
    low: np.ndarray
    """(n, d), int: lowest index."""
    high: np.ndarray
    """(n, d), int: highest index, half-open."""
    mean: np.ndarray
    """(n, d), float: mean index."""
    scatter: np.ndarray
    """(n, len(pairs(d))), float: summed products of the distances to the mean."""
    value: np.ndarray
    """(n, c), float: mean raw value."""
    value_scatter: np.ndarray
    """(n, c), float: summed squares of the differences from it."""
    value_low: np.ndarray
    """(n, c), float."""
    value_high: np.ndarray
    """(n, c), float."""
    outline: np.ndarray
    """(n,), float: length of the outline, in pixels; 0 where it was not asked for."""

    def __len__(self) -> int:
        return len(self.count)

    def joined(self) -> Moments:
        """Return one part for each key, by rising key."""
        if not len(self):
            return self
        order = np.lexsort(self.keys.T[::-1])
        keys = self.keys[order]
        first = np.flatnonzero(np.r_[True, (keys[1:] != keys[:-1]).any(1)])
        group = np.repeat(np.arange(len(first)), np.diff(np.r_[first, len(keys)]))
        count = self.count[order]
        total = np.add.reduceat(count, first)

        def mean_of(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            values = values[order]
            mean = np.add.reduceat(values * count[:, None], first) / total[:, None]
            return mean, values - mean[group]

        def sum_of(values: np.ndarray) -> np.ndarray:
            found: np.ndarray = np.add.reduceat(values, first)
            return found

        mean, away = mean_of(self.mean)
        value, value_away = mean_of(self.value)
        within = np.stack([away[:, i] * away[:, j] for i, j in pairs(mean.shape[1])], 1)
        return Moments(
            keys[first],
            total,
            np.minimum.reduceat(self.low[order], first),
            np.maximum.reduceat(self.high[order], first),
            mean,
            sum_of(self.scatter[order] + within * count[:, None]),
            value,
            sum_of(self.value_scatter[order] + value_away**2 * count[:, None]),
            np.minimum.reduceat(self.value_low[order], first),
            np.maximum.reduceat(self.value_high[order], first),
            sum_of(self.outline[order]),
        )


def all_of(parts: Iterable[Moments]) -> Moments | None:
    """Return all parts together, one for each key; None where there are none.

    They are joined as they come, so that memory goes with the objects.
    """
    whole: list[Moments] = []
    waiting = 0
    for part in parts:
        whole.append(part)
        waiting += len(part)
        if waiting > 2**20:
            whole = [_together(whole).joined()]
            waiting = 0
    return _together(whole).joined() if whole else None


def block_moments(
    labels: np.ndarray,
    corner: Sequence[int],
    time: int | None,
    values: np.ndarray | None,
    outline: np.ndarray | None,
) -> Moments | None:
    """Return the moments of the objects in a block; None where there is none.

    Parameters
    ----------
    labels : ndarray, unsigned integers
        Of d axes, and time where there is one.
    corner : sequence of int
        Index of the block's first pixel, on each axis.
    time : int, optional
        Axis of time.
    values : ndarray, (..., c), optional
        Raw values of the same pixels.
    outline : ndarray, optional
        Of the block's shape: what each pixel adds to the outline.
    """
    rows = labels.reshape(-1, labels.shape[-1])
    starts = np.ones(rows.shape, bool)
    np.not_equal(rows[:, 1:], rows[:, :-1], out=starts[:, 1:])
    begin = np.flatnonzero(starts)
    ids = rows.ravel()[begin]
    kept = np.flatnonzero(ids)
    if not len(kept):
        return None
    length = np.diff(np.append(begin, rows.size))[kept]
    at = np.stack(np.unravel_index(begin[kept], labels.shape), 1) + np.asarray(corner)
    where = np.zeros(len(kept), np.int64) if time is None else at[:, time]
    if time is not None:
        at = np.delete(at, time, 1)
    last = at.shape[1] - 1
    high = at + 1
    high[:, last] = at[:, last] + length
    mean = at.astype(float)
    mean[:, last] += (length - 1) / 2
    scatter = np.zeros((len(kept), len(pairs(last + 1))))
    scatter[:, -1] = length * (length.astype(float) ** 2 - 1) / 12
    count = length.astype(float)
    value, spread, least, most = _values_of(values, begin, kept, count)
    around = np.zeros(len(kept))
    if outline is not None:
        around = np.add.reduceat(outline.ravel(), begin)[kept]
    keys = np.stack([where, ids[kept].astype(np.int64)], 1)
    return Moments(
        keys, count, at, high, mean, scatter, value, spread, least, most, around
    ).joined()


def outline_weights(labels: np.ndarray) -> np.ndarray:
    """Return what each pixel of a plane adds to its object's outline.

    As `skimage.measure.perimeter` with a neighbourhood of 4 counts each object alone.

    Parameters
    ----------
    labels : ndarray, (h + 2 * HALO, w + 2 * HALO)
        A block with what lies around it; 0 beyond the image.

    Returns
    -------
    ndarray, (h, w), float
    """
    h, w = (n - 2 * HALO for n in labels.shape)
    wide = labels[1:-1, 1:-1]
    border = np.zeros(wide.shape, bool)
    for dy, dx in _SIDES:
        n, m = wide.shape
        border |= wide != labels[1 + dy : 1 + dy + n, 1 + dx : 1 + dx + m]
    border &= wide != 0
    ys, xs = np.nonzero(border[1:-1, 1:-1])
    own, code = wide[ys + 1, xs + 1], np.ones(len(ys), np.int64)
    for steps, worth in ((_SIDES, 2), (_CORNERS, 10)):
        for dy, dx in steps:
            y, x = ys + 1 + dy, xs + 1 + dx
            code += worth * (border[y, x] & (wide[y, x] == own))
    out = np.zeros((h, w))
    out[ys, xs] = _WEIGHTS[code]
    return out


def _values_of(
    values: np.ndarray | None, begin: np.ndarray, kept: np.ndarray, count: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean, summed squares, least and greatest of each run, (n, c) each."""
    if values is None:
        none = np.zeros((len(kept), 0))
        return none, none, none, none
    flat = values.reshape(-1, values.shape[-1])
    sums = np.add.reduceat(flat, begin, dtype=np.float64)[kept]
    mean = sums / count[:, None]
    # Around a value of the block, so that squares of large values lose no digits.
    usual = float(np.median(mean)) if len(mean) else 0.0
    near = flat - usual
    squares = np.add.reduceat(near * near, begin, dtype=np.float64)[kept]
    spread = np.maximum(squares - (mean - usual) ** 2 * count[:, None], 0.0)
    least = np.minimum.reduceat(flat, begin)[kept].astype(float)
    most = np.maximum.reduceat(flat, begin)[kept].astype(float)
    return mean, spread, least, most


def _together(parts: Sequence[Moments]) -> Moments:
    names = [f.name for f in fields(Moments)]
    return Moments(*(np.concatenate([getattr(p, n) for p in parts]) for n in names))
