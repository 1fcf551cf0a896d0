import json

import numpy as np
import pytest
from PIL import Image

from napari_sam import Session
from napari_sam.cli import main
from napari_sam.testing import ToyModel


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return stopped.value.code, captured.out, captured.err


@pytest.fixture
def folders(tmp_path):
    """Two images with three squares each; of the first one is missing, one too much."""
    truth = np.zeros((40, 60), np.uint8)
    for n in range(3):
        truth[5:15, 20 * n + 3 : 20 * n + 13] = n + 1
    found = np.where(truth == 2, 0, truth)
    found[25:35, 3:13] = 9
    for side, first in (("truth", truth), ("found", found)):
        (tmp_path / side).mkdir()
        Image.fromarray(first).save(tmp_path / side / "a.png")
        Image.fromarray(truth).save(tmp_path / side / "b.png")
    return tmp_path


def test_folders_are_compared_by_name(folders, capsys):
    code, out, _ = run(
        capsys, "compare", folders / "truth", folders / "found", "--json",
        "--plot", folders / "p.svg",
    )  # fmt: skip
    found = json.loads(out)
    assert code == 0 and found["mean_ap"] == pytest.approx(5 / 7)
    assert [found["images"][n][0]["tp"] for n in "ab"] == [2, 3]
    assert (folders / "p.svg").read_text().startswith("<svg")
    (folders / "found" / "b.png").rename(folders / "found" / "c.png")
    code, _, err = run(capsys, "compare", folders / "truth", folders / "found")
    assert code == 2 and "b, c are in one only" in err


def test_a_session_and_outlines_are_compared(folders, capsys):
    truth = np.asarray(Image.open(folders / "truth" / "a.png")).astype(np.uint16)
    np.save(folders / "image.npy", truth)
    session = Session(
        folders / "image.npy", ToyModel(), embeddings=False, labels=truth.copy(),
        path=folders / "w.nsam",
    )  # fmt: skip
    session.export(folders / "w.json")
    session.close()
    found = folders / "found" / "a.png"
    code, out, _ = run(
        capsys, "compare", folders / "w.nsam", found, "--threshold", "0.5"
    )
    assert code == 0 and "| 0.50 | 2 | 1 | 1 | 0.500 |" in out
    code, _, err = run(capsys, "compare", found, found, "--threshold", "1.5")
    assert code == 2 and "got 1.5" in err
