"""Encoders in half the width: close to float32, and never mixed with it in a store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import test_hq_sam
import test_mobile_sam
import torch
from reference_sam import TINY, reference_sam
from test_sam_parity import ours

from napari_sam.core.masks import mask_iou
from napari_sam.core.prompts import WindowPrompts
from napari_sam.embeddings.task import ModelSource
from napari_sam.errors import ModelError
from napari_sam.models.registry import load_model
from napari_sam.models.sam import mobile_sam, sam
from napari_sam.models.sam.sam import Attention
from napari_sam.models.torch_model import TorchModel

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a CUDA device"))]  # fmt: skip
BUILD = {
    "sam": lambda: ours(reference_sam(TINY)),
    "hq_sam": lambda: test_hq_sam.build("vit"),
    "mobile_sam": lambda: test_mobile_sam.build(test_mobile_sam.official_state("tiny")),
}


CASES = [("sam", "bfloat16"), ("sam", "float16"), ("hq_sam", "float16"),
         ("mobile_sam", "bfloat16")]  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("family", "precision"), CASES)
def test_masks_stay_those_of_float32(family: str, precision: str, device: str) -> None:
    model = BUILD[family]()
    model = TorchModel(model.network, model.spec, device)
    image = np.zeros((1, 120, 170, 3), np.uint8)
    image[:, 30:90, 40:120] = (200, 140, 60)
    image += np.random.RandomState(0).randint(0, 40, image.shape).astype(np.uint8)
    box = WindowPrompts(box=(25, 35, 95, 125), multimask_output=False)

    def encode() -> list[np.ndarray]:
        embeddings = model.encode(image)
        assert all(a.dtype == np.float32 for a in embeddings[0].features.values())
        return [model.decode(e, box)[0].full((120, 170)) for e in embeddings]

    full = encode()
    revision = model.spec.encoder_revision
    model.encode_in(precision)
    assert model.spec.encoder_revision == f"{revision}-{precision}"
    half = encode()
    assert all(m.any() for m in full)
    ious = [mask_iou(a, b) for a, b in zip(full, half, strict=True)]
    assert min(ious) >= (0.95 if precision == "bfloat16" else 0.99), ious
    model.encode_in("float32")
    assert model.spec.encoder_revision == revision
    assert all((a == b).all() for a, b in zip(full, encode(), strict=True))


@pytest.mark.parametrize("family", BUILD)
def test_the_way_gpus_take_gives_the_same_on_a_cpu(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whole tensors and torch's fused attention instead of bands that fit a cache.
    network = BUILD[family]().network
    side = network.config.side
    n = 2 if side < 1024 else 1
    frames = torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        banded = network.encode(frames)
        fused = Attention._attend_fused
        calls: list[int] = []
        monkeypatch.setattr(
            Attention, "_attend_fused",
            lambda *given: (calls.append(1), fused(*given))[1],
        )  # fmt: skip
        for module in (sam, mobile_sam):
            monkeypatch.setattr(module, "in_bands", lambda x: False)
        whole = network.encode(frames)
        with torch.autocast("cpu", torch.bfloat16):
            half = network.encode(frames)
    assert len(calls) == (0 if family == "mobile_sam" else 2)
    for name, expected in banded.items():
        torch.testing.assert_close(whole[name], expected, atol=2e-5, rtol=0)
        assert whole[name].dtype == torch.float32
        error = (half[name].float() - expected).std() / expected.std()
        assert 1e-4 < error < 0.03, (name, error)


def test_models_multiply_in_float32_unless_asked(tmp_path: Path) -> None:
    torch.save(reference_sam(TINY).state_dict(), tmp_path / "mine.pth")
    model = load_model(tmp_path / "mine.pth", device="cpu")
    asked = []
    model.network.encode = lambda frames: (  # type: ignore[attr-defined]
        asked.append(torch.is_autocast_enabled("cpu")),
        {"image_embedding": torch.zeros(1, 64, 16, 16)},
    )[1]
    model.encode(np.zeros((1, 9, 9, 3), np.uint8))
    assert asked == [False]
    assert "-" not in model.spec.encoder_revision


def test_precision_is_chosen_while_loading(tmp_path: Path) -> None:
    torch.save(reference_sam(TINY).state_dict(), tmp_path / "mine.pth")
    model = load_model(tmp_path / "mine.pth", device="cpu", precision="bfloat16")
    assert model.spec.encoder_revision.endswith("-bfloat16")
    sent = ModelSource.of(model, device="cpu").load()
    assert sent.spec == model.spec
    with pytest.raises(ModelError, match="precision is one of"):
        load_model(tmp_path / "mine.pth", device="cpu", precision="int4")


def test_nano_says_that_it_has_one_precision() -> None:
    with pytest.raises(ModelError, match="float32 only"):
        load_model("nano", device="cpu", precision="float16")
