"""Results out of a session and into it: what `Session.export` and `Session.read` do."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_sam.core.masks import LabelPatch
from napari_sam.core.planes import Plane
from napari_sam.core.tracks import Node
from napari_sam.errors import SessionError
from napari_sam.results import registry
from napari_sam.results.label_arrays import iter_blocks_of
from napari_sam.results.renumbered import Renumbered, object_ids
from napari_sam.results.results import Results, plane_volume
from napari_sam.results.views import seen_as
from napari_sam.session import edits

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from napari_sam.results.views import View
    from napari_sam.session.annotation import Annotation
    from napari_sam.volume.volume import Volume

logger = logging.getLogger(__name__)

Taken = Literal["new", "refuse"]
"""What happens to objects of a file whose id the session has already."""


def export(
    results: Results,
    path: str | os.PathLike[str],
    name: str | None,
    /,
    *,
    plane: int | Sequence[int] | Plane | None,
    view: View,
    **options: Any,
) -> list[str]:
    """Write results, or one plane of them, and log what the file does not hold."""
    results = seen_as(results if plane is None else results.on_plane(plane), view)
    told = [*results.notes, *registry.write(path, results, name, **options)]
    for line in told:
        logger.warning("%s: %s", path, line)
    return told


def read(
    session: Annotation,
    path: str | os.PathLike[str],
    name: str | None,
    /,
    *,
    plane: int | Sequence[int] | Plane | None,
    taken: Taken,
    **options: Any,
) -> Results:
    """Paint a file's objects into a session as one change; return them as painted.

    Raises
    ------
    SessionError
        If ids are taken and `taken` is "refuse".
    VolumeError
        If the file cannot be read.
    """
    found = find(session.volume, path, name, plane=plane, **options)
    return take_in(session, found, path, taken)


def find(
    volume: Volume,
    path: str | os.PathLike[str],
    name: str | None = None,
    /,
    *,
    plane: int | Sequence[int] | Plane | None = None,
    **options: Any,
) -> Results:
    """Read the objects of a file, for any thread; no session is changed.

    Raises
    ------
    VolumeError
        If the file cannot be read.
    """
    if plane is None:
        return registry.read(path, volume, name, **options)
    where = Plane.of(volume.shape, plane)
    flat = plane_volume(volume, where)
    return registry.read(path, flat, name, **options).lifted(volume, where)


def take_in(
    session: Annotation, found: Results, path: str | os.PathLike[str], taken: Taken, /
) -> Results:
    """Paint results into a session as one change; `path` names them in the log.

    Raises
    ------
    SessionError
        If ids are taken and `taken` is "refuse".
    """
    ids = set(object_ids(found.labels))
    there = set(object_ids(session.labels)) | set(session.objects)
    new_ids = _renumbered(ids, found.numbered, there, taken)
    session.make_room(max(new_ids.values(), default=0))
    records = {new: found.record(old) for old, new in new_ids.items()}
    objects = {
        i: replace(r, id=i, parent=r.parent and new_ids.get(r.parent))
        for i, r in records.items()
    }
    links = {
        (_moved(a, new_ids), _moved(b, new_ids)): link
        for (a, b), link in found.links.items()
        if a.object_id in new_ids and b.object_id in new_ids
    }
    patches = _patches(session, found, new_ids)
    session.change(lambda d: edits.read_in(d, patches, objects, found.classes, links))
    for line in found.notes:
        logger.warning("%s: %s", path, line)
    labelled = Renumbered(found.labels, new_ids) if new_ids else found.labels
    return replace(found, labels=labelled, objects=objects, links=links)


def _moved(node: Node, ids: dict[int, int]) -> Node:
    return Node(node.frame, ids[node.object_id])


def _renumbered(
    ids: set[int], numbered: frozenset[int], there: set[int], taken: Taken
) -> dict[int, int]:
    """New id of each object: its own, or one above all where that is taken or none."""
    if clash := sorted((ids - numbered) & there):
        if taken == "refuse":
            more = ", ..." if len(clash) > 8 else ""
            raise SessionError(
                f"the session has objects {', '.join(map(str, clash[:8]))}{more} "
                'already: read the file with taken="new" to give its objects new ids'
            )
        if taken != "new":
            raise SessionError(f'taken is "new" or "refuse"; got {taken!r}')
    moved = set(clash) | (numbered if there else set())
    top = max((ids - moved) | there, default=0)
    fresh = iter(range(top + 1, top + 1 + len(ids)))
    return {i: next(fresh) if i in moved else i for i in sorted(ids)}


def _patches(
    session: Annotation, found: Results, ids: dict[int, int]
) -> Iterator[LabelPatch]:
    """What changes in the session's labels, block by block."""
    renumbered = Renumbered(found.labels, ids)
    for spans in iter_blocks_of(found.labels):
        block = renumbered[spans]
        y, x = spans[-2].start, spans[-1].start
        for index in np.ndindex(*block.shape[:-2]):
            new = block[index]
            at = tuple(s.start + i for s, i in zip(spans, index, strict=False))
            plane = Plane(at)
            bbox = (y, x, spans[-2].stop, spans[-1].stop)
            before = np.asarray(session.labels[plane.window(bbox)])
            free = new > 0 if session.rule == "overwrite" else (new > 0) & (before == 0)
            after = before.copy()
            after[free] = new[free]
            if free.any():
                yield LabelPatch(plane, bbox, before.copy(), after, before != after)
