import json
import subprocess
import sys

import pytest

import napari_sam

PUBLIC = {
    "CT_PRESETS",
    "EmbeddingStore",
    "IntensityMapping",
    "NapariSamError",
    "Plane",
    "PlaneCandidate",
    "Prompts",
    "Session",
    "Volume",
    "encode_volume",
    "evaluate",
    "list_models",
    "load_model",
    "open_volume",
    "train",
}

HEAVY = {
    "torch", "napari", "qtpy", "PyQt6", "zarr", "pydicom", "numpy", "skimage", "scipy",
    "tifffile", "nibabel", "dask", "PIL", "typer",
}  # fmt: skip

PROBE = """
import json, sys, time
before = set(sys.modules)
start = time.perf_counter()
import napari_sam
seconds = time.perf_counter() - start
loaded = {m.split(".")[0] for m in set(sys.modules) - before}
print(json.dumps([seconds, sorted(loaded)]))
"""


def test_public_names_are_exactly_these():
    assert set(napari_sam.__all__) == PUBLIC
    assert napari_sam.__all__ == sorted(napari_sam.__all__)


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_public_name_is_there_and_documented(name):
    value = getattr(napari_sam, name)

    assert name in dir(napari_sam)
    if callable(value):
        assert value.__doc__
        assert value.__module__.startswith("napari_sam.")


def test_version_is_the_installed_one():
    from importlib.metadata import version

    assert napari_sam.__version__ == version("napari-sam-anysize")


def test_unknown_name_raises_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'segment_everything'"):
        _ = napari_sam.segment_everything


def test_import_is_fast_and_light():
    runs = [
        json.loads(
            subprocess.run(
                [sys.executable, "-c", PROBE],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        for _ in range(3)
    ]

    assert not HEAVY & set(runs[0][1])
    assert min(seconds for seconds, _ in runs) <= 0.2
