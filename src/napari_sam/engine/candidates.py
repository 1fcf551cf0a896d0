"""Candidate masks of one plane, kept compactly: arrays of scores, and masks as bits."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from napari_sam.core.masks import boxes_meet, crop_mask, crops_overlap, union_bbox
from napari_sam.core.prompts import Prompts
from napari_sam.core.sampling import draw
from napari_sam.core.tiles import Window
from napari_sam.engine.nms import BoxPairs, inclusive, overlapping

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_sam.core.masks import Bbox
    from napari_sam.core.planes import Plane

_Derived = TypeVar("_Derived")
_BOX_IOU = 0.5
"""IoU of boxes from which pairs are kept, as long as no lower one is asked for."""


@dataclass(frozen=True, slots=True, eq=False)
class PackedMask:
    """A boolean crop as bits."""

    bbox: Bbox
    """(y0, x0, y1, x1), half-open, in pixels of its window."""
    bits: np.ndarray
    """(ceil(h * w / 8),) uint8."""

    @classmethod
    def of(cls, bbox: Bbox, mask: np.ndarray) -> PackedMask:
        """Pack a crop."""
        return cls(bbox, np.packbits(mask))

    @property
    def mask(self) -> np.ndarray:
        """(h, w), bool."""
        y0, x0, y1, x1 = self.bbox
        h, w = y1 - y0, x1 - x0
        return np.unpackbits(self.bits, count=h * w).view(bool).reshape(h, w)


@dataclass(frozen=True, eq=False)
class Candidates:
    """All masks that a model gave for one plane, with what choosing among them needs.

    N candidates from W windows. Masks stay in the pixels of their window.
    """

    plane: Plane
    plane_shape: tuple[int, int]
    """(height, width) of the plane at level 0."""
    windows: tuple[Window, ...]
    """(W,) where the model looked."""
    cores: tuple[Window, ...]
    """(W,) the part of each that is no other's on its level."""
    is_crops: bool
    """Whether windows are crops in SAM's sense, whose masks are never joined."""
    window_of: np.ndarray
    """(N,) int: which window each was seen in."""
    masks: tuple[PackedMask, ...]
    """(N,)"""
    bboxes: np.ndarray
    """(N, 4) float, (y0, x0, y1, x1) in level-0 pixels, half-open."""
    areas: np.ndarray
    """(N,) float, level-0 pixels."""
    predicted_iou: np.ndarray
    """(N,) float"""
    stability_score: np.ndarray
    """(N,) float"""
    cut: np.ndarray
    """(N, 4) bool: whether the window cuts it off at the top, left, bottom, right."""
    near_edge: np.ndarray
    """(N,) bool: whether SAM's generator would drop it as lying at a crop's edge."""
    points: np.ndarray
    """(N, 2) float, (y, x) level-0 pixels of the point asked."""
    choice: np.ndarray
    """(N,) int: position among the candidates of its prompt, best first."""
    scores: np.ndarray
    """(N, K) float: predicted IoU of each candidate of its prompt; nan for none."""
    likeness: np.ndarray
    """(N,) float, 0..1: how well it agrees with examples; 1 without any."""
    free: np.ndarray
    """(N,) float, 0..1: share of its pixels that were not annotated."""
    own_areas: np.ndarray
    """(N,) float, level-0 pixels in the core of its window."""
    sure: float = 1.0
    """Usual predicted IoU x stability score of examples; 1 without any."""
    thresholds: tuple[float, float] = (0.88, 0.95)
    """Least predicted IoU and stability score that suit the model."""
    area_range: tuple[float, float] = (0.0, float("inf"))
    """Fewest and most pixels that suit the examples."""
    origin: str = "everything"
    """As `Proposal.origin`."""

    def __len__(self) -> int:
        return len(self.window_of)

    @classmethod
    def empty(cls, plane: Plane, plane_shape: tuple[int, int]) -> Candidates:
        """Return none at all."""
        none = np.zeros(0, np.float32)
        return cls(
            plane, plane_shape, (), (), True, np.zeros(0, np.int32), (),
            bboxes=np.zeros((0, 4)), areas=none, predicted_iou=none,
            stability_score=none, cut=np.zeros((0, 4), bool),
            near_edge=np.zeros(0, bool), points=np.zeros((0, 2)),
            choice=np.zeros(0, np.int32), scores=np.zeros((0, 1)), likeness=none,
            free=none, own_areas=none,
        )  # fmt: skip

    @classmethod
    def together(cls, parts: Sequence[Candidates]) -> Candidates:
        """Put the candidates of several windows of one plane together."""
        first = parts[0]
        widest = max(p.scores.shape[1] for p in parts)
        scores = [
            np.pad(p.scores, ((0, 0), (0, widest - p.scores.shape[1])),
                   constant_values=np.nan)
            for p in parts
        ]  # fmt: skip
        starts = np.cumsum([0, *(len(p.windows) for p in parts)])[:-1]
        per_candidate: dict[str, Any] = {
            f.name: np.concatenate([getattr(p, f.name) for p in parts])
            for f in fields(cls)
            if f.name not in ("window_of", "scores")
            and isinstance(getattr(first, f.name), np.ndarray)
        }
        return replace(
            first,
            windows=tuple(w for p in parts for w in p.windows),
            cores=tuple(w for p in parts for w in p.cores),
            window_of=np.concatenate(
                [p.window_of + n for p, n in zip(parts, starts, strict=True)]
            ),
            masks=tuple(m for p in parts for m in p.masks),
            scores=np.concatenate(scores),
            **per_candidate,
        )

    def take(self, kept: np.ndarray) -> Candidates:
        """Keep some, by index or boolean mask, in the order given."""
        kept = np.flatnonzero(kept) if kept.dtype == bool else kept
        per_candidate: dict[str, Any] = {
            f.name: getattr(self, f.name)[kept]
            for f in fields(self)
            if isinstance(getattr(self, f.name), np.ndarray)
        }
        return replace(self, masks=tuple(self.masks[i] for i in kept), **per_candidate)

    @property
    def nbytes(self) -> int:
        """Bytes of masks and arrays."""
        arrays = (getattr(self, f.name) for f in fields(self))
        held = sum(a.nbytes for a in arrays if isinstance(a, np.ndarray))
        return held + sum(m.bits.nbytes for m in self.masks)

    @cached_property
    def doubt(self) -> np.ndarray:
        """(N,) float: 1 - predicted IoU x stability score, measured by examples."""
        sure = np.clip(self.predicted_iou, 0, 1) * self.stability_score
        sure = np.minimum(sure / max(self.sure, 1e-6), 1) * self.likeness
        return np.asarray(np.clip(1 - sure, 0, 1))

    def box_pairs(self, least: float) -> BoxPairs:
        """Pairs of candidates whose boxes have an IoU of more than `least`."""
        floor = min(_BOX_IOU, least)
        kept = self._pairs.get(floor)
        if kept is None:
            kept = self._pairs[floor] = overlapping(inclusive(self.bboxes), floor)
        if least <= floor:
            return kept
        good = kept.iou > least
        return BoxPairs(kept.pairs[good], kept.iou[good])

    @cached_property
    def _pairs(self) -> dict[float, BoxPairs]:
        return {}

    def derived(self, make: Callable[[Candidates], _Derived]) -> _Derived:
        """Return what a function makes of these candidates, made once."""
        if make not in self._made:
            self._made[make] = make(self)
        found: _Derived = self._made[make]
        return found

    @cached_property
    def _made(self) -> dict[Any, Any]:
        return {}

    @cached_property
    def shown(self) -> np.ndarray:
        """(W, 4) float: level-0 box that each window shows."""
        boxes = [w.box_to_plane((0, 0, w.h, w.w)) for w in self.windows]
        return np.array(boxes, np.float64).reshape(-1, 4)

    @cached_property
    def levels(self) -> np.ndarray:
        """(W,) int: level of each window."""
        return np.array([w.level for w in self.windows], np.intp)

    def in_window(self, number: int) -> np.ndarray:
        """Indices of what was seen in a window."""
        order, starts = self._by_window
        return np.asarray(order[starts[number] : starts[number + 1]])

    @cached_property
    def _by_window(self) -> tuple[np.ndarray, np.ndarray]:
        order = np.argsort(self.window_of, kind="stable")
        starts = np.searchsorted(
            self.window_of[order], np.arange(len(self.windows) + 1)
        )
        return order, starts

    def overlap(self, i: int, j: int) -> float:
        """Pixels that two masks share, as a share of the smaller one."""
        key = (i, j) if i < j else (j, i)
        found = self._overlaps.get(key)
        if found is None:
            smaller = min(self.areas[i], self.areas[j])
            found = self._overlaps[key] = self._shared(*key) / max(smaller, 1e-9)
        return found

    def _shared(self, i: int, j: int) -> float:
        """Level-0 pixels that two masks share."""
        first, second = self.window(i), self.window(j)
        frame = first if first.level <= second.level else second
        if first == second:
            a, b = self.masks[i], self.masks[j]
            shared = 0
            if boxes_meet(a.bbox, b.bbox):
                shared = crops_overlap(a.bbox, a.mask, b.bbox, b.mask)
        else:
            low = np.maximum(self.bboxes[i, :2], self.bboxes[j, :2])
            high = np.minimum(self.bboxes[i, 2:], self.bboxes[j, 2:])
            y0, x0, y1, x1 = np.round(
                frame.box_to_window((*low.tolist(), *high.tolist()))
            ).astype(int)
            part = int(y0), int(x0), int(y1), int(x1)
            both = self.read(i, part, frame) & self.read(j, part, frame)
            shared = int(np.count_nonzero(both))
        return shared * frame.step[0] * frame.step[1]

    @cached_property
    def _overlaps(self) -> dict[tuple[int, int], float]:
        return {}

    def window(self, i: int) -> Window:
        """Return where candidate `i` was seen."""
        return self.windows[int(self.window_of[i])]

    def prompts(self, i: int) -> Prompts:
        """Return what the model was asked for candidate `i`."""
        return Prompts.of(points=[self.points[i]], level=max(self.window(i).level, 0))

    def drawn(self, i: int) -> tuple[Bbox, np.ndarray]:
        """Draw a candidate in level-0 pixels: its box, and its mask in there."""
        part = self._reach(i)
        (a0, b0, a1, b1), mask = crop_mask(self.read(i, part))
        at = part[0], part[1]
        return (a0 + at[0], b0 + at[1], a1 + at[0], b1 + at[1]), mask

    def _reach(self, i: int) -> Bbox:
        """Level-0 box that holds a candidate, also when drawn smoothly."""
        y0, x0, y1, x1 = self.bboxes[i]
        h, w = self.plane_shape
        step = max(1, int(np.ceil(max(self.window(i).step))))
        return (
            max(int(y0) - step, 0), max(int(x0) - step, 0),
            min(int(np.ceil(y1)) + step, h), min(int(np.ceil(x1)) + step, w),
        )  # fmt: skip

    def joined(self, members: np.ndarray) -> tuple[Bbox, np.ndarray]:
        """Draw several candidates as one object in level-0 pixels.

        The finest one that no tile cuts is taken as it is where there is none finer.
        Finer ones that tiles cut take its place in the part that is theirs alone.

        Parameters
        ----------
        members : ndarray, (K,), int
            The best first: whole ones before those that are cut.
        """
        levels = [self.window(i).level for i in members]
        lead = int(members[0])
        cut = self.cut[members].any(1)
        if not cut[0] and levels[0] == min(levels):
            return self.drawn(lead)
        boxes = [self._reach(int(i)) for i in members]
        bbox = boxes[0]
        for box in boxes[1:]:
            bbox = union_bbox(bbox, box)
        out = np.zeros((bbox[2] - bbox[0], bbox[3] - bbox[1]), bool)
        by_window: dict[int, list[int]] = {}
        for i in members.tolist():
            by_window.setdefault(int(self.window_of[i]), []).append(i)
        coarse_first = sorted(by_window, key=lambda w: -self.windows[w].level)
        for number in coarse_first:
            self._draw_over(out, bbox, by_window[number], self.shown[number])
        for number in coarse_first:
            core = self.cores[number]
            part = np.array(core.box_to_plane((0, 0, core.h, core.w)))
            self._draw_over(out, bbox, by_window[number], part, instead=True)
        (a0, b0, a1, b1), mask = crop_mask(out)
        y0, x0 = bbox[0], bbox[1]
        return (a0 + y0, b0 + x0, a1 + y0, b1 + x0), mask

    def _draw_over(
        self,
        out: np.ndarray,
        bbox: Bbox,
        members: list[int],
        part: np.ndarray,
        instead: bool = False,
    ) -> None:
        """Draw candidates of one window in a level-0 part of the plane."""
        y0, x0, y1, x1 = np.round(part).astype(int).tolist()
        y0, x0 = max(y0, bbox[0]), max(x0, bbox[1])
        y1, x1 = min(y1, bbox[2]), min(x1, bbox[3])
        if y1 <= y0 or x1 <= x0:
            return
        view = out[y0 - bbox[0] : y1 - bbox[0], x0 - bbox[1] : x1 - bbox[1]]
        if instead:
            view[:] = False
        for i in members:
            a0, b0, a1, b1 = self._reach(i)
            a0, b0, a1, b1 = max(a0, y0), max(b0, x0), min(a1, y1), min(b1, x1)
            if a1 > a0 and b1 > b0:
                view[a0 - y0 : a1 - y0, b0 - x0 : b1 - x0] |= self.read(
                    i, (a0, b0, a1, b1)
                )

    def read(self, i: int, bbox: Bbox, frame: Window | None = None) -> np.ndarray:
        """Draw a part of a candidate.

        Parameters
        ----------
        i : int
        bbox : Bbox
            In pixels of `frame`.
        frame : Window, optional
            The plane at level 0 when left out.

        Returns
        -------
        ndarray, (y1 - y0, x1 - x0), bool
        """
        packed = self.masks[i]
        target = frame or Window(0, 0, 0, *self.plane_shape)
        return draw(packed.bbox, packed.mask, self.window(i), target, bbox)
