"""RoIAlign (He et al. 2017, Mask R-CNN) without torchvision, as SAM 3 calls it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def roi_align(features: Tensor, boxes: Sequence[Tensor], size: int) -> Tensor:
    """Average features in the cells of a grid over each box.

    As ``torchvision.ops.roi_align(features, boxes, size)`` with its defaults: a cell is
    sampled about once a pixel, bilinearly, and boxes are not moved by half a pixel.

    Parameters
    ----------
    features : Tensor, (B, C, h, w)
    boxes : sequence of B Tensors, (n, 4)
        x0, y0, x1, y1 in pixels of the features.
    size : int
        Cells on a side.

    Returns
    -------
    Tensor, (sum of n, C, size, size)
    """
    h, w = features.shape[-2:]
    out = []
    for one, some in zip(features, boxes, strict=True):
        for box in some.tolist():
            rows = _mixing(box[1], box[3], h, size).to(one)
            cols = _mixing(box[0], box[2], w, size).to(one)
            out.append(rows @ one @ cols.T)
    if not out:
        return features.new_zeros(0, features.shape[1], size, size)
    return torch.stack(out)


def _mixing(start: float, stop: float, n: int, size: int) -> Tensor:
    """How cells from start to stop are mixed from n pixels of an axis: (size, n).

    The samples of a cell form a grid, so both axes can be mixed one after the other.
    """
    length = max(stop - start, 1.0)
    samples = math.ceil(length / size)
    at = torch.arange(size * samples, dtype=torch.float64)
    at = start + (at + 0.5) * (length / (size * samples))
    seen = (at >= -1) & (at <= n)
    at = at.clamp(0, n - 1)
    low = at.floor().long().clamp(max=n - 1)
    high = (low + 1).clamp(max=n - 1)
    share = at - low
    mix = torch.zeros(len(at), n, dtype=torch.float64)
    rows = torch.arange(len(at))
    mix.index_put_((rows, low), (1 - share) * seen, accumulate=True)
    mix.index_put_((rows, high), share * seen, accumulate=True)
    return mix.reshape(size, samples, n).mean(1)


class _Operators:
    """Stands for ``torchvision.ops``."""

    roi_align = staticmethod(roi_align)


class StandIn:
    """Stands for torchvision where it is missing."""

    ops = _Operators


def supply(module: Any) -> None:
    """Give transformers' SAM 3 the one function it takes from torchvision.

    It imports torchvision only where that is installed, and calls it for boxes all the
    same.
    """
    if not hasattr(module, "torchvision"):
        module.torchvision = StandIn
