"""Work that was left: kept without being asked, and found again where it was."""

import threading

import numpy as np

from napari_sam._napari import opening
from napari_sam.core.planes import Plane


def _two_images(desk, cells):
    """Two objects on an image, the second refined, and another image beside it."""
    first = desk.open(cells.image, name="first")
    desk.click(*cells.center(1))
    desk.controller.new_object()
    desk.click(*cells.center(2))
    desk.click(*cells.center(3))
    return first, desk.viewer.add_image(cells.image[::-1].copy(), name="second")


def _go_to(desk, layer):
    desk.controller.use_image(layer)
    desk.main.settle()


def test_coming_back_to_an_image_brings_prompts_and_undo_back(desk, cells):
    first, second = _two_images(desk, cells)
    labels = desk.labels.copy()
    _go_to(desk, second)
    assert not desk.labels.any() and not desk.state.can_undo
    assert "Hide" not in desk.state.status
    desk.click(2, 2)
    _go_to(desk, first)
    assert "Hide second to see first" in desk.state.status
    np.testing.assert_array_equal(desk.labels, labels)
    assert desk.state.object_id == 2 and desk.state.can_undo
    np.testing.assert_array_equal(
        desk.annotation.layers.points.data, [cells.center(2), cells.center(3)]
    )
    desk.controller.undo()
    assert len(desk.annotation.layers.points.data) == 1
    desk.controller.undo()
    np.testing.assert_array_equal(desk.labels, np.where(labels == 1, 1, 0))
    _go_to(desk, second)
    np.testing.assert_array_equal(desk.annotation.layers.points.data, [(2, 2)])


def test_a_click_made_while_the_session_comes_back_counts(desk, cells):
    first, second = _two_images(desk, cells)
    _go_to(desk, second)
    desk.controller.use_image(first)
    desk.annotation.layers.points.add(np.array(cells.center(4), float))
    desk.main.settle()
    assert desk.session.object(2, Plane(())).prompts.points == tuple(
        cells.center(i) for i in (2, 3, 4)
    )


def test_what_was_painted_meanwhile_is_kept_and_can_be_undone(desk, cells):
    first, second = _two_images(desk, cells)
    labels, layer = desk.labels.copy(), desk.annotation.writer.layer
    _go_to(desk, second)
    layer.data_setitem((np.array([0, 1]), np.array([0, 0])), 7)
    _go_to(desk, first)
    assert desk.labels[0, 0] == desk.labels[1, 0] == layer.data[1, 0] == 7
    desk.controller.undo()
    np.testing.assert_array_equal(desk.labels, labels)


def test_paint_on_an_image_whose_session_is_being_opened_stays(
    desk, cells, monkeypatch
):
    first, second = _two_images(desk, cells)
    labels, layer = desk.labels.copy(), desk.annotation.writer.layer
    _go_to(desk, second)
    loaded, painted = threading.Event(), threading.Event()

    def take_over(*arguments):
        opening_take_over(*arguments)
        loaded.set()
        assert painted.wait(60)

    opening_take_over = opening.take_over
    monkeypatch.setattr(opening, "take_over", take_over)
    desk.controller.use_image(first)
    assert loaded.wait(60)
    layer.data_setitem((np.array([0, 1]), np.array([0, 0])), 7)
    painted.set()
    desk.main.settle()
    assert desk.labels[0, 0] == desk.labels[1, 0] == layer.data[1, 0] == 7
    desk.controller.undo()
    np.testing.assert_array_equal(desk.labels, labels)
    np.testing.assert_array_equal(layer.data, labels)


def test_labels_that_were_deleted_meanwhile_come_back(desk, cells):
    first, second = _two_images(desk, cells)
    labels, layer = desk.labels.copy(), desk.annotation.writer.layer
    _go_to(desk, second)
    desk.viewer.layers.remove(layer)
    _go_to(desk, first)
    np.testing.assert_array_equal(desk.annotation.writer.layer.data, labels)


def test_every_change_is_kept_without_saving_and_can_be_opened(desk, cells, sessions):
    desk.open(cells.image, name="cells (1)")
    desk.click(*cells.center(1))
    before = desk.labels.copy()
    [kept] = sessions.glob("cells_1 *.nsam")
    assert desk.session.path == str(kept)
    desk.viewer.layers.clear()  # as after a crash: only the folder is left
    desk.main.settle()
    desk.open(cells.image, name="cells (1)")
    assert "Earlier work" in desk.state.status and not desk.labels.any()
    desk.controller.open_saved(str(kept))
    desk.main.settle()
    np.testing.assert_array_equal(desk.labels, before)
    np.testing.assert_array_equal(desk.annotation.layers.points.data, [cells.center(1)])


def test_a_session_without_a_change_leaves_nothing_behind(desk, cells, sessions):
    desk.open(cells.image)
    assert len(list(sessions.iterdir())) == 1
    desk.controller.close()
    assert list(sessions.iterdir()) == []


def test_a_folder_that_cannot_be_written_costs_no_click(desk, cells, sessions):
    sessions.write_text("a file is in the way")
    desk.open(cells.image)
    desk.click(*cells.center(1))
    assert desk.session.path is None and (desk.labels == 1).any()


def test_the_next_widget_takes_up_masks_prompts_and_layers(desk, cells):
    desk.open(cells.image)
    desk.click(*cells.center(1))
    before, n = desk.labels.copy(), len(desk.viewer.layers)
    desk.controller.close()
    from napari_sam._napari.controller import Controller
    from napari_sam._napari.workers import Jobs

    desk.main.jobs = Jobs(desk.main.calls.put)
    desk.controller = Controller(
        desk.viewer, desk.main.jobs, load_model=lambda name: desk.model
    )
    desk.main.settle()
    assert len(desk.viewer.layers) == n
    np.testing.assert_array_equal(desk.labels, before)
    np.testing.assert_array_equal(desk.annotation.layers.points.data, [cells.center(1)])
    assert desk.state.can_undo
    desk.controller.new_object()
    desk.click(*cells.center(2))
    assert set(np.unique(desk.labels)) == {0, 1, 2}
