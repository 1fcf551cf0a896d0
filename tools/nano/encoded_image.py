"""One encoded image that is asked for many objects at once, without the engine.

Quicker than `Engine` where one window holds the image and answers are only counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from napari_sam.core.masks import mask_iou
from napari_sam.core.prompts import WindowPrompts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sam.core.masks import MaskCandidate
    from napari_sam.models.protocol import PromptableModel


class ImageAsker:
    """One encoded image; prompts and masks in its own pixels.

    An image larger than the frame of a model that does not scale is reduced to fit.
    """

    def __init__(
        self, model: PromptableModel, image: np.ndarray, variant: str = "plain"
    ) -> None:
        image = _rgb(image, variant)
        self.model, self.shape = model, image.shape[:2]
        side, longest = model.spec.input_side, max(self.shape)
        self.scale = 1.0
        if longest > side and not model.spec.enlarges:
            self.scale = side / longest
            h, w = (max(1, round(n * self.scale)) for n in self.shape)
            image = np.asarray(
                Image.fromarray(image).resize((w, h), Image.Resampling.BOX)
            )
        self.window = image.shape[:2]
        self.embedding = model.encode(np.ascontiguousarray(image)[None])[0]

    def ask(self, prompts: Sequence[WindowPrompts]) -> list[list[MaskCandidate]]:
        """Candidates of each prompt set, best first, in the window's pixels."""
        return self.model.decode_many(
            self.embedding, [self._scaled(p) for p in prompts]
        )

    def full(self, candidate: MaskCandidate) -> np.ndarray:
        """Candidate as a mask of the image's own pixels."""
        mask = candidate.full(self.window)
        if self.window == self.shape:
            return mask
        h, w = self.shape
        rows = np.minimum((np.arange(h) + 0.5) * self.window[0] / h, self.window[0] - 1)
        cols = np.minimum((np.arange(w) + 0.5) * self.window[1] / w, self.window[1] - 1)
        return mask[np.ix_(rows.astype(int), cols.astype(int))]

    def ious(self, answer: Sequence[MaskCandidate], truth: np.ndarray) -> list[float]:
        """IoU of each candidate."""
        return [mask_iou(self.full(c), truth) for c in answer]

    def _scaled(self, p: WindowPrompts) -> WindowPrompts:
        if self.scale == 1.0:
            return p
        by = np.array(self.window) / np.array(self.shape)
        box = None
        if p.box is not None:
            y0, x0, y1, x1 = np.array(p.box) * np.tile(by, 2)
            box = float(y0), float(x0), float(y1), float(x1)
        return WindowPrompts(
            points=(np.asarray(p.points, float) + 0.5) * by - 0.5,
            point_labels=p.point_labels,
            box=box,
            mask_input=p.mask_input,
            multimask_output=p.multimask_output,
        )


def _rgb(image: np.ndarray, variant: str) -> np.ndarray:
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    if variant == "inverted":
        return 255 - image
    if variant == "half_contrast":
        return (image // 2 + 64).astype(np.uint8)
    return image
