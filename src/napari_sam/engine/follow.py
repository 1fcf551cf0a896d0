"""Following an object from one plane to the next: from its last mask, or by memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from napari_sam.core.candidates import PlaneCandidate
from napari_sam.core.frames import Frame, touches_cut_edge, window_prompts
from napari_sam.core.mask_prompt import MaskPrompt
from napari_sam.core.masks import MaskCandidate, crop_iou, depth_of, union_bbox
from napari_sam.core.prompts import Prompts, WindowPrompts
from napari_sam.core.sampling import sample_mask
from napari_sam.engine.windows import choose_window
from napari_sam.errors import PromptError, VolumeError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from napari_sam.core.embedding import Embedding
    from napari_sam.core.masks import Bbox
    from napari_sam.core.planes import Plane
    from napari_sam.core.tiles import TileGrid, Window
    from napari_sam.engine.engine import Engine

Mask = MaskPrompt | PlaneCandidate
"""A mask cropped to its box on a plane."""

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
class Stack:
    """Consecutive planes along one axis, and the object on some of them."""

    template: Plane
    n_planes: int
    shape: tuple[int, int]
    keys: dict[int, MaskPrompt]
    along: int = -1
    """Which index of a plane counts them, as `Plane.at` takes it."""

    @classmethod
    def of(cls, engine: Engine, keys: Mapping[Plane, Mask], along: int = -1) -> Stack:
        """Sort key planes into their stack.

        Raises
        ------
        PromptError, VolumeError
            As `propagate` says.
        """
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
        if len({p.stack(along) for p in planes}) > 1:
            raise PromptError(
                "key planes must lie along one axis at one time point, or through time "
                f"at one depth; got {[p.to_json() for p in planes]}"
            )
        plane = planes[0]
        n_planes = count_in_stack(shape, plane, along)
        masks = {p.index[along]: MaskPrompt(k.bbox, k.mask) for p, k in keys.items()}
        return cls(plane, n_planes, plane.shape(shape), masks, along)

    def plane(self, number: int) -> Plane:
        """Plane of that number."""
        return self.template.at(number, self.along)


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """An object on the next plane."""

    mask: MaskPrompt
    """Level-0 pixels; empty where the object is not there."""
    predicted_iou: float
    stability_score: float

    @classmethod
    def of(cls, one: PlaneCandidate) -> Found:
        """Draw a candidate."""
        mask = MaskPrompt(one.bbox, one.mask)
        return cls(mask, one.predicted_iou, one.stability_score)


def count_in_stack(shape: Sequence[int], plane: Plane, along: int = -1) -> int:
    """Return how many planes a stack has; `along` as `Plane.at` takes it."""
    return shape[len(shape) - 3 + plane.axis if along == -1 else along]


class Follower(Protocol):
    """Finds the object on a plane from what it is on the one before."""

    def begin(self, number: int, mask: MaskPrompt, *, reverse: bool) -> None:
        """Start from a plane."""
        ...

    def follow(self, number: int) -> Found:
        """Find the object on the next plane."""
        ...

    def go_on_from(self, number: int, mask: MaskPrompt) -> None:
        """Go on from an earlier plane: what was found since is not the object."""
        ...


class _Windows:
    """What both ways of following share: windows around the object."""

    def __init__(self, engine: Engine, stack: Stack) -> None:
        self.engine, self.stack = engine, stack
        self.grid: TileGrid = engine.grid(stack.template.axis)

    def window(self, bbox: Bbox, margin: float = _MARGIN) -> Window:
        """Window that holds a box and a margin of its size on each side."""
        y0, x0, y1, x1 = bbox
        dy, dx = margin * (y1 - y0), margin * (x1 - x0)
        h, w = self.stack.shape
        box = max(y0 - dy, 0), max(x0 - dx, 0), min(y1 + dy, h), min(x1 + dx, w)
        return choose_window(Prompts.of(box=box), self.grid)

    def _on_plane(self, found: MaskCandidate, window: Window) -> PlaneCandidate:
        return PlaneCandidate(found, window, self.stack.shape)

    def is_cut(self, found: MaskCandidate, window: Window) -> bool:
        """Whether a mask (window pixels) goes on beyond its window."""
        shape = self.grid.level_shape(window.level)
        return touches_cut_edge(found.bbox, window, shape)


class Projection(_Windows):
    """Each plane's mask is the prompt of the next."""

    def begin(self, number: int, mask: MaskPrompt, *, reverse: bool) -> None:
        """Start from a plane."""
        self._mask = mask
        self._window: Window | None = None
        self._logits: np.ndarray | None = None

    def follow(self, number: int) -> Found:
        """Find the object on the next plane."""
        plane = self.stack.plane(number)
        window = self.window(self._mask.bbox)
        found = self._look(plane, window)
        for _ in range(self.grid.n_levels):
            if not self.is_cut(found, window):
                break
            seen = self._on_plane(found, window).bbox
            wider = self.window(union_bbox(seen, self._mask.bbox), margin=0.5)
            if wider == window:
                break
            window, found = wider, self._look(plane, wider)
        self._window, self._logits = window, found.low_res_logits
        moved = Found.of(self._on_plane(found, window))
        if moved.mask.mask.any():
            self._mask = moved.mask
        return moved

    def go_on_from(self, number: int, mask: MaskPrompt) -> None:
        """Go on from an earlier plane: what was found since is not the object."""
        self._mask, self._logits = mask, None

    def _look(self, plane: Plane, window: Window) -> MaskCandidate:
        """Decode with the mask so far as prompt; window pixels."""
        point = [innermost(self._mask)] if self._takes_point else None
        prompts = Prompts.of(points=point, mask=self._mask)
        logits = self._logits if window == self._window else None
        forms = self.engine.model.spec.forms
        frame = self.engine.frame(window)
        given = window_prompts(prompts, frame, logits, self.stack.shape, forms)
        embedding = self.engine.embedding(plane, window)
        found = self.engine.model.decode(embedding, self._understood(given))

        def likeness(c: MaskCandidate) -> float:
            moved = self._on_plane(c, window)
            return c.predicted_iou * overlap(moved, self._mask)

        return max(found, key=likeness)

    @property
    def _takes_point(self) -> bool:
        """Whether the model follows a point, too, or understands nothing else."""
        spec = self.engine.model.spec
        return "mask" not in spec.prompts or "points" in spec.follow_with

    def _understood(self, given: WindowPrompts) -> WindowPrompts:
        """Keep the mask, softened, and the point where the model gains by it.

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
        if not self._takes_point:
            return WindowPrompts(mask_input=soft, multimask_output=True)
        return replace(given, box=None, mask_input=soft)


class Memory(_Windows):
    """A model with memory looks at the same window of one plane after the other."""

    _window: Window | None = None

    def begin(self, number: int, mask: MaskPrompt, *, reverse: bool) -> None:
        """Start from a plane."""
        self._number, self._mask, self._reverse = number, mask, reverse
        extent = mask.bbox
        for key in self.stack.keys.values():
            extent = union_bbox(extent, key.bbox)
        window = self.window(extent)
        if window == self._window:
            self._tracker.forget()
        else:
            self._remember(window)

    def follow(self, number: int) -> Found:
        """Find the object on the next plane."""
        assert self._window is not None
        window = self._window
        found = self._tracker.follow(number, reverse=self._reverse)
        for _ in range(self.grid.n_levels):
            if not self.is_cut(found, window):
                break
            seen = self._on_plane(found, window).bbox
            wider = self.window(union_bbox(seen, self._mask.bbox), margin=0.5)
            if wider == window:
                break
            window = wider
            self._remember(window)
            found = self._tracker.follow(number, reverse=self._reverse)
        moved = Found.of(self._on_plane(found, window))
        if moved.mask.mask.any():
            self._number, self._mask = number, moved.mask
        return moved

    def go_on_from(self, number: int, mask: MaskPrompt) -> None:
        """Remember nothing but the key planes and an earlier plane."""
        assert self._window is not None
        self._number, self._mask = number, mask
        self._remember(self._window)

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
    depth = depth_of(mask.mask)
    deepest = np.argwhere(depth >= 0.95 * depth.max())
    center = np.argwhere(mask.mask).mean(0)
    y, x = deepest[((deepest - center) ** 2).sum(1).argmin()]
    return float(y + mask.bbox[0]), float(x + mask.bbox[1])


def _over_frame(mask: MaskPrompt, engine: Engine, window: Window) -> np.ndarray:
    """Sample a mask on the (side, side) pixels of the model's frame of a window."""
    spec = engine.model.spec
    side = spec.input_side
    frame = Frame(window, side, side, spec.enlarges, spec.stretches)
    return sample_mask(mask.bbox, mask.mask, *frame.low_res_in_plane()) > 0.5


def overlap(a: Mask, b: Mask) -> float:
    """IoU of two masks, each cropped to its own box; 0 if one is empty."""
    if not a.mask.size or not b.mask.size:
        return 0.0
    return crop_iou(a.bbox, a.mask, b.bbox, b.mask)
