"""What a hand changed: pixels that late answers leave alone, objects it painted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.masks import LabelPatch, crop_mask
from napari_sam.session.claims import Meeting

if TYPE_CHECKING:
    from napari_sam.core.mask_prompt import MaskPrompt
    from napari_sam.core.masks import Bbox
    from napari_sam.core.planes import Plane
    from napari_sam.session.entries import Entry

_HAND = ("paint", "delete", "undo", "redo")
"""Steps that a late answer must not undo."""


def less_strokes(
    mask: np.ndarray, plane: Plane, bbox: Bbox, steps: list[tuple[str, Entry]]
) -> np.ndarray:
    """Leave out of a mask what a hand changed in these steps."""
    fresh = False
    for kind, entry in steps:
        if kind not in _HAND:
            continue
        for patch in entry.changes_on(plane, bbox):
            met = Meeting.of(plane, bbox, patch.plane, patch.bbox)
            if met is None:
                continue
            if not fresh:
                mask, fresh = mask.copy(), True
            mask[met.mine] &= ~met.to_mine(patch.changed[met.theirs])
    return mask


def painted_ids(patch: LabelPatch, given: int | None) -> list[int]:
    """Objects that a patch paints."""
    if not patch.after.ndim:
        found = [int(patch.after)]
    else:
        values = patch.after[patch.changed]
        if not values.size:
            return []
        first = int(values[0])
        same = first == (given or first) and bool((values == first).all())
        found = [first] if same else [int(v) for v in np.unique(values)]
    return [i for i in found if i]


def repainting(
    here: np.ndarray, object_id: int, plane: Plane, mask: MaskPrompt
) -> list[LabelPatch]:
    """Return patches for what a box of a plane has too much or too little of an object.

    Parameters
    ----------
    here : ndarray, (h, w)
        Labels within the mask's box.
    mask : MaskPrompt
        All that the object is to be there.
    """
    out = []
    for value, pixels in (
        (0, (here == object_id) & ~mask.mask),
        (object_id, mask.mask & (here == 0)),
    ):
        if pixels.any():
            (y0, x0, y1, x1), inside = crop_mask(pixels)
            top, left = mask.bbox[:2]
            box = (top + y0, left + x0, top + y1, left + x1)
            before = here[y0:y1, x0:x1].copy()
            after = np.array(here.dtype.type(value))
            out.append(LabelPatch(plane, box, before, after, inside))
    return out
