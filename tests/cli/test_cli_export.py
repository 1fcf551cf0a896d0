import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from napari_sam import Session, open_volume
from napari_sam.cli import main
from napari_sam.testing import ToyModel, phantom_volume


@pytest.fixture
def work(tmp_path):
    phantom = phantom_volume((6, 60, 60))
    np.save(tmp_path / "stack.npy", phantom.image)
    session = Session(
        tmp_path / "stack.npy", ToyModel(), embeddings=False, path=tmp_path / "w.nsam"
    )
    z, y, x = (int(v) for v in phantom.center(1))
    session.segment(3, z, points=[(y, x)])
    session.segment(4, 0, box=(5, 5, 20, 20))
    session.objects[3].review = "accepted"
    labels = np.asarray(session.labels).copy()
    session.close()
    return tmp_path, labels, z


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return stopped.value.code, captured.out, captured.err


def test_a_session_goes_out_in_several_formats(work, capsys):
    folder, labels, _ = work

    code, out, _ = run(
        capsys, "export", folder / "w.nsam", folder / "a.zarr", folder / "a.json",
        folder / "a.csv", "--json",
    )  # fmt: skip

    assert code == 0
    told = json.loads(out)
    assert [p.rsplit(".")[-1] for p in told["written"]] == ["zarr", "json", "csv"]
    assert told["notes"] == []
    np.testing.assert_array_equal(open_volume(folder / "a.zarr").levels[0][:], labels)


def test_one_plane_in_a_named_format(work, capsys):
    folder, labels, z = work

    code, _, _ = run(
        capsys, "export", folder / "w.nsam", folder / "a.png", "--plane", z
    )
    other, _, _ = run(
        capsys, "export", folder / "w.nsam", folder / "out", "--format", "labelme",
        "--plane", z, "--reviewed-only",
    )  # fmt: skip

    assert code == other == 0
    np.testing.assert_array_equal(Image.open(folder / "a.png"), labels[z])
    shapes = json.loads((folder / "out").read_text())["shapes"]
    assert {s["group_id"] for s in shapes} == {3}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.png"], "holds one plane"),
        (["a.xyz"], "names no format"),
        (["a.json", "--format", "shape"], "no format 'shape'"),
        (["no/a.json"], "there is no folder"),
        (["a.json", "--plane", "99"], "out of bounds"),
    ],
)
def test_what_cannot_be_written_is_one_message(work, capsys, arguments, message):
    folder, _, _ = work
    out, *options = arguments

    code, _, err = run(capsys, "export", folder / "w.nsam", folder / out, *options)

    assert code == 2
    assert message in err and "Traceback" not in err
    assert not (folder / out).exists()


def test_labels_are_replaced_when_asked(work, capsys):
    folder, _, _ = work
    target = folder / "a.zarr"
    assert run(capsys, "export", folder / "w.nsam", target)[0] == 0

    code, _, err = run(capsys, "export", folder / "w.nsam", target)
    assert code == 2 and "exists" in err
    assert run(capsys, "export", folder / "w.nsam", target, "--overwrite")[0] == 0


def test_exporting_loads_no_model(work):
    work, out = work[0] / "w.nsam", work[0] / "a.json"
    code = (
        "import sys\n"
        "from napari_sam.cli import main\n"
        f"try: main(['export', {str(work)!r}, {str(out)!r}])\n"
        "except SystemExit as end: assert not end.code, end\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert json.loads(out.read_text())["annotations"]


def test_classes_go_out_as_values(work, capsys):
    folder, labels, _ = work
    run(capsys, "export", folder / "w.nsam", folder / "a.tif", "--view", "semantic")
    pixels = np.asarray(open_volume(folder / "a.tif").levels[0])
    np.testing.assert_array_equal(pixels, labels > 0)
    code, _, err = run(
        capsys, "export", folder / "w.nsam", folder / "a.tif", "--view", "sematic"
    )
    assert code == 2 and "instance, semantic, panoptic" in err
