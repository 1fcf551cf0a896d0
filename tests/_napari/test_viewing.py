"""Windows opened on a session: from a notebook, and on a folder."""

import numpy as np
import pytest

from napari_sam import Session
from napari_sam._napari.widget import widget_of
from napari_sam.core.planes import Plane
from napari_sam.testing import ToyModel, phantom_image


@pytest.mark.canvas
def test_a_session_is_shown_and_goes_on_belonging_to_its_owner(
    make_napari_viewer, qtbot
):
    cells = phantom_image((96, 128), n_objects=4, noise=0)
    session = Session(cells.image, ToyModel(64), embeddings=False)
    session.segment(1, points=[cells.center(1)])
    viewer = session.view(make_napari_viewer(show=True))
    widget = widget_of(viewer)
    qtbot.waitUntil(lambda: widget.contents.settled, timeout=60_000)
    controller = widget.controller
    assert controller.session is session and session.path is None
    masks = controller.annotation.writer.layer
    assert masks.data is session.labels
    controller.new_object()
    controller.annotation.layers.points.add(np.array(cells.center(2)))
    qtbot.waitUntil(lambda: widget.contents.settled, timeout=60_000)
    assert session.object(2, Plane(())) is not None
    session.segment(3, points=[cells.center(3)])
    qtbot.waitUntil(lambda: widget.contents.settled, timeout=60_000)
    assert (masks.data == 3).any()
    assert [row.object_id for row in controller.board.state.objects] == [1, 2, 3]
    jobs = widget.jobs
    viewer.window.remove_dock_widget(widget)
    qtbot.waitUntil(lambda: not jobs.alive, timeout=60_000)
    session.segment(4, points=[cells.center(4)])
    assert session.undo() and (session.labels == 3).any()


def test_a_saved_session_is_opened_with_its_prompts_proposals_and_model(
    desk, cells, tmp_path
):
    session = Session(cells.image, ToyModel(64), embeddings=False)
    session.segment(1, points=[cells.center(1)])
    waiting = session.suggest()
    session.save(tmp_path / "work.nsam")
    session.close()
    assert waiting
    layer = desk.viewer.add_image(cells.image)
    desk.controller.use_image(layer, saved=str(tmp_path / "work.nsam"))
    desk.main.settle()
    assert desk.session.path == str(tmp_path / "work.nsam")
    assert (desk.labels == 1).any()
    assert desk.viewer.layers.selection.active is desk.annotation.layers.points
    assert len(desk.state.review.rows) == len(waiting)
    assert "wait" in desk.state.status
    assert len(desk.annotation.layers.points.data) == 1


def test_a_session_open_elsewhere_is_gone_on_with_as_a_copy(
    desk, cells, sessions, tmp_path
):
    session = Session(cells.image, ToyModel(64), path=tmp_path / "work.nsam")
    session.segment(1, points=[cells.center(1)])
    layer = desk.viewer.add_image(cells.image, name="cells")
    desk.controller.use_image(layer, saved=str(tmp_path / "work.nsam"))
    desk.main.settle()
    assert "copy" in desk.state.status
    assert desk.session.path.startswith(str(sessions))
    desk.controller.undo()
    assert not desk.labels.any() and session.labels.any()
    session.close()


def test_a_session_of_another_image_is_refused_and_the_click_goes_on(
    desk, cells, tmp_path
):
    with_other = Session(np.zeros((5, 6), "u1"), ToyModel(64), embeddings=False)
    with_other.save(tmp_path / "other.nsam")
    with_other.close()
    desk.open(cells.image)
    desk.controller.open_saved(str(tmp_path / "other.nsam"))
    desk.main.settle()
    assert desk.state.status_kind == "error" and desk.state.model == "nano"
    desk.click(*cells.center(1))
    assert (desk.labels == 1).any()
