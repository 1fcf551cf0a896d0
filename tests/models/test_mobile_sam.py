"""MobileSAM against arrays that its authors' code gave for the same seeded weights.

`mobile_sam_golden.npz` was made once, outside this repository, by
``mobile_sam/modeling/tiny_vit_sam.py`` of ChaoningZhang/MobileSAM (four names of timm
stood in for): ``TinyViT(img_size=1024, mlp_ratio=4, mbconv_expand_ratio=4,
local_conv_size=3, drop rates 0, window_sizes=[7, 7, 14, 7])`` with

- "full": embed_dims [64, 128, 160, 320], depths [2, 2, 6, 2], num_heads [2, 4, 5, 10];
- "tiny": embed_dims [16, 32, 32, 64], depths [1, 1, 2, 1], num_heads [1, 1, 2, 2], and
  stride 1 in ``layers[2].downsample.conv2.c`` (its code sets that for 320 channels);

weights from `seeded_state` under ``image_encoder.<name>``, then ``train()`` and
``eval()`` so that its cached biases are those loaded, then one forward pass of
``RandomState(3).standard_normal((1, 3, 1024, 1024))``. Kept are every parameter's name
and shape, ``output[::8, ::4, ::4]``, and each channel's mean and standard deviation.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from seeded_weights import seeded_state

from napari_sam.core.prompts import WindowPrompts
from napari_sam.errors import CheckpointError
from napari_sam.models.checkpoints import Checkpoint
from napari_sam.models.protocol import ModelSpec
from napari_sam.models.registry import load_model
from napari_sam.models.sam import mobile_sam
from napari_sam.models.sam.decoder import MaskDecoder, PromptEncoder
from napari_sam.models.sam.decoder_config import DecoderConfig
from napari_sam.models.torch_model import TorchModel

GOLDEN = np.load(Path(__file__).with_name("mobile_sam_golden.npz"))


def official_state(size: str) -> dict[str, torch.Tensor]:
    """Every tensor of a checkpoint, by the authors' names, classifier included."""
    shapes = {}
    for line in GOLDEN[f"{size}_shapes"]:
        name, _, shape = str(line).partition(":")
        shapes[name] = tuple(int(n) for n in shape.split(",") if n)
    decoder = DecoderConfig()
    parts = {
        "prompt_encoder": PromptEncoder(decoder),
        "mask_decoder": MaskDecoder(decoder),
    }
    for prefix, module in parts.items():
        for name, tensor in module.state_dict().items():
            shapes[f"{prefix}.{name}"] = tuple(tensor.shape)
    return seeded_state(shapes)


def build(state: dict[str, torch.Tensor]) -> TorchModel:
    checkpoint = Checkpoint(Path("mobile_sam.pt"), state)
    return mobile_sam.from_checkpoint(checkpoint, ModelSpec("m", 0, {}, 0, ""), "cpu")


def frame() -> torch.Tensor:
    values = np.random.RandomState(3).standard_normal((1, 3, 1024, 1024))
    return torch.from_numpy(values.astype(np.float32))


@pytest.mark.parametrize("size", ["tiny", "full"])
@torch.inference_mode()
def test_encoder_output_equals_the_reference(size: str) -> None:
    network = build(official_state(size)).network
    found = network.encode(frame())["image_embedding"][0]
    sample = found[::8, ::4, ::4].numpy()
    assert np.abs(sample - GOLDEN[f"{size}_sample"]).max() <= 1e-4 / 2
    means, stds = found.mean((1, 2)).numpy(), found.std((1, 2)).numpy()
    np.testing.assert_allclose(means, GOLDEN[f"{size}_channel_means"], atol=1e-5)
    np.testing.assert_allclose(stds, GOLDEN[f"{size}_channel_stds"], atol=1e-5)


def test_sizes_of_the_official_model_are_read_off_its_tensors() -> None:
    checkpoint = Checkpoint(Path("x"), official_state("full"))
    inferred = mobile_sam.TinyViTConfig.infer(checkpoint)
    assert inferred == mobile_sam.TinyViTConfig()
    encoder = [k for k in checkpoint.state if k.startswith("image_encoder.")]
    assert len(encoder) == 302
    decoder = DecoderConfig.infer(checkpoint, 1024, 64)
    assert decoder == DecoderConfig()


@torch.inference_mode()
def test_attention_biases_changed_after_eval_take_effect() -> None:
    attention = mobile_sam.Attention(32, 2, 7).eval()
    x = torch.randn(1, 14, 14, 32, generator=torch.Generator().manual_seed(0))
    before = attention(x)
    biases = torch.linspace(-3, 3, 98).view(2, 49)
    attention.load_state_dict({**attention.state_dict(), "attention_biases": biases})
    assert (attention(x) - before).abs().max() > 1e-3


@torch.inference_mode()
def test_batch_norm_changed_after_eval_takes_effect() -> None:
    conv = mobile_sam.ConvNorm(4, 4, 3).eval()
    x = torch.randn(1, 8, 8, 4, generator=torch.Generator().manual_seed(0))
    conv(x)
    conv.bn.running_mean += 0.5
    conv.bn.running_var *= 3
    expected = conv.bn(conv.c(x.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)
    torch.testing.assert_close(conv(x), expected, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_bottleneck_in_bands_equals_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    block = mobile_sam.MBConv(8, 4).eval()
    x = torch.randn(1, 37, 9, 8, generator=torch.Generator().manual_seed(0))
    in_bands = block(x)
    monkeypatch.setattr(mobile_sam, "_ROWS_AT_ONCE", 1000)
    torch.testing.assert_close(in_bands, block(x), atol=1e-6, rtol=0)


def test_a_missing_bias_is_named() -> None:
    state = official_state("tiny")
    del state["image_encoder.layers.2.blocks.1.attn.qkv.bias"]
    with pytest.raises(
        CheckpointError, match=r"1 missing: .*blocks\.1\.attn\.qkv\.bias"
    ):
        build(state)


def test_tinysam_reads_masks_1_to_3_whatever_the_prompt(tmp_path: Path) -> None:
    torch.save(official_state("tiny"), tmp_path / "tinysam_42.3.pth")
    model = load_model(tmp_path / "tinysam_42.3.pth", device="cpu")
    mobile = load_model(f"mobile_sam:{tmp_path / 'tinysam_42.3.pth'}", device="cpu")
    embedding = model.encode(np.zeros((1, 60, 90, 3), np.uint8))[0]
    box = {"box": (10.0, 10.0, 40.0, 70.0)}
    found = model.decode(embedding, WindowPrompts(**box, multimask_output=False))
    expected = mobile.decode(embedding, WindowPrompts(**box, multimask_output=True))
    assert len(found) == 3
    for one, other in zip(found, expected, strict=True):
        assert (one.low_res_logits == other.low_res_logits).all()
    single = mobile.decode(embedding, WindowPrompts(**box, multimask_output=False))
    assert len(single) == 1


def test_one_click_gives_three_masks_of_the_window() -> None:
    model = build(official_state("tiny"))
    image = np.random.RandomState(0).randint(0, 255, (60, 90, 3)).astype(np.uint8)
    click = WindowPrompts(np.array([[30.0, 40.0]]), np.array([1]))
    candidates = model.decode(model.encode(image[None])[0], click)
    scores = [c.predicted_iou for c in candidates]
    assert len(scores) == 3 and scores == sorted(scores, reverse=True)
    assert all(c.full((60, 90)).sum() == c.area for c in candidates)
