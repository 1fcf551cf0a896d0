"""Patches that lay masks into labels, take them up again, and erase objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.objects import (
    Key,
    ObjectState,
    Rule,
    differing_patch,
    lay_mask,
    touched,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from napari_sam.core.masks import Bbox, LabelPatch
    from napari_sam.core.planes import Plane
    from napari_sam.engine.prediction import Prediction

_NOWHERE = (0, 0, 0, 0)


def lay(
    labels: Any,
    key: Key,
    state: ObjectState | None,
    prediction: Prediction,
    rule: Rule,
) -> tuple[LabelPatch | None, ObjectState]:
    """Put a prediction's mask in the place of an object's former one.

    Returns
    -------
    patch : LabelPatch or None
        What changes in the labels; None when nothing does.
    state : ObjectState
        The object's state once that is written.
    """
    object_id, plane = key
    old = state.applied if state else None
    mask = prediction.chosen
    bbox = touched(old, mask.bbox)
    before = np.asarray(labels[plane.window(bbox)])
    after, applied = lay_mask(
        before, bbox[:2], mask.mask, mask.bbox, object_id, old, rule
    )
    scores = tuple(c.predicted_iou for c in prediction.candidates)
    return differing_patch(plane, bbox[:2], before, after), ObjectState(
        object_id, plane, prediction.prompts, prediction.choices, scores, applied
    )


def withdraw(labels: Any, state: ObjectState) -> LabelPatch | None:
    """Take up the mask that prompts made; painted pixels stay."""
    bbox, plane = state.applied.bbox, state.plane
    before = np.asarray(labels[plane.window(bbox)])
    after, _ = lay_mask(
        before, bbox[:2], None, _NOWHERE, state.object_id, state.applied, "keep"
    )
    return differing_patch(plane, bbox[:2], before, after)


def erase(
    labels: Any,
    object_id: int,
    states: Mapping[Key, ObjectState],
    boxes: Mapping[Plane, Bbox] | None = None,
) -> Iterator[LabelPatch]:
    """Remove every pixel of an object, a patch for each plane that has some."""
    from napari_sam.results.label_objects import boxes_of

    known = boxes_of(labels, object_id) if boxes is None else boxes
    for plane, found in known.items():
        state = states.get((object_id, plane))
        old = state.applied if state else None
        bbox = touched(old, found)
        before = np.asarray(labels[plane.window(bbox)])
        after, _ = lay_mask(before, bbox[:2], None, _NOWHERE, object_id, old, "keep")
        after[after == object_id] = 0
        patch = differing_patch(plane, bbox[:2], before, after)
        if patch is not None:
            yield patch
