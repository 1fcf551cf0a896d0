"""Models that read a few words by rule, and an image with two kinds of objects."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from scipy import ndimage

from napari_sam.core.embedding import Embedding
from napari_sam.core.masks import MaskCandidate, crop_mask
from napari_sam.testing import ToyModel

DISKS = [(20, 20), (20, 70), (60, 110)]
SQUARES = [(60, 25), (60, 65), (20, 115)]
RADIUS = 9


def two_kinds(n_planes: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Bright disks (1, 2, 3) and darker squares (4, 5, 6) on black, and labels."""
    y, x = np.mgrid[:80, :140]
    labels = np.zeros((80, 140), np.uint8)
    for i, (cy, cx) in enumerate(DISKS):
        labels[(y - cy) ** 2 + (x - cx) ** 2 <= RADIUS**2] = i + 1
    for i, (cy, cx) in enumerate(SQUARES):
        labels[(abs(y - cy) <= RADIUS - 1) & (abs(x - cx) <= RADIUS - 1)] = i + 4
    image = np.array([0, 220, 220, 220, 120, 120, 120], np.uint8)[labels]
    if n_planes:
        return np.stack([image] * n_planes), np.stack([labels] * n_planes)
    return image, labels


class WordScorer:
    """Knows "round" and "square" by how much of its box an object fills, "bright"."""

    name = "rules"
    crop_side = 48
    usual_score = 0.5
    fill = (0, 0, 255)

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def score(self, text: str, crops: np.ndarray) -> np.ndarray:
        self.asked.append((text, len(crops)))
        return np.array([self._one(text, c) for c in crops])

    def _one(self, text: str, crop: np.ndarray) -> float:
        inside = crop[..., 0] > 40
        ys, xs = np.nonzero(inside)
        if not ys.size:
            return 0.0
        filled = inside.sum() / (np.ptp(ys) + 1) / (np.ptp(xs) + 1)
        round_ = float(np.clip(1 - abs(filled - np.pi / 4) / 0.2, 0, 1))
        return {
            "round": round_,
            "square": float(filled > 0.95),
            "bright": float(crop[inside].max() > 180),
        }.get(text, 0.0)


class InstancesModel(ToyModel):
    """Finds everything that is not black, in one pass."""

    def instances(
        self, embedding: Embedding, min_score: float = 0.4
    ) -> list[MaskCandidate]:
        h, w = embedding.original_size
        colors = embedding.features["colors"][:, :h, :w].astype(np.float32).mean(0)
        numbers, n = ndimage.label(colors > 30)
        low = np.zeros((self.spec.mask_side,) * 2, np.float32)
        found = []
        for k in range(1, n + 1):
            bbox, mask = crop_mask(numbers == k)
            score = float(0.5 + 0.4 * colors[numbers == k].mean() / 255)
            if score >= min_score:
                found.append(MaskCandidate(bbox, mask, score, 1.0, low))
        return sorted(found, key=lambda c: -c.predicted_iou)


class ReadingModel(InstancesModel):
    """Reads "bright" and "dark" itself, as SAM 3 reads words."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        prompts = self.spec.prompts | {"text"}
        self._spec = replace(self._spec, prompts=prompts, name="reading toy")

    def instances_of(
        self,
        embedding: Embedding,
        text: str = "",
        *,
        boxes: Any = (),
        box_labels: Any = None,
        min_score: float = 0.5,
    ) -> list[MaskCandidate]:
        bright = [c for c in self.instances(embedding) if c.predicted_iou > 0.75]
        dark = [c for c in self.instances(embedding) if c.predicted_iou <= 0.75]
        found = {"bright": bright, "dark": dark}.get(text, [])
        return [c for c in found if c.predicted_iou >= min_score]
