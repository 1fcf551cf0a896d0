"""Outlines, scribbles, paths and split in a real window, drawn with a mouse."""

import itertools

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest

from napari_sam.core.planes import Plane

pytestmark = pytest.mark.canvas
LEFT, NONE = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier


@pytest.fixture
def bench(bench):
    """See all of the image: the mouse moves over the canvas alone."""
    bench.viewer.reset_view()
    bench.settle()
    return bench


def drag(bench, *places):
    """Hold the button from the first place to the last."""
    native = bench.canvas.native
    at = [bench.where(*p) for p in places]
    QTest.mousePress(native, LEFT, NONE, at[0])
    for a, b in itertools.pairwise(at):
        for part in np.linspace(0, 1, 5)[1:]:
            QTest.mouseMove(native, a + (b - a) * float(part))
            bench.qtbot.wait(5)
    QTest.mouseRelease(native, LEFT, NONE, at[-1])
    bench.settle()


def corners(bench, *places):
    """Click at each place; a double click at the last one ends it."""
    native = bench.canvas.native
    for place in places:
        at = bench.where(*place)
        for off in (9, 4, 0):
            QTest.mouseMove(native, at - QPoint(off, off))
            bench.qtbot.wait(20)
        QTest.mouseClick(native, LEFT, NONE, at)
        bench.qtbot.wait(20)
    QTest.mouseDClick(native, LEFT, NONE, at)
    bench.settle()


def press(bench, tool, sign=1):
    QTest.mouseClick(bench.widget.panel.prompt.tools[tool, sign], LEFT)
    bench.settle()


def said(bench, object_id=1):
    return bench.controller.session.object(object_id, Plane(())).prompts


def test_outlines_by_corners_and_by_lasso_then_split_and_merge(bench):
    bench.key(Qt.Key.Key_G)
    assert bench.widget.panel.prompt.tools["polygon", 1].isChecked()
    corners(bench, (15, 5), (15, 85), (45, 85), (45, 5))
    assert (bench.labels == 1).sum() == 20 * 70
    assert len(said(bench).polygon) == 4 and bench.controller.session.can_undo
    bench.key(Qt.Key.Key_N)
    press(bench, "lasso")
    drag(bench, (16, 8), (16, 84), (44, 84), (44, 8), (17, 8))
    assert len(said(bench, 2).polygon) >= 4
    layer = bench.viewer.layers["bar · shapes"]
    assert len(layer.data) == 1
    control = Qt.KeyboardModifier.ControlModifier
    bench.key(Qt.Key.Key_Z, control)
    assert bench.controller.session.object(2, Plane(())) is None and not layer.data
    bench.key(Qt.Key.Key_Z, control)
    bench.controller.select_object(1)
    bench.key(Qt.Key.Key_P)
    bench.click(30, 20)
    bench.key(Qt.Key.Key_W)
    bench.click(30, 20)
    assert "other part" in bench.state.status
    bench.click(30, 70)
    assert set(np.unique(bench.labels)) == {0, 1, 2}
    assert (bench.labels > 0).sum() == 20 * 70
    bench.key(Qt.Key.Key_M)
    bench.click(30, 70)
    assert (bench.labels == 1).sum() == 20 * 70
    assert len(bench.viewer.layers["bar · points"].data) == 0


def test_scribbles_of_both_signs_a_path_and_a_slip(bench):
    bench.key(Qt.Key.Key_G)
    corners(bench, (30, 30))
    assert "three corners" in bench.state.status
    assert not bench.viewer.layers["bar · shapes"].data and not bench.labels.any()
    bench.key(Qt.Key.Key_S)
    drag(bench, (30, 15), (28, 30), (32, 45))
    assert (bench.labels == 1).sum() == 20 * 70 and len(said(bench).scribbles) == 1
    bench.key(Qt.Key.Key_T)
    assert "− Scribble" in bench.widget.panel.prompt.tools["scribble", 1].text()
    drag(bench, (25, 70), (35, 74))
    assert said(bench).scribble_labels == (1, 0) and not (bench.labels == 1)[30, 72]
    bench.key(Qt.Key.Key_N)
    bench.key(Qt.Key.Key_H)
    corners(bench, (30, 14), (30, 76))
    assert [len(path) for path in said(bench, 2).paths] == [2]
    assert bench.widget.panel.prompt.tools["path", 1].isChecked()
