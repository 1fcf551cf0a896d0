"""Decoders with gradients answer as in use, and their gradients are right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_sams import SIDE, small_mobile_sam, small_sam

from napari_sam.core.prompts import WindowPrompts
from napari_sam.errors import ModelError
from napari_sam.models.nano.nano import load_nano
from napari_sam.models.nano.prompt_maps import PaddedPrompts
from napari_sam.training.lora import encode, merged_state
from napari_sam.training.trainable import (
    TrainableLora,
    private_copy,
    trainable_of,
    weights_hash,
)

RNG = np.random.default_rng(5)
IMAGE = RNG.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
FORMS = [
    pytest.param(WindowPrompts(np.array([[20.0, 31.0]]), np.array([1])), id="click"),
    pytest.param(
        WindowPrompts(
            np.array([[20.0, 31.0], [5.0, 9.0]]), np.array([1, 0]),
            mask_input=RNG.normal(0, 3, (SIDE // 4,) * 2).astype(np.float32),
            multimask_output=False,
        ),
        id="clicks-and-mask",
    ),
    pytest.param(
        WindowPrompts(
            np.array([[7.0, 8.0]]), np.array([0]), box=(4, 6, 40, 50),
            multimask_output=False,
        ),
        id="box-and-click",
    ),
]  # fmt: skip


def batch_of(prompts: WindowPrompts, pad: int = 0) -> PaddedPrompts:
    """One row; `pad` columns without a point come first."""
    n = len(prompts.points)
    m, has_prev = SIDE // 4, prompts.mask_input is not None
    prev = np.zeros((m, m), np.float32) if prompts.mask_input is None else None
    return PaddedPrompts(
        torch.zeros(1, dtype=torch.int64),
        torch.from_numpy(np.r_[np.zeros((pad, 2)), prompts.points])[None].float(),
        torch.from_numpy(np.r_[np.full(pad, -1), prompts.point_labels])[None].view(
            1, pad + n
        ),
        torch.tensor([prompts.box or (0, 0, 0, 0)]).float(),
        torch.tensor([float(prompts.box is not None)]),
        torch.from_numpy(prompts.mask_input if has_prev else prev)[None],
        torch.tensor([float(has_prev)]),
    )


@pytest.mark.parametrize("prompts", FORMS)
@pytest.mark.parametrize("pad", [0, 2])
def test_sam_in_training_answers_as_in_use(prompts: WindowPrompts, pad: int) -> None:
    model = small_sam()
    (embedding,) = model.encode(IMAGE[None])
    expected = model.decode(embedding, prompts)
    trainable = trainable_of(private_copy(model))
    ready = trainable.prepare(trainable.features(embedding))
    (answer,) = trainable.decode(ready, batch_of(prompts, pad))
    order = answer.iou[0].detach().argsort(descending=True)
    assert answer.low_res.requires_grad
    assert len(expected) == len(order)
    for candidate, k in zip(expected, order, strict=True):
        found = answer.low_res[0, k].detach().numpy()
        assert np.allclose(found, candidate.low_res_logits, atol=1e-5)
        assert float(answer.iou[0, k].detach()) == pytest.approx(
            candidate.predicted_iou, abs=1e-6
        )


def test_rows_of_all_forms_are_answered_where_they_stand() -> None:
    model = small_sam()
    (embedding,) = model.encode(IMAGE[None])
    trainable = trainable_of(model)
    ready = trainable.prepare(trainable.features(embedding))
    one = [batch_of(p.values[0], 2 - len(p.values[0].points)) for p in FORMS]
    rows = [one[i] for i in (0, 2, 1, 0)]
    names = ("image_of", "points", "labels", "box", "has_box", "prev", "has_prev")
    together = PaddedPrompts(*(torch.cat([getattr(r, n) for r in rows]) for n in names))
    for answer in trainable.decode(ready, together):
        for row, low_res in zip(answer.rows.tolist(), answer.low_res, strict=True):
            (alone,) = trainable.decode(ready, rows[row])
            assert torch.allclose(alone.low_res[0], low_res, atol=1e-5)


@pytest.mark.parametrize("prompts", FORMS)
def test_gradients_through_the_decoder_are_those_of_differences(
    prompts: WindowPrompts,
) -> None:
    model = small_sam()
    (embedding,) = model.encode(IMAGE[None])
    trainable = trainable_of(model)
    model.network.double()
    features = {k: v.double() for k, v in trainable.features(embedding).items()}
    batch = batch_of(prompts)
    for name in ("points", "box", "prev"):
        setattr(batch, name, getattr(batch, name).double())
    parameters = list(trainable.parameters().values())

    def value() -> torch.Tensor:
        network = model.network
        (answer,) = _decoded(trainable, network, features, batch)
        return answer.sin().sum()

    generator = torch.Generator().manual_seed(1)
    ways = [
        torch.randn(p.shape, generator=generator, dtype=torch.float64)
        for p in parameters
    ]
    grads = torch.autograd.grad(value(), parameters, allow_unused=True)
    slope = sum(
        float((g * w).sum()) for g, w in zip(grads, ways, strict=True) if g is not None
    )
    step, ends = 1e-6, []
    for sign in (1, -1):
        with torch.no_grad():
            for p, w in zip(parameters, ways, strict=True):
                p += sign * step * w
            ends.append(float(value().detach()))
            for p, w in zip(parameters, ways, strict=True):
                p -= sign * step * w
    assert slope == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-4)


def _decoded(trainable, network, features, batch):  # type: ignore[no-untyped-def]
    """Low-res logits at the precision of the network."""
    from napari_sam.training.trainable import _sam_prompts

    n = int((batch.labels >= 0).sum())
    rows = torch.zeros(1, dtype=torch.int64)
    some = _sam_prompts(batch, rows, n, bool(batch.has_box[0]), bool(batch.has_prev[0]))
    lone = n == 1 and not batch.has_box[0] and not batch.has_prev[0]
    ready = trainable.prepare(features)
    return network.decode(ready, some, multimask_output=bool(lone))[:1]


def test_nano_in_training_answers_as_in_use() -> None:
    model = load_nano()
    image = np.random.default_rng(0).integers(0, 256, (1, 70, 90, 3), np.uint8)
    (embedding,) = model.encode(image)
    prompts = WindowPrompts(np.array([[30.0, 40.0]]), np.array([1]), box=(9, 9, 60, 80))
    expected = model.decode(embedding, prompts)
    trainable = trainable_of(private_copy(model))
    h, w = trainable.frame_shape((70, 90))
    batch = batch_of(prompts)
    batch.prev = torch.zeros(1, h // 4, w // 4)
    ready = trainable.prepare(trainable.features(embedding))
    (answer,) = trainable.decode(ready, batch)
    best = int(answer.iou[0].argmax())
    low_res = expected[0].low_res_logits[: h // 4, : w // 4]
    found = answer.low_res[0, best].detach().clamp(-30, 30).numpy()
    assert np.allclose(found, low_res, atol=1e-4)
    assert answer.logits.shape[2:] == (h // 2, w // 2)


def test_a_part_of_nanos_frame_is_cut_from_all_maps() -> None:
    trainable = trainable_of(load_nano())
    image = np.random.default_rng(0).integers(0, 256, (1, 128, 128, 3), np.uint8)
    features = trainable.features(trainable.model.encode(image)[0])
    part = trainable.cut(features, (32, 64, 96, 128))
    for name, values in part.items():
        stride = 128 // features[name].shape[-1]
        assert values.shape[-2:] == (64 // stride, 64 // stride)
        expected = features[name][..., 32 // stride :, 64 // stride :]
        assert torch.equal(values[..., :1, :1], expected[..., :1, :1])


@pytest.mark.parametrize("build", [small_sam, small_mobile_sam])
def test_encoders_with_gradients_encode_the_same(build) -> None:  # type: ignore[no-untyped-def]
    model = build()
    frames = torch.from_numpy(RNG.normal(size=(1, 3, SIDE, SIDE))).float()
    with torch.inference_mode():
        expected = model.network.encode(frames)["image_embedding"]
    trainable = trainable_of(model, with_lora=True)
    assert isinstance(trainable, TrainableLora)
    found = encode(model.network.image_encoder, frames)
    assert found.requires_grad
    assert torch.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("build", [small_sam, small_mobile_sam])
def test_additions_become_part_of_the_weights(build) -> None:  # type: ignore[no-untyped-def]
    plain, model = build(), build()
    names = set(plain.network.state_dict())
    trainable = trainable_of(model, with_lora=True)
    added = [p for k, p in trainable.parameters().items() if k.endswith(".up")]
    assert added
    for p in added:
        torch.nn.init.normal_(p, std=0.3)
    frames = torch.from_numpy(RNG.normal(size=(1, 3, SIDE, SIDE))).float()
    expected = encode(model.network.image_encoder, frames).detach()
    state = merged_state(model.network)
    assert set(state) == names
    with torch.inference_mode():
        before = plain.network.encode(frames)["image_embedding"]
        plain.network.load_state_dict(state)
        after = plain.network.encode(frames)["image_embedding"]
    assert torch.allclose(after, expected, atol=1e-4)
    assert not torch.allclose(after, before, atol=1e-2)


@pytest.mark.parametrize("build", [small_sam, small_mobile_sam])
def test_additions_leave_keys_alone(build) -> None:  # type: ignore[no-untyped-def]
    plain, model = build(), build()
    trainable = trainable_of(model, with_lora=True)
    for k, p in trainable.parameters().items():
        if k.endswith(".up"):
            torch.nn.init.ones_(p)
    state, name = merged_state(model.network), "attn.qkv.weight"
    (key, *_) = [k for k in state if k.endswith(name)]
    change = (state[key] - plain.network.state_dict()[key]).abs().amax(1)
    attention = plain.network.get_submodule(key.removesuffix(".qkv.weight"))
    dim = state[key].shape[1]
    if build is small_sam:
        parts = change.view(3, dim)
    else:
        parts = change.view(attention.heads, 3, -1).transpose(0, 1).reshape(3, dim)
    assert (parts[1] == 0).all()
    assert (parts[0] > 0).all()
    assert (parts[2] > 0).all()


def test_weights_written_are_read_by_their_loader(tmp_path: Path) -> None:
    from napari_sam.models.registry import load_model

    model = small_sam(3)
    path = tmp_path / "mine.safetensors"
    trainable_of(private_copy(model)).write(path)
    again = load_model(path, device="cpu")
    assert weights_hash(small_sam(4)) != weights_hash(model)
    ours, theirs = (m.network.state_dict() for m in (model, again))
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_whoever_holds_a_model_keeps_its_weights() -> None:
    model = small_sam()
    before = weights_hash(model)
    trainable = trainable_of(private_copy(model))
    with torch.no_grad():
        for p in trainable.parameters().values():
            p += 1
    assert weights_hash(model) == before
    assert not any(p.requires_grad for p in model.network.parameters())


def test_nano_has_nothing_for_lora_to_add_to() -> None:
    with pytest.raises(ModelError, match="no attention"):
        trainable_of(load_nano(), with_lora=True)


def test_other_models_are_refused_with_those_that_can_be_trained() -> None:
    from napari_sam.testing import ToyModel

    with pytest.raises(ModelError, match="SAM"):
        trainable_of(ToyModel())
