"""Where an object should be in a frame in which it is missing, as a prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.planes import Plane
from napari_sam.core.prompts import Prompts
from napari_sam.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Sequence

_MARGIN = 1.0
"""Pixels by which an expected box is larger on each side."""


def expected(
    labels: Any, object_id: int, frames: Sequence[int], frame: int
) -> tuple[Plane, Prompts]:
    """Return the plane and the box in which an object should be.

    Between two frames it moves and grows evenly; beyond the first and the last one it
    goes on as it did. In 3-D it is the plane through its middle.

    Parameters
    ----------
    labels : array-like
        The first axis is time.
    object_id : int
    frames : sequence of int
        Those that it is in, rising.
    frame : int
        Another one.

    Returns
    -------
    plane : Plane
    prompts : Prompts
        A box.

    Raises
    ------
    SessionError
        If it is in this frame, in no frame, or would be outside of it.
    """
    if frame in frames or not frames:
        where = "is there" if frames else "is in no frame"
        raise SessionError(
            f"object {object_id} {where}: a gap is a frame in which an object that is "
            "in others is missing"
        )
    boxes = {f: _box(labels, object_id, f) for f in _near(frames, frame)}
    (a, low), *more = sorted(boxes.items())
    box = low
    if more:
        b, high = more[0]
        share = (frame - a) / (b - a)
        box = low + (high - low) * share
        if not 0 <= share <= 1:  # it goes on, and keeps the size it had at that end
            end = low if frame < a else high
            box = end - end.mean(0) + box.mean(0)
    shape = np.array(labels.shape[1:])
    index: tuple[int, ...] = (frame,)
    if len(shape) == 3:
        middle = int(np.clip(round(box[:, 0].mean() - 0.5), 0, shape[0] - 1))
        index, box, shape = (frame, middle), box[:, 1:], shape[1:]
    grown = np.clip(box + _MARGIN * np.array([[-1], [1]]), 0, shape)
    if (grown[1] - grown[0] < 1).any():
        raise SessionError(
            f"object {object_id} would be outside of the image in frame {frame}"
        )
    return Plane(index), Prompts.of(box=grown.reshape(-1).tolist())


def _near(frames: Sequence[int], frame: int) -> list[int]:
    """Two frames that tell most of another one: on both sides, or the nearest."""
    before = [f for f in frames if f < frame]
    after = [f for f in frames if f > frame]
    if before and after:
        return [before[-1], after[0]]
    return before[-2:] or after[:2]


def _box(labels: Any, object_id: int, frame: int) -> np.ndarray:
    """(2, d): corners of an object, half-open."""
    at = np.nonzero(np.asarray(labels[frame]) == object_id)
    return np.array([[a.min() for a in at], [a.max() + 1 for a in at]], float)
