"""Non-maximum suppression of boxes, as torchvision does it for SAM, from pairs.

Which boxes overlap is found once; who gives way to whom then follows at once for any
scores, order and threshold, so that a slider may ask.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_BLOCK = 256
"""Boxes compared with all others at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class BoxPairs:
    """Pairs of boxes, E of them, that overlap."""

    pairs: np.ndarray
    """(E, 2) int32, the first below the second."""
    iou: np.ndarray
    """(E,) float32"""


def inclusive(bboxes: np.ndarray) -> np.ndarray:
    """(N, 4) half-open boxes to first and last pixels, whose IoU SAM takes."""
    return np.asarray(bboxes, np.float64) - (0, 0, 1, 1)


def box_iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the IoU of boxes (..., 4) with others (..., 4), broadcast: float."""
    low = np.maximum(box[..., :2], others[..., :2])
    high = np.minimum(box[..., 2:], others[..., 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=-1)
    union = _areas(box) + _areas(others) - shared
    return np.asarray(shared / np.maximum(union, 1e-9))


def _areas(boxes: np.ndarray) -> np.ndarray:
    return np.asarray(np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1))


def overlapping(boxes: np.ndarray, least: float) -> BoxPairs:
    """Find all pairs of boxes with an IoU of more than `least`.

    Parameters
    ----------
    boxes : ndarray, (N, 4), float
        (y0, x0, y1, x1).
    least : float
    """
    order = np.argsort(boxes[:, 0], kind="stable")
    boxes = np.ascontiguousarray(boxes[order])
    pairs, ious = [np.zeros((0, 2), np.int32)], [np.zeros(0, np.float32)]
    for start in range(0, len(boxes), _BLOCK):
        some = boxes[start : start + _BLOCK]
        # Sorted by the top: none beyond begins before all of these have ended.
        stop = int(np.searchsorted(boxes[:, 0], some[:, 2].max(), "left"))
        others = boxes[start : max(stop, start + 1)]
        meet = (others[:, 1] < some[:, 3].max()) & (others[:, 3] > some[:, 1].min())
        reach = np.flatnonzero(meet)
        found = box_iou(some[:, None], others[None, reach])
        rows, cols = np.nonzero(found > least)
        later = reach[cols] > rows
        rows, cols = rows[later], cols[later]
        ious.append(found[rows, cols].astype(np.float32))
        both = np.stack([order[start + rows], order[start + reach[cols]]], axis=1)
        pairs.append(np.sort(both, axis=1).astype(np.int32))
    return BoxPairs(np.concatenate(pairs), np.concatenate(ious))


def suppress(order: np.ndarray, pairs: np.ndarray, n: int) -> np.ndarray:
    """Keep what none before it that is kept rules out.

    Parameters
    ----------
    order : ndarray, (M,), int
        Which of `n` to look at, the best first.
    pairs : ndarray, (E, 2), int
        Those that rule each other out.
    n : int

    Returns
    -------
    ndarray, int
        What is kept, in that order.
    """
    rank = np.full(n, n, np.int64)
    rank[order] = np.arange(len(order))
    ranked = rank[pairs]
    ranked = ranked[(ranked < n).all(1)]
    better, worse = ranked.min(1), ranked.max(1)
    gone = np.zeros(len(order), bool)
    # All that nothing undecided stands before are kept at once, and so on.
    while better.size:
        blocked = np.zeros(len(order), bool)
        blocked[worse] = True
        gone[worse[~blocked[better]]] = True
        left = ~gone[better] & ~gone[worse]
        left &= blocked[better]
        better, worse = better[left], worse[left]
    return np.asarray(order[~gone])
