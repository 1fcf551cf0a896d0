"""Blocks that encoder and decoder of nano are made of.

Letters in shape comments: B windows or prompt sets, C channels, h, w cells.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvNorm(nn.Sequential):
    """Convolution, group normalisation, ReLU."""

    def __init__(
        self, c_in: int, c_out: int, k: int = 3, stride: int = 1, *, group: int = 0
    ) -> None:
        super().__init__(
            nn.Conv2d(
                c_in, c_out, k, stride, padding=k // 2 if stride == 1 else 0, bias=False
            ),
            norm(c_out, group),
            nn.ReLU(inplace=True),
        )


def norm(c: int, group: int = 0) -> nn.GroupNorm:
    """Normalise in groups of `group` channels, in eight groups where it is 0."""
    return nn.GroupNorm(c // group if group else 8, c)


class Residual(nn.Module):
    """Two 3x3 convolutions beside the identity.

    Parameters
    ----------
    c : int
    group : int
        Channels of a normalisation group; 0 for eight groups.
    silent : bool
        Begin as the identity, so that a trained network may be made deeper.
    """

    def __init__(self, c: int, *, group: int = 0, silent: bool = False) -> None:
        super().__init__()
        self.a = ConvNorm(c, c, group=group)
        self.b = nn.Conv2d(c, c, 3, padding=1, bias=False)
        self.norm = norm(c, group)
        nn.init.constant_(self.norm.weight, 0.0 if silent else 0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        return F.relu(x + self.norm(self.b(self.a(x))))


class GlobalContext(nn.Module):
    """Tell every place what the whole map holds."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(2 * c, c), nn.ReLU(), nn.Linear(c, c))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        pooled = torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)  # (B, 2C)
        added: Tensor = self.mlp(pooled)
        return x + added[:, :, None, None]


class LargeKernel(nn.Module):
    """Mix each channel over 11 x 11 cells, then channels; begins as the identity."""

    def __init__(self, c: int, *, group: int) -> None:
        super().__init__()
        self.wide = nn.Conv2d(c, c, 11, padding=5, groups=c, bias=False)
        self.norm = norm(c, group)
        self.grow = nn.Conv2d(c, 2 * c, 1)
        self.back = nn.Conv2d(2 * c, c, 1)
        nn.init.zeros_(self.back.weight)
        nn.init.zeros_(self.back.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        return F.relu(x + self.back(F.relu(self.grow(self.norm(self.wide(x))))))


class Attention(nn.Module):
    """Every cell looks at every other one (4 heads); begins as the identity."""

    def __init__(self, c: int, *, group: int) -> None:
        super().__init__()
        self.norm = norm(c, group)
        self.qkv = nn.Conv2d(c, 3 * c, 1)
        self.out = nn.Conv2d(c, c, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        b, c, h, w = x.shape
        qkv = self.qkv(self.norm(x)).view(b, 3, 4, c // 4, h * w).transpose(3, 4)
        seen = F.scaled_dot_product_attention(qkv[:, 0], qkv[:, 1], qkv[:, 2])
        added: Tensor = self.out(seen.transpose(2, 3).reshape(b, c, h, w))
        return x + added


def up(x: Tensor, like: Tensor) -> Tensor:
    """Enlarge x (B, C, h, w) to the grid of `like`."""
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)
