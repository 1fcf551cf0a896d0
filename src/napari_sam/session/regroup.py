"""Pixels from one object to another: splitting and merging as single entries."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.masks import LabelPatch, union_bbox
from napari_sam.core.objects import ObjectRecord, PlaneRecord
from napari_sam.core.prompts import Prompts
from napari_sam.session.entries import ObjectState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from napari_sam.core.mask_prompt import MaskPrompt
    from napari_sam.core.masks import Bbox
    from napari_sam.core.planes import Plane
    from napari_sam.session.composition import Changes
    from napari_sam.session.document import Document


def split(
    document: Document, plane: Plane, object_id: int, parts: Mapping[int, MaskPrompt]
) -> None:
    """Give parts of an object on a plane to objects of their own, as one change.

    Parameters
    ----------
    object_id : int
    parts : mapping of int to MaskPrompt
        The object's pixels on the plane, each in one part; `object_id` is among them,
        the others are new.
    """
    key = object_id, plane
    document.order += 1
    with document.changing() as changes:
        _hand_over(document, changes, plane, parts, [object_id])
    states: dict[Any, Any] = {}
    painted: dict[Any, Any] = {}
    about: dict[Any, Any] = {}
    for i, mask in parts.items():
        state = _state(document, (object_id, plane), (i, plane), mask)
        if state is not None:
            states[i, plane] = state
        elif key in document.painted and i != object_id:
            painted[i, plane] = document.painted[key]
        known = document.about.get(object_id)
        if known is not None and i != object_id:
            about[i] = ObjectRecord(i, class_name=known.class_name, parent=known.parent)
    values = {"states": states, "painted": painted, "about": about}
    document.commit(document.entry("split", changes, values))


def merge(
    document: Document,
    into: int,
    others: Iterable[int],
    masks: Mapping[Plane, MaskPrompt],
) -> None:
    """Give all pixels of some objects to one of them, as one change.

    Parameters
    ----------
    into : int
        The object that stays, with its name and class.
    others : iterable of int
        Those that are no more.
    masks : mapping of Plane to MaskPrompt
        Pixels of all of them, wherever any of `others` is.
    """
    gone = set(others)
    document.order += 1
    states: dict[Any, Any] = {k: None for k in document.states if k[0] in gone}
    painted: dict[Any, Any] = {k: None for k in document.painted if k[0] in gone}
    with document.changing() as changes:
        for plane, mask in masks.items():
            _hand_over(document, changes, plane, {into: mask}, [into, *gone])
            for i in (into, *sorted(gone)):
                state = _state(document, (i, plane), (into, plane), mask)
                if state is not None:
                    states[into, plane] = state
                    break
            else:
                painted[into, plane] = _record(document, plane, (into, *sorted(gone)))
        for key in [k for k in document.pixels.claims if k[0] in gone]:
            document.pixels.release(changes, key)  # hidden whole beneath others
    about: dict[int, Any] = {i: None for i in gone if i in document.about}
    for i, record in document.about.items():
        if record.parent in gone and i not in gone:
            about[i] = replace(record, parent=None if i == into else into)
    values = {"states": states, "painted": painted, "about": about}
    document.commit(document.entry("merge", changes, values))


def _hand_over(
    document: Document, changes: Changes, plane: Plane,
    masks: Mapping[int, MaskPrompt], former: Iterable[int],
) -> None:  # fmt: skip
    """Make masks the objects' pixels, in place of what `former` objects have there.

    The masks are pixels that these objects show, so they lie on top of all others.
    """
    pixels = document.pixels
    held = set(former)
    for i in held:
        pixels.release(changes, (i, plane))
    whole: Bbox = (0, 0, 0, 0)
    for mask in masks.values():
        whole = union_bbox(whole, mask.bbox)
    here = document.read(plane, whole)
    base = np.isin(here, list(held))
    if base.any():
        nothing = np.array(here.dtype.type(0))
        patch = LabelPatch(plane, whole, np.array(here), nothing, base)
        pixels.write(patch)
        pixels.paint(changes, patch)
    for i, mask in masks.items():
        pixels.claim(
            changes, (i, plane), mask.bbox, mask.mask, document.order, "overwrite"
        )


def _state(
    document: Document, of: tuple[int, Plane], to: tuple[int, Plane], mask: MaskPrompt
) -> ObjectState | None:
    """What is said of an object: its mask as prompt, its origin as it was."""
    old = document.states.get(of)
    if old is None:
        return None
    score = (old.scores[old.chosen],) if old.scores else ()
    return ObjectState(
        *to, Prompts.of(mask=mask, level=old.prompts.level), (0,), score,
        old.origin, old.doubt, old.reviewed,
    )  # fmt: skip


def _record(document: Document, plane: Plane, ids: Iterable[int]) -> PlaneRecord:
    known = (document.painted.get((i, plane)) for i in ids)
    return next((r for r in known if r is not None), PlaneRecord("painted"))
