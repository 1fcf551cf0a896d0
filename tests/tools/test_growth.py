from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_sam.core.prompts import WindowPrompts
from napari_sam.models.nano.generation import SECOND
from napari_sam.models.nano.nano import SeedingNano, load_nano
from napari_sam.testing.phantoms import phantom_image
from tools.nano.growth import grow


@pytest.fixture(scope="module")
def embedded() -> tuple[object, ...]:
    small = load_nano()
    torch.manual_seed(0)
    large = SeedingNano(grow(small.network))
    image = phantom_image((160, 192), n_objects=4, noise=9).image
    rgb = np.repeat(image[..., None], 3, axis=2)[None]
    return small, small.encode(rgb)[0], large, large.encode(rgb)[0]


POINT = {"points": np.array([[80.0, 90.0]]), "point_labels": np.array([1])}
SAID = np.full((128, 128), -5, np.float32)
SAID[10:30, 10:30] = 5


@pytest.mark.parametrize(
    "prompts",
    [
        pytest.param(WindowPrompts(**POINT), id="click"),
        pytest.param(WindowPrompts(box=(30.0, 40.0, 100.0, 120.0)), id="box"),
        pytest.param(WindowPrompts(mask_input=SAID), id="mask"),
        pytest.param(WindowPrompts(**POINT, mask_input=SAID), id="click-and-mask"),
    ],
)
def test_a_grown_network_answers_as_the_small_one_did(
    embedded: tuple, prompts: WindowPrompts
) -> None:
    small, before, large, after = embedded
    for a, b in zip(
        small.decode(before, prompts), large.decode(after, prompts), strict=True
    ):
        assert b.predicted_iou == pytest.approx(a.predicted_iou, abs=1e-4)
        assert np.abs(a.low_res_logits - b.low_res_logits).max() < 1e-3


def test_every_new_channel_can_learn(embedded: tuple) -> None:
    """What is silent at first has a gradient, or the growth would be for nothing."""
    network = grow(embedded[0].network)
    network.requires_grad_(True)
    image = torch.rand(1, 3, 64, 64) * 255
    batch = embedded[0]._batch([WindowPrompts(**POINT)], 64, 64)
    batch.points[:] = 30
    features = network.encoder(image, torch.ones_like(image[:, :1]))
    decoded = network.decoder(network.decoder.prepare(features), batch)
    assert network.seeds is not None
    found = network.seeds(features)
    torch.autograd.backward(
        [decoded.logits.square().mean() + decoded.iou.mean() + found.square().mean()]
    )
    for part in (
        network.decoder.merge4,
        network.decoder.masks4,
        network.decoder.refine,
    ):
        for name, p in part.named_parameters():
            assert p.grad is not None and p.grad.abs().sum() > 0, name
    silent = network.decoder.deep16.back, network.decoder.deep32.out
    assert all(m.weight.grad.abs().sum() > 0 for m in silent)  # type: ignore[union-attr]
    assert network.generation == SECOND
