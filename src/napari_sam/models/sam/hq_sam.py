"""HQ-SAM (Ke et al. 2023): SAM with one more mask token that corrects the outline.

The token's mask is read off finer features, "hq_features": the image embedding and the
tokens behind the encoder's first global block, both enlarged four times. They do not
depend on prompts, so they are made once, while encoding, and stored in place of the
tokens: (32, 256, 256), a third of the tokens' and the embedding's size.

Parameter names are those of the official checkpoints. The decoder's last convolution
ends in a weighted sum of its channels; both are one convolution to a single channel.

Shapes: B images, P prompts, K masks, g * g image tokens, C channels.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_sam.models.sam import mobile_sam, sam
from napari_sam.models.sam.build import build_sam_like
from napari_sam.models.sam.decoder import (
    UPSCALE,
    ImageTokens,
    MaskDecoder,
    Mlp,
    SamNetwork,
    enlarge_tokens,
    gelu_,
    to_raster,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_sam.models.checkpoints import Checkpoint
    from napari_sam.models.protocol import ModelSpec
    from napari_sam.models.sam.decoder import PromptBatch
    from napari_sam.models.sam.decoder_config import DecoderConfig
    from napari_sam.models.torch_model import TorchModel


_HALF_LIMIT = 65000.0
"""Stores keep features as float16, which ends at 65504."""


class HqImage(NamedTuple):
    """An embedding as the decoder reads it."""

    tokens: ImageTokens
    hq: Tensor
    """(16 * g * g, C / 8), row by row."""


class HqMaskDecoder(MaskDecoder):
    """SAM's mask decoder and the high-quality token.

    Parameters
    ----------
    config : DecoderConfig
    early_dim : int
        Channels of the encoder's tokens behind its first global block.
    """

    def __init__(self, config: DecoderConfig, early_dim: int) -> None:
        super().__init__(config)
        dim = config.dim
        self.hf_token = nn.Embedding(1, dim)
        self.hf_mlp = Mlp(dim, dim, dim // 8, 3)
        self.compress_vit_feat = _enlarging(early_dim, dim, dim // 8)
        self.embedding_encoder = _enlarging(dim, dim // 4, dim // 8)
        self.embedding_maskfeature = nn.ModuleDict(
            {
                "0": nn.Conv2d(dim // 8, dim // 4, 3, padding=1),
                "1": nn.LayerNorm(dim // 4, eps=1e-6),
                "3": nn.Conv2d(dim // 4, dim // 8, 3, padding=1),
            }
        )

    def hq_features(self, embedding: Tensor, early: Tensor) -> Tensor:
        """(B, C, g, g) and early tokens (B, g, g, C') -> (B, C / 8, 4g, 4g)."""
        image = embedding.flatten(2).mT  # (B, N, C)
        fine = enlarge_tokens(self.embedding_encoder, image)
        fine += enlarge_tokens(self.compress_vit_feat, early.flatten(1, 2))
        return to_raster(fine, self.grid).permute(0, 3, 1, 2).contiguous()

    def predict(
        self, image: HqImage, placed: Tensor, sparse: Tensor, masks: range
    ) -> tuple[Tensor, Tensor]:
        """Predict the chosen masks, each corrected by the high-quality token's.

        Parameters
        ----------
        image : HqImage
        placed : Tensor, (S, N, C)
            The image's tokens with what mask prompts add.
        sparse : Tensor, (P, T', C)
        masks : range
            Which of SAM's mask tokens to follow.

        Returns
        -------
        tuple of Tensor
            Logits (P, K, 4g, 4g) and predicted IoU (P, K).
        """
        own = torch.cat(
            [self.iou_token.weight, self.mask_tokens.weight, self.hf_token.weight]
        )
        tokens = torch.cat([own.expand(len(sparse), -1, -1), sparse], dim=1)
        wanted = [0, *(1 + i for i in masks), 1 + self.n_masks]
        hs, mixed = self.transformer(tokens, placed, image.tokens.position, wanted)
        iou = self.iou_prediction_head(hs[:, 0])[:, masks.start : masks.stop]
        weights = self.hyper(hs[:, 1:], masks)  # (P, K, C / 8)
        hq_weights = self.hf_mlp(hs[:, -1])  # (P, C / 8)
        sharp = image.hq @ hq_weights.T  # (16 N, P)
        found = []
        for p, tokens_of_one in enumerate(mixed):
            fine = enlarge_tokens(self.output_upscaling, tokens_of_one[None])
            fine = to_raster(gelu_(fine), self.grid)[0]  # (4g, 4g, C / 8)
            correction = self._correction(fine, hq_weights[p])
            correction += sharp[:, p].view_as(correction)
            found.append(weights[p] @ fine.flatten(0, 1).mT + correction.flatten())
        side = UPSCALE * self.grid
        return torch.stack(found).view(len(sparse), -1, side, side), iou

    def _correction(self, fine: Tensor, weights: Tensor) -> Tensor:
        """`embedding_maskfeature` of (4g, 4g, C / 8), weighed: (4g, 4g)."""
        layers = self.embedding_maskfeature
        widen, norm, last = layers["0"], layers["1"], layers["3"]
        x = widen(fine.permute(2, 0, 1)[None]).permute(0, 2, 3, 1)[0]
        x = gelu_(norm(x))  # (4g, 4g, C / 4)
        # What each pixel gives to its nine neighbours, added up where they lie.
        kernel = torch.einsum("o,oikl->ikl", weights, last.weight)  # type: ignore[arg-type]
        given = x.flatten(0, 1) @ kernel.flip(1, 2).flatten(1)  # (16 N, 9)
        side = x.shape[:2]
        out = F.fold(given.T[None], (side[0], side[1]), 3, padding=1)[0, 0]
        return out + weights @ last.bias  # type: ignore[operator]


class HqNetwork(SamNetwork):
    """SAM whose encoder also shows its early tokens, and HQ-SAM's mask decoder."""

    image_encoder: sam.ImageEncoder | mobile_sam.TinyViT
    mask_decoder: HqMaskDecoder

    def __init__(
        self, encoder: nn.Module, config: DecoderConfig, early_dim: int
    ) -> None:
        super().__init__(encoder, config)
        self.mask_decoder = HqMaskDecoder(config, early_dim)

    @property
    def feature_shapes(self) -> dict[str, tuple[int, int, int]]:
        """(C, h, w) of each array that `encode` returns for an image."""
        c, g = self.config.dim, self.config.grid
        return {
            "image_embedding": (c, g, g),
            "hq_features": (c // 8, UPSCALE * g, UPSCALE * g),
        }

    def encode(self, frames: Tensor) -> dict[str, Tensor]:
        """Normalised, padded frames (B, 3, side, side) -> the two features."""
        embedding, early = self.image_encoder.with_early_tokens(frames)
        hq = self.mask_decoder.hq_features(embedding, early)
        return {
            "image_embedding": embedding,
            "hq_features": hq.clamp_(-_HALF_LIMIT, _HALF_LIMIT),
        }

    def prepare(self, features: Mapping[str, Tensor]) -> HqImage:  # type: ignore[override]
        """Bring the features (C, h, w) of one image into the decoder's form."""
        hq = features["hq_features"].flatten(1).T.contiguous()
        return HqImage(super().prepare(features), hq)

    def decode(  # type: ignore[override]
        self, image: HqImage, prompts: PromptBatch, *, multimask_output: bool
    ) -> tuple[Tensor, Tensor]:
        """Logits (P, K, m, m) and predicted IoU (P, K); K is 3 or 1.

        The authors' predictor returns the one of three with the best predicted IoU.
        """
        placed, masks = self.placed_tokens(image.tokens, prompts, multimask_output)
        return self.mask_decoder.predict(
            image, placed, self.prompt_encoder(prompts), masks
        )


def from_checkpoint(
    checkpoint: Checkpoint, spec: ModelSpec, device: str = "cpu"
) -> TorchModel:
    """Build the HQ-SAM that a checkpoint holds, on ViT-B, L, H or TinyViT (light).

    Else as `build_sam_like` says.
    """
    if mobile_sam.holds_tiny_vit(checkpoint):
        checkpoint = mobile_sam.without_classifier(checkpoint)
        encoder = mobile_sam.encoder_of(checkpoint)
    else:
        encoder = sam.encoder_of(checkpoint)
    early = checkpoint.shape("mask_decoder.compress_vit_feat.0.weight")[0]
    spec = replace(spec, details={**spec.details, "decoder": "HQ-SAM"})
    network = partial(HqNetwork, early_dim=early)
    return build_sam_like(checkpoint, spec, device, encoder, network)


def _enlarging(dim: int, hidden: int, out: int) -> nn.ModuleDict:
    """Two transposed convolutions of size and stride 2, for `enlarge_tokens`."""
    return nn.ModuleDict(
        {
            "0": nn.ConvTranspose2d(dim, hidden, 2, stride=2),
            "1": nn.LayerNorm(hidden, eps=1e-6),
            "3": nn.ConvTranspose2d(hidden, out, 2, stride=2),
        }
    )
