import json

import numpy as np
import pytest

import napari_sam.models.registry
from napari_sam.cli import main
from napari_sam.core.masks import mask_iou
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


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        pytest.param(["--method", "magic"], "--method", id="method"),
        pytest.param(["--object", "7"], "object 7 was drawn on no plane", id="object"),
        pytest.param(["--planes", "a"], "--planes takes", id="planes"),
        pytest.param(["--axis", "w"], "--axis takes", id="axis"),
    ],
)
def test_wrong_values_are_one_line_and_exit_code_2(work, capsys, wrong, says):
    assert _run("propagate", work, "--no-store", *wrong) == 2
    assert says in capsys.readouterr().err
