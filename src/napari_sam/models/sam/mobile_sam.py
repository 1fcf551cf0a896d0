"""MobileSAM (Zhang et al. 2023): SAM's decoder on a TinyViT encoder (Wu et al. 2022).

Parameter names are those of the official checkpoints. Batch norms are folded into their
convolutions and attention biases are spread over pairs of tokens in every forward pass
(both cost microseconds), so nothing derived from parameters can be stale: the authors'
code keeps such a copy, and loads checkpoints after making it.

Tokens stay in (B, H, W, C) memory throughout: what a convolution calls channels-last.

Shapes: B images, H x W tokens, C channels, h heads of width d, w window side.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_sam.models.checkpoints import Checkpoint
from napari_sam.models.sam.build import EncoderPlan, build_sam_like
from napari_sam.models.sam.decoder import SamNetwork, gelu_, in_bands
from napari_sam.models.sam.sam import neck, neck_layers

if TYPE_CHECKING:
    from napari_sam.models.protocol import ModelSpec
    from napari_sam.models.sam.decoder import ImageTokens, PromptBatch
    from napari_sam.models.torch_model import TorchModel

SIDE, STRIDE = 1024, 16
"""Of the frame, and from pixels to tokens."""
_UNUSED = ("image_encoder.norm_head.", "image_encoder.head.")
"""TinyViT's classifier, which the official file carries along."""
_TOKENS_AT_ONCE = 1024
"""Tokens that go through an MLP together on a CPU."""
_ROWS_AT_ONCE = 16
"""Rows that go through a bottleneck together on a CPU: its wide middle fits a cache."""


@dataclass(frozen=True, slots=True)
class TinyViTConfig:
    """Sizes of the encoder; the defaults are MobileSAM's."""

    dims: tuple[int, ...] = (64, 128, 160, 320)
    """Channels of each stage; the first is convolutional, the others attend."""
    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (0, 4, 5, 10)
    windows: tuple[int, ...] = (0, 7, 14, 7)
    expand: int = 4
    mlp_ratio: int = 4
    out_dim: int = 256

    @classmethod
    def infer(cls, checkpoint: Checkpoint) -> TinyViTConfig:
        """Read the sizes off a checkpoint's tensors."""
        shape, name = checkpoint.shape, "image_encoder"
        stages = range(1, checkpoint.count(f"{name}.layers"))
        dims = [shape(f"{name}.patch_embed.seq.2.c.weight")[0]]
        dims += [
            shape(f"{name}.layers.{i}.blocks.0.attn.norm.weight")[0] for i in stages
        ]
        biases = [
            shape(f"{name}.layers.{i}.blocks.0.attn.attention_biases") for i in stages
        ]
        hidden = shape(f"{name}.layers.0.blocks.0.conv1.c.weight")[0]
        return cls(
            dims=tuple(dims),
            depths=tuple(
                checkpoint.count(f"{name}.layers.{i}.blocks") for i in (0, *stages)
            ),
            heads=(0, *(n for n, _ in biases)),
            windows=(0, *(isqrt(n) for _, n in biases)),
            expand=hidden // dims[0],
            mlp_ratio=shape(f"{name}.layers.1.blocks.0.mlp.fc1.weight")[0] // dims[1],
            out_dim=shape(f"{name}.neck.0.weight")[0],
        )


class ConvNorm(nn.Module):
    """A convolution and its batch norm, run as one: (B, H, W, C) -> (B, H', W', C')."""

    def __init__(
        self, c_in: int, c_out: int, k: int = 1, *, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.c = nn.Conv2d(c_in, c_out, k, stride, k // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor, *, rows_padded: bool = False) -> Tensor:
        """(B, H, W, C) -> (B, H', W', C').

        `rows_padded` says that x brings its rows of padding along.
        """
        weight, bias = self.folded()
        if weight.shape[-1] == 1:
            return F.linear(x, weight.flatten(1), bias)
        c, half = self.c, weight.shape[-1] // 2
        padding = (0 if rows_padded else half, half)
        weight = weight.contiguous(memory_format=torch.channels_last)
        x = x.permute(0, 3, 1, 2)
        x = F.conv2d(x, weight, bias, c.stride, padding, 1, c.groups)
        return x.permute(0, 2, 3, 1)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight (C', C / groups, k, k) and bias (C',) of what does both."""
        bn = self.bn
        assert bn.running_mean is not None and bn.running_var is not None
        scale = bn.weight * (bn.running_var + bn.eps).rsqrt()
        return self.c.weight * scale[
            :, None, None, None
        ], bn.bias - bn.running_mean * scale


class PatchEmbed(nn.Module):
    """Two strided convolutions: a quarter of the resolution."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.seq = nn.ModuleDict(
            {
                "0": ConvNorm(3, dim // 2, 3, stride=2),
                "2": ConvNorm(dim // 2, dim, 3, stride=2),
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, S, 3) -> (B, S / 4, S / 4, C)."""
        out: Tensor = self.seq["2"](gelu_(self.seq["0"](x)))
        return out


class MBConv(nn.Module):
    """Inverted bottleneck: widen, mix each channel in space, narrow."""

    def __init__(self, dim: int, expand: int) -> None:
        super().__init__()
        hidden = dim * expand
        self.conv1 = ConvNorm(dim, hidden)
        self.conv2 = ConvNorm(hidden, hidden, 3, groups=hidden)
        self.conv3 = ConvNorm(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        out = []
        height = x.shape[1]
        step = _ROWS_AT_ONCE if in_bands(x) else height
        for row in range(0, height, step):
            stop = min(row + step, height)
            y = gelu_(self.conv1(x[:, max(row - 1, 0) : stop + 1]))
            y = F.pad(y, (0, 0, 0, 0, int(row == 0), int(stop == height)))
            y = self.conv3(gelu_(self.conv2(y, rows_padded=True)))
            out.append(gelu_(y.add_(x[:, row:stop])))
        return torch.cat(out, dim=1)


class PatchMerging(nn.Module):
    """From one stage to the next; halves the resolution where `stride` is 2."""

    def __init__(self, dim: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(dim, out)
        self.conv2 = ConvNorm(out, out, 3, stride=stride, groups=out)
        self.conv3 = ConvNorm(out, out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H', W', C')."""
        y = gelu_(self.conv1(x))
        out: Tensor = self.conv3(gelu_(self.conv2(y)))
        return out


class Attention(nn.Module):
    """Attention within windows, with a bias for each pair of distances."""

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.norm = nn.LayerNorm(dim, eps=1e-5)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window * window))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C).

        Windows that reach over the edge are filled with zero tokens before the norm,
        whose output for them is its bias; their keys take part, unmasked.
        """
        b, height, width, c = x.shape
        w, heads = self.window, self.heads
        nh, nw = -(-height // w), -(-width // w)
        padded = self.qkv(self.norm(x))  # (B, H, W, 3C)
        if (nh * w, nw * w) != (height, width):
            real, beyond = padded, self.qkv(self.norm.bias)
            padded = beyond.expand(b, nh * w, nw * w, -1).contiguous()
            padded[:, :height, :width] = real
        parts = padded.view(b, nh, w, nw, w, heads, 3, c // heads)
        parts = parts.permute(6, 0, 1, 3, 5, 2, 4, 7)  # (3, B, nh, nw, h, w, w, d)
        q, k, v = parts.reshape(3, -1, heads, w * w, c // heads)
        out = F.scaled_dot_product_attention(q, k, v, self._bias()[None])
        out = out.view(b, nh, nw, heads, w, w, -1).permute(0, 1, 4, 2, 5, 3, 6)
        out = out.reshape(b, nh * w, nw * w, c)[:, :height, :width]
        result: Tensor = self.proj(out)
        return result

    def _bias(self) -> Tensor:
        """Bias of each pair of tokens, by rows and columns apart, (h, w * w, w * w)."""
        at = torch.arange(self.window, device=self.attention_biases.device)
        y, x = at.repeat_interleave(self.window), at.repeat(self.window)
        apart_y, apart_x = (y[:, None] - y).abs(), (x[:, None] - x).abs()
        return self.attention_biases[:, apart_y * self.window + apart_x]


class Mlp(nn.Module):
    """Norm and two layers with GELU."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=1e-5)
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        out: Tensor = self.fc2(gelu_(self.fc1(self.norm(x))))
        return out


class Block(nn.Module):
    """Window attention, a 3 x 3 convolution of each channel, MLP."""

    def __init__(self, dim: int, heads: int, window: int, mlp_ratio: int) -> None:
        super().__init__()
        self.attn = Attention(dim, heads, window)
        self.mlp = Mlp(dim, dim * mlp_ratio)
        self.local_conv = ConvNorm(dim, dim, 3, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        x = self.local_conv(self.attn(x).add_(x)).contiguous()
        tokens = x.view(-1, x.shape[-1])
        at_once = _TOKENS_AT_ONCE if in_bands(x) else len(tokens)
        for part in torch.split(tokens, at_once):
            part += self.mlp(part)
        return x


class Stage(nn.Module):
    """Blocks of one resolution, and the way to the next."""

    def __init__(self, config: TinyViTConfig, i: int) -> None:
        super().__init__()
        dim, last = config.dims[i], i + 1 == len(config.dims)
        self.blocks = nn.ModuleList(
            Block(dim, config.heads[i], config.windows[i], config.mlp_ratio)
            if i
            else MBConv(dim, config.expand)
            for _ in range(config.depths[i])
        )
        # The last two stages share one resolution, for an output of stride 16.
        stride = 1 if i + 2 == len(config.dims) else 2
        self.downsample = (
            None if last else PatchMerging(dim, config.dims[i + 1], stride)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H', W', C')."""
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class TinyViT(nn.Module):
    """A convolutional stage, three stages of window attention, and SAM's neck."""

    def __init__(self, config: TinyViTConfig) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(config.dims[0])
        self.layers = nn.ModuleList(Stage(config, i) for i in range(len(config.dims)))
        self.neck = neck_layers(config.dims[-1], config.out_dim)

    def forward(self, frames: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, C', S / 16, S / 16)."""
        return self.with_early_tokens(frames)[0]

    def with_early_tokens(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Encode, and show the tokens (B, H, W, C) that enter the third stage."""
        x = early = self.patch_embed(frames.permute(0, 2, 3, 1).contiguous())
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i == 1:
                early = x.clone()  # blocks may work in place
        return neck(self.neck, x), early


class TinySamNetwork(SamNetwork):
    """TinySAM (Shu et al. 2025): MobileSAM's graph, read off masks 1..3 alone.

    It was distilled without the token for a single mask, whatever the prompt.
    """

    def decode(
        self, image: ImageTokens, prompts: PromptBatch, *, multimask_output: bool
    ) -> tuple[Tensor, Tensor]:
        """Logits (P, 3, m, m) and predicted IoU (P, 3)."""
        return super().decode(image, prompts, multimask_output=True)


def encoder_of(checkpoint: Checkpoint) -> EncoderPlan:
    """Read a checkpoint's image encoder off its tensors."""
    config = TinyViTConfig.infer(checkpoint)
    return EncoderPlan(lambda: TinyViT(config), SIDE, SIDE // STRIDE)


def from_checkpoint(
    checkpoint: Checkpoint,
    spec: ModelSpec,
    device: str = "cpu",
    *,
    network_type: type[SamNetwork] = SamNetwork,
) -> TorchModel:
    """Build the MobileSAM, or `TinySamNetwork`, that a checkpoint holds.

    Else as `build_sam_like` says; tensors of the two have the same names.
    """
    checkpoint = without_classifier(checkpoint)
    encoder = encoder_of(checkpoint)
    return build_sam_like(checkpoint, spec, device, encoder, network_type)


def holds_tiny_vit(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint's image encoder is a TinyViT."""
    return "image_encoder.patch_embed.seq.0.c.weight" in checkpoint.state


def without_classifier(checkpoint: Checkpoint) -> Checkpoint:
    """Leave out what TinyViT's pretraining left in the official files."""
    state = {k: v for k, v in checkpoint.state.items() if not k.startswith(_UNUSED)}
    return Checkpoint(checkpoint.path, state, checkpoint.sha256)
