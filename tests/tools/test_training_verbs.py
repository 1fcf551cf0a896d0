from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_sam.core.prompts import WindowPrompts
from napari_sam.testing import ToyModel, phantom_image
from napari_sam.training.evaluate import evaluate
from tools.nano import __main__ as verbs
from tools.nano.data import HELD_OUT, read_folder, split
from tools.nano.encoded_image import ImageAsker


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = []
    for dataset in ("a", "b", HELD_OUT[0]):
        for i in range(3):
            phantom = phantom_image((64, 96), n_objects=4, noise=9, seed=i)
            for kind, pixels in (("images", phantom.image), ("labels", phantom.labels)):
                folder = tmp_path / dataset / kind
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(folder / f"{i}.png")
            rows.append(f"{dataset},{i},instance")
    (tmp_path / "INDEX.csv").write_text("\n".join(["dataset,stem,label_kind", *rows]))
    return tmp_path


def test_score_reports_both_parts_as_evaluate_does(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verbs, "load_nano", ToyModel)
    out = tmp_path / "scores.json"
    arguments = ["--data", data, "--objects", 3, "--images", 2, "--clicks", 2]
    arguments += ["--variants", "inverted", "--out", out]
    monkeypatch.setattr(sys, "argv", ["training", "score", *map(str, arguments)])
    verbs.main()
    value = json.loads(out.read_text())
    assert set(value["kept back"]["rows"]) == {"a", "b"}
    held_out = [data / HELD_OUT[0] / "images" / f"{i}.png" for i in (0, 1)]
    labels = [data / HELD_OUT[0] / "labels" / f"{i}.png" for i in (0, 1)]
    same = evaluate(ToyModel(), held_out, labels, clicks=2, max_objects=3)
    found = value["held out"]
    assert found["mean"] == pytest.approx(same.mean)
    assert len(found["objects"]) == len(found["variants"]["inverted"]) == 6
    names = {o["volume"] for o in value["kept back"]["objects"]}
    kept = {f"{i.dataset}/{i.stem}" for i in split(read_folder(data)).kept_back}
    assert names == kept


@pytest.mark.parametrize(
    ("shape", "least"),
    [
        pytest.param((100, 120), 1.0, id="fits"),
        pytest.param((512, 700), 0.9, id="reduced-to-fit"),
    ],
)
def test_asked_image_answers_in_its_own_pixels(
    shape: tuple[int, int], least: float
) -> None:
    truth = np.zeros(shape, bool)
    truth[20:60, 30:90] = True
    asker = ImageAsker(ToyModel(256), (truth * 200).astype(np.uint8))
    prompts = [
        WindowPrompts(box=(20.0, 30.0, 60.0, 90.0)),
        WindowPrompts(points=np.array([[40.0, 60.0]]), point_labels=np.array([1])),
    ]
    for answer in asker.ask(prompts):
        assert asker.full(answer[0]).shape == shape
        assert asker.ious(answer, truth)[0] >= least
