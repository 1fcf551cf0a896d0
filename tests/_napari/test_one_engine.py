"""The widget, the command line and Python give the same masks for the same prompts."""

import json

import numpy as np
import pytest
from PIL import Image
from skimage import data

from napari_sam import Session, load_model
from napari_sam.cli import main

CLICKS = [
    {"object_id": 1, "points": [[60, 125]], "point_labels": [1]},
    {"object_id": 2, "points": [[75, 53], [75, 75]], "point_labels": [1, 0]},
    {"object_id": 3, "points": [[190, 270], [175, 270], [190, 300]],
     "point_labels": [1, 1, 0]},
]  # fmt: skip


@pytest.fixture(scope="module")
def nano():
    return load_model("nano", device="cpu")


@pytest.fixture
def coins(tmp_path):
    path = tmp_path / "coins.png"
    Image.fromarray(data.coins()).save(path)
    return path


def test_widget_command_line_and_python_give_identical_masks(
    nano, coins, desk_for, tmp_path
):
    python = Session(coins, nano, embeddings=False)
    for said in CLICKS:
        python.segment(**said)
    assert set(np.unique(python.labels)) == {0, 1, 2, 3}

    (tmp_path / "prompts.json").write_text(json.dumps({"objects": CLICKS}))
    files = ["--prompts", tmp_path / "prompts.json", "-o", tmp_path / "out.png"]
    arguments = ["segment", coins, *files, "--store", tmp_path / "embeddings"]
    with pytest.raises(SystemExit) as stopped:
        main([str(a) for a in arguments])
    assert stopped.value.code == 0
    shell = np.asarray(Image.open(tmp_path / "out.png"))

    desk = desk_for(nano)
    desk.open(data.coins())
    for said in CLICKS:
        if said["object_id"] > 1:
            desk.controller.new_object()
        for (y, x), sign in zip(said["points"], said["point_labels"], strict=True):
            if desk.state.polarity != sign:
                desk.controller.tools.toggle_polarity()
            desk.click(y, x)

    assert np.array_equal(shell, python.labels)
    assert np.array_equal(desk.labels, python.labels)
