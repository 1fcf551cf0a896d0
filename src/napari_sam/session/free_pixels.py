"""The free pixels of one plane handed out to many masks, as few patches."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.masks import LabelPatch, crop_mask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_sam.core.masks import Bbox
    from napari_sam.core.planes import Plane

_SIDE = 1024
"""Side of the squares that become patches."""


class FreePixels:
    """Hands out the free pixels of a plane, square by square, before they are written.

    Whoever comes first gets them.

    Parameters
    ----------
    plane : Plane
    read : callable
        (plane, bbox) -> labels there.
    shape : tuple of int
        (h, w) of the plane.
    """

    def __init__(
        self,
        plane: Plane,
        read: Callable[[Plane, Bbox], np.ndarray],
        shape: tuple[int, int],
    ) -> None:
        self.plane = plane
        self._read = read
        self._shape = shape
        self._squares: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}
        """Labels, and which of them are new."""

    def take(self, object_id: int, bbox: Bbox, mask: np.ndarray) -> np.ndarray:
        """Give an object what is free of a mask; (h, w) bool: what it took."""
        y0, x0, y1, x1 = bbox
        took = np.empty(mask.shape, bool)
        cells = product(
            range(y0 // _SIDE, -(-y1 // _SIDE)), range(x0 // _SIDE, -(-x1 // _SIDE))
        )
        for cell in cells:
            top, left = cell[0] * _SIDE, cell[1] * _SIDE
            a0, b0, a1, b1 = (
                max(y0, top), max(x0, left), min(y1, top + _SIDE), min(x1, left + _SIDE)
            )  # fmt: skip
            labels, new = self._square(cell, object_id)
            there = slice(a0 - top, a1 - top), slice(b0 - left, b1 - left)
            mine = slice(a0 - y0, a1 - y0), slice(b0 - x0, b1 - x0)
            here = labels[there]
            free = mask[mine] & (here == 0)
            here[free] = object_id
            new[there] |= free
            took[mine] = free
        return took

    def patches(self) -> Iterator[LabelPatch]:
        """Yield what is new, one patch a square."""
        for (row, col), (labels, new) in self._squares.items():
            (y0, x0, y1, x1), changed = crop_mask(new)
            if changed.size:
                top, left = row * _SIDE, col * _SIDE
                box = (top + y0, left + x0, top + y1, left + x1)
                after = labels[y0:y1, x0:x1].copy()
                zero = np.array(after.dtype.type(0))
                yield LabelPatch(self.plane, box, zero, after, changed)

    def _square(
        self, cell: tuple[int, int], object_id: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return a square's labels, of a type that holds an object's id."""
        if cell not in self._squares:
            y, x = cell[0] * _SIDE, cell[1] * _SIDE
            h, w = self._shape
            box = (y, x, min(y + _SIDE, h), min(x + _SIDE, w))
            labels = np.array(self._read(self.plane, box))
            self._squares[cell] = labels, np.zeros(labels.shape, bool)
        labels, new = self._squares[cell]
        if object_id > np.iinfo(labels.dtype).max:
            labels = labels.astype(np.uint32)
            self._squares[cell] = labels, new
        return labels, new
