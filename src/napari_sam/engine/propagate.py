"""An object of a few key planes on all planes: followed, interpolated, and blended.

From every key plane a walk goes up and down, each mask the prompt of the next plane (or
the model's memory of it). A walk ends where the object does: it no longer overlaps the
plane before, its area jumps, or it looks unlike the key. Between two keys both walks
and the shapes' own interpolation are blended by signed distance, each the stronger the
nearer its key; where a walk lost the object on the way, the shape counts more, and
where both did, it fills. So no plane between keys is left empty, and where the three
disagree, the plane is doubtful. Beyond the keys nothing else fills: there a walk ends
as soon as its plane is more doubtful than the options allow.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_sam.engine.doubt import doubt_between, doubt_beyond, shape_weight
from napari_sam.engine.follow import Follower, Found, Mask, Stack, overlap
from napari_sam.engine.interpolate import blend, interpolate
from napari_sam.engine.look import Look
from napari_sam.engine.parts import Parts, follower_of, shared
from napari_sam.errors import Cancelled, PromptError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from napari_sam.core.mask_prompt import MaskPrompt
    from napari_sam.core.planes import Plane
    from napari_sam.engine.engine import Engine

    Guard = Callable[[Plane, MaskPrompt], MaskPrompt]

_SNAP_OVERLAP = 0.6
"""Least IoU of a shape and what the model sees in its place."""
_LOST_DOUBT = 0.5
"""Least doubt of a plane beyond the keys that a walk has stepped over."""


@dataclass(frozen=True, slots=True)
class PropagateOptions:
    """How an object is carried from plane to plane, and when it counts as ended."""

    method: Literal["auto", "memory", "projection", "interpolate"] = "auto"
    """"memory": the model remembers the planes it has seen (SAM 2). "projection": each
    mask is the prompt of the next plane. "interpolate": shapes alone, nothing beyond
    the keys. "auto": memory where the model has one."""
    min_overlap: float = field(default=0.75, metadata={"range": (0, 1)})
    """Least share of the smaller of a mask and that of the plane before that both have,
    0..1: an object may shrink within itself, but not be elsewhere."""
    max_area_ratio: float = field(default=2.0, metadata={"range": (1, 100)})
    """Most that the area may grow or shrink from plane to plane, as a factor."""
    max_growth: float = field(default=3.0, metadata={"range": (1, 1000)})
    """Most that the area may exceed that of the key the walk began at, as a factor: a
    walk that has left the object floods its surroundings plane by plane."""
    max_contrast: float = field(default=2.5, metadata={"range": (0, 100)})
    """Most that the mean intensity may differ from the key's, in standard deviations
    of the key's pixels."""
    max_doubt: float = field(default=0.8, metadata={"range": (0, 1)})
    """Most doubt of a plane beyond the keys, where nothing but one walk tells of the
    object: from a more doubtful one on nothing is filled. 0..1."""
    reach: int = field(default=0, metadata={"range": (0, 100_000)})
    """Most planes to fill beyond the outermost keys, on each side; 0: as far as the
    object goes."""
    patience: int = field(default=0, metadata={"range": (0, 100)})
    """Planes that the object may be lost on, one after the other, before it counts as
    ended: a spoilt slice is stepped over and filled by shape."""
    snap: bool = False
    """Fit shapes that no walk has reached to the image: the model is asked what it sees
    there, and its answer taken where the IoU with the shape is at least 0.6."""

    def ended(
        self,
        found: Mask,
        before: MaskPrompt,
        size: int,
        unlike: float,
    ) -> bool:
        """Whether the object does not go on from `before` to `found`.

        `size`: pixels of the key the walk began at; `unlike`: difference of intensity,
        as `max_contrast` takes it.
        """
        area, last = (int(np.count_nonzero(m.mask)) for m in (found, before))
        return bool(
            area == 0
            or area > self.max_growth * size
            or max(area, last) > self.max_area_ratio * min(area, last)
            or shared(found, before) < self.min_overlap
            or unlike > self.max_contrast
        )


@dataclass(frozen=True, slots=True, eq=False)
class PlaneMask:
    """An object on a plane that nobody prompted."""

    plane: Plane
    bbox: tuple[int, int, int, int]
    """(y0, x0, y1, x1) in level-0 pixels of the plane, half-open."""
    mask: np.ndarray
    """(y1 - y0, x1 - x0), bool."""
    origin: Literal["propagated", "interpolated"]
    doubt: float
    """0 (sure) to 1: see `doubt_between` and `doubt_beyond`."""
    score: float | None = None
    """Predicted IoU of the nearer walk, about 0..1; None where none came here."""

    @property
    def area(self) -> int:
        """Pixels in the mask."""
        return int(np.count_nonzero(self.mask))

    def full(self, shape: tuple[int, int]) -> np.ndarray:
        """Return the mask on a boolean array of the plane's (height, width)."""
        out = np.zeros(shape, bool)
        y0, x0, y1, x1 = self.bbox
        out[y0:y1, x0:x1] = self.mask
        return out


def propagate(
    engine: Engine,
    keys: Mapping[Plane, Mask],
    *,
    options: PropagateOptions | None = None,
    first: int = 0,
    last: int | None = None,
    along: int = -1,
    guard: Guard | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Iterator[PlaneMask]:
    """Carry an object's masks from key planes to the planes between and beyond.

    Parameters
    ----------
    engine : Engine
    keys : mapping of Plane to MaskPrompt or PlaneCandidate
        The object as it is on one or more planes of one axis, in level-0 pixels.
    options : PropagateOptions, optional
    first, last : int
        Planes to fill, both included; `last` None is the volume's last. Key planes may
        lie among them or next to them.
    along : int
        Which index of a plane is walked along, as `Plane.at` takes it: 0 walks through
        time, where that comes first, at one depth.
    guard : callable, optional
        Given a plane and what was found on it; returns what of it may be the object,
        since other objects are known to hold the rest; empty: it is one of theirs.
    cancel : callable, optional
        Asked before each plane; True raises `Cancelled`.

    Yields
    ------
    PlaneMask
        Span by span, as they are found; key planes are not among them.

    Raises
    ------
    PromptError
        If there is no key plane, one is empty, or they are not planes of one stack.
    ModelError
        If the method is unknown, or "memory" is asked of a model without one.
    VolumeError
        If the volume is a single image.
    Cancelled
    """
    options = options or PropagateOptions()
    stack = Stack.of(engine, keys, along)
    last = stack.n_planes - 1 if last is None else min(last, stack.n_planes - 1)
    first = max(first, 0)
    numbers = [n for n in sorted(stack.keys) if first - 1 <= n <= last + 1]
    if not numbers:
        raise PromptError(
            f"no key plane lies on planes {first} to {last} or next to them; they are "
            f"{sorted(stack.keys)}"
        )
    follower = None
    if options.method != "interpolate":
        follower = follower_of(options.method, engine, stack)
    walks = _Walks(engine, stack, options, follower, guard, cancel)
    yield from walks.beyond(numbers[0], range(numbers[0] - 1, first - 1, -1))
    for low, high in pairwise(numbers):
        yield from walks.between(low, high)
    yield from walks.beyond(numbers[-1], range(numbers[-1] + 1, last + 1))


@dataclass(frozen=True, slots=True, eq=False)
class _Step:
    """One plane of a walk."""

    mask: MaskPrompt
    score: float
    stability: float
    overlap: float
    """IoU with the mask of the plane before."""


@dataclass(frozen=True, slots=True, eq=False)
class _Walks:
    """Walks from key planes, and what comes of them together."""

    engine: Engine
    stack: Stack
    options: PropagateOptions
    follower: Follower | None
    guard: Guard | None
    cancel: Callable[[], bool] | None

    def beyond(self, key: int, numbers: range) -> Iterator[PlaneMask]:
        """Follow the object past the outermost key, until it ends."""
        kept, size = 1.0, np.count_nonzero(self.stack.keys[key].mask)
        last = key, self.stack.keys[key]
        for number, step in self._walk(key, numbers[: self.options.reach or None]):
            kept *= step.overlap
            growth = np.count_nonzero(step.mask.mask) / size
            doubt = doubt_beyond(step.overlap, kept, step.stability, growth)
            if doubt > self.options.max_doubt:
                return
            if abs(number - last[0]) > 1:
                yield from self._across(last, (number, step.mask), doubt)
            last = number, step.mask
            yield self._found(number, step.mask, "propagated", doubt, step.score)

    def _across(
        self, one: tuple[int, MaskPrompt], other: tuple[int, MaskPrompt], doubt: float
    ) -> Iterator[PlaneMask]:
        """Fill planes that a walk has stepped over."""
        ends = dict([one, other])
        doubt = max(doubt, _LOST_DOUBT)
        for number, mask in interpolate(
            ends, spacing=self._spacing(), shape=self.stack.shape
        ):
            yield self._found(number, mask, "interpolated", doubt, None)

    def between(self, low: int, high: int) -> Iterator[PlaneMask]:
        """Fill the span between two keys."""
        if high - low < 2:
            return
        ends = {low: self.stack.keys[low], high: self.stack.keys[high]}
        spacing, keys_alike = self._spacing(), overlap(ends[low], ends[high])
        shapes = dict(interpolate(ends, spacing=spacing, shape=self.stack.shape))
        up = dict(self._walk(low, range(low + 1, high)))
        down = dict(self._walk(high, range(high - 1, low, -1)))
        arrived = high - 1 in up and low + 1 in down
        for number in range(low + 1, high):
            t = (number - low) / (high - low)
            steps = [(up.get(number), 1 - t), (down.get(number), t)]
            came = [(step, w) for step, w in steps if step is not None]
            votes = [(step.mask, w) for step, w in came]
            if (shape := shapes.get(number)) is not None:
                walks = [step.mask for step, _ in came]
                votes.append((shape, shape_weight(walks, arrived=arrived)))
            mask = blend(votes, spacing) if votes else None
            if mask is not None and self.guard is not None:
                mask = self.guard(self.stack.plane(number), mask)
            if mask is None or not mask.mask.any():
                continue
            doubt = doubt_between(mask, [vote for vote, _ in votes], keys_alike)
            if came:
                score = max(came, key=lambda pair: pair[1])[0].score
                yield self._found(number, mask, "propagated", doubt, score)
            else:
                fitted = self._fitted(number, mask)
                yield self._found(number, fitted, "interpolated", doubt, None)

    def _fitted(self, number: int, shape: MaskPrompt) -> MaskPrompt:
        """Shape, or what the model sees in its place, where it may be asked."""
        if not self.options.snap:
            return shape
        looking = Parts(self.engine, self.stack)
        looking.begin(number, shape, reverse=False)
        seen = looking.follow(number).mask
        return seen if overlap(seen, shape) >= _SNAP_OVERLAP else shape

    def _walk(self, key: int, numbers: range) -> Iterator[tuple[int, _Step]]:
        if self.follower is None or not numbers:
            return
        before = self.stack.keys[key]
        size = int(np.count_nonzero(before.mask))
        look = Look.of(self.engine, self.stack.plane(key), before)
        self.follower.begin(key, before, reverse=numbers.step < 0)
        last, lost = key, 0
        for number in numbers:
            if self.cancel is not None and self.cancel():
                raise Cancelled(f"stopped before plane {number}; those found are kept")
            found = self._guarded(number, self.follower.follow(number))
            if self._ended(number, found.mask, before, size, look):
                lost += 1
                if lost > self.options.patience:
                    return
                self.follower.go_on_from(last, before)
                continue
            lost, kept = 0, overlap(found.mask, before)
            yield (
                number,
                _Step(found.mask, found.predicted_iou, found.stability_score, kept),
            )
            last, before = number, found.mask

    def _guarded(self, number: int, found: Found) -> Found:
        """What of a mask no other object holds; the next plane is asked with that."""
        if self.guard is None or self.follower is None or not found.mask.mask.any():
            return found
        free = self.guard(self.stack.plane(number), found.mask)
        if free is found.mask:
            return found
        if free.mask.any():
            self.follower.go_on_from(number, free)
        return replace(found, mask=free)

    def _ended(
        self,
        number: int,
        found: MaskPrompt,
        before: MaskPrompt,
        size: int,
        look: Look,
    ) -> bool:
        if not found.mask.any():
            return True
        unlike = look.unlike(self.engine, self.stack.plane(number), found)
        return self.options.ended(found, before, size, unlike)

    def _found(
        self,
        number: int,
        mask: MaskPrompt,
        origin: Literal["propagated", "interpolated"],
        doubt: float,
        score: float | None,
    ) -> PlaneMask:
        plane = self.stack.plane(number)
        return PlaneMask(plane, mask.bbox, mask.mask, origin, doubt, score)

    def _spacing(self) -> tuple[float, float]:
        y, x = self.stack.template.shown_axes()
        spacing = self.engine.volume.spacing
        return float(spacing[y]), float(spacing[x])
