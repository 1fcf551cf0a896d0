"""How well instances agree with the truth, as the papers of instances count it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.errors import ExportError
from napari_sam.results.overlaps import matched, overlaps

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

THRESHOLDS = tuple(round(0.5 + 0.05 * n, 2) for n in range(10))
"""Least IoU of a match: 0.5, 0.55, ..., 0.95."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Matches at one IoU: of one image, or summed up over several."""

    threshold: float
    """Least IoU of a match."""
    tp: int = 0
    """Objects of the truth that were found."""
    fp: int = 0
    """Objects found that are none."""
    fn: int = 0
    """Objects that were missed."""
    iou: float = 0.0
    """Sum of the IoU of the matches."""

    @property
    def ap(self) -> float:
        """TP / (TP + FP + FN), the average precision of StarDist and Cellpose.

        Not COCO's, which ranks by score. Nothing found where nothing is counts as 1.
        """
        n = self.tp + self.fp + self.fn
        return self.tp / n if n else 1.0

    @property
    def precision(self) -> float:
        """Share of what was found that is right."""
        n = self.tp + self.fp
        return self.tp / n if n else float(not self.fn)

    @property
    def recall(self) -> float:
        """Share of the truth that was found."""
        n = self.tp + self.fn
        return self.tp / n if n else float(not self.fp)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        n = 2 * self.tp + self.fp + self.fn
        return 2 * self.tp / n if n else 1.0

    @property
    def sq(self) -> float:
        """Segmentation quality: mean IoU of the matches."""
        return self.iou / self.tp if self.tp else float(not (self.fp or self.fn))

    @property
    def pq(self) -> float:
        """Panoptic quality, f1 x sq (Kirillov et al. 2019, at an IoU of 0.5)."""
        return self.f1 * self.sq

    def __add__(self, other: Counts) -> Counts:
        """Sum up over images."""
        return Counts(
            self.threshold, self.tp + other.tp, self.fp + other.fp,
            self.fn + other.fn, self.iou + other.iou,
        )  # fmt: skip


FIGURES = ("ap", "f1", "precision", "recall", "sq", "pq")


@dataclass(frozen=True, slots=True)
class InstanceScores:
    """How well instances agree with the truth, at several IoU.

    Examples
    --------
    >>> truth, found = np.array([[1, 1, 1, 0, 2, 2]]), np.array([[5, 5, 5, 5, 0, 0]])
    >>> scores = score_instances(truth, found)
    >>> scores.at(0.5).tp, scores.at(0.75).tp, scores.at(0.8).tp, scores.at(0.5).ap
    (1, 1, 0, 0.5)
    """

    counts: tuple[Counts, ...]
    """One for each threshold, summed up over images."""
    images: Mapping[str, tuple[Counts, ...]] = field(default_factory=dict)
    """Those of each image, where there are several."""

    def at(self, threshold: float) -> Counts:
        """Return the counts at an IoU.

        Raises
        ------
        ExportError
            If it was not among those asked for.
        """
        for one in self.counts:
            if abs(one.threshold - threshold) < 1e-9:
                return one
        asked = ", ".join(str(c.threshold) for c in self.counts)
        raise ExportError(f"there are scores at an IoU of {asked}; got {threshold}")

    @property
    def mean_ap(self) -> float:
        """Mean of `Counts.ap` over the thresholds."""
        return float(np.mean([c.ap for c in self.counts]))

    def table(self) -> str:
        """Markdown: a row a threshold."""
        rows = [
            "| IoU | found | missed | wrong | AP | F1 | precision | recall | PQ |",
            "|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
        ]
        for c in self.counts:
            figures = (c.ap, c.f1, c.precision, c.recall, c.pq)
            cells = " | ".join(f"{v:.3f}" for v in figures)
            rows.append(f"| {c.threshold:.2f} | {c.tp} | {c.fn} | {c.fp} | {cells} |")
        rows.append(f"| **mean** | | | | {self.mean_ap:.3f} | | | | |")
        return "\n".join(rows)

    def to_dict(self) -> dict[str, Any]:
        """All figures as plain values."""
        return {
            "mean_ap": self.mean_ap,
            "thresholds": [_as_dict(c) for c in self.counts],
            "images": {n: [_as_dict(c) for c in v] for n, v in self.images.items()},
        }

    def to_json(self) -> str:
        """All figures, of every image, as JSON."""
        return json.dumps(self.to_dict(), indent=1)


def score_instances(
    truth: Any, found: Any, *, thresholds: Sequence[float] = THRESHOLDS
) -> InstanceScores:
    """Score instances against the truth.

    Objects are matched one to one at each IoU: as many as can be, and of those the best
    ones, as StarDist (Schmidt et al., MICCAI 2018) and Cellpose (Stringer et al.,
    Nature Methods 2021) do.

    Parameters
    ----------
    truth, found : array-like
        Whole numbers of one shape, 0 for background; of any size, read block by block.
    thresholds : sequence of float
        Least IoU of a match, 0..1.

    Returns
    -------
    InstanceScores

    Raises
    ------
    VolumeError
        If the shapes differ.
    """
    common = overlaps(truth, found)
    places = [{i: n for n, i in enumerate(held)} for held in (common.a, common.b)]
    pairs = np.array(
        [(places[0][i], places[1][j]) for i, j in common.pairs.tolist()], np.int64
    ).reshape(-1, 2)
    ious, n_truth, n_found = common.ious, len(common.a), len(common.b)
    counts = []
    for threshold in thresholds:
        which = matched(n_truth, n_found, pairs, ious, threshold)
        tp = len(which)
        iou = float(ious[which].sum())
        counts.append(Counts(threshold, tp, n_found - tp, n_truth - tp, iou))
    return InstanceScores(tuple(counts))


def summed_up(images: Mapping[str, InstanceScores]) -> InstanceScores:
    """Sum the counts of images up: every object counts the same, whatever its image."""
    parts = {name: scores.counts for name, scores in images.items()}
    total = []
    for column in zip(*parts.values(), strict=True):
        whole = column[0]
        for one in column[1:]:
            whole += one
        total.append(whole)
    return InstanceScores(tuple(total), parts)


def _as_dict(counts: Counts) -> dict[str, float]:
    out = {n: getattr(counts, n) for n in ("threshold", "tp", "fp", "fn", "iou")}
    return out | {n: getattr(counts, n) for n in FIGURES}
