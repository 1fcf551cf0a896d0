"""MedSAM against its authors' way of putting pixels in and getting masks out.

What `reference` does with SAM's own network is what their MedSAM_Inference.py says.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from reference_sam import TINY, reference_sam
from skimage import transform

from napari_sam.core.planes import Plane
from napari_sam.core.prompts import Prompts, WindowPrompts
from napari_sam.engine.engine import Engine
from napari_sam.engine.predict import predict
from napari_sam.engine.refine import refine
from napari_sam.errors import PromptError
from napari_sam.models.checkpoints import Checkpoint
from napari_sam.models.protocol import ModelSpec
from napari_sam.models.sam import medsam
from napari_sam.volume.opening import open_volume

SIDE = 256
IMAGES = {
    "wide": (150, 301),
    "tall": (400, 90),
    "square": (256, 256),
    "larger": (512, 600),
}


def seeded_image(size: tuple[int, int]) -> np.ndarray:
    noise = np.random.RandomState(4).randint(20, 190, (9, 9, 3)).astype(float)
    return transform.resize(noise, size, order=1, preserve_range=True).astype(np.uint8)


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    return reference_sam(TINY)


@pytest.fixture(scope="module")
def model(network: torch.nn.Module) -> medsam.MedSam:
    checkpoint = Checkpoint(Path("medsam_vit_b.pth"), network.state_dict())
    return medsam.from_checkpoint(checkpoint, ModelSpec("m", 0, {}, 0, ""), "cpu")


def reference_pixels(image: np.ndarray) -> np.ndarray:
    small = transform.resize(
        image, (SIDE, SIDE), order=3, preserve_range=True, anti_aliasing=True
    ).astype(np.uint8)
    return (small - small.min()) / np.clip(small.max() - small.min(), 1e-8, None)


@torch.inference_mode()
def reference(
    network: torch.nn.Module, image: np.ndarray, box_xyxy: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities over the image, and low-resolution logits."""
    height, width = image.shape[:2]
    pixels = torch.tensor(reference_pixels(image)).float().permute(2, 0, 1)[None]
    scaled = box_xyxy / np.array([width, height, width, height]) * SIDE
    sparse, dense = network.prompt_encoder(
        points=None, boxes=torch.as_tensor(scaled[None, None]).float(), masks=None
    )
    logits, _ = network.mask_decoder(
        image_embeddings=network.image_encoder(pixels),
        image_pe=network.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=False,
    )
    enlarged = torch.nn.functional.interpolate(
        torch.sigmoid(logits), (height, width), mode="bilinear", align_corners=False
    )
    return enlarged[0, 0].numpy(), logits[0, 0].numpy()


@pytest.mark.parametrize("size", IMAGES.values(), ids=IMAGES.keys())
def test_masks_equal_the_reference(
    network: torch.nn.Module, model: medsam.MedSam, size: tuple[int, int]
) -> None:
    image = seeded_image(size)
    h, w = size
    box = (0.2 * h, 0.1 * w, 0.8 * h, 0.7 * w)
    likely, logits = reference(network, image, np.array(box)[[1, 0, 3, 2]])
    found = model.decode(model.encode(image[None])[0], WindowPrompts(box=box))
    assert len(found) == 1
    assert np.abs(found[0].low_res_logits - logits).max() <= 5e-5
    sure = np.abs(likely - 0.5) > 1e-4
    assert 0.02 < (likely > 0.5).mean() < 0.98 and sure.mean() > 0.95
    assert (found[0].full(size) == (likely > 0.5))[sure].all()


@pytest.mark.parametrize("size", IMAGES.values(), ids=IMAGES.keys())
def test_pixels_equal_the_reference(size: tuple[int, int]) -> None:
    image = seeded_image(size)
    frame = medsam.to_frame(image, SIDE).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(frame, reference_pixels(image), atol=1e-7)
    assert frame.min() == 0 and frame.max() == 1


def test_an_image_of_one_value_is_black_not_nan() -> None:
    frame = medsam.to_frame(np.full((30, 40, 3), 77, np.uint8), SIDE)
    assert (frame == 0).all()


@pytest.mark.parametrize(
    ("prompts", "got"),
    [
        (WindowPrompts(np.array([[3.0, 4.0]]), np.array([1])), "got 1 points"),
        (
            WindowPrompts(np.array([[3.0, 4.0]]), np.array([0]), box=(0, 0, 9, 9)),
            "got 1 points",
        ),
        (WindowPrompts(mask_input=np.zeros((64, 64), np.float32)), "got no box"),
    ],
    ids=["point", "box and point", "mask"],
)
def test_prompts_it_was_not_trained_on_are_refused(
    model: medsam.MedSam, prompts: WindowPrompts, got: str
) -> None:
    embedding = model.encode(np.zeros((1, 30, 40, 3), np.uint8))[0]
    with pytest.raises(PromptError, match=f"boxes alone; {got}.*sam_vit_b"):
        model.decode(embedding, prompts)


def test_a_mask_beside_a_box_changes_nothing(model: medsam.MedSam) -> None:
    embedding = model.encode(seeded_image((90, 120))[None])[0]
    box = (10.0, 20.0, 70.0, 100.0)
    drawn = np.full((64, 64), 6, np.float32)
    alone, beside = (
        model.decode(embedding, WindowPrompts(box=box, mask_input=m))[0]
        for m in (None, drawn)
    )
    assert (alone.low_res_logits == beside.low_res_logits).all()


@pytest.mark.parametrize("form", ["box", "polygon"])
def test_a_large_object_is_found_and_not_asked_for_with_masks(
    model: medsam.MedSam, form: str
) -> None:
    volume = open_volume(seeded_image((900, 800)))
    engine = Engine.of(volume, model)
    corners = ((50.0, 40.0), (850.0, 60.0), (800.0, 760.0), (60.0, 700.0))
    prompts = {
        "box": Prompts(box=(50, 40, 850, 760)),
        "polygon": Prompts(polygon=corners),
    }[form]
    found = predict(engine, prompts, Plane(()))
    assert found.window.level > 0 and found.candidates[0].area > 0
    assert list(refine(engine, found, Plane(()))) == []
