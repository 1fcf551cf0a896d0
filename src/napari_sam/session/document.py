"""What a session holds, apart from models: labels, objects, prompts and their history.

Every change goes through `_commit`: pixels, base, claims, prompts and records in one
entry, which undo takes back as a whole.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.masks import LabelPatch
from napari_sam.core.objects import (
    FOLLOWED,
    ClassList,
    ObjectClass,
    ObjectRecord,
    PlaneRecord,
)
from napari_sam.errors import PromptError, SessionError
from napari_sam.session.composition import Changes, Composition
from napari_sam.session.entries import SECTIONS, Entry, ObjectState, Values
from napari_sam.session.journal import Journal
from napari_sam.session.strokes import (
    less_strokes,
    painted_ids,
    repainting,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from napari_sam.core.masks import Bbox
    from napari_sam.core.objects import Key, Origin, Rule
    from napari_sam.core.planes import Plane
    from napari_sam.core.prompts import MaskPrompt
    from napari_sam.engine.prediction import Prediction
    from napari_sam.engine.propagate import PlaneMask
    from napari_sam.engine.suggest import Suggestion


class Document:
    """Labels and objects of one volume, with their journal.

    Parameters
    ----------
    labels : array-like
        Unsigned integers of the volume's shape; changed in place.
    put : callable
        Puts a `LabelPatch` into the labels, wherever they are shown.
    """

    def __init__(self, labels: Any, put: Callable[[LabelPatch], None]) -> None:
        self.labels = labels
        self.pixels = Composition(self._read, put)
        self.states: dict[Key, ObjectState] = {}
        self.painted: dict[Key, PlaneRecord] = {}
        """Planes on which objects were painted or imported."""
        self.about: dict[int, ObjectRecord] = {}
        """Name, class and so on of objects that have any; without planes."""
        self.classes: dict[str, ClassList] = {"": ClassList()}
        self.keys: dict[int, dict[Key, None]] = {}
        """Where each object was prompted, painted or imported."""
        self.journal = Journal()
        self.start: Entry | None = None
        """What was there before the first change."""
        self.last: Key | None = None
        """Object and plane segmented last."""
        self.order = 0
        """Number of requests so far; claims lie in this order."""
        self.sharpening: tuple[Key, int] | None = None
        """Request whose answer was the last change: a sharper one may replace it."""

    # -- changes ---------------------------------------------------------------------

    def accept(
        self, state: ObjectState, prediction: Prediction, order: int, position: int,
        rule: Rule, request: tuple[Key, int], kind: str,
    ) -> list[LabelPatch] | None:  # fmt: skip
        """Take a model's answer as an object's mask on a plane.

        Pixels that were painted, deleted or undone after `position` stay as they are.

        Returns
        -------
        list of LabelPatch or None
            None when the request is too old to be compared with what came after.
        """
        key = state.object_id, state.plane
        chosen = prediction.chosen
        steps = self.journal.since(position)
        if steps is None:
            return None
        mask = less_strokes(chosen.mask, state.plane, chosen.bbox, steps)
        with self._changing() as changes:
            self.pixels.claim(changes, key, chosen.bbox, mask, order, rule)
        sharper = self.sharpening == request
        after: dict[str, dict[Any, Any]] = {"states": {key: state}}
        if key in self.painted and not self._is_painted(key):
            after["painted"] = {key: None}  # it was followed here: now it is a key
        entry = self._entry(kind, changes, after)
        self._commit(entry, sharper=sharper)
        self.sharpening = request
        return changes.patches

    def accept_suggestions(
        self, chosen: Sequence[tuple[int, Suggestion]], order: int
    ) -> int:
        """Make suggestions objects, each on what is free; count those that are."""
        states: dict[Key, ObjectState] = {}
        with self._changing() as changes:
            for object_id, s in chosen:
                key = object_id, s.plane
                claim = self.pixels.claim(changes, key, s.bbox, s.mask, order, "keep")
                if not claim.mask.any():
                    self.pixels.release(changes, key)
                    del changes.claims[key]
                    continue
                states[key] = ObjectState(
                    *key, s.prompts, (s.choice,), s.scores, "suggested", s.doubt
                )
        if states:
            self._commit(self._entry("suggest", changes, {"states": states}))
        return len(states)

    def fill(
        self,
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
            Planes filled; None when too much has happened since `position`.
        """
        steps = self.journal.since(position)
        if steps is None:
            return None
        records: dict[Key, PlaneRecord | None] = {}
        with self._changing() as changes:
            for key in replaced:
                if key not in self.states:
                    self.pixels.release(changes, key)
                    records[key] = None
            for object_id, one in found:
                key = object_id, one.plane
                if self._is_a_person_s(key):
                    continue
                mask = less_strokes(one.mask, one.plane, one.bbox, steps)
                claim = self.pixels.claim(changes, key, one.bbox, mask, order, rule)
                if claim.mask.any():
                    records[key] = PlaneRecord(one.origin, None, one.score, one.doubt)
                else:
                    self.pixels.release(changes, key)
        filled = sum(record is not None for record in records.values())
        if records:
            self._commit(self._entry("propagate", changes, {"painted": records}))
        return filled

    def _is_a_person_s(self, key: Key) -> bool:
        return key in self.states or self._is_painted(key)

    def reshape(self, object_id: int, masks: Mapping[Plane, MaskPrompt]) -> None:
        """Give an object other pixels on some planes; who made them stays known.

        Pixels of other objects are never taken.

        Parameters
        ----------
        masks : mapping of Plane to MaskPrompt
            All that it is to be there, in boxes that hold what it is now; may be empty.
        """
        with self._changing() as changes:
            for plane, mask in masks.items():
                key = object_id, plane
                old = self.pixels.claims.get(key)
                if old is not None:
                    box, inside = mask.bbox, mask.mask
                    self.pixels.claim(changes, key, box, inside, old.order, "keep")
                here = self._read(plane, mask.bbox)
                for patch in repainting(here, object_id, plane, mask):
                    self.pixels.write(patch)
                    self.pixels.paint(changes, patch)
        if changes.patches:
            self._commit(self._entry("paint", changes, {}))

    def withdraw(self, key: Key) -> None:
        """Remove what prompts made of an object on a plane; painted pixels stay."""
        if key not in self.states:
            return
        with self._changing() as changes:
            self.pixels.release(changes, key)
        self._commit(self._entry("delete", changes, {"states": {key: None}}))

    def delete(self, object_id: int, boxes: Mapping[Plane, Bbox]) -> None:
        """Remove an object everywhere: prompts, masks, painted pixels, record.

        Parameters
        ----------
        boxes : mapping of Plane to bbox
            Where the labels show it.
        """
        values: dict[str, dict[Any, Any]] = {
            "states": {k: None for k in self.states if k[0] == object_id},
            "painted": {k: None for k in self.painted if k[0] == object_id},
            "about": {k: None for k in self.about if k == object_id},
        }
        for child, record in self.about.items():
            if record.parent == object_id and child != object_id:
                values["about"][child] = replace(record, parent=None)
        with self._changing() as changes:
            for key in [k for k in self.pixels.claims if k[0] == object_id]:
                self.pixels.release(changes, key)
            self.pixels.erase_base(changes, object_id, boxes)
        if changes.patches or changes.hidden or any(values.values()):
            self._commit(self._entry("delete", changes, values))

    def paint(
        self, patch: LabelPatch, object_id: int | None, origin: Origin = "painted"
    ) -> None:
        """Take pixels painted by hand, already in the labels, into the history."""
        own = LabelPatch(
            patch.plane, patch.bbox, np.array(patch.before), np.array(patch.after),
            np.array(patch.changed),
        )  # fmt: skip
        changes = Changes()
        self.pixels.paint(changes, own)
        records = {
            (i, patch.plane): PlaneRecord(origin)
            for i in (*painted_ids(own, object_id), *self._corrected(own))
            if not self._is_painted((i, patch.plane))
        }
        self._commit(self._entry("paint", changes, {"painted": records}))

    def _corrected(self, patch: LabelPatch) -> list[int]:
        """Objects followed to a plane that lose pixels to a hand there."""
        held = [i for i in self.keys if (i, patch.plane) in self.painted]
        lost = (i for i in held if not self._is_painted((i, patch.plane)))
        return [i for i in lost if bool(((patch.before == i) & patch.changed).any())]

    def _is_painted(self, key: Key) -> bool:
        record = self.painted.get(key)
        return record is not None and record.origin not in FOLLOWED

    def read_in(
        self,
        patches: Iterable[LabelPatch],
        records: Mapping[int, ObjectRecord],
        given: ClassList,
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
        """
        painted: dict[Key, PlaneRecord] = {}
        with self._changing() as changes:
            for patch in patches:
                self.pixels.write(patch)
                self.pixels.paint(changes, patch)
                for i in painted_ids(patch, None):
                    known = records[i].planes.get(patch.plane) if i in records else None
                    painted[i, patch.plane] = PlaneRecord(
                        "imported", None, *((known.score, known.doubt, known.reviewed)
                                            if known else ())
                    )  # fmt: skip
        blank = {i: replace(r, planes={}) for i, r in records.items()}
        about = {i: r for i, r in blank.items() if _says_something(r)}
        names = {r.class_name for r in about.values() if r.class_name is not None}
        classes = self.classes[""]
        for name in (*(c.name for c in given.classes), *sorted(names)):
            if classes.get(name) is None:
                new = given.get(name) or ObjectClass(name)
                classes = ClassList((*classes.classes, new))
        after: dict[str, Any] = {"painted": painted, "about": about}
        if classes is not self.classes[""]:
            after["classes"] = {"": classes}
        if changes.patches or about or "classes" in after:
            self._commit(self._entry("paint", changes, after))

    def describe(self, object_id: int, **values: Any) -> None:
        """Change an object's record: name, class, colour, review, note, parent."""
        before = self.about.get(object_id) or ObjectRecord(object_id)
        after = replace(before, **values)
        entry = Entry("record")
        entry.values["about"] = {object_id: (self.about.get(object_id), after)}
        name = after.class_name
        if name is not None and self.classes[""].get(name) is None:
            held = self.classes[""]
            more = ClassList((*held.classes, ObjectClass(name)))
            entry.values["classes"] = {"": (held, more)}
        self._put(entry)
        self._commit(entry)

    def set_classes(self, classes: ClassList) -> None:
        """Change the list of classes."""
        entry = Entry("record")
        entry.values["classes"] = {"": (self.classes[""], classes)}
        self._put(entry)
        self._commit(entry)

    def review(self, key: Key, reviewed: bool) -> None:
        """Note whether a person has looked at an object on a plane."""
        entry = Entry("record")
        for section in ("states", "painted"):
            held = getattr(self, section).get(key)
            if held is not None:
                after = replace(held, reviewed=reviewed)
                entry.values[section] = {key: (held, after)}
        self._put(entry)
        self._commit(entry)

    def step(self, *, back: bool) -> Entry | None:
        """Undo or redo; return what was taken back or made again, or None."""
        with self.journal.lock:
            entry = self.journal.undo() if back else self.journal.redo()
            if entry is not None:
                self.sharpening = None
                self.restore(entry, back=back)
        return entry

    # -- what is known ---------------------------------------------------------------

    def planes(self, object_id: int) -> dict[Plane, PlaneRecord]:
        """What is known of an object on each plane, in the order it came there."""
        out: dict[Plane, PlaneRecord] = {}
        for key in self.keys.get(object_id, ()):
            state = self.states.get(key)
            out[key[1]] = self.painted[key] if state is None else state.record
        return out

    def record(self, object_id: int) -> ObjectRecord:
        """All that is known of an object."""
        about = self.about.get(object_id) or ObjectRecord(object_id)
        return replace(about, planes=self.planes(object_id))

    def begin(self, entry: Entry) -> None:
        """Take what was there before the first change; it cannot be undone."""
        self.start = entry
        self._put(entry)

    def steps(self) -> list[tuple[str, Entry | None]]:
        """Return the fewest steps that lead here from the labels given."""
        before = [] if self.start is None else [("start", self.start)]
        return [*before, *self.journal.steps()]

    # -- bringing back ---------------------------------------------------------------

    def restore(self, entry: Entry, *, back: bool = False, pixels: bool = True) -> None:
        """Put recorded values in force as they are."""
        if pixels:
            for patch in entry.pixels(back=back):
                self.pixels.write(patch)
        claims = entry.target("claims", back=back)
        self.pixels.apply_hidden(entry.base(back=back), claims)
        self._put(entry, back=back)

    def replay(self, step: str, entry: Entry, *, pixels: bool) -> None:
        """Take one saved step; leave the labels where they hold it already."""
        journal = self.journal
        if step == "start":
            self.begin(entry)
        elif step == "commit":
            journal.done.append(entry)
            journal.undone.clear()
            self.restore(entry, pixels=pixels)
        elif step == "replace":
            old = journal.done[-1]
            self.restore(old, back=True, pixels=pixels)
            for section, values in entry.values.items():
                held = old.values.get(section, {})
                for key, (before, after) in values.items():
                    values[key] = held.get(key, (before,))[0], after
            journal.done[-1] = entry
            self.restore(entry, pixels=pixels)
        elif step == "undo" and journal.done:
            journal.undone.append(journal.done.pop())
            self.restore(journal.undone[-1], back=True, pixels=pixels)
        elif step == "redo" and journal.undone:
            journal.done.append(journal.undone.pop())
            self.restore(journal.done[-1], pixels=pixels)
        else:
            raise SessionError(
                f"the journal holds a step {step!r} where there is none: it was damaged"
            )
        orders = (c.order for c in entry.target("claims").values() if c is not None)
        self.order = max(self.order, *orders, 0)

    @property
    def now(self) -> dict[str, Mapping[Any, Any]]:
        """Values in force by section."""
        held = {s: getattr(self, s) for s in SECTIONS if s != "claims"}
        return {"claims": self.pixels.claims, **held}

    def state(self, key: Key) -> ObjectState:
        """Return what was said of an object on a plane.

        Raises
        ------
        PromptError
            If nothing was.
        """
        if key not in self.states:
            raise PromptError(
                f"object {key[0]} has no prompts on plane {key[1].index or 0}: "
                "segment it there first"
            )
        return self.states[key]

    # -- inside ----------------------------------------------------------------------

    def _read(self, plane: Plane, bbox: Bbox) -> np.ndarray:
        return np.asarray(self.labels[plane.window(bbox)])

    @contextmanager
    def _changing(self) -> Iterator[Changes]:
        """Collect changes; take them back when one of them fails."""
        changes = Changes()
        with self.journal.lock:
            try:
                yield changes
            except BaseException:
                back = {key: pair[0] for key, pair in changes.claims.items()}
                self.pixels.apply(
                    [p.reversed() for p in reversed(changes.patches)],
                    [p.reversed() for p in reversed(changes.hidden)],
                    back,
                )
                raise

    def _entry(
        self, kind: str, changes: Changes, after: Mapping[str, Mapping[Any, Any]]
    ) -> Entry:
        values: dict[str, Values] = {"claims": dict(changes.claims)}
        for section, found in after.items():
            held = getattr(self, section)
            values[section] = {k: (held.get(k), v) for k, v in found.items()}
        values = {section: found for section, found in values.items() if found}
        entry = Entry(kind, tuple(changes.patches), tuple(changes.hidden), values)
        self._put(entry)
        return entry

    def _put(self, entry: Entry, *, back: bool = False) -> None:
        """Put an entry's values in force, all but the claims."""
        for section in SECTIONS[1:]:
            held = getattr(self, section)
            for key, value in entry.target(section, back=back).items():
                held.pop(key, None)
                if value is not None:
                    held[key] = value
                    if section == "states":
                        self.last = key
                if section in ("states", "painted"):
                    self._index(key)

    def _index(self, key: Key) -> None:
        if key in self.states or key in self.painted:
            self.keys.setdefault(key[0], {})[key] = None
        else:
            found = self.keys.get(key[0], {})
            found.pop(key, None)
            if not found:
                self.keys.pop(key[0], None)

    def _commit(self, entry: Entry, *, sharper: bool = False) -> None:
        self.sharpening = None
        with self.journal.lock:
            if sharper:
                self.journal.replace(entry)
            else:
                self.journal.commit(entry)


def _says_something(record: ObjectRecord) -> bool:
    said = record.name, record.class_name, record.color, record.note, record.parent
    return any(v is not None and v != "" for v in said) or record.review != "open"
