"""The SAM authors' own code, for parity tests; it misses only names of torchvision."""

from __future__ import annotations

import importlib.util
import sys
import types
from functools import partial
from typing import Any

import pytest
import torch
from seeded_weights import seeded_state

TINY = {
    "side": 256,
    "dim": 48,
    "depth": 3,
    "heads": 3,
    "global_blocks": (1,),
    "out": 64,
}
"""Two windowed blocks (16 x 16 tokens: padded to 28 x 28) and a global one."""
VIT_B = {
    "side": 1024, "dim": 768, "depth": 12, "heads": 12,
    "global_blocks": (2, 5, 8, 11), "out": 256,
}  # fmt: skip


def import_segment_anything() -> Any:
    """Import segment-anything 1.0; where torchvision is missing, stand in for it."""
    if importlib.util.find_spec("segment_anything") is None:
        pytest.skip("segment-anything is not installed (it comes with the dev extra)")
    if "segment_anything" in sys.modules or importlib.util.find_spec("torchvision"):
        return importlib.import_module("segment_anything")
    return _import_with(_torchvision(), "segment_anything")


def reference_mobile_sam(state: dict[str, torch.Tensor]) -> torch.nn.Module:
    """Build MobileSAM from its tensors by its authors' code, if that can be found."""
    stand_ins = {} if importlib.util.find_spec("torchvision") else _torchvision()
    if importlib.util.find_spec("timm") is None:
        stand_ins |= _timm()
    sam = _import_with(stand_ins, "mobile_sam").sam_model_registry["vit_t"]()
    sam.load_state_dict(state)
    sam.train()
    return sam.eval()  # once more after loading: it keeps a copy of what it loaded


def _import_with(stand_ins: dict[str, types.ModuleType], name: str) -> Any:
    """Import a package that asks for others which are stood in for."""
    sys.modules.update(stand_ins)
    try:
        return importlib.import_module(name)
    finally:
        for stand_in in stand_ins:
            del sys.modules[stand_in]


def reference_sam(sizes: dict[str, Any]) -> torch.nn.Module:
    """Build the reference with seeded weights."""
    import_segment_anything()
    from segment_anything import modeling

    grid = sizes["side"] // 16
    encoder = modeling.ImageEncoderViT(
        depth=sizes["depth"], embed_dim=sizes["dim"], img_size=sizes["side"],
        mlp_ratio=4, norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        num_heads=sizes["heads"], patch_size=16, qkv_bias=True, use_rel_pos=True,
        global_attn_indexes=sizes["global_blocks"], window_size=14,
        out_chans=sizes["out"],
    )  # fmt: skip
    sam = modeling.Sam(
        image_encoder=encoder,
        prompt_encoder=modeling.PromptEncoder(
            embed_dim=sizes["out"],
            image_embedding_size=(grid, grid),
            input_image_size=(sizes["side"], sizes["side"]),
            mask_in_chans=16,
        ),
        mask_decoder=modeling.MaskDecoder(
            num_multimask_outputs=3,
            transformer=modeling.TwoWayTransformer(
                depth=2, embedding_dim=sizes["out"], mlp_dim=2048, num_heads=8
            ),
            transformer_dim=sizes["out"],
            iou_head_depth=3,
            iou_head_hidden_dim=256,
        ),
    )
    sam.load_state_dict(
        seeded_state({k: tuple(v.shape) for k, v in sam.state_dict().items()})
    )
    return sam.eval()


@torch.no_grad()
def with_objects(sam: torch.nn.Module) -> torch.nn.Module:
    """Let a network of seeded weights give small masks with scores worth keeping.

    Logits are scaled up and lowered by a constant, so that few pixels are above 0.
    """
    decoder = sam.mask_decoder
    for mlp in decoder.output_hypernetworks_mlps:  # type: ignore[union-attr]
        last = mlp.layers[-1]
        last.weight *= 60
        last.bias *= 60
        last.weight[0], last.bias[0] = 0, -45
    upscaling = decoder.output_upscaling[3]  # type: ignore[index, union-attr]
    upscaling.weight[:, 0], upscaling.bias[0] = 0, 1
    iou = decoder.iou_prediction_head.layers[-1]  # type: ignore[union-attr]
    iou.weight *= 0.2
    iou.bias[:] = 0.85
    return sam


def _timm() -> dict[str, types.ModuleType]:
    class DropPath(torch.nn.Identity):
        def __init__(self, drop_prob: float) -> None:
            super().__init__()
            self.drop_prob = drop_prob

    names = ["timm", "timm.models", "timm.models.layers", "timm.models.registry"]
    modules = {name: types.ModuleType(name) for name in names}
    layers = modules["timm.models.layers"]
    layers.DropPath = DropPath  # type: ignore[attr-defined]
    layers.to_2tuple = lambda n: (n, n)  # type: ignore[attr-defined]
    layers.trunc_normal_ = torch.nn.init.trunc_normal_  # type: ignore[attr-defined]
    modules["timm.models.registry"].register_model = lambda f: f  # type: ignore[attr-defined]
    return modules


def _torchvision() -> dict[str, types.ModuleType]:
    import numpy as np
    from PIL import Image

    def resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
        return image.resize(size[::-1], Image.Resampling.BILINEAR)

    names = [
        "torchvision", "torchvision.ops", "torchvision.ops.boxes",
        "torchvision.transforms", "torchvision.transforms.functional",
    ]  # fmt: skip
    modules = {name: types.ModuleType(name) for name in names}
    boxes = modules["torchvision.ops.boxes"]
    boxes.batched_nms = _batched_nms  # type: ignore[attr-defined]
    boxes.box_area = _box_area  # type: ignore[attr-defined]
    functional = modules["torchvision.transforms.functional"]
    functional.resize = resize  # type: ignore[attr-defined]
    functional.to_pil_image = lambda a: Image.fromarray(np.asarray(a))  # type: ignore[attr-defined]
    return modules


def _box_area(boxes: torch.Tensor) -> torch.Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _batched_nms(
    boxes: torch.Tensor, scores: torch.Tensor, _: torch.Tensor, iou_threshold: float
) -> torch.Tensor:
    """Non-maximum suppression, one box after the other, all of one category."""
    waiting = torch.argsort(scores, descending=True, stable=True)
    kept = []
    while len(waiting):
        best, waiting = waiting[0], waiting[1:]
        kept.append(best)
        low = torch.maximum(boxes[best, :2], boxes[waiting, :2])
        high = torch.minimum(boxes[best, 2:], boxes[waiting, 2:])
        shared = (high - low).clamp(min=0).prod(1)
        union = _box_area(boxes[best][None]) + _box_area(boxes[waiting]) - shared
        waiting = waiting[~(shared / union > iou_threshold)]
    return torch.stack(kept) if kept else torch.zeros(0, dtype=torch.long)
