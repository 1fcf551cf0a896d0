from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from napari_sam import evaluate
from napari_sam.cli import main
from napari_sam.testing import ToyModel, phantom_image

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        "napari_sam.models.registry.load_model", lambda name, **options: ToyModel()
    )


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run ``napari-sam evaluate``; gives (exit code, stdout, stderr)."""

    def _run(*options: Any) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main(["evaluate", *map(str, options)])
        captured = capsys.readouterr()
        return int(stopped.value.code or 0), captured.out, captured.err

    return _run


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two data sets of one image each."""
    for seed, name in enumerate(("ct", "mr")):
        phantom = phantom_image((64, 96), n_objects=4, noise=9, seed=seed)
        for kind, pixels in (("images", phantom.image), ("labels", phantom.labels)):
            folder = tmp_path / "data" / name / kind
            folder.mkdir(parents=True)
            Image.fromarray(pixels).save(folder / "a.png")
    return tmp_path / "data"


def test_same_figures_as_from_python(run: Run, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.json"
    code, text, _ = run(
        "--images", data / "ct/images", "--labels", data / "ct/labels",
        "--prompts", "point,box", "--clicks", 2, "--max-objects", 3,
        "--variants", "inverted,half-contrast,16bit", "--seed", 1, "--json", out,
    )  # fmt: skip
    assert code == 0
    found = evaluate(
        ToyModel(), data / "ct/images", data / "ct/labels", clicks=2, max_objects=3,
        variants=("inverted", "half-contrast", "16bit"), seed=1,
    )  # fmt: skip
    assert json.loads(out.read_text()) == json.loads(found.to_json())
    assert found.table() in text
    assert "| half-contrast | 3 |" in text


def test_one_channel_of_many_is_asked(run: Run, data: Path) -> None:
    image = data / "ct/images/a.png"
    plane = np.asarray(Image.open(image))
    ask = ["--images", data / "ct", "--clicks", 2, "--json", "-"]
    _, alone, _ = run(*ask)
    image.unlink()
    np.save(image.with_suffix(".npy"), np.stack([plane // 9, plane, plane * 0]))
    code, text, _ = run(*ask, "--axes", "cyx", "--channels", "1")
    assert code == 0
    means = [json.loads(t)["mean"] for t in (alone, text)]
    assert means[0] == pytest.approx(means[1])
    code, _, told = run(*ask, "--axes", "cyx", "--channels", "one")
    assert code != 0 and "--channels" in told and "0,2" in told


def test_data_sets_are_rows_and_can_be_chosen(run: Run, data: Path) -> None:
    _, text, _ = run("--images", data, "--clicks", 1)
    assert [line.split("|")[1].strip() for line in text.splitlines()[4:]] == [
        "ct", "mr", "**mean**",
    ]  # fmt: skip
    code, text, _ = run("--images", data, "--clicks", 1, "--only", "m*", "--json", "-")
    assert code == 0
    assert {o["group"] for o in json.loads(text)["objects"]} == {"mr"}


def test_intensity_reaches_the_model(run: Run, data: Path) -> None:
    images, labels = data / "ct/images", data / "ct/labels"
    given = ("--images", images, "--labels", labels, "--clicks", 1, "--json", "-")
    _, plain, _ = run(*given)
    _, dark, _ = run(*given, "--intensity", "0,60000")
    assert json.loads(dark)["mean"]["box"] < json.loads(plain)["mean"]["box"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(("--prompts", "text"), "point, box; got 'text'", id="prompt"),
        pytest.param(("--variants", "dim"), "got 'dim'", id="variant"),
        pytest.param(("--clicks", "0"), "clicks must be 1 or more", id="clicks"),
        pytest.param(("--only", "us"), "there are ct, mr", id="only"),
        pytest.param(("--axis", "q"), "--axis takes", id="axis"),
        pytest.param(("--labels", "nowhere"), "of labels", id="labels"),
        pytest.param(("--images", "nowhere"), "no file or folder", id="images"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(
    run: Run, data: Path, options: tuple[str, ...], message: str
) -> None:
    code, _, error = run("--images", data, *options)
    assert code == 2
    assert message in " ".join(error.split())
    assert "Traceback" not in error


def test_sizes_that_differ_are_named(run: Run, data: Path) -> None:
    Image.fromarray(np.ones((64, 95), np.uint8)).save(data / "mr/labels/a.png")
    code, _, error = run("--images", data)
    assert code == 2
    assert "64 (y) x 96 (x)" in error
    assert "64 (y) x 95 (x)" in error


def test_images_alone_are_told_that_labels_are_missing(
    run: Run, tmp_path: Path
) -> None:
    for i in range(2):
        Image.fromarray(phantom_image((48, 48)).image).save(tmp_path / f"{i}.png")
    code, _, err = run("--images", tmp_path)
    assert code == 2 and "there are no labels in" in err and "labels=" in err
