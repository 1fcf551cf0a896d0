"""All instances in one pass: foreground, boundary and distance, and their peaks.

Letters in shape comments: B windows, C channels, H, W pixels of the padded window.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sam.models.nano.blocks import ConvNorm, up
from napari_sam.models.nano.encoder import FEATURES, Features

if TYPE_CHECKING:
    import numpy as np

SEED_STRIDE = 2
"""Pixels of a cell of the maps."""
LEAST_SCORE = 0.25
"""Peaks below this are none."""


class SeedHead(nn.Module):
    """Embedding -> foreground, boundary (logits) and distance (1 at the innermost)."""

    def __init__(self) -> None:
        super().__init__()
        self.near = nn.Conv2d(FEATURES["s4"][0], 48, 1)
        self.far = nn.Conv2d(FEATURES["s16"][0], 48, 1)
        self.body = nn.Sequential(ConvNorm(48, 48), ConvNorm(48, 48))
        self.out = nn.Conv2d(48, 3 * 4, 3, padding=1)

    def forward(self, f: Features) -> Tensor:
        """Give (B, 3, H/2, W/2)."""
        x = self.near(f.s4) + up(self.far(f.s16), f.s4)
        return F.pixel_shuffle(self.out(self.body(F.relu(x))), 2)


def peaks(maps: Tensor, size: tuple[int, int]) -> np.ndarray:
    """Find one place in every object.

    Parameters
    ----------
    maps : (3, H/2, W/2)
        Of `SeedHead`.
    size : tuple of int
        (height, width) of the window in pixels.

    Returns
    -------
    ndarray, (n, 3), float
        y, x in pixels of the window and a score, best first.
    """
    score = maps[0].sigmoid() * (1 - maps[1].sigmoid()) * maps[2].clamp(0, 1)
    score = F.avg_pool2d(score[None, None], 3, 1, 1, count_include_pad=False)
    highest = F.max_pool2d(score, 5, 1, 2)[0, 0]
    score = score[0, 0]
    ys, xs = torch.nonzero((score == highest) & (score >= LEAST_SCORE), as_tuple=True)
    found = torch.stack([ys * 2 + 0.5, xs * 2 + 0.5, score[ys, xs]], 1).float()
    inside = (found[:, 0] < size[0]) & (found[:, 1] < size[1])
    found = found[inside]
    order = torch.argsort(found[:, 2], descending=True, stable=True)
    return found[order].cpu().numpy()
