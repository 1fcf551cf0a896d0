"""Low-rank additions (LoRA, Hu et al. 2022) to the attention of SAM's image encoders.

Queries and values of every attention get an addition of a small rank, and nothing else
of the encoder changes. Written out, additions are part of the weights: the checkpoint
is like any other.

Encoders work in place, which gradients forbid. Here are the same steps without that,
recomputed in the backward pass, so that no block's insides are kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint

from napari_sam.models.sam import mobile_sam, sam

if TYPE_CHECKING:
    from collections.abc import Iterator

RANK = 4
_ROWS_AT_ONCE = 8
"""Rows of queries that attend together in a global block."""


class LowRank(nn.Module):
    """A weight (3C, C) of queries, keys and values, with additions to two of them.

    Parameters
    ----------
    blocks : Tensor, (3C,), int
        0, 1, 2 for rows of queries, keys and values.
    dim : int
    generator : torch.Generator
    """

    def __init__(self, blocks: Tensor, dim: int, generator: torch.Generator) -> None:
        super().__init__()
        first = torch.randn(2, RANK, dim, generator=generator) / dim**0.5
        self.down = nn.Parameter(first)
        self.up = nn.Parameter(torch.zeros(2, dim, RANK))
        self.rows: Tensor
        places = torch.stack([(blocks == part).nonzero().flatten() for part in (0, 2)])
        self.register_buffer("rows", places, persistent=False)  # (2, C)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight with the additions."""
        added = (self.up @ self.down).flatten(0, 1)  # (2C, C)
        return weight.index_add(0, self.rows.flatten(), added)


def add_lora(encoder: nn.Module, seed: int) -> None:
    """Give every attention of an image encoder additions that do nothing yet."""
    generator = torch.Generator().manual_seed(seed)
    for attention in _attentions(encoder):
        linear = attention.qkv
        assert isinstance(linear, nn.Linear)
        dim = linear.in_features
        # SAM orders rows by query, key, value; TinyViT by head first.
        order = torch.arange(3).repeat_interleave(dim)
        if isinstance(attention, mobile_sam.Attention):
            per_head = dim // attention.heads
            order = torch.arange(3).repeat_interleave(per_head).repeat(attention.heads)
        addition = LowRank(order, dim, generator).to(linear.weight.device)
        parametrize.register_parametrization(linear, "weight", addition)


def merged_state(network: nn.Module) -> dict[str, Tensor]:
    """Return all tensors under their official names, additions added."""
    state = network.state_dict()
    for name, module in network.named_modules():
        if parametrize.is_parametrized(module, "weight"):
            start = f"{name}.parametrizations."
            state = {k: v for k, v in state.items() if not k.startswith(start)}
            state[f"{name}.weight"] = module.weight  # type: ignore[assignment]
    return state


def encode(encoder: nn.Module, frames: Tensor) -> Tensor:
    """Encode frames (B, 3, side, side) -> (B, C', g, g), keeping gradients."""
    if isinstance(encoder, mobile_sam.TinyViT):
        return _encode_tiny(encoder, frames)
    assert isinstance(encoder, sam.ImageEncoder)
    patches = encoder.patch_embed["proj"](frames)
    x = patches.permute(0, 2, 3, 1) + encoder.pos_embed
    for block in encoder.blocks:
        x = checkpoint(_block, block, x, use_reentrant=False)
    return sam.neck(encoder.neck, x)


def _block(block: sam.Block, x: Tensor) -> Tensor:
    """(B, H, W, C) -> (B, H, W, C)."""
    attend = _windows if block.windowed else _everywhere
    x = x + attend(block.attn, block.norm1(x))
    mlp = block.mlp
    x = x + mlp.lin2(F.gelu(mlp.lin1(block.norm2(x))))
    return x


def _windows(attention: sam.Attention, x: Tensor) -> Tensor:
    b, height, width, c = x.shape
    w = attention.side
    nh, nw = -(-height // w), -(-width // w)
    beyond = attention.qkv.bias  # what a zero token becomes
    qkv = attention.qkv(x) - beyond
    qkv = F.pad(qkv, (0, 0, 0, nw * w - width, 0, nh * w - height)) + beyond
    parts = qkv.view(b, nh, w, nw, w, 3 * c).transpose(2, 3).reshape(-1, w, w, 3 * c)
    out = _attend(attention, parts)
    out = out.view(b, nh, nw, w, w, c).transpose(2, 3).reshape(b, nh * w, nw * w, c)
    result: Tensor = attention.proj(out[:, :height, :width])
    return result


def _everywhere(attention: sam.Attention, x: Tensor) -> Tensor:
    result: Tensor = attention.proj(_attend(attention, attention.qkv(x)))
    return result


def _attend(attention: sam.Attention, qkv: Tensor) -> Tensor:
    """Tokens (M, H, W, 3C) among themselves -> (M, H, W, C)."""
    m, height, width, c = qkv.shape
    heads, d = attention.heads, c // 3 // attention.heads
    q, k, v = qkv.reshape(m, height, width, 3, heads, d).permute(3, 0, 4, 1, 2, 5)
    k, v = k.flatten(2, 3), v.flatten(2, 3)  # (M, h, N, d)
    at = torch.arange(attention.side, device=qkv.device)
    offset = at[:, None] - at[None, :] + attention.side - 1
    by_row, by_column = attention.rel_pos_h[offset], attention.rel_pos_w[offset]

    def some(q: Tensor, rows: Tensor) -> Tensor:
        rel_h = torch.einsum("mhrwd,rkd->mhrwk", q, rows)
        rel_w = torch.einsum("mhrwd,wkd->mhrwk", q, by_column)
        bias = rel_h[..., :, None] + rel_w[..., None, :]  # (M, h, r, W, H, W)
        scores = bias.flatten(4).flatten(2, 3)
        return F.scaled_dot_product_attention(
            q.flatten(2, 3), k, v, scores, scale=attention.scale
        )

    step = height if height <= 2 * _ROWS_AT_ONCE else _ROWS_AT_ONCE
    out = [
        checkpoint(some, q_rows, rows, use_reentrant=False)
        for q_rows, rows in zip(
            torch.split(q, step, 2), torch.split(by_row, step), strict=True
        )
    ]
    return torch.cat(out, 2).transpose(1, 2).reshape(m, height, width, c // 3)


def _encode_tiny(encoder: mobile_sam.TinyViT, frames: Tensor) -> Tensor:
    x = encoder.patch_embed(frames.permute(0, 2, 3, 1).contiguous())
    for layer in encoder.layers:
        assert isinstance(layer, mobile_sam.Stage)
        for block in layer.blocks:
            x = checkpoint(_tiny_block, block, x, use_reentrant=False)
        x = x if layer.downsample is None else layer.downsample(x)
    return sam.neck(encoder.neck, x)


def _tiny_block(block: nn.Module, x: Tensor) -> Tensor:
    if not isinstance(block, mobile_sam.Block):
        out: Tensor = block(x)
        return out
    x = block.local_conv(block.attn(x) + x)
    mixed: Tensor = x + block.mlp(x)
    return mixed


def _attentions(
    encoder: nn.Module,
) -> Iterator[sam.Attention | mobile_sam.Attention]:
    for module in encoder.modules():
        if isinstance(module, (sam.Attention, mobile_sam.Attention)):
            yield module
