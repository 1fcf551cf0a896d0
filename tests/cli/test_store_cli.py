"""napari-sam store: what is kept on this machine, and what goes."""

from __future__ import annotations

import json
import os
import time

import numpy as np
import pytest
import zarr

from napari_sam.cli import main
from napari_sam.embeddings.cache import IN_USE, cache_folder, stored
from napari_sam.embeddings.encode import encode_volume
from napari_sam.embeddings.opening import open_store
from napari_sam.testing import ToyModel
from napari_sam.volume.opening import open_volume


@pytest.fixture
def run(capsys):
    def _run(*arguments):
        with pytest.raises(SystemExit) as stopped:
            main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return stopped.value.code, captured.out, captured.err

    return _run


@pytest.fixture
def volumes(tmp_path, monkeypatch):
    """Three images with embeddings in a cache of their own, used 1, 2, 3 days ago."""
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path / "cache"))
    made = []
    for number in range(3):
        path = tmp_path / f"image{number}.zarr"
        pixels = np.random.default_rng(number).integers(1, 255, (64, 64), np.uint8)
        zarr.create_array(path, data=pixels)
        volume = open_volume(path)
        list(encode_volume(volume, ToyModel(64)))
        made.append(volume)
    for one in stored():
        days = 1 + int(one.image[5])
        then = time.time() - days * 86400
        os.utime(one.path / IN_USE / f"{one.signature.key}.used", (then, then))
    return made


def images():
    return {one.image for one in stored()}


def test_list_tells_what_is_there_for_people_and_machines(run, volumes):
    code, out, _ = run("store", "list")
    assert code == 0 and "image2.zarr" in out and "20.0 GB" in out
    code, out, _ = run("store", "list", "--json")
    found = json.loads(out)["embeddings"]
    assert [f["image"] for f in found] == [f"image{n}.zarr" for n in (2, 1, 0)]
    first = found[0]
    assert first["tiles"] == 1 and first["model"] == ToyModel(64).spec.name
    files = [p for p in cache_folder().rglob("c/**/*") if p.is_file()]
    assert sum(f["size_bytes"] for f in found) == sum(p.stat().st_size for p in files)
    assert not first["in_use"] and first["last_used"].endswith("Z")


def test_prune_by_age(run, volumes):
    code, out, _ = run("store", "prune", "--older-than", 1.5, "--dry-run")
    assert code == 0 and "would be removed" in out and len(stored()) == 3
    code, out, _ = run("store", "prune", "--older-than", 1.5, "--json")
    assert [f["image"] for f in json.loads(out)["embeddings"]] == [
        "image2.zarr", "image1.zarr",
    ]  # fmt: skip
    assert images() == {"image0.zarr"}
    assert len([p for p in cache_folder().iterdir() if p.is_dir()]) == 1


def test_prune_by_size_takes_the_longest_unused(run, volumes):
    one = stored()[0].size_bytes
    run("store", "prune", "--max-size", f"{2 * one} B")
    assert images() == {"image0.zarr", "image1.zarr"}


def test_prune_by_signature(run, volumes):
    key = next(s.signature.key for s in stored() if s.image == "image1.zarr")
    code, _, _ = run("store", "prune", "--signature", key)
    assert code == 0 and images() == {"image0.zarr", "image2.zarr"}
    code, _, err = run("store", "prune", "--signature", key)
    assert code == 2 and "no embeddings of the signature" in err


def test_what_is_open_stays(run, volumes):
    with open_store(volumes[2], ToyModel(64), mode="r") as store:
        code, out, _ = run("store", "prune", "--older-than", 0)
        assert code == 0 and "1 are in use and stay" in out
        assert images() == {"image2.zarr"}
        assert store.get(0, store.grid.tile(0, 0, 0)) is not None
    run("store", "prune", "--older-than", 0)
    assert stored() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param((), "say what to remove", id="nothing"),
        pytest.param(("--max-size", "big"), "a size such as 20 GB", id="size"),
        pytest.param(("--older-than", "-1"), "0 or more", id="age"),
    ],
)
def test_bad_input_is_one_message(run, volumes, options, message):
    code, _, err = run("store", "prune", *options)
    assert code == 2 and message in err and "Traceback" not in err
    assert len(stored()) == 3


def test_a_store_elsewhere_can_be_listed_and_pruned(run, volumes, tmp_path):
    for side in (32, 64):
        list(encode_volume(volumes[0], ToyModel(side), tmp_path / "own.nsam-emb"))
    code, out, _ = run("store", "list", tmp_path / "own.nsam-emb", "--json")
    found = json.loads(out)["embeddings"]
    assert code == 0 and len(found) == 2
    key = found[0]["signature"]
    run("store", "prune", tmp_path / "own.nsam-emb", "--signature", key)
    left = stored(tmp_path / "own.nsam-emb")
    assert [s.signature.key for s in left] == [found[1]["signature"]]
    code, _, err = run("store", "list", tmp_path / "nowhere")
    assert code == 2 and "no folder" in err
