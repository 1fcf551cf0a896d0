"""``napari-sam everything``: from a file to files, or to a session."""

import json

import numpy as np
import pytest
import tifffile

from napari_sam.cli import main
from napari_sam.session import Session
from napari_sam.testing import ToyModel, phantom_image

FEW = (
    "--points-per-side", 16, "--no-thorough", "--max-area", 2000, "--no-store",
    "--pred-iou-thresh", 0.85, "--stability-score-thresh", 0.5, "--json",
)  # fmt: skip


@pytest.fixture
def run(capsys, monkeypatch):
    monkeypatch.setattr(
        "napari_sam.models.registry.load_model", lambda name, **_: ToyModel(64)
    )

    def _run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([str(a) for a in arguments])
        told = capsys.readouterr()
        return ended.value.code, told.out, told.err

    return _run


@pytest.fixture
def cells(tmp_path):
    phantom = phantom_image((72, 108), n_objects=6, noise=0)
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, phantom.image)
    return path, phantom


def test_all_objects_are_written(run, cells, tmp_path):
    path, phantom = cells
    out = tmp_path / "labels.tif"
    code, said, err = run("everything", path, "-o", out, *FEW)
    assert not code, err
    said = json.loads(said)
    assert len(said["proposals"]) == said["accepted"] == 6
    labels = tifffile.imread(out)
    assert np.array_equal(labels > 0, phantom.labels > 0)
    assert len(np.unique(labels)) == 7


def test_they_wait_in_a_session(run, cells, tmp_path):
    path, _ = cells
    work = tmp_path / "work.nsam"
    code, said, err = run("everything", path, "--session", work, *FEW)
    assert not code and json.loads(said)["accepted"] == 0, err
    session = Session.load(work, model=ToyModel(64), embeddings=False)
    assert len(session.proposals) == 6 and not np.asarray(session.labels).any()
    session.close()


def test_a_session_that_is_kept_is_gone_on_with(run, cells, tmp_path):
    path, _ = cells
    work = tmp_path / "work.nsam"
    for _ in range(2):
        code, _, err = run("everything", path, "--session", work, *FEW)
        assert not code, err
    session = Session.load(work, model=ToyModel(64), embeddings=False)
    assert len(session.proposals) == 6  # found again, not twice
    session.close()


def test_a_wrong_region_is_one_message(run, cells):
    code, _, err = run("everything", cells[0], "--region", "1,2,3", *FEW)
    assert code == 2 and "--region takes four numbers" in err
