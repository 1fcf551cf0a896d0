import json

import numpy as np
import pytest

import napari_sam.models.registry
from napari_sam.cli import main
from napari_sam.core.masks import LabelPatch, mask_iou
from napari_sam.session import Session
from napari_sam.testing import ToyModel, phantom_volume

PHANTOM = phantom_volume((16, 72, 84), n_objects=2)


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A saved session of a volume with one object clicked on one plane."""
    monkeypatch.setattr(
        napari_sam.models.registry, "load_model", lambda *_, **__: ToyModel(96)
    )
    import zarr

    zarr.create_array(tmp_path / "cells.zarr", data=PHANTOM.image)
    path = tmp_path / "work.nsam"
    session = Session(
        tmp_path / "cells.zarr", ToyModel(96), embeddings=False, path=path
    )
    z, y, x = PHANTOM.center(1)
    session.segment(1, plane=int(z), points=[(y, x)])
    session.close()
    return path


def _run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    return ended.value.code


def test_one_plane_becomes_an_object_that_is_saved_and_written(work, tmp_path, capsys):
    out = tmp_path / "labels.tif"
    assert not _run("propagate", work, "--no-store", "-o", out, "--json")
    said = json.loads(capsys.readouterr().out)
    assert said["filled"] == len(said["planes"]) > 3 and out.exists()
    assert {p["origin"] for p in said["planes"]} == {"propagated"}
    again = Session.load(work, model=ToyModel(96), embeddings=False)
    assert mask_iou(np.asarray(again.labels) == 1, PHANTOM.labels == 1) > 0.85
    assert again.undo()
    assert np.asarray(again.labels).any((1, 2)).sum() == 1
    again.close()


def test_reach_bounds_and_what_is_unchanged_is_left(work, capsys):
    assert not _run("propagate", work, "--no-store", "--reach", 1, "--json")
    assert json.loads(capsys.readouterr().out)["filled"] == 2
    assert not _run("propagate", work, "--no-store", "--changed", "--json")
    assert json.loads(capsys.readouterr().out)["filled"] == 0
    assert not _run("propagate", work, "--no-store", "--patience", 2, "--json")
    assert json.loads(capsys.readouterr().out)["filled"] > 3


def test_interpolation_fills_between_planes_that_were_made(work, capsys):
    session = Session.load(work, model=ToyModel(96), embeddings=False)
    z = next(iter(session.objects[1].planes)).index[0]
    y, x = PHANTOM.center(1)[1:]
    session.segment(1, plane=z + 3, points=[(y, x)])
    session.close()
    assert not _run("interpolate", work, "--json")
    said = json.loads(capsys.readouterr().out)
    assert [p["origin"] for p in said["planes"]] == ["interpolated"] * 2
    assert [p["plane"]["index"] for p in said["planes"]] == [[z + 1], [z + 2]]
    assert said["notes"] == []
    assert not _run("interpolate", work, "--snap", "--json")
    said = json.loads(capsys.readouterr().out)
    assert [p["origin"] for p in said["planes"]] == ["interpolated"] * 2


def test_what_deserves_a_look_is_listed_and_nothing_changes(work, capsys):
    assert not _run("propagate", work, "--no-store", "--json")
    filled = json.loads(capsys.readouterr().out)["planes"]
    assert not _run("doubtful", work, "--least", "0", "--most", "2")
    assert capsys.readouterr().out.count("doubt 0.") == 2
    session = Session.load(work, model=ToyModel(96), embeddings=False)
    depth, z = PHANTOM.labels.shape[0], next(iter(session.objects[1].planes)).index[0]
    y = int(PHANTOM.center(1)[1])
    session.segment(1, plane=y, axis=1, box=(z, 0, depth, PHANTOM.labels.shape[2]))
    session.close()
    assert not _run("doubtful", work, "--least", "0", "--json")
    said = json.loads(capsys.readouterr().out)
    assert {(w["object_id"], w["plane"]["index"][0]) for w in said["doubtful"]} == {
        (1, p["plane"]["index"][0]) for p in filled
    }
    for found in said["conflicts"]:
        assert [p["axis"] for p in found["planes"]] == [0, 1] and found["voxels"] >= 3
    assert not _run("doubtful", work, "--least", "1")
    assert _run("doubtful", work, "--object", "9") == 2
    assert "no such object; it has 1" in capsys.readouterr().err


def test_fragments_go_and_the_change_can_be_undone(work, capsys):
    session = Session.load(work, model=ToyModel(96), embeddings=False)
    plane = next(iter(session.objects[1].planes))
    before = np.asarray(session.labels[plane.index[0]]).copy()
    speck = LabelPatch(
        plane, (0, 0, 1, 2), np.zeros((1, 2), "u2"), np.ones((1, 2), "u2")
    )
    session.labels[plane.index[0], 0, 0:2] = 1
    session.record_paint(speck)
    session.close()
    assert not _run("clean", work, "--smallest-part", "5", "--json")
    assert json.loads(capsys.readouterr().out)["changed"] == {"1": 1}
    again = Session.load(work, model=ToyModel(96), embeddings=False)
    assert np.array_equal(np.asarray(again.labels[plane.index[0]]) == 1, before == 1)
    assert again.undo() and again.labels[plane.index[0], 0, 0] == 1
    again.close()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        pytest.param(["--method", "magic"], "--method", id="method"),
        pytest.param(["--object", "7"], "object 7 was drawn on no plane", id="object"),
        pytest.param(["--planes", "a"], "--planes takes", id="planes"),
        pytest.param(["-o", "x.png"], "PNG holds one plane", id="one-plane"),
        pytest.param(["--axis", "w"], "--axis takes", id="axis"),
    ],
)
def test_wrong_values_are_one_line_and_exit_code_2(work, capsys, wrong, says):
    assert _run("propagate", work, "--no-store", *wrong) == 2
    assert says in capsys.readouterr().err
