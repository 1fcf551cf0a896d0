"""Candidates that two windows show in common, and how well they agree there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.engine.nms import box_iou
from napari_sam.engine.propose_options import LEAST_AGREEMENT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_sam.core.masks import Bbox
    from napari_sam.core.tiles import Window
    from napari_sam.engine.candidates import Candidates

_BOX_IOU = 0.1
"""IoU of boxes, in what both windows show, below which masks are not compared."""
_MOST_PIXELS = 1 << 17
"""Pixels compared of two masks: beyond, the coarser one's pixels do."""


@dataclass(frozen=True, slots=True, eq=False)
class Seams:
    """Pairs of candidates of different windows, E of them, that may be one object.

    Masks are compared when it is first asked how well they agree, and then no more.
    """

    pairs: np.ndarray
    """(E, 2) int"""
    _agreement: np.ndarray
    """(E,) float; nan where it was not asked for."""
    _by_part: np.ndarray
    """(E,) bool"""

    def agreement(
        self, c: Candidates, wanted: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compare pairs.

        Parameters
        ----------
        c : Candidates
            Those that the pairs are of.
        wanted : ndarray, (K,), int
            Which pairs.

        Returns
        -------
        agreement : ndarray, (K,), float
            IoU in what both windows show.
        by_part : ndarray, (K,), bool
            Whether it is that of a connected part, such as one leg of a U.
        """
        for e in wanted[np.isnan(self._agreement[wanted])].tolist():
            i, j = self.pairs[e].tolist()
            self._agreement[e], self._by_part[e] = agreement_of(c, i, j)
        return self._agreement[wanted], self._by_part[wanted]


def find_seams(c: Candidates) -> Seams:
    """Find all pairs whose boxes agree somewhat where two windows meet."""
    found = [np.zeros((0, 2), np.intp)]
    if not c.is_crops:
        found += [_pairs_in_common(c, a, b) for a, b in _windows_that_meet(c)]
    pairs = np.concatenate(found)
    n = len(pairs)
    return Seams(pairs, np.full(n, np.nan), np.zeros(n, bool))


def agreement_of(c: Candidates, i: int, j: int) -> tuple[float, bool]:
    """IoU of two candidates in what both windows show; whether only of a part."""
    cut = bool(c.cut[i].any()), bool(c.cut[j].any())
    common = _around(c.bboxes[i], c.bboxes[j])
    if any(cut):  # two that are known whole are compared as a whole
        common = _within(common, _shown(c, i, j))
    fine, coarse = sorted((c.window(i), c.window(j)), key=lambda w: w.level)
    frame, part = _in_frame(fine, common)
    if (part[2] - part[0]) * (part[3] - part[1]) > _MOST_PIXELS:
        frame, part = _in_frame(coarse, common)
    a, b = c.read(i, part, frame), c.read(j, part, frame)
    iou = _iou(a, b)
    if iou >= 0.5:
        return iou, False
    # What a window cuts may be one leg of a U that the other shows more of.
    part_of_a = _best_part(a, b) if cut[1] else 0.0
    part_of_b = _best_part(b, a) if cut[0] else 0.0
    parts = max(part_of_a, part_of_b)
    return (parts, True) if parts > iou else (iou, False)


def _around(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.concatenate([np.minimum(a[:2], b[:2]), np.maximum(a[2:], b[2:])])


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    union = int(np.count_nonzero(a | b))
    return int(np.count_nonzero(a & b)) / union if union else 0.0


def _best_part(a: np.ndarray, b: np.ndarray) -> float:
    """Best IoU of a connected part of `a` with the whole of `b`."""
    from scipy.ndimage import label

    parts, n = label(a, np.ones((3, 3), bool))
    if n < 2 or not b.any():
        return 0.0
    sizes = np.bincount(parts.ravel(), minlength=n + 1)[1:]
    shared = np.bincount(parts[b], minlength=n + 1)[1:]
    return float((shared / (sizes + np.count_nonzero(b) - shared)).max())


def _shown(c: Candidates, i: int, j: int) -> np.ndarray:
    """(4,) level-0 box that the windows of two candidates both show."""
    return _common(c, c.window_of[i], c.window_of[j])


def _common(c: Candidates, a: int, b: int) -> np.ndarray:
    return _within(c.shown[a], c.shown[b])


def _within(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(..., 4) boxes cut to others."""
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    return np.concatenate([low, high], axis=-1)


def _in_frame(window: Window, box: np.ndarray) -> tuple[Window, Bbox]:
    """A window's frame, and a level-0 box in its pixels; it may reach beyond."""
    y0, x0, y1, x1 = window.box_to_window(tuple(box.tolist()))
    return window, (
        int(np.floor(y0 + 1e-6)), int(np.floor(x0 + 1e-6)),
        int(np.ceil(y1 - 1e-6)), int(np.ceil(x1 - 1e-6)),
    )  # fmt: skip


def _windows_that_meet(c: Candidates) -> Iterator[tuple[int, int]]:
    boxes = c.shown
    used = np.unique(c.window_of)
    for n, a in enumerate(used):
        rest = used[n + 1 :]
        low = np.maximum(boxes[a, :2], boxes[rest, :2])
        high = np.minimum(boxes[a, 2:], boxes[rest, 2:])
        for b in rest[(low < high).all(1)]:
            yield int(a), int(b)


def _pairs_in_common(c: Candidates, a: int, b: int) -> np.ndarray:
    """(P, 2) candidates of two windows whose boxes agree somewhat in both."""
    here, there = c.in_window(a), c.in_window(b)
    shown = _common(c, a, b)
    cut = [_within(c.bboxes[some], shown) for some in (here, there)]
    kept = [(box[:, :2] < box[:, 2:]).all(1) for box in cut]
    here, there = here[kept[0]], there[kept[1]]
    meet = box_iou(cut[0][kept[0]][:, None], cut[1][kept[1]][None]) >= _BOX_IOU
    # A mask that no window cuts is known whole: two that differ in size are not one.
    whole = ~c.cut[here].any(1)[:, None] & ~c.cut[there].any(1)[None]
    areas = c.areas[here][:, None], c.areas[there][None]
    meet &= ~whole | (np.minimum(*areas) >= LEAST_AGREEMENT * np.maximum(*areas))
    rows, cols = np.nonzero(meet)
    return np.stack([here[rows], there[cols]], axis=1)
