"""Masks carried from key planes to their neighbours, along any axis of a volume."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from napari_sam.core.frames import Frame, to_level_0, touches_cut_edge, window_prompts
from napari_sam.core.masks import MaskCandidate, mask_iou, union_bbox
from napari_sam.core.planes import Plane
from napari_sam.core.prompts import MaskPrompt, Prompts, WindowPrompts
from napari_sam.engine.windows import choose_window
from napari_sam.errors import Cancelled, ModelError, PromptError, VolumeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from napari_sam.core.embedding import Embedding
    from napari_sam.core.masks import Bbox
    from napari_sam.core.objects import ObjectState
    from napari_sam.core.tiles import TileGrid, Window
    from napari_sam.engine.engine import Engine

_MARGIN = 0.25
"""Part of an object's size that a window leaves around it, for the next planes."""
_PROMPT_LOGIT = 4.0
"""Mask prompts are cut to this range: a mask of the plane before is a hint, and at full
strength models return it as it is, plane after plane."""


class Tracker(Protocol):
    """Follows one object through the same window of consecutive planes."""

    def condition(self, plane: int, mask: np.ndarray) -> None:
        """Teach the object as it is on a key plane: (side, side) bool, the frame's."""
        ...

    def follow(self, plane: int, *, reverse: bool = False) -> MaskCandidate:
        """Predict the object on the next plane, in the window's pixels."""
        ...

    def forget(self) -> None:
        """Forget all but the key planes."""
        ...


@runtime_checkable
class Propagator(Protocol):
    """A model with a memory of the planes that it has seen."""

    def tracker(
        self,
        embedding: Callable[[int], Embedding],
        n_planes: int,
        window_size: tuple[int, int],
    ) -> Tracker:
        """Return a tracker that reads a window's embeddings by plane number."""
        ...


@dataclass(frozen=True, slots=True)
class StopRules:
    """When an object counts as ended; each compares a plane with the one before."""

    min_iou: float = 0.5
    """Least predicted IoU."""
    max_area_ratio: float = 2.0
    """Most that the area may grow or shrink, as a factor."""
    min_overlap: float = 0.1
    """Least IoU of the two masks."""

    def ended(self, found: MaskCandidate, before: MaskPrompt) -> bool:
        """Whether the object does not go on from `before` to `found`."""
        area, last = found.area, int(np.count_nonzero(before.mask))
        return bool(
            area == 0
            or found.predicted_iou < self.min_iou
            or max(area, last) > self.max_area_ratio * min(area, last)
            or _overlap(found, before) < self.min_overlap
        )


def propagate(
    engine: Engine,
    keys: Mapping[Plane, MaskPrompt | MaskCandidate],
    *,
    method: str = "auto",
    first: int = 0,
    last: int | None = None,
    rules: StopRules | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Iterator[tuple[Plane, MaskCandidate]]:
    """Carry an object's masks from key planes to the planes between and beyond.

    From every key plane the walk goes up and down, plane by plane. Between two key
    planes "projection" walks meet in the middle; with "memory" one walk knows both
    ends. A walk stops where the object ends (`StopRules`).

    Parameters
    ----------
    engine : Engine
    keys : mapping of Plane to MaskPrompt or MaskCandidate
        The object as it is on one or more planes of one axis, in level-0 pixels.
    method : {"auto", "memory", "projection"}
        "memory": the model remembers the planes it has seen (SAM 2). "projection": each
        mask is the prompt of the next plane, with its innermost point.
        "auto": memory where the model has one.
    first, last : int
        Planes to stay between, both included; `last` None is the volume's last.
    rules : StopRules, optional
    cancel : callable, optional
        Asked before each plane; True raises `Cancelled`.

    Yields
    ------
    tuple of Plane and MaskCandidate
        In the order they are found; key planes are not among them. Masks are in level-0
        pixels of the plane.

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
    stack = _Stack.of(engine, keys)
    last = stack.n_planes - 1 if last is None else min(last, stack.n_planes - 1)
    numbers = [n for n in sorted(stack.keys) if max(first, 0) <= n <= last]
    if not numbers:
        raise PromptError(
            f"no key plane lies between planes {first} and {last}; they are "
            f"{sorted(stack.keys)}"
        )
    follower = _follower(method, engine, stack)
    walk = _Walk(follower, stack, rules or StopRules(), cancel)
    done = max(first, 0) - 1
    for key, following in zip(numbers, [*numbers[1:], None], strict=True):
        yield from walk.through(key, range(key - 1, done, -1))
        if following is None:
            limit = last
        elif follower.knows_all_keys:
            limit = following - 1
        else:
            limit = (key + following) // 2
        done = key
        for plane, found in walk.through(key, range(key + 1, limit + 1)):
            done = plane.index[-1]
            yield plane, found


def key_planes(
    states: Mapping[Plane, ObjectState], plane: Plane
) -> dict[Plane, MaskPrompt]:
    """Masks that an object has on planes parallel to one: what `propagate` starts from.

    Parameters
    ----------
    states : mapping of Plane to ObjectState
        Such as ``session.objects[1]``.
    plane : Plane
        Says which axis, and which time point.

    Examples
    --------
    >>> keys = key_planes(session.objects[1], Plane((30,)))  # doctest: +SKIP
    >>> for plane, found in propagate(engine, keys):  # doctest: +SKIP
    ...     print(plane.index, found.area, found.predicted_iou)
    """
    stack = plane.axis, plane.index[:-1]
    return {
        p: MaskPrompt(state.applied.bbox, state.applied.written)
        for p, state in states.items()
        if (p.axis, p.index[:-1]) == stack and state.applied.written.any()
    }


@dataclass(frozen=True, slots=True)
class _Stack:
    """Consecutive planes along one axis, and the object on some of them."""

    template: Plane
    n_planes: int
    shape: tuple[int, int]
    keys: dict[int, MaskPrompt]

    @classmethod
    def of(
        cls, engine: Engine, keys: Mapping[Plane, MaskPrompt | MaskCandidate]
    ) -> _Stack:
        shape = engine.volume.shape
        if len(shape) < 3:
            raise VolumeError(
                f"a volume of shape {tuple(shape)} is one plane: there is none to "
                "propagate to"
            )
        if not keys or any(not np.any(k.mask) for k in keys.values()):
            raise PromptError(
                "propagation starts from the object's mask on one or more key planes; "
                f"got {len(keys)} planes, of which an empty one helps nothing"
            )
        planes = list(keys)
        if len({(p.axis, p.index[:-1]) for p in planes}) > 1:
            raise PromptError(
                "key planes must lie along one axis at one time point; got "
                f"{[p.to_json() for p in planes]}"
            )
        plane = planes[0]
        n_planes = shape[len(shape) - 3 + plane.axis]
        masks = {p.index[-1]: MaskPrompt(k.bbox, k.mask) for p, k in keys.items()}
        return cls(plane, n_planes, plane.shape(shape), masks)

    def plane(self, number: int) -> Plane:
        """Plane of that number."""
        return Plane((*self.template.index[:-1], number), self.template.axis)


class _Follower(Protocol):
    """Finds the object on a plane from what it is on the one before."""

    knows_all_keys: bool
    """Whether the key plane ahead is known as well as the one behind."""

    def begin(self, number: int, mask: MaskPrompt, *, reverse: bool) -> None:
        """Start from a plane."""
        ...

    def follow(self, number: int) -> MaskCandidate:
        """Find the object on the next plane, in level-0 pixels."""
        ...


@dataclass(frozen=True, slots=True)
class _Walk:
    """From a key plane onwards, until the object ends."""

    follower: _Follower
    stack: _Stack
    rules: StopRules
    cancel: Callable[[], bool] | None

    def through(
        self, key: int, numbers: range
    ) -> Iterator[tuple[Plane, MaskCandidate]]:
        if not numbers:
            return
        before = self.stack.keys[key]
        self.follower.begin(key, before, reverse=numbers.step < 0)
        for number in numbers:
            if self.cancel is not None and self.cancel():
                raise Cancelled(f"stopped before plane {number}; those found are kept")
            found = self.follower.follow(number)
            if self.rules.ended(found, before):
                return
            yield self.stack.plane(number), found
            before = MaskPrompt(found.bbox, found.mask)


def _follower(method: str, engine: Engine, stack: _Stack) -> _Follower:
    remembers = isinstance(engine.model, Propagator)
    if method == "memory" and not remembers:
        raise ModelError(
            f"{engine.model.spec.name} has no memory of planes; use a SAM 2 model, "
            "or the method 'projection'"
        )
    if method not in ("auto", "memory", "projection"):
        raise ModelError(
            f"unknown method {method!r}; expected 'auto', 'memory' or 'projection'"
        )
    if remembers and method != "projection":
        return _Memory(engine, stack)
    return _Projection(engine, stack)


class _Looking:
    """What both ways of following share: windows around the object."""

    def __init__(self, engine: Engine, stack: _Stack) -> None:
        self.engine, self.stack = engine, stack
        self.grid: TileGrid = engine.grid(stack.template.axis)

    def window(self, bbox: Bbox, margin: float = _MARGIN) -> Window:
        """Window that holds a box and a margin of its size on each side."""
        y0, x0, y1, x1 = bbox
        dy, dx = margin * (y1 - y0), margin * (x1 - x0)
        h, w = self.stack.shape
        box = max(y0 - dy, 0), max(x0 - dx, 0), min(y1 + dy, h), min(x1 + dx, w)
        return choose_window(Prompts.of(box=box), self.grid)

    def is_cut(self, found: MaskCandidate, window: Window) -> bool:
        """Whether a mask (window pixels) goes on beyond its window."""
        shape = self.grid.level_shape(window.level)
        return touches_cut_edge(found.bbox, window, shape)


class _Projection(_Looking):
    """Each plane's mask is the prompt of the next."""

    knows_all_keys = False

    def begin(self, number: int, mask: MaskPrompt, *, reverse: bool) -> None:
        self._mask = mask
        self._window: Window | None = None
        self._logits: np.ndarray | None = None

    def follow(self, number: int) -> MaskCandidate:
        plane = self.stack.plane(number)
        window = self.window(self._mask.bbox)
        found = self._look(plane, window)
        for _ in range(self.grid.n_levels):
            if not self.is_cut(found, window):
                break
            seen = to_level_0(found, window, self.stack.shape).bbox
            wider = self.window(union_bbox(seen, self._mask.bbox), margin=0.5)
            if wider == window:
                break
            window, found = wider, self._look(plane, wider)
        self._window, self._logits = window, found.low_res_logits
        moved = to_level_0(found, window, self.stack.shape)
        if moved.mask.any():
            self._mask = MaskPrompt(moved.bbox, moved.mask)
        return moved

    def _look(self, plane: Plane, window: Window) -> MaskCandidate:
        """Decode with the mask so far as prompt; window pixels."""
        prompts = Prompts.of(points=[innermost(self._mask)], mask=self._mask)
        logits = self._logits if window == self._window else None
        given = window_prompts(prompts, self.engine.frame(window), logits)
        embedding = self.engine.embedding(plane, window)
        found = self.engine.model.decode(embedding, self._understood(given))

        def likeness(c: MaskCandidate) -> float:
            moved = to_level_0(c, window, self.stack.shape)
            return c.predicted_iou * _overlap(moved, self._mask)

        return max(found, key=likeness)

    def _understood(self, given: WindowPrompts) -> WindowPrompts:
        """Keep point and mask, softened; the box only for a model of boxes.

        A box is answered with something that fills it even where the object has ended,
        so with one a walk neither shrinks with the object nor stops.
        """
        kinds = self.engine.model.spec.prompts
        if "points" not in kinds:
            return WindowPrompts(box=given.box, multimask_output=False)
        mask = given.mask_input
        if mask is None or "mask" not in kinds:
            return replace(given, box=None, mask_input=None, multimask_output=True)
        soft = np.clip(mask, -_PROMPT_LOGIT, _PROMPT_LOGIT)
        return replace(given, box=None, mask_input=soft)


class _Memory(_Looking):
    """A model with memory looks at the same window of one plane after the other."""

    knows_all_keys = True
    _window: Window | None = None

    def begin(self, number: int, mask: MaskPrompt, *, reverse: bool) -> None:
        self._number, self._mask, self._reverse = number, mask, reverse
        extent = mask.bbox
        for key in self.stack.keys.values():
            extent = union_bbox(extent, key.bbox)
        window = self.window(extent)
        if window == self._window:
            self._tracker.forget()
        else:
            self._remember(window)

    def follow(self, number: int) -> MaskCandidate:
        assert self._window is not None
        window = self._window
        found = self._tracker.follow(number, reverse=self._reverse)
        for _ in range(self.grid.n_levels):
            if not self.is_cut(found, window):
                break
            seen = to_level_0(found, window, self.stack.shape).bbox
            wider = self.window(union_bbox(seen, self._mask.bbox), margin=0.5)
            if wider == window:
                break
            window = wider
            self._remember(window)
            found = self._tracker.follow(number, reverse=self._reverse)
        moved = to_level_0(found, window, self.stack.shape)
        if moved.mask.any():
            self._number, self._mask = number, MaskPrompt(moved.bbox, moved.mask)
        return moved

    def _remember(self, window: Window) -> None:
        """Start over in a window: the key planes, and the plane found last."""
        engine, stack = self.engine, self.stack
        model = engine.model
        assert isinstance(model, Propagator)
        self._window = window

        def embedding(number: int) -> Embedding:
            return engine.embedding(stack.plane(number), window)

        self._tracker: Tracker = model.tracker(
            embedding, stack.n_planes, (window.h, window.w)
        )
        for number, mask in {**stack.keys, self._number: self._mask}.items():
            pixels = _over_frame(mask, engine, window)
            if pixels.any():
                self._tracker.condition(number, pixels)


def innermost(mask: MaskPrompt) -> tuple[float, float]:
    """Return the pixel (y, x) that lies deepest in a mask, most central if many do."""
    from scipy.ndimage import distance_transform_edt

    depth = distance_transform_edt(np.pad(mask.mask, 1))[1:-1, 1:-1]
    deepest = np.argwhere(depth >= 0.95 * depth.max())
    center = np.argwhere(mask.mask).mean(0)
    y, x = deepest[((deepest - center) ** 2).sum(1).argmin()]
    return float(y + mask.bbox[0]), float(x + mask.bbox[1])


def _over_frame(mask: MaskPrompt, engine: Engine, window: Window) -> np.ndarray:
    """Sample a mask on the (side, side) pixels of the model's frame of a window."""
    spec = engine.model.spec
    side = spec.input_side
    frame = Frame(window, side, side, spec.enlarges, spec.stretches)
    logits = window_prompts(Prompts.of(mask=mask), frame, None).mask_input
    assert logits is not None
    return logits > 0


def _overlap(a: MaskCandidate | MaskPrompt, b: MaskCandidate | MaskPrompt) -> float:
    """IoU of two masks, each cropped to its own box."""
    if not a.mask.size or not b.mask.size:
        return 0.0
    y0, x0, y1, x1 = union_bbox(a.bbox, b.bbox)
    whole = np.zeros((2, y1 - y0, x1 - x0), bool)
    for out, one in zip(whole, (a, b), strict=True):
        top, left, bottom, right = one.bbox
        out[top - y0 : bottom - y0, left - x0 : right - x0] = one.mask
    return mask_iou(whole[0], whole[1])
