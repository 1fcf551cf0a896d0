"""Objects through a volume: from the planes a person made to all the others."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.masks import boxes_meet, crop_mask
from napari_sam.core.objects import FOLLOWED
from napari_sam.core.prompts import MaskPrompt
from napari_sam.engine.propagate import PlaneMask, PropagateOptions, propagate
from napari_sam.errors import PromptError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from napari_sam.core.objects import Key, PlaneRecord, Rule
    from napari_sam.core.planes import Plane
    from napari_sam.engine.engine import Engine
    from napari_sam.session.annotation import Annotation
    from napari_sam.session.document import Document

DOUBTFUL = 0.3
"""From this doubt on, a plane is shown as doubtful."""


@dataclass(frozen=True, slots=True, eq=False)
class Propagation:
    """Objects to be carried through a stack: a snapshot that any thread may work on."""

    engine: Engine
    keys: Mapping[int, Mapping[Plane, MaskPrompt]]
    """Of each object: its mask on the planes that a person made."""
    spans: Mapping[int, tuple[tuple[int, int], ...]]
    """Of each object: first and last plane, both included, of each stretch to fill."""
    options: PropagateOptions
    order: int
    position: int
    rule: Rule
    replaced: frozenset[Key] = field(default_factory=frozenset)
    """Objects on planes that were filled before, and are filled anew."""

    @property
    def total(self) -> int:
        """Planes to fill, over all objects."""
        return sum(b - a + 1 for spans in self.spans.values() for a, b in spans)

    def run(
        self, cancel: Callable[[], bool] | None = None
    ) -> Iterator[tuple[int, PlaneMask]]:
        """Find the objects plane by plane: (object id, mask).

        Raises
        ------
        Cancelled
            If `cancel` returned True; what was found before is whole.
        """
        for object_id, keys in self.keys.items():
            for first, last in self.spans[object_id]:
                used = _needed(keys, first, last)
                for found in propagate(
                    self.engine, used, options=self.options,
                    first=first, last=last, cancel=cancel,
                ):  # fmt: skip
                    yield object_id, found


def prepare(
    session: Annotation,
    object_ids: Sequence[int],
    plane: Plane,
    planes: tuple[int, int] | None,
    options: PropagateOptions,
    *,
    anew: bool,
) -> Propagation:
    """Take a snapshot of what `Session.propagate` is to do.

    Raises
    ------
    PromptError
        If an object was made on no plane of this stack.
    """
    document = session.document
    count = session.volume.shape[len(session.volume.shape) - 3 + plane.axis]
    first, last = planes or (0, count - 1)
    keys, spans, replaced = {}, {}, set()
    for object_id in object_ids:
        keys[object_id] = key_masks(session, object_id, plane)
        if not keys[object_id]:
            raise PromptError(
                f"object {object_id} was drawn on no plane along axis {plane.axis}: "
                "segment it on one or more of them first"
            )
        numbers = sorted(p.index[-1] for p in keys[object_id])
        wanted = list(_stretches(numbers, max(first, 0), min(last, count - 1)))
        if not anew:
            wanted = [s for s in wanted if _is_stale(document, object_id, plane, *s)]
        spans[object_id] = tuple(wanted)
        replaced |= {
            (object_id, p)
            for p in followed_planes(document, object_id, plane)
            if any(a <= p.index[-1] <= b for a, b in wanted)
        }
    document.order += 1
    return Propagation(
        session.engine, keys, spans, options, document.order,
        document.journal.position, session.rule, frozenset(replaced),
    )  # fmt: skip


def key_masks(
    session: Annotation, object_id: int, plane: Plane
) -> dict[Plane, MaskPrompt]:
    """Return an object's pixels on the planes of a stack that a person made."""
    out = {}
    claims = session.document.pixels.claims
    for where, record in session.document.planes(object_id).items():
        if record.origin in FOLLOWED or not _same_stack(where, plane):
            continue
        claim = claims.get((object_id, where))
        # Painted pixels lie anywhere on the plane, a mask within its box.
        if claim is not None and (object_id, where) not in session.document.painted:
            box = claim.bbox
        else:
            box = (0, 0, *where.shape(session.volume.shape))
        inside = np.asarray(session.labels[where.window(box)]) == object_id
        found, mask = crop_mask(inside)
        if mask.size:
            y, x = box[:2]
            moved = (found[0] + y, found[1] + x, found[2] + y, found[3] + x)
            out[where] = MaskPrompt(moved, mask)
    return out


def followed_planes(
    document: Document, object_id: int, plane: Plane
) -> dict[Plane, PlaneRecord]:
    """Return what is known of an object on the planes of a stack that were filled."""
    return {
        p: record
        for p, record in document.planes(object_id).items()
        if record.origin in FOLLOWED and _same_stack(p, plane)
    }


def settled(
    found: Iterable[tuple[int, PlaneMask]],
) -> list[tuple[int, PlaneMask]]:
    """Give pixels that several objects want to the one that is surest there."""
    by_plane: dict[Plane, list[tuple[int, PlaneMask]]] = {}
    for object_id, one in found:
        by_plane.setdefault(one.plane, []).append((object_id, one))
    out = []
    for here in by_plane.values():
        here.sort(key=lambda pair: pair[1].doubt)
        taken: list[PlaneMask] = []
        for object_id, one in here:
            left = one
            for other in taken:
                left = _without(left, other)
            if left.mask.any():
                out.append((object_id, left))
                taken.append(left)
    return out


def doubtful(
    session: Annotation, object_ids: Iterable[int], least: float = DOUBTFUL
) -> list[tuple[int, Plane, float]]:
    """Planes nobody has reviewed whose doubt is at least `least`, worst first."""
    found = [
        (object_id, plane, record.doubt)
        for object_id in object_ids
        for plane, record in session.document.planes(object_id).items()
        if record.doubt is not None and record.doubt >= least and not record.reviewed
    ]
    return sorted(found, key=lambda entry: -entry[2])


def _same_stack(a: Plane, b: Plane) -> bool:
    return (a.axis, a.index[:-1]) == (b.axis, b.index[:-1]) and bool(a.index)


def _stretches(keys: list[int], first: int, last: int) -> Iterator[tuple[int, int]]:
    """Planes without a key, between and beyond keys, within first..last."""
    ends = [-1, *keys, None]
    for low, high in itertools.pairwise(ends):
        assert low is not None
        a = max(low + 1, first)
        b = last if high is None else min(high - 1, last)
        if a <= b:
            yield a, b


def _needed(
    keys: Mapping[Plane, MaskPrompt], first: int, last: int
) -> dict[Plane, MaskPrompt]:
    """Key planes next to a stretch: nothing else decides what comes of it."""
    below = [p for p in keys if p.index[-1] < first]
    above = [p for p in keys if p.index[-1] > last]
    chosen = [max(below, key=_number)] if below else []
    chosen += [min(above, key=_number)] if above else []
    return {p: keys[p] for p in chosen}


def _number(plane: Plane) -> int:
    return plane.index[-1]


def _is_stale(
    document: Document, object_id: int, plane: Plane, first: int, last: int
) -> bool:
    """Whether a key next to a stretch is newer than what fills it, or nothing does."""
    claims = document.pixels.claims
    filled = [
        claims[object_id, p].order
        for p in followed_planes(document, object_id, plane)
        if first <= p.index[-1] <= last and (object_id, p) in claims
    ]
    if not filled:
        return True
    for number in (first - 1, last + 1):
        if number < 0:
            continue
        key = object_id, replace(plane, index=(*plane.index[:-1], number))
        record = document.painted.get(key)
        if record is not None and record.origin not in FOLLOWED:
            return True  # painted: nothing tells since when
        if key in claims and claims[key].order > min(filled):
            return True
    return False


def _without(one: PlaneMask, other: PlaneMask) -> PlaneMask:
    if not boxes_meet(one.bbox, other.bbox):
        return one
    y0, x0, y1, x1 = one.bbox
    v0, u0, v1, u1 = other.bbox
    a, b, c, d = max(y0, v0), max(x0, u0), min(y1, v1), min(x1, u1)
    mask = one.mask.copy()
    mask[a - y0 : c - y0, b - x0 : d - x0] &= ~other.mask[
        a - v0 : c - v0, b - u0 : d - u0
    ]
    return replace(one, mask=mask)
