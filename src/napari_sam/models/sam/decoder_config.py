"""Sizes of SAM's prompt encoder and mask decoder, as its family varies them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_sam.models.checkpoints import Checkpoint


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """Sizes of prompt encoder and mask decoder; the defaults are those of every SAM."""

    side: int = 1024
    """Pixels of the model's square frame."""
    grid: int = 64
    """Image tokens on each axis."""
    dim: int = 256
    heads: int = 8
    inner: int = 128
    """Width of the attention between prompt and image tokens."""
    depth: int = 2
    mlp_dim: int = 2048
    mask_channels: int = 16
    n_masks: int = 4
    """Mask tokens: one for a clear prompt, then the alternatives."""
    iou_hidden: int = 256
    iou_depth: int = 3

    @classmethod
    def infer(cls, checkpoint: Checkpoint, side: int, grid: int) -> DecoderConfig:
        """Read the sizes off a checkpoint's tensors."""
        shape, count = checkpoint.shape, checkpoint.count
        layer = "mask_decoder.transformer.layers.0"
        head = "mask_decoder.iou_prediction_head.layers"
        return cls(
            side=side,
            grid=grid,
            dim=shape("prompt_encoder.no_mask_embed.weight")[1],
            inner=shape(f"{layer}.cross_attn_token_to_image.q_proj.weight")[0],
            depth=count("mask_decoder.transformer.layers"),
            mlp_dim=shape(f"{layer}.mlp.lin1.weight")[0],
            mask_channels=shape("prompt_encoder.mask_downscaling.3.weight")[0],
            n_masks=shape("mask_decoder.mask_tokens.weight")[0],
            iou_hidden=shape(f"{head}.0.weight")[0],
            iou_depth=count(head),
        )
