import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_sam import Session
from napari_sam.errors import SessionError, VolumeError
from napari_sam.session.worklist import Worklist
from napari_sam.testing import ToyModel, phantom_image
from napari_sam.volume.listing import images_in


@pytest.fixture
def wells(tmp_path):
    """Three images, named so that the order of letters is wrong."""
    folder = tmp_path / "wells"
    folder.mkdir()
    for number in (1, 2, 10):
        cells = phantom_image((48, 64), n_objects=2, seed=number)
        Image.fromarray(cells.image).save(folder / f"w{number}.png")
    (folder / "notes.txt").write_text("nothing to open")
    return folder


def segment(one, **options):
    session = Session(str(one.path), ToyModel(64), embeddings=False, path=one.session)
    session.segment(1, points=[(20, 20)], **options)
    session.close()


def test_images_come_in_the_order_of_their_numbers(wells):
    (wells / "later.zarr").mkdir()  # no zarr, whatever its name says
    work = Worklist(wells)
    assert [one.name for one in work.images] == ["w1", "w2", "w10"]
    assert work.current.path == wells / "w1.png" and work.begun == 0
    assert work.results == wells / "napari-sam" and not work.results.exists()


def test_the_place_reached_comes_back_and_nothing_else_is_written(wells):
    work = Worklist(wells)
    assert work.go(2).name == "w10"
    assert os.listdir(work.results) == ["worklist.json"]
    assert Worklist(wells).current.name == "w10"
    (wells / "w10.png").unlink()
    assert Worklist(wells).at == 0
    with pytest.raises(SessionError, match="no image 4"):
        work.go(3)
    assert work.at == 2


def test_names_are_like_no_others(tmp_path):
    (tmp_path / "b").mkdir()
    for path in ("a.png", "a.tif", "b/a.png"):
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / path)
    paths = [tmp_path / p for p in ("a.png", "a.tif", "b/a.png")]
    work = Worklist(paths, results=tmp_path / "out")
    assert [one.name for one in work.images] == ["a.png", "a.tif", "a.png 2"]


def test_each_begun_image_is_exported_to_a_file_of_its_own(wells, tmp_path):
    work = Worklist(wells, results=tmp_path / "out")
    segment(work.images[0])
    segment(work.images[2])
    assert [one.begun for one in work.images] == [True, False, True]
    written = list(work.export("coco"))
    assert [one.name for one, _, _ in written] == ["w1", "w10"]
    for one, path, told in written:
        assert path == work.results / f"{one.name}.json" and told == []
        (image,) = json.loads(path.read_text())["images"]
        assert image["file_name"] == one.path.name
    assert [p for _, p, _ in work.export("png", only=work.images[:1])] == [
        work.results / "w1.png"
    ]
    list(work.export("coco"))  # again, over what is there


def test_a_folder_of_dicom_slices_is_one_image(tmp_path):
    from pydicom.data import get_testdata_file

    data = Path(get_testdata_file("CT_small.dcm")).read_bytes()
    for place in (tmp_path / "a" / "1.dcm", tmp_path / "b" / "IM0"):
        place.parent.mkdir()
        place.write_bytes(data)
    assert images_in(tmp_path) == [tmp_path / "a", tmp_path / "b"]
    assert images_in(tmp_path / "a") == [tmp_path / "a"]


def test_what_makes_no_list_is_refused(tmp_path, monkeypatch):
    with pytest.raises(VolumeError, match="empty"):
        Worklist(tmp_path)
    with pytest.raises(VolumeError, match="no folder"):
        Worklist(tmp_path / "nowhere")
    with pytest.raises(SessionError, match="no images"):
        Worklist([])
    with pytest.raises(SessionError, match="there is no file"):
        Worklist([tmp_path / "a.png"])


def test_results_that_cannot_be_written_are_told_and_the_image_stays(wells):
    (wells / "taken").write_text("a file")
    work = Worklist(wells, results=wells / "taken")
    with pytest.raises(SessionError, match="another results folder"):
        work.go(1)
    assert work.at == 0
