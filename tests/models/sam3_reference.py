"""A small SAM 3 of transformers with random weights, as a folder that users have.

`roi_align_golden.npz` holds what `_roi_align` of torchvision 0.28 (its definition in
plain torch, in ``torchvision/ops/roi_align.py``) gave for `ROI_FEATURES` and
`ROI_BOXES` with 7 cells, spatial scale 1, sampling ratio -1 and ``aligned=False``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

SIDE = 112
GRID = 8
ROI_FEATURES = torch.randn(2, 3, 9, 11, generator=torch.Generator().manual_seed(0))
ROI_BOXES = [
    torch.tensor([[1.0, 2.0, 7.5, 8.0], [0.0, 0.0, 11.0, 9.0], [3.2, 3.1, 3.4, 3.3]]),
    torch.tensor([[0.5, 0.2, 10.7, 2.4], [5.0, 4.0, 11.0, 9.0]]),
]
WORDS = ("visual", "a", "cell", "nucleus", "bright", "dark", "round", "thin")


def word_pieces(path: Path) -> None:
    """Write a ``tokenizer.json`` that knows `WORDS`, each between start and end."""
    vocabulary = {"<s>": 0, "?": 1, **{w: i + 2 for i, w in enumerate(WORDS)}}
    vocabulary["</s>"] = 299
    reader = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    reader.normalizer = normalizers.Lowercase()
    reader.pre_tokenizer = pre_tokenizers.Whitespace()
    reader.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 299)]
    )
    reader.save(str(path))


def config() -> Any:
    """Sizes of the small model."""
    from transformers import Sam3VideoConfig

    c, heads = 128, {"num_attention_heads": 2}
    layers = {"hidden_size": c, "num_layers": 1, "intermediate_size": 64, **heads}
    vision = {
        "model_type": "sam3_vision_model",
        "backbone_config": {
            "model_type": "sam3_vit_model", "hidden_size": 48, "num_hidden_layers": 2,
            "intermediate_size": 64, "image_size": SIDE, "patch_size": 14,
            "window_size": 4, "global_attn_indexes": [1], "pretrain_image_size": 56,
            "num_attention_heads": 2,
        },
        "fpn_hidden_size": c,
        "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
    }  # fmt: skip
    detector = {
        "model_type": "sam3",
        "vision_config": vision,
        "text_config": {
            "model_type": "clip_text_model", "vocab_size": 300, "hidden_size": 40,
            "intermediate_size": 64, "projection_dim": 16, "num_hidden_layers": 2,
            "max_position_embeddings": 32, "eos_token_id": 299, **heads,
        },
        "geometry_encoder_config": layers,
        "detr_encoder_config": layers,
        "detr_decoder_config": {**layers, "num_queries": 20},
        "mask_decoder_config": {"hidden_size": c, **heads},
    }  # fmt: skip
    tracker = {
        "model_type": "sam3_tracker_video",
        "vision_config": vision,
        "image_size": SIDE,
        "prompt_encoder_config": {
            "hidden_size": c, "image_size": SIDE, "patch_size": 14
        },
        "mask_decoder_config": {
            "hidden_size": c, "mlp_dim": 64, "iou_head_hidden_dim": c, **heads
        },
        "memory_attention_hidden_size": c,
        "memory_attention_feed_forward_hidden_size": 64,
        "memory_attention_num_layers": 1,
        "memory_attention_rope_feat_sizes": [GRID, GRID],
        "memory_encoder_hidden_size": c,
        "memory_encoder_output_channels": 64,
        "mask_downsampler_embed_dim": c,
        "memory_fuser_embed_dim": c,
        "memory_fuser_intermediate_dim": 64,
        "memory_fuser_num_layers": 1,
    }  # fmt: skip
    return Sam3VideoConfig(
        detector_config=detector, tracker_config=tracker, low_res_mask_size=32
    )


def theirs() -> Any:
    """Transformers' model with seeded weights, all of them of some size."""
    from transformers import Sam3VideoModel

    model = Sam3VideoModel(config()).eval()
    random = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            spread = 0.1 if value.ndim < 2 else value[0].numel() ** -0.5
            drawn = torch.randn(value.shape, generator=random) * spread
            is_scale = value.ndim == 1 and name.endswith("weight")
            value.copy_(drawn + 1 if is_scale else drawn)
        tracker = model.tracker_model  # one encoding of places, under two names
        tracker.prompt_encoder.shared_embedding.positional_embedding.copy_(
            tracker.shared_image_embedding.positional_embedding
        )
    return model


def folder(path: Path, model: Any) -> Path:
    """Write weights, sizes and word pieces as published; return the weights' file."""
    path.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(path)
    word_pieces(path / "tokenizer.json")
    save_file(
        {k: v.clone().contiguous() for k, v in model.state_dict().items()},
        path / "model.safetensors",
    )
    return path / "model.safetensors"
