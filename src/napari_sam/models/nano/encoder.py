"""Encoder of nano: a pretrained backbone for what things are, a thin path for edges.

The backbone is EfficientNet-Lite0 (Tan & Le 2019, https://arxiv.org/abs/1905.11946; the
"lite" variants have no squeeze-and-excitation and ReLU6 throughout) up to its last
stage, with batch norms folded into the convolutions. Its first stages see colours that
`standardise` brought to one scale, so brightness and contrast do not matter.

Letters in shape comments: B windows, C channels, H, W pixels of the padded window
(multiples of 32), h, w cells of the grid at hand.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sam.models.nano.blocks import ConvNorm, GlobalContext, Residual, up
from napari_sam.models.nano.generation import FIRST, Generation

FEATURES = {"s2": (12, 2), "s4": (52, 4), "s16": (64, 16)}
"""Name of each feature map: channels, stride."""
STAGES = (
    (16, 1, 1, 3, 1),
    (24, 2, 2, 3, 6),
    (40, 2, 2, 5, 6),
    (80, 3, 2, 3, 6),
    (112, 3, 1, 5, 6),
    (192, 4, 2, 5, 6),
    (320, 1, 1, 3, 6),
)
"""EfficientNet-Lite0: channels, blocks, first stride, kernel, expansion per stage."""
_COLOUR_GAIN = 0.5
"""Photographs as the backbone learnt them deviate by about this much."""
_DEVIATIONS = (13.0, 8.0, 4.0, 1.8)
"""About how much the backbone's maps deviate."""


class Features(NamedTuple):
    """What the encoder hands to the decoder."""

    s2: Tensor  # (B, 12, H/2, W/2), crisp edges
    s4: Tensor  # (B, 52, H/4, W/4), what every place is; last 4: its mean colours
    s16: Tensor  # (B, 64, H/16, W/16), what surrounds it


# ------------------------------------------------------------------------- backbone


class SameConv(nn.Conv2d):
    """Convolution that pads as TensorFlow's "SAME" does: more behind than before."""

    def __init__(
        self, c_in: int, c_out: int, k: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(
            c_in, c_out, k, stride, 0 if stride == 2 else k // 2, groups=groups
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w), even h and w where the stride is 2."""
        if self.stride[0] == 2:
            pad = self.kernel_size[0] - 2
            before, behind = pad // 2, pad - pad // 2
            x = F.pad(x, (before, behind, before, behind))
        return super().forward(x)


class MBConv(nn.Module):
    """Inverted residual block (Sandler et al. 2018) without batch norms."""

    def __init__(self, c_in: int, c_out: int, k: int, stride: int, grow: int) -> None:
        super().__init__()
        c = c_in * grow
        self.expand = SameConv(c_in, c, 1) if grow > 1 else None
        self.depthwise = SameConv(c, c, k, stride, groups=c)
        self.project = SameConv(c, c_out, 1)
        self.skips = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C', h / stride, w / stride)."""
        y: Tensor = x
        if self.expand is not None:
            y = F.relu6(self.expand(y), inplace=True)
        y = F.relu6(self.depthwise(y), inplace=True)
        y = self.project(y)
        return x + y if self.skips else y


class Backbone(nn.Module):
    """EfficientNet-Lite0 without its head, (B, 3, H, W) -> maps of stages 2, 3, 5, 7.

    The stem and the first two stages are never trained: what they see is common to all
    images, and they cost most of a backward pass.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv(3, 32, 3, 2)
        self.stages = nn.ModuleList()
        c_in = 32
        for c, n, stride, k, grow in STAGES:
            blocks = []
            for i in range(n):
                blocks.append(MBConv(c_in, c, k, stride if i == 0 else 1, grow))
                c_in = c
            self.stages.append(nn.Sequential(*blocks))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def fixed(self) -> tuple[nn.Module, ...]:
        """Parts that training leaves as they are."""
        return self.stem, self.stages[0], self.stages[1]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Give 24, 40, 112 and 320 channels at strides 4, 8, 16 and 32."""
        x = x.contiguous(memory_format=torch.channels_last)
        x = F.relu6(self.stem(x))
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps[1], maps[2], maps[4], maps[6]


# -------------------------------------------------------------------------- encoder


def standardise(image: Tensor, valid: Tensor) -> Tensor:
    """Bring any brightness and contrast to one scale, per window.

    Two views side by side: colours against the whole window (mean 0, deviation 1, large
    values compressed), and grey against its neighbourhood of 36 pixels, so that neither
    halved contrast nor an uneven background matters much.

    Parameters
    ----------
    image : (B, 3, H, W) float, any range.
    valid : (B, 1, H, W) float, 1 inside the window and 0 in the padding.

    Returns
    -------
    (B, 4, H, W), 0 in the padding.
    """
    n = valid.sum((1, 2, 3), keepdim=True)  # (B, 1, 1, 1)
    grey = image.mean(1, keepdim=True)
    mean = (grey * valid).sum((2, 3), keepdim=True) / n
    var = ((grey - mean).square() * valid).sum((2, 3), keepdim=True) / n
    std = var.sqrt() + 1e-3
    x = (image - mean) / std * valid  # (B, 3, H, W)
    g = (grey - mean) / std * valid  # (B, 1, H, W)
    cells = F.avg_pool2d(torch.cat([g, g.square(), valid], 1), 4)  # (B, 3, H/4, W/4)
    local = F.avg_pool2d(cells, 9, 1, padding=4)
    weight = local[:, 2:] + 1e-6
    m, s = local[:, :1] / weight, local[:, 1:2] / weight
    s = (s - m.square()).clamp_min(0).sqrt() + 0.15
    m, s = up(m, g), up(s, g)
    x = x / (1 + x.abs() / 3)
    g = (g - m) / s
    g = g / (1 + g.abs() / 3)
    return torch.cat([x, g], 1) * valid


class Encoder(nn.Module):
    """Backbone and a path of its own at strides 2 and 4, merged upwards."""

    def __init__(self, generation: Generation = FIRST) -> None:
        super().__init__()
        self.in_bfloat16 = False
        """Convolve in bfloat16; for training on a CPU with matrix instructions."""
        self.backbone = Backbone()
        self.stem = nn.Sequential(nn.PixelUnshuffle(2), ConvNorm(16, 24))
        self.stage4 = nn.Sequential(ConvNorm(24, 48, 2, 2), Residual(48))
        self.lateral32 = nn.Conv2d(320, 96, 1)
        self.context = GlobalContext(96)
        self.lateral16 = nn.Conv2d(112, 96, 1)
        self.merge16 = ConvNorm(96, 96)
        self.top16 = nn.Conv2d(96, 64, 1)
        self.down16 = nn.Conv2d(96, 64, 1)
        self.lateral8 = nn.Conv2d(40, 64, 1)
        self.merge8 = ConvNorm(64, 64)
        self.down8 = nn.Conv2d(64, 48, 1)
        self.lateral4 = nn.Conv2d(24, 48, 1)
        self.merge4 = nn.Sequential(ConvNorm(48, 48), nn.Conv2d(48, 48, 1))
        deep = generation.deep
        self.deep16 = Residual(96, silent=True) if deep else nn.Identity()
        self.deep8 = Residual(64, silent=True) if deep else nn.Identity()
        self.thin = nn.Conv2d(24, 12, 1)
        laterals = self.lateral4, self.lateral8, self.lateral16, self.lateral32
        for lateral, deviation in zip(laterals, _DEVIATIONS, strict=True):
            nn.init.normal_(lateral.weight, std=lateral.in_channels**-0.5 / deviation)

    def forward(self, image: Tensor, valid: Tensor) -> Features:
        """Image (B, 3, H, W) of any range and its valid pixels (B, 1, H, W)."""
        looks = standardise(image, valid)  # (B, 4, H, W)
        with torch.autocast(
            image.device.type, torch.bfloat16, enabled=self.in_bfloat16
        ):
            s2, p4, s16 = self._neck(looks)
        s4 = torch.cat([p4.float(), F.avg_pool2d(looks, 4)], 1)  # (B, 52, H/4, W/4)
        return Features(s2.float(), s4, s16.float())

    def _neck(self, looks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Maps of 12, 48 and 64 channels at strides 2, 4 and 16."""
        x2 = self.stem(looks)  # (B, 24, H/2, W/2)
        x4 = self.stage4(x2)  # (B, 48, H/4, W/4)
        maps = self.backbone(looks[:, :3] * _COLOUR_GAIN)
        b4, b8, b16, b32 = (m.contiguous() for m in maps)
        p32 = self.context(self.lateral32(b32))  # (B, 96, H/32, W/32)
        p16 = self.deep16(self.merge16(self.lateral16(b16) + up(p32, b16)))
        p8 = self.deep8(self.merge8(self.lateral8(b8) + up(self.down16(p16), b8)))
        p4 = self.merge4(x4 + self.lateral4(b4) + up(self.down8(p8), b4))
        return self.thin(x2), p4, self.top16(p16)
