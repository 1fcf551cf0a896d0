import json

import numpy as np
import pytest

import napari_sam.models.registry
from napari_sam.cli import main
from napari_sam.session import Session
from napari_sam.testing import ToyModel, phantom_image


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A saved session of six cells, the first of them annotated."""
    monkeypatch.setattr(
        napari_sam.models.registry, "load_model", lambda *_, **__: ToyModel(48)
    )
    cells = phantom_image((72, 108), n_objects=6, noise=0)
    image = tmp_path / "cells.npy.zarr"
    import zarr

    zarr.create_array(image, data=cells.image)
    path = tmp_path / "work.nsam"
    session = Session(image, ToyModel(48), embeddings=False, path=path)
    session.segment(points=[cells.center(1)])
    session.close()
    return path


def _run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    return ended.value.code


def test_what_is_sure_is_accepted_and_written_and_the_rest_waits(
    work, tmp_path, capsys
):
    out = tmp_path / "labels.tif"
    code = _run(
        "suggest", work, "--no-store", "--max-doubt", 1, "--accept", 0.25,
        "-o", out, "--json",
    )  # fmt: skip
    assert not code and out.exists()
    said = json.loads(capsys.readouterr().out)
    assert said["suggested"] == 5 == said["accepted"] + len(said["waiting"])
    assert 0 < said["accepted"] < 5
    assert all(s["doubt"] > 0.25 for s in said["waiting"])
    again = Session.load(work, model=ToyModel(48), embeddings=False)
    assert len(again.proposals.pending) == len(said["waiting"])
    assert np.asarray(again.labels).max() == 1 + said["accepted"]
    again.close()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        pytest.param(["--accept", "3"], "doubt from 0 to 1", id="doubt"),
        pytest.param(["--planes", "a"], "--planes takes", id="planes"),
        pytest.param(["-o", "x.gif"], "suffix", id="suffix"),
    ],
)
def test_wrong_values_are_one_line_and_exit_code_2(work, capsys, wrong, says):
    assert _run("suggest", work, *wrong) == 2
    assert says in capsys.readouterr().err
