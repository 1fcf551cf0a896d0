"""Splits and merges that were asked for: frozen, to be computed in any thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.mask_prompt import MaskPrompt
from napari_sam.core.masks import crop_mask, union_bbox
from napari_sam.engine.divide import divide
from napari_sam.errors import Cancelled, PromptError
from napari_sam.results.label_arrays import highest_label
from napari_sam.results.label_objects import boxes_of_each, iter_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from napari_sam.core.masks import Bbox
    from napari_sam.core.planes import Plane
    from napari_sam.engine.engine import Engine
    from napari_sam.session.entries import Entry

    Cancel = Callable[[], bool]


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """What a split found."""

    masks: tuple[MaskPrompt, ...]
    """Pixels of each point, in the object's box."""
    highest: int
    """Highest id in the labels."""


@dataclass(frozen=True, slots=True, eq=False)
class Division:
    """A split that was asked for."""

    engine: Engine
    labels: Any
    object_id: int
    plane: Plane
    points: tuple[tuple[float, float], ...]
    position: int
    """Steps in the journal then."""

    def run(self, cancel: Cancel | None = None) -> Parts:
        """Look for the object's pixels, and divide them.

        Raises
        ------
        PromptError
            If the object is not on the plane, or a point lies outside it.
        Cancelled
        """
        mask = shown(self.labels, self.object_id, self.plane, cancel)
        for y, x in self.points:
            row, col = round(y) - mask.bbox[0], round(x) - mask.bbox[1]
            h, w = mask.mask.shape
            if not (0 <= row < h and 0 <= col < w and mask.mask[row, col]):
                raise PromptError(
                    f"the point (y={y:g}, x={x:g}) lies outside object "
                    f"{self.object_id}: a split takes points in each of its parts"
                )
        found = divide(self.engine, self.plane, mask, self.points)
        parts = (MaskPrompt(mask.bbox, found == k) for k in range(len(self.points)))
        return Parts(tuple(parts), highest_label(self.labels))


@dataclass(frozen=True, slots=True, eq=False)
class Union:
    """A merge that was asked for."""

    labels: Any
    ids: tuple[int, ...]
    """The first one stays."""
    hidden: Mapping[tuple[int, Plane], Bbox]
    """Boxes of the masks that were made for them, also where others lie above."""
    position: int
    """Steps in the journal then."""

    def run(self, cancel: Cancel | None = None) -> dict[Plane, MaskPrompt]:
        """Pixels of all of them, on the planes of all but the first.

        Raises
        ------
        PromptError
            If one of them is nowhere.
        Cancelled
        """
        boxes = boxes_of_each(self.labels, self.ids)
        _check(cancel)
        for (i, plane), box in self.hidden.items():
            held = boxes.setdefault(i, {})
            held[plane] = union_bbox(held.get(plane, (0, 0, 0, 0)), box)
        for i in self.ids:
            if not boxes.get(i):
                raise PromptError(f"object {i} has no pixel: choose another")
        into, *others = (boxes[i] for i in self.ids)
        out = {}
        for plane in dict.fromkeys(p for found in others for p in found):
            _check(cancel)
            box = into.get(plane, (0, 0, 0, 0))
            for found in others:
                box = union_bbox(box, found.get(plane, (0, 0, 0, 0)))
            pixels = np.asarray(self.labels[plane.window(box)])
            out[plane] = MaskPrompt(box, np.isin(pixels, self.ids))
        return out


def shown(
    labels: Any, object_id: int, plane: Plane, cancel: Cancel | None = None
) -> MaskPrompt:
    """Return the pixels that show an object on a plane.

    Raises
    ------
    PromptError
        If there are none.
    Cancelled
    """
    box: Bbox = (0, 0, 0, 0)
    for (y, x), block in iter_blocks(labels, plane):
        _check(cancel)
        (y0, x0, y1, x1), _ = crop_mask(block == object_id)
        box = union_bbox(box, (y0 + y, x0 + x, y1 + y, x1 + x))
    if box[2] == box[0]:
        raise PromptError(
            f"object {object_id} has no pixel on plane {plane.index or 0}: choose "
            "a plane on which it is shown"
        )
    return MaskPrompt(box, np.asarray(labels[plane.window(box)]) == object_id)


def touches(steps: Iterable[tuple[str, Entry]], ids: Collection[int]) -> bool:
    """Whether pixels of some objects were changed by any of these steps."""
    wanted = list(ids)
    return any(
        np.isin(values[patch.changed] if values.ndim else values, wanted).any()
        for _, entry in steps
        for patch in entry.pixels()
        for values in (patch.before, patch.after)
    )


def _check(cancel: Cancel | None) -> None:
    if cancel is not None and cancel():
        raise Cancelled
