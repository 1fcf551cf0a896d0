"""A time-lapse in a real window: tracked, checked, corrected, undone, exported."""

import threading

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from time_lapses import drifting

from napari_sam._napari import time_lapse
from napari_sam._napari.controller import Controller
from napari_sam.core.tracks import Node
from napari_sam.testing import ToyModel

pytestmark = pytest.mark.canvas
pytest.importorskip("laptrack")

LAPSE = drifting(n=3, step=(0, 4), skip={(2, 3)})


@pytest.fixture
def opened(make_napari_viewer, qtbot, monkeypatch):
    monkeypatch.setitem(
        Controller.__init__.__kwdefaults__, "load_model", lambda name: ToyModel(96)
    )
    viewer = make_napari_viewer(show=True)
    true = drifting(n=3, step=(0, 4)).labels()
    image = viewer.add_image((true > 0).astype(np.uint8) * 180 + 20, name="movie")
    _, widget = viewer.window.add_plugin_dock_widget(
        "napari-sam-anysize", "Segment Anything"
    )

    def settle():
        def quiet():
            assert widget.controller.session is not None
            assert widget.contents.settled
            assert not widget.controller.time.busy

        qtbot.wait(1)
        qtbot.waitUntil(quiet, timeout=60_000)

    settle()
    from napari_sam.session import Session

    session = Session(image.data, ToyModel(96), embeddings=False,
                      labels=LAPSE.labels(seed=3))  # fmt: skip
    widget.controller.use_image(image, session)
    settle()
    yield viewer, widget, session, settle
    widget.controller.close()
    widget.jobs.close(timeout_s=5)
    assert not widget.jobs.alive


def press(widget, name):
    button = widget.panel.time.edits[name]
    assert button.isEnabled(), name
    button.click()


def test_tracked_checked_corrected_undone_and_exported(opened, tmp_path):
    viewer, widget, session, settle = opened
    view, start = widget.panel.time, session.labels.copy()
    active = viewer.layers.selection.active
    assert view.track.isEnabled() and view.track.text() == "Track"
    view.track.click()
    settle()
    layer = viewer.layers["movie · tracks"]
    assert viewer.layers.selection.active is active
    assert len(np.unique(layer.data[:, 0])) == 3 and len(layer.data) == 17
    assert view.summary.text().startswith("3 tracks, 1 gap")
    tracked = session.labels.copy()

    # The gap is gone to, and filled where the object should be.
    assert view.check.text() == "Next to check (1)"
    view.check.click()
    settle()
    assert viewer.dims.current_step[0] == 3
    gap = session.lineage().gaps[0][0].object_id
    assert widget.controller.board.state.object_id == gap
    press(widget, "fill_gap")
    settle()
    assert not session.lineage().gaps
    y, x, _ = drifting(n=3, step=(0, 4)).discs[2][3]
    assert session.labels[3, y, round(x)] == gap
    assert view.check.text() == "Next to check (0)"

    # A link is cut, and the two parts are linked again through a mark.
    ids = sorted(np.unique(tracked)[1:].tolist())
    widget.controller.select_object(ids[0])
    viewer.dims.set_current_step(0, 4)
    settle()
    press(widget, "cut")
    settle()
    new = widget.controller.board.state.object_id
    assert new not in ids and (session.labels[4:] == new).any()
    assert len(np.unique(layer.data[:, 0])) == 4
    assert not view.edits["link"].isEnabled()
    widget.controller.select_object(ids[0])
    viewer.dims.set_current_step(0, 3)
    press(widget, "mark")
    widget.controller.select_object(new)
    viewer.dims.set_current_step(0, 4)
    settle()
    assert f"Object {ids[0]} in frame 3 is marked" in view.marked.text()
    press(widget, "link")
    settle()
    assert (session.labels == new).sum() == 0

    # A division is set: the second object ends as a daughter of the first.
    other = ids[1]
    widget.controller.select_object(ids[0])
    viewer.dims.set_current_step(0, 1)
    press(widget, "mark")
    widget.controller.select_object(other)
    viewer.dims.set_current_step(0, 2)
    settle()
    press(widget, "divide")
    settle()
    assert list(session.lineage().divisions) == [Node(1, ids[0])]
    assert len(layer.graph) == 2
    assert "1 division" in view.summary.text()

    session.export(tmp_path / "a.ctc")
    assert (tmp_path / "a.ctc" / "res_track.txt").exists()
    while session.can_undo:
        widget.controller.undo()
    settle()
    np.testing.assert_array_equal(session.labels, start)


def test_keys_do_what_buttons_do_and_refusals_are_told(opened):
    viewer, widget, _, settle = opened
    widget.panel.time.track.click()
    settle()
    viewer.layers.selection.active = viewer.layers["movie"]
    board, time = widget.controller.board, widget.controller.time
    viewer.dims.set_current_step(0, 0)
    widget.controller.select_object(1)
    settle()
    time.cut()
    assert "begins in frame 0" in board.state.said
    time.link()
    assert "Mark an object first" in board.state.said
    viewer.layers.selection.active = widget.controller.annotation.layers.points
    for key, said in (
        (Qt.Key.Key_A, "Object 1 in frame 0 is marked"),
        (Qt.Key.Key_Q, "in a later frame"),
        (Qt.Key.Key_U, "is missing in frame 3"),
        (Qt.Key.Key_I, "is not in frame 3"),
    ):
        QTest.keyClick(viewer.window._qt_viewer.canvas.native, key)
        settle()
        assert said in board.state.said
    time.right()
    settle()
    assert "Frozen: 1 link" in board.state.said and time.state.to_check == 0
    widget.panel.time.shown.click()
    settle()
    assert "movie · tracks" not in viewer.layers


def test_a_single_image_has_no_time(make_napari_viewer, qtbot, monkeypatch):
    monkeypatch.setitem(
        Controller.__init__.__kwdefaults__, "load_model", lambda name: ToyModel(96)
    )
    viewer = make_napari_viewer()
    viewer.add_image(np.zeros((32, 32), np.uint8))
    _, widget = viewer.window.add_plugin_dock_widget(
        "napari-sam-anysize", "Segment Anything"
    )
    qtbot.waitUntil(lambda: widget.contents.settled, timeout=60_000)
    tabs = widget.panel.tabs
    assert not tabs.isTabVisible(widget.panel.names.index("Time"))
    widget.controller.time.track()
    assert "needs an image with frames" in widget.controller.board.state.said
    widget.controller.close()
    widget.jobs.close(timeout_s=5)


def test_a_change_that_comes_while_tracks_are_found_out_is_shown(opened, monkeypatch):
    _, widget, session, settle = opened
    widget.panel.time.track.click()
    settle()
    read, may_end = threading.Event(), threading.Event()

    def slow(*given):
        found = drawn(*given)
        read.set()
        assert may_end.wait(30)
        return found

    drawn = time_lapse._drawn
    mother, *rest = (line[0].object_id for line in session.lineage().lines())
    for object_id in (mother, rest[0]):
        session.tracks.cut((5, object_id))
    settle()
    first, second = (i for i in session.objects if i not in (mother, *rest))
    assert "division" not in widget.panel.time.summary.text()
    monkeypatch.setattr(time_lapse, "_drawn", slow)
    session.objects[first].parent = mother
    QApplication.processEvents()
    assert read.wait(30)  # tracks are read; what comes now they do not know
    session.objects[second].parent = mother
    may_end.set()
    settle()
    assert "1 division" in widget.panel.time.summary.text()
