"""Objects through a volume: from the planes a person made to all the others."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.mask_prompt import MaskPrompt
from napari_sam.core.masks import crop_mask
from napari_sam.core.objects import FOLLOWED
from napari_sam.engine.follow import count_in_stack
from napari_sam.engine.look import most_unlike
from napari_sam.engine.propagate import PlaneMask, PropagateOptions, propagate
from napari_sam.errors import PromptError
from napari_sam.session.rivals import Rivals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from napari_sam.core.objects import Key, PlaneRecord, Rule
    from napari_sam.core.planes import Plane
    from napari_sam.engine.engine import Engine
    from napari_sam.session.annotation import Annotation
    from napari_sam.session.document import Document

POOR_SCORE = 0.5
"""Predicted IoU of a key plane below which it is told to be poor."""


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
    ends: Mapping[int, Sequence[int]] = field(default_factory=dict)
    """Of each object: planes on which a person erased all of it. It ends there."""
    notes: list[str] = field(default_factory=list)
    """What a person should look at: key planes that seem wrong. `run` adds to it."""
    rivals: Rivals = field(default_factory=Rivals)
    """What others hold on planes that a person made."""
    along: int = -1
    """Which index of a plane counts those of the stack, as `Plane.at` takes it."""

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
            if self.spans[object_id]:
                self._compare(object_id, keys)
            for span in self.spans[object_id]:
                yield from self._fill(object_id, span, cancel)
        self.notes.extend(self.rivals.notes())

    def _fill(
        self,
        object_id: int,
        span: tuple[int, int],
        cancel: Callable[[], bool] | None,
    ) -> Iterator[tuple[int, PlaneMask]]:
        """Fill one stretch from the keys next to it; nothing else decides it."""
        keys = {p.index[self.along]: p for p in self.keys[object_id]}
        known = {*keys, *self.ends.get(object_id, ())}
        below = max((n for n in known if n < span[0]), default=-1)
        above = min((n for n in known if n > span[1]), default=-1)
        # Walks begin at keys also where the stretch begins or ends between them.
        first = below + 1 if below in keys else span[0]
        last = above - 1 if above in keys else span[1]
        used = {
            keys[n]: self.keys[object_id][keys[n]] for n in (below, above) if n in keys
        }
        for found in propagate(
            self.engine, used, options=self.options,
            first=first, last=last, along=self.along,
            guard=self.rivals.guard(object_id), cancel=cancel,
        ):  # fmt: skip
            if span[0] <= found.plane.index[self.along] <= span[1]:
                yield object_id, found

    def _compare(self, object_id: int, keys: Mapping[Plane, MaskPrompt]) -> None:
        """Note key planes on which the object does not look like one thing."""
        if len(keys) < 2 or self.options.method == "interpolate":
            return
        a, b, unlike = most_unlike(self.engine, keys)
        if unlike > self.options.max_contrast:
            self.notes.append(
                f"object {object_id} looks unlike itself on planes "
                f"{a.index[self.along]} and {b.index[self.along]}, which were "
                "made by hand: is one of them wrong?"
            )


def prepare(
    session: Annotation,
    object_ids: Sequence[int],
    plane: Plane,
    planes: tuple[int, int] | None,
    options: PropagateOptions,
    *,
    anew: bool,
    along: int = -1,
) -> Propagation:
    """Take a snapshot of what `Session.propagate` is to do.

    Raises
    ------
    PromptError
        If an object was made on no plane of this stack.
    """
    document = session.document
    count = count_in_stack(session.volume.shape, plane, along)
    first, last = planes or (0, count - 1)
    keys, spans, ends, replaced = {}, {}, {}, set()
    notes: list[str] = []
    for object_id in object_ids:
        keys[object_id], ends[object_id] = key_masks(session, object_id, plane, along)
        if not keys[object_id]:
            raise PromptError(
                f"object {object_id} was drawn on no plane along axis {plane.axis}: "
                "segment it on one or more of them first"
            )
        numbers = sorted(p.index[along] for p in keys[object_id])
        bounds = max(first, 0), min(last, count - 1)
        near = list(_stretches(numbers, ends[object_id], *bounds))
        wanted = near
        if not anew:
            wanted = [
                s for s in near if _is_stale(document, object_id, plane, *s, along)
            ]
        spans[object_id] = tuple(wanted)
        notes += _poor_keys(document, object_id, keys[object_id])
        replaced |= {
            (object_id, p)
            for p in followed_planes(document, object_id, plane, along)
            if _lies_in(n := p.index[along], wanted)
            or (_lies_in(n, [bounds]) and not _lies_in(n, near))
        }
    document.order += 1
    return Propagation(
        session.engine, keys, spans, options, document.order,
        document.journal.position, session.rule, frozenset(replaced), ends, notes,
        Rivals.of(session, lambda p: _same_stack(p, plane, along), along), along,
    )  # fmt: skip


def key_masks(
    session: Annotation, object_id: int, plane: Plane, along: int = -1
) -> tuple[dict[Plane, MaskPrompt], tuple[int, ...]]:
    """Return an object's pixels on the planes of a stack that a person made.

    Returns
    -------
    masks : dict of Plane to MaskPrompt
    ends : tuple of int
        Numbers of planes on which a person painted until nothing of it was left.
    """
    out, ends = {}, []
    claims = session.document.pixels.claims
    for where, record in session.document.planes(object_id).items():
        if record.origin in FOLLOWED or not _same_stack(where, plane, along):
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
        elif session.document.is_painted((object_id, where)):
            ends.append(where.index[along])
    return out, tuple(ends)


def _poor_keys(
    document: Document, object_id: int, keys: Mapping[Plane, MaskPrompt]
) -> Iterator[str]:
    """Say which key planes the model itself thinks little of."""
    for plane in keys:
        state = document.states.get((object_id, plane))
        score = None if state is None else state.record.score
        if score is not None and score < POOR_SCORE:
            yield (
                f"the mask of object {object_id} on plane {plane.index[-1]} has a poor "
                f"score ({score:.2f}): what follows a wrong mask is wrong"
            )


def followed_planes(
    document: Document, object_id: int, plane: Plane, along: int = -1
) -> dict[Plane, PlaneRecord]:
    """Return what is known of an object on the planes of a stack that were filled."""
    return {
        p: record
        for p, record in document.planes(object_id).items()
        if record.origin in FOLLOWED and _same_stack(p, plane, along)
    }


def settled(
    found: Iterable[tuple[int, PlaneMask]],
) -> list[tuple[int, PlaneMask]]:
    """Give pixels that several objects want to the one that is surest there.

    The others are the more doubtful the more they lose: what was followed onto another
    object may be that object from there on.
    """
    by_plane: dict[Plane, list[tuple[int, PlaneMask]]] = {}
    for object_id, one in found:
        by_plane.setdefault(one.plane, []).append((object_id, one))
    out = []
    for here in by_plane.values():
        here.sort(key=lambda pair: pair[1].doubt)
        taken: list[MaskPrompt] = []
        for object_id, one in here:
            mask = MaskPrompt(one.bbox, one.mask)
            left = reduce(MaskPrompt.without, taken, mask)
            if left.mask.any():
                lost = 1 - np.count_nonzero(left.mask) / np.count_nonzero(mask.mask)
                kept = replace(one, bbox=left.bbox, mask=left.mask)
                out.append((object_id, replace(kept, doubt=max(one.doubt, lost))))
                taken.append(left)
    return out


def _same_stack(a: Plane, b: Plane, along: int = -1) -> bool:
    return bool(a.index) and a.stack(along) == b.stack(along)


def _stretches(
    keys: Sequence[int], ends: Sequence[int], first: int, last: int
) -> Iterator[tuple[int, int]]:
    """Planes next to a key, on one side at least, within first..last."""
    known = [-1, *sorted({*keys, *ends}), last + 1]
    for low, high in itertools.pairwise(known):
        a, b = max(low + 1, first), min(high - 1, last)
        if a <= b and (low in keys or high in keys):
            yield a, b


def _lies_in(number: int, spans: Iterable[tuple[int, int]]) -> bool:
    return any(a <= number <= b for a, b in spans)


def _is_stale(
    document: Document,
    object_id: int,
    plane: Plane,
    first: int,
    last: int,
    along: int = -1,
) -> bool:
    """Whether a key next to a stretch is newer than what fills it, or nothing does."""
    claims = document.pixels.claims
    filled = [
        claims[object_id, p].order
        for p in followed_planes(document, object_id, plane, along)
        if first <= p.index[along] <= last and (object_id, p) in claims
    ]
    if not filled:
        return True
    for number in (first - 1, last + 1):
        if number < 0:
            continue
        key = object_id, plane.at(number, along)
        record = document.painted.get(key)
        if record is not None and record.origin not in FOLLOWED:
            return True  # painted: nothing tells since when
        if key in claims and claims[key].order > min(filled):
            return True
    return False
