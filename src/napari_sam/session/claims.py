"""Claims: the pixels that an object's mask holds on a plane, and where they meet."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.session.packed import Packed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_sam.core.masks import Bbox
    from napari_sam.core.objects import Key
    from napari_sam.core.planes import Plane

Part = tuple[slice, slice]
"""Rows and columns of a crop."""
_SIDES = (8, 256, 256)
"""Side of the cells by which claims are found, in z, y and x; other axes: 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Claim:
    """Pixels that an object's mask holds on a plane, whatever lies above them."""

    order: int
    """Which of two claims lies on top: that of the request sent later."""
    bbox: Bbox
    pixels: Packed
    """(h, w) bool."""

    @property
    def mask(self) -> np.ndarray:
        """(h, w) bool."""
        return self.pixels.array

    @classmethod
    def of(cls, order: int, bbox: Bbox, mask: np.ndarray) -> Claim:
        """Hold a mask, which is not to be changed any more."""
        return cls(order, bbox, Packed(mask))

    def without(self, part: Part, pixels: np.ndarray) -> Claim:
        """Return the claim less some of its pixels."""
        mask = self.mask.copy()
        mask[part] &= ~pixels
        return Claim.of(self.order, self.bbox, mask)


@dataclass(frozen=True, slots=True)
class Meeting:
    """Where two boxes on planes share voxels: the same plane, or planes that cross."""

    mine: Part
    """Part of the first box."""
    theirs: Part
    """Part of the second."""

    @classmethod
    def of(cls, plane: Plane, bbox: Bbox, other: Plane, box: Bbox) -> Meeting | None:
        """Return where two boxes meet, or None."""
        parts: list[list[slice]] = [[], []]
        spans = plane.window(bbox), other.window(box)
        for a, b in zip(*spans, strict=True):
            (a0, a1), (b0, b1) = _ends(a), _ends(b)
            low, high = max(a0, b0), min(a1, b1)
            if low >= high:
                return None
            if isinstance(a, slice):
                parts[0].append(slice(low - a0, high - a0))
            if isinstance(b, slice):
                parts[1].append(slice(low - b0, high - b0))
        (y, x), (v, u) = parts
        return cls((y, x), (v, u))

    def to_mine(self, pixels: np.ndarray) -> np.ndarray:
        """Lay pixels of `theirs` out as `mine`: where planes cross, a line."""
        return pixels.reshape(*(s.stop - s.start for s in self.mine))

    def to_theirs(self, pixels: np.ndarray) -> np.ndarray:
        """Lay pixels of `mine` out as `theirs`."""
        return pixels.reshape(*(s.stop - s.start for s in self.theirs))


def _ends(span: int | slice) -> tuple[int, int]:
    return (span.start, span.stop) if isinstance(span, slice) else (span, span + 1)


class ClaimIndex:
    """Finds the claims near a box, on its plane and on planes that cross it."""

    def __init__(self) -> None:
        self._cells: dict[tuple[int, ...], set[Key]] = {}

    def add(self, key: Key, bbox: Bbox) -> None:
        """Note where a claim lies."""
        for cell in _cells(key[1], bbox):
            self._cells.setdefault(cell, set()).add(key)

    def discard(self, key: Key, bbox: Bbox) -> None:
        """Forget a claim."""
        for cell in _cells(key[1], bbox):
            found = self._cells.get(cell, set())
            found.discard(key)
            if not found:
                self._cells.pop(cell, None)

    def near(self, plane: Plane, bbox: Bbox) -> set[Key]:
        """Return the claims in the cells that a box touches."""
        if not self._cells:
            return set()
        return set().union(*(self._cells.get(c, ()) for c in _cells(plane, bbox)))


def _cells(plane: Plane, bbox: Bbox) -> Iterator[tuple[int, ...]]:
    if bbox[2] <= bbox[0] or bbox[3] <= bbox[1]:
        return
    spans = plane.window(bbox)
    sides = (*(1,) * (len(spans) - 3), *_SIDES[-min(3, len(spans)) :])
    ends = (_ends(s) for s in spans)
    yield from product(
        *(range(a // n, -(-b // n)) for (a, b), n in zip(ends, sides, strict=True))
    )


class HiddenBase:
    """What lies beneath claims: labels that were painted, imported or given.

    Sparse, in blocks of volume coordinates; 0 where nothing is hidden.
    """

    def __init__(self) -> None:
        self._blocks: dict[tuple[int, ...], Packed] = {}

    def read(self, plane: Plane, bbox: Bbox) -> np.ndarray | None:
        """(h, w) values in a box, or None where nothing is hidden near it."""
        if not self._blocks:
            return None
        out: np.ndarray | None = None
        for cell in _blocks(plane, bbox):
            block = self._blocks.get(cell)
            if block is None:
                continue
            if out is None:
                out = np.zeros((bbox[2] - bbox[0], bbox[3] - bbox[1]), np.uint32)
            mine, theirs = _cut(plane, bbox, cell)
            out[mine] = block.array[theirs].reshape(out[mine].shape)
        return out

    def write(self, plane: Plane, bbox: Bbox, mask: np.ndarray, values: object) -> None:
        """Set the values of the pixels in a mask; 0 forgets them."""
        spread = np.broadcast_to(np.asarray(values, np.uint32), mask.shape)
        for cell in _blocks(plane, bbox):
            mine, theirs = _cut(plane, bbox, cell)
            here = mask[mine]
            if not here.any():
                continue
            held = self._blocks.get(cell)
            block = np.zeros((_BLOCK, _BLOCK), np.uint32) if held is None else (
                held.array.copy()
            )  # fmt: skip
            part = block[theirs]
            part[here.reshape(part.shape)] = spread[mine][here]
            if block.any():
                self._blocks[cell] = packed = Packed(block)
                packed.pack()
            else:
                self._blocks.pop(cell, None)

    def holding(self, object_id: int) -> Iterator[tuple[tuple[int, ...], Bbox]]:
        """Yield where an object is hidden: (index of the last two axes' plane, box)."""
        for (*index, y, x), block in list(self._blocks.items()):
            found = block.array == object_id
            rows, cols = np.flatnonzero(found.any(1)), np.flatnonzero(found.any(0))
            if rows.size:
                dy, dx = y * _BLOCK, x * _BLOCK
                yield tuple(index), (
                    dy + int(rows[0]), dx + int(cols[0]),
                    dy + int(rows[-1]) + 1, dx + int(cols[-1]) + 1,
                )  # fmt: skip


_BLOCK = 256
"""Side of a block of hidden labels."""


def _blocks(plane: Plane, bbox: Bbox) -> Iterator[tuple[int, ...]]:
    *lead, y, x = (_ends(s) for s in plane.window(bbox))
    yield from product(
        *(range(a, b) for a, b in lead),
        *(range(a // _BLOCK, -(-b // _BLOCK)) for a, b in (y, x)),
    )


def _cut(
    plane: Plane, bbox: Bbox, cell: tuple[int, ...]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Part of a box that lies in a block, and the part of the block it is."""
    mine: list[slice] = []
    theirs: list[slice] = []
    spans = plane.window(bbox)
    flat = len(spans) - 2
    for axis, (span, c) in enumerate(zip(spans, cell, strict=True)):
        side = _BLOCK if axis >= flat else 1
        a, b = _ends(span)
        low, high = max(a, c * side), min(b, (c + 1) * side)
        if isinstance(span, slice):
            mine.append(slice(low - a, high - a))
        if axis >= flat:
            theirs.append(slice(low - c * side, high - c * side))
    return (mine[0], mine[1]), (theirs[0], theirs[1])
