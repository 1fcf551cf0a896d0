import json

import numpy as np
import pytest

from napari_sam import Session
from napari_sam.cli import main
from napari_sam.testing import ToyModel, phantom_image


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return stopped.value.code, captured.out, captured.err


def test_a_session_s_objects_are_classified_as_one_step(tmp_path, capsys, monkeypatch):
    cells = phantom_image((96, 128), n_objects=4, noise=0)
    np.save(tmp_path / "image.npy", cells.image)
    path = tmp_path / "w.nsam"
    session = Session(
        tmp_path / "image.npy", ToyModel(64), embeddings=False, path=path,
        labels=cells.labels.astype(np.uint16),
    )  # fmt: skip
    session.close()
    load = Session.load
    monkeypatch.setattr(
        Session, "load", lambda *a, **k: load(*a, **{**k, "model": ToyModel(64)})
    )
    code, _, err = run(capsys, "classify", path, "--no-store")
    assert code == 2 and "no object has a class" in err
    session = Session.load(path, embeddings=False)
    session.objects[1].class_name = "cell"
    session.close()
    code, out, _ = run(capsys, "classify", path, "--no-store", "--dry-run", "--json")
    found = json.loads(out)
    assert code == 0 and set(found["guesses"]) == {"2", "3", "4"}
    code, out, _ = run(capsys, "classify", path, "--no-store", "--max-doubt", "1")
    assert code == 0 and "3 of 3 objects got a class" in out
    session = Session.load(path, embeddings=False)
    assert {o.class_name for o in session.objects.values()} == {"cell"}
    session.undo()
    assert session.objects[2].class_name is None
    session.close()
