"""Every kind of change that people and models make to a document.

Each is one entry of the journal, which undo takes back as a whole.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.masks import LabelPatch
from napari_sam.core.objects import ClassList, ObjectClass, ObjectRecord, PlaneRecord
from napari_sam.session.composition import Changes
from napari_sam.session.entries import Entry, ObjectState
from napari_sam.session.strokes import less_strokes, painted_ids, repainting

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from napari_sam.core.mask_prompt import MaskPrompt
    from napari_sam.core.masks import Bbox
    from napari_sam.core.objects import Key, Origin, Review, Rule
    from napari_sam.core.planes import Plane
    from napari_sam.core.tracks import Edge, Link
    from napari_sam.engine.prediction import Prediction
    from napari_sam.engine.propagate import PlaneMask
    from napari_sam.session.document import Document


def accept(
    document: Document, state: ObjectState, prediction: Prediction, order: int,
    position: int, rule: Rule, request: tuple[Key, int], kind: str, *,
    redraws: bool = False,
) -> list[LabelPatch] | None:  # fmt: skip
    """Take a model's answer as an object's mask on a plane.

    Pixels that were painted, deleted or undone after `position` stay as they are.
    `redraws`: those of the object that were painted before, in the box of its mask
    prompt, give way to the answer.

    Returns
    -------
    list of LabelPatch or None
        None when the request is too old to be compared with what came after.
    """
    key = state.object_id, state.plane
    chosen = prediction.chosen
    steps = document.journal.since(position)
    if steps is None:
        return None
    mask = less_strokes(chosen.mask, state.plane, chosen.bbox, steps)
    given = state.prompts.mask
    with document.changing() as changes:
        if redraws and given is not None:
            _give_up(document, changes, key, given.bbox, steps)
        document.pixels.claim(changes, key, chosen.bbox, mask, order, rule)
    sharper = document.sharpening == request
    after: dict[str, dict[Any, Any]] = {"states": {key: state}}
    kind_of = document.class_of_new
    if kind_of is not None and not _is_known(document, key[0]):
        after["about"] = {key[0]: ObjectRecord(key[0], class_name=kind_of)}
    if key in document.painted and (redraws or not document.is_painted(key)):
        after["painted"] = {key: None}  # it was followed here: now it is a key
    entry = document.entry(kind, changes, after)
    document.commit(entry, sharper=sharper)
    document.sharpening = request
    return changes.patches


def _give_up(
    document: Document, changes: Changes, key: Key, bbox: Bbox,
    steps: list[tuple[str, Entry]],
) -> None:  # fmt: skip
    """Leave nothing of an object in a box of a plane, but what a hand made since."""
    document.pixels.release(changes, key)
    here = document.read(key[1], bbox)
    own = less_strokes(here == key[0], key[1], bbox, steps)
    if own.any():
        kind = here.dtype.type
        patch = LabelPatch(key[1], bbox, np.array(kind(key[0])), np.array(kind(0)), own)
        document.pixels.write(patch)
        document.pixels.paint(changes, patch)


def fill(
    document: Document,
    found: Sequence[tuple[int, PlaneMask]],
    replaced: Iterable[Key],
    order: int,
    position: int,
    rule: Rule,
) -> int | None:
    """Take masks that were found by following objects, as one change.

    Parameters
    ----------
    found : sequence of (int, PlaneMask)
        Object and mask; planes that a person has worked on since stay theirs.
    replaced : iterable of Key
        What was filled before, and is given up.
    order, position, rule
        As `accept` takes them.

    Returns
    -------
    int or None
        Planes filled; None when too much has happened since `position`, or objects
        have got other ids.
    """
    steps = document.journal.since(position)
    if steps is None or any(entry.kind == "track" for _, entry in steps):
        return None
    records: dict[Key, PlaneRecord | None] = {}
    with document.changing() as changes:
        for key in replaced:
            if key not in document.states:
                document.pixels.release(changes, key)
                records[key] = None
        for object_id, one in found:
            key = object_id, one.plane
            if _is_a_person_s(document, key):
                continue
            mask = less_strokes(one.mask, one.plane, one.bbox, steps)
            claim = document.pixels.claim(changes, key, one.bbox, mask, order, rule)
            if claim.mask.any():
                records[key] = PlaneRecord(one.origin, None, one.score, one.doubt)
            else:
                document.pixels.release(changes, key)
    filled = sum(record is not None for record in records.values())
    if records:
        document.commit(document.entry("propagate", changes, {"painted": records}))
    return filled


def _is_known(document: Document, object_id: int) -> bool:
    return object_id in document.keys or object_id in document.about


def _is_a_person_s(document: Document, key: Key) -> bool:
    return key in document.states or document.is_painted(key)


def reshape(
    document: Document, object_id: int, masks: Mapping[Plane, MaskPrompt]
) -> None:
    """Give an object other pixels on some planes; who made them stays known.

    Pixels of other objects are never taken.

    Parameters
    ----------
    masks : mapping of Plane to MaskPrompt
        All that it is to be there, in boxes that hold what it is now; may be empty.
    """
    with document.changing() as changes:
        for plane, mask in masks.items():
            key = object_id, plane
            old = document.pixels.claims.get(key)
            if old is not None:
                box, inside = mask.bbox, mask.mask
                document.pixels.claim(changes, key, box, inside, old.order, "keep")
            here = document.read(plane, mask.bbox)
            for patch in repainting(here, object_id, plane, mask):
                document.pixels.write(patch)
                document.pixels.paint(changes, patch)
    if changes.patches:
        document.commit(document.entry("paint", changes, {}))


def withdraw(document: Document, key: Key) -> None:
    """Remove what prompts made of an object on a plane; painted pixels stay."""
    if key not in document.states:
        return
    with document.changing() as changes:
        document.pixels.release(changes, key)
    document.commit(document.entry("delete", changes, {"states": {key: None}}))


def delete(document: Document, objects: Mapping[int, Mapping[Plane, Bbox]]) -> None:
    """Remove objects everywhere: prompts, masks, painted pixels, records.

    Parameters
    ----------
    objects : mapping of int to mapping of Plane to bbox
        Where the labels show each.
    """
    values: dict[str, dict[Any, Any]] = {
        "states": {k: None for k in document.states if k[0] in objects},
        "painted": {k: None for k in document.painted if k[0] in objects},
        "about": {k: None for k in document.about if k in objects},
    }
    for child, record in document.about.items():
        if record.parent in objects and child not in objects:
            values["about"][child] = replace(record, parent=None)
    with document.changing() as changes:
        for key in [k for k in document.pixels.claims if k[0] in objects]:
            document.pixels.release(changes, key)
        for object_id, boxes in objects.items():
            document.pixels.erase_base(changes, object_id, boxes)
    if changes.patches or changes.hidden or any(values.values()):
        document.commit(document.entry("delete", changes, values))


def paint(
    document: Document,
    patch: LabelPatch,
    object_id: int | None,
    origin: Origin = "painted",
) -> None:
    """Take pixels painted by hand, already in the labels, into the history."""
    own = LabelPatch(
        patch.plane, patch.bbox, np.array(patch.before), np.array(patch.after),
        np.array(patch.changed),
    )  # fmt: skip
    changes = Changes()
    document.pixels.paint(changes, own)
    records = {
        (i, patch.plane): PlaneRecord(origin)
        for i in (*painted_ids(own, object_id), *_corrected(document, own))
        if not document.is_painted((i, patch.plane))
    }
    document.commit(document.entry("paint", changes, {"painted": records}))


def _corrected(document: Document, patch: LabelPatch) -> list[int]:
    """Objects followed to a plane that lose pixels to a hand there."""
    held = [i for i in document.keys if (i, patch.plane) in document.painted]
    lost = (i for i in held if not document.is_painted((i, patch.plane)))
    return [i for i in lost if bool(((patch.before == i) & patch.changed).any())]


def read_in(
    document: Document,
    patches: Iterable[LabelPatch],
    records: Mapping[int, ObjectRecord],
    given: ClassList,
    links: Mapping[Edge, Link],
) -> None:
    """Take in objects from a file, as one change.

    Parameters
    ----------
    patches : iterable of LabelPatch
        Not in the labels yet.
    records : mapping of int to ObjectRecord
        What the file says of each object.
    given : ClassList
        Classes of the file; those of a name that is known already stay as they are.
    links : mapping of Edge to Link
        What the file says of links through time.
    """
    painted: dict[Key, PlaneRecord] = {}
    with document.changing() as changes:
        for patch in patches:
            document.pixels.write(patch)
            document.pixels.paint(changes, patch)
            for i in painted_ids(patch, None):
                known = records[i].planes.get(patch.plane) if i in records else None
                painted[i, patch.plane] = PlaneRecord(
                    "imported", None, *((known.score, known.doubt, known.reviewed)
                                        if known else ())
                )  # fmt: skip
    blank = {i: replace(r, planes={}) for i, r in records.items()}
    about = {i: r for i, r in blank.items() if _says_something(r)}
    names = {r.class_name for r in about.values() if r.class_name is not None}
    classes = document.classes[""]
    for name in (*(c.name for c in given.classes), *sorted(names)):
        if classes.get(name) is None:
            new = given.get(name) or ObjectClass(name)
            classes = ClassList((*classes.classes, new))
    after: dict[str, Any] = {"painted": painted, "about": about, "links": dict(links)}
    if classes is not document.classes[""]:
        after["classes"] = {"": classes}
    if changes.patches or about or "classes" in after:
        document.commit(document.entry("paint", changes, after))


def describe(document: Document, ids: Iterable[int], **values: Any) -> None:
    """Change objects' records: name, class, colour, review, note, parent."""
    about = document.about
    entry = Entry("record")
    entry.values["about"] = {
        i: (about.get(i), replace(about.get(i) or ObjectRecord(i), **values))
        for i in ids
    }
    name = values.get("class_name")
    if name is not None and document.classes[""].get(name) is None:
        held = document.classes[""]
        more = ClassList((*held.classes, ObjectClass(name)))
        entry.values["classes"] = {"": (held, more)}
    document.put(entry)
    document.commit(entry)


def classify(document: Document, kinds: Mapping[int, str]) -> None:
    """Give objects a class each."""
    about, held = document.about, document.classes[""]
    entry = Entry("record")
    entry.values["about"] = {
        i: (about.get(i), replace(about.get(i) or ObjectRecord(i), class_name=name))
        for i, name in kinds.items()
    }
    new = [n for n in dict.fromkeys(kinds.values()) if held.get(n) is None]
    if new:
        more = ClassList((*held.classes, *(ObjectClass(n) for n in new)))
        entry.values["classes"] = {"": (held, more)}
    document.put(entry)
    document.commit(entry)


def judge(document: Document, object_id: int, right: bool) -> None:
    """Take the word on an object that was drawn at random."""
    before = document.about.get(object_id)
    said: Review = "accepted" if right else "rejected"
    after = replace(before or ObjectRecord(object_id), review=said)
    number = max(document.verdicts, default=0) + 1
    entry = Entry("record")
    entry.values["about"] = {object_id: (before, after)}
    entry.values["verdicts"] = {number: (None, (object_id, right))}
    document.put(entry)
    document.commit(entry)


def set_classes(
    document: Document, classes: ClassList, renamed: Mapping[str, str | None]
) -> None:
    """Change the list of classes, and what objects of renamed ones are called."""
    entry = Entry("record")
    entry.values["classes"] = {"": (document.classes[""], classes)}
    entry.values["about"] = {
        i: (record, replace(record, class_name=renamed[kind]))
        for i, record in document.about.items()
        if (kind := record.class_name) is not None and kind in renamed
    }
    document.put(entry)
    document.commit(entry)


def review(document: Document, key: Key, reviewed: bool) -> None:
    """Note whether a person has looked at an object on a plane."""
    entry = Entry("record")
    for section in ("states", "painted"):
        held = getattr(document, section).get(key)
        if held is not None:
            after = replace(held, reviewed=reviewed)
            entry.values[section] = {key: (held, after)}
    document.put(entry)
    document.commit(entry)


def _says_something(record: ObjectRecord) -> bool:
    said = record.name, record.class_name, record.color, record.note, record.parent
    return any(v is not None and v != "" for v in said) or record.review != "open"
