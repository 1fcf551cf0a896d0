import json

import numpy as np
import pytest

from napari_sam import Session
from napari_sam.cli import main
from napari_sam.testing import ToyModel


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return stopped.value.code, captured.out, captured.err


def test_a_session_is_compared_and_then_joined(tmp_path, capsys, monkeypatch):
    np.save(tmp_path / "image.npy", np.zeros((30, 40), np.uint8))
    for name, corners in (("a", (5, 20)), ("b", (5, 30))):
        labels = np.zeros((30, 40), np.uint16)
        for n, x in enumerate(corners, 1):
            labels[5:12, x : x + 7] = n
        Session(
            tmp_path / "image.npy", ToyModel(), embeddings=False, labels=labels,
            path=tmp_path / f"{name}.nsam",
        ).close()  # fmt: skip
    a, b = tmp_path / "a.nsam", tmp_path / "b.nsam"
    code, out, _ = run(capsys, "combine", a, b, "--dry-run", "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["same"], found["ours"], found["theirs"]) == (1, 1, 1)
    load = Session.load
    monkeypatch.setattr(
        Session, "load", lambda *a, **k: load(*a, **{"model": ToyModel(), **k})
    )
    code, out, _ = run(capsys, "combine", a, b, "-o", tmp_path / "l.png")
    assert code == 0 and "object 2: they have no such object" in out
    joined = Session.load(a, read_only=True)
    assert joined.objects[3].review == "flagged"
    assert (np.asarray(joined.labels) == 3).sum() == 49
    joined.close()
    code, _, err = run(capsys, "combine", a, b, "--consensus", "both")
    assert code == 2 and "--consensus takes ours, union, intersection" in err
