"""What the command line says: which plane, what was meant, what is safe."""

import json

import numpy as np
import pytest
import tifffile

from napari_sam.cli import main
from napari_sam.cli.stopping import LEFT
from napari_sam.testing import ToyModel, phantom_volume


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Run the command line with a toy model; gives (exit code, stdout, stderr)."""
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NAPARI_SAM_CONFIG", str(tmp_path / "config"))
    monkeypatch.setattr(
        "napari_sam.models.registry.load_model", lambda name, **options: ToyModel()
    )

    def _run(*arguments):
        with pytest.raises(SystemExit) as stopped:
            main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return stopped.value.code, captured.out, captured.err

    return _run


@pytest.fixture
def stack(tmp_path):
    phantom = phantom_volume()
    path = tmp_path / "stack.npy"
    np.save(path, phantom.image)
    return path, phantom


def test_the_plane_of_a_volume_is_asked_for_and_told(run, stack, tmp_path):
    path, phantom = stack
    z, y, x = phantom.center(1)
    code, _, err = run("segment", path, "--point", f"{y},{x}")
    assert code == 2 and "--plane z (z from 0 to 15" in err
    code, out, _ = run("segment", path, "--point", f"{y},{x}", "--plane", int(z))
    assert code == 0 and f"object 1, plane z={int(z)}, " in out

    prompts = tmp_path / "prompts.json"
    prompts.write_text(json.dumps([{"points": [[y, x]]}]))
    code, _, err = run("segment", path, "--prompts", prompts)
    assert code == 2 and '"plane":' in err


def test_a_series_of_frames_is_asked_for_both(run, tmp_path):
    path = tmp_path / "movie.npy"
    np.save(path, np.stack([phantom_volume().image] * 2))
    code, _, err = run("segment", path, "--axes", "tzyx", "--point", "9,9")
    assert code == 2 and "--plane t,z (t from 0 to 1 and z from 0 to 15" in err


@pytest.mark.parametrize(
    "arguments, meant",
    [
        pytest.param(["segmnt"], "segment", id="command"),
        pytest.param(["models", "downlod", "nano"], "download", id="inner command"),
        pytest.param(["segment", "x.npy", "--pont", "1,2"], "--point", id="option"),
        pytest.param(["--point", "9,9", "-o", "a.geojsn"], ".geojson", id="suffix"),
        pytest.param(
            ["--point", "9,9", "-o", "a.json", "--format", "COCO"], "coco", id="format"
        ),
        pytest.param(
            ["--point", "9,9", "--intensity", "soft-tisue"], "soft tissue", id="preset"
        ),
    ],
)
def test_a_slip_of_the_pen_is_answered_by_the_word_meant(arguments, meant, run, stack):
    if arguments[0].startswith("--"):
        arguments = ["segment", stack[0], "--plane", "3", *arguments]
    code, _, err = run(*arguments)
    text = " ".join(err.replace("│", " ").split())
    assert code == 2
    assert f"id you mean '{meant}'" in text or f"{meant}, " in text


def test_a_slip_in_a_models_name_is_answered_by_the_name(run):
    code, _, err = run("models", "download", "sam-vit-B")
    assert code == 2 and "did you mean 'sam_vit_b'" in err
    assert "Traceback" not in err


def test_messages_of_the_library_name_options_here(run, tmp_path):
    path = tmp_path / "two.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as tif:
        for _ in range(2):
            tif.write(np.zeros((8, 9), np.uint8), metadata={"axes": "YX"})
    code, _, err = run("segment", path, "--point", "2,2")
    assert code == 2 and "choose one with --series:" in err and "series=" not in err


def test_ctrl_c_says_what_is_safe_and_how_to_go_on(run, stack, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        yield 1, 16
        raise KeyboardInterrupt

    monkeypatch.setattr("napari_sam.embeddings.encode.encode_volume", interrupted)
    code, _, err = run("embed", stack[0], "--store", tmp_path / "a.nsam-emb")
    assert code == 130 and LEFT["embed"] in err and "Traceback" not in err

    def stopped(name):
        raise KeyboardInterrupt

    monkeypatch.setattr("napari_sam.cli.models.fetch", stopped)
    code, _, err = run("models", "download", "sam_vit_b")
    assert code == 130 and LEFT["models download"] in err
