"""``napari-sam train`` from folders to a model in the list."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from napari_sam.cli import main
from napari_sam.models.registry import list_models
from napari_sam.testing import phantom_image


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAPARI_SAM_CONFIG", str(tmp_path / "config"))
    for part in ("images", "labels"):
        (tmp_path / "data" / part).mkdir(parents=True)
    for i in range(3):
        cells = phantom_image((48, 48), n_objects=1, seed=i)
        Image.fromarray(cells.image).save(tmp_path / f"data/images/{i}.png")
        Image.fromarray(cells.labels.astype("uint8")).save(
            tmp_path / f"data/labels/{i}.png"
        )
    return tmp_path / "data"


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(["train", *arguments])
    return int(end.value.code or 0)


def test_folders_become_a_model_in_the_list(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(
        "--images", str(data / "images"), "--labels", str(data / "labels"),
        "--out", str(tmp_path / "out"), "--name", "mine", "--epochs", "1",
        "--replace", "--device", "cpu", "--json",
    )  # fmt: skip
    found = json.loads(capsys.readouterr().out)
    assert code == 0
    assert found["kept"] is True
    assert found["planes"] == {"train": 1, "stop": 1, "held_back": 1}
    assert Path(found["path"]) == tmp_path / "out" / "mine.safetensors"
    assert set(found["before"]) == set(found["after"])
    assert "mine" in [m.name for m in list_models()]


def test_what_cannot_be_trained_ends_with_exit_code_2(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--images", str(data), "--model", "hq_sam_vit_b") == 2
    assert "cannot be trained" in capsys.readouterr().err
    empty = data / "none"
    empty.mkdir()
    assert run("--images", str(empty)) == 2
    assert str(empty) in capsys.readouterr().err


def test_an_output_folder_that_cannot_be_made_is_told_before_the_model_is_loaded(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("the model was loaded before this was checked")

    monkeypatch.setattr("napari_sam.cli.train.load_with_progress", never)
    (tmp_path / "file").write_text("in the way")
    code = run("--images", str(tmp_path), "--out", str(tmp_path / "file"))
    said = capsys.readouterr().err
    assert code == 2 and said.startswith("napari-sam: ") and said.count("\n") == 1
