"""What people do in their first half hour, with mouse, keys and menus."""

import numpy as np
import pytest
from napari_window import choose
from qtpy.QtCore import Qt
from qtpy.QtGui import QGuiApplication
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QFileDialog, QInputDialog, QMessageBox

from napari_sam._napari.widget import DOCK, widget_of
from napari_sam.errors import ModelError

pytestmark = pytest.mark.canvas
LEFT = Qt.MouseButton.LeftButton


def press(bench, button):
    QTest.mouseClick(button, LEFT)
    bench.settle()


def show_tab(bench, name):
    tabs = bench.widget.panel.tabs
    at = [
        i
        for i in range(tabs.count())
        if tabs.tabText(i) == name and tabs.isTabVisible(i)
    ]
    QTest.mouseClick(tabs.tabBar(), LEFT, pos=tabs.tabBar().tabRect(at[0]).center())
    bench.qtbot.wait(20)


def lit(bench):
    prompt = bench.widget.panel.prompt
    names = {"+": ("point", 1), "-": ("point", 0), "box": ("box", 1)}
    tools = {name: prompt.tools[key] for name, key in names.items()}
    return [name for name, button in tools.items() if button.isChecked()]


@pytest.mark.parametrize("which", ["image", "masks"])
def test_clicks_into_another_layer_are_said_to_do_nothing_and_p_leads_back(
    bench, which
):
    bench.click(30, 20)
    before, prompt = bench.labels.copy(), bench.widget.panel.prompt
    other = bench.viewer.layers["bar" if which == "image" else "bar · masks"]
    bench.viewer.layers.selection.active = other
    bench.settle()
    assert lit(bench) == [] and prompt.elsewhere.isVisible()
    assert other.name in prompt.elsewhere.text()
    bench.click(30, 70)
    np.testing.assert_array_equal(bench.labels, before)
    assert "(P)" in bench.widget.panel.status.text.text()
    bench.key(Qt.Key.Key_P)
    assert lit(bench) == ["+"] and not prompt.elsewhere.isVisible()
    bench.controller.tools.toggle_polarity()
    bench.click(30, 70)
    assert bench.labels[30, 70] == 0


def test_the_button_of_a_tool_leads_back_too_and_napari_tools_are_told(bench):
    bench.viewer.layers["bar · points"].mode = "select"
    bench.settle()
    assert lit(bench) == [] and "select" in bench.widget.panel.prompt.elsewhere.text()
    press(bench, bench.widget.panel.prompt.tools["box", 1])
    assert lit(bench) == ["box"] and "Drag" in bench.state.status
    bench.drag((15, 5), (45, 85))
    assert (bench.labels == 1).sum() == 20 * 70


def test_a_model_that_is_refused_or_fails_leaves_the_one_that_answers(
    bench, monkeypatch, tmp_path
):
    panel, asked = bench.widget.panel, []
    monkeypatch.setattr(QMessageBox, "question", lambda *given: asked.append(given[-1]))
    names = panel.model.names
    names.setCurrentIndex(names.findData("sam_vit_b"))
    names.activated.emit(names.currentIndex())
    bench.settle()
    assert len(asked) == 1 and names.currentData() == "nano"

    file = tmp_path / ("a_long_name_" * 12 + ".pth")
    text = f"{file} cannot be read: it holds nothing that is known"

    def broken(name):
        raise ModelError(text)

    monkeypatch.setattr(bench.controller, "_load_model", broken)
    monkeypatch.setattr(
        QFileDialog, "getOpenFileName", lambda *_, **__: (str(file), "")
    )
    monkeypatch.setattr(QInputDialog, "getText", lambda *_, **__: ("", True))
    press(bench, panel.model.file)
    assert names.currentData() == "nano" and panel.status.text.text() == text
    assert panel.status.copy.isVisible()
    flags = panel.status.text.textInteractionFlags()
    assert flags & Qt.TextInteractionFlag.TextSelectableByMouse
    press(bench, panel.status.copy)
    assert QGuiApplication.clipboard().text() == text
    bench.click(30, 20)
    assert (bench.labels == 1).sum() == 20 * 70 and not panel.status.copy.isVisible()


def test_everything_is_found_and_accepted_without_a_prompt(bench):
    panel = bench.widget.panel
    assert panel.tabs.tabText(panel.tabs.currentIndex()) == "Find"
    assert panel.review.everything.text() == "All objects"
    press(bench, panel.review.everything)
    assert panel.review.rows.count() == 2  # the object, and what is around it
    press(bench, panel.review.accept_all)
    assert (bench.labels[20:40, 10:80] > 0).all()
    assert "No proposal is waiting" in bench.state.status


def test_the_tab_shown_last_and_open_folds_come_back_with_the_panel(bench):
    bench.click(30, 20)
    before = bench.labels.copy()
    show_tab(bench, "Find")
    fold = bench.widget.panel.review.folded
    assert not fold.isExpanded()
    press(bench, fold.toggleButton())
    show_tab(bench, "Objects")
    jobs = bench.widget.jobs
    bench.viewer.window.remove_dock_widget(bench.widget)
    bench.qtbot.waitUntil(lambda: not jobs.alive, timeout=60_000)
    bench.viewer.theme = "light"
    choose(bench.viewer, "Plugins", DOCK)
    bench.widget = widget_of(bench.viewer)
    bench.settle()
    tabs = bench.widget.panel.tabs
    assert tabs.tabText(tabs.currentIndex()) == "Objects"
    assert bench.widget.panel.review.folded.isExpanded()
    assert not bench.widget.panel.volume.folded.isExpanded()
    np.testing.assert_array_equal(bench.labels, before)
    table = bench.widget.panel.objects.table
    assert [row.object_id for row in table.rows] == [1]
    bench.key(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert not bench.labels.any()


def test_a_row_of_the_table_and_a_class_typed_beside_it(bench):
    panel = bench.widget.panel
    bench.click(30, 20)
    bench.key(Qt.Key.Key_N)
    show_tab(bench, "Objects")
    rows = panel.objects.rows
    at = rows.visualRect(panel.objects.table.index(0, 0)).center()
    QTest.mouseClick(rows.viewport(), LEFT, pos=at)
    bench.settle()
    assert bench.state.object_id == 1
    panel.object.kind.setEditText("bar")
    QTest.keyClick(panel.object.kind.lineEdit(), Qt.Key.Key_Return)
    bench.settle()
    assert bench.controller.session.objects[1].class_name == "bar"
    assert panel.objects.table.rows[0].class_name == "bar"
    press(bench, panel.prompt.undo)
    assert bench.controller.session.objects[1].class_name is None


def test_commands_of_the_menu_arm_tools_export_and_read(bench, monkeypatch, tmp_path):
    choose(bench.viewer, "Layers", "Segment", "Box tool (napari-sam)")
    bench.settle()
    assert lit(bench) == ["box"]
    choose(bench.viewer, "Layers", "Segment", "Point tool (napari-sam)")
    bench.click(30, 20)
    out = tmp_path / "masks.json"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, **__: (str(out), ""))
    choose(bench.viewer, "Layers", "Segment", "Export… (napari-sam)")
    bench.settle()
    assert out.exists() and str(out) in bench.state.status
    bar = bench.labels.copy()
    press(bench, bench.widget.panel.object.delete)
    assert not bench.labels.any()
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_, **__: (str(out), ""))
    choose(bench.viewer, "Layers", "Segment", "Read objects… (napari-sam)")
    bench.settle()
    np.testing.assert_array_equal(bench.labels, bar)
    assert "1 object(s) read" in bench.state.status and bench.state.object_id == 2
    bench.key(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert not bench.labels.any()
