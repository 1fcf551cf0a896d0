"""Outlines, strokes and paths as options; split, merge and refine as commands."""

import json

import numpy as np
import pytest

import napari_sam.models.registry
from napari_sam.cli import main
from napari_sam.session import Session
from napari_sam.testing import ToyModel


@pytest.fixture
def halves(tmp_path, monkeypatch):
    """A file with a bright and a dim half that touch."""
    from PIL import Image

    monkeypatch.setattr(
        napari_sam.models.registry, "load_model", lambda *_, **__: ToyModel(64)
    )
    image = np.zeros((48, 60), np.uint8)
    image[10:40, 8:30] = 200
    image[10:40, 30:52] = 90
    Image.fromarray(image).save(tmp_path / "halves.png")
    return tmp_path / "halves.png"


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    said = capsys.readouterr()
    if ended.value.code:
        return ended.value.code, said.err
    return 0, json.loads(said.out)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param(
            ("--polygon", "9,7 9,31 41,31 41,7"),
            {"polygon": [[9, 7], [9, 31], [41, 31], [41, 7]]},
            id="polygon",
        ),
        pytest.param(
            ("--scribble", "20,12 30,20", "--negative-scribble", "20,28 30,28"),
            {
                "scribbles": [[[20, 12], [30, 20]], [[20, 28], [30, 28]]],
                "scribble_labels": [1, 0],
            },
            id="scribbles",
        ),
        pytest.param(
            ("--path", "12,10 38,28", "--path", "25,10 25,20"),
            {"paths": [[[12, 10], [38, 28]], [[25, 10], [25, 20]]]},
            id="paths",
        ),
    ],
)
def test_options_are_prompts_of_the_session(halves, tmp_path, capsys, options, said):
    work = tmp_path / "work.nsam"
    code, told = run(
        capsys, "segment", halves, *options, "--session", work, "--no-store", "--json"
    )
    assert not code and len(told["objects"]) == 1
    session = Session.load(work, model=ToyModel(64), embeddings=False)
    [state] = session.states(1).values()
    assert state.prompts.to_json() == said
    session.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(("--polygon", "1,2 3"), "--polygon takes numbers", id="pair"),
        pytest.param(("--polygon", "1,2 3,4"), "3 corners", id="corners"),
        pytest.param(("--path", ""), "--path takes places", id="empty"),
        pytest.param(("--negative-scribble", "1,2 3,4"), "nly negative", id="minus"),
    ],
)
def test_what_is_no_prompt_is_one_sentence(halves, capsys, options, message):
    code, error = run(capsys, "segment", halves, *options, "--json")
    assert code == 2 and message in error and "Traceback" not in error


def test_split_merge_and_refine_a_saved_session(halves, tmp_path, capsys):
    work = tmp_path / "work.nsam"
    both = ("--point", "20,20", "--point", "20,45")
    run(capsys, "segment", halves, *both, "--session", work, "--no-store", "--json")
    code, said = run(capsys, "split", work, *both, "--no-store", "--json")
    assert not code and said["parts"] == [1, 2]
    code, said = run(capsys, "refine", work, "--object", 1, "--no-store", "--json")
    assert not code and said["area"] == 30 * 22
    out = tmp_path / "labels.tif"
    code, said = run(
        capsys, "merge", work, "--object", 2, "--object", 1, "-o", out, "--json"
    )
    assert not code and said["merged"] == [1] and out.exists()
    code, error = run(capsys, "refine", work, "--object", 2, "--no-store", "--json")
    assert code == 2 and "stays as it was" in error
    code, error = run(capsys, "refine", work, "--object", 9, "--no-store", "--json")
    assert code == 2 and "object 9 has no pixel" in error
    code, error = run(capsys, "split", work, "--point", "2,2", "--json")
    assert code == 2 and "two points or more" in error
    session = Session.load(work, model=ToyModel(64), embeddings=False)
    assert list(session.objects) == [2]
    for _ in range(3):
        assert session.undo()  # each was one step
    assert session.object(1, next(iter(session.states(1)))) is not None
    session.close()


def test_a_file_of_boxes_gives_an_object_each(halves, tmp_path, capsys):
    boxes, out = tmp_path / "boxes.csv", tmp_path / "cells.json"
    boxes.write_text("y0,x0,y1,x1,class\n9,7,41,30,a\n9,30,41,53,b\n0,54,5,59,\n")
    code, said = run(
        capsys, "segment", halves, "--many", boxes, "-o", out, "--no-store", "--json"
    )
    assert not code
    assert [o["object_id"] for o in said["objects"]][:2] == [1, 2]
    assert [o["class_name"] for o in said["objects"]] == ["a", "b", None]
    written = json.loads(out.read_text())
    areas = {a["category_id"]: a["area"] for a in written["annotations"]}
    names = {c["id"]: c["name"] for c in written["categories"]}
    assert {names[i]: v for i, v in areas.items()}["a"] == 30 * 22
    both = ("segment", halves, "--many", boxes, "--point", "1,2", "--json")
    code, error = run(capsys, *both)
    assert code == 2 and "takes the place" in error
    boxes.write_text("a,b\n")
    code, error = run(capsys, "segment", halves, "--many", boxes, "--json")
    assert code == 2 and "boxes.csv" in error
