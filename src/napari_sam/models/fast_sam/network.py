"""The network of FastSAM: YOLOv8's segmentation variant, from pixels to instances.

Zhao et al., Fast Segment Anything, 2023, arXiv:2306.12156. A convolutional pyramid
gives features at strides 8, 16 and 32; at each of their positions (anchors) the head
says how far the box of an instance reaches to its four sides, how sure it is, and how
to mix the prototype masks into the instance's mask (Bolya et al., YOLACT, 2019).
Parameters carry the names of the published checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from napari_sam.models.checkpoints import Checkpoint

STRIDES = (8, 16, 32)
HEAD = 22
"""Number of the layer that predicts; those before it are backbone and pyramid."""
_DOWN = (0, 1, 3, 5, 7)
_BLOCKS = (2, 4, 6, 8, 12, 15, 18, 21)
_EPS = 1e-3


@dataclass(frozen=True, slots=True)
class FastSamConfig:
    """Sizes of one FastSAM, which its checkpoint's tensors tell."""

    widths: tuple[int, ...]
    """Channels after each of the five convolutions of stride 2."""
    depths: tuple[int, ...]
    """Bottlenecks in each of the eight blocks."""
    hidden: tuple[int, int, int]
    """Channels inside the heads of boxes, classes and mask coefficients."""
    classes: int
    bins: int
    """Steps in which the distance to a side of the box is told, one a stride."""
    coefficients: int
    """Prototype masks."""
    prototype_width: int

    @classmethod
    def infer(cls, checkpoint: Checkpoint) -> FastSamConfig:
        """Read the sizes off a checkpoint's tensors.

        Raises
        ------
        CheckpointError
            If a tensor is missing.
        """
        shape, head = checkpoint.shape, f"model.{HEAD}"
        return cls(
            tuple(shape(f"model.{i}.conv.weight")[0] for i in _DOWN),
            tuple(checkpoint.count(f"model.{i}.m") for i in _BLOCKS),
            (
                shape(f"{head}.cv2.0.0.conv.weight")[0],
                shape(f"{head}.cv3.0.0.conv.weight")[0],
                shape(f"{head}.cv4.0.0.conv.weight")[0],
            ),
            shape(f"{head}.cv3.0.2.weight")[0],
            shape(f"{head}.cv2.0.2.weight")[0] // 4,
            shape(f"{head}.cv4.0.2.weight")[0],
            shape(f"{head}.proto.cv1.conv.weight")[0],
        )


class ConvUnit(nn.Module):
    """Convolution, batch norm, SiLU."""

    def __init__(self, c_in: int, c_out: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(c_out, eps=_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / stride, W / stride)."""
        return F.silu(self.bn(self.conv(x)), inplace=True)

    def fold(self) -> None:
        """Put the norm into the convolution, which then costs nothing."""
        if isinstance(self.bn, nn.BatchNorm2d):
            self.conv = nn.utils.fusion.fuse_conv_bn_eval(self.conv, self.bn)
            self.bn = nn.Identity()


class Bottleneck(nn.Module):
    """Two 3 x 3 convolutions, added to what came in where `add` is set."""

    def __init__(self, width: int, add: bool) -> None:
        super().__init__()
        self.cv1 = ConvUnit(width, width, 3)
        self.cv2 = ConvUnit(width, width, 3)
        self.add = add

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        out: Tensor = self.cv2(self.cv1(x))
        return out + x if self.add else out


class Block(nn.Module):
    """Half of the channels pass a chain of bottlenecks, and all stages are mixed."""

    def __init__(self, c_in: int, c_out: int, depth: int, add: bool) -> None:
        super().__init__()
        half = c_out // 2
        self.cv1 = ConvUnit(c_in, 2 * half)
        self.cv2 = ConvUnit((2 + depth) * half, c_out)
        self.m = nn.ModuleList(Bottleneck(half, add) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H, W)."""
        parts = list(self.cv1(x).chunk(2, 1))
        for bottleneck in self.m:
            parts.append(bottleneck(parts[-1]))
        out: Tensor = self.cv2(torch.cat(parts, 1))
        return out


class PoolPyramid(nn.Module):
    """Maxima over 5, 9 and 13 pixels beside the features themselves."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cv1 = ConvUnit(width, width // 2)
        self.cv2 = ConvUnit(width // 2 * 4, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        parts = [self.cv1(x)]
        for _ in range(3):
            parts.append(F.max_pool2d(parts[-1], 5, stride=1, padding=2))
        out: Tensor = self.cv2(torch.cat(parts, 1))
        return out


class Prototypes(nn.Module):
    """Masks at stride 4, from which every instance's mask is mixed."""

    def __init__(self, c_in: int, width: int, count: int) -> None:
        super().__init__()
        self.cv1 = ConvUnit(c_in, width, 3)
        self.upsample = nn.ConvTranspose2d(width, width, 2, 2)
        self.cv2 = ConvUnit(width, width, 3)
        self.cv3 = ConvUnit(width, count)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, S / 8, S / 8) -> (B, count, S / 4, S / 4)."""
        out: Tensor = self.cv3(self.cv2(self.upsample(self.cv1(x))))
        return out


class DistanceBins(nn.Module):
    """Expected distance of a distribution over bins; its weight is 0, 1, 2, ..."""

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(bins, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 4 * bins, N) -> (B, 4, N), in strides."""
        b, c, n = x.shape
        likely = x.view(b, 4, c // 4, n).softmax(2)
        return torch.einsum("bsdn,d->bsn", likely, self.conv.weight.flatten())


class Head(nn.Module):
    """Boxes, confidences and mask coefficients at every anchor, and the prototypes."""

    def __init__(self, config: FastSamConfig, widths: tuple[int, ...]) -> None:
        super().__init__()
        box, cls, mask = config.hidden
        self.cv2 = _branches(widths, box, 4 * config.bins)
        self.cv3 = _branches(widths, cls, config.classes)
        self.dfl = DistanceBins(config.bins)
        self.proto = Prototypes(widths[0], config.prototype_width, config.coefficients)
        self.cv4 = _branches(widths, mask, config.coefficients)

    def forward(self, levels: list[Tensor]) -> dict[str, Tensor]:
        """Features at the three strides -> all that is told of the anchors.

        Returns
        -------
        dict of Tensor
            ``boxes`` (B, 4, N) as x0, y0, x1, y1 in pixels of the frame, ``scores``
            (B, classes, N) in 0..1, ``coefficients`` (B, K, N) and ``prototypes``
            (B, K, S / 4, S / 4); N anchors, row by row, level after level.
        """
        sides = self.dfl(_flat(self.cv2, levels))
        at, stride = anchors(levels)
        low, high = at - sides[:, :2], at + sides[:, 2:]
        return {
            "boxes": torch.cat([low, high], 1) * stride,
            "scores": _flat(self.cv3, levels).sigmoid(),
            "coefficients": _flat(self.cv4, levels),
            "prototypes": self.proto(levels[0]),
        }


class FastSamNetwork(nn.Module):
    """Backbone, feature pyramid down and up again, head."""

    def __init__(self, config: FastSamConfig) -> None:
        super().__init__()
        w0, w1, w2, w3, w4 = config.widths
        n = iter(config.depths)
        free = nn.Identity  # layers without parameters: enlarging and joining
        self.model = nn.ModuleList([
            ConvUnit(3, w0, 3, 2), ConvUnit(w0, w1, 3, 2), Block(w1, w1, next(n), True),
            ConvUnit(w1, w2, 3, 2), Block(w2, w2, next(n), True),
            ConvUnit(w2, w3, 3, 2), Block(w3, w3, next(n), True),
            ConvUnit(w3, w4, 3, 2), Block(w4, w4, next(n), True), PoolPyramid(w4),
            free(), free(), Block(w4 + w3, w3, next(n), False),
            free(), free(), Block(w3 + w2, w2, next(n), False),
            ConvUnit(w2, w2, 3, 2), free(), Block(w2 + w3, w3, next(n), False),
            ConvUnit(w3, w3, 3, 2), free(), Block(w3 + w4, w4, next(n), False),
            Head(config, (w2, w3, w4)),
        ])  # fmt: skip
        self.config = config

    def forward(self, frames: Tensor) -> dict[str, Tensor]:
        """Frames (B, 3, h, w) in 0..1, sides multiples of 32 -> as `Head` returns."""
        m = self.model
        x = frames
        kept = []
        for i in range(10):
            x = m[i](x)
            if i in (4, 6):
                kept.append(x)
        fine, middle, coarse = *kept, x
        middle_down = m[12](torch.cat([_double(coarse), middle], 1))
        small = m[15](torch.cat([_double(middle_down), fine], 1))
        medium = m[18](torch.cat([m[16](small), middle_down], 1))
        large = m[21](torch.cat([m[19](medium), coarse], 1))
        out: dict[str, Tensor] = m[HEAD]([small, medium, large])
        return out

    def fold(self) -> FastSamNetwork:
        """Put every norm into its convolution; the network is for inference then."""
        for module in list(self.modules()):
            if isinstance(module, ConvUnit):
                module.fold()
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self


def anchors(levels: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Centres (2, N) as x, y in strides, and strides (N,), of all positions."""
    centres, strides = [], []
    for level, stride in zip(levels, STRIDES, strict=True):
        h, w = level.shape[-2:]
        y, x = (torch.arange(k, device=level.device) + 0.5 for k in (h, w))
        grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
        centres.append(torch.stack([grid_x.flatten(), grid_y.flatten()]))
        strides.append(torch.full((h * w,), float(stride), device=level.device))
    return torch.cat(centres, 1), torch.cat(strides)


def _branches(widths: tuple[int, ...], hidden: int, out: int) -> nn.ModuleList:
    return nn.ModuleList(
        nn.Sequential(
            ConvUnit(w, hidden, 3),
            ConvUnit(hidden, hidden, 3),
            nn.Conv2d(hidden, out, 1),
        )
        for w in widths
    )


def _flat(branches: nn.ModuleList, levels: list[Tensor]) -> Tensor:
    """One branch a level -> (B, C, N)."""
    found = (f(x).flatten(2) for f, x in zip(branches, levels, strict=True))
    return torch.cat(list(found), 2)


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
