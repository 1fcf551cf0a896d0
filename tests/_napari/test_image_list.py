"""Next image: folders, files and layers gone through one after another."""

import json

import numpy as np
import pytest
from PIL import Image
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QFileDialog

from napari_sam.testing import phantom_image


@pytest.fixture
def wells(tmp_path):
    folder = tmp_path / "wells"
    folder.mkdir()
    for number in (1, 2, 10):
        cells = phantom_image((60, 90), n_objects=2, seed=number, noise=0)
        Image.fromarray(cells.image).save(folder / f"w{number}.png")
    return folder


def press(bench, button):
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)
    bench.settle()


@pytest.mark.canvas
def test_a_folder_is_gone_through_with_a_session_and_a_file_each(
    bench, wells, monkeypatch
):
    panel = bench.widget.panel
    assert not panel.image.next.isVisible()
    monkeypatch.setattr(
        QFileDialog, "getExistingDirectory", lambda *_, **__: str(wells)
    )
    panel.tabs.setCurrentWidget(panel.tabs.widget(panel.names.index("Results")))
    press(bench, panel.image_list.folder)
    assert panel.image.place.text() == "1 of 3" and not panel.image.previous.isEnabled()
    before = [x for x in bench.viewer.layers if x.name.startswith("bar")]
    assert len(before) > 1 and not any(x.visible for x in before)
    formats = panel.image_list.format
    formats.setCurrentIndex(formats.findData("coco"))
    formats.activated.emit(formats.currentIndex())
    bench.click(30, 20)
    first = bench.labels.copy()
    assert first.any() and bench.controller.session.path.endswith("w1.nsam")
    told = panel.image_list.progress
    assert "1 of 3; 1 have" in told.text()

    press(bench, panel.image.next)
    assert panel.image.place.text() == "2 of 3"
    assert [x.name for x in bench.viewer.layers if x.name.startswith("w1")] == []
    assert not bench.labels.any() and bench.state.object_id == 1
    assert "2 of 3; 1 have" in told.text()
    bench.key(Qt.Key.Key_PageDown)
    assert panel.image.place.text() == "3 of 3" and not panel.image.next.isEnabled()
    bench.key(Qt.Key.Key_PageDown)
    assert "the last image" in bench.state.status
    bench.click(30, 20)
    assert "3 of 3; 2 have" in told.text()

    bench.key(Qt.Key.Key_PageUp)
    bench.key(Qt.Key.Key_PageUp)
    np.testing.assert_array_equal(bench.labels, first)
    assert bench.state.can_undo and "w1 is 1 of 3; 2 have" in told.text()
    results = wells / "napari-sam"
    assert sorted(p.name for p in results.iterdir()) == [
        "w1.json", "w1.nsam", "w10.json", "w10.nsam", "worklist.json",
    ]  # fmt: skip
    (image,) = json.loads((results / "w10.json").read_text())["images"]
    assert image["file_name"] == "w10.png"


@pytest.mark.canvas
def test_the_layers_of_the_viewer_are_gone_through(bench):
    other = np.zeros((60, 90), np.uint8)
    other[5:15, 5:15] = 200
    bench.click(30, 20)
    before = bench.labels.copy()
    bench.viewer.add_image(other, name="other", scale=(0.5, 0.5), translate=(3, -2))
    bench.settle()
    panel = bench.widget.panel
    assert panel.image.place.text() == "1 of 2"
    press(bench, panel.image.next)
    shown = {x.name for x in bench.viewer.layers if x.visible}
    assert "other" in shown and not any(name.startswith("bar") for name in shown)
    bench.click(10, 10)
    assert (bench.labels == 1).sum() == 100
    press(bench, panel.image.previous)
    np.testing.assert_array_equal(bench.labels, before)
    assert bench.viewer.layers["bar"].visible
    bench.key(Qt.Key.Key_PageUp)
    assert "the first image" in bench.state.status


def test_an_image_that_cannot_be_opened_is_told_and_passed_over(desk, wells):
    (wells / "w2.png").write_bytes(b"no picture")
    (wells / "w3.npy").write_bytes(b"no array")
    do = desk.controller.image_list
    do.open(wells)
    desk.main.settle()
    assert desk.state.image_list.name == "w1"
    do.next()
    desk.main.settle()
    assert desk.state.status_kind == "error" and "w2.png" in desk.state.status
    assert desk.state.image_list.name == "w1" and desk.annotation is not None
    do.next()
    desk.main.settle()
    assert "w3.npy" in desk.state.status
    do.next()
    desk.main.settle()
    assert desk.state.image_list.name == "w10" and desk.state.status_kind == "info"
    do.previous()
    desk.main.settle()
    do.previous()
    desk.main.settle()
    do.previous()
    desk.main.settle()
    assert desk.state.image_list.name == "w1"


def test_the_model_is_not_loaded_again_for_each_image(desk, wells):
    loads = []
    load = desk.controller._load_model
    desk.controller._load_model = lambda name: loads.append(name) or load(name)
    desk.controller.image_list.open(wells)
    desk.main.settle()
    for _ in range(2):
        desk.controller.image_list.next()
        desk.main.settle()
    assert desk.state.image_list.name == "w10" and loads == ["nano"]


def test_a_results_folder_that_cannot_be_written_is_told(desk, wells):
    (wells / "napari-sam").write_text("a file is in the way")
    desk.controller.image_list.open(wells)
    desk.main.settle()
    assert desk.state.status_kind == "error"
    assert "another results folder" in desk.state.status
    assert desk.annotation is None
