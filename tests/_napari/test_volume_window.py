"""Filling a volume in a real window: one click, one button, doubt, undo."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_sam._napari.camera import go_to
from napari_sam._napari.controller import Controller
from napari_sam.core.masks import mask_iou
from napari_sam.core.planes import Plane
from napari_sam.session.entries import Entry
from napari_sam.testing import ToyModel, phantom_volume

pytestmark = pytest.mark.canvas

PHANTOM = phantom_volume((16, 72, 84), n_objects=2)


@pytest.fixture
def opened(make_napari_viewer, qtbot, monkeypatch):
    monkeypatch.setitem(
        Controller.__init__.__kwdefaults__, "load_model", lambda name: ToyModel(96)
    )
    viewer = make_napari_viewer(show=True)
    viewer.add_image(PHANTOM.image, name="stack")
    z = int(PHANTOM.center(1)[0])
    viewer.dims.set_point(0, z)
    _, widget = viewer.window.add_plugin_dock_widget(
        "napari-sam-anysize", "Segment Anything"
    )

    def settle():
        def quiet():
            assert widget.controller.session is not None
            assert widget.contents.settled
            assert not widget.controller.following._drawing
            assert not widget.controller.following.state.running

        qtbot.waitUntil(quiet, timeout=60_000)

    settle()
    center = np.array(PHANTOM.center(1), float)
    widget.controller.annotation.layers.points.add(center)
    settle()
    yield viewer, widget, z, settle
    widget.controller.close()
    widget.jobs.close(timeout_s=5)
    assert not widget.jobs.alive


def kinds(widget):
    strip = widget.controller.following.state.strip
    return {p.number: p.origin for p in strip}


def test_click_fill_correct_fill_and_undo_is_bit_identical(opened):
    viewer, widget, z, settle = opened
    view = widget.panel.volume
    labels = viewer.layers["stack · masks"].data
    clicked = labels.copy()
    assert kinds(widget) == {z: "clicked"}
    view.fill.click()
    settle()
    filled = labels.copy()
    assert mask_iou(labels == 1, PHANTOM.labels == 1) > 0.85
    assert "followed" in view.legend.text()
    assert np.array_equal(labels[z], clicked[z])

    other = z + 1
    camera = viewer.scene.camera
    seen = camera.center, camera.zoom
    view.plane_chosen.emit(other)
    settle()
    assert viewer.dims.current_step[0] == other
    assert (camera.center, camera.zoom) == seen
    widget.controller.annotation.layers.points.add(
        np.array([other, *PHANTOM.center(1)[1:]], float)
    )
    settle()
    assert kinds(widget)[other] == "clicked"
    corrected = labels.copy()
    view.fill.click()
    settle()
    assert np.array_equal(labels[other], corrected[other])
    above = sum(n > other for n in kinds(widget))
    assert widget.controller.board.state.said.startswith(f"{above} planes filled")

    canvas = viewer.window._qt_viewer.canvas.native
    control = Qt.KeyboardModifier.ControlModifier
    for expected in (corrected, filled, clicked):
        QTest.keyClick(canvas, Qt.Key.Key_Z, control)
        settle()
        assert np.array_equal(labels, expected)
    assert kinds(widget) == {z: "clicked"}


def test_a_place_is_zoomed_to_only_where_it_is_tiny_or_leaves_the_canvas():
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((4, 300, 300), np.uint8))
    viewer.reset_view()
    camera, shape = viewer.scene.camera, (4, 300, 300)
    fitted = camera.zoom
    go_to(viewer, layer, shape, Plane((2,)), (0, 0, 300, 300))
    assert camera.zoom == fitted and viewer.dims.current_step[0] == 2
    go_to(viewer, layer, shape, Plane((2,)), (10, 20, 12, 22))
    assert camera.zoom > 10 * fitted and camera.center[-2:] == (10.5, 20.5)
    go_to(viewer, layer, shape, Plane((1,)), (0, 0, 300, 300))
    assert fitted / 2 < camera.zoom <= fitted


def test_keys_go_through_what_is_doubtful(opened):
    viewer, widget, _, settle = opened
    widget.panel.volume.fill.click()
    settle()
    session = widget.controller.session
    plane, record = next(
        (p, r) for p, r in session.objects[1].planes.items() if r.doubt is not None
    )
    doubted = replace(record, doubt=0.9)
    entry = Entry("record", values={"painted": {(1, plane): (record, doubted)}})
    session.change(lambda d: (d.put(entry), d.commit(entry)))
    settle()
    view = widget.panel.volume
    assert view.doubtful.text() == "Next doubtful (1)"
    canvas = viewer.window._qt_viewer.canvas.native
    QTest.keyClick(canvas, Qt.Key.Key_D)
    settle()
    assert viewer.dims.current_step[0] == plane.index[0]
    QTest.keyClick(canvas, Qt.Key.Key_O)
    settle()
    assert session.objects[1].planes[plane].reviewed
    assert view.doubtful.text() == "Next doubtful (0)"
    assert "1 reviewed" in view.legend.text()


def test_planes_appear_in_the_strip_as_they_are_found(opened):
    _, widget, z, settle = opened
    following = widget.controller.following
    release = threading.Event()
    model = widget.controller.session.engine.model
    decode, asked = model.decode, []

    def slowly(*given):
        asked.append(given)
        if len(asked) == 3:
            release.wait(20)
        return decode(*given)

    model.decode = slowly
    widget.panel.volume.fill.click()
    assert following.state.running
    before = kinds(widget)
    while len(kinds(widget)) < 2:
        QTest.qWait(20)
    assert before == {z: "clicked"} and following.state.running
    widget.panel.volume.fill.click()  # stop
    release.set()
    settle()
    assert kinds(widget) == {z: "clicked"}


def test_a_hole_is_tidied_away_and_comes_back(opened):
    viewer, widget, z, settle = opened
    labels = viewer.layers["stack · masks"]
    clicked = labels.data.copy()
    y, x = (int(v) for v in PHANTOM.center(1)[1:])
    labels.data_setitem((np.array([z]), np.array([y]), np.array([x])), 0)
    settle()
    holed = labels.data.copy()
    assert holed[z, y, x] == 0
    view = widget.panel.volume
    view.tidied.setCurrentIndex(1)
    view.tidy.click()
    settle()
    assert np.array_equal(labels.data, clicked)
    widget.controller.undo()
    settle()
    assert np.array_equal(labels.data, holed)


def test_a_single_image_says_that_there_is_nothing_to_fill(make_napari_viewer, qtbot):
    viewer = make_napari_viewer()
    _, widget = viewer.window.add_plugin_dock_widget(
        "napari-sam-anysize", "Segment Anything"
    )
    view = widget.panel.volume
    assert not view.none.isHidden() and view.fill.isHidden()
    widget.controller.following.fill()
    assert "needs a volume" in widget.controller.board.state.said
    widget.controller.close()
    widget.jobs.close(timeout_s=5)
