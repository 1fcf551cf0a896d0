"""Own models under names, and licences that were accepted."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from reference_sam import TINY, reference_sam

from napari_sam.errors import CheckpointError, DownloadError, ModelError
from napari_sam.models import download, registry, user_models
from napari_sam.models.registry import (
    accept_license,
    add_model,
    find_model,
    list_models,
    load_model,
    remove_model,
)
from napari_sam.session import Session

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(user_models.CONFIG_VARIABLE, str(tmp_path / "config"))
    monkeypatch.setenv(download.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv(download.OFFLINE_VARIABLE, raising=False)
    return tmp_path / "config"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "epoch_40.pt"
    torch.save(reference_sam(TINY).state_dict(), path)
    return path


def test_an_own_model_is_listed_and_loads_by_its_name(file: Path) -> None:
    added = add_model("my_cells", file)
    assert added in list_models() and added.cached
    assert (added.input_side, added.size_bytes) == (256, file.stat().st_size)
    assert added.path == file
    spec = load_model("my_cells", device="cpu").spec
    assert spec.name == "my_cells"
    assert load_model(spec.source, device="cpu").spec.sha256 == spec.sha256
    assert list(registry.download("my_cells"))[-1][0] == file.stat().st_size


def test_the_family_of_an_own_model_is_remembered(file: Path) -> None:
    assert add_model("liver", f"medsam:{file}").prompts == {"box"}
    assert load_model("liver", device="cpu").spec.prompts == {"box"}
    assert find_model("liver").family == "medsam"


def test_a_saved_session_finds_the_model_of_its_own_file_again(
    file: Path, tmp_path: Path
) -> None:
    model = load_model(f"medsam:{file}", device="cpu")
    image = np.zeros((40, 50), np.uint8)
    Session(image, model, embeddings=False, path=tmp_path / "a.nsam").close()
    again = Session.load(tmp_path / "a.nsam", volume=image)
    assert again.model.spec == model.spec
    again.close()


def test_weights_of_nano_keep_their_own_name(tmp_path: Path) -> None:
    from napari_sam.models.nano.nano import write_weights
    from napari_sam.models.nano.network import NanoNetwork

    write_weights(NanoNetwork(), tmp_path / "mine.safetensors")
    add_model("my_nano", tmp_path / "mine.safetensors")
    assert load_model("my_nano", device="cpu").spec.name == "my_nano"


def test_removing_an_own_model_leaves_its_file(file: Path) -> None:
    before = list_models()
    add_model("my_cells", file)
    remove_model("my_cells")
    assert list_models() == before and file.exists()
    with pytest.raises(ModelError, match="none of your own models"):
        remove_model("my_cells")


@pytest.mark.parametrize("name", ["nano", "sam_vit_b"])
def test_names_that_everybody_knows_are_taken(file: Path, name: str) -> None:
    with pytest.raises(ModelError, match="name of another model"):
        add_model(name, file)


@pytest.mark.parametrize("name", ["", "a/b", "weights.pth", "medsam:x", "a b"])
def test_a_name_that_reads_as_a_path_is_refused(file: Path, name: str) -> None:
    with pytest.raises(ModelError, match="cannot be a model's name"):
        add_model(name, file)


def test_a_file_that_cannot_be_loaded_is_not_remembered(tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError):
        add_model("mine", tmp_path / "x.pth")
    assert user_models.models() == {}


def test_an_own_file_that_went_away_is_listed_as_missing(
    file: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.pt"
    copy.write_bytes(file.read_bytes())
    added = add_model("mine", copy)
    copy.unlink()
    assert not added.cached and added.where == "missing"
    with pytest.raises(CheckpointError, match="no checkpoint file at"):
        load_model("mine", device="cpu")


@pytest.mark.parametrize("content", ["{", "[]", ""])
def test_a_damaged_list_counts_as_empty(config: Path, content: str) -> None:
    config.mkdir()
    (config / "models.json").write_text(content)
    assert list_models()[0].name == "nano"


def download_from_nowhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> list[str]:
    def refuse(*_: object) -> object:
        raise DownloadError("no network in tests")

    monkeypatch.setattr(download, "iter_download", refuse)
    caplog.clear()
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(DownloadError, match="no network"),
    ):
        list(registry.download("sam_vit_b"))
    return [r.getMessage() for r in caplog.records]


def test_the_licence_is_shown_before_the_first_download_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, config: Path
) -> None:
    notice = find_model("sam_vit_b").notice
    assert "Apache-2.0" in notice and "Kirillov" in notice
    assert download_from_nowhere(monkeypatch, caplog) == [notice]
    noted = json.loads((config / "licenses.json").read_text())["sam_vit_b"]
    assert noted["license"] == "Apache-2.0" and noted["accepted"].startswith("20")
    assert download_from_nowhere(monkeypatch, caplog) == []


def test_a_licence_accepted_before_is_not_shown_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    accept_license("sam_vit_b")
    assert download_from_nowhere(monkeypatch, caplog) == []


def test_a_home_that_cannot_be_written_stops_names_but_no_download(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    file: Path,
) -> None:
    (tmp_path / "blocked").write_bytes(b"")
    monkeypatch.setenv(user_models.CONFIG_VARIABLE, str(tmp_path / "blocked"))
    assert len(download_from_nowhere(monkeypatch, caplog)) == 1
    with pytest.raises(ModelError, match="NAPARI_SAM_CONFIG"):
        add_model("mine", file)
