"""What a person decides on proposals, as changes of a document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_sam.core.objects import PlaneRecord
from napari_sam.session.claims import Claim
from napari_sam.session.entries import Entry, ObjectState
from napari_sam.session.free_pixels import FreePixels

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy as np

    from napari_sam.core.masks import Bbox
    from napari_sam.core.objects import Key
    from napari_sam.core.planes import Plane
    from napari_sam.core.proposals import Proposal
    from napari_sam.session.composition import Changes
    from napari_sam.session.document import Document

Chosen = tuple[int, "Proposal"]
"""The object that a proposal becomes a part of, and the proposal."""


def accept_proposals(document: Document, chosen: Sequence[Chosen], order: int) -> int:
    """Make proposals objects, each on what is free; count those that are.

    Objects that are there already come first, so that new ones do not take what is
    theirs; the others in the order given.
    """
    made: list[Chosen] = []
    fresh: dict[Plane, list[Chosen]] = {}
    with document.changing() as changes:
        for object_id, p in chosen:
            if object_id not in document.keys:
                fresh.setdefault(p.plane, []).append((object_id, p))
            elif _grow(document, changes, object_id, p, order):
                made.append((object_id, p))
        for plane, ones in fresh.items():
            masks = [(i, p.bbox, p.mask) for i, p in ones]
            claims = claim_free(document, changes, plane, masks, order)
            made += [(i, p) for i, p in ones if (i, plane) in claims]
    if made:
        asked = [(i, p) for i, p in made if not p.prompts.is_empty]
        after: dict[str, dict[Any, Any]] = {
            "states": {(i, p.plane): _state_of(i, p) for i, p in asked},
            "painted": {(i, p.plane): _record_of(p) for i, p in made
                        if p.prompts.is_empty},
            "accepted": {p.number: i for i, p in made},
        }  # fmt: skip
        document.commit(document.entry("accept", changes, after))
    return len(made)


def _state_of(object_id: int, p: Proposal) -> ObjectState:
    scores = p.scores or (p.predicted_iou,)
    return ObjectState(
        object_id, p.plane, p.prompts, (p.choice,), scores, "suggested", p.doubt
    )


def _record_of(p: Proposal) -> PlaneRecord:
    return PlaneRecord("suggested", None, p.predicted_iou, p.doubt)


def _grow(
    document: Document, changes: Changes, object_id: int, p: Proposal, order: int
) -> bool:
    """Give an object that is there another mask; whether anything was free."""
    key = object_id, p.plane
    claim = document.pixels.claim(changes, key, p.bbox, p.mask, order, "keep")
    if claim.mask.any():
        return True
    document.pixels.release(changes, key)
    del changes.claims[key]
    return False


def claim_free(
    document: Document,
    changes: Changes,
    plane: Plane,
    masks: Iterable[tuple[int, Bbox, np.ndarray]],
    order: int,
) -> dict[Key, Claim]:
    """Put new objects on what is free of a plane; return what those got that did.

    Parameters
    ----------
    masks : iterable of (int, bbox, ndarray)
        Object, and its mask; the first one has what several cover.
    """
    free = FreePixels(plane, document.read, plane.shape(document.labels.shape))
    claims: dict[Key, Claim] = {}
    for object_id, bbox, mask in masks:
        took = free.take(object_id, bbox, mask)
        if took.any():
            claims[object_id, plane] = Claim.of(order, bbox, took)
    document.pixels.claim_new(changes, free.patches(), claims)
    return claims


def reject_proposals(document: Document, proposals: Iterable[Proposal]) -> int:
    """Take proposals away, and do not make them again; count them."""
    fresh = {p.number: p for p in proposals if p.number not in document.rejected}
    if fresh:
        _decide(document, "reject", fresh)
    return len(fresh)


def restore_proposals(document: Document, numbers: Iterable[int]) -> int:
    """Let rejected proposals wait again; count them."""
    back = dict.fromkeys(n for n in numbers if n in document.rejected)
    if back:
        _decide(document, "restore", back)
    return len(back)


def _decide(document: Document, kind: str, after: Mapping[int, Any]) -> None:
    entry = Entry(kind)
    held = document.rejected
    entry.values["rejected"] = {n: (held.get(n), p) for n, p in after.items()}
    document.put(entry)
    document.commit(entry)
