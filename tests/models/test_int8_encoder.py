"""Encoders in 8-bit integers: masks as in float32, or a refusal with the figure."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

import numpy as np
import pytest
import test_hq_sam
import torch
from reference_sam import TINY, reference_sam
from test_sam_parity import ours

from napari_sam.cli import main
from napari_sam.core.masks import mask_iou
from napari_sam.core.prompts import WindowPrompts
from napari_sam.embeddings.task import ModelSource
from napari_sam.errors import ModelError
from napari_sam.models import int8_encoder
from napari_sam.models.registry import load_model
from napari_sam.models.torch_model import TorchModel

needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None,
    reason="openvino is not installed (it comes with the openvino extra)",
)


@pytest.fixture
def model() -> TorchModel:
    return ours(reference_sam(TINY))


@needs_openvino
@pytest.mark.parametrize("family", ["sam", "hq_sam"])
def test_masks_stay_those_of_float32(
    family: str, model: TorchModel, caplog: pytest.LogCaptureFixture
) -> None:
    if family == "hq_sam":
        model = test_hq_sam.build("vit")
    image = int8_encoder.coins()[None, 60:260, 30:300]
    box = WindowPrompts(box=(40, 50, 160, 200), multimask_output=False)
    before, revision = model.encode(image)[0], model.spec.encoder_revision
    with caplog.at_level(logging.INFO):
        model.encode_in("int8", image=image[0])
    assert "in int8: mask IoU" in caplog.text
    assert model.spec.encoder_revision == f"{revision}-int8"
    after = model.encode(np.concatenate([image, image]))
    assert len(after) == 2
    assert set(after[1].features) == set(model.spec.feature_shapes)
    for name, shape in model.spec.feature_shapes.items():
        full, rounded = before.features[name], after[1].features[name]
        assert rounded.shape == shape and rounded.dtype == np.float32
        error = np.sqrt(((full - rounded) ** 2).mean()) / full.std()
        assert 1e-4 < error < 0.05, (name, error)
    masks = [model.decode(e, box)[0].full((200, 270)) for e in (before, *after)]
    assert masks[0].any()
    assert all(mask_iou(masks[0], m) >= 0.98 for m in masks[1:])
    model.encode_in("float32")
    assert model.spec.encoder_revision == revision
    again = model.encode(image)[0].features
    assert all(np.array_equal(a, again[k]) for k, a in before.features.items())


@needs_openvino
def test_too_coarse_integers_are_refused_with_the_figure(
    model: TorchModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8_encoder, "_STEPS", 3)
    revision = model.spec.encoder_revision
    model.encode_in("bfloat16")
    with pytest.raises(ModelError, match=r"mean IoU of 0\.[0-9]{3} .* 0\.98 is") as e:
        model.encode_in("int8")
    said = float(str(e.value).split("mean IoU of ")[1][:5])
    assert said < int8_encoder.LEAST_IOU
    assert model.spec.encoder_revision == revision
    assert not torch.is_autocast_enabled("cpu")
    assert model.encode(np.zeros((1, 9, 9, 3), np.uint8))[0].original_size == (9, 9)


def test_int8_is_chosen_while_loading_and_by_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        int8_encoder, "make_encoder", lambda model, image: (model.network.encode, 1.0)
    )
    torch.save(reference_sam(TINY).state_dict(), tmp_path / "mine.pth")
    model = load_model(tmp_path / "mine.pth", device="cpu", precision="int8")
    assert model.spec.encoder_revision.endswith("-int8")
    assert ModelSource.of(model, device="cpu").load().spec == model.spec


@needs_openvino
def test_one_matrix_in_integers_is_that_of_rounded_weights() -> None:
    import openvino as ov
    from openvino import opset13 as ops

    draw = np.random.RandomState(0)
    weight = draw.standard_normal((40, 64)).astype(np.float32)
    weight[3] = 0
    x = draw.standard_normal((5, 64)).astype(np.float32)
    given = ops.parameter([5, 64], np.float32)
    product = ops.matmul(given, ops.constant(weight), False, True)
    graph = ov.Model([product], [given])
    assert int8_encoder.round_weights(graph) == 1
    exact = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
    found = ov.Core().compile_model(graph, "CPU", exact)(x)[0]
    scale = np.abs(weight).max(1, keepdims=True) / 127
    scale[3] = 1
    np.testing.assert_allclose(found, x @ (np.round(weight / scale) * scale).T, 0, 1e-4)
    assert (found[:, 3] == 0).all()
    assert np.abs(found - x @ weight.T).max() > 1e-3


@pytest.mark.parametrize("command", [["embed"], ["segment", "--point", "9,9"]])
def test_the_command_line_passes_the_precision_on(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "image.npy", int8_encoder.coins()[:64, :64, 0])
    given = [command[0], str(tmp_path / "image.npy"), *command[1:]]
    with pytest.raises(SystemExit) as end:
        main([*given, "--model", "nano", "--precision", "int8"])
    assert end.value.code == 2
    assert "nano encodes in float32 only" in capsys.readouterr().err


def test_without_openvino_the_extra_is_named(
    model: TorchModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="pip install openvino"):
        model.encode_in("int8")
    assert "int8" not in model.spec.encoder_revision


@needs_openvino
def test_int8_is_for_the_cpu(model: TorchModel) -> None:
    model._device = torch.device("meta")  # stands for a GPU
    with pytest.raises(ModelError, match=r"is on meta: load it with device='cpu'"):
        model.encode_in("int8")
