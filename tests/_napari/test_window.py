"""The widget in a real window: clicks with a mouse on a canvas that draws."""

from dataclasses import replace

import numpy as np
import pytest
from napari_window import Bench, choose
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_sam._napari.state import (
    EncodingState,
    ReviewRow,
    ReviewState,
    TrainingState,
)
from napari_sam._napari.widget import DOCK, SegmentWidget
from napari_sam.testing import phantom_volume

pytestmark = pytest.mark.canvas


def typed(field, text):
    field.lineEdit().setText(text)
    QTest.keyClick(field, Qt.Key.Key_Return)


def test_a_mouse_click_gives_a_mask_a_negative_one_refines_it_and_undo_restores(bench):
    bench.click(30, 20)
    layer = bench.viewer.layers["bar · masks"]
    whole = layer.data.copy()
    assert (whole == 1).sum() == 20 * 70
    assert bench.widget.panel.prompt.candidates[0].isEnabled()

    bench.key(Qt.Key.Key_T)
    assert bench.widget.panel.prompt.tools["point", 0].isChecked()
    bench.click(30, 70)
    refined = layer.data.copy()
    assert refined[30, 20] == 1 and refined[30, 70] == 0

    bench.key(Qt.Key.Key_N)
    assert bench.widget.panel.object.number.value() == 2
    bench.controller.set_rule("overwrite")
    bench.click(30, 20)
    assert (layer.data == 2).any() and not (layer.data == 1).any()

    control = Qt.KeyboardModifier.ControlModifier
    bench.key(Qt.Key.Key_Z, control)
    np.testing.assert_array_equal(layer.data, refined)
    bench.key(Qt.Key.Key_Z, control)
    np.testing.assert_array_equal(layer.data, whole)
    bench.key(Qt.Key.Key_Z, control | Qt.KeyboardModifier.ShiftModifier)
    np.testing.assert_array_equal(layer.data, refined)


def test_a_dragged_box_and_a_candidate_button(bench):
    bench.key(Qt.Key.Key_B)
    bench.drag((15, 5), (45, 85))
    assert (bench.labels == 1).sum() == 20 * 70
    assert bench.controller.session.object(1, bench.controller.annotation.plane)
    QTest.mouseClick(
        bench.widget.panel.prompt.tools["point", 1], Qt.MouseButton.LeftButton
    )
    assert bench.viewer.layers.selection.active.name == "bar · points"


def test_undo_in_the_labels_layer_is_the_sessions(bench):
    bench.click(30, 20)
    before = bench.labels.copy()
    layer = bench.viewer.layers["bar · masks"]
    bench.viewer.layers.selection.active = layer
    layer.mode = "paint"
    layer.brush_size = 6
    bench.click(5, 5)
    assert (bench.labels[:10, :10] == 1).any()
    bench.key(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    np.testing.assert_array_equal(bench.labels, before)
    bench.key(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert not bench.labels.any()


def test_menu_commands_reach_the_open_widget(bench):
    from napari._app_model import get_app_model

    bench.click(30, 20)
    commands = get_app_model().commands
    commands.execute_command("napari-sam-anysize.new_object").result()
    assert bench.state.object_id == 2
    commands.execute_command("napari-sam-anysize.undo").result()
    assert not bench.labels.any()


def test_the_panel_shows_what_the_state_says(bench):
    panel = bench.widget.panel
    assert panel.model.names.currentData() == "nano"
    assert panel.image.images.currentText() == "bar"
    assert not panel.prompt.undo.isEnabled() and not panel.output.export.isEnabled()
    bench.click(30, 20)
    assert panel.prompt.undo.isEnabled() and panel.output.export.isEnabled()
    assert panel.prompt.candidates[0].text() == f"{bench.state.thumbnails[0].score:.2f}"
    typed(panel.object.number, "3000000000")
    assert bench.state.object_id == 3_000_000_000
    panel.intensity.limits.setValue((30, 99))
    assert bench.state.window == (30, 99)


def test_closing_the_window_while_a_volume_is_embedded_ends_the_thread(
    make_napari_viewer, qtbot, toy
):
    viewer = make_napari_viewer(show=True)
    viewer.add_image(phantom_volume((40, 64, 64), seed=5).image)
    bench = Bench(viewer, qtbot)
    bench.settle()
    toy.delay_s = 0.05
    bench.controller.embed()
    qtbot.waitUntil(lambda: bench.state.encoding.done > 0, timeout=60_000)
    jobs = bench.widget.jobs
    viewer.close()
    qtbot.waitUntil(lambda: not jobs.alive, timeout=60_000)


def test_closing_the_dock_ends_the_thread_and_leaves_the_layers(bench):
    bench.click(30, 20)
    jobs, widget = bench.widget.jobs, bench.widget
    bench.viewer.window.remove_dock_widget(widget)
    bench.qtbot.waitUntil(lambda: not jobs.alive, timeout=60_000)
    assert "bar · masks" in bench.viewer.layers


def test_the_bar_tells_how_far_embedding_is_and_pauses_it(
    make_napari_viewer, qtbot, toy
):
    viewer = make_napari_viewer(show=True)
    viewer.add_image(phantom_volume((20, 64, 64), seed=8).image)
    bench = Bench(viewer, qtbot)
    bench.settle()
    toy.delay_s = 0.05
    panel = bench.widget.panel
    bar = panel.encoding_bar
    assert not bar.isVisible() and panel.encoding.ahead.isChecked()
    panel.encoding.start.click()
    qtbot.waitUntil(lambda: bar.bar.value() > 2, timeout=60_000)
    assert bar.isVisible() and " of 20 tiles" in bar.bar.format()
    bar.pause.click()
    qtbot.waitUntil(lambda: bar.pause.text() == "Resume", timeout=60_000)
    assert "paused" in bar.bar.format() and bar.bar.value() > 2
    toy.delay_s = 0
    bar.pause.click()
    qtbot.waitUntil(lambda: not bar.isVisible(), timeout=60_000)
    store = bench.controller.session.engine.stores(0)
    assert store.count() == (20, 20)
    bench.controller.close()
    bench.widget.jobs.close(timeout_s=5)


def test_nothing_is_cut_off_or_below_the_fold_of_a_laptop(bench):
    bench.click(30, 20)
    panel, window = bench.widget.panel, bench.viewer.window._qt_window
    window.resize(1366, 768)
    panel.show_state(
        replace(
            bench.state,
            is_ct=True,
            review=ReviewState(
                (ReviewRow(1, 0.2, "100 px"),), pending=1, current=1, rejected=1
            ),
            training=TrainingState(running=True, stage="embedding", name="x"),
            encoding=EncodingState("all", 1, 10_000, 9_000.0),
            status_kind="error",
        )
    )
    bench.qtbot.wait(50)
    assert 600 < panel.height() < 740
    assert panel.minimumSizeHint().width() <= panel.width()
    for i in range(panel.tabs.count()):
        panel.tabs.setCurrentIndex(i)
        bench.qtbot.wait(20)
        page = panel.tabs.widget(i)
        least = page.widget().minimumSizeHint()
        assert least.width() <= page.viewport().width(), panel.tabs.tabText(i)
        assert least.height() <= page.viewport().height(), panel.tabs.tabText(i)


SEGMENT = ("Layers", "Segment")


def panels(viewer):
    docked = viewer.window.dock_widgets.values()
    return [w for w in docked if isinstance(w, SegmentWidget)]


def test_commands_after_the_plugins_menu_find_the_panel_that_is_open(bench):
    bench.click(30, 20)
    before = bench.labels.copy()
    choose(bench.viewer, *SEGMENT, "Next candidate (napari-sam)")
    choose(bench.viewer, *SEGMENT, "New object (napari-sam)")
    bench.settle()
    assert bench.state.object_id == 2
    assert panels(bench.viewer) == [bench.widget]
    np.testing.assert_array_equal(bench.labels, before)


def test_a_panel_opened_by_another_name_takes_over_the_one_that_is_there(bench):
    bench.click(30, 20)
    before, controller = bench.labels.copy(), bench.controller
    _, second = bench.viewer.window.add_plugin_dock_widget(
        "napari-sam-anysize", "Segment Anything"
    )
    assert second is not bench.widget and panels(bench.viewer) == [second]
    assert second.controller is controller and not controller.closed
    bench.widget = second
    bench.qtbot.wait(20)
    assert second.panel.isVisible()
    np.testing.assert_array_equal(bench.labels, before)
    bench.click(30, 70)
    assert len(bench.viewer.layers) == 3 and bench.labels.any()


def test_a_panel_that_was_hidden_comes_back_with_a_command(bench):
    choose(bench.viewer, "Plugins", DOCK)
    assert not bench.widget.isVisible()
    choose(bench.viewer, *SEGMENT, "New object (napari-sam)")
    assert bench.widget.isVisible() and panels(bench.viewer) == [bench.widget]


@pytest.mark.parametrize("slip", [(0, 0), (0, 0.6), (1, 8)], ids=str)
def test_a_box_without_area_is_no_prompt(bench, slip):
    bench.click(30, 20)
    before, steps = bench.labels.copy(), bench.controller.session.can_redo
    bench.key(Qt.Key.Key_B)
    if any(slip):
        bench.drag((10, 40), (10 + slip[0] / 4, 40 + slip[1]))
    else:
        bench.click(10, 40)
    np.testing.assert_array_equal(bench.labels, before)
    assert "drag" in bench.state.status
    assert not len(bench.viewer.layers["bar · shapes"].data)
    assert bench.controller.session.can_redo == steps
    bench.drag((15, 5), (45, 85))
    assert len(bench.viewer.layers["bar · shapes"].data) == 1
