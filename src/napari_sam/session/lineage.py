"""The graph of a session's objects through time, and ids that say what is in it.

An id is one track; where a track came from is its object's parent; what neither tells
(frozen and refused links, second parents, doubt) are the document's links.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.objects import ObjectRecord
from napari_sam.core.tracks import Link, lineage
from napari_sam.errors import SessionError
from napari_sam.session.relabel import prepare, renamed_links

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from napari_sam.core.masks import LabelPatch
    from napari_sam.core.tracks import Edge, Tracks
    from napari_sam.session.annotation import Annotation
    from napari_sam.session.document import Document
    from napari_sam.session.relabel import Names, Relabelling

DOUBTFUL = 0.5
"""From this doubt on, a link is kept in mind as doubtful."""


class Presence:
    """Which objects are in which frame, by their pixels; looked up once a frame.

    Any thread may ask.

    Parameters
    ----------
    session : Annotation
        Of a volume whose first axis is time.
    """

    def __init__(self, session: Annotation) -> None:
        shape = session.volume.shape
        if len(shape) not in (3, 4):
            raise SessionError(
                "tracks need frames: an image of axes t, y, x or t, z, y, x; got "
                f"{', '.join(session.volume.axes)}"
            )
        self._session = session
        self._flat = len(shape) == 3
        self._found: dict[int, np.ndarray] = {}
        self._changes = 0
        session.patched.connect(self._on_patch)

    @property
    def n_frames(self) -> int:
        """How many frames there are."""
        return int(self._session.volume.shape[0])

    def ids(self, frame: int) -> np.ndarray:
        """Return the objects of a frame, (n,), rising."""
        found = self._found.get(frame)
        if found is None:
            begun = self._changes
            ids = np.unique(np.asarray(self._session.labels[frame]))
            found = ids[ids > 0].astype(np.int64)
            if begun == self._changes:  # else it may have been read too early
                self._found[frame] = found
        return found

    def frames(self, ids: Collection[int] | None = None) -> dict[int, list[int]]:
        """Return the frames that each object is in; of all objects when left out."""
        out: dict[int, list[int]] = {}
        wanted = None if ids is None else np.array(sorted(ids), np.int64)
        for frame in range(self.n_frames):
            found = self.ids(frame)
            if wanted is not None:
                found = np.intersect1d(found, wanted, assume_unique=True)
            for i in found.tolist():
                out.setdefault(i, []).append(frame)
        return out

    def highest(self) -> int:
        """Return the highest id that an object has in any frame; 0 without objects."""
        tops = (self.ids(f)[-1:] for f in range(self.n_frames))
        return max((int(t) for top in tops for t in top), default=0)

    def _on_patch(self, patch: LabelPatch) -> None:
        self._changes += 1
        if self._flat and patch.plane.axis:
            self._found.clear()
        else:
            self._found.pop(patch.plane.index[0], None)


def graph(
    document: Document, presence: Presence, ids: Collection[int] | None = None
) -> Tracks:
    """Return the objects through time, and what each goes on as.

    Parameters
    ----------
    ids : collection of int, optional
        Only these, and links among them.
    """
    parents = {i: r.parent for i, r in document.about.items() if r.parent is not None}
    return lineage(presence.frames(ids), parents, document.links)


def family(document: Document, ids: Iterable[int]) -> set[int]:
    """Return objects, and all that came from them, or that they came from, at once."""
    out = set(ids)
    about = document.about
    out |= {r.parent for i in set(out) if (r := about.get(i)) and r.parent is not None}
    out |= {i for i, record in about.items() if record.parent in out}
    for a, b in document.links:
        if a.object_id in out or b.object_id in out:
            out |= {a.object_id, b.object_id}
    return out


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """How ids, parents and links have to be for a graph to be what they say."""

    names: Names
    about: dict[int, ObjectRecord | None]
    links: dict[Edge, Link | None]

    @property
    def is_empty(self) -> bool:
        """Whether all is so already."""
        return not (any(self.names.values()) or self.about or self.links)

    def prepare(self, document: Document) -> Relabelling:
        """Work out all that it changes; any thread may.

        Raises
        ------
        SessionError
            As `napari_sam.session.relabel.prepare`.
        """
        after: dict[str, Mapping[Any, Any]] = {"about": self.about, "links": self.links}
        return prepare(document, self.names, after)


def change_to(
    document: Document, before: Tracks, after: Tracks,
    said: Mapping[Edge, Link | None] | None = None, free: int = 0,
) -> Change:  # fmt: skip
    """Plan what makes a graph the one that the session holds.

    A track keeps the id of its first node, unless one that begins earlier has it; then
    it gets a new one, with the class of the object that it was.

    Parameters
    ----------
    document : Document
    before, after : Tracks
        Of the same nodes: as they are linked, and as they are to be.
    said : mapping of Edge to Link or None, optional
        What is known of links, or is no more, under the ids of `before`.
    free : int
        All ids above this one are free.
    """
    lines = after.lines()
    new_id = after.ids(free)
    taken = set(new_id.values())
    names: Names = {}
    for node, new in new_id.items():
        if new != node.object_id:
            names.setdefault(node.frame, {})[node.object_id] = new
    parents = {new_id[a]: new_id[b] for a, b in after.parents().items()}
    known = {b.object_id for a, b in before.edges if a.object_id != b.object_id}
    about: dict[int, ObjectRecord | None] = {}
    for line in lines:
        new = new_id[line[0]]
        record = _record(document, line[0].object_id, new)
        kept = None if new in known or new != line[0].object_id else record.parent
        parent = parents.get(new, kept)
        record = replace(record, parent=parent)
        if not _same(record, document.about.get(new)):
            about[new] = record
    gone = {node.object_id for node in before.nodes} - taken
    about |= {i: None for i in gone if i in document.about}
    about |= _orphans(document, gone, about)
    links = _links(document, after, said or {})
    return Change(names, about, renamed_links(document, names, links))


def _links(
    document: Document, after: Tracks, said: Mapping[Edge, Link | None]
) -> dict[Edge, Link | None]:
    """What is to be known of the links of a graph, beside what was said before."""
    out: dict[Edge, Link | None] = {}
    there = set(after.nodes)
    second = after.second_ways()
    held = {**document.links, **said}
    for edge, link in held.items():
        if edge in said or (edge[0] in there and edge[1] in there):
            if link is not None and edge not in after.edges:
                link = link if link.state == "refused" else None
            out[edge] = link
    for edge, doubt in after.edges.items():
        link = out.get(edge) or Link()
        noted = doubt if doubt >= DOUBTFUL and link.state == "open" else None
        link = Link(link.state, edge in second, noted)
        if link != Link():
            out[edge] = link
        elif edge in held:
            out[edge] = None
    return out


def _record(document: Document, old: int, new: int) -> ObjectRecord:
    """What is known of a track: its own record, or the kind of what it was."""
    known = document.about.get(old)
    if known is None or old == new:
        return known or ObjectRecord(new)
    return ObjectRecord(new, class_name=known.class_name, color=known.color)


def _orphans(
    document: Document, gone: set[int], about: Mapping[int, Any]
) -> dict[int, ObjectRecord]:
    return {
        i: replace(record, parent=None)
        for i, record in document.about.items()
        if record.parent in gone and i not in about and i not in gone
    }


def _same(a: ObjectRecord, b: ObjectRecord | None) -> bool:
    names = ("name", "class_name", "color", "review", "note", "parent")
    other = b or ObjectRecord(a.id)
    return all(getattr(a, n) == getattr(other, n) for n in names)
