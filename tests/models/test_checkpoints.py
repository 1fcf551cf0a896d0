from __future__ import annotations

import hashlib
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from napari_sam.errors import CheckpointError
from napari_sam.models import checkpoints

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2)}


class Linear(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = torch.nn.Linear(3, 2)


WRAPPED = {
    "plain": STATE,
    "model": {"model": STATE},
    "micro-sam": {
        "model_state": {f"sam.{k}": v for k, v in STATE.items()},
        "decoder_state": {"x": torch.zeros(1)},
        "epoch": 3,
    },
    "data parallel": {"state_dict": {f"module.{k}": v for k, v in STATE.items()}},
    "lightning": {
        "state_dict": {f"model.{k}": v for k, v in STATE.items()}
        | {"criterion.weight": torch.ones(1)},
        "hyper_parameters": {"lr": 0.1},
        "pytorch-lightning_version": "2.5.0",
    },
    "compiled in lightning in ddp": {
        "state_dict": {f"module._orig_mod.net.sam.{k}": v for k, v in STATE.items()}
    },
    "ddp in compile": {f"_orig_mod.module.{k}": v for k, v in STATE.items()},
    "one part compiled": {f"a._orig_mod.{k[2:]}": v for k, v in STATE.items()},
    "nested": {
        "model_state_dict": {"net": {f"sam_model.{k}": v for k, v in STATE.items()}}
    },
    "averaged": {"n_averaged": torch.tensor(3)}
    | {f"module.{k}": v for k, v in STATE.items()},
    "sharded": {f"_fsdp_wrapped_module.{k}": v for k, v in STATE.items()},
}


@pytest.mark.parametrize("content", WRAPPED.values(), ids=WRAPPED.keys())
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_pickled_tensors_are_read_from_every_wrapper(
    tmp_path: Path, content: dict, legacy: bool
) -> None:
    path = tmp_path / "weights.pth"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    checkpoint = checkpoints.read(path)
    assert checkpoint.state.keys() == STATE.keys()
    assert torch.equal(checkpoint.state["a.weight"], STATE["a.weight"])
    assert checkpoint.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_safetensors_are_read_with_their_metadata(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(STATE, path, metadata={"model": "nano"})
    checkpoint = checkpoints.read(path)
    assert torch.equal(checkpoint.state["a.bias"], STATE["a.bias"])
    assert checkpoint.metadata == {"model": "nano"}


class Malicious:
    def __reduce__(self) -> tuple:
        return os.mkdir, (os.environ["CRAFTED_PICKLE_TARGET"],)


@pytest.mark.parametrize("form", ["torch zip", "torch legacy", "bare pickle"])
def test_a_crafted_pickle_is_refused_and_never_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    target = tmp_path / "was_here"
    monkeypatch.setenv("CRAFTED_PICKLE_TARGET", str(target))
    path, content = tmp_path / "weights.pth", {**STATE, "x": Malicious()}
    if form == "bare pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        zipped = form == "torch zip"
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"weights\.pth"):
        checkpoints.read(path)
    assert not target.exists()
    pickle.loads(pickle.dumps(Malicious()))
    assert target.exists(), "the crafted object must do harm where unpickled"


def test_a_pickled_module_gives_its_tensors(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    torch.save(module, tmp_path / "module.pth")
    held = checkpoints.read(tmp_path / "module.pth").state
    expected = module.state_dict()
    assert held.keys() == expected.keys()
    assert all(torch.equal(held[name], expected[name]) for name in held)


def test_modules_of_unknown_code_are_refused_with_what_to_do(tmp_path: Path) -> None:
    torch.save(Linear(), tmp_path / "module.pth")
    with pytest.raises(CheckpointError, match=r"Linear.*no part.*state_dict"):
        checkpoints.read(tmp_path / "module.pth")


def test_a_pickled_module_of_the_old_format_is_refused_with_what_to_do(
    tmp_path: Path,
) -> None:
    path = tmp_path / "module.pth"
    torch.save(Linear(), path, _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match=r"running code.*state_dict"):
        checkpoints.read(path)


def test_a_torchscript_program_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "program.pt", "w") as held:
        held.writestr("program/data.pkl", pickle.dumps(Linear()))
        held.writestr("program/constants.pkl", b"")
    with pytest.raises(CheckpointError, match=r"program\.pt"):
        checkpoints.read(tmp_path / "program.pt")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("keep", [0, 5, 200, 0.9])
def test_a_cut_off_file_is_refused(tmp_path: Path, suffix: str, keep: float) -> None:
    path = tmp_path / f"weights{suffix}"
    big = {"w": torch.zeros(1000)}
    save_file(big, path) if suffix == ".safetensors" else torch.save(big, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep if keep >= 1 else keep * len(content))])
    with pytest.raises(CheckpointError, match="cut off"):
        checkpoints.read(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint file at .*nowhere\.pth"):
        checkpoints.read(tmp_path / "nowhere.pth")


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {"model": {"lr": 0.1}}, {}])
def test_a_file_without_named_tensors_is_refused(
    tmp_path: Path, content: object
) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="no table of named tensors"):
        checkpoints.read(tmp_path / "x.pt")


def test_numbered_layers_under_one_name_keep_it(tmp_path: Path) -> None:
    state = {f"model.{n}.conv.weight": torch.ones(1) for n in range(3)}
    torch.save(state, tmp_path / "x.pt")
    assert checkpoints.read(tmp_path / "x.pt").state.keys() == state.keys()


def test_tensors_under_two_wrappers_are_refused(tmp_path: Path) -> None:
    both = STATE | {f"module.{k}": v for k, v in STATE.items()}
    torch.save(both, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="2 tensors twice"):
        checkpoints.read(tmp_path / "x.pt")


def test_strict_loading_lists_what_does_not_fit() -> None:
    state = {"a.weight": torch.zeros(2, 4), "b": torch.zeros(1)}
    with pytest.raises(CheckpointError) as caught:
        checkpoints.load_strict(Linear, checkpoints.Checkpoint(Path("x.pth"), state))
    message = str(caught.value)
    assert "1 missing: a.bias" in message
    assert "1 unexpected: b" in message
    assert "a.weight (expected (2, 3), got (2, 4))" in message


def test_strict_loading_casts_to_single_precision_and_keeps_values() -> None:
    half = {k: v.half() for k, v in STATE.items()}
    checkpoint = checkpoints.Checkpoint(Path("x.pth"), half)
    network = checkpoints.load_strict(Linear, checkpoint)
    assert network.a.weight.dtype == torch.float32
    assert torch.equal(network.a.weight, STATE["a.weight"])
    assert not network.training and not network.a.weight.requires_grad


def test_children_are_counted_by_number() -> None:
    names = ["x.layers.0.w", "x.layers.0.b", "x.layers.11.w", "x.layers.norm", "y.0"]
    state = {name: torch.zeros(1) for name in names}
    assert checkpoints.Checkpoint(Path("x"), state).count("x.layers") == 2
