"""Planes that deserve a look: doubtful ones, and planes of two axes that disagree."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.objects import DOUBTFUL, FOLLOWED
from napari_sam.session.claims import Meeting

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from napari_sam.core.masks import Bbox
    from napari_sam.core.planes import Plane
    from napari_sam.session.claims import Claim
    from napari_sam.session.document import Document

_LEAST_CONFLICT = 3
"""Voxels: one or two at an outline are no conflict."""
_LEAST_ALIKE = 0.7
"""Share of the crossing line on which two planes agree, of what either of them has."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two planes of different axes that say different things of an object."""

    object_id: int
    planes: tuple[Plane, Plane]
    """In the order in which they were prompted."""
    voxels: int
    """Voxels on the line where they cross that only one of them has."""
    iou: float
    """Of both along that line."""


def doubtful(
    document: Document, object_ids: Iterable[int] | None, least: float
) -> list[tuple[int, Plane, float]]:
    """Planes nobody has reviewed whose doubt is at least `least`.

    First the planes whose correction is worth most: see `worth`.
    """
    wanted = None if object_ids is None else set(object_ids)
    found: list[tuple[float, int, Plane, float]] = []
    for object_id, held in document.doubted.items():
        if wanted is None or object_id in wanted:
            for plane, (doubt, weight) in _weighted(document, object_id, held).items():
                if doubt >= least:
                    found.append((weight, object_id, plane, doubt))
    found.sort(key=lambda entry: -entry[0])
    return [entry[1:] for entry in found]


def count_doubtful(document: Document) -> int:
    """Count the planes of all objects that `doubtful` lists at `DOUBTFUL`."""
    return sum(d >= DOUBTFUL for h in document.doubted.values() for d in h.values())


def worth(
    numbers: Sequence[int], doubts: Sequence[float], keys: Sequence[int]
) -> list[float]:
    """How much a look at each plane of a stack is worth.

    A correction mends the planes around as well, up to the nearest key. So this is the
    sum of their doubts, each the less the farther away: 1 at the plane, 0 at the key.
    Three neighbours of one bad stretch are not three looks.

    Parameters
    ----------
    numbers : sequence of int
        Doubtful planes, by rising number.
    doubts : sequence of float
        Theirs, 0..1.
    keys : sequence of int
        Planes that a person made; may be empty.
    """
    at, doubt = np.asarray(numbers, float), np.asarray(doubts, float)
    if not len(at):
        return []
    ends = np.sort(np.asarray(keys, float))
    reach = np.full(at.size, at[-1] - at[0] + 1)
    if ends.size:
        after = np.searchsorted(ends, at)
        low, high = (
            ends[np.maximum(after - 1, 0)],
            ends[np.minimum(after, ends.size - 1)],
        )
        reach = np.minimum(np.abs(at - low), np.abs(at - high)) + 1
    # Sums of doubt, and of doubt times place, before each plane: a triangle in O(n).
    total = np.concatenate(([0.0], np.cumsum(doubt)))
    placed = np.concatenate(([0.0], np.cumsum(doubt * at)))
    first = np.searchsorted(at, at - reach)
    last = np.searchsorted(at, at + reach, side="right")
    here = np.arange(at.size)
    below = at * (total[here] - total[first]) - (placed[here] - placed[first])
    above = (placed[last] - placed[here]) - at * (total[last] - total[here])
    return list((total[last] - total[first] - (below + above) / reach).tolist())


def conflicts(
    document: Document,
    object_ids: Iterable[int] | None = None,
    plane: Plane | None = None,
) -> list[Conflict]:
    """Pairs of planes a person prompted that disagree where they cross, worst first.

    `plane`: only pairs of which it is one.
    """
    ids = list(document.keys) if object_ids is None else list(object_ids)
    out = []
    for object_id in ids:
        out += _conflicts_of(document, object_id, plane)
    return sorted(out, key=lambda found: -found.voxels)


def _conflicts_of(
    document: Document, object_id: int, plane: Plane | None
) -> list[Conflict]:
    claims = document.pixels.claims
    made = [
        key
        for key in document.keys.get(object_id, ())
        if key in document.states and key in claims
    ]
    if len({key[1].axis for key in made}) < 2:
        return []
    out = []
    for a, b in combinations(made, 2):
        if plane is not None and plane not in (a[1], b[1]):
            continue
        if a[1].axis == b[1].axis or a[1].index[:-1] != b[1].index[:-1]:
            continue
        mine, theirs = _on_line(a[1], claims[a], b[1], claims[b])
        either = int(np.count_nonzero(mine | theirs))
        apart = int(np.count_nonzero(mine ^ theirs))
        alike = 1 - apart / max(either, 1)
        if apart >= _LEAST_CONFLICT and alike < _LEAST_ALIKE:
            out.append(Conflict(object_id, (a[1], b[1]), apart, alike))
    return out


def _on_line(
    plane: Plane, claim: Claim, other: Plane, that: Claim
) -> tuple[np.ndarray, np.ndarray]:
    """What two planes that cross say along the line they share, as far as either goes.

    A plane's claim says nothing beyond its box but that the object is not there.
    """
    box, around = _widened(plane, claim.bbox, other, that.bbox)
    meeting = Meeting.of(plane, box, other, around)
    if meeting is None:
        nothing = np.zeros(0, bool)
        return nothing, nothing
    mine = _spread(claim, box)[meeting.mine].ravel()
    theirs = _spread(that, around)[meeting.theirs].ravel()
    return mine, theirs


def _widened(plane: Plane, bbox: Bbox, other: Plane, that: Bbox) -> tuple[Bbox, Bbox]:
    """Both boxes, grown along the axis both planes share, and onto each other."""
    spans = [list(_ends(s)) for s in plane.window(bbox)]
    others = [list(_ends(s)) for s in other.window(that)]
    lead = len(spans) - 3
    for axis in range(3):
        mine, theirs = spans[lead + axis], others[lead + axis]
        if axis == plane.axis:  # `other` has to reach this plane
            theirs[:] = min(theirs[0], mine[0]), max(theirs[1], mine[1])
        elif axis == other.axis:
            mine[:] = min(mine[0], theirs[0]), max(mine[1], theirs[1])
        else:
            low, high = min(mine[0], theirs[0]), max(mine[1], theirs[1])
            mine[:] = theirs[:] = low, high
    return _box(plane, spans[lead:]), _box(other, others[lead:])


def _ends(span: int | slice) -> tuple[int, int]:
    return (span.start, span.stop) if isinstance(span, slice) else (span, span + 1)


def _box(plane: Plane, spans: list[list[int]]) -> Bbox:
    (y0, y1), (x0, x1) = (spans[a] for a in range(3) if a != plane.axis)
    return y0, x0, y1, x1


def _spread(claim: Claim, box: Bbox) -> np.ndarray:
    out = np.zeros((box[2] - box[0], box[3] - box[1]), bool)
    y0, x0, y1, x1 = claim.bbox
    out[y0 - box[0] : y1 - box[0], x0 - box[1] : x1 - box[1]] = claim.mask
    return out


def _weighted(
    document: Document, object_id: int, held: Mapping[Plane, float]
) -> dict[Plane, tuple[float, float]]:
    """Doubt and worth of an object's doubtful planes, stack by stack."""
    stacks: dict[tuple[int, tuple[int, ...]], list[Plane]] = {}
    for plane in held:
        stacks.setdefault((plane.axis, plane.index[:-1]), []).append(plane)
    keys: dict[tuple[int, tuple[int, ...]], list[int]] = {}
    for _, plane in document.keys.get(object_id, ()):
        record = document.painted.get((object_id, plane))
        if record is None or record.origin not in FOLLOWED:
            place = plane.axis, plane.index[:-1]
            if place in stacks and plane.index:
                keys.setdefault(place, []).append(plane.index[-1])
    out = {}
    for place, planes in stacks.items():
        planes.sort(key=lambda p: p.index[-1:])
        numbers = [p.index[-1] if p.index else 0 for p in planes]
        weights = worth(numbers, [held[p] for p in planes], keys.get(place, []))
        for plane, weight in zip(planes, weights, strict=True):
            out[plane] = held[plane], weight
    return out
