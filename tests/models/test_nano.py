"""nano: the contract that every model keeps, and what is its own."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from napari_sam.core.masks import mask_iou
from napari_sam.core.prompts import WindowPrompts
from napari_sam.errors import CheckpointError, ModelError, PromptError
from napari_sam.models.nano.encoder import standardise
from napari_sam.models.nano.generation import GENERATIONS, Generation
from napari_sam.models.nano.nano import MASK_SIDE, Nano, load_nano, write_weights
from napari_sam.models.nano.network import (
    Decoded,
    NanoNetwork,
    Prepared,
)
from napari_sam.models.nano.prompt_maps import PaddedPrompts
from napari_sam.models.nano.seeds import peaks
from napari_sam.models.protocol import SeedingModel
from napari_sam.testing import ModelContract
from napari_sam.testing.phantoms import phantom_image

SHIPPED = Path(str(resources.files("napari_sam"))) / "weights" / "nano.safetensors"


def _random_nano() -> Nano:
    torch.manual_seed(0)
    return Nano(NanoNetwork())


class TestNanoContract(ModelContract):
    def make_model(self) -> Nano:
        return _random_nano()


class TestShippedNanoContract(ModelContract):
    def make_model(self) -> Nano:
        return load_nano()


@pytest.mark.parametrize(
    ("shape", "n_objects", "on_average", "least", "best_of_three"),
    [((256, 256), 6, 0.95, 0.9, 0.97), ((512, 512), 4, 0.85, 0.6, 0.9)],
    ids=["small", "large"],
)
def test_shipped_weights_find_phantoms_by_boxes_and_clicks(
    shape: tuple[int, int],
    n_objects: int,
    on_average: float,
    least: float,
    best_of_three: float,
) -> None:
    """A box clearly beats its inscribed ellipse; a click finds the object it is in."""
    model, clicked = load_nano(), []
    for seed in range(4):
        phantom = phantom_image(shape, n_objects=n_objects, seed=seed)
        rgb = np.repeat(phantom.image[..., None], 3, axis=2)
        embedding = model.encode(rgb[None])[0]
        for object_id in range(1, phantom.n_objects + 1):
            truth = phantom.labels == object_id
            box = WindowPrompts(box=phantom.box(object_id))
            best = model.decode(embedding, box)[0]
            assert mask_iou(best.full(truth.shape), truth) >= 0.95
            centre = np.array([phantom.center(object_id)])
            click = WindowPrompts(points=centre, point_labels=np.array([1]))
            found = model.decode(embedding, click)
            clicked.append([mask_iou(c.full(truth.shape), truth) for c in found])
    first = np.array(clicked)[:, 0]
    assert first.mean() >= on_average and first.min() >= least
    assert np.max(clicked, axis=1).mean() >= best_of_three


@pytest.mark.parametrize(
    ("point_labels", "decodes"),
    [
        pytest.param([1], 1, id="lone-click"),
        pytest.param([0, 0], 1, id="held-at-once"),
        pytest.param([1, 1], 2, id="held-at-the-second-look"),
        pytest.param([1, 0], 3, id="never-held"),
    ],
)
def test_a_mask_that_misses_a_click_is_looked_at_again(
    point_labels: list[int], decodes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, seen = _random_nano(), []

    def forward(ready: Prepared, batch: PaddedPrompts) -> Decoded:
        """Nothing at first, everything once there is a mask."""
        seen.append(batch)
        value = torch.where(batch.has_prev > 0, 5.0, -5.0)[:, None, None, None]
        h, w = ready.base4.shape[-2:]
        p = len(batch.image_of)
        return Decoded(
            value.expand(p, 3, 2 * h, 2 * w),
            value.expand(p, 3, h, w),
            torch.full((p, 3), 0.5),
        )

    embedding = model.encode(np.zeros((1, 64, 64, 3), np.uint8))[0]
    monkeypatch.setattr(model.network.decoder, "forward", forward)
    points = np.array([[20, 20], [40, 40]])[: len(point_labels)]
    prompts = WindowPrompts(points=points, point_labels=np.array(point_labels))
    best = model.decode(embedding, prompts)[0]
    assert len(seen) == decodes
    assert bool(best.area) == (decodes > 1)


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param((512, 512), id="frame"),
        pytest.param((100, 33), id="not-aligned"),
        pytest.param((1, 200), id="one-pixel-thin"),
        pytest.param((7, 5), id="tiny"),
    ],
)
def test_windows_of_any_size_give_masks_inside_them(shape: tuple[int, int]) -> None:
    model = _random_nano()
    rng = np.random.default_rng(0)
    window = rng.integers(0, 255, (1, *shape, 3), np.uint8)
    embedding = model.encode(window)[0]
    prompts = WindowPrompts(
        np.array([[shape[0] // 2, shape[1] // 2]], float), np.array([1])
    )
    found = model.decode(embedding, prompts)
    assert len(found) == 3
    for candidate in found:
        y0, x0, y1, x1 = candidate.bbox
        assert 0 <= y0 <= y1 <= shape[0]
        assert 0 <= x0 <= x1 <= shape[1]
        assert candidate.low_res_logits.shape == (MASK_SIDE, MASK_SIDE)
        assert np.isfinite(candidate.low_res_logits).all()


def test_padding_does_not_reach_the_features() -> None:
    """A window and the same window with other bytes beyond it are the same to nano."""
    network = NanoNetwork().eval()
    image = torch.rand(1, 3, 64, 64) * 255
    valid = torch.zeros(1, 1, 64, 64)
    valid[..., :40, :50] = 1
    other = torch.where(valid > 0, image, torch.rand_like(image) * 255)
    with torch.inference_mode():
        for a, b in zip(
            network.encoder(image, valid), network.encoder(other, valid), strict=True
        ):
            assert torch.equal(a, b)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda x: x * 0.5, id="half-contrast"),
        pytest.param(lambda x: x * 257, id="sixteen-bit"),
        pytest.param(lambda x: x + 40, id="brighter"),
    ],
)
def test_standardising_undoes_linear_changes(change: object) -> None:
    image, valid = torch.rand(2, 3, 64, 64) * 100, torch.ones(2, 1, 64, 64)
    changed = standardise(change(image), valid)  # type: ignore[operator]
    assert torch.allclose(changed, standardise(image, valid), atol=1e-3)


def test_inverting_only_flips_the_sign_of_the_input() -> None:
    image, valid = torch.rand(1, 3, 64, 64) * 255, torch.ones(1, 1, 64, 64)
    flipped = standardise(255 - image, valid)
    assert torch.allclose(flipped, -standardise(image, valid), atol=1e-4)


def test_too_large_a_window_is_refused() -> None:
    with pytest.raises(ModelError, match="up to 512"):
        _random_nano().encode(np.zeros((1, 513, 20, 3), np.uint8))


def test_mask_input_of_another_side_is_refused() -> None:
    model = _random_nano()
    embedding = model.encode(np.zeros((1, 64, 64, 3), np.uint8))[0]
    with pytest.raises(PromptError, match="mask_input"):
        model.decode(
            embedding, WindowPrompts(mask_input=np.zeros((256, 256), np.float32))
        )


@pytest.mark.parametrize("generation", GENERATIONS.values(), ids=GENERATIONS)
def test_weights_survive_a_round_trip(generation: Generation, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = NanoNetwork(generation)
    write_weights(network, tmp_path / "n.safetensors")
    loaded = load_nano(tmp_path / "n.safetensors")
    assert loaded.network.generation == generation
    assert isinstance(loaded, SeedingModel) == generation.seeds
    assert len(loaded.spec.sha256) == 64
    for a, b in zip(
        network.state_dict().values(), loaded.network.state_dict().values(), strict=True
    ):
        assert torch.equal(a.half().float(), b)


def test_weights_of_an_unknown_generation_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "n.safetensors"
    save_file({}, path, metadata={"model": "nano", "revision": "9"})
    with pytest.raises(CheckpointError, match="expected a generation of 1, 2; got 9"):
        load_nano(path)


def test_seeds_are_the_peaks_inside_the_window_best_first() -> None:
    maps = torch.zeros(3, 32, 32)
    maps[0], maps[1] = 9, -9  # all foreground, no boundary
    for y, x, depth in ((8, 8, 0.6), (20, 12, 0.9), (28, 28, 1.0)):
        maps[2, y - 1 : y + 2, x - 1 : x + 2] = depth
    found = peaks(maps, (50, 64))  # the third one lies below the window
    assert found[:, :2].tolist() == [[40.5, 24.5], [16.5, 16.5]]
    assert found[:, 2] == pytest.approx([0.9, 0.6], abs=0.01)


@pytest.mark.parametrize(
    "raw",
    [pytest.param(b"", id="empty"), pytest.param(b"\x80\x04junk" * 50, id="pickle")],
)
def test_damaged_weights_are_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(raw)
    with pytest.raises(CheckpointError, match="no readable checkpoint"):
        load_nano(path)


def test_shipped_weights_fit_in_the_wheel() -> None:
    assert SHIPPED.stat().st_size <= 12_000_000
