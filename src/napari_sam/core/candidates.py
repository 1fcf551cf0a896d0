"""Mask candidates on their plane: kept as the model gave them, drawn when asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.masks import described
from napari_sam.core.sampling import draw, drawn_bbox
from napari_sam.core.tiles import Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sam.core.masks import Bbox, MaskCandidate


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """What a model made of prompts in one window."""

    window: Window
    raw: Sequence[MaskCandidate]
    """Best first, in the window's pixels."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the window."""
        return self.window.h, self.window.w


@dataclass(frozen=True, eq=False, repr=False)
class PlaneCandidate:
    """One mask a model proposes, in level-0 pixels of its plane.

    It is kept in the pixels it was seen in; `bbox` and `mask` are made when they are
    first asked for, and `read` draws any part without the rest.

    Parameters
    ----------
    seen : MaskCandidate
        In the pixels of `window`.
    window : Window
    plane_shape : tuple of int
        (height, width) of the plane, to which the mask is cut.
    """

    seen: MaskCandidate
    window: Window
    plane_shape: tuple[int, int]

    def __repr__(self) -> str:
        return described(self.area, self.bbox, self.predicted_iou, self.stability_score)

    @property
    def predicted_iou(self) -> float:
        """The model's own estimate of its overlap with the truth, about 0..1."""
        return self.seen.predicted_iou

    @property
    def stability_score(self) -> float:
        """IoU between the mask cut at logit +1 and at logit -1, 0..1."""
        return self.seen.stability_score

    @property
    def low_res_logits(self) -> np.ndarray:
        """(m, m) float32 over the model's padded frame: what `mask_input` takes."""
        return self.seen.low_res_logits

    @property
    def is_empty(self) -> bool:
        """Whether the model found nothing."""
        return not self.seen.mask.size

    @cached_property
    def bbox(self) -> Bbox:
        """(y0, x0, y1, x1) of the mask, half-open; (0, 0, 0, 0) if it is empty."""
        return drawn_bbox(self.seen.bbox, self.seen.mask, self.window, self._plane)

    @cached_property
    def mask(self) -> np.ndarray:
        """(y1 - y0, x1 - x0), bool: the mask within `bbox`."""
        return self.read(self.bbox)

    @property
    def area(self) -> int:
        """Pixels in the mask, estimated from the pixels it was seen in."""
        sy, sx = self.window.step
        return round(self.seen.area * sy * sx)

    def read(self, bbox: Bbox) -> np.ndarray:
        """Draw the mask in a box (y0, x0, y1, x1) of the plane: (y1-y0, x1-x0) bool."""
        return draw(self.seen.bbox, self.seen.mask, self.window, self._plane, bbox)

    def full(self, shape: tuple[int, int]) -> np.ndarray:
        """Return the mask on a boolean array of the plane's (height, width)."""
        out = np.zeros(shape, bool)
        y0, x0, y1, x1 = self.bbox
        out[y0:y1, x0:x1] = self.mask
        return out

    @property
    def _plane(self) -> Window:
        return Window(0, 0, 0, *self.plane_shape)

    def _repr_png_(self) -> bytes:
        from napari_sam.core.picture import mask_picture, png

        return png(mask_picture(self.mask, f"predicted IoU {self.predicted_iou:.2f}"))
