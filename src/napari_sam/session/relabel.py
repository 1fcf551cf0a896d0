"""Other ids for objects in some frames of a time-lapse: the one edit that tracks need.

Linking, cutting, swapping and dividing differ in nothing but which object of a frame
has which id afterwards, and which object came from which.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.masks import LabelPatch, crop_mask
from napari_sam.core.planes import Plane
from napari_sam.core.tracks import Node
from napari_sam.errors import SessionError
from napari_sam.session.composition import Changes
from napari_sam.session.packed import PackedPatch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_sam.core.objects import Key
    from napari_sam.core.tracks import Edge, Link
    from napari_sam.session.document import Document

Names = dict[int, dict[int, int]]
"""New id of objects by frame: {frame: {old: new}}."""


@dataclass(frozen=True, slots=True, eq=False)
class Relabelling:
    """Other ids in some frames, all worked out: what is left is to write them."""

    moved: Mapping[Key, Key]
    patches: tuple[PackedPatch, ...]
    hidden: list[LabelPatch]
    """What changes beneath claims."""
    after: Mapping[str, Mapping[Any, Any]]
    """New values by section of the journal."""


def prepare(
    document: Document, names: Names, after: Mapping[str, Mapping[Any, Any]]
) -> Relabelling:
    """Work out what other ids in some frames change; any thread may.

    Parameters
    ----------
    document : Document
        Of a volume whose first axis is time; nothing in it is changed.
    names : dict of int to dict of int to int
        New id of objects by frame; two never become one.
    after : mapping of str to mapping
        New values by section of the journal: "about" and "links", both named as they
        are afterwards. None removes.

    Raises
    ------
    SessionError
        If two objects would become one, or one was drawn on a plane across time.
    """
    moved = _moved(document, names)
    patches: list[PackedPatch] = []
    hidden: list[LabelPatch] = []
    for frame, found in names.items():
        old, new = _table(found)
        for index in np.ndindex(*document.labels.shape[1:-2]):
            plane = Plane((frame, *index))
            pixels = np.asarray(document.labels[plane.index])
            if (patch := _patch(plane, pixels, old, new)) is not None:
                patches.append(_packed(patch))
            below = document.pixels.hidden.read(plane, (0, 0, *pixels.shape))
            if below is not None:
                more = _patch(plane, below, old, new, beneath=True)
                hidden += [] if more is None else [more]
    return Relabelling(moved, tuple(patches), hidden, after)


def relabel(document: Document, change: Relabelling) -> list[Key]:
    """Give objects other ids, as one change.

    Parameters
    ----------
    document : Document
        As it was when the change was prepared.

    Returns
    -------
    list of (int, Plane)
        Objects on planes that have another id now.
    """
    moved = change.moved
    values = {
        "states": _renamed(document.states, moved),
        "painted": _renamed(document.painted, moved),
        **change.after,
    }
    values["states"] = {
        key: state and replace(state, object_id=key[0])
        for key, state in values["states"].items()
    }
    held = document.pixels.claims
    claims = {
        key: (held.get(key), claim) for key, claim in _renamed(held, moved).items()
    }
    written: list[PackedPatch] = []
    try:
        for packed in change.patches:
            written.append(packed)
            document.pixels.write(packed.patch())
    except BaseException:
        for packed in reversed(written):
            document.pixels.write(packed.patch().reversed())
        raise
    after = {key: pair[1] for key, pair in claims.items()}
    document.pixels.apply_hidden(change.hidden, after)
    changes = Changes(list(written), change.hidden, claims)  # type: ignore[arg-type]
    last = document.last
    entry = document.entry("track", changes, values)
    document.last = None if last is None else moved.get(last, last)
    document.commit(entry)
    return list(moved)


def renamed_links(
    document: Document, names: Names, said: Mapping[Edge, Link | None]
) -> dict[Edge, Link | None]:
    """Return changes of links where nodes get other ids.

    Parameters
    ----------
    said : mapping of Edge to Link or None
        New values, named as they are before.
    """

    def new(node: Node) -> Node:
        to = names.get(node.frame, {}).get(node.object_id, node.object_id)
        return Node(node.frame, to)

    touched = {
        edge: link
        for edge, link in document.links.items()
        if any(node.object_id in names.get(node.frame, ()) for node in edge)
    } | dict(said)
    out: dict[Edge, Link | None] = dict.fromkeys(touched)
    out |= {
        (new(a), new(b)): link for (a, b), link in touched.items() if link is not None
    }
    return {e: link for e, link in out.items() if document.links.get(e) != link}


def _moved(document: Document, names: Names) -> dict[Key, Key]:
    """Where each object on a plane goes; they do not meet there."""
    frames = len(document.labels.shape) - 2
    ids = {old for found in names.values() for old in found}
    out: dict[Key, Key] = {}
    for key in (k for i in ids for k in document.keys.get(i, ())):
        object_id, plane = key
        if frames == 1 and plane.axis:
            raise SessionError(
                f"object {object_id} was drawn on a plane across time (axis "
                f"{plane.axis}): draw it on the planes of axis 0 to track it"
            )
        new = names.get(plane.index[0], {}).get(object_id)
        if new is not None:
            out[key] = new, plane
    return out


def _renamed(held: Mapping[Key, Any], moved: Mapping[Key, Key]) -> dict[Key, Any]:
    there = {key: held[key] for key in moved if key in held}
    after: dict[Key, Any] = dict.fromkeys(there)
    return after | {moved[key]: value for key, value in there.items()}


def _packed(patch: LabelPatch) -> PackedPatch:
    """Compress a patch at once: those of a long time-lapse together are large."""
    packed = PackedPatch.of(patch)
    for part in (packed.mask, packed.before, packed.after):
        if not isinstance(part, int):
            part.pack()
    return packed


def _table(found: Mapping[int, int]) -> tuple[np.ndarray, np.ndarray]:
    if len(set(found.values())) != len(found):
        raise SessionError("two objects of a frame would become one: merge them first")
    old = np.array(sorted(found), np.int64)
    return old, np.array([found[i] for i in old.tolist()], np.uint32)


def _patch(
    plane: Plane, pixels: np.ndarray, old: np.ndarray, new: np.ndarray, *,
    beneath: bool = False,
) -> LabelPatch | None:  # fmt: skip
    """Return what changes on a plane, if anything does.

    Beneath claims may lie what nobody sees of an object: its id is free.

    Raises
    ------
    SessionError
        If an id is to be given that another object has there.
    """
    taken = np.isin(new, old, invert=True)
    if not beneath and taken.any() and np.isin(pixels, new[taken]).any():
        raise SessionError(
            f"frame {plane.index[0]} has an object of the new id already: "
            "two would become one"
        )
    bbox, mask = crop_mask(np.isin(pixels, old))
    if not mask.size:
        return None
    y0, x0, y1, x1 = bbox
    before = np.array(pixels[y0:y1, x0:x1])
    kind = np.result_type(before, np.min_scalar_type(int(new.max())))
    after = before.astype(kind)
    after[mask] = _looked_up(before[mask], old, new)
    return LabelPatch(plane, bbox, before, after, mask)


def _looked_up(values: np.ndarray, old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """New value of each, all of which are among the old ones."""
    if old[-1] > _TABLE:
        return np.asarray(new[np.searchsorted(old, values)])
    table = np.zeros(int(old[-1]) + 1, new.dtype)
    table[old] = new
    return np.asarray(table[values])


_TABLE = 2**22
"""Highest id up to which new ids are looked up in a table."""
