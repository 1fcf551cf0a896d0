"""Objects in labels, found block by block: only blocks that were written are read."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.masks import Bbox, boxes_meet, crop_mask, union_bbox
from napari_sam.core.planes import Plane, count_planes, plane_at
from napari_sam.results.label_arrays import iter_blocks_of, written_blocks

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

_BLOCK = 2048
"""Side of the blocks that are read at a time."""
_KEPT = 2**24
"""Pixels of a plane that are kept between its two passes, rather than read twice."""


@dataclass(frozen=True, slots=True, eq=False)
class FoundObject:
    """An object on a plane."""

    id: int
    plane: Plane
    bbox: Bbox
    """(y0, x0, y1, x1) on the plane, half-open."""
    mask: np.ndarray
    """(y1 - y0, x1 - x0), bool."""


def find_objects(labels: Any, axis: int = 0) -> Iterator[FoundObject]:
    """Yield every object of every plane on an axis, plane by plane.

    Parameters
    ----------
    labels : array-like
        Unsigned integers of the volume's shape.
    axis : int
        Sliced axis among the last three.
    """
    for plane, blocks in planes_with_labels(labels, axis):
        for object_id, bbox, mask in _objects(labels, plane, blocks):
            yield FoundObject(object_id, plane, bbox, mask)


def iter_objects(
    labels: Any, plane: Plane, *, block: int = _BLOCK
) -> Iterator[tuple[int, Bbox, np.ndarray]]:
    """Yield the objects on a plane: (id, bbox, mask cropped to it).

    Each comes with the last block that holds it, by rising id within a block.

    Parameters
    ----------
    labels : array-like
        Unsigned integers of the volume's shape.
    plane : Plane
    """
    yield from _objects(labels, plane, _blocks_of_plane(labels, plane, block))


def planes_with_labels(
    labels: Any, axis: int = 0
) -> Iterator[tuple[Plane, list[Bbox]]]:
    """Yield the planes that may hold objects, and the blocks of each that do."""
    shape = labels.shape
    if len(shape) == 2:
        yield Plane(()), sorted(_bbox(s) for s in iter_blocks_of(labels))
        return
    if axis != 0:
        for plane in iter_planes(shape, axis):
            if blocks := list(_blocks_of_plane(labels, plane, _BLOCK)):
                yield plane, blocks
        return
    by_plane: dict[tuple[int, ...], list[Bbox]] = defaultdict(list)
    for spans in iter_blocks_of(labels):
        for index in np.ndindex(*(s.stop - s.start for s in spans[:-2])):
            at = tuple(s.start + i for s, i in zip(spans, index, strict=False))
            by_plane[at].append(_bbox(spans))
    for at in sorted(by_plane):
        yield Plane(at), sorted(by_plane[at])


def boxes_of(labels: Any, object_id: int) -> dict[Plane, Bbox]:
    """Where an object has pixels: its bounding box on each plane of axis 0."""
    boxes: dict[Plane, Bbox] = {}
    for spans in iter_blocks_of(labels):
        block = np.asarray(labels[spans])
        y, x = spans[-2].start, spans[-1].start
        for offsets in np.ndindex(*block.shape[:-2]):
            (y0, x0, y1, x1), _ = crop_mask(block[offsets] == object_id)
            if y1 > y0:
                pairs = zip(spans, offsets, strict=False)
                plane = Plane(tuple(s.start + i for s, i in pairs))
                found = (y0 + y, x0 + x, y1 + y, x1 + x)
                boxes[plane] = union_bbox(found, boxes.get(plane, (0, 0, 0, 0)))
    return boxes


def boxes_of_each(
    labels: Any, object_ids: Collection[int]
) -> dict[int, dict[Plane, Bbox]]:
    """Where objects have pixels: their bounding boxes on each plane of axis 0.

    One pass over the labels, however many objects there are.
    """
    wanted = set(object_ids)
    boxes: dict[int, dict[Plane, Bbox]] = {}
    if not wanted:
        return boxes
    for spans in iter_blocks_of(labels):
        block = np.asarray(labels[spans])
        y, x = spans[-2].start, spans[-1].start
        for offsets in np.ndindex(*block.shape[:-2]):
            pairs = zip(spans, offsets, strict=False)
            plane = Plane(tuple(s.start + i for s, i in pairs))
            for object_id, (rows, columns) in boxes_in_block(block[offsets]):
                if object_id in wanted:
                    found = boxes.setdefault(object_id, {})
                    at = (y + rows.start, x + columns.start,
                          y + rows.stop, x + columns.stop)  # fmt: skip
                    found[plane] = union_bbox(at, found.get(plane, (0, 0, 0, 0)))
    return boxes


def boxes_on_plane(
    labels: Any, plane: Plane, object_ids: Collection[int]
) -> dict[int, Bbox]:
    """Where objects have pixels on one plane, of any axis: their bounding boxes."""
    boxes: dict[int, Bbox] = {}
    for y, x, y1, x1 in _blocks_of_plane(labels, plane, _BLOCK):
        for object_id, (rows, columns) in boxes_in_block(
            np.asarray(labels[plane.window((y, x, y1, x1))])
        ):
            if object_id in object_ids:
                at = (y + rows.start, x + columns.start,
                      y + rows.stop, x + columns.stop)  # fmt: skip
                boxes[object_id] = union_bbox(at, boxes.get(object_id, (0, 0, 0, 0)))
    return boxes


def iter_blocks(
    labels: Any, plane: Plane, *, block: int = _BLOCK
) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
    """Yield ((y, x) of its corner, pixels) of each block of a plane with a label."""
    for box in _blocks_of_plane(labels, plane, block):
        part = np.asarray(labels[plane.window(box)])
        if part.any():
            yield box[:2], part


def iter_planes(shape: tuple[int, ...], axis: int = 0) -> Iterator[Plane]:
    """Yield every plane on an axis of a volume of that spatial shape."""
    for i in range(count_planes(shape, axis)):
        yield plane_at(shape, i, axis)


def boxes_in_block(block: np.ndarray) -> list[tuple[int, tuple[slice, ...]]]:
    """Return the id and the extent of every object in an array, by rising id.

    One pass over the pixels, however many objects there are.

    Examples
    --------
    >>> boxes_in_block(np.array([[0, 9, 9], [4, 0, 0]]))
    [(4, (slice(1, 2, None), slice(0, 1, None))), (9, (slice(0, 1, None), slice(1, 3, None)))]
    """  # noqa: E501
    from scipy import ndimage

    top = int(block.max(initial=0))
    if not top:
        return []
    if top <= max(block.size, 2**16):
        found = ndimage.find_objects(block.astype(np.int32, copy=False))
        return [(i, box) for i, box in enumerate(found, 1) if box is not None]
    # Ids far apart would make a list as long as the highest of them.
    ids, dense = np.unique(block, return_inverse=True)
    dense = dense.reshape(block.shape).astype(np.int32)
    if ids[0] != 0:
        dense += 1
    found = ndimage.find_objects(dense)
    kept = (box for box in found if box is not None)
    return list(zip(ids[ids > 0].tolist(), kept, strict=True))


def moments_in_block(
    block: np.ndarray,
) -> Iterator[tuple[int, int, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield each object of an array: id, pixels, lowest, highest and summed index.

    The highest index is half-open; all three have one number for each axis.
    """
    boxes = boxes_in_block(block)
    if not boxes:
        return
    ids = np.array([i for i, _ in boxes], np.int64)
    place = np.nonzero(block)
    which = np.searchsorted(ids, block[place].astype(np.int64))
    counts = np.bincount(which, minlength=len(ids))
    sums = np.stack(
        [np.bincount(which, weights=p, minlength=len(ids)) for p in place], axis=1
    )
    lows = np.array([[s.start for s in box] for _, box in boxes])
    highs = np.array([[s.stop for s in box] for _, box in boxes])
    for n, object_id in enumerate(ids.tolist()):
        yield object_id, int(counts[n]), lows[n], highs[n], sums[n]


def _objects(
    labels: Any, plane: Plane, blocks: Iterable[Bbox]
) -> Iterator[tuple[int, Bbox, np.ndarray]]:
    """Yield each object once its last block is read; the others wait in pieces."""
    boxes = list(blocks)
    kept: list[np.ndarray] | None = []
    found: list[list[tuple[int, tuple[slice, ...]]]] = []
    last: dict[int, int] = {}
    for n, box in enumerate(boxes):
        part = np.asarray(labels[plane.window(box)])
        found.append(boxes_in_block(part))
        last.update((object_id, n) for object_id, _ in found[-1])
        if kept is not None and (n + 1) * part.size > _KEPT:
            kept = None
        if kept is not None:
            kept.append(part)
    pieces: dict[int, list[tuple[Bbox, np.ndarray]]] = defaultdict(list)
    for n, ((y, x, y1, x1), objects) in enumerate(zip(boxes, found, strict=True)):
        if not objects:
            continue
        part = kept[n] if kept else np.asarray(labels[plane.window((y, x, y1, x1))])
        for object_id, (rows, columns) in objects:
            at = (y + rows.start, x + columns.start, y + rows.stop, x + columns.stop)
            pieces[object_id].append((at, part[rows, columns] == object_id))
            if last[object_id] == n:
                yield object_id, *_joined(pieces.pop(object_id))


def _joined(pieces: list[tuple[Bbox, np.ndarray]]) -> tuple[Bbox, np.ndarray]:
    if len(pieces) == 1:
        return pieces[0]
    whole: Bbox = (0, 0, 0, 0)
    for box, _ in pieces:
        whole = union_bbox(whole, box)
    out = np.zeros((whole[2] - whole[0], whole[3] - whole[1]), bool)
    for (y0, x0, y1, x1), mask in pieces:
        out[y0 - whole[0] : y1 - whole[0], x0 - whole[1] : x1 - whole[1]] |= mask
    return whole, out


def _blocks_of_plane(labels: Any, plane: Plane, side: int) -> Iterator[Bbox]:
    """Yield the blocks of a plane that may hold labels, at most `side` wide."""
    h, w = plane.shape(labels.shape)
    written = _written_on(labels, plane)
    for y in range(0, h, side):
        for x in range(0, w, side):
            box = (y, x, min(y + side, h), min(x + side, w))
            if written is None or any(boxes_meet(box, b) for b in written):
                yield box


def _written_on(labels: Any, plane: Plane) -> list[Bbox] | None:
    """Boxes of a plane that were ever written; None where that is not known."""
    known = written_blocks(labels)
    if known is None:
        return None
    y, x = plane.shown_axes()
    hidden = [a for a in range(len(labels.shape)) if a not in (y, x)]
    return [
        (s[y].start, s[x].start, s[y].stop, s[x].stop)
        for s in known
        if all(s[a].start <= i < s[a].stop
               for a, i in zip(hidden, plane.index, strict=True))
    ]  # fmt: skip


def _bbox(spans: tuple[slice, ...]) -> Bbox:
    y, x = spans[-2:]
    return y.start, x.start, y.stop, x.stop
