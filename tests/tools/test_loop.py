from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
import torch.multiprocessing
from torch import distributed

from napari_sam.models.nano.network import NanoNetwork
from tools.nano.data import CropSampler
from tools.nano.loop import Trainer, TrainOptions
from tools.nano.procedural import procedural_images

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
    assert [r["grad_norm"] for r in again] == [r["grad_norm"] for r in rows[2:]]
    for part in ("network", "average"):
        a, b = getattr(whole, part).state_dict(), getattr(resumed, part).state_dict()
        assert all(torch.equal(a[k], b[k]) for k in a)


def _train_together(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=2
    )
    trainer = Trainer(CropSampler(procedural_images(4)), folder / "state", TINY)
    list(trainer.run())
    torch.save(trainer.network.state_dict(), folder / f"{rank}.pt")
    distributed.destroy_process_group()


def test_processes_that_train_together_end_with_the_same_weights(
    sampler: CropSampler, tmp_path: Path
) -> None:
    torch.multiprocessing.spawn(_train_together, (tmp_path,), nprocs=2)
    first, second = (torch.load(tmp_path / f"{r}.pt") for r in (0, 1))
    assert all(torch.equal(first[k], second[k]) for k in first)
    alone = Trainer(sampler, tmp_path / "alone", TINY)
    list(alone.run())
    one = alone.network.state_dict()
    assert any(not torch.equal(first[k], one[k]) for k in first)


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
