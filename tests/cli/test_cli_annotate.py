import json

import pytest
from PIL import Image

from napari_sam.cli import main
from napari_sam.session import Session
from napari_sam.testing import ToyModel, phantom_image

CELLS = phantom_image((60, 90), n_objects=3, noise=0)


@pytest.fixture
def wells(tmp_path):
    """Three images, the second annotated."""
    folder = tmp_path / "wells"
    folder.mkdir()
    for number in (1, 2, 10):
        Image.fromarray(CELLS.image).save(folder / f"w{number}.png")
    path = folder / "napari-sam" / "w2.nsam"
    path.parent.mkdir()
    session = Session(folder / "w2.png", ToyModel(64), embeddings=False, path=path)
    for number in (1, 2):
        session.segment(number, points=[CELLS.center(number)])
    session.objects[2].review = "accepted"
    session.close()
    return folder


def _run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    said = capsys.readouterr()
    return ended.value.code, said.out, said.err


def test_the_status_counts_images_objects_and_acceptances(wells, capsys):
    code, out, _ = _run(capsys, "annotate", wells, "--status")
    assert not code and "1 of 3 images begun" in out
    assert [line.split()[0] for line in out.splitlines()[:3]] == ["w1", "w2", "w10"]
    assert "2 objects, 1 accepted" in out and out.count("not begun") == 2
    _, out, _ = _run(capsys, "annotate", wells, "--status", "--json")
    rows = {row["name"]: row for row in json.loads(out)["images"]}
    assert (rows["w2"]["objects"], rows["w2"]["accepted"]) == (2, 1)
    assert not rows["w10"]["begun"]


def test_what_is_annotated_is_exported_a_file_an_image(wells, capsys):
    code, out, _ = _run(
        capsys, "annotate", wells, "--export", "coco", "--reviewed-only", "--json"
    )
    assert not code
    [path] = json.loads(out)["written"]
    with open(path) as file:
        assert len(json.load(file)["annotations"]) == 1
    elsewhere = wells.parent / "other"
    code, out, _ = _run(
        capsys, "annotate", wells, "--results", elsewhere, "--export", "coco"
    )
    assert not code and "nothing was written" in out


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        pytest.param(["--export", "jpg"], "--export", id="format"),
        pytest.param(["nowhere"], "nowhere", id="missing"),
    ],
)
def test_wrong_values_are_one_line_and_exit_code_2(wells, capsys, wrong, says):
    code, _, err = _run(capsys, "annotate", wells, *wrong)
    assert code == 2 and says in err and "Traceback" not in err


def test_a_window_goes_through_the_list(wells, capsys, monkeypatch):
    from napari_sam._napari import viewing

    class Napari:
        def run(self):
            opened.append("run")

    opened = []
    monkeypatch.setattr(viewing, "import_napari", Napari)
    monkeypatch.setattr(viewing, "view_images", lambda work: opened.append(len(work)))
    code, _, _ = _run(capsys, "annotate", wells)
    assert not code and opened == [3, "run"]
