"""A window in a model's square frame, and low-resolution logits back in the window."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from napari_sam.core.masks import MaskCandidate, crop_mask, stability_score

if TYPE_CHECKING:
    from torch import Tensor

    from napari_sam.core.preprocess import ResizeTransform

IMAGE_MEAN = (123.675, 116.28, 103.53)
"""Mean of red, green and blue that SAM subtracts (ImageNet's, in 0..255)."""
IMAGE_STD = (58.395, 57.12, 57.375)
"""Standard deviation of red, green and blue that SAM divides by."""

_STABILITY_OFFSET = 1.0


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize (h, w, 3) uint8 as SAM does: Pillow's bilinear filter, which averages.

    Parameters
    ----------
    image : ndarray, (h, w, 3), uint8
    size : tuple of int
        (height, width) wanted.
    """
    if image.shape[:2] == size:
        return image
    from PIL import Image

    resized = Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(resized)


def to_frame(image: np.ndarray, resize: ResizeTransform) -> Tensor:
    """RGB window -> normalised frame, zero to the right and below.

    Parameters
    ----------
    image : ndarray, (h, w, 3), uint8
    resize : ResizeTransform
        Of the window's size.

    Returns
    -------
    Tensor, (3, side, side), float32, on the CPU
    """
    h, w = resize.input_size
    pixels = torch.from_numpy(resize_image(image, (h, w)).astype(np.float32))
    pixels = (pixels - torch.tensor(IMAGE_MEAN)) / torch.tensor(IMAGE_STD)
    frame = torch.zeros(3, resize.side, resize.side)
    frame[:, :h, :w] = pixels.permute(2, 0, 1)
    return frame


def to_candidate(
    logits: Tensor, predicted_iou: float, resize: ResizeTransform
) -> MaskCandidate:
    """One mask, from logits over the frame to pixels of the window.

    SAM enlarges the logits to the frame, cuts the padding off and resizes to the
    window, both times linearly along each axis. Here both steps of an axis are one
    matrix, and only the part is computed where a pixel may exceed the lower of the
    stability score's two cuts: elsewhere every logit that it is mixed from lies below.

    Parameters
    ----------
    logits : Tensor, (m, m), float32, on the CPU
    predicted_iou : float
    resize : ResizeTransform
        Of the window's size.
    """
    low_res = logits.numpy().copy()
    m = len(low_res)
    if resize.stretch:  # in one step: nothing is cut off, so SAM 2 skips the frame
        rows, cols = (_axis(n, m, m, m) for n in resize.original_size)
    else:
        rows, cols = (
            _axis(n, k, resize.side, m)
            for n, k in zip(resize.original_size, resize.input_size, strict=True)
        )
    near = low_res[: rows.reach, : cols.reach] > -_STABILITY_OFFSET
    active_y, active_x = np.flatnonzero(near.any(1)), np.flatnonzero(near.any(0))
    if not active_y.size:
        nothing = np.zeros((0, 0), bool)
        return MaskCandidate((0, 0, 0, 0), nothing, predicted_iou, 0.0, low_res)
    y0, take_y, to_y = rows.part(int(active_y[0]), int(active_y[-1]) + 1)
    x0, take_x, to_x = cols.part(int(active_x[0]), int(active_x[-1]) + 1)
    window = (to_y @ (logits[take_y, take_x] @ to_x.T)).numpy()
    (top, left, bottom, right), mask = crop_mask(window > 0)
    bbox = (top + y0, left + x0, bottom + y0, right + x0) if mask.size else (0, 0, 0, 0)
    stability = stability_score(window, _STABILITY_OFFSET)
    return MaskCandidate(bbox, mask, predicted_iou, stability, low_res)


class _Axis:
    """How pixels of one axis of a window are mixed from logits of the frame."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix  # (pixels, m), banded
        used = matrix.numpy() != 0
        self.first = used.argmax(1)
        self.last = used.shape[1] - used[:, ::-1].argmax(1)
        self.reach = int(self.last[-1])

    def part(self, start: int, stop: int) -> tuple[int, slice, Tensor]:
        """Pixels that logits start..stop reach: the first, what to take, the matrix.

        The matrix is (pixels, logits taken).
        """
        p0 = int(np.searchsorted(self.last, start, side="right"))
        p1 = int(np.searchsorted(self.first, stop, side="left"))
        if p0 >= p1:  # between two pixels of a small window: keep the nearest one
            p0, p1 = min(p0, len(self.first) - 1), min(p0, len(self.first) - 1) + 1
        take = slice(int(self.first[p0]), int(self.last[p1 - 1]))
        return p0, take, self.matrix[p0:p1, take]


@lru_cache(maxsize=32)
def _axis(size: int, input_size: int, side: int, m: int) -> _Axis:
    """Matrix of the two resizings of one axis: m -> side, cut to input_size -> size."""
    identity = torch.eye(m)[None, None]
    frame = F.interpolate(identity, (side, m), mode="bilinear", align_corners=False)
    frame = frame[:, :, :input_size]
    if size != input_size:
        frame = F.interpolate(frame, (size, m), mode="bilinear", align_corners=False)
    return _Axis(frame[0, 0])
