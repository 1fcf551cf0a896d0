"""Proposals in a real window: buttons, keys, and what the layers hold."""

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_sam._napari.controller import Controller
from napari_sam.testing import ToyModel, phantom_image

pytestmark = pytest.mark.canvas


@pytest.fixture
def opened(make_napari_viewer, qtbot, monkeypatch):
    """A window with six cells, the first of them annotated; and a way to wait."""
    cells = phantom_image((72, 108), n_objects=6, noise=0)
    monkeypatch.setitem(
        Controller.__init__.__kwdefaults__, "load_model", lambda name: ToyModel(48)
    )
    viewer = make_napari_viewer(show=True)
    viewer.add_image(cells.image, name="cells")
    _, widget = viewer.window.add_plugin_dock_widget(
        "napari-sam-anysize", "Segment Anything"
    )

    def settle():
        def quiet():
            assert widget.controller.session is not None
            assert widget.contents.settled
            assert not widget.controller.review._drawing

        qtbot.waitUntil(quiet, timeout=60_000)

    settle()
    widget.controller.annotation.layers.points.add(np.array(cells.center(1), float))
    settle()
    yield viewer, widget, cells, settle
    widget.controller.close()
    widget.jobs.close(timeout_s=5)
    assert not widget.jobs.alive


def test_suggest_the_rest_go_through_it_and_accept_what_is_left(opened):
    viewer, widget, cells, settle = opened
    view = widget.panel.review
    assert not view.rows.isVisible()
    view.suggest.click()
    settle()
    assert view.rows.count() == 5 and view.rows.isVisible()
    assert not view.accept.isEnabled()

    canvas = viewer.window._qt_viewer.canvas.native
    QTest.keyClick(canvas, Qt.Key.Key_Period)
    settle()
    assert view.rows.currentRow() == 0 and view.accept.isEnabled()
    QTest.keyClick(canvas, Qt.Key.Key_R)
    settle()
    assert view.rows.count() == 4 and view.restore.text() == "Bring back (1)"
    QTest.keyClick(canvas, Qt.Key.Key_Y)
    settle()
    labels = viewer.layers["cells · masks"].data
    assert view.rows.count() == 3 and labels.max() == 2

    view.rows.setCurrentRow(2)
    settle()
    assert widget.controller.review.current.number == (
        widget.controller.board.state.review.rows[2].number
    )
    slider = view.thresholds.sliders["max_doubt"]
    doubts = sorted(r.doubt for r in widget.controller.board.state.review.rows)
    slider.setValue(doubts[0] + 0.01)
    settle()
    assert view.rows.count() == 1 and view.accept_all.text() == "Accept all 1"
    slider.setValue(0)
    settle()
    assert not view.rows.isVisible() and slider.isVisible()
    slider.setValue(1.0)
    settle()
    assert view.accept_all.text() == "Accept all 3"
    view.accept_all.click()
    settle()
    assert set(np.unique(labels)) == {0, 1, 2, 3, 4, 5}
    assert not view.rows.isVisible()
    assert not viewer.layers["cells · proposals"].data.any()

    view.restore.click()
    settle()
    assert view.rows.count() == 1 and not view.restore.isVisible()
    view.correct.click()
    settle()
    assert widget.panel.object.number.value() == 6
    assert ((labels > 0) == (cells.labels > 0)).mean() > 0.99

    control = Qt.KeyboardModifier.ControlModifier
    for left, waiting in ((5, 1), (5, 0), (2, 3), (1, 4), (1, 5)):
        QTest.keyClick(canvas, Qt.Key.Key_Z, control)
        settle()
        assert labels.max() == left and view.rows.count() == waiting


def test_all_objects_are_two_clicks_away(opened):
    _, widget, cells, settle = opened
    panel = widget.panel
    panel.tabs.setCurrentIndex(panel.names.index("Find"))
    panel.review.everything.click()
    settle()
    assert panel.review.thresholds.isVisible() and panel.review.everything.isVisible()
    found = widget.controller.session.proposals
    assert all(p.origin == "everything" for p in found.waiting) and found.waiting
    hidden = cells.labels == 1  # annotated: not proposed again
    for p in found.waiting:
        y0, x0, y1, x1 = p.bbox
        assert (p.mask & hidden[y0:y1, x0:x1]).sum() <= 0.5 * p.area


def test_a_deleted_preview_comes_back_and_closing_leaves_the_layers(opened):
    viewer, widget, _, settle = opened
    widget.panel.review.suggest.click()
    settle()
    viewer.layers.remove("cells · proposals")
    widget.controller.review.next()
    settle()
    assert (viewer.layers["cells · proposals"].data == 255).any()
    viewer.window.remove_dock_widget(widget)
    assert "cells · proposals" in viewer.layers
