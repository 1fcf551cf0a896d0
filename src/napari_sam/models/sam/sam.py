"""SAM (Kirillov et al. 2023): ViT-B, ViT-L and ViT-H image encoders in plain torch.

Parameter names are those of the official checkpoints. The computation gives the same
numbers with less work and memory:

- Blocks with windows see real tokens only. SAM pads the 64 x 64 tokens to 70 x 70 with
  zeros behind the norm; a zero token's query, key and value are the bias of their
  projection. These keys take part in the softmax (SAM does not mask them), so they are
  filled in with the bias, and no projection, query or MLP runs on them.
- The relative position bias of global blocks is made for a few rows of queries at a
  time, straight into the buffer that the matrix product then adds to.
- On a CPU, windows, projections and MLP run on a band of rows that fits a cache.

Shapes: B images, H x W tokens (64 x 64), C channels, h heads of width d, w window side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_sam.errors import CheckpointError
from napari_sam.models.sam.build import EncoderPlan, build_sam_like
from napari_sam.models.sam.decoder import gelu_, in_bands
from napari_sam.models.sam.two_way import MlpBlock

if TYPE_CHECKING:
    from napari_sam.models.checkpoints import Checkpoint
    from napari_sam.models.protocol import ModelSpec
    from napari_sam.models.torch_model import TorchModel

_ROWS_AT_ONCE = 4
"""Rows of queries that attend together in a global block on a CPU (4 MB of scores)."""
_TOKENS_AT_ONCE = 1024
"""Tokens that go through an MLP together on a CPU."""


@dataclass(frozen=True, slots=True)
class ViTConfig:
    """Sizes of an image encoder; the defaults are ViT-B's."""

    side: int = 1024
    patch: int = 16
    dim: int = 768
    heads: int = 12
    window: int = 14
    windowed: tuple[bool, ...] = (True, True, False) * 4
    """For each block, whether it attends within windows or globally."""
    mlp_dim: int = 3072
    out_dim: int = 256

    @property
    def grid(self) -> int:
        """Tokens on each axis."""
        return self.side // self.patch

    @classmethod
    def infer(cls, checkpoint: Checkpoint) -> ViTConfig:
        """Read the sizes off a checkpoint's tensors."""
        shape, name = checkpoint.shape, "image_encoder"
        dim, _, patch, _ = shape(f"{name}.patch_embed.proj.weight")
        grid = shape(f"{name}.pos_embed")[1]
        depth = checkpoint.count(f"{name}.blocks")
        tables = [shape(f"{name}.blocks.{i}.attn.rel_pos_h") for i in range(depth)]
        windowed = tuple(n != 2 * grid - 1 for n, _ in tables)
        sides = {
            (n + 1) // 2
            for (n, _), inside in zip(tables, windowed, strict=True)
            if inside
        }
        if not depth or len(sides) > 1:
            raise CheckpointError(
                f"{checkpoint.path.name}: expected blocks that are global or share one "
                f"window side; got {depth} blocks with window sides {sorted(sides)}"
            )
        return cls(
            side=grid * patch,
            patch=patch,
            dim=dim,
            heads=dim // tables[0][1],
            window=sides.pop() if sides else grid,
            windowed=windowed,
            mlp_dim=shape(f"{name}.blocks.0.mlp.lin1.weight")[0],
            out_dim=shape(f"{name}.neck.0.weight")[0],
        )


class Attention(nn.Module):
    """Multi-head attention with relative positions, within windows or globally."""

    def __init__(self, config: ViTConfig, side: int) -> None:
        super().__init__()
        dim, d = config.dim, config.dim // config.heads
        self.heads, self.side, self.scale = config.heads, side, d**-0.5
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, d))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, d))

    def windows(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C), each window for itself."""
        b, height, width, c = x.shape
        w = self.side
        nh, nw = -(-height // w), -(-width // w)
        qkv = self.qkv(x)
        beyond = self.qkv.bias.to(qkv.dtype)
        padded = beyond.expand(b, nh * w, nw * w, -1).contiguous()
        padded[:, :height, :width] = qkv
        parts = padded.view(b, nh, w, nw, w, 3, self.heads, -1)
        parts = parts.permute(5, 0, 1, 3, 6, 2, 4, 7)  # (3, B, nh, nw, h, w, w, d)
        q, k, v = parts.reshape(3, -1, w * w, c // self.heads)
        out = self._attend(q, k, v, *self._positions(q.view(len(q), w, w, -1)))
        out = out.view(b, nh, nw, self.heads, w, w, -1).permute(0, 1, 4, 2, 5, 3, 6)
        out = out.reshape(b, nh * w, nw * w, c)[:, :height, :width]
        result: Tensor = self.proj(out)
        return result

    def everywhere(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C), every token with every other."""
        b, height, width, c = x.shape
        n, d = height * width, c // self.heads
        qkv = self.qkv(x).view(b, n, 3, self.heads, d)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).reshape(3, -1, n, d)  # (B h, N, d)
        del qkv
        rel_h, rel_w = self._positions(q.view(-1, height, width, d))
        attend = self._attend_by_rows if in_bands(x) else self._attend_fused
        out = attend(q, k, v, rel_h, rel_w)
        out = out.view(b, self.heads, n, d).transpose(1, 2).reshape(b, height, width, c)
        result: Tensor = self.proj(out)
        return result

    def _positions(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of relative rows and columns for queries (M, H, W, d).

        Returns (M, H, W, H) and (M, H, W, W): query by key row, query by key column.
        """
        at = torch.arange(self.side, device=q.device)
        offset = at[:, None] - at[None, :] + self.side - 1
        rel_h = q @ self.rel_pos_h[offset].mT  # (M, H, W, d) @ (H, d, H)
        rel_w = torch.einsum("mhwd,wkd->mhwk", q, self.rel_pos_w[offset])
        return rel_h, rel_w

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor
    ) -> Tensor:
        """(M, N, d) with (M, H, W, H), (M, H, W, W) -> (M, N, d)."""
        scores = (rel_h[..., :, None] + rel_w[..., None, :]).view(
            len(q), q.shape[1], -1
        )
        scores.baddbmm_(q, k.mT, alpha=self.scale)
        return torch.softmax(scores, -1, out=scores) @ v

    def _attend_by_rows(
        self, q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor
    ) -> Tensor:
        """`_attend` (its shapes, too), a head and a few rows of queries at a time."""
        m, height, width, _ = rel_h.shape
        out = torch.empty_like(q)
        buffer = q.new_empty(_ROWS_AT_ONCE * width, height * width)
        for i in range(m):
            keys = k[i].T.contiguous()
            for row in range(0, height, _ROWS_AT_ONCE):
                rows = slice(row, min(row + _ROWS_AT_ONCE, height))
                tokens = slice(rows.start * width, rows.stop * width)
                scores = buffer[: tokens.stop - tokens.start]
                torch.add(
                    rel_h[i, rows, :, :, None],
                    rel_w[i, rows, :, None, :],
                    out=scores.view(-1, width, height, width),
                )
                scores.addmm_(q[i, tokens], keys, alpha=self.scale)
                torch.softmax(scores, -1, out=scores)
                torch.mm(scores, v[i], out=out[i, tokens])
        return out

    def _attend_fused(
        self, q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor
    ) -> Tensor:
        """`_attend` (its shapes, too) by torch's fused kernels, in four parts."""
        m, height, width, _ = rel_h.shape
        rows = -(-height // 4)
        out = []
        for row in range(0, height, rows):
            some = slice(row, row + rows)
            bias = rel_h[:, some, :, :, None] + rel_w[:, some, :, None, :]
            bias = bias.view(m, -1, height * width)
            tokens = slice(row * width, row * width + bias.shape[1])
            part = F.scaled_dot_product_attention(
                q[None, :, tokens], k[None], v[None], bias[None], scale=self.scale
            )
            out.append(part[0])
        return torch.cat(out, dim=1)


class Mlp(MlpBlock):
    """The encoder's MLP, with GELU."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        out: Tensor = self.lin2(gelu_(self.lin1(x)))
        return out


class Block(nn.Module):
    """A transformer block; works in place on the tokens it is given."""

    def __init__(self, config: ViTConfig, *, windowed: bool) -> None:
        super().__init__()
        self.windowed = windowed
        self.norm1 = nn.LayerNorm(config.dim, eps=1e-6)
        self.attn = Attention(config, config.window if windowed else config.grid)
        self.norm2 = nn.LayerNorm(config.dim, eps=1e-6)
        self.mlp = Mlp(config.dim, config.mlp_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same tensor, changed."""
        banded = in_bands(x)
        if self.windowed:
            for band in torch.split(x, self.attn.side if banded else x.shape[1], dim=1):
                band += self.attn.windows(self.norm1(band))
        else:
            x += self.attn.everywhere(self.norm1(x))
        tokens = x.view(-1, x.shape[-1])
        for part in torch.split(tokens, _TOKENS_AT_ONCE if banded else len(tokens)):
            part += self.mlp(self.norm2(part))
        return x


class ImageEncoder(nn.Module):
    """A plain vision transformer with a convolutional neck."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        dim, patch = config.dim, config.patch
        self.patch_embed = nn.ModuleDict(
            {"proj": nn.Conv2d(3, dim, patch, stride=patch)}
        )
        self.pos_embed = nn.Parameter(torch.zeros(1, config.grid, config.grid, dim))
        self.blocks = nn.ModuleList(Block(config, windowed=w) for w in config.windowed)
        self.neck = neck_layers(dim, config.out_dim)

    def forward(self, frames: Tensor) -> Tensor:
        """(B, 3, side, side) -> (B, C', H, W)."""
        x = self._patches(frames)
        for block in self.blocks:
            x = block(x)
        return neck(self.neck, x)

    def with_early_tokens(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Encode, and copy the tokens (B, H, W, C) behind the first global block."""
        x = self._patches(frames)
        early: Tensor | None = None
        for block in self.blocks:
            x = block(x)
            if early is None and not block.windowed:
                early = x.clone()  # blocks work in place
        assert early is not None
        return neck(self.neck, x), early

    def _patches(self, frames: Tensor) -> Tensor:
        """(B, 3, side, side) -> (B, H, W, C) with the place of each token added."""
        patches: Tensor = self.patch_embed["proj"](frames)
        return patches.permute(0, 2, 3, 1).contiguous() + self.pos_embed


def neck_layers(dim: int, out: int) -> nn.ModuleList:
    """Layers that `neck` runs, from `dim` channels to `out`."""
    return nn.ModuleList(
        [
            nn.Conv2d(dim, out, 1, bias=False),
            nn.LayerNorm(out, eps=1e-6),
            nn.Conv2d(out, out, 3, padding=1, bias=False),
            nn.LayerNorm(out, eps=1e-6),
        ]
    )


def neck(layers: nn.ModuleList, x: Tensor) -> Tensor:
    """End an encoder: (B, H, W, C) -> (B, C', H, W)."""
    reduce, norm1, mix, norm2 = layers
    x = norm1(F.linear(x, reduce.weight.flatten(1)))  # type: ignore[operator, arg-type]
    x = mix(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    out: Tensor = norm2(x).permute(0, 3, 1, 2).contiguous()
    return out


def encoder_of(checkpoint: Checkpoint) -> EncoderPlan:
    """Read a checkpoint's image encoder off its tensors."""
    config = ViTConfig.infer(checkpoint)
    return EncoderPlan(lambda: ImageEncoder(config), config.side, config.grid)


def from_checkpoint(
    checkpoint: Checkpoint, spec: ModelSpec, device: str = "cpu"
) -> TorchModel:
    """Build the SAM that a checkpoint holds, as `build_sam_like` says."""
    return build_sam_like(checkpoint, spec, device, encoder_of(checkpoint))
