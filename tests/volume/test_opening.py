"""What no opener lets through: other packages' exceptions and absurd sizes."""

import numpy as np
import pytest
from PIL import Image

from napari_sam.errors import VolumeError
from napari_sam.volume.formats import pictures
from napari_sam.volume.opening import open_volume


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.npy", "a.jpg"])
def test_files_of_rubbish_name_the_file(tmp_path, name):
    (tmp_path / name).write_bytes(b"II*\0rubbish" if name == "a.tif" else b"rubbish")
    with pytest.raises(VolumeError, match=name):
        open_volume(tmp_path / name)


def test_unknown_and_missing_paths_say_what_is_known(tmp_path):
    (tmp_path / "a.xyz").write_bytes(b"hello")
    with pytest.raises(VolumeError, match=r"no known format.*OME-Zarr.*DICOM"):
        open_volume(tmp_path / "a.xyz")
    with pytest.raises(VolumeError, match="check the path"):
        open_volume(tmp_path / "nowhere.tif")


@pytest.mark.parametrize("path", ["", " ", "a\0b.tif", "nowhere.tif"])
def test_paths_that_name_nothing_are_refused(tmp_path, path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VolumeError, match="there is no file or folder"):
        open_volume(path)


@pytest.mark.parametrize(
    "failure", [KeyError("x"), IndexError(), RecursionError(), MemoryError(),
                ZeroDivisionError(), OverflowError(), AttributeError("y"),
                UnicodeDecodeError("utf-8", b"", 0, 1, "z"), StopIteration()],
    ids=lambda f: type(f).__name__,
)  # fmt: skip
@pytest.mark.parametrize("late", [False, True])
def test_whatever_a_parser_raises_becomes_one_error_that_names_the_file(
    tmp_path, monkeypatch, caplog, failure, late
):
    def fail(*args):
        raise failure

    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "a.png")
    volume = open_volume(tmp_path / "a.png")
    caplog.set_level("INFO", logger="napari_sam")
    monkeypatch.setattr(pictures, "_decode" if late else "_kind_of", fail)
    volume.levels[0].__dict__["_decode"] = fail
    with pytest.raises(VolumeError, match=r"a(\.png)?' cannot be") as error:
        volume.plane() if late else open_volume(tmp_path / "a.png")
    assert error.value.__cause__ is failure
    assert caplog.records[-1].exc_info[1] is failure
