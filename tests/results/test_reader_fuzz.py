"""Damaged annotation files end in our own errors, whatever is wrong with them."""

import copy
import json
import os
import random
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_sam import open_volume
from napari_sam.errors import NapariSamError
from napari_sam.results.registry import FORMATS, read, write
from napari_sam.results.results import Results

JSON = ("coco", "sa1b", "labelme", "qupath", "geojson")
BINARY = ("imagej", "png", "geopackage", "flatgeobuf")
SEEDS = int(os.environ.get("NAPARI_SAM_FUZZ", "250"))
"""Damaged files tried of each format; the suite tries few."""
ODD = (
    None, True, -1, 0, 1.5, 2**63, 1e308, -1e308, float("nan"), float("inf"), "", "x",
    "70000", [], [[]], {}, {"type": "x"}, [0, 0], [[0, 0]], [None], "\ud800", "💥",
)  # fmt: skip


@pytest.fixture(scope="module")
def volume():
    return open_volume(np.broadcast_to(np.zeros((), np.uint8), (24, 32)))


@pytest.fixture(scope="module")
def files(tmp_path_factory, volume):
    labels = np.zeros((24, 32), np.uint16)
    labels[2:10, 3:12], labels[5, 5] = 1, 0
    labels[15:20, 20:30], labels[0, 0] = 2, 2
    folder = tmp_path_factory.mktemp("whole")
    out = {}
    for name in (*JSON, *BINARY):
        if not FORMATS[name].missing:
            out[name] = folder / f"{name}{FORMATS[name].suffixes[0]}"
            write(out[name], Results(labels, volume), name)
    return out


def places(value, path=()):
    """Every place in parsed JSON, as a path of keys."""
    yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in pairs:
        if isinstance(inner, (dict, list)):
            yield from places(inner, (*path, key))
        else:
            yield (*path, key)


def mutated(content, rng):
    out = copy.deepcopy(content)
    for _ in range(rng.randint(1, 3)):
        *way, last = rng.choice([p for p in places(out) if p])
        holder = out
        for key in way:
            holder = holder[key]
        if isinstance(holder, dict) and rng.random() < 0.3:
            del holder[last]
        else:
            holder[last] = copy.deepcopy(rng.choice(ODD))
        if not out:
            break
    return out


def is_read_or_refused(path, volume, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            labels = read(path, volume, name).labels[...]
        except NapariSamError as error:
            assert str(error)
        else:
            assert labels.shape == volume.shape
            assert labels.dtype.kind == "u"


@pytest.mark.parametrize("name", JSON)
def test_json_with_odd_values_is_read_or_refused(name, files, volume, tmp_path):
    if name not in files:
        pytest.skip("package missing")
    content = json.loads(files[name].read_text())
    for seed in range(SEEDS // 4 if name == "geojson" else SEEDS):
        path = tmp_path / f"a{FORMATS[name].suffixes[0]}"
        path.write_text(json.dumps(mutated(content, random.Random(seed))))

        is_read_or_refused(path, volume, name)


@pytest.mark.parametrize("name", (*JSON, *BINARY))
def test_damaged_bytes_are_read_or_refused(name, files, volume, tmp_path):
    if name not in files:
        pytest.skip("package missing")
    whole = files[name].read_bytes()
    path = tmp_path / files[name].name
    for seed in range(SEEDS // 6):
        rng = random.Random(seed)
        data = bytearray(whole)
        if rng.random() < 0.4:
            del data[rng.randrange(len(data)) :]
        for _ in range(rng.randint(0, 8)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)

        is_read_or_refused(path, volume, name)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["images", "annotations", "image", "shapes", "features", "id", "image_id",
             "segmentation", "counts", "size", "points", "geometry", "type", "bbox",
             "coordinates", "properties", "height", "width", "categories"]
        ),
        inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=60, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(content=plain, name=st.sampled_from(["coco", "sa1b", "labelme", "qupath"]))
def test_any_json_is_read_or_refused(content, name, volume, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))

    is_read_or_refused(path, volume, name)
    is_read_or_refused(path, volume, None)


def test_json_nested_beyond_reason_is_refused(volume, tmp_path):
    path = tmp_path / "a.json"
    path.write_text("[" * 100_000)

    for name in ("coco", "sa1b", "labelme", "qupath", None):
        with pytest.raises(NapariSamError):
            read(path, volume, name)


def test_coco_labels_to_train_on_are_read_or_refused(files, volume, tmp_path):
    from PIL import Image

    from napari_sam.training.label_sources import read_coco_images

    Image.fromarray(np.zeros(volume.shape, np.uint8)).save(tmp_path / "array.png")
    content = json.loads(files["coco"].read_text())
    content["images"][0]["file_name"] = "array.png"
    (tmp_path / "a.json").write_text(json.dumps(content))
    (whole,) = read_coco_images(tmp_path / "a.json")
    assert np.asarray(whole.labels[...]).max() == 2
    for seed in range(SEEDS):
        damaged = mutated(content, random.Random(seed))
        (tmp_path / "a.json").write_text(json.dumps(damaged))
        try:
            for found in read_coco_images(tmp_path / "a.json"):
                assert np.asarray(found.labels[...]).dtype.kind == "u"
        except NapariSamError as error:
            assert str(error)
