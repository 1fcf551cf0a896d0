"""``napari-sam find``: from a word to files, or to a session."""

import json

import numpy as np
import pytest
import tifffile
from word_models import WordScorer, two_kinds

from napari_sam.cli import main
from napari_sam.session import Session
from napari_sam.testing import ToyModel

FEW = ("--points-per-side", 16, "--max-area", 2000, "--no-store", "--json")


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    loaded = []
    monkeypatch.setattr(
        "napari_sam.models.registry.load_model", lambda name, **_: ToyModel(64)
    )
    monkeypatch.setattr(
        "napari_sam.models.clip.clip.load_scorer",
        lambda name: loaded.append(name) or WordScorer(),
    )
    path = tmp_path / "objects.tif"
    tifffile.imwrite(path, two_kinds()[0])

    def _run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(["find", str(path), *map(str, arguments)])
        told = capsys.readouterr()
        return ended.value.code, told.out, told.err

    _run.loaded = loaded
    return _run


def test_objects_that_a_word_names_are_written(run, tmp_path):
    out = tmp_path / "squares.tif"
    code, said, err = run("--text", "square", "-o", out, "--scorer", "my/clip", *FEW)
    assert not code, err
    said = json.loads(said)
    assert said["read_by"] == "rules" and said["text"] == "square"
    assert said["accepted"] == len(said["proposals"]) == 3
    assert all(row["score"] == 1 for row in said["proposals"])
    assert np.array_equal(tifffile.imread(out) > 0, two_kinds()[1] > 3)
    assert run.loaded == ["my/clip"]


def test_they_wait_in_a_session(run, tmp_path):
    work = tmp_path / "work.nsam"
    code, said, err = run("--text", "round", "--session", work, *FEW)
    assert not code and json.loads(said)["accepted"] == 0, err
    session = Session.load(work, model=ToyModel(64), embeddings=False)
    assert len(session.proposals) == 3 and not np.asarray(session.labels).any()
    assert {p.origin for p in session.proposals.pending} == {"text"}
    session.close()


def test_labels_beside_a_session_that_is_kept_are_refused(run, tmp_path):
    work, labels = tmp_path / "work.nsam", tmp_path / "labels.tif"
    tifffile.imwrite(labels, two_kinds()[1])
    assert not run("--text", "round", "--session", work, *FEW)[0]
    code, _, err = run("--labels", labels, "--like", 1, "--session", work, *FEW)
    assert code == 2 and "leave --labels out" in err


def test_objects_like_labelled_ones_are_found_here_and_on_another_image(run, tmp_path):
    labels = np.where(np.isin(two_kinds()[1], (1, 4)), two_kinds()[1], 0)
    color = np.array([(60, 60, 60), *[(220, 70, 60)] * 3, *[(70, 80, 210)] * 3])
    image = color.astype(np.uint8)[two_kinds()[1]]
    tifffile.imwrite(tmp_path / "objects.tif", image, photometric="rgb")
    tifffile.imwrite(tmp_path / "labels.tif", labels)
    given = ("--labels", tmp_path / "labels.tif", "--like", 1, "--unlike", "4")
    file = tmp_path / "disks.safetensors"
    code, said, err = run(*given, "--save-examples", file, *FEW)
    assert not code, err
    said = json.loads(said)
    assert said["accepted"] == 2 and said["examples"] == str(file)
    assert said["read_by"] is None

    tifffile.imwrite(
        tmp_path / "objects.tif", image[::-1, ::-1].copy(), photometric="rgb"
    )
    out = tmp_path / "found.tif"
    code, said, err = run("--examples", file, "-o", out, *FEW)
    assert not code and json.loads(said)["accepted"] == 3, err
    truth = np.isin(two_kinds()[1][::-1, ::-1], (1, 2, 3))
    assert np.array_equal(tifffile.imread(out) > 0, truth)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("--text", " "), "nothing to look for"),
        (("--like", "1"), "object 1 has no mask"),
        (("--examples", "nowhere.safetensors"), "no examples at"),
        (("--text", "a", "--region", "1,2"), "four numbers"),
    ],
)
def test_bad_input_is_one_message(run, given, says):
    code, _, err = run(*given)
    assert code == 2 and says in err and "Traceback" not in err
