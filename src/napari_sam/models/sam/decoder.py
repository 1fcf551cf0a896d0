"""SAM's prompt encoder and mask decoder (Kirillov et al. 2023), shared by its family.

Parameter names are those of the official checkpoints; the computation is rearranged so
that nothing of the image's size is done twice:

- The image's tokens are never repeated per prompt; until a prompt's own tokens have
  been mixed in they have a leading axis of 1.
- Attention between prompt and image tokens projects the prompt side only
  (`napari_sam.models.sam.two_way`).
- Upscaling, hypernetworks and the last attention run for the requested masks only.

Shapes: P prompts, T tokens a prompt, N = g * g image tokens, C channels, S in {1, P},
K masks.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_sam.models.sam.two_way import TwoWayTransformer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_sam.models.sam.decoder_config import DecoderConfig


UPSCALE = 4
"""Mask logits a patch token becomes on each axis."""

_TOKENS_AT_ONCE = 2048
"""Image tokens that are upscaled together: their 16 successors each fit a cache."""


class PromptBatch(NamedTuple):
    """P prompts of one form, in the frame's pixels."""

    points_xy: Tensor | None = None
    """(P, n, 2) float32, (x, y)."""
    point_labels: Tensor | None = None
    """(P, n) int, 1 = object, 0 = background."""
    boxes_xyxy: Tensor | None = None
    """(P, 4) float32, (x0, y0, x1, y1)."""
    masks: Tensor | None = None
    """(P, m, m) float32 logits."""


class ImageTokens(NamedTuple):
    """An embedding as the decoder reads it; the same for all prompts on an image."""

    plain: Tensor
    """(1, N, C), nothing added."""
    position: Tensor
    """(1, N, C), encoding of each token's place."""
    without_mask: Tensor
    """(1, N, C), with what stands for "no mask prompt" added."""


class PositionEncoding(nn.Module):
    """Sines and cosines of random frequencies of (x, y) in 0..1."""

    def __init__(self, n_frequencies: int) -> None:
        super().__init__()
        self.positional_encoding_gaussian_matrix: Tensor
        self.register_buffer(
            "positional_encoding_gaussian_matrix", torch.randn(2, n_frequencies)
        )

    def forward(self, xy: Tensor) -> Tensor:
        """(..., 2) in 0..1 -> (..., C)."""
        angle = 2 * math.pi * ((2 * xy - 1) @ self.positional_encoding_gaussian_matrix)
        return torch.cat([angle.sin(), angle.cos()], dim=-1)

    def grid(self, n: int) -> Tensor:
        """Encode the centres of n x n cells -> (1, n * n, C)."""
        matrix = self.positional_encoding_gaussian_matrix
        centres = (torch.arange(n, device=matrix.device, dtype=matrix.dtype) + 0.5) / n
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        encoded: Tensor = self(torch.stack([x, y], dim=-1))
        return encoded.flatten(0, 1)[None]


class PromptEncoder(nn.Module):
    """Points, boxes and masks as tokens and as additions to the image's tokens."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        dim, hidden = config.dim, config.mask_channels
        self.side, self.grid = config.side, config.grid
        self.pe_layer = PositionEncoding(dim // 2)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, dim) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, dim)
        self.no_mask_embed = nn.Embedding(1, dim)
        self.mask_downscaling = nn.ModuleDict(
            {
                "0": nn.Conv2d(1, hidden // 4, 2, stride=2),
                "1": nn.LayerNorm(hidden // 4, eps=1e-6),
                "3": nn.Conv2d(hidden // 4, hidden, 2, stride=2),
                "4": nn.LayerNorm(hidden, eps=1e-6),
                "6": nn.Conv2d(hidden, dim, 1),
            }
        )

    def forward(self, prompts: PromptBatch) -> Tensor:
        """Tokens of points and boxes, (P, T', C); T' is 0 for a mask alone."""
        parts: list[Tensor] = []
        if prompts.points_xy is not None and prompts.point_labels is not None:
            parts.append(self._points(prompts, pad=prompts.boxes_xyxy is None))
        if prompts.boxes_xyxy is not None:
            corners = self._encode(prompts.boxes_xyxy.reshape(-1, 2, 2))
            corners[:, 0] += self._kind(2)
            corners[:, 1] += self._kind(3)
            parts.append(corners)
        if parts:
            return torch.cat(parts, dim=1)
        weight = self.no_mask_embed.weight
        n = 1 if prompts.masks is None else len(prompts.masks)
        return weight.new_zeros(n, 0, weight.shape[1])

    def mask_tokens(self, masks: Tensor) -> Tensor:
        """Mask logits (P, 4g, 4g) -> addition to the image tokens (P, N, C)."""
        layers = self.mask_downscaling
        x = layers["0"](masks[:, None]).permute(0, 2, 3, 1)  # (P, 2g, 2g, .)
        x = gelu_(layers["1"](x)).permute(0, 3, 1, 2)
        x = layers["3"](x).permute(0, 2, 3, 1)  # (P, g, g, .)
        x = gelu_(layers["4"](x))
        last = layers["6"]
        x = F.linear(x, last.weight.flatten(1), last.bias)  # type: ignore[operator, arg-type]
        return x.flatten(1, 2)

    def _points(self, prompts: PromptBatch, *, pad: bool) -> Tensor:
        """Tokens of points, (P, n, C), and with `pad` one more for no point."""
        points, labels = prompts.points_xy, prompts.point_labels
        assert points is not None and labels is not None
        tokens = self._encode(points)
        added = torch.where((labels == 1)[..., None], self._kind(1), self._kind(0))
        tokens = tokens + added
        if not pad:
            return tokens
        # Without a box, SAM was trained with one more token that stands for no point.
        nothing = self.not_a_point_embed.weight[None].expand(len(tokens), 1, -1)
        return torch.cat([tokens, nothing], dim=1)

    def _kind(self, i: int) -> Tensor:
        """What a background point, a point, a box's two corners add, (C,)."""
        embedding = self.point_embeddings[i]
        assert isinstance(embedding, nn.Embedding)
        return embedding.weight[0]

    def _encode(self, xy: Tensor) -> Tensor:
        """(..., 2) in the frame's pixels, centres at integers -> (..., C)."""
        encoded: Tensor = self.pe_layer((xy + 0.5) / self.side)
        return encoded


class Mlp(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, dim: int, hidden: int, out: int, depth: int) -> None:
        super().__init__()
        sizes = [dim, *[hidden] * (depth - 1), out]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., out)."""
        for layer in list(self.layers)[:-1]:
            x = F.relu(layer(x))
        out: Tensor = self.layers[-1](x)
        return out


class MaskDecoder(nn.Module):
    """Image and prompt tokens -> mask logits and the estimate of their quality."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        dim = config.dim
        self.n_masks, self.grid = config.n_masks, config.grid
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(config.n_masks, dim)
        self.transformer = TwoWayTransformer(config)
        self.output_upscaling = nn.ModuleDict(
            {
                "0": nn.ConvTranspose2d(dim, dim // 4, 2, stride=2),
                "1": nn.LayerNorm(dim // 4, eps=1e-6),
                "3": nn.ConvTranspose2d(dim // 4, dim // 8, 2, stride=2),
            }
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            Mlp(dim, dim, dim // 8, 3) for _ in range(config.n_masks)
        )
        self.iou_prediction_head = Mlp(
            dim, config.iou_hidden, config.n_masks, config.iou_depth
        )

    def forward(
        self, image: Tensor, position: Tensor, sparse: Tensor, masks: range
    ) -> tuple[Tensor, Tensor]:
        """Predict the chosen masks.

        Parameters
        ----------
        image : Tensor, (S, N, C)
        position : Tensor, (1, N, C)
        sparse : Tensor, (P, T', C)
        masks : range
            Which of the mask tokens to follow.

        Returns
        -------
        tuple of Tensor
            Logits (P, K, 4g, 4g) and predicted IoU (P, K).
        """
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([own.expand(len(sparse), -1, -1), sparse], dim=1)
        wanted = [0, *(1 + i for i in masks)]
        hs, image = self.transformer(tokens, image, position, wanted)
        iou = self.iou_prediction_head(hs[:, 0])[:, masks.start : masks.stop]
        return self._masks(image, self.hyper(hs[:, 1:], masks)), iou

    def hyper(self, tokens: Tensor, masks: range) -> Tensor:
        """Tokens (P, K or more, C) of the chosen masks -> weights (P, K, C / 8)."""
        networks = self.output_hypernetworks_mlps
        weights = [networks[m](tokens[:, k]) for k, m in enumerate(masks)]
        return torch.stack(weights, dim=1)

    def _masks(self, image: Tensor, hyper: Tensor) -> Tensor:
        """Upscale image tokens (P, N, C) and weigh their channels -> (P, K, 4g, 4g).

        The order of the enlarged tokens is undone on the K results at the end.
        """
        p, k, g = len(image), hyper.shape[1], self.grid
        logits = []
        for part in torch.split(image, _TOKENS_AT_ONCE, dim=1):
            x = enlarge_tokens(self.output_upscaling, part)  # (P, n * 16, C / 8)
            logits.append(hyper @ gelu_(x).mT)  # (P, K, n * 16)
        out = torch.cat(logits, dim=2).view(p, k, g, g, 2, 2, 2, 2)
        return out.permute(0, 1, 2, 4, 6, 3, 5, 7).reshape(
            p, k, UPSCALE * g, UPSCALE * g
        )


class SamNetwork(nn.Module):
    """Any image encoder with SAM's prompt encoder and mask decoder."""

    def __init__(self, image_encoder: nn.Module, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.image_encoder = image_encoder
        self.prompt_encoder = PromptEncoder(config)
        self.mask_decoder = MaskDecoder(config)

    @property
    def feature_shapes(self) -> dict[str, tuple[int, int, int]]:
        """(C, h, w) of each array that `encode` returns for an image."""
        config = self.config
        return {"image_embedding": (config.dim, config.grid, config.grid)}

    def encode(self, frames: Tensor) -> dict[str, Tensor]:
        """Normalised, padded frames (B, 3, side, side) -> {name: (B, C, g, g)}."""
        return {"image_embedding": self.image_encoder(frames)}

    def prepare(self, features: Mapping[str, Tensor]) -> ImageTokens:
        """Bring the features (C, g, g) of one image into the decoder's form."""
        plain = features["image_embedding"].flatten(1).T.contiguous()[None]
        position = self.prompt_encoder.pe_layer.grid(self.config.grid)
        return ImageTokens(
            plain, position, plain + self.prompt_encoder.no_mask_embed.weight
        )

    def decode(
        self, image: ImageTokens, prompts: PromptBatch, *, multimask_output: bool
    ) -> tuple[Tensor, Tensor]:
        """Logits (P, K, m, m) and predicted IoU (P, K); K is 3 or 1."""
        tokens, masks = self.placed_tokens(image, prompts, multimask_output)
        out: tuple[Tensor, Tensor] = self.mask_decoder(
            tokens, image.position, self.prompt_encoder(prompts), masks
        )
        return out

    def placed_tokens(
        self, image: ImageTokens, prompts: PromptBatch, multimask_output: bool
    ) -> tuple[Tensor, range]:
        """Image tokens (S, N, C) with the mask prompts, and the mask tokens to follow.

        S is 1 where no prompt has a mask.
        """
        tokens = image.without_mask
        if prompts.masks is not None:
            tokens = image.plain + self.prompt_encoder.mask_tokens(prompts.masks)
        masks = range(1, self.config.n_masks) if multimask_output else range(1)
        return tokens, masks


def in_bands(x: Tensor) -> bool:
    """Whether to work on bands that each fit a cache: on a CPU that torch drives.

    A runtime that is given the whole graph cuts it up itself.
    """
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def gelu_(x: Tensor) -> Tensor:
    """GELU in place: a fresh result of this size costs a CPU four times as long."""
    out: Tensor = torch.ops.aten.gelu_(x)
    return out


def enlarge_tokens(layers: nn.ModuleDict, x: Tensor) -> Tensor:
    """Two transposed convolutions, "0" and "3", with norm "1" and GELU between them.

    One of size and stride 2 sends each token to four of its own, which is one matrix
    product: (P, n, C) -> (P, n * 16, C'), each token's successors together.
    """
    x = _double(layers["0"], x)
    return _double(layers["3"], gelu_(layers["1"](x)))


def to_raster(x: Tensor, grid: int) -> Tensor:
    """Order what `enlarge_tokens` made by rows: (P, 16 N, C) -> (P, 4g, 4g, C)."""
    parts = x.view(len(x), grid, grid, 2, 2, 2, 2, -1).permute(0, 1, 3, 5, 2, 4, 6, 7)
    return parts.reshape(len(x), UPSCALE * grid, UPSCALE * grid, -1)


def _double(layer: nn.Module, x: Tensor) -> Tensor:
    """(P, n, C) -> (P, n * 4, C'): each token's 2 x 2 successors, rows first."""
    weight, bias = layer.weight, layer.bias  # (C, C', 2, 2), (C',)
    matrix = weight.permute(2, 3, 1, 0).flatten(0, 2)  # type: ignore[operator]
    y = F.linear(x, matrix, bias.repeat(4))  # type: ignore[operator]
    return y.reshape(len(x), -1, len(bias))  # type: ignore[arg-type]
