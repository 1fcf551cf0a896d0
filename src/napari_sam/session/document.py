"""What a session holds, apart from models: labels, objects, prompts and their history.

Every change, each a function of `edits`, goes through `commit`: pixels, base, claims,
prompts and records in one entry, which undo takes back as a whole.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.objects import (
    FOLLOWED,
    ClassList,
    ObjectRecord,
    PlaneRecord,
)
from napari_sam.core.thresholds import Thresholds
from napari_sam.errors import PromptError, SessionError
from napari_sam.session.composition import Changes, Composition
from napari_sam.session.entries import (
    DECIDED,
    NOTED,
    SECTIONS,
    Entry,
    ObjectState,
    Values,
)
from napari_sam.session.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from napari_sam.core.masks import Bbox, LabelPatch
    from napari_sam.core.objects import Key
    from napari_sam.core.planes import Plane
    from napari_sam.core.proposals import Proposal
    from napari_sam.core.tracks import Edge, Link


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
        self.pixels = Composition(self.read, put)
        self.states: dict[Key, ObjectState] = {}
        self.painted: dict[Key, PlaneRecord] = {}
        """Planes on which objects were painted or imported."""
        self.about: dict[int, ObjectRecord] = {}
        """Name, class and so on of objects that have any; without planes."""
        self.classes: dict[str, ClassList] = {"": ClassList()}
        self.class_of_new: str | None = None
        """Class that objects get as they are first segmented."""
        self.verdicts: dict[int, tuple[int, bool]] = {}
        """Objects drawn at random and whether each was right, by number."""
        self.proposals: dict[int, Proposal] = {}
        """Masks that were found and that nobody has accepted, by number."""
        self.accepted: dict[int, int] = {}
        """Objects that proposals became, by the number of the proposal."""
        self.rejected: dict[int, Proposal] = {}
        """Proposals that are not made again, by number, in the order of rejection."""
        self.thresholds: dict[str, Thresholds] = {"": Thresholds()}
        """What proposals must reach to be shown."""
        self.decided = 0
        """Number of changes of proposals, or of what was decided on them."""
        self.links: dict[Edge, Link] = {}
        """What is known of links through time beside ids and parents."""
        self.touched: dict[int, int] = {}
        """Objects by the number of the change that touched them last, in its order."""
        self.revision = 0
        """Number of changes so far, each step back or forth counted."""
        self.keys: dict[int, dict[Key, None]] = {}
        """Where each object was prompted, painted or imported."""
        self.doubted: dict[int, dict[Plane, float]] = {}
        """Doubt of planes that nobody has reviewed, by object: kept as they change."""
        self.journal = Journal()
        self.start: Entry | None = None
        """What was there before the first change."""
        self.last: Key | None = None
        """Object and plane segmented last."""
        self.order = 0
        """Number of requests so far; claims lie in this order."""
        self.sharpening: tuple[Key, int] | None = None
        """Request whose answer was the last change: a sharper one may replace it."""

    def step(self, *, back: bool) -> Entry | None:
        """Undo or redo; return what was taken back or made again, or None."""
        with self.journal.lock:
            entry = self.journal.undo() if back else self.journal.redo()
            if entry is not None:
                self.sharpening = None
                self.restore(entry, back=back)
        return entry

    # -- making a change -------------------------------------------------------------

    @contextmanager
    def changing(self) -> Iterator[Changes]:
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

    def entry(
        self, kind: str, changes: Changes, after: Mapping[str, Mapping[Any, Any]]
    ) -> Entry:
        """Put changed pixels and new values by section in force, as one entry.

        None as a new value removes what was there.
        """
        values: dict[str, Values] = {"claims": dict(changes.claims)}
        for section, found in after.items():
            held = getattr(self, section)
            values[section] = {k: (held.get(k), v) for k, v in found.items()}
        values = {section: found for section, found in values.items() if found}
        entry = Entry(kind, tuple(changes.patches), tuple(changes.hidden), values)
        self.put(entry)
        return entry

    def put(self, entry: Entry, *, back: bool = False) -> None:
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
        self.decided += any(section in entry.values for section in DECIDED)
        self._touch(entry)

    def changed_since(self, revision: int) -> list[int]:
        """Return the objects of which something else is known since a revision."""
        found = []
        for object_id, last in reversed(self.touched.items()):
            if last <= revision:
                break
            found.append(object_id)
        return found

    def _touch(self, entry: Entry) -> None:
        self.revision += 1
        ids = dict.fromkeys(entry.values.get("about", ()))
        for section in ("states", "painted"):
            ids |= dict.fromkeys(key[0] for key in entry.values.get(section, ()))
        for edge in entry.values.get("links", ()):
            ids |= {node.object_id: None for node in edge}
        for object_id in ids:
            self.touched.pop(object_id, None)
            self.touched[object_id] = self.revision

    def commit(self, entry: Entry, *, sharper: bool = False) -> None:
        """Make an entry the last change; a sharper answer takes its place instead."""
        self.sharpening = None
        with self.journal.lock:
            if sharper:
                self.journal.replace(entry)
            else:
                self.journal.commit(entry)

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

    def note(self, values: Mapping[str, Mapping[Any, Any]]) -> None:
        """Put values by section in force that no undo takes back; None removes one."""
        entry = Entry("note")
        with self.journal.lock:
            for section, found in values.items():
                held = getattr(self, section)
                entry.values[section] = {k: (held.get(k), v) for k, v in found.items()}
            self.put(entry)
            self.journal.note(entry)

    def is_painted(self, key: Key) -> bool:
        """Whether a person painted an object on a plane, or a file brought it."""
        record = self.painted.get(key)
        return record is not None and record.origin not in FOLLOWED

    def read(self, plane: Plane, bbox: Bbox) -> np.ndarray:
        """Return a copy-free crop of the labels on a plane."""
        return np.asarray(self.labels[plane.window(bbox)])

    def begin(self, entry: Entry) -> None:
        """Take what was there before the first change; it cannot be undone."""
        self.start = entry
        self.put(entry)

    def steps(self) -> list[tuple[str, Entry | None]]:
        """Return the fewest steps that lead here from the labels given."""
        out = [] if self.start is None else [("start", self.start)]
        noted: dict[str, Values] = {
            section: {
                key: (None, value)
                for key, value in getattr(self, section).items()
                if value != Thresholds()
            }
            for section in NOTED
        }
        if any(noted.values()):
            out.append(("note", Entry("note", values=noted)))
        return [*out, *self.journal.steps()]

    # -- bringing back ---------------------------------------------------------------

    def restore(self, entry: Entry, *, back: bool = False, pixels: bool = True) -> None:
        """Put recorded values in force as they are."""
        if pixels:
            for patch in entry.pixels(back=back):
                self.pixels.write(patch)
        claims = entry.target("claims", back=back)
        self.pixels.apply_hidden(entry.base(back=back), claims)
        self.put(entry, back=back)

    def replay(self, step: str, entry: Entry, *, pixels: bool) -> None:
        """Take one saved step; leave the labels where they hold it already."""
        journal = self.journal
        if step == "start":
            self.begin(entry)
        elif step == "note":
            self.put(entry)
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

    def _index(self, key: Key) -> None:
        """Note where an object is, and how doubtful it is there."""
        object_id, plane = key
        held = self.states.get(key) or self.painted.get(key)
        if held is not None:
            self.keys.setdefault(object_id, {})[key] = None
        else:
            _forget(self.keys, object_id, key)
        if held is not None and held.doubt is not None and not held.reviewed:
            self.doubted.setdefault(object_id, {})[plane] = held.doubt
        else:
            _forget(self.doubted, object_id, plane)


def _forget(index: dict[int, dict[Any, Any]], object_id: int, entry: Any) -> None:
    found = index.get(object_id, {})
    found.pop(entry, None)
    if not found:
        index.pop(object_id, None)
