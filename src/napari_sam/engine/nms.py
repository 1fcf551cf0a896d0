"""Non-maximum suppression of boxes, as torchvision does it for SAM."""

from __future__ import annotations

import numpy as np


def inclusive(bboxes: np.ndarray) -> np.ndarray:
    """(N, 4) half-open boxes to first and last pixels, whose IoU SAM takes."""
    return np.asarray(bboxes, np.float64) - (0, 0, 1, 1)


def box_iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the IoU of a box (4,) with others (N, 4): (N,) float."""
    low = np.maximum(box[:2], others[:, :2])
    high = np.minimum(box[2:], others[:, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=1)
    area = np.prod(box[2:] - box[:2])
    union = area + np.prod(others[:, 2:] - others[:, :2], axis=1) - shared
    return np.asarray(shared / np.maximum(union, 1e-9))


def nms(boxes: np.ndarray, order: np.ndarray, threshold: float) -> np.ndarray:
    """Keep boxes that none before them overlaps by more than a threshold.

    Parameters
    ----------
    boxes : ndarray, (N, 4), float
    order : ndarray, (M,), int
        Which to look at, the best first.
    threshold : float
        IoU.

    Returns
    -------
    ndarray, int
        What is kept, in that order.
    """
    boxes = boxes[order]
    alive = np.ones(len(order), bool)
    for i in range(len(order)):
        if alive[i]:
            later = np.flatnonzero(alive[i + 1 :]) + i + 1
            if later.size:
                alive[later[box_iou(boxes[i], boxes[later]) > threshold]] = False
    return order[alive]
