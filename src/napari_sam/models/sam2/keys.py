"""SAM 2's tensors: the authors' names to those of transformers, and sizes read off.

The authors' file is ``{"model": {name: tensor}}``. Each of its names has one place in
transformers, but for the four embeddings of points, which are one table there, and the
frequencies of the position encoding, which it keeps twice. A file saved by transformers
itself is taken as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from napari_sam.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from napari_sam.models.checkpoints import Checkpoint

OFFICIAL = "image_encoder.trunk.patch_embed.proj.weight"
"""A name that only the authors' files of SAM 2 have."""
CONVERTED = "vision_encoder.backbone.patch_embed.projection.weight"
"""The same tensor in a file saved by transformers; no other family has it either."""

_PE = "positional_embedding"
_FREQUENCIES = f"shared_image_embedding.{_PE}", f"prompt_encoder.shared_embedding.{_PE}"
_POINTS = "prompt_encoder.point_embed.weight"

_RENAMED = {
    "maskmem_tpos_enc": "memory_temporal_positional_encoding",
    "no_mem_embed": "no_memory_embedding",
    "no_mem_pos_enc": "no_memory_positional_encoding",
    "no_obj_ptr": "no_object_pointer",
    "no_obj_embed_spatial": "occlusion_spatial_embedding_parameter",
    "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix": _FREQUENCIES[0],
}
"""Whole names."""

_NUMBERED: Mapping[str, Mapping[str, str]] = {
    "sam_prompt_encoder.mask_downscaling": {
        "0": "prompt_encoder.mask_embed.conv1",
        "1": "prompt_encoder.mask_embed.layer_norm1",
        "3": "prompt_encoder.mask_embed.conv2",
        "4": "prompt_encoder.mask_embed.layer_norm2",
        "6": "prompt_encoder.mask_embed.conv3",
    },
    "sam_mask_decoder.output_upscaling": {
        "0": "mask_decoder.upscale_conv1",
        "1": "mask_decoder.upscale_layer_norm",
        "3": "mask_decoder.upscale_conv2",
    },
    "memory_encoder.mask_downsampler.encoder": {
        "0": "memory_encoder.mask_downsampler.layers.0.conv",
        "1": "memory_encoder.mask_downsampler.layers.0.layer_norm",
        "3": "memory_encoder.mask_downsampler.layers.1.conv",
        "4": "memory_encoder.mask_downsampler.layers.1.layer_norm",
        "6": "memory_encoder.mask_downsampler.layers.2.conv",
        "7": "memory_encoder.mask_downsampler.layers.2.layer_norm",
        "9": "memory_encoder.mask_downsampler.layers.3.conv",
        "10": "memory_encoder.mask_downsampler.layers.3.layer_norm",
        "12": "memory_encoder.mask_downsampler.final_conv",
    },
}
"""Layers that the authors number in a row; those between hold no tensors."""

_RULES = tuple(
    (re.compile(pattern), to)
    for pattern, to in (
        (r"^image_encoder\.trunk\.patch_embed\.proj\b", CONVERTED.rsplit(".", 1)[0]),
        (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
        (r"^image_encoder\.neck\.convs\.(\d)\.conv\b", r"vision_encoder.neck.convs.\1"),
        (r"^sam_(prompt_encoder|mask_decoder)\.", r"\1."),
        (r"^obj_ptr_proj\.", "object_pointer_proj."),
        (r"^obj_ptr_tpos_proj\.", "temporal_positional_encoding_projection_layer."),
        (r"^memory_encoder\.pix_feat_proj\b", "memory_encoder.feature_projection"),
        (r"^memory_encoder\.out_proj\b", "memory_encoder.projection"),
        (r"^(memory_encoder\.fuser\.layers\.\d+)\.norm\b", r"\1.layer_norm"),
        (r"^memory_encoder\.fuser\.", "memory_encoder.memory_fuser."),
        (r"\.dwconv\b", ".depthwise_conv"),
        (r"\.pwconv([12])\b", r".pointwise_conv\1"),
        (r"\.gamma$", ".scale"),
        (r"^memory_attention\.norm\b", "memory_attention.layer_norm"),
        (r"\.norm_final_attn\b", ".layer_norm_final_attn"),
        (r"\.norm(\d)\b", r".layer_norm\1"),
        (r"\.out_proj\b", ".o_proj"),
        (r"\.mlp\.layers\.0\b", ".mlp.proj_in"),
        (r"\.mlp\.layers\.1\b", ".mlp.proj_out"),
        (r"(_mlps\.\d|_head|_pointer_proj)\.layers\.0\b", r"\1.proj_in"),
        (r"(_mlps\.\d|_head|_pointer_proj)\.layers\.1\b", r"\1.layers.0"),
        (r"(_mlps\.\d|_head|_pointer_proj)\.layers\.2\b", r"\1.proj_out"),
    )
)  # fmt: skip
"""Applied one after the other to every other name."""


@dataclass(frozen=True, slots=True)
class Hiera:
    """What tensors do not tell about an image encoder: how its attention is cut up."""

    heads: int
    """In the first stage; doubled from stage to stage, as the width is."""
    windows: tuple[int, ...]
    """Window side of each stage."""
    global_blocks: tuple[int, ...]
    """Blocks that look at the whole image."""


HIERAS: Mapping[tuple[int, tuple[int, ...]], Hiera] = {
    (96, (1, 2, 7, 2)): Hiera(1, (8, 4, 14, 7), (5, 7, 9)),
    (96, (1, 2, 11, 2)): Hiera(1, (8, 4, 14, 7), (7, 10, 13)),
    (112, (2, 3, 16, 3)): Hiera(2, (8, 4, 14, 7), (12, 16, 20)),
    (144, (2, 6, 36, 4)): Hiera(2, (8, 4, 16, 8), (23, 33, 43)),
}
"""(width, blocks of each stage) -> tiny, small, base plus and large."""


def to_transformers(checkpoint: Checkpoint) -> Checkpoint:
    """Rename a checkpoint's tensors as transformers has them.

    Names without a place there stay as they are, for strict loading to report.
    """
    if OFFICIAL not in checkpoint.state:
        state = dict(checkpoint.state)
    else:
        state = {_renamed(k): v for k, v in checkpoint.state.items()}
        state = _join_points(state)
    for name, other in (_FREQUENCIES, _FREQUENCIES[::-1]):
        if name in state:
            state.setdefault(other, state[name])
    return replace(checkpoint, state=state)


def _renamed(name: str) -> str:
    if name in _RENAMED:
        return _RENAMED[name]
    for row, places in _NUMBERED.items():
        if name.startswith(f"{row}."):
            number, _, rest = name[len(row) + 1 :].partition(".")
            return f"{places[number]}.{rest}" if number in places else name
    for pattern, to in _RULES:
        name = pattern.sub(to, name)
    return name


def _join_points(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Make one table (4, C) of the embeddings (1, C) of points, if all are there."""
    import torch

    parts = [f"prompt_encoder.point_embeddings.{i}.weight" for i in range(4)]
    if not all(p in state for p in parts):
        return dict(state)
    joined = torch.cat([state[p] for p in parts])
    return {_POINTS: joined} | {k: v for k, v in state.items() if k not in parts}


def config_for(checkpoint: Checkpoint, side: int, hiera: Hiera | None = None) -> Any:
    """Read a checkpoint's sizes into a transformers ``Sam2VideoConfig``.

    Parameters
    ----------
    checkpoint : Checkpoint
        As `to_transformers` gives it.
    side : int
        Side of the model's frame, which no tensor tells.
    hiera : Hiera, optional
        Looked up by the encoder's sizes when left out.

    Raises
    ------
    CheckpointError
        If tensors are missing, or the encoder is none of the four known.
    """
    from transformers import Sam2VideoConfig

    shape, count = checkpoint.shape, checkpoint.count
    dim = shape("prompt_encoder.no_mask_embed.weight")[1]
    memory, fuser = "memory_attention.layers", "memory_encoder.memory_fuser.layers"
    return Sam2VideoConfig(
        vision_config=_vision(checkpoint, side, hiera),
        prompt_encoder_config={
            "hidden_size": dim,
            "image_size": side,
            "mask_input_channels": shape("prompt_encoder.mask_embed.conv2.weight")[0],
        },
        mask_decoder_config=_decoder(checkpoint),
        image_size=side,
        num_maskmem=shape("memory_temporal_positional_encoding")[0],
        enable_occlusion_spatial_embedding=(
            "occlusion_spatial_embedding_parameter" in checkpoint.state
        ),
        enable_temporal_pos_encoding_for_object_pointers=(
            "temporal_positional_encoding_projection_layer.weight" in checkpoint.state
        ),
        memory_attention_hidden_size=dim,
        memory_attention_num_layers=count(memory),
        memory_attention_feed_forward_hidden_size=shape(f"{memory}.0.linear1.weight")[
            0
        ],
        memory_attention_rope_feat_sizes=[side // 16, side // 16],
        memory_encoder_hidden_size=dim,
        memory_encoder_output_channels=shape("memory_encoder.projection.weight")[0],
        mask_downsampler_embed_dim=dim,
        memory_fuser_num_layers=count(fuser),
        memory_fuser_embed_dim=dim,
        memory_fuser_intermediate_dim=shape(f"{fuser}.0.pointwise_conv1.weight")[0],
    )


def _decoder(checkpoint: Checkpoint) -> dict[str, Any]:
    shape, name = checkpoint.shape, "mask_decoder"
    layers = f"{name}.transformer.layers"
    return {
        "hidden_size": shape(f"{name}.iou_token.weight")[1],
        "mlp_dim": shape(f"{layers}.0.mlp.proj_in.weight")[0],
        "num_multimask_outputs": shape(f"{name}.mask_tokens.weight")[0] - 1,
        "iou_head_hidden_dim": shape(f"{name}.iou_prediction_head.proj_in.weight")[0],
    }


def _vision(checkpoint: Checkpoint, side: int, hiera: Hiera | None) -> dict[str, Any]:
    shape, name = checkpoint.shape, "vision_encoder"
    width, *background = shape(f"{name}.backbone.pos_embed")[1:]
    stages = _stages(checkpoint)
    hiera = hiera or HIERAS.get((width, stages))
    if hiera is None:
        known = ", ".join(f"{w} {list(s)}" for w, s in HIERAS)
        raise CheckpointError(
            f"{checkpoint.path.name} has an image encoder {width} wide with blocks "
            f"{list(stages)}; the encoders of SAM 2 have {known}"
        )
    widths = [width << i for i in range(len(stages))]
    return {
        "backbone_config": {
            "model_type": "sam2_hiera_det_model",
            "hidden_size": width,
            "num_attention_heads": hiera.heads,
            "image_size": [side, side],
            "window_positional_embedding_background_size": background,
            "blocks_per_stage": list(stages),
            "embed_dim_per_stage": widths,
            "num_attention_heads_per_stage": [
                hiera.heads << i for i in range(len(stages))
            ],
            "window_size_per_stage": list(hiera.windows),
            "global_attention_blocks": list(hiera.global_blocks),
        },
        "backbone_channel_list": widths[::-1],
        "backbone_feature_sizes": [[side // s, side // s] for s in (4, 8, 16)],
        "fpn_hidden_size": shape(f"{name}.neck.convs.0.weight")[0],
    }


def _stages(checkpoint: Checkpoint) -> tuple[int, ...]:
    """Blocks of each stage: the first block of a later one has a projection."""
    blocks = "vision_encoder.backbone.blocks"
    total = checkpoint.count(blocks)
    starts = [
        i for i in range(total) if f"{blocks}.{i}.proj.weight" in checkpoint.state
    ]
    ends = [*starts, total]
    return tuple(b - a for a, b in zip([0, *starts], ends, strict=True))
