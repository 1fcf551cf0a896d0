import json

import numpy as np
import pytest
import tifffile
from time_lapses import dividing

from napari_sam.cli import main
from napari_sam.session import Session
from napari_sam.testing import ToyModel

pytest.importorskip("laptrack")


@pytest.fixture
def movie(tmp_path):
    labels = dividing().labels(seed=4)
    tifffile.imwrite(tmp_path / "movie.tif", (labels > 0).astype(np.uint8) * 200,
                     metadata={"axes": "TYX"}, imagej=True)  # fmt: skip
    tifffile.imwrite(tmp_path / "masks.tif", labels)
    return tmp_path / "movie.tif", tmp_path / "masks.tif"


def _run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    return ended.value.code


def test_labels_of_frames_become_tracks_in_a_file_and_a_session(
    movie, tmp_path, capsys
):
    image, masks = movie
    out, work = tmp_path / "tracked.tif", tmp_path / "work.nsam"
    code = _run("track", image, "--labels", masks, "--session", work, "-o", out,
                "--json")  # fmt: skip
    assert not code
    said = json.loads(capsys.readouterr().out)
    assert (said["divisions"], said["gaps"], len(said["tracks"])) == (1, 0, 4)
    parents = [t["parent"] for t in said["tracks"]]
    assert len([p for p in parents if p is not None]) == 2
    assert {t["frames"] for t in said["tracks"] if t["parent"] is None} == {3, 6}
    assert len(np.unique(tifffile.imread(out))) == 5
    assert not _run("track", work, "--no-divisions", "--frames", "1-4", "--json")
    again = Session.load(work, model=ToyModel(64), embeddings=False)
    assert not again.lineage().divisions
    again.export(tmp_path / "true.ctc", truth=True)
    assert again.undo() and len(again.lineage().divisions) == 1
    again.save()
    again.close()
    true = tmp_path / "true.ctc"
    assert not _run("track", work, "--truth", true, "--json")
    said = capsys.readouterr().out
    scores = json.loads(said[said.rindex("\n{\n") :])["scores"]
    assert scores["det"] == 1 > scores["tra"] > 0.9


@pytest.mark.parametrize(
    ("more", "says"),
    [
        pytest.param([], "is no session: give --labels", id="no labels"),
        pytest.param(["--labels", "MASKS", "--frames", "2-40"], "frames 0 to 5",
                     id="frames"),
        pytest.param(["--labels", "MASKS", "--frames", "x"], "--frames takes",
                     id="no numbers"),
        pytest.param(["--labels", "MASKS", "-o", "t.what"], "names no format",
                     id="format"),
    ],
)  # fmt: skip
def test_bad_input_is_one_message(movie, more, says, capsys):
    image, masks = movie
    more = [str(masks) if m == "MASKS" else m for m in more]
    assert _run("track", image, *more) == 2
    assert says in " ".join(capsys.readouterr().err.split())
