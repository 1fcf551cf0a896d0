"""Attention between a few prompt tokens and thousands of image tokens, both ways.

The projections of the image side are folded into the prompt side
(q k^T = (q W_k) x^T), which is exact: the key bias adds one constant per query and
softmax ignores it.

Shapes: P prompts, T tokens a prompt, N image tokens, C channels, h heads of width d,
S in {1, P}: 1 as long as all prompts share the image's tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from napari_sam.models.sam.decoder_config import DecoderConfig


class Attention(nn.Module):
    """Multi-head attention, in the three forms that the decoder needs."""

    def __init__(self, dim: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(dim, inner)
        self.k_proj = nn.Linear(dim, inner)
        self.v_proj = nn.Linear(dim, inner)
        self.out_proj = nn.Linear(inner, dim)
        self.scale = (inner // heads) ** -0.5

    def forward(self, queries_keys: Tensor, values: Tensor) -> Tensor:
        """Attention among tokens: (P, T, C), (P, T, C) -> (P, T, C)."""
        q = self._split(self.q_proj(queries_keys)).transpose(1, 2)  # (P, h, T, d)
        k = self._split(self.k_proj(queries_keys)).transpose(1, 2)
        v = self._split(self.v_proj(values)).transpose(1, 2)
        weights = (q @ k.transpose(-2, -1) * self.scale).softmax(-1)
        out: Tensor = self.out_proj((weights @ v).transpose(1, 2).flatten(2))
        return out

    def read(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Tokens (P, T, C) attend to the image (S, N, C) -> (P, T, C)."""
        p, t, _ = queries.shape
        q = self._split(self.q_proj(queries))  # (P, T, h, d)
        q = torch.einsum("pthd,hdc->phtc", q, self._by_head(self.k_proj.weight))
        weights = _scores(q.flatten(1, 2) * self.scale, keys).softmax(-1)  # (P, hT, N)
        mixed = _mix(weights, values).view(p, self.heads, t, -1)  # (P, h, T, C)
        v = torch.einsum("phtc,hdc->pthd", mixed, self._by_head(self.v_proj.weight))
        out: Tensor = self.out_proj(v.reshape(p, t, -1) + self.v_proj.bias)
        return out

    def write(self, image: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Image (S, N, C) attends to tokens (P, T, C) -> (P, N, C)."""
        p, t, c = keys.shape
        k = self._split(self.k_proj(keys)) * self.scale  # (P, T, h, d)
        bias = torch.einsum("pthd,hd->pht", k, self.q_proj.bias.view(self.heads, -1))
        k = torch.einsum("pthd,hdc->phtc", k, self._by_head(self.q_proj.weight))
        scores = _scores(k.flatten(1, 2), image) + bias.flatten(1)[..., None]
        weights = scores.view(p, self.heads, t, -1).softmax(2)  # (P, h, T, N)
        v = self._split(self.v_proj(values))
        out = self.out_proj.weight.view(c, self.heads, -1)  # (C, h, d)
        v = torch.einsum("pthd,chd->phtc", v, out).flatten(1, 2)  # (P, hT, C)
        return torch.baddbmm(self.out_proj.bias, weights.flatten(1, 2).mT, v)

    def _split(self, x: Tensor) -> Tensor:
        """(..., h * d) -> (..., h, d)."""
        return x.view(*x.shape[:-1], self.heads, -1)

    def _by_head(self, weight: Tensor) -> Tensor:
        """(h * d, C) -> (h, d, C)."""
        return weight.view(self.heads, -1, weight.shape[-1])


class MlpBlock(nn.Module):
    """Two layers with ReLU."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(dim, hidden)
        self.lin2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        out: Tensor = self.lin2(F.relu(self.lin1(x)))
        return out


class TwoWayLayer(nn.Module):
    """Tokens attend to each other and to the image, then the image to the tokens."""

    def __init__(self, config: DecoderConfig, *, first: bool) -> None:
        super().__init__()
        dim, heads, inner = config.dim, config.heads, config.inner
        self.first = first
        self.self_attn = Attention(dim, heads, dim)
        self.norm1 = nn.LayerNorm(dim, eps=1e-5)
        self.cross_attn_token_to_image = Attention(dim, heads, inner)
        self.norm2 = nn.LayerNorm(dim, eps=1e-5)
        self.mlp = MlpBlock(dim, config.mlp_dim)
        self.norm3 = nn.LayerNorm(dim, eps=1e-5)
        self.norm4 = nn.LayerNorm(dim, eps=1e-5)
        self.cross_attn_image_to_token = Attention(dim, heads, inner)

    def forward(
        self, queries: Tensor, pe: Tensor, image: Tensor, placed: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mix tokens (P, T, C) and image (S, N, C); `placed` is image plus position."""
        if self.first:
            # The paper's code has no residual here: the queries are replaced.
            queries = self.self_attn(queries, queries)
        else:
            queries = queries + self.self_attn(queries + pe, queries)
        queries = self.norm1(queries)
        read = self.cross_attn_token_to_image.read(queries + pe, placed, image)
        queries = self.norm2(queries + read)
        queries = self.norm3(queries + self.mlp(queries))
        written = self.cross_attn_image_to_token.write(placed, queries + pe, queries)
        return queries, self.norm4(written.add_(image))


class TwoWayTransformer(nn.Module):
    """A few two-way layers and a last look at the image."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TwoWayLayer(config, first=i == 0) for i in range(config.depth)
        )
        self.final_attn_token_to_image = Attention(
            config.dim, config.heads, config.inner
        )
        self.norm_final_attn = nn.LayerNorm(config.dim, eps=1e-5)

    def forward(
        self, tokens: Tensor, image: Tensor, position: Tensor, wanted: list[int]
    ) -> tuple[Tensor, Tensor]:
        """Return the wanted tokens (P, len(wanted), C) and the image (P, N, C)."""
        queries = tokens
        placed = image + position
        for layer in self.layers:
            queries, image = layer(queries, tokens, image, placed)
            placed = image + position
        queries = queries[:, wanted]
        last = self.final_attn_token_to_image
        read = last.read(queries + tokens[:, wanted], placed, image)
        return self.norm_final_attn(queries + read), image


def _scores(queries: Tensor, keys: Tensor) -> Tensor:
    """(P, M, C), (S, N, C) -> (P, M, N)."""
    if len(keys) == 1:
        return (queries.flatten(0, 1) @ keys[0].T).view(*queries.shape[:2], -1)
    return torch.bmm(queries, keys.mT)


def _mix(weights: Tensor, values: Tensor) -> Tensor:
    """(P, M, N), (S, N, C) -> (P, M, C)."""
    if len(values) == 1:
        return (weights.flatten(0, 1) @ values[0]).view(*weights.shape[:2], -1)
    return torch.bmm(weights, values)
