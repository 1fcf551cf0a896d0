import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.main import get_command

from napari_sam import Session, open_volume
from napari_sam.cli import main
from napari_sam.cli.app import app
from napari_sam.testing import ToyModel, phantom_image, phantom_volume

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"


def commands():
    """Every command with its full name."""
    root = get_command(app)
    for name, command in root.commands.items():
        yield name, command
        for inner, below in getattr(command, "commands", {}).items():
            yield f"{name} {inner}", below


@pytest.fixture(autouse=True)
def toy(monkeypatch, tmp_path):
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NAPARI_SAM_SESSIONS", str(tmp_path / "sessions"))
    monkeypatch.setenv("NAPARI_SAM_CONFIG", str(tmp_path / "config"))
    monkeypatch.setattr(
        "napari_sam.models.registry.load_model", lambda name, **options: ToyModel()
    )


@pytest.fixture
def run(capsys):
    """Run the command line; gives (exit code, stdout, stderr)."""

    def _run(*arguments):
        with pytest.raises(SystemExit) as stopped:
            main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return stopped.value.code, captured.out, captured.err

    return _run


@pytest.fixture
def cells(tmp_path):
    phantom = phantom_image((96, 128), n_objects=4)
    path = tmp_path / "cells.png"
    Image.fromarray(phantom.image).save(path)
    return path, phantom


@pytest.fixture
def stack(tmp_path):
    phantom = phantom_volume()
    path = tmp_path / "stack.npy"
    np.save(path, phantom.image)
    return path, phantom


def size_of(path):
    with Image.open(path) as image:
        return image.size


def yx(point):
    return ",".join(str(v) for v in point[-2:])


@pytest.mark.parametrize("name", sorted(dict(commands())))
def test_help_shows_an_example_that_names_the_command(name, run):
    code, out, _ = run(*name.split(), "--help")

    assert code == 0
    assert f"napari-sam {name}" in " ".join(out.split("Example")[1].split())


@pytest.mark.parametrize("name", sorted(dict(commands())))
def test_command_is_documented_with_an_example(name):
    text = DOCS.read_text(encoding="utf-8")

    assert re.search(rf"^napari-sam {name}\b", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("name", "option"),
    [
        (name, option)
        for name, command in commands()
        for p in command.params
        for option in p.opts
        if option.startswith("--") and option not in ("--help", "--version")
    ],
)
def test_option_is_documented(name, option):
    assert f"`{option}`" in DOCS.read_text(encoding="utf-8")


def test_help_is_fast_because_nothing_heavy_is_loaded():
    code = (
        "import sys\n"
        "from napari_sam.cli import main\n"
        "try: main(['segment', '--help'])\n"
        "except SystemExit: pass\n"
        "print({'torch', 'numpy', 'zarr', 'napari'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )

    assert done.stdout.splitlines()[-1] == "set()"


def test_version_is_printed(run):
    from napari_sam import __version__

    said = f"napari-sam {__version__} (napari-sam-anysize)\n"
    assert run("--version") == (0, said, "")


def test_another_distribution_of_the_same_import_name_is_told(run, monkeypatch):
    from napari_sam.core import distribution

    monkeypatch.setattr(
        distribution.importlib.metadata,
        "packages_distributions",
        lambda: {"napari_sam": ["napari-sam-anysize", "napari_sam"]},
    )
    code, _, told = run("--version")
    assert code == 0
    assert "pip uninstall napari-sam," in told


def test_segment_gives_the_same_mask_as_python(run, cells, tmp_path):
    path, phantom = cells
    session = Session(path, ToyModel(), embeddings=False)
    session.segment(3, points=[phantom.center(2)])

    code, out, _ = run(
        "segment", path, "--point", yx(phantom.center(2)), "--object", 3,
        "-o", tmp_path / "out.png",
    )  # fmt: skip

    assert code == 0, out
    written = np.asarray(Image.open(tmp_path / "out.png"))
    np.testing.assert_array_equal(written, session.labels)


@pytest.mark.parametrize("suffix", [".zarr", ".tif", ".png", ".json"])
def test_segment_writes_by_suffix(suffix, run, cells, tmp_path):
    path, phantom = cells
    out = tmp_path / f"out{suffix}"

    code, text, _ = run(
        "segment", path, "--point", yx(phantom.center(1)), "-o", out, "--json"
    )

    assert code == 0
    assert json.loads(text)["written"] == [str(out)]
    if suffix == ".json":
        (annotation,) = json.loads(out.read_text())["annotations"]
        assert annotation["object_id"] == 1
    else:
        labels = open_volume(out).levels[0]
        assert set(np.unique(labels[:])) == {0, 1}


def test_segment_takes_box_negative_plane_axis_and_picture(run, stack, tmp_path):
    path, phantom = stack
    z0, y0, _, z1, y1, _ = phantom.box(1)
    x = phantom.center(1)[2]

    code, out, _ = run(
        "segment", path, "--plane", x, "--axis", "x", "--box", f"{z0},{y0},{z1},{y1}",
        "--negative", "0,0", "--picture", tmp_path / "see.png", "--no-store", "--json",
    )  # fmt: skip

    assert code == 0
    (found,) = json.loads(out)["objects"]
    assert found["plane"] == {"axis": 2, "index": [x]}
    truth = np.count_nonzero(phantom.labels[:, :, x] == 1)
    assert found["area"] == pytest.approx(truth, rel=0.1)
    assert size_of(tmp_path / "see.png")[0] == 1024
    assert not list(tmp_path.glob("*.nsam-emb"))


def test_segment_reads_many_objects_from_a_file(run, stack, tmp_path):
    path, phantom = stack
    entries = [
        {
            "object_id": i,
            "plane": phantom.center(i)[0],
            "points": [phantom.center(i)[1:]],
        }
        for i in (1, 2, 3)
    ]
    (tmp_path / "prompts.json").write_text(json.dumps({"objects": entries}))

    code, _, err = run(
        "segment", path, "--prompts", tmp_path / "prompts.json",
        "-o", tmp_path / "o.zarr",
    )  # fmt: skip

    assert code == 0, err
    labels = open_volume(tmp_path / "o.zarr").levels[0][:]
    for i in (1, 2, 3):
        assert labels[phantom.center(i)] == i


def test_intensity_counts_in_a_session_that_goes_on(run, cells, tmp_path):
    path, phantom = cells
    y, x = phantom.center(1)
    work, ask = tmp_path / "work.nsam", ("--point", f"{y},{x}", "--no-store")
    for window in (None, "5,77"):
        more = () if window is None else ("--intensity", window)
        assert run("segment", path, *ask, "--session", work, *more)[0] == 0
    again = Session.load(work, model=ToyModel(), read_only=True)
    assert again.engine.intensity.windows == ((5.0, 77.0),)


def test_embeddings_that_the_cache_would_remove_again_are_refused(
    run, stack, monkeypatch
):
    monkeypatch.setenv("NAPARI_SAM_CACHE_LIMIT", "1 kB")
    code, _, err = run("embed", stack[0])
    assert code == 2 and "--store" in err and "NAPARI_SAM_CACHE_LIMIT" in err


def test_segment_continues_a_session(run, cells, tmp_path):
    path, phantom = cells
    for i in (1, 2):
        code, _, err = run(
            "segment", path, "--point", yx(phantom.center(i)), "--object", i,
            "--session", tmp_path / "work.nsam", "-o", tmp_path / "out.png",
        )  # fmt: skip
        assert code == 0, err

    assert set(np.unique(Image.open(tmp_path / "out.png"))) == {0, 1, 2}


def test_candidate_takes_another_mask(run, cells):
    path, phantom = cells
    _, first, _ = run("segment", path, "--point", yx(phantom.center(1)), "--json")
    _, second, _ = run(
        "segment", path, "--point", yx(phantom.center(1)), "--candidate", 1, "--json"
    )

    scores = [json.loads(t)["objects"][0]["predicted_iou"] for t in (first, second)]
    assert scores[0] > scores[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param([], "give prompts with --point", id="no prompt"),
        pytest.param(["--point", "5"], "--point takes numbers as y,x", id="one number"),
        pytest.param(["--point", "a,b"], "got 'a,b'", id="letters"),
        pytest.param(["--point", "5000,5"], "outside the plane", id="outside"),
        pytest.param(["--negative", "5,5"], "only negative points", id="negative"),
        pytest.param(["--box", "9,9,9,20"], "is empty", id="empty box"),
        pytest.param(["--point", "5,5", "--plane", "3"], "one plane", id="plane"),
        pytest.param(["--point", "5,5", "--axis", "w"], "--axis takes", id="axis"),
        pytest.param(
            ["--point", "5,5", "-o", "a.xyz"], "'a.xyz' names no format", id="suffix"
        ),
        pytest.param(
            ["--point", "5,5", "--candidate", "9"], "candidate", id="candidate"
        ),
        pytest.param(["--prompts", "nowhere.json"], "cannot read prompts", id="file"),
        pytest.param(
            ["--point", "5,5", "--intensity", "liv"],
            "one of soft tissue",
            id="intensity",
        ),
        pytest.param(["--point", "5,5", "--object", "0"], "object_id", id="object"),
    ],
)
def test_bad_prompts_end_with_one_message_and_code_2(arguments, message, run, cells):
    code, out, err = run("segment", cells[0], *arguments, "--no-store", "--json")

    assert code == 2
    assert err.startswith("napari-sam: ")
    assert message in err
    assert "Traceback" not in err
    assert out == ""


def test_missing_file_is_one_message(run, tmp_path):
    code, _, err = run("segment", tmp_path / "no.png", "--point", "1,1")

    assert (code, err.count("\n")) == (2, 1)
    assert "there is no file" in err


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("[]", id="empty"),
        pytest.param("[5]", id="number"),
        pytest.param('[{"pionts": [[1, 1]]}]', id="misspelt"),
        pytest.param('[{"points": [[1, 1]], "plane": "x"}]', id="plane"),
        pytest.param('[{"points": 3}]', id="points"),
        pytest.param('[{"box": [1, "a", 3, 4]}]', id="box"),
    ],
)
def test_odd_prompt_file_is_refused(content, run, cells, tmp_path):
    (tmp_path / "p.json").write_text(content)

    code, _, err = run("segment", cells[0], "--prompts", tmp_path / "p.json")

    assert code == 2
    assert err.startswith("napari-sam: ")


def test_embed_dry_run_writes_nothing(run, stack, tmp_path):
    before = sorted(tmp_path.rglob("*"))

    code, out, _ = run("embed", stack[0], "--planes", "1,3-5", "--dry-run", "--json")

    assert code == 0
    report = json.loads(out)
    assert report["planes"] == 4
    assert report["seconds"] == pytest.approx(
        report["tiles"] * report["seconds_per_tile"]
    )
    assert sorted(tmp_path.rglob("*")) == before


def test_embed_continues_where_it_was(run, stack, tmp_path):
    store = tmp_path / "emb"
    run("embed", stack[0], "--store", store, "--planes", "0-3")

    _, out, _ = run("embed", stack[0], "--store", store, "--json")

    report = json.loads(out)
    assert report["done"] == report["total"] == report["tiles"]


def test_embed_dry_run_names_tiles_time_and_disk(run, stack):
    code, out, _ = run("embed", stack[0], "--dry-run")

    assert code == 0
    assert re.search(r"= \d+ tiles, [\d.]+ [kM]B \([\d.]+ kB each\) in ", out)
    assert re.search(r"about \d+ seconds, [\d.]+ s each", out)


def test_shards_of_embed_share_the_work(run, stack, tmp_path):
    store = tmp_path / "emb"
    tiles = []
    for part in ("0/3", "1/3", "2/3"):
        _, out, _ = run("embed", stack[0], "--store", store, "--shard", part, "--json")
        tiles.append(json.loads(out)["total"])

    _, out, _ = run("embed", stack[0], "--store", store, "--dry-run", "--json")
    assert sum(tiles) == json.loads(out)["tiles"]
    _, out, _ = run("embed", stack[0], "--store", store, "--json")
    assert json.loads(out)["done"] == sum(tiles)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shard", "3/3"], "--shard takes i/n"),
        (["--shard", "one"], "--shard takes i/n"),
        (["--workers", "0"], "workers must be 1 or more"),
        (["--workers", "1", "--scheduler", "tcp://x:1"], "either the address"),
    ],
)
def test_embed_refuses_workers_that_make_no_sense(options, message, run, stack):
    code, _, err = run("embed", stack[0], *options)

    assert code == 2
    assert message in err


def test_embed_hands_the_work_to_its_workers(run, stack, tmp_path):
    store = tmp_path / "emb"
    code, out, _ = run("embed", stack[0], "--store", store, "--workers", 1, "--json")

    report = json.loads(out)
    assert code == 0
    assert report["done"] == report["total"] == report["tiles"]


def test_embed_refuses_planes_that_are_not_there(run, stack):
    code, _, err = run("embed", stack[0], "--planes", "4-1")
    assert code == 2 and "such as 1-4" in err
    code, _, err = run("embed", stack[0], "--planes", "99")

    assert code == 2
    assert "out of bounds" in err


def test_models_lists_what_there_is(run):
    _, out, _ = run("models", "--json")
    models = {m["name"]: m for m in json.loads(out)["models"]}

    assert {"nano", "mobile_sam", "sam_vit_b"} <= set(models)
    assert models["sam_vit_b"]["here"] is False
    assert all(m["license"] for m in models.values())
    assert models["medsam"]["prompts"] == ["box"]
    assert models["medsam"]["where"] == "fetch by hand"


def test_an_own_model_is_added_listed_and_removed(run, tmp_path, monkeypatch):
    from napari_sam.models.nano.nano import write_weights
    from napari_sam.models.nano.network import NanoNetwork

    monkeypatch.setenv("NAPARI_SAM_CONFIG", str(tmp_path / "config"))
    write_weights(NanoNetwork(), tmp_path / "best.safetensors")
    code, out, _ = run("models", "add", "my_cells", tmp_path / "best.safetensors")
    assert code == 0 and "my_cells is" in out
    _, out, _ = run("models")
    assert "my_cells" in out and "best.safetensors" in out
    assert run("models", "remove", "my_cells")[0] == 0
    assert "my_cells" not in run("models")[1]
    code, _, err = run("models", "remove", "my_cells")
    assert code == 2 and "none of your own models" in err


def test_unknown_model_to_download_is_one_message(run):
    code, _, err = run("models", "download", "sam_vit_xxl")

    assert code == 2
    assert "expected one of nano" in err


def test_demo_writes_everything_and_runs_twice(run, tmp_path):
    out = tmp_path / "demo"
    run("demo", "--out", out)
    code, text, _ = run("demo", "--out", out, "--json")

    assert code == 0
    images = json.loads(text)["images"]
    assert {"ct", "mr", "microscopy"} <= {i["image"] for i in images}
    for image in images:
        assert all(Path(f).exists() for f in image["files"])
        assert all(o["area"] > 0 for o in image["objects"])
    assert size_of(out / "demo.png")[1] > 400


def test_demo_never_replaces_a_folder_of_yours(run, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "ct").write_text("precious")

    code, _, err = run("demo", "--out", tmp_path / "thesis")

    assert code == 2
    assert "a folder of its own" in err
    assert (tmp_path / "thesis" / "ct").read_text() == "precious"


@pytest.mark.canvas
def test_demo_shows_each_image_with_its_labels(
    run, tmp_path, monkeypatch, make_napari_viewer
):
    viewer = make_napari_viewer()
    monkeypatch.setattr("napari.Viewer", lambda **options: viewer)
    monkeypatch.setattr("napari.run", lambda: None)

    code, out, err = run("demo", "--out", tmp_path / "demo", "--view", "--json")

    assert code == 0, err
    images = json.loads(out)["images"]
    shown = [x for x in viewer.layers if type(x).__name__ == "Image"]
    assert len(shown) == len(images)
    (docked,) = viewer.window.dock_widgets.values()
    points = docked.controller.annotation.layers.points
    assert viewer.layers.selection.active is points
    edges = [x.extent.world[:, 1] for x in shown]
    assert all(a[1] < b[0] for a, b in itertools.pairwise(edges))


@pytest.mark.canvas
def test_view_hands_the_session_to_the_panel_whole(
    run, cells, tmp_path, monkeypatch, make_napari_viewer, qtbot
):
    path, phantom = cells
    run(
        "segment", path, "--point", yx(phantom.center(1)),
        "--session", tmp_path / "work.nsam", "-o", tmp_path / "labels.zarr",
    )  # fmt: skip
    viewer = make_napari_viewer()
    monkeypatch.setattr("napari.Viewer", lambda **options: viewer)
    monkeypatch.setattr("napari.run", lambda: None)

    code, _, err = run(
        "view", path, "--session", tmp_path / "work.nsam",
        "--labels", tmp_path / "labels.zarr",
    )  # fmt: skip

    assert code == 0, err
    (docked,) = viewer.window.dock_widgets.values()
    controller = docked.controller
    qtbot.waitUntil(
        lambda: docked.contents.settled and controller.session is not None,
        timeout=60_000,
    )
    assert controller.session.path == str(tmp_path / "work.nsam")
    assert viewer.layers["cells · masks"].data is controller.session.labels
    assert viewer.layers["cells · masks"].data.max() == 1
    assert viewer.layers.selection.active is controller.annotation.layers.points
    assert viewer.layers["labels"].data.max() == 1
    assert len(controller.annotation.layers.points.data) == 1
    controller.undo()
    assert not controller.session.labels.any()
    assert not os.path.exists(os.environ["NAPARI_SAM_SESSIONS"])


def never(*_, **__):
    raise AssertionError("the model was loaded before this was checked")


@pytest.mark.parametrize(
    "options, message",
    [
        pytest.param(["-o", "no/a.json"], "there is no folder", id="folder"),
        pytest.param(["-o", "a.json", "-o", "no/b.png"], "no folder", id="second"),
        pytest.param(["-o", "here.json"], "is a folder", id="in the way"),
        pytest.param(["-o", "here.zarr"], "no OME-Zarr 0.5 image", id="zarr"),
        pytest.param(["--picture", "no/a.png"], "there is no folder", id="picture"),
        pytest.param(["--picture", "a.jpg"], "takes .png", id="picture suffix"),
        pytest.param(["--point", "1,900"], "outside the plane", id="point"),
        pytest.param(["--plane", "3"], "one plane", id="plane"),
        pytest.param(["--plane", "0.5"], "whole numbers", id="half a plane"),
        pytest.param(["--channels", "0.5"], "whole numbers", id="half a channel"),
    ],
)
def test_what_cannot_work_is_refused_before_the_model_is_loaded(
    options, message, run, cells, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("napari_sam.models.registry.load_model", never)
    (tmp_path / "here.json").mkdir()
    (tmp_path / "here.zarr").mkdir()
    code, _, err = run("segment", cells[0], "--point", "5,5", *options)
    assert code == 2 and message in err
    assert err.startswith("napari-sam: ") and err.count("\n") == 1


def test_labels_that_are_there_already_stop_segment_before_it_begins(
    run, cells, tmp_path, monkeypatch
):
    path, phantom = cells
    out = tmp_path / "labels.zarr"
    prompt = ["segment", path, "--point", yx(phantom.center(1)), "-o", out]
    assert run(*prompt)[0] == 0
    monkeypatch.setattr("napari_sam.models.registry.load_model", never)
    code, _, err = run(*prompt)
    assert code == 2 and "choose another name" in err


def test_segment_says_that_nothing_was_written(run, cells):
    path, phantom = cells
    code, out, _ = run("segment", path, "--point", yx(phantom.center(1)))
    assert code == 0 and "nothing was written" in out


def test_view_and_demo_say_that_there_is_no_screen(run, cells, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    for command in (["view", cells[0]], ["demo", "--view", "-o", tmp_path / "demo"]):
        code, out, err = run(*command)
        assert code == 2 and "needs a screen" in err and not out


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        pytest.param(np.ones((5, 6), "u1"), "96 (y) x 128 (x)", id="size"),
        pytest.param(np.full((96, 128), 0.5, "f4"), "fractions", id="type"),
    ],
)
def test_view_refuses_labels_that_do_not_fit(labels, message, run, cells, tmp_path):
    path = tmp_path / "labels.npy"
    np.save(path, labels)
    code, _, err = run("view", cells[0], "--labels", path)
    assert code == 2 and message in err


def test_demo_into_a_file_is_one_message(run, cells):
    code, _, err = run("demo", "--out", cells[0])
    assert code == 2 and "takes a folder" in err


def test_a_folder_that_cannot_be_made_is_one_message_not_a_traceback(run, tmp_path):
    (tmp_path / "file").write_text("in the way")
    code, _, err = run("demo", "--out", tmp_path / "file" / "demo")
    assert code == 2 and err.startswith("napari-sam: ") and err.count("\n") == 1
    assert str(tmp_path / "file") in err


@pytest.mark.parametrize(
    "options, message",
    [
        (["--shard", "9/8"], "--shard takes i/n"),
        (["--workers", "0"], "--workers must be 1 or more"),
        (["--planes", "99"], "99"),
    ],
)
def test_embed_is_refused_before_the_model_is_loaded(
    options, message, run, stack, monkeypatch
):
    monkeypatch.setattr("napari_sam.models.registry.load_model", never)
    code, _, err = run("embed", stack[0], *options)
    assert code == 2 and message in err and err.count("\n") == 1


def test_doctor_tells_versions_folders_devices_and_what_is_missing(
    run, monkeypatch, tmp_path
):
    (tmp_path / "sessions").write_text("a file in the way")
    code, out, _ = run("doctor")
    assert code == 0
    for said in ("Python", "torch", str(tmp_path / "cache"), "one tile of nano"):
        assert said in out
    assert "-> " + str(tmp_path / "sessions") + " is a file" in out

    code, out, _ = run("doctor", "--no-encode", "--json")
    findings = json.loads(out)
    assert {f["part"] for f in findings} >= {"Program", "Packages", "Folders"}
    assert not any(f["part"] == "Devices" for f in findings)
