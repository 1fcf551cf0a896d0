from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from napari_sam.models.nano_network import NanoNetwork
from napari_sam.training.data import CropSampler
from napari_sam.training.loop import Trainer, TrainOptions
from napari_sam.training.procedural import procedural_images

if TYPE_CHECKING:
    from pathlib import Path

TINY = TrainOptions(
    steps=4, warmup_steps=2, decay_steps=2, sides=((64, 2, 0.5), (96, 1, 0.5))
)


@pytest.fixture(scope="module")
def sampler() -> CropSampler:
    return CropSampler(procedural_images(4))


def test_a_killed_run_resumes_to_the_same_bits(
    sampler: CropSampler, tmp_path: Path
) -> None:
    whole = Trainer(sampler, tmp_path / "whole", TINY)
    rows = list(whole.run())
    killed = Trainer(sampler, tmp_path / "killed", TINY)
    for _ in killed.run():
        if killed.step == 2:
            killed.save()
        if killed.step == 3:  # the third step is lost with the process
            break
    resumed = Trainer(sampler, tmp_path / "killed", TINY)
    assert resumed.step == 2
    again = list(resumed.run())
    assert [r["loss_0"] for r in again] == [r["loss_0"] for r in rows[2:]]
    for part in ("network", "average"):
        a, b = getattr(whole, part).state_dict(), getattr(resumed, part).state_dict()
        assert all(torch.equal(a[k], b[k]) for k in a)


def test_a_finished_run_can_be_extended(sampler: CropSampler, tmp_path: Path) -> None:
    list(Trainer(sampler, tmp_path, replace(TINY, steps=1)).run())
    longer = Trainer(sampler, tmp_path, replace(TINY, steps=2))
    assert [row["step"] for row in longer.run()] == [2]
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["step", "1", "2"]


def test_only_the_ranking_head_changes_when_asked(
    sampler: CropSampler, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    start = NanoNetwork()
    options = replace(TINY, only_ranking=True)
    trainer = Trainer(sampler, tmp_path, options, start=start)
    list(trainer.run())
    after = trainer.network.state_dict()
    for name, before in start.state_dict().items():
        changed = not torch.equal(before, after[name])
        assert changed == name.startswith("decoder.iou."), name


def test_rate_is_warmed_up_held_and_lowered() -> None:
    options = TrainOptions(steps=100, warmup_steps=10, decay_steps=20)
    rates = [options.rate(step) for step in range(100)]
    assert rates[0] < rates[5] < rates[10] == rates[79] == options.learning_rate
    assert rates[99] < 0.05 * options.learning_rate


def test_an_error_in_the_background_is_raised(
    sampler: CropSampler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no crop")

    monkeypatch.setattr(sampler, "batch", broken)
    with pytest.raises(RuntimeError, match="no crop"):
        list(Trainer(sampler, tmp_path, TINY).run())
