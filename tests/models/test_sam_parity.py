"""Our SAM against the authors' code, on the same seeded weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference_sam import TINY, import_segment_anything, reference_sam

from napari_sam.core.prompts import WindowPrompts
from napari_sam.models.checkpoints import Checkpoint
from napari_sam.models.protocol import ModelSpec
from napari_sam.models.sam import sam
from napari_sam.models.torch_model import TorchModel


def ours(reference: torch.nn.Module) -> TorchModel:
    checkpoint = Checkpoint(Path("seeded.pth"), reference.state_dict())
    spec = ModelSpec("seeded", 0, {}, 0, "")
    return sam.from_checkpoint(checkpoint, spec, "cpu")


@pytest.fixture(scope="module")
def reference() -> torch.nn.Module:
    return reference_sam(TINY)


@pytest.fixture(scope="module")
def model(reference: torch.nn.Module) -> TorchModel:
    return ours(reference)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.RandomState(1).randint(0, 256, (190, 251, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def predictor(reference: torch.nn.Module, image: np.ndarray) -> Any:
    predictor = import_segment_anything().SamPredictor(reference)
    predictor.set_image(image)
    return predictor


@torch.inference_mode()
def test_encoder_output_equals_the_reference(
    reference: torch.nn.Module, model: TorchModel
) -> None:
    frames = torch.randn(2, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    expected = reference.image_encoder(frames)
    found = model.network.encode(frames)["image_embedding"]
    assert expected.std() > 0.5
    assert (found - expected).abs().max() <= 1e-4 / 5


@torch.inference_mode()
def test_fused_global_attention_for_gpus_equals_the_reference(
    reference: torch.nn.Module, model: TorchModel
) -> None:
    attention = model.network.image_encoder.blocks[1].attn
    x = torch.randn(2, 16, 16, 48, generator=torch.Generator().manual_seed(0))
    qkv = attention.qkv(x).view(2, 256, 3, 3, 16)
    q, k, v = qkv.permute(2, 0, 3, 1, 4).reshape(3, -1, 256, 16)
    positions = attention._positions(q.view(-1, 16, 16, 16))
    torch.testing.assert_close(
        attention._attend_fused(q, k, v, *positions),
        attention._attend_by_rows(q, k, v, *positions),
        atol=1e-5, rtol=0,
    )  # fmt: skip


def prompt(**given: Any) -> WindowPrompts:
    if "points" in given:
        given["points"] = np.array(given["points"], float)
        given["point_labels"] = np.array(given["point_labels"])
    return WindowPrompts(**given)


MASK = np.random.RandomState(2).standard_normal((64, 64)).astype(np.float32) * 4
PROMPTS = {
    "one point": prompt(points=[(50, 80)], point_labels=[1]),
    "points of both kinds": prompt(
        points=[(50, 80), (10.5, 200), (180, 3)], point_labels=[1, 0, 1],
        multimask_output=False,
    ),
    "box": prompt(box=(20, 30, 150, 170.5), multimask_output=False),
    "box and points": prompt(
        box=(20, 30, 150, 170), points=[(50, 80), (60, 90)], point_labels=[1, 0]
    ),
    "mask alone": prompt(mask_input=MASK),
    "point and mask": prompt(points=[(50, 80)], point_labels=[1], mask_input=MASK),
    "everything": prompt(
        box=(20, 30, 150, 170), points=[(50, 80)], point_labels=[0], mask_input=MASK,
        multimask_output=False,
    ),
}  # fmt: skip


def ask_reference(predictor: Any, p: WindowPrompts) -> tuple[np.ndarray, ...]:
    n = len(p.points)
    y0, x0, y1, x1 = p.box or (0, 0, 0, 0)
    return predictor.predict(
        point_coords=p.points[:, ::-1].copy() if n else None,
        point_labels=p.point_labels if n else None,
        box=np.array([x0, y0, x1, y1], float) if p.box else None,
        mask_input=None if p.mask_input is None else p.mask_input[None],
        multimask_output=p.multimask_output,
        return_logits=True,
    )


@pytest.mark.parametrize("p", PROMPTS.values(), ids=PROMPTS.keys())
def test_masks_equal_the_reference(
    predictor: Any, model: TorchModel, image: np.ndarray, p: WindowPrompts
) -> None:
    logits, iou, low_res = ask_reference(predictor, p)
    candidates = model.decode(model.encode(image[None])[0], p)
    assert len(candidates) == len(iou) == (3 if p.multimask_output else 1)
    assert low_res.std() > 0.1
    for candidate, k in zip(candidates, np.argsort(-iou), strict=True):
        assert np.abs(candidate.low_res_logits - low_res[k]).max() <= 5e-5
        assert abs(candidate.predicted_iou - iou[k]) <= 5e-5
        sure = np.abs(logits[k]) > 1e-3
        assert (candidate.full(image.shape[:2]) == (logits[k] > 0))[sure].all()
        assert sure.mean() > 0.95
