"""Where re-implementations of SAM went wrong: each test fails when one is put back."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference_sam import TINY, VIT_B, reference_sam
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from napari_sam.models.checkpoints import Checkpoint, load_strict
from napari_sam.models.protocol import ModelSpec
from napari_sam.models.sam import decoder, sam
from napari_sam.models.sam.decoder import PromptBatch, SamNetwork
from napari_sam.models.sam.decoder_config import DecoderConfig


@pytest.fixture(scope="module")
def reference() -> nn.Module:
    return reference_sam(TINY)


def network_of(state: dict[str, torch.Tensor]) -> SamNetwork:
    checkpoint = Checkpoint(Path("seeded.pth"), state)
    model = sam.from_checkpoint(checkpoint, ModelSpec("seeded", 0, {}, 0, ""))
    assert isinstance(model.network, SamNetwork)
    return model.network


@pytest.fixture(scope="module")
def network(reference: nn.Module) -> SamNetwork:
    return network_of(reference.state_dict())


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def test_keys_of_the_padding_of_windows_take_part(
    reference: nn.Module, network: SamNetwork
) -> None:
    x = random(1, 16, 16, 48)
    theirs, ours = (n.image_encoder.blocks[0].attn for n in (reference, network))
    padded = torch.zeros(1, 28, 28, 48)
    padded[:, :16, :16] = x
    corner = theirs(padded[:, 14:, 14:])[:, :2, :2]
    found = ours.windows(x)[:, 14:, 14:]
    torch.testing.assert_close(found, corner, atol=1e-5, rtol=0)


class Largest(TorchDispatchMode):
    """Notes the most numbers that one result holds."""

    numel = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.numel = max(self.numel, result.untyped_storage().nbytes() // 4)
        return result


@torch.inference_mode()
def test_scores_of_all_tokens_with_all_are_never_held_at_once(
    network: SamNetwork,
) -> None:
    attention = network.image_encoder.blocks[1].attn
    with Largest() as largest:
        attention.everywhere(random(1, 16, 16, 48))
    # q, k and v are the largest here: 3 x 48 x 256. A head's scores are 256 x 256.
    assert largest.numel <= 3 * 48 * 256 < 256 * 256


@torch.inference_mode()
def test_the_image_is_not_copied_for_each_prompt(network: SamNetwork) -> None:
    first = network.mask_decoder.transformer.layers[0]
    seen: list[tuple[int, int]] = []
    note = first.register_forward_pre_hook(
        lambda module, given: seen.append((len(given[0]), len(given[2])))
    )
    image = network.prepare({"image_embedding": random(64, 16, 16)})
    points = PromptBatch(random(9, 1, 2), torch.ones(9, 1))
    network.decode(image, points, multimask_output=True)
    note.remove()
    assert seen == [(9, 1)]


@torch.inference_mode()
def test_bands_of_windows_equal_the_whole(network: SamNetwork) -> None:
    block = network.image_encoder.blocks[0]
    x = random(2, 16, 16, 48)
    whole = x + block.attn.windows(block.norm1(x))
    whole = whole + block.mlp(block.norm2(whole))
    torch.testing.assert_close(block(x.clone()), whole, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_the_first_two_way_layer_replaces_the_queries(network: SamNetwork) -> None:
    first, second = network.mask_decoder.transformer.layers
    image, zero = random(1, 256, 64), torch.zeros(1, 7, 64)
    one, other = random(1, 7, 64, seed=1), random(1, 7, 64, seed=2)
    for layer, carried in ((first, False), (second, True)):
        out = layer.self_attn.out_proj
        weight, out.weight.data = out.weight.data, torch.zeros_like(out.weight)
        a, _ = layer(one, zero, image, image)
        b, _ = layer(other, zero, image, image)
        out.weight.data = weight
        assert bool((a - b).abs().max() > 1e-3) == carried


def test_norms_have_the_epsilons_of_the_paper_s_code(network: SamNetwork) -> None:
    for name, module in network.named_modules():
        if isinstance(module, nn.LayerNorm):
            in_transformer = name.startswith("mask_decoder.transformer.")
            assert module.eps == (1e-5 if in_transformer else 1e-6), name


@torch.inference_mode()
def test_prompt_tokens_equal_the_reference_bit_for_bit(
    reference: nn.Module, network: SamNetwork
) -> None:
    points = torch.tensor([[[3.25, 200.0], [17.0, 9.5]], [[0.0, 0.0], [255.5, 255.0]]])
    labels = torch.tensor([[1, 0], [0, 1]])
    boxes = torch.tensor([[1.0, 2.0, 30.5, 40.0], [0.0, 0.0, 256.0, 256.0]])
    for given in (
        {"points": (points, labels), "boxes": None},
        {"points": (points, labels), "boxes": boxes},
        {"points": None, "boxes": boxes},
    ):
        theirs, _ = reference.prompt_encoder(**given, masks=None)
        pts, lbl = given["points"] or (None, None)
        ours = network.prompt_encoder(PromptBatch(pts, lbl, given["boxes"]))
        assert torch.equal(ours, theirs)
    pe = network.prompt_encoder.pe_layer.grid(16)
    theirs = reference.prompt_encoder.get_dense_pe().flatten(2).mT
    assert torch.equal(pe, theirs)


@torch.inference_mode()
def test_points_without_a_box_get_the_token_for_no_point(network: SamNetwork) -> None:
    encoder = network.prompt_encoder
    points, labels = torch.full((1, 1, 2), 9.0), torch.ones(1, 1)
    alone = encoder(PromptBatch(points, labels))
    boxed = encoder(PromptBatch(points, labels, torch.tensor([[1.0, 1.0, 9.0, 9.0]])))
    assert alone.shape[1] == 2 and boxed.shape[1] == 3
    assert torch.equal(alone[0, 1], encoder.not_a_point_embed.weight[0])
    assert torch.equal(alone[0, 0], boxed[0, 0])


@pytest.mark.parametrize("with_masks", [False, True], ids=["shared image", "own masks"])
@pytest.mark.parametrize("multimask_output", [False, True])
@torch.inference_mode()
def test_each_prompt_of_a_batch_is_answered_as_if_alone(
    network: SamNetwork, with_masks: bool, multimask_output: bool
) -> None:
    image = network.prepare({"image_embedding": random(64, 16, 16)})
    boxes = torch.tensor([[5.0, 9.0, 90.0, 80.0], [100.0, 20.0, 200.0, 250.0]])
    masks = 4 * random(2, 64, 64, seed=3) if with_masks else None
    ask = {"multimask_output": multimask_output}
    together, iou = network.decode(
        image, PromptBatch(boxes_xyxy=boxes, masks=masks), **ask
    )
    for i in range(2):
        own = masks[i : i + 1] if masks is not None else None
        prompt = PromptBatch(boxes_xyxy=boxes[i : i + 1], masks=own)
        alone, score = network.decode(image, prompt, **ask)
        torch.testing.assert_close(together[i], alone[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(iou[i], score[0], atol=1e-5, rtol=0)
    assert (together[0] - together[1]).abs().max() > 0.1


@torch.inference_mode()
def test_weights_loaded_after_eval_and_use_take_effect(network: SamNetwork) -> None:
    state = {k: v.flip(0) for k, v in network.state_dict().items()}
    fresh, used = network_of(state), network_of(dict(network.state_dict()))
    frame, boxes = random(1, 3, 256, 256), torch.tensor([[5.0, 9.0, 90.0, 80.0]])

    def ask(net: SamNetwork) -> torch.Tensor:
        features = {k: v[0] for k, v in net.encode(frame).items()}
        prompts = PromptBatch(boxes_xyxy=boxes, masks=random(1, 64, 64))
        return net.decode(net.prepare(features), prompts, multimask_output=True)[0]

    before = ask(used)
    used.eval().load_state_dict(state)
    assert torch.equal(ask(used), ask(fresh))
    assert not torch.equal(ask(used), before)


@pytest.mark.parametrize(
    ("dim", "depth", "heads", "windowed"),
    [
        pytest.param(768, 12, 12, (2, 5, 8, 11), id="vit_b"),
        pytest.param(1024, 24, 16, (5, 11, 17, 23), id="vit_l"),
        pytest.param(1280, 32, 16, (7, 15, 23, 31), id="vit_h"),
    ],
)
def test_official_sizes_are_read_off_the_tensors(
    dim: int, depth: int, heads: int, windowed: tuple[int, ...]
) -> None:
    config = sam.ViTConfig(
        dim=dim, heads=heads, mlp_dim=4 * dim,
        windowed=tuple(i not in windowed for i in range(depth)),
    )  # fmt: skip
    with torch.device("meta"):
        network = SamNetwork(sam.ImageEncoder(config), DecoderConfig())
    state = network.state_dict()
    checkpoint = Checkpoint(Path("x.pth"), state)
    assert sam.ViTConfig.infer(checkpoint) == config
    assert DecoderConfig.infer(checkpoint, 1024, 64) == DecoderConfig()
    if depth == 12:
        assert len(state) == 314
        assert sum(p.numel() for p in network.parameters()) == 93_735_472


def test_parameter_names_are_the_official_ones(
    reference: nn.Module, network: SamNetwork
) -> None:
    theirs = {k: v.shape for k, v in reference.state_dict().items()}
    assert {k: v.shape for k, v in network.state_dict().items()} == theirs


@pytest.mark.full_size
@torch.inference_mode()
def test_vit_b_at_full_size_equals_the_reference() -> None:
    reference = reference_sam(VIT_B)
    checkpoint = Checkpoint(Path("vit_b.pth"), reference.state_dict())
    network = load_strict(
        lambda: SamNetwork(sam.ImageEncoder(sam.ViTConfig()), DecoderConfig()),
        checkpoint,
    )
    frame = random(1, 3, 1024, 1024)
    theirs = reference.image_encoder(frame)
    ours = network.encode(frame)["image_embedding"]
    assert (ours - theirs).abs().max() <= 1e-4
    points, labels = torch.tensor([[[500.0, 375.0]]]), torch.ones(1, 1)
    sparse, dense = reference.prompt_encoder((points, labels), None, None)
    expected, expected_iou = reference.mask_decoder(
        image_embeddings=theirs,
        image_pe=reference.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=True,
    )
    image = network.prepare({"image_embedding": theirs[0]})
    found, iou = network.decode(
        image, PromptBatch(points, labels), multimask_output=True
    )
    assert (found - expected).abs().max() <= 5e-5
    assert (iou - expected_iou).abs().max() <= 5e-5
    assert np.isfinite(found.numpy()).all()


def test_neither_references_nor_what_they_need_are_required() -> None:
    # torchvision and timm ask for each other's torch; ultralytics is AGPL-3.0; sam2
    # and samv2 on the package index are forks.
    unwanted = {
        "segment_anything", "segment_anything_hq", "mobile_sam", "sam2", "samv2",
        "torchvision", "timm", "ultralytics", "fastsam", "iopath", "hydra",
    }  # fmt: skip
    root = Path(__file__).parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"]]
    for name in extras.keys() - {"dev"}:
        needed += extras[name]
    names = {re.split(r"[^\w-]", n)[0].lower().replace("-", "_") for n in needed}
    assert "torch" in names and not names & unwanted
    for path in (root / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom):
                imported = [node.module or ""]
            elif isinstance(node, ast.Import):
                imported = [alias.name for alias in node.names]
            else:
                continue
            assert not {n.split(".")[0] for n in imported} & unwanted, path


def test_gelu_in_place_is_the_exact_one() -> None:
    x = torch.linspace(-6, 6, 1001)
    expected = nn.functional.gelu(x)
    torch.testing.assert_close(decoder.gelu_(x.clone()), expected, atol=1e-6, rtol=0)
