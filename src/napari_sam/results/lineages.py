"""Tracks of results as other programs count them: each one without a gap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.objects import ObjectRecord
from napari_sam.core.tracks import lineage
from napari_sam.volume.lazy_arrays import LazyArray

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from napari_sam.core.tracks import Node, Tracks
    from napari_sam.results.results import Results


@dataclass(frozen=True, slots=True)
class Stretch:
    """An object in frames that follow one another without a gap."""

    id: int
    first: int
    last: int
    """Frames, both included."""
    parent: int
    """Id of the stretch that it came from; 0: of none."""


@dataclass(frozen=True, slots=True)
class Stretches:
    """All of a lineage, and where an object is called otherwise in them."""

    rows: tuple[Stretch, ...]
    names: Mapping[int, Mapping[int, int]]
    """Id of the stretch of an object, {frame: {object: stretch}}, where it differs."""


def frames_of(labels: Any) -> np.ndarray:
    """Return labels as frames: a single image is one."""
    return labels if len(labels.shape) > 2 else np.asarray(labels)[None]  # type: ignore[no-any-return]


def tracks_of(results: Results) -> Tracks:
    """Return the graph of results; the first axis is time."""
    frames: dict[int, list[int]] = {}
    labels = frames_of(results.labels)
    for t in range(labels.shape[0]):
        ids = np.unique(np.asarray(labels[t]))
        for i in ids[ids > 0].tolist():
            frames.setdefault(int(i), []).append(t)
    parents = {
        i: record.parent
        for i, record in results.objects.items()
        if record.parent is not None
    }
    return lineage(frames, parents, results.links)


def stretches_of(tracks: Tracks) -> Stretches:
    """Cut a lineage where objects are missing, or divide but go on.

    The first stretch of an object has its id, others get new ones.
    """
    free = max((n.object_id for n in tracks.nodes), default=0)
    taken: set[int] = set()
    name: dict[Node, int] = {}
    spans: list[tuple[int, Node, Node]] = []
    parents = tracks.parents()
    came: dict[Node, Node] = {}
    for line in tracks.lines():
        start = 0
        for k in range(1, len(line) + 1):
            if k < len(line) and line[k].frame == line[k - 1].frame + 1:
                continue
            part = line[start:k]
            i = part[0].object_id
            if i in taken:
                free += 1
                i = free
            taken.add(i)
            name |= dict.fromkeys(part, i)
            spans.append((i, part[0], part[-1]))
            before = line[start - 1] if start else parents.get(line[0])
            if before is not None:
                came[part[0]] = before
            start = k
    rows = tuple(
        Stretch(i, a.frame, b.frame, name[came[a]] if a in came else 0)
        for i, a, b in sorted(spans)
    )
    names: dict[int, dict[int, int]] = {}
    for node, i in name.items():
        if i != node.object_id:
            names.setdefault(node.frame, {})[node.object_id] = i
    return Stretches(rows, names)


def joined(rows: Iterable[Stretch]) -> tuple[dict[int, int], dict[int, ObjectRecord]]:
    """Make one object again of stretches with nothing but gaps between them.

    Returns
    -------
    ids : dict of int to int
        Object that each stretch is part of.
    records : dict of int to ObjectRecord
        Of objects that came from others.
    """
    known = {row.id: row for row in rows}
    children: dict[int, int] = {}
    for row in known.values():
        children[row.parent] = children.get(row.parent, 0) + 1
    ids: dict[int, int] = {}
    records: dict[int, ObjectRecord] = {}
    for row in sorted(known.values(), key=lambda r: r.first):
        mother = known.get(row.parent)
        if mother is None or mother.id not in ids:
            ids[row.id] = row.id
        elif children[mother.id] == 1 and row.first > mother.last + 1:
            ids[row.id] = ids[mother.id]
        else:
            ids[row.id] = row.id
            records[row.id] = ObjectRecord(row.id, parent=ids[mother.id])
    return ids, records


def named(frame: np.ndarray, names: Mapping[int, int]) -> np.ndarray:
    """Return a frame with other ids."""
    if not names:
        return frame
    old, places = np.unique(frame, return_inverse=True)
    new = np.array([names.get(i, i) for i in old.tolist()], np.uint32)
    return np.asarray(new[places].reshape(frame.shape))


class NamedFrames(LazyArray):
    """Labels in which objects have other ids in some frames.

    Parameters
    ----------
    labels : array-like
        The first axis is time.
    names : mapping of int to mapping of int to int
        {frame: {old: new}}
    """

    def __init__(self, labels: Any, names: Mapping[int, Mapping[int, int]]) -> None:
        self._labels, self._names = labels, names
        super().__init__(tuple(labels.shape), np.dtype(np.uint32))

    def read(self, spans: tuple[slice, ...]) -> np.ndarray:
        """Read a block."""
        frames = range(*spans[0].indices(self.shape[0]))
        return np.stack([
            named(np.asarray(self._labels[(t, *spans[1:])]), self._names.get(t, {}))
            for t in frames
        ]).astype(np.uint32)  # fmt: skip
