"""Pixels into SAM's frame and logits out of it, as the reference does both."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from reference_sam import TINY, import_segment_anything, reference_sam
from torch.nn import functional as F

from napari_sam.core.preprocess import ResizeTransform
from napari_sam.models import input_frame

SIZES = [
    pytest.param((190, 251), id="smaller"),
    pytest.param((256, 256), id="same"),
    pytest.param((700, 500), id="larger"),
    pytest.param((17, 31), id="tiny"),
    pytest.param((600, 3), id="thin"),
    pytest.param((301, 300), id="almost square"),
]


def image(size: tuple[int, int]) -> np.ndarray:
    return np.random.RandomState(0).randint(0, 256, (*size, 3)).astype(np.uint8)


@pytest.mark.parametrize("size", SIZES)
def test_frame_equals_the_reference(size: tuple[int, int]) -> None:
    import_segment_anything()
    from segment_anything.utils.transforms import ResizeLongestSide

    pixels = image(size)
    theirs = ResizeLongestSide(256).apply_image(pixels)
    resize = ResizeTransform(size, 256)
    ours = input_frame.resize_image(pixels, resize.input_size)
    assert np.array_equal(ours, theirs)
    tensor = torch.as_tensor(theirs).permute(2, 0, 1)[None]
    expected = reference_sam(TINY).preprocess(tensor)[0]
    assert torch.equal(input_frame.to_frame(pixels, resize), expected)


def logits(kind: str) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    noise = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    if kind == "noise":
        return 2 * noise
    if kind == "disc":
        return 12 - ((y - 20) ** 2 + (x - 30) ** 2).sqrt() + 0.1 * noise
    if kind == "corner":
        return 5 - (y**2 + x**2).sqrt()
    if kind == "everywhere":
        return torch.full((64, 64), 3.0)
    return torch.full((64, 64), -3.0)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["noise", "disc", "corner", "everywhere", "nothing"])
def test_masks_equal_the_reference(size: tuple[int, int], kind: str) -> None:
    low_res, resize = logits(kind), ResizeTransform(size, 256)
    sam = reference_sam(TINY)
    full = sam.postprocess_masks(low_res[None, None], resize.input_size, size)[0, 0]
    found = input_frame.to_candidate(low_res, 0.5, resize)
    sure = (full.abs() > 1e-4).numpy()
    assert np.array_equal(found.full(size)[sure], (full > 0).numpy()[sure])
    assert sure.mean() > 0.99
    outer = int((full > -1).sum())
    expected = int((full > 1).sum()) / outer if outer else 0.0
    assert found.stability_score == pytest.approx(expected, abs=1e-3)
    assert np.array_equal(found.low_res_logits, low_res.numpy())
    y0, x0, y1, x1 = found.bbox
    assert found.mask.shape == (y1 - y0, x1 - x0)
    if kind == "nothing":
        assert found.bbox == (0, 0, 0, 0)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["noise", "disc", "corner", "everywhere", "nothing"])
def test_stretched_masks_are_resized_in_one_step(
    size: tuple[int, int], kind: str
) -> None:
    low_res = logits(kind)
    # SAM2Transforms.postprocess_masks, without its filling of holes.
    full = F.interpolate(low_res[None, None], size, mode="bilinear")[0, 0]
    found = input_frame.to_candidate(
        low_res, 0.5, ResizeTransform(size, 256, stretch=True)
    )
    sure = (full.abs() > 1e-4).numpy()
    assert np.array_equal(found.full(size)[sure], (full > 0).numpy()[sure])
    assert sure.mean() > 0.99


def test_only_the_neighbourhood_of_the_object_is_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = torch.full((64, 64), -9.0)
    small[10:14, 20:25] = 4
    computed = []
    counted = input_frame.crop_mask
    monkeypatch.setattr(
        input_frame,
        "crop_mask",
        lambda mask: computed.append(mask.shape) or counted(mask),
    )
    input_frame.to_candidate(small, 0.5, ResizeTransform((256, 256), 256))
    assert computed[0][0] <= 6 * 4 + 8 and computed[0][1] <= 7 * 4 + 8


def test_a_caller_s_logits_are_not_shared_with_the_candidate() -> None:
    low_res = logits("disc")
    found = input_frame.to_candidate(low_res, 0.5, ResizeTransform((256, 256), 256))
    low_res.zero_()
    assert found.low_res_logits.any()
