"""Labels as what follows from a base and from claims, kept so through every change.

The base is what was imported, given or painted by hand. Above it lie claims: the masks
of objects on planes, each in its place in one order. A pixel shows the topmost claim
that covers it, or else the base. Nothing else is known of a pixel's past, so what no
longer claims it cannot come back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.masks import Bbox, LabelPatch, boxes_meet, union_bbox
from napari_sam.core.planes import Plane
from napari_sam.session.claims import Claim, ClaimIndex, HiddenBase, Meeting, Part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from napari_sam.core.objects import Key, Rule

_EMPTY: Bbox = (0, 0, 0, 0)
_BAND = 2**19
"""Pixels looked at together: what the processor's cache holds."""


@dataclass(slots=True)
class Changes:
    """What one operation does to labels, base and claims, in order."""

    patches: list[LabelPatch] = field(default_factory=list)
    hidden: list[LabelPatch] = field(default_factory=list)
    claims: dict[Key, tuple[Claim | None, Claim | None]] = field(default_factory=dict)
    """Before and after."""


class Composition:
    """Base and claims of a volume's labels.

    Parameters
    ----------
    read : callable
        (plane, bbox) -> labels there; a view or a copy.
    write : callable
        Puts a `LabelPatch` into the labels.
    """

    def __init__(
        self,
        read: Callable[[Plane, Bbox], np.ndarray],
        write: Callable[[LabelPatch], None],
    ) -> None:
        self.read, self.write = read, write
        self.claims: dict[Key, Claim] = {}
        self.hidden = HiddenBase()
        self._index = ClaimIndex()

    # -- operations ------------------------------------------------------------------

    def claim(
        self, to: Changes, key: Key, bbox: Bbox, mask: np.ndarray, order: int,
        rule: Rule,
    ) -> Claim:  # fmt: skip
        """Put a mask in the place of an object's former one on a plane.

        Parameters
        ----------
        to : Changes
            Takes what changes.
        key : (int, Plane)
        bbox, mask
            (y0, x0, y1, x1) half-open, and (h, w) bool; may be empty.
        order : int
        rule : {"keep", "overwrite"}
            "keep" takes only pixels that are free or the object's own.
        """
        old = self.claims.get(key)
        whole = bbox if old is None else union_bbox(old.bbox, bbox)
        if whole[2] <= whole[0] or whole[3] <= whole[1]:
            claim = Claim.of(order, _EMPTY, np.zeros((0, 0), bool))
            self._record(to, key, claim)
            return claim
        was = None if old is None else _placed(old.mask, old.bbox, whole)
        new = _placed(mask, bbox, whole)
        others = self._others(key, whole)
        bare = was is None or self._lies_on_nothing(was, key[1], whole, others)
        if bare and (rule == "keep" or self._is_free(key, whole, new)):
            took = self._claim_free(to, key, whole, was, new)
        else:
            took = self._claim_among(to, key, whole, was, new, others, order, rule)
        y, x = bbox[0] - whole[0], bbox[1] - whole[1]
        kept = took[y : y + mask.shape[0], x : x + mask.shape[1]]
        claim = Claim.of(order, bbox if mask.size else _EMPTY, kept)
        self._record(to, key, claim)
        return claim

    def claim_new(
        self, to: Changes, patches: Iterable[LabelPatch], claims: Mapping[Key, Claim]
    ) -> None:
        """Put masks on free pixels where these objects hold nothing yet.

        Parameters
        ----------
        to : Changes
            Takes what changes.
        patches : iterable of LabelPatch
            All pixels of the claims, which were free, as `FreePixels` gives them.
        claims : mapping of Key to Claim
        """
        for patch in patches:
            self._write(to, patch)
        for key, claim in claims.items():
            self._record(to, key, claim)

    def release(self, to: Changes, key: Key) -> None:
        """Give up what an object's mask holds on a plane."""
        old = self.claims.get(key)
        if old is None:
            return
        if old.bbox[2] > old.bbox[0]:
            nothing = np.zeros(old.mask.shape, bool)
            others = self._others(key, old.bbox)
            self._claim_among(
                to, key, old.bbox, old.mask, nothing, others, old.order, "keep"
            )
        self._record(to, key, None)

    def paint(self, to: Changes, patch: LabelPatch) -> None:
        """Make pixels that were painted, and are in the labels already, the base's."""
        plane, bbox, changed = patch.plane, patch.bbox, patch.changed
        to.patches.append(patch)
        for key in self._index.near(plane, bbox):
            claim = self.claims[key]
            met = Meeting.of(plane, bbox, key[1], claim.bbox)
            if met is None:
                continue
            lost = met.to_theirs(changed[met.mine]) & claim.mask[met.theirs]
            if lost.any():
                self._record(to, key, claim.without(met.theirs, lost))
        hidden = self.hidden.read(plane, bbox)
        if hidden is not None:
            self._hide(to, plane, bbox, changed & (hidden > 0), 0, hidden)

    def erase_base(
        self, to: Changes, object_id: int, boxes: Mapping[Plane, Bbox]
    ) -> None:
        """Remove an object's painted and imported pixels, also those that are hidden.

        Parameters
        ----------
        boxes : mapping of Plane to bbox
            Where the labels show it; its claims are released already.
        """
        for plane, bbox in boxes.items():
            here = np.asarray(self.read(plane, bbox))
            own = here == object_id
            if own.any():
                zero, value = here.dtype.type(0), here.dtype.type(object_id)
                self._write(
                    to, LabelPatch(plane, bbox, np.array(value), np.array(zero), own)
                )
        for index, bbox in self.hidden.holding(object_id):
            plane = Plane(index)
            hidden = self.hidden.read(plane, bbox)
            assert hidden is not None
            self._hide(to, plane, bbox, hidden == object_id, 0, hidden)

    def apply(
        self,
        patches: Iterable[LabelPatch],
        hidden: Iterable[LabelPatch],
        claims: Mapping[Key, Claim | None],
    ) -> None:
        """Put recorded changes in force as they are."""
        for patch in patches:
            self.write(patch)
        self.apply_hidden(hidden, claims)

    def apply_hidden(
        self, hidden: Iterable[LabelPatch], claims: Mapping[Key, Claim | None]
    ) -> None:
        """Put recorded changes of base and claims in force; leave the labels."""
        for patch in hidden:
            self.hidden.write(patch.plane, patch.bbox, patch.changed, patch.after)
        for key, claim in claims.items():
            self._set(key, claim)

    # -- inside ----------------------------------------------------------------------

    def _is_free(self, key: Key, whole: Bbox, new: np.ndarray) -> bool:
        """Whether nothing but the object itself is where a mask lies."""
        view = np.asarray(self.read(key[1], whole))
        return not any(
            (((view[r] != 0) & new[r]) & (view[r] != key[0])).any()
            for r in _bands(new.shape)
        )

    def _claim_free(
        self, to: Changes, key: Key, whole: Bbox, was: np.ndarray | None,
        new: np.ndarray,
    ) -> np.ndarray:  # fmt: skip
        """Take free pixels where nothing lies beneath the former mask, in bands."""
        object_id, plane = key
        view = np.asarray(self.read(plane, whole))
        took, gained = np.empty(new.shape, bool), np.empty(new.shape, bool)
        lost = None if was is None else np.empty(new.shape, bool)
        hides = False
        for r in _bands(new.shape):
            own = view[r] == object_id
            free = view[r] == 0
            free |= own
            np.logical_and(new[r], free, out=took[r])
            np.greater(took[r], own, out=gained[r])
            if was is None or lost is None:
                hides = hides or bool(own.any() and (own & took[r]).any())
            else:
                np.greater(was[r], took[r], out=lost[r])
                hides = hides or bool(((own & took[r]) > was[r]).any())
        if hides:
            beneath = took & (view == object_id)
            if was is not None:
                beneath &= ~was
            covered = self._covered(key, whole)
            self._hide(to, plane, whole, beneath & ~covered, object_id)
        kind = view.dtype.type if object_id <= np.iinfo(view.dtype).max else np.uint32
        zero, value = np.array(kind(0)), np.array(kind(object_id))
        if lost is not None and lost.any():
            self._write(to, LabelPatch(plane, whole, value, zero, lost))
        if gained.any():
            self._write(to, LabelPatch(plane, whole, zero, value, gained))
        return took

    def _claim_among(
        self, to: Changes, key: Key, whole: Bbox, was: np.ndarray | None,
        new: np.ndarray, others: list[_Other], order: int, rule: Rule,
    ) -> np.ndarray:  # fmt: skip
        """Take pixels where other claims or a base lie above or beneath."""
        object_id, plane = key
        view, hidden = (
            np.asarray(self.read(plane, whole)),
            self.hidden.read(plane, whole),
        )
        fits = object_id <= np.iinfo(view.dtype).max
        before = np.empty(new.shape, view.dtype if fits else np.uint32)
        after = np.empty_like(before)
        changed, took, hides, bares = (np.zeros(new.shape, bool) for _ in range(4))
        for r in _bands(new.shape):
            before[r] = after[r] = view[r]
            rest, old = after[r], None if was is None else was[r]
            covered, above = np.zeros(rest.shape, bool), np.zeros(rest.shape, bool)
            if old is not None:
                beneath = 0 if hidden is None else hidden[r]
                np.copyto(rest, beneath, where=old, casting="unsafe")
            for other in (o for o in others if o.reaches(r)):
                part, pixels = other.within(r)
                covered[part] |= pixels
                if old is not None:
                    np.copyto(rest[part], other.object_id, where=pixels & old[part])
                if other.order > order:
                    above[part] |= pixels
            took[r] = new[r]
            if rule == "keep":
                took[r] &= (rest == 0) | (rest == object_id)
            covers = took[r] if old is None else took[r] > old
            hides[r] = (covers & (rest > 0)) > covered
            if old is not None and hidden is not None:
                bares[r] = ((old > took[r]) & (hidden[r] > 0)) > covered
            np.copyto(rest, object_id, where=took[r] > above)
            changed[r] = before[r] != rest
        if changed.any():
            self._write(to, LabelPatch(plane, whole, before, after, changed))
        self._hide(to, plane, whole, hides, before, hidden)
        self._hide(to, plane, whole, bares, 0, hidden)
        return took

    def _others(self, key: Key, bbox: Bbox) -> list[_Other]:
        """Claims of other objects and planes on a box, lowest first."""
        found = []
        for other in self._index.near(key[1], bbox):
            claim = self.claims[other]
            if other == key or (
                other[1] == key[1] and not boxes_meet(bbox, claim.bbox)
            ):
                continue
            met = Meeting.of(key[1], bbox, other[1], claim.bbox)
            if met is not None:
                pixels = met.to_mine(claim.mask[met.theirs])
                if pixels.any():
                    found.append(_Other(claim.order, other[0], met.mine, pixels))
        return sorted(found, key=lambda o: o.order)

    def _covered(self, key: Key, bbox: Bbox) -> np.ndarray:
        out = np.zeros((bbox[2] - bbox[0], bbox[3] - bbox[1]), bool)
        for other in self._others(key, bbox):
            out[other.part] |= other.pixels
        return out

    def _lies_on_nothing(
        self, was: np.ndarray, plane: Plane, bbox: Bbox, others: list[_Other]
    ) -> bool:
        if any((o.pixels & was[o.part]).any() for o in others):
            return False
        hidden = self.hidden.read(plane, bbox)
        return hidden is None or not (was & (hidden > 0)).any()

    def _write(self, to: Changes, patch: LabelPatch) -> None:
        to.patches.append(patch)
        self.write(patch)

    def _hide(
        self, to: Changes, plane: Plane, bbox: Bbox, where: np.ndarray, values: Any,
        before: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        """Set hidden labels where a mask is set."""
        if not where.any():
            return
        was = np.uint32(0) if before is None else before
        patch = LabelPatch(
            plane, bbox, np.asarray(was), np.asarray(values, np.uint32), where
        )
        to.hidden.append(patch)
        self.hidden.write(plane, bbox, where, patch.after)

    def _record(self, to: Changes, key: Key, claim: Claim | None) -> None:
        before = to.claims[key][0] if key in to.claims else self.claims.get(key)
        to.claims[key] = before, claim
        self._set(key, claim)

    def _set(self, key: Key, claim: Claim | None) -> None:
        old = self.claims.pop(key, None)
        if old is not None:
            self._index.discard(key, old.bbox)
        if claim is not None:
            self.claims[key] = claim
            self._index.add(key, claim.bbox)


@dataclass(frozen=True, slots=True, eq=False)
class _Other:
    """What another claim holds of a box."""

    order: int
    object_id: int
    part: Part
    pixels: np.ndarray

    def reaches(self, rows: slice) -> bool:
        """Whether it has any of these rows."""
        mine = self.part[0]
        return bool(mine.start < rows.stop and rows.start < mine.stop)

    def within(self, rows: slice) -> tuple[Part, np.ndarray]:
        """Return where in these rows it lies, and its pixels there."""
        start = self.part[0].start
        low, high = max(start, rows.start), min(self.part[0].stop, rows.stop)
        here = slice(low - rows.start, high - rows.start), self.part[1]
        return here, self.pixels[low - start : high - start]


def _bands(shape: tuple[int, ...]) -> Iterator[slice]:
    """Yield rows of an array, so many at a time that the cache holds them."""
    step = max(1, _BAND // max(1, shape[1]))
    for y in range(0, shape[0], step):
        yield slice(y, min(y + step, shape[0]))


def _placed(mask: np.ndarray, bbox: Bbox, whole: Bbox) -> np.ndarray:
    """Lay a mask into a larger box."""
    if bbox == whole:
        return mask
    out = np.zeros((whole[2] - whole[0], whole[3] - whole[1]), bool)
    y, x = bbox[0] - whole[0], bbox[1] - whole[1]
    out[y : y + mask.shape[0], x : x + mask.shape[1]] = mask
    return out
