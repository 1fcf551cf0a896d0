"""Objects in labels, found block by block: nothing of plane size is held in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.masks import Bbox, LabelPatch, crop_mask, union_bbox
from napari_sam.core.planes import Plane, count_planes, plane_at
from napari_sam.results.label_arrays import iter_blocks_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_sam.session import Session

_BLOCK = 2048
"""Side of the blocks that are read at a time."""


def iter_objects(
    labels: Any, plane: Plane, *, block: int = _BLOCK
) -> Iterator[tuple[int, Bbox, np.ndarray]]:
    """Yield the objects on a plane by rising id: (id, bbox, mask cropped to it).

    Parameters
    ----------
    labels : array-like
        Unsigned integers of the volume's shape.
    plane : Plane
    """
    boxes: dict[int, Bbox] = {}
    for corner, part in iter_blocks(labels, plane, block=block):
        for object_id in np.unique(part[part > 0]):
            (y0, x0, y1, x1), _ = crop_mask(part == object_id)
            dy, dx = corner
            found = (y0 + dy, x0 + dx, y1 + dy, x1 + dx)
            boxes[int(object_id)] = union_bbox(
                found, boxes.get(int(object_id), (0, 0, 0, 0))
            )
    for object_id, bbox in sorted(boxes.items()):
        yield object_id, bbox, np.asarray(labels[plane.window(bbox)]) == object_id


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


def iter_blocks(
    labels: Any, plane: Plane, *, block: int = _BLOCK
) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
    """Yield ((y, x) of its corner, pixels) of each block of a plane with a label."""
    h, w = plane.shape(labels.shape)
    for y in range(0, h, block):
        for x in range(0, w, block):
            window = plane.window((y, x, min(y + block, h), min(x + block, w)))
            part = np.asarray(labels[window])
            if part.any():
                yield (y, x), part


def iter_planes(shape: tuple[int, ...], axis: int = 0) -> Iterator[Plane]:
    """Yield every plane on an axis of a volume of that spatial shape."""
    for i in range(count_planes(shape, axis)):
        yield plane_at(shape, i, axis)


def paint_object(
    session: Session, plane: Plane, bbox: Bbox, mask: np.ndarray, object_id: int
) -> None:
    """Paint a mask read from a file into a session, as one change that can be undone.

    Pixels of other objects are kept or overwritten as `session.rule` says.
    """
    before = np.array(session.labels[plane.window(bbox)])
    free = mask if session.rule == "overwrite" else mask & (before == 0)
    after = before.copy()
    after[free] = object_id
    patch = LabelPatch(plane, bbox, before, after)
    session.writer(patch)
    session.record_paint(patch, object_id)
