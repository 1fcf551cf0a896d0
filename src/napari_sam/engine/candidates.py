"""Candidate masks of one plane, kept compactly: arrays of scores, and masks as bits."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.masks import crop_mask
from napari_sam.core.prompts import Prompts
from napari_sam.core.sampling import draw
from napari_sam.core.tiles import Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sam.core.masks import Bbox
    from napari_sam.core.planes import Plane


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
    """(N, 2) float, (y, x) level-0 pixels of the point asked; nan where a box was."""
    boxes: np.ndarray
    """(N, 4) float, level-0 pixels of the box asked; nan where a point was."""
    choice: np.ndarray
    """(N,) int: position among the candidates of its prompt, best first."""
    scores: np.ndarray
    """(N, K) float: predicted IoU of each candidate of its prompt; nan for none."""
    likeness: np.ndarray
    """(N,) float, 0..1: how well it agrees with examples; 1 without any."""
    free: np.ndarray
    """(N,) float, 0..1: share of its pixels that were not annotated."""
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
            plane, plane_shape, (), np.zeros(0, np.int32), (), np.zeros((0, 4)), none,
            none, none, np.zeros((0, 4), bool), np.zeros(0, bool), np.zeros((0, 2)),
            np.zeros((0, 4)), np.zeros(0, np.int32), np.zeros((0, 1)), none, none,
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

    def window(self, i: int) -> Window:
        """Return where candidate `i` was seen."""
        return self.windows[int(self.window_of[i])]

    def prompts(self, i: int) -> Prompts:
        """Return what the model was asked for candidate `i`."""
        if np.isnan(self.points[i, 0]):
            if np.isnan(self.boxes[i, 0]):
                return Prompts()
            return Prompts.of(box=self.boxes[i])
        return Prompts.of(points=[self.points[i]], level=max(self.window(i).level, 0))

    def drawn(self, i: int) -> tuple[Bbox, np.ndarray]:
        """Draw a candidate in level-0 pixels: its box, and its mask in there."""
        y0, x0, y1, x1 = self.bboxes[i]
        h, w = self.plane_shape
        step = max(1, int(np.ceil(max(self.window(i).step))))
        part = (
            max(int(y0) - step, 0), max(int(x0) - step, 0),
            min(int(np.ceil(y1)) + step, h), min(int(np.ceil(x1)) + step, w),
        )  # fmt: skip
        (a0, b0, a1, b1), mask = crop_mask(self.read(i, part))
        at = part[0], part[1]
        return (a0 + at[0], b0 + at[1], a1 + at[0], b1 + at[1]), mask

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
