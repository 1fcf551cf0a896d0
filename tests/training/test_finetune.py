"""Fine-tuning: better on images held back, resumable, repeatable, never a loss."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_sams import SIDE, small_medsam, small_mobile_sam, small_sam

from napari_sam.errors import Cancelled, CheckpointError, ModelError, VolumeError
from napari_sam.models.checkpoints import file_sha256
from napari_sam.models.registry import list_models, load_model, remove_model
from napari_sam.testing import phantom_image, phantom_volume
from napari_sam.training import decoder_loop, finetune
from napari_sam.training.decoder_loop import Progress
from napari_sam.training.finetune import TrainingResult, train
from napari_sam.training.held_back import overall

CELLS = [phantom_image((SIDE, SIDE), n_objects=2, seed=i) for i in range(8)]
FEW_STEPS = (4, 8)
"""Steps of an epoch, where they need not teach anything."""
IMAGES, LABELS = [c.image for c in CELLS], [c.labels for c in CELLS]


@pytest.fixture(autouse=True)
def own_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAPARI_SAM_CONFIG", str(tmp_path / "config"))
    monkeypatch.setattr(decoder_loop, "_STEPS", FEW_STEPS)


def tuned(out: Path, **options: Any) -> TrainingResult:
    options = {"epochs": 2, "name": "cells", **options}
    return train(small_sam(), IMAGES, LABELS, out=out, **options)


def test_a_random_sam_gets_better_and_appears_in_the_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder_loop, "_STEPS", (16, 32))
    said: list[Progress] = []
    result = tuned(tmp_path, epochs=8, progress=said.append)
    assert result.kept
    assert overall(result.after) > overall(result.before) + 0.1
    assert result.images == (4, 2, 2)
    assert result.path == tmp_path / "cells.safetensors"
    assert [m.name for m in list_models()][-1] == "cells"
    assert load_model("cells", device="cpu").spec.name == "cells"
    assert said[0].stage == "score before"
    assert max(p.epoch for p in said) == 8
    assert "box" in result.table() and f"{overall(result.after):.3f}" in result.table()
    written = json.loads((tmp_path / "cells.json").read_text())
    assert written["after"]["box"] == pytest.approx(result.after.mean["box"])
    scores = [row["score"] for row in result.history]
    assert max(scores[1:]) > scores[0]


def test_the_encoder_stays_and_the_model_given_stays_as_it_is(tmp_path: Path) -> None:
    model = small_sam()
    before = {k: v.clone() for k, v in model.network.state_dict().items()}
    train(model, IMAGES, LABELS, out=tmp_path, name="cells", epochs=1, replace=True)
    after = load_model("cells", device="cpu").network.state_dict()  # type: ignore[attr-defined]
    moved = {k for k, v in before.items() if not np.array_equal(v, after[k])}
    assert moved
    assert not any(k.startswith("image_encoder.") for k in moved)
    now = model.network.state_dict()
    assert all(np.array_equal(v, now[k]) for k, v in before.items())


def test_the_same_seed_gives_the_same_file_and_another_seed_another(
    tmp_path: Path,
) -> None:
    paths = [
        tuned(tmp_path / name, seed=seed, replace=True).path
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    first, again, other = (file_sha256(p) for p in paths)
    assert first == again
    assert first != other


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    whole = tuned(tmp_path / "whole", replace=True)
    steps: list[Progress] = []

    def tell(progress: Progress) -> None:
        if progress.stage == "train":
            steps.append(progress)

    for _ in range(2):  # in the middle of both epochs
        steps.clear()
        with pytest.raises(Cancelled, match="train again"):
            tuned(
                tmp_path / "cut", replace=True, progress=tell,
                cancel=lambda: len(steps) >= 3,
            )  # fmt: skip
    steps.clear()
    cut = tuned(tmp_path / "cut", replace=True, progress=tell)
    assert len(steps) == 2 * FEW_STEPS[0] - 6
    assert file_sha256(cut.path) == file_sha256(whole.path)
    drop = {"seconds"}
    for a, b in zip(whole.history, cut.history, strict=True):
        assert {k: v for k, v in a.items() if k not in drop} == {
            k: v for k, v in b.items() if k not in drop
        }


_VICTIM = """
import sys
sys.path.insert(0, {here!r})
import test_finetune
from pathlib import Path
test_finetune.decoder_loop._STEPS = test_finetune.FEW_STEPS
def tell(progress):
    print(progress.stage, progress.epoch, flush=True)
test_finetune.tuned(Path({out!r}), replace=True, progress=tell)
"""


def test_a_killed_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    whole = tuned(tmp_path / "whole", replace=True)
    here = str(Path(__file__).parent)
    out = tmp_path / "killed"
    victim = subprocess.Popen(
        [sys.executable, "-c", _VICTIM.format(here=here, out=str(out))],
        stdout=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert victim.stdout is not None
    with victim.stdout as lines:
        for line in lines:
            if line.split() == ["train", "2"]:  # in the second epoch
                victim.send_signal(signal.SIGKILL)
                break
    assert victim.wait() == -signal.SIGKILL
    assert not (out / "cells.safetensors").exists()
    (state,) = out.glob("work/*/state.pt")
    first: list[Progress] = []
    resumed = tuned(out, replace=True, progress=first.append)
    assert state.exists()
    assert next(p for p in first if p.stage == "train").epoch == 2
    assert file_sha256(resumed.path) == file_sha256(whole.path)


def worse_from(monkeypatch: pytest.MonkeyPatch, *scores: float) -> None:
    """Make the judge say these, one after the other."""
    left = list(scores)
    monkeypatch.setattr(finetune, "overall", lambda _: left.pop(0))


def test_a_model_made_worse_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    worse_from(monkeypatch, 0.7, 0.6)
    result = tuned(tmp_path)
    assert not result.kept
    assert "worse" in result.message and "0.700 -> 0.600" in result.message
    assert "replace=True" in caplog.text
    assert result.path.name == "cells.rejected.safetensors" and result.path.exists()
    assert not (tmp_path / "cells.safetensors").exists()
    assert "cells" not in [m.name for m in list_models()]


def test_a_better_model_of_the_name_is_replaced_only_when_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worse_from(monkeypatch, 0.5, 0.6)
    good = tuned(tmp_path)
    assert good.kept
    kept = file_sha256(good.path)
    worse_from(monkeypatch, 0.5, 0.55, 0.6)
    refused = tuned(tmp_path, seed=1)
    assert not refused.kept
    assert "'cells'" in refused.message and "0.600 against 0.550" in refused.message
    assert file_sha256(good.path) == kept == load_model("cells").spec.sha256
    worse_from(monkeypatch, 0.5, 0.55, 0.6)
    told = tuned(tmp_path, seed=1, replace=True)
    assert told.kept
    assert load_model("cells").spec.sha256 == file_sha256(told.path) != kept
    assert file_sha256(tmp_path / "cells.previous.safetensors") == kept


def test_a_vanished_model_of_the_name_is_no_obstacle(tmp_path: Path) -> None:
    tuned(tmp_path, replace=True).path.unlink()
    with pytest.raises(CheckpointError):
        load_model("cells")
    assert tuned(tmp_path, seed=1, replace=True).kept
    remove_model("cells")


def test_nano_is_trained_and_stays_a_nano(tmp_path: Path) -> None:
    cells = [phantom_image((48, 64), n_objects=2, seed=i) for i in range(3)]
    result = train(
        "nano", [c.image for c in cells], [c.labels for c in cells],
        out=tmp_path, name="mine", epochs=1, replace=True, device="cpu",
    )  # fmt: skip
    again = load_model("mine", device="cpu")
    assert type(again) is type(load_model("nano", device="cpu"))
    assert again.spec.sha256 == file_sha256(result.path)
    assert result.images == (1, 1, 1)


def test_lora_changes_the_encoder(tmp_path: Path) -> None:
    few = {"epochs": 1, "replace": True, "lora": True}
    result = tuned(tmp_path / "a", **few)
    before = small_sam().network.state_dict()
    after = load_model(result.path, device="cpu").network.state_dict()  # type: ignore[attr-defined]
    assert set(before) == set(after)
    moved = {
        k
        for k, v in before.items()
        if k.startswith("image_encoder.") and not np.array_equal(v, after[k])
    }
    assert moved == {f"image_encoder.blocks.{i}.attn.qkv.weight" for i in range(3)}
    assert file_sha256(tuned(tmp_path / "b", **few).path) == file_sha256(result.path)


def test_mobile_sam_is_trained(tmp_path: Path) -> None:
    result = train(
        small_mobile_sam(), IMAGES[:3], LABELS[:3], out=tmp_path, epochs=1, replace=True
    )
    assert result.name == "small_mobile_sam_tuned"
    assert load_model(result.name, device="cpu").spec.input_side == 1024


def test_16_bit_volumes_with_channels_train_by_planes(tmp_path: Path) -> None:
    stack = phantom_volume((12, SIDE, SIDE), n_objects=2, dtype="uint16")
    channels = np.stack([stack.image, stack.image[::-1]], 1)  # (z, c, y, x)
    from napari_sam.volume.opening import open_volume

    volume = open_volume(channels, axes="zcyx")
    result = train(
        small_sam(), volume, stack.labels, out=tmp_path, name="v", epochs=1,
        replace=True,
    )  # fmt: skip
    used = sum(result.images)
    assert used == sum(bool((p > 0).any()) for p in stack.labels)
    assert all(n >= 1 for n in result.images)


def test_medsam_is_prompted_with_boxes_and_stays_a_medsam(tmp_path: Path) -> None:
    result = train(
        small_medsam(), IMAGES, LABELS, out=tmp_path, name="b", epochs=1, replace=True
    )
    assert "box" in result.after.mean and "click1" not in result.after.mean
    assert load_model("b", device="cpu").spec.prompts == {"box"}


def test_a_worse_model_gets_the_name_where_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worse_from(monkeypatch, 0.7, 0.6)
    result = tuned(tmp_path, epochs=1, replace=True)
    assert result.kept
    assert "worse" in result.message and "as asked" in result.message
    assert load_model("cells", device="cpu").spec.sha256 == file_sha256(result.path)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        pytest.param(
            {"labels": [0 * v for v in LABELS]}, VolumeError, "no labelled object",
            id="no objects",
        ),
        pytest.param(
            {"images": IMAGES[:2], "labels": LABELS[:2]}, VolumeError, "at least 3",
            id="too few",
        ),
        pytest.param({"validation": 0.6}, VolumeError, "below 0.5", id="validation"),
        pytest.param({"model": "nono"}, ModelError, "unknown model", id="unknown"),
        pytest.param(
            {"model": "sam2.1_hiera_t"}, ModelError, "can, and files", id="sam2"
        ),
        pytest.param({"name": "nano"}, ModelError, "choose a new one", id="taken"),
        pytest.param({"epochs": 0}, ModelError, "1 or more", id="epochs"),
        pytest.param(
            {"model": "nano", "lora": True}, ModelError, "no attention", id="nano-lora"
        ),
    ],
)  # fmt: skip
def test_bad_input_says_what_to_do(
    wrong: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"model": small_sam(), "images": IMAGES, "labels": LABELS}
    given |= {"name": "cells", "out": tmp_path, **wrong}
    with pytest.raises(error, match=message):
        train(**given)
    assert not (tmp_path / "cells.safetensors").exists()


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("sam2.1_hiera_t", "sam2.1_hiera_t"),
        ("runs/my.cells.safetensors", "my.cells"),
        ("medsam:runs/liver.pth", "liver"),
    ],
)
def test_a_result_without_a_name_is_called_after_its_model(
    given: str, name: str
) -> None:
    assert finetune._called(given) == name


def test_a_file_to_write_to_is_refused_before_anything_is_read():
    with pytest.raises(ModelError, match=r"out is a folder.*name="):
        train("nano", "nowhere", "nowhere", out="cells.safetensors")
