"""Tracks as a table, a row an object and frame: to other programs and from them."""

from __future__ import annotations

import csv
import io
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.atomic_files import write_whole
from napari_sam.core.tracks import Node, Tracks
from napari_sam.errors import SessionError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

_NAMES = {
    "track_id": ("track_id", "trackid", "object_id", "track"),
    "t": ("t", "frame", "time"),
    "z": ("z", "position_z"),
    "y": ("y", "position_y"),
    "x": ("x", "position_x"),
    "parent": ("parent", "parent_track_id", "parenttrackid"),
}
"""Names of columns, ours first, then napari's and TrackMate's."""
_REACH = 0.5
"""How far from an object's centre a place may be outside of it, in diameters."""

Places = dict[int, dict[int, tuple[tuple[float, ...], float]]]
"""Centre in pixels and diameter of objects: {frame: {id: (centre, diameter)}}."""


def places_of(frame: np.ndarray) -> dict[int, tuple[tuple[float, ...], float]]:
    """Return centre and diameter of the objects of a frame."""
    at = np.nonzero(frame)
    ids, owner, counts = np.unique(frame[at], return_inverse=True, return_counts=True)
    sums = [np.bincount(owner, weights=a, minlength=len(ids)) for a in at]
    centers = np.stack(sums, axis=1) / np.maximum(counts, 1)[:, None]
    wide = 2 * (counts / np.pi) ** 0.5 if frame.ndim == 2 else counts ** (1 / 3)
    return {
        int(i): (tuple(c.tolist()), float(d))
        for i, c, d in zip(ids, centers, wide, strict=True)
    }


def write_table(
    path: str | os.PathLike[str], tracks: Tracks, frame: Callable[[int], np.ndarray]
) -> None:
    """Write ``track_id, t, (z,) y, x, parent`` as CSV, in pixels and frames.

    Raises
    ------
    ExportError
        If it cannot be written.
    """
    first = {b: a.object_id for b, a in tracks.parents().items()}
    mothers: dict[int, list[int]] = {}
    for b, found in tracks.predecessors.items():
        others = {a.object_id for a in found} - {b.object_id}
        if others:
            main = first.get(b, min(others))
            mothers[b.object_id] = [main, *sorted(others - {main})]
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    at: dict[int, list[int]] = {}
    for node in tracks.nodes:
        at.setdefault(node.frame, []).append(node.object_id)
    rows: list[tuple[Any, ...]] = []
    n_axes = 2
    for t, ids in at.items():
        places = places_of(frame(t))
        for i in ids:
            center = places[i][0]
            n_axes = len(center)
            rows.append((i, t, *(round(c, 4) for c in center)))
    writer.writerow(["track_id", "t", *"zyx"[-n_axes:], "parent"])
    for row in sorted(rows):
        writer.writerow([*row, ";".join(map(str, mothers.get(row[0], ())))])
    write_whole(path, text.getvalue().encode())


def read_table(
    path: str | os.PathLike[str], nodes: Sequence[Node],
    frame: Callable[[int], np.ndarray], spacing: Sequence[float],
) -> tuple[Tracks, int]:  # fmt: skip
    """Read tracks of objects that are there already.

    Parameters
    ----------
    path : path-like
    nodes : sequence of Node
        Objects that there are.
    frame : callable
        Labels of a frame.
    spacing : sequence of float
        Of the frames' axes: TrackMate's ``POSITION_X`` is in units of the world.

    Returns
    -------
    tracks : Tracks
    unknown : int
        Rows with no object at their place.

    Raises
    ------
    SessionError
        If it is no table of tracks.
    """
    rows = _rows(Path(path).expanduser(), spacing)
    found: dict[int, dict[int, Node]] = {}
    parents: dict[int, tuple[int, ...]] = {}
    unknown = 0
    seen: dict[int, tuple[np.ndarray, dict[int, tuple[tuple[float, ...], float]]]] = {}
    there = {n.frame for n in nodes}
    for track, t, place, parent in rows:
        node = None
        if t in there:
            if t not in seen:
                labels = frame(t)
                seen[t] = labels, places_of(labels)
            node = _at(*seen[t], place, t)
        if node is None:
            unknown += 1
            continue
        found.setdefault(track, {})[t] = node
        if parent:
            parents[track] = parent
    edges: dict[tuple[Node, Node], float] = {}
    for at in found.values():
        for a, b in pairwise(sorted(at)):
            edges[at[a], at[b]] = 0.0
    for track, mothers in parents.items():
        first = min(found[track])
        for k, mother in enumerate(mothers):
            before = [t for t in found.get(mother, ()) if t < first]
            if before:
                edges[found[mother][max(before)], found[track][first]] = 0.01 * k
    return Tracks(tuple(nodes), edges), unknown


def _at(
    labels: np.ndarray, places: Mapping[int, tuple[tuple[float, ...], float]],
    place: tuple[float, ...], t: int,
) -> Node | None:  # fmt: skip
    """Return the object at a place: that of the pixel, or else the nearest centre."""
    index = tuple(round(v) for v in place[-labels.ndim :])
    if all(0 <= i < n for i, n in zip(index, labels.shape, strict=True)):
        value = int(labels[index])
        if value:
            return Node(t, value)
    off = {
        i: float(np.linalg.norm(np.subtract(c, place[-labels.ndim :]))) / d
        for i, (c, d) in places.items()
    }
    best = min(off, key=lambda i: off[i], default=None)
    return Node(t, best) if best is not None and off[best] < _REACH else None


Row = tuple[int, int, tuple[float, ...], tuple[int, ...]]
"""Track, frame, place in pixels, parents."""


def _rows(path: Path, spacing: Sequence[float]) -> list[Row]:
    try:
        lines = list(csv.reader(path.read_text("utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SessionError(
            f"{str(path)!r} cannot be read as a table ({error}): expected CSV"
        ) from error
    head = [name.strip().lower() for name in lines[0]] if lines else []
    where = {
        key: next((head.index(n) for n in names if n in head), None)
        for key, names in _NAMES.items()
    }
    lacking = [k for k in ("track_id", "t", "y", "x") if where[k] is None]
    if lacking:
        raise SessionError(
            f"{str(path)!r} has no column {' or '.join(_NAMES[lacking[0]])}: a table "
            "of tracks has track_id, t, y, x, where there are z and parent"
        )
    axes = [a for a in "zyx" if where[a] is not None]
    world = "position" in head[where["x"] or 0]
    scale = [s if world else 1.0 for s in spacing[-len(axes) :]]
    out = []
    for line in lines[1:]:
        try:
            track, t = (int(float(line[where[k] or 0])) for k in ("track_id", "t"))
            place = tuple(
                float(line[where[a] or 0]) / s for a, s in zip(axes, scale, strict=True)
            )
            cell = "" if where["parent"] is None else line[where["parent"]]
            parent = tuple(int(float(p)) for p in cell.split(";") if p.strip())
        except (ValueError, IndexError, OverflowError):
            continue  # TrackMate repeats its header, and leaves cells out
        if np.isfinite(place).all():
            out.append((track, t, place, parent))
    if not out:
        raise SessionError(f"{str(path)!r} has no row with numbers in all its columns")
    return out
