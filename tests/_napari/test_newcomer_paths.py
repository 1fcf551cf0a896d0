"""Ways through the first half hour, in one window, by mouse, keys and menus.

Each path begins with a bare window. After every step `Newcomer.check` compares what the
panel says with what is so.
"""

import json
from unittest.mock import patch

import numpy as np
import pytest
import tifffile
from napari_window import PLUS, Newcomer
from PIL import Image
from qtpy.QtCore import Qt
from qtpy.QtGui import QGuiApplication
from qtpy.QtTest import QTest
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QFileDialog,
    QInputDialog,
    QLineEdit,
    QMessageBox,
    QScrollArea,
    QScrollBar,
    QTabBar,
    QTabWidget,
)
from superqt.sliders._labeled import SliderLabel

from napari_sam.errors import ModelError
from napari_sam.testing import phantom_image, phantom_volume

pytestmark = pytest.mark.canvas
CONTROL, SHIFT = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier
BAR = 20 * 70
PATHS = []


def path(function):
    """Take a function as one of the paths."""
    PATHS.append(pytest.param(function, id=function.__name__))
    return function


@pytest.fixture(scope="module")
def window(qapp):
    """One napari window for all paths."""
    import napari

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            "napari._qt.threads.status_checker.StatusChecker.start", lambda *_: None
        )
        viewer = napari.Viewer(show=True, show_welcome_screen=False)
        viewer.window._qt_window.resize(1000, 680)
        yield viewer
        with patch.object(viewer.window._qt_window, "_save_current_window_settings"):
            viewer.close()
        qapp.processEvents()


@pytest.fixture
def user(window, qtbot, toy):
    made = Newcomer(window, qtbot)
    yield made
    widget = made.widget
    if widget is not None:
        jobs = widget.jobs
        window.window.remove_dock_widget(widget)
        qtbot.waitUntil(lambda: not jobs.alive, timeout=60_000)
    window.layers.clear()
    window.theme = "dark"
    window.dims.ndisplay = 2
    window.reset_view()


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Answers of file dialogs: what `Answers.opens` and `saves` say."""

    class Answers:
        folder = tmp_path
        opens = saves = None

        def put(self, name, data):
            where = tmp_path / name
            Image.fromarray(data).save(where)
            return where

    said = Answers()
    one = lambda *_, **__: (str(said.opens), "")  # noqa: E731
    monkeypatch.setattr(QFileDialog, "getOpenFileName", one)
    monkeypatch.setattr(
        QFileDialog, "getOpenFileNames", lambda *_, **__: ([str(said.opens)], "")
    )
    monkeypatch.setattr(
        QFileDialog, "getExistingDirectory", lambda *_, **__: str(said.opens)
    )
    monkeypatch.setattr(
        QFileDialog, "getSaveFileName", lambda *_, **__: (str(said.saves), "")
    )
    monkeypatch.setattr("napari._qt.qt_viewer.update_open_history", lambda *_: None)
    # Where several readers take a file, napari asks which: the one of that name.
    monkeypatch.setattr(
        "napari._qt.dialogs.qt_reader_dialog.QtReaderDialog.get_user_choices",
        lambda dialog: ("napari-sam", False),
    )
    return said


@pytest.mark.parametrize("way", PATHS)
def test_path(way, user, request):
    names = way.__code__.co_varnames[1 : way.__code__.co_argcount]
    way(user, *(request.getfixturevalue(name) for name in names))


def bar():
    image = np.full((60, 90), 20, np.uint8)
    image[20:40, 10:80] = 200
    return image


def at_work(user, data=None, name="bar", **options):
    """An image, and the panel opened on it from the menu."""
    layer = user.viewer.add_image(bar() if data is None else data, name=name, **options)
    user.plugins()
    return layer


def count(user, object_id=1):
    return int((user.labels == object_id).sum())


# -- opening ---------------------------------------------------------------------------


@path
def sample_then_plugins_menu(user):
    user.menu("File", "Open Sample", "napari-sam", "CT slice (head)")
    user.plugins()
    assert user.lit() == [PLUS] and "Click on an object" in user.status
    user.click(250, 250)
    assert user.labels[250, 250] == 1


@path
def panel_before_image(user):
    user.plugins()
    assert "Open an image" in user.status
    user.viewer.add_image(bar(), name="bar")
    user.settle()
    user.click(30, 20)
    assert count(user) == BAR


@path
def layers_menu_opens_the_same_panel(user):
    user.viewer.add_image(bar(), name="bar")
    user.menu("Layers", "Segment", "Segment Anything (napari-sam)")
    user.click(30, 20)
    user.plugins()  # hides it, as napari's menu does
    assert not user.widget.isVisible()
    user.plugins()
    assert count(user) == BAR and user.widget.isVisible()


@path
def a_command_opens_the_panel(user):
    user.viewer.add_image(bar(), name="bar")
    user.command("Box tool")
    assert user.lit() == [("box", 1)]
    user.drag((15, 5), (45, 85))
    assert count(user) == BAR


@path
def a_png_through_file_open(user, files):
    files.opens = files.put("bar.png", bar())
    user.menu("File", "Open File(s)...")
    user.plugins()
    user.click(30, 20)
    assert count(user) == BAR
    user.tab("Image")
    assert "no file" not in user.panel.encoding.place.text()


@path
def an_ome_tiff_keeps_its_channels_and_place(user, files):
    two = np.stack([bar(), bar()[::-1]]).astype(np.uint16)
    files.opens = files.folder / "two.ome.tif"
    meta = {"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5,
            "Channel": {"Name": ["nuclei", "membrane"]}}  # fmt: skip
    tifffile.imwrite(files.opens, two, metadata=meta)
    user.menu("File", "Open File(s)...")
    user.plugins()
    shown = [x for x in user.viewer.layers if x._type_string == "image"]
    assert len(shown) == 2 and {x.blending for x in shown[1:]} == {"additive"}
    np.testing.assert_allclose(shown[0].scale[-2:], 0.5)
    user.click(30, 20)
    assert user.labels.shape[-2:] == (60, 90) and user.labels[..., 30, 20].all()
    np.testing.assert_allclose(user.layer("masks").scale[-2:], 0.5)


@path
def a_folder_of_slices(user, files):
    files.opens = files.folder / "slices"
    files.opens.mkdir()
    for number in (1, 2, 10):
        tifffile.imwrite(files.opens / f"s{number}.tif", bar())
    user.menu("File", "Open Folder...")
    user.plugins()
    assert user.annotation.volume.shape == (3, 60, 90)
    user.click(1, 30, 20)
    assert count(user) == BAR
    number = user.annotation.plane.index[0]
    assert (user.labels[number] == 1).sum() == BAR


# -- clicking --------------------------------------------------------------------------


@path
def click_minus_undo_redo(user):
    at_work(user)
    user.click(30, 20)
    user.key(Qt.Key.Key_T)
    user.click(30, 70)
    refined = user.labels.copy()
    assert refined[30, 20] == 1 and refined[30, 70] == 0
    user.key(Qt.Key.Key_Z, CONTROL)
    assert count(user) == BAR
    user.key(Qt.Key.Key_Z, CONTROL | SHIFT)
    np.testing.assert_array_equal(user.labels, refined)


@path
def minus_before_plus_is_told(user):
    at_work(user)
    user.press(user.tool("point", 0))
    user.click(30, 20)
    assert user.state.status_kind == "error" and not user.labels.any()
    user.key(Qt.Key.Key_P)
    user.click(30, 60)
    assert user.state.status_kind == "info" and user.labels[30, 60] == 1


@path
def box_without_drag_then_with(user):
    at_work(user)
    user.click(30, 20)
    before = user.labels.copy()
    user.key(Qt.Key.Key_B)
    user.click(10, 40)
    user.drag((10, 40), (10.2, 40.1))
    np.testing.assert_array_equal(user.labels, before)
    assert "drag" in user.status
    user.key(Qt.Key.Key_N)
    user.drag((15, 5), (45, 85))
    assert user.labels[30, 20] == 1 and user.state.object_id == 2


@path
def candidates_by_key_and_by_picture(user):
    at_work(user)
    user.click(30, 20)
    shown = len(user.state.thumbnails)
    user.key(Qt.Key.Key_C)
    assert user.state.chosen == 1 % shown
    user.press(user.panel.prompt.candidates[0])
    assert user.state.chosen == 0 and count(user) == BAR


@path
def next_object_and_back_by_its_number(user):
    cells = phantom_image((96, 128), n_objects=4, noise=0)
    at_work(user, cells.image, "cells")
    for number in (1, 2):  # one object each
        user.click(*cells.center(number))
        user.key(Qt.Key.Key_N)
    user.key(Qt.Key.Key_N)
    assert user.state.object_id == 3 and "still empty" in user.status
    field = user.panel.object.number
    field.lineEdit().setText("1")
    QTest.keyClick(field, Qt.Key.Key_Return)
    user.settle()
    assert user.state.object_id == 1 and len(user.layer("points").data) == 1
    user.press(user.panel.object.delete)
    assert not count(user, 1) and count(user, 2)
    user.key(Qt.Key.Key_Z, CONTROL)
    assert count(user, 1) and count(user, 2)


@path
def background_is_one_click_and_one_undo(user):
    at_work(user)
    user.click(5, 5)
    assert user.labels[5, 5] == 1 and not user.labels[30, 20]
    user.press(user.panel.prompt.undo)
    assert not user.labels.any() and not len(user.layer("points").data)


@path
def a_point_is_moved_and_removed_with_napari_tools(user):
    at_work(user)
    user.click(30, 20)
    points = user.layer("points")
    points.mode = "select"
    user.settle()
    points.selected_data = {0}
    QTest.keyClick(user.canvas.native, Qt.Key.Key_Delete)
    user.settle()
    assert not user.labels.any() and "no prompt here" in user.status
    user.press(user.tool(*PLUS))
    user.click(30, 60)
    assert count(user) == BAR


# -- layers ----------------------------------------------------------------------------


@path
def the_image_is_selected_and_p_leads_back(user):
    layer = at_work(user)
    user.select(layer)
    user.click(30, 20)
    assert not user.labels.any() and "(P)" in user.status
    user.key(Qt.Key.Key_P)
    user.click(30, 20)
    assert count(user) == BAR


@path
def painting_by_hand_and_back(user):
    at_work(user)
    user.click(30, 20)
    masks = user.layer("masks")
    user.select(masks)
    user.key(Qt.Key.Key_2)
    masks.brush_size = 6
    user.click(5, 5)
    assert user.labels[5, 5] == 1 and "by hand" in user.panel.prompt.elsewhere.text()
    user.key(Qt.Key.Key_Z, CONTROL)
    assert count(user) == BAR and not user.labels[5, 5]
    user.key(Qt.Key.Key_P)
    assert user.lit() == [PLUS]


@path
def several_layers_selected(user):
    layer = at_work(user)
    user.select(layer, user.layer("points"))
    assert "Several layers" in user.panel.prompt.elsewhere.text()
    user.press(user.tool(*PLUS))
    user.click(30, 20)
    assert count(user) == BAR


@path
def our_layers_are_deleted(user):
    at_work(user)
    user.click(30, 20)
    user.viewer.layers.remove(user.layer("points"))
    user.settle()
    user.press(user.tool(*PLUS))
    assert len(user.layer("points").data) == 1
    user.viewer.layers.remove(user.layer("masks"))
    user.settle()
    user.command("New object")
    user.click(5, 5)
    assert user.layer("masks").data[30, 20] == 1 and user.labels[5, 5] == 2


@path
def the_image_is_removed(user):
    layer = at_work(user)
    user.click(30, 20)
    user.viewer.layers.remove(layer)
    user.settle()
    assert user.layer("masks").data[30, 20] == 1
    assert "was removed" in user.status and not user.panel.prompt.undo.isEnabled()
    user.viewer.add_image(bar(), name="bar")
    user.settle()
    user.click(30, 20)
    assert count(user) == BAR


@path
def two_images_and_back_by_the_list(user):
    at_work(user)
    user.click(30, 20)
    user.viewer.add_image(bar().T, name="other")
    user.settle()
    user.pick(user.panel.image.images, "other")
    assert not user.labels.any() and user.state.object_id == 1
    user.click(20, 30)
    assert count(user) == BAR
    user.pick(user.panel.image.images, "bar")
    assert user.labels.shape == (60, 90) and count(user) == BAR
    user.press(user.panel.prompt.undo)
    assert not user.labels.any()


# -- the window ------------------------------------------------------------------------


@path
def theme_and_reopened_panel(user):
    at_work(user)
    user.click(30, 20)
    user.viewer.theme = "light"
    user.settle()
    jobs = user.widget.jobs
    user.viewer.window.remove_dock_widget(user.widget)
    user.qtbot.waitUntil(lambda: not jobs.alive, timeout=60_000)
    user.plugins()
    assert count(user) == BAR and len(user.layer("points").data) == 1
    user.click(5, 5)
    user.key(Qt.Key.Key_Z, CONTROL)
    user.key(Qt.Key.Key_Z, CONTROL)
    assert not user.labels.any()


@path
def three_dimensions_and_back(user):
    at_work(user, np.stack([bar()] * 4), "stack")
    user.viewer.dims.ndisplay = 3
    user.settle()
    told = user.panel.prompt.elsewhere
    assert "2-D view" in told.text() and user.state.status_kind == "info"
    user.viewer.dims.ndisplay = 2
    user.settle()
    assert user.lit() == [PLUS] and not told.isVisible()
    user.viewer.dims.ndisplay = 3
    user.settle()
    user.press(user.tool(*PLUS))
    assert user.viewer.dims.ndisplay == 2
    user.click(0, 30, 20)
    assert count(user) == BAR


@path
def planes_of_a_volume_are_followed(user):
    cells = phantom_volume((8, 64, 80), n_objects=2, noise=0)
    at_work(user, cells.image, "stack")
    z, y, x = cells.center(1)
    user.viewer.dims.set_point(0, z)
    user.settle()
    user.click(z, y, x)
    user.tab("Volume")
    assert "1 by hand" in user.panel.volume.legend.text()
    user.press(user.panel.volume.fill)
    planes = np.unique(np.nonzero(user.labels == 1)[0])
    assert len(planes) > 2 and user.state.status_kind == "info"
    user.key(Qt.Key.Key_Z, CONTROL)
    assert list(np.unique(np.nonzero(user.labels)[0])) == [int(z)]
    user.pick(user.panel.image.axis, "along x")
    assert user.annotation.plane.axis == 2


# -- models ----------------------------------------------------------------------------


@path
def a_download_is_declined(user, monkeypatch):
    asked = []
    monkeypatch.setattr(QMessageBox, "question", lambda *given: asked.append(given[-1]))
    at_work(user)
    names = user.panel.model.names
    user.pick(names, names.itemText(names.findData("sam_vit_b")))
    assert len(asked) == 1 and names.currentData() == "nano"
    user.click(30, 20)
    assert count(user) == BAR


@path
def a_checkpoint_that_fails(user, files, monkeypatch):
    at_work(user)
    user.click(30, 20)
    files.opens = files.folder / ("long_" * 20 + ".pth")

    def broken(name):
        raise ModelError(f"{name} cannot be read: it holds nothing that is known")

    monkeypatch.setattr(user.controller, "_load_model", broken)
    monkeypatch.setattr(QInputDialog, "getText", lambda *_, **__: ("", True))
    user.press(user.panel.model.file)
    assert user.panel.model.names.currentData() == "nano"
    assert str(files.opens) in user.status
    user.press(user.panel.status.copy)
    assert QGuiApplication.clipboard().text() == user.status
    user.command("New object")
    user.click(5, 5)
    assert count(user) == BAR and user.labels[5, 5] == 2


@path
def a_model_to_be_fetched_by_hand(user, monkeypatch):
    at_work(user)
    names = user.panel.model.names
    user.pick(names, names.itemText(names.findData("fast_sam_x")))
    assert "put it at" in user.status and "AGPL" in user.status
    assert user.state.status_kind == "error" and names.currentData() == "nano"
    user.click(30, 20)
    assert count(user) == BAR


# -- files -----------------------------------------------------------------------------


@path
def saved_left_and_opened_again(user, files):
    layer = at_work(user)
    user.click(30, 20)
    files.saves = files.folder / "work"
    user.tab("Results")
    user.press(user.panel.output.save)
    saved = files.folder / "work.nsam"
    assert saved.is_dir() and str(saved) in user.status
    user.key(Qt.Key.Key_N)
    user.click(5, 5)
    labels = user.labels.copy()
    jobs = user.widget.jobs
    user.viewer.window.remove_dock_widget(user.widget)
    user.qtbot.waitUntil(lambda: not jobs.alive, timeout=60_000)
    user.viewer.layers.clear()
    user.viewer.add_image(layer.data, name="bar")
    user.plugins()
    assert not user.labels.any()
    files.opens = saved
    user.tab("Results")
    user.press(user.panel.output.open)
    np.testing.assert_array_equal(user.labels, labels)
    assert user.lit() == [PLUS] and user.state.can_undo


@path
def a_session_of_another_image_of_the_same_size(user, files):
    at_work(user)
    user.click(30, 20)
    files.saves = files.folder / "work.nsam"
    user.tab("Results")
    user.press(user.panel.output.save)
    user.controller.leave_image()
    user.viewer.layers.clear()
    user.settle()
    user.viewer.add_image(255 - bar(), name="other")
    user.settle()
    files.opens = files.saves
    user.press(user.panel.output.open)
    assert "another image" in user.status and "pixels have changed" in user.status
    assert user.state.status_kind == "error"


@path
def export_and_read(user, files):
    at_work(user)
    user.click(30, 20)
    files.saves = files.folder / "masks.json"
    user.command("Export…")
    assert str(files.saves) in user.status
    assert len(json.loads(files.saves.read_text())["annotations"]) == 1
    user.press(user.panel.object.delete)
    files.opens = files.saves
    user.command("Read objects…")
    assert count(user) == BAR and "1 object(s) read" in user.status


@path
def zarr_written_twice(user, files, monkeypatch):
    at_work(user)
    user.click(30, 20)
    files.saves = files.folder / "masks.zarr"
    user.command("Export…")
    asked = []
    yes = QMessageBox.StandardButton.Yes
    monkeypatch.setattr(
        QMessageBox, "question", lambda *given: asked.append(given[-1]) or yes
    )
    user.command("New object")
    user.key(Qt.Key.Key_B)
    user.drag((5, 5), (15, 15))
    user.command("Export…")
    assert len(asked) == 1 and "Wrote" in user.status
    import zarr

    group = zarr.open_group(files.saves, mode="r")
    found = next(a for _, a in group.members(max_depth=None) if hasattr(a, "shape"))
    assert set(np.unique(np.asarray(found))) == {0, 1, 2}


@path
def no_room_on_the_disk(user, sessions, monkeypatch):
    sessions.write_text("a file where the folder should be")
    at_work(user)
    red = user.panel.status.unsaved
    assert red.isVisible() and "not kept" in red.text()
    user.click(30, 20)
    assert count(user) == BAR and red.isVisible()
    sessions.unlink()
    monkeypatch.setattr("napari_sam._napari.keeping.AGAIN_S", 0.0)
    user.command("New object")
    user.click(5, 5)
    user.settle()
    assert not red.isVisible() and user.session.path.startswith(str(sessions))


@path
def everything_found_and_accepted(user):
    at_work(user)
    user.tab("Find")
    user.press(user.panel.review.everything)
    assert user.panel.review.rows.count() >= 1
    user.press(user.panel.review.accept_all)
    assert (user.labels[20:40, 10:80] > 0).all()
    user.key(Qt.Key.Key_Z, CONTROL)
    assert not user.labels.any()
    user.command("New object")
    assert user.state.object_id == 1 and "still empty" in user.status


@path
def a_mask_that_meets_another_says_what_was_left_out(user):
    at_work(user)
    user.click(30, 20)
    user.key(Qt.Key.Key_N)
    user.click(5, 5)  # the background, with a hole where object 1 is
    assert "left out" not in user.status
    user.key(Qt.Key.Key_N)
    user.click(30, 60)
    assert "100 % of it is left out" in user.status
    user.pick(user.panel.prompt.rule, "overwrites others")
    user.key(Qt.Key.Key_Z, CONTROL)
    user.click(30, 60)
    assert "left out" not in user.status and count(user, 3) == BAR


@path
def a_folder_image_by_image(user, files):
    files.opens = files.folder / "wells"
    files.opens.mkdir()
    for name in ("a", "b"):
        Image.fromarray(bar()).save(files.opens / f"{name}.png")
    user.plugins()
    user.command("Go through a folder of images…")
    assert user.panel.image.place.text() == "1 of 2"
    user.click(30, 20)
    user.key(Qt.Key.Key_PageDown)
    assert not user.labels.any()
    user.press(user.panel.image.previous)
    assert count(user) == BAR


@path
def every_control_is_reached_by_tab(user):
    at_work(user, np.stack([bar()] * 3), "stack")
    user.click(0, 30, 20)
    kinds = (QAbstractButton, QComboBox, QLineEdit, QAbstractSpinBox, QAbstractSlider)
    window = user.viewer.window._qt_window
    for name in user.panel.names:
        if not user.panel.tabs.isTabVisible(user.panel.names.index(name)):
            continue
        user.tab(name)
        controls = {
            w for kind in kinds for w in user.panel.findChildren(kind)
            if w.isVisible() and w.isEnabled() and not is_part(w)
        }  # fmt: skip
        reached, at = set(), window
        while (at := at.nextInFocusChain()) is not window:
            if at.focusPolicy() & Qt.FocusPolicy.TabFocus:
                reached.add(at)
        missed = [(type(w).__name__, w.toolTip()) for w in controls - reached]
        assert len(controls) > 12 and not missed, name


def is_part(control):
    """Whether a control belongs to another one, which has the focus for both."""
    if isinstance(control, SliderLabel):  # the number beside a slider that has the keys
        return True
    owner = control.parent()
    while owner is not None and not isinstance(owner, QTabWidget):
        if isinstance(owner, (QComboBox, QAbstractSpinBox, QTabBar, QAbstractItemView)):
            return True
        if isinstance(owner, (QAbstractSlider, QScrollArea)):
            return isinstance(control, (QScrollBar, QAbstractSlider))
        owner = owner.parent()
    return isinstance(control, QScrollBar)


@path
def a_report_for_a_question(user, monkeypatch):
    at_work(user)
    user.command("Copy a report for a question")
    assert "on the clipboard" in user.status
    assert "Python" in QGuiApplication.clipboard().text()
