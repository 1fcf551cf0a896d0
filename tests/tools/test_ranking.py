from __future__ import annotations

import torch

from napari_sam.models.nano.nano import Nano
from napari_sam.models.nano.network import NanoNetwork
from tools.nano.procedural import procedural_images
from tools.nano.ranking import Evidence, collect_evidence, fit_ranking


def _nano() -> Nano:
    torch.manual_seed(0)
    return Nano(NanoNetwork())


def test_evidence_lists_every_prompt_with_its_candidates() -> None:
    model = _nano()
    evidence = collect_evidence(model, procedural_images(2), n_images=2)
    n = len(evidence.datasets)
    assert evidence.inputs.shape[:2] == evidence.reached.shape == (n, 3)
    assert 0 <= evidence.reached.min() <= evidence.reached.max() <= 1


def test_a_fitted_head_follows_its_evidence() -> None:
    model = _nano()
    n_inputs = model.network.decoder.iou.mlp[0].in_features
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(300, 3, n_inputs, generator=generator) * 7 + 3
    reached = (inputs[..., 0] > 3).float() * 0.6
    fit_ranking(model, Evidence(inputs, reached, ("a",) * 300), epochs=20)
    said = model.network.decoder.iou.mlp(inputs).squeeze(2).sigmoid()
    assert said[reached > 0.5].mean() > said[reached < 0.5].mean()
