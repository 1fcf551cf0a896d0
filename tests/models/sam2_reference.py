"""A small SAM 2 in the authors' layout, and what their code gave for it.

`sam2_golden.npz` was made once, outside this repository, by the code of
facebookresearch/sam2 at commit 2b90b9f (iopath, hydra and three names of torchvision
stood in for; torchvision's `Resize` is `interpolate` with ``mode="bilinear",
align_corners=False, antialias=True``). Each model is built from the authors' YAML with
weights from `seeded_state` under their names:

- "mini": ``sam2.1_hiera_t.yaml`` with image_size 128; trunk embed_dim 16, num_heads 1,
  stages [1, 2, 3, 2], global_att_blocks [4]; d_model and every 256 of neck and memory
  128, dim_feedforward 64, 2 memory layers, 1 fuser layer, feat_sizes [8, 8];
  ``dynamic_multimask_via_stability`` with 0.05 and 0.98 as `build_sam2` sets.
- "t", "s", "b+", "l", "2.0_t": names and shapes of the published sizes alone.

Kept are each model's tensors as "name:shape", and for "mini" what `SAM2ImagePredictor`
made of `window()`: the frame's every eighth pixel, its three feature maps (of the finer
two every second row and column), and for each of `CASES` the masks, their predicted IoU
and the low-resolution logits.

"track_..." are low-resolution logits by plane from `SAM2VideoPredictor` (with
`binarize_mask_from_pts_for_mem_enc`, as it is built for use) on the six windows of
`test_sam2_memory`, with mask prompts on key planes, and the bias of
`pred_obj_score_head.layers.2` set to 3. Key masks are stripes between multiples of four
pixels, which a way through low resolution leaves as they are, and blobs, which it does
not: the authors remember key masks after that way, transformers remembers them whole.
"two_objects_1" and "..._2" are two objects of one run; in "corrected" a mask came late
to plane 3, after all planes had been followed, and those from 4 on were followed again.
"from_..." are bits of the masks on planes 3 to 5 that followed from clicks or a box on
plane 2 (`add_new_points_or_box`).

"full_..." are samples of what the published tiny model gave at its full size ("t") and
at MedSAM2's ("t512": image_size 512, feat_sizes [32, 32]) for ``window(0, side, side)``
and a click at row 0.6, column 0.4 of the side: `fine_4[::8, ::16, ::16]`, `fine_8`
alike, `image_embedding[::8, ::8, ::8]` with `no_mem_embed`, IoU, every eighth logit.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from seeded_weights import seeded_state

from napari_sam.core.prompts import WindowPrompts
from napari_sam.models.checkpoints import Checkpoint
from napari_sam.models.protocol import ModelSpec
from napari_sam.models.sam2 import sam2
from napari_sam.models.sam2.keys import Hiera

GOLDEN = np.load(Path(__file__).with_name("sam2_golden.npz"))
MINI = Hiera(heads=1, windows=(8, 4, 14, 7), global_blocks=(4,))
MINI_SIDE = 128

_POINTS = np.array([[40.0, 30.0], [20.0, 50.0], [70.0, 10.0]])  # (y, x)
_BOX = (15.0, 12.0, 80.0, 55.0)


def _mask() -> np.ndarray:
    values = np.random.RandomState(5).standard_normal((1, 32, 32)) * 15
    return values[0].astype(np.float32)


CASES = {
    "point": WindowPrompts(_POINTS[:1], np.array([1])),
    "point_single": WindowPrompts(_POINTS[:1], np.array([1]), multimask_output=False),
    "points": WindowPrompts(_POINTS, np.array([1, 0, 1]), multimask_output=False),
    "box": WindowPrompts(box=_BOX, multimask_output=False),
    "box_multi": WindowPrompts(box=_BOX),
    "box_points": WindowPrompts(
        _POINTS[:2], np.array([1, 0]), box=_BOX, multimask_output=False
    ),
    "mask": WindowPrompts(mask_input=_mask(), multimask_output=False),
    "points_mask": WindowPrompts(
        _POINTS[:2], np.array([1, 0]), mask_input=_mask(), multimask_output=False
    ),
}


def window(seed: int = 0, h: int = 90, w: int = 70) -> np.ndarray:
    """Coarse and fine noise, (h, w, 3) uint8."""
    random = np.random.RandomState(seed)
    coarse = np.kron(
        random.randint(0, 255, (h // 10, w // 10, 3)), np.ones((10, 10, 1))
    )
    return np.clip(coarse + random.randint(-20, 20, coarse.shape), 0, 255).astype(
        np.uint8
    )


def shapes(model: str) -> dict[str, tuple[int, ...]]:
    """Every tensor of a model in the authors' layout."""
    lines = (str(line).partition(":") for line in GOLDEN[f"{model}_shapes"])
    return {k: tuple(int(n) for n in v.split(",") if n) for k, _, v in lines}


@cache
def mini_state() -> dict[str, torch.Tensor]:
    """Seeded tensors of the small model, by the authors' names."""
    return seeded_state(shapes("mini"))


def mini(state: dict[str, torch.Tensor] | None = None) -> sam2.Sam2:
    """Build the small model."""
    checkpoint = Checkpoint(Path("mini.pt"), state or mini_state(), "of-mini")
    spec = ModelSpec("mini", 0, {}, 0, "")
    return sam2.from_checkpoint(checkpoint, spec, "cpu", side=MINI_SIDE, hiera=MINI)
