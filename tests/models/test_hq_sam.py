"""HQ-SAM against arrays that its authors' code gave for the same seeded weights.

`hq_sam_golden.npz` was made once, outside this repository, by ``segment_anything/`` of
SysCV/sam-hq (names of torchvision and timm stood in for), in two sizes:

- "vit": ``ImageEncoderViT`` of `reference_sam.TINY`, ``MaskDecoderHQ(vit_dim=48)``;
- "light": ``TinyViT`` as in `test_mobile_sam`, "tiny", ``MaskDecoderHQ(vit_dim=32)``;

weights from `seeded_state`, then ``train()`` and ``eval()``, and one forward pass of
``RandomState(3).standard_normal((1, 3, side, side))``. Each prompt below was decoded
with ``hq_token_only=False``, with ``multimask_output`` on and off. Kept are names and
shapes, samples of embedding, HQ features (``embedding_encoder`` plus
``compress_vit_feat``) and mask logits, and the predicted IoU.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from seeded_weights import seeded_state

from napari_sam.core.embedding import Embedding
from napari_sam.core.masks import mask_iou
from napari_sam.core.planes import Plane
from napari_sam.core.prompts import Prompts, WindowPrompts
from napari_sam.embeddings.encode import encode_volume
from napari_sam.engine.engine import Engine
from napari_sam.engine.predict import predict
from napari_sam.errors import CheckpointError
from napari_sam.models.checkpoints import Checkpoint
from napari_sam.models.protocol import ModelSpec, PromptableModel
from napari_sam.models.registry import load_model
from napari_sam.models.sam import hq_sam, sam
from napari_sam.models.sam.decoder import PromptBatch
from napari_sam.models.torch_model import TorchModel
from napari_sam.session import Session
from napari_sam.testing import ModelContract
from napari_sam.volume.opening import open_volume

GOLDEN = np.load(Path(__file__).with_name("hq_sam_golden.npz"))
SIZES = {"vit": 256, "light": 1024}


def official_state(size: str) -> dict[str, torch.Tensor]:
    shapes = {}
    for line in GOLDEN[f"{size}_shapes"]:
        name, _, shape = str(line).partition(":")
        shapes[name] = tuple(int(n) for n in shape.split(",") if n)
    return seeded_state(shapes)


def build(size: str) -> TorchModel:
    checkpoint = Checkpoint(Path("sam_hq.pth"), official_state(size))
    return hq_sam.from_checkpoint(checkpoint, ModelSpec("hq", 0, {}, 0, ""), "cpu")


class TestTinyHqSam(ModelContract):
    def make_model(self) -> PromptableModel:
        return build("vit")


@pytest.fixture(scope="module", params=SIZES)
def encoded(request: pytest.FixtureRequest) -> tuple[str, Any, dict[str, Any]]:
    network = build(request.param).network
    side = SIZES[request.param]
    values = np.random.RandomState(3).standard_normal((1, 3, side, side))
    with torch.inference_mode():
        features = network.encode(torch.from_numpy(values.astype(np.float32)))
    return request.param, network, {k: v[0] for k, v in features.items()}


def test_features_equal_the_reference(
    encoded: tuple[str, Any, dict[str, torch.Tensor]],
) -> None:
    size, network, features = encoded
    step = SIZES[size] // 256
    embedding = features["image_embedding"][::8, ::step, ::step].numpy()
    hq = features["hq_features"][::4, :: 4 * step, :: 4 * step].numpy()
    assert np.abs(embedding - GOLDEN[f"{size}_embedding"]).max() <= 1e-4 / 2
    assert np.abs(hq - GOLDEN[f"{size}_hq"]).max() <= 1e-4 / 2
    shapes = {k: tuple(v.shape) for k, v in features.items()}
    assert shapes == network.feature_shapes


@torch.inference_mode()
def test_early_tokens_are_those_behind_the_first_global_block() -> None:
    config = sam.ViTConfig(
        side=64, dim=16, heads=2, window=2, windowed=(True, False, True, False, True),
        mlp_dim=32, out_dim=8,
    )  # fmt: skip
    encoder = sam.ImageEncoder(config)
    shapes = {k: tuple(v.shape) for k, v in encoder.state_dict().items()}
    encoder.load_state_dict(seeded_state(shapes))
    behind: list[torch.Tensor] = []
    for block in encoder.blocks:
        block.register_forward_hook(lambda _, __, out: behind.append(out.clone()))
    embedding, early = encoder.with_early_tokens(torch.ones(1, 3, 64, 64))
    assert torch.equal(early, behind[1])
    assert not any(torch.equal(early, behind[i]) for i in (0, 2, 3, 4))
    assert torch.equal(embedding, encoder(torch.ones(1, 3, 64, 64)))


def prompt_batch(name: str, side: int) -> PromptBatch:
    points = torch.tensor([[[0.3, 0.4]]]) * side
    labels = torch.ones(1, 1)
    box = torch.tensor([[0.2, 0.1, 0.7, 0.6]]) * side
    drawn = np.random.RandomState(2).standard_normal((1, side // 4, side // 4))
    return {
        "point": PromptBatch(points, labels),
        "box": PromptBatch(boxes_xyxy=box),
        "everything": PromptBatch(
            points, labels, box, torch.from_numpy(drawn.astype(np.float32)) * 4
        ),
    }[name]


@pytest.mark.parametrize("multimask", [True, False], ids=["of three", "single"])
@pytest.mark.parametrize("name", ["point", "box", "everything"])
@torch.inference_mode()
def test_masks_equal_the_reference(
    encoded: tuple[str, Any, dict[str, Any]], name: str, multimask: bool
) -> None:
    size, network, features = encoded
    image = network.prepare(features)
    prompts = prompt_batch(name, SIZES[size])
    logits, iou = network.decode(image, prompts, multimask_output=multimask)
    assert logits.shape[1] == iou.shape[1] == (3 if multimask else 1)
    best = int(iou[0].argmax())
    expected = f"{size}_{name}_{int(multimask)}"
    step = SIZES[size] // 64
    found = logits[0, best, ::step, ::step].numpy()
    assert np.abs(found - GOLDEN[expected]).max() <= 5e-5
    assert abs(float(iou[0, best]) - float(GOLDEN[f"{expected}_iou"][0])) <= 5e-5


@torch.inference_mode()
def test_prompts_decoded_together_equal_each_alone() -> None:
    network = build("vit").network
    draw = torch.Generator().manual_seed(0)
    features = {
        k: torch.randn(v, generator=draw) for k, v in network.feature_shapes.items()
    }
    image = network.prepare(features)
    points = torch.rand(3, 1, 2, generator=draw) * 256
    together, _ = network.decode(
        image, PromptBatch(points, torch.ones(3, 1)), multimask_output=True
    )
    for i in range(3):
        one = PromptBatch(points[i : i + 1], torch.ones(1, 1))
        alone, _ = network.decode(image, one, multimask_output=True)
        torch.testing.assert_close(together[i], alone[0], atol=2e-5, rtol=0)


def test_masks_survive_a_float16_store() -> None:
    model = build("vit")
    image = np.random.RandomState(0).randint(0, 255, (1, 90, 120, 3)).astype(np.uint8)
    full = model.encode(image)[0]
    features = {k: v.astype(np.float16) for k, v in full.features.items()}
    half = Embedding(features, full.original_size)
    assert half.nbytes == 2 * (64 * 16 * 16 + 8 * 64 * 64)
    box = WindowPrompts(box=(10, 20, 70, 100), multimask_output=False)
    masks = [model.decode(e, box)[0] for e in (full, half)]
    one, two = (m.full((90, 120)) for m in masks)
    assert one.any() and mask_iou(one, two) >= 0.99


def test_both_features_go_through_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build("vit")
    volume = open_volume(np.random.RandomState(0).randint(0, 255, (90, 120)))
    box, plane = (10, 20, 70, 100), Plane(())
    direct = predict(Engine.of(volume, model), Prompts.of(box=box), plane).candidates
    *_, (done, total) = encode_volume(volume, model, str(tmp_path / "emb.zarr"))
    assert done == total == 1
    features = {"image_embedding", "hq_features"}
    on_disk = {p for p in (tmp_path / "emb.zarr").rglob("*") if p.name in features}
    kinds = {p.name: json.loads((p / "zarr.json").read_text()) for p in on_disk}
    assert {k: v["data_type"] for k, v in kinds.items()} == (
        dict.fromkeys(features, "float16")
    )
    monkeypatch.setattr(model, "encode", None)  # from here on it comes from the store
    session = Session(volume, model, embeddings=str(tmp_path / "emb.zarr"))
    stored = session.segment(box=box)[0]
    assert mask_iou(stored.full((90, 120)), direct[0].full((90, 120))) >= 0.99
    session.close()


@torch.inference_mode()
def test_features_beyond_float16_are_cut_not_lost() -> None:
    network = build("vit").network
    network.mask_decoder.compress_vit_feat["3"].bias.fill_(1e6)
    hq = network.encode(torch.zeros(1, 3, 256, 256))["hq_features"]
    assert np.isfinite(hq.numpy().astype(np.float16)).all()


@pytest.mark.parametrize("size", SIZES)
def test_a_file_is_known_as_hq_sam_by_its_tensors(size: str, tmp_path: Path) -> None:
    torch.save(official_state(size), tmp_path / "mine.pth")
    model = load_model(tmp_path / "mine.pth", device="cpu")
    assert set(model.spec.feature_shapes) == {"image_embedding", "hq_features"}


def test_a_missing_high_quality_token_is_named() -> None:
    state = official_state("vit")
    del state["mask_decoder.hf_token.weight"]
    checkpoint = Checkpoint(Path("sam_hq.pth"), state)
    with pytest.raises(CheckpointError, match=r"1 missing: mask_decoder\.hf_token"):
        hq_sam.from_checkpoint(checkpoint, ModelSpec("hq", 0, {}, 0, ""), "cpu")
