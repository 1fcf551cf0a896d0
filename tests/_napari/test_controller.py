import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_sam._napari import annotation, autosave, keeping
from napari_sam._napari.plane_view import order_for_axis
from napari_sam.core.planes import Plane
from napari_sam.results.label_objects import boxes_of
from napari_sam.session import Session
from napari_sam.testing import ToyModel


def _iou(mask, truth):
    return (mask & truth).sum() / (mask | truth).sum()


def test_an_image_that_is_opened_is_taken_up_with_the_point_tool_armed(desk, cells):
    assert "Open an image" in desk.state.status
    layer = desk.open(cells.image, name="cells")
    assert [x.name for x in desk.viewer.layers] == [
        "cells", "cells · masks", "cells · points",
    ]  # fmt: skip
    assert desk.annotation.image is layer
    assert desk.viewer.layers.selection.active is desk.annotation.layers.points
    assert desk.annotation.layers.points.mode == "add"
    assert "Click on an object" in desk.state.status
    assert desk.state.window == desk.session.volume.intensity.windows[0]


def test_a_click_gives_a_mask_and_candidates(desk, cells):
    desk.open(cells.image)
    desk.click(*cells.center(1))
    assert _iou(desk.labels == 1, cells.labels == 1) > 0.95
    state = desk.state
    assert len(state.thumbnails) == 3
    assert state.thumbnails[0].picture.dtype == np.uint8
    assert state.can_undo and state.can_export and not state.can_redo
    assert "score" in state.status


def test_an_id_beyond_the_type_of_the_labels_is_shown_and_undone(desk, cells):
    desk.open(cells.image)
    desk.click(*cells.center(1))
    before = desk.labels.copy()
    desk.annotation.select(70_000)
    desk.click(*cells.center(2))
    layer = desk.annotation.writer.layer
    assert layer.data is desk.session.labels
    assert layer.data.dtype == np.uint32
    assert _iou(np.asarray(layer.data) == 70_000, cells.labels == 2) > 0.95
    desk.controller.undo()
    desk.main.settle()
    assert np.array_equal(layer.data, before)


def test_a_click_before_the_model_is_ready_is_kept(desk, cells):
    loading = threading.Event()
    desk.controller._load_model = lambda name: loading.wait(10) and desk.model
    desk.viewer.add_image(cells.image)
    desk.main.pump(lambda: desk.annotation)
    desk.annotation.layers.points.add(cells.center(2))
    assert desk.session is None and "your click is kept" in desk.state.status
    loading.set()
    desk.main.settle()
    assert _iou(desk.labels == 1, cells.labels == 2) > 0.95


def test_a_second_negative_click_refines_the_same_object(desk):
    image = np.full((64, 96), 20, np.uint8)
    image[20:40, 10:80] = 200
    desk.open(image)
    desk.click(30, 20)
    assert (desk.labels == 1).sum() == 20 * 70
    desk.controller.tools.toggle_polarity()
    desk.click(30, 70)
    left = desk.labels == 1
    assert left[30, 20] and not left[30, 70] and 0 < left.sum() < 20 * 70
    assert desk.session.object(1, Plane(())).prompts.point_labels == (1, 0)


def test_undo_goes_back_click_by_click_with_prompts_and_pixels(desk, cells):
    desk.open(cells.image)
    desk.click(*cells.center(1))
    one = desk.labels.copy()
    desk.controller.new_object()
    desk.click(*cells.center(2))
    two = desk.labels.copy()
    desk.controller.undo()
    np.testing.assert_array_equal(desk.labels, one)
    assert len(desk.annotation.layers.points.data) == 0
    desk.controller.undo()
    assert not desk.labels.any() and not desk.state.can_undo
    desk.controller.redo()
    desk.controller.redo()
    np.testing.assert_array_equal(desk.labels, two)
    np.testing.assert_array_equal(desk.annotation.layers.points.data, [cells.center(2)])


def test_undo_gives_back_the_older_object_underneath(desk, cells):
    desk.open(cells.image)
    desk.click(*cells.center(1))
    before = desk.labels.copy()
    desk.controller.set_rule("overwrite")
    desk.controller.new_object()
    desk.click(*cells.center(1))
    assert not (desk.labels == 1).any() and (desk.labels == 2).any()
    desk.controller.undo()
    np.testing.assert_array_equal(desk.labels, before)


def test_keep_protects_what_is_there(desk, cells):
    desk.open(cells.image)
    desk.click(*cells.center(1))
    before = desk.labels.copy()
    desk.controller.new_object()
    desk.click(*cells.center(1))
    np.testing.assert_array_equal(desk.labels, before)


def test_selecting_an_object_resumes_it(desk, cells):
    desk.open(cells.image)
    desk.click(*cells.center(1))
    scores = [t.score for t in desk.state.thumbnails]
    desk.controller.new_object()
    desk.main.settle()
    assert desk.state.object_id == 2 and desk.state.thumbnails == ()
    desk.click(*cells.center(2))
    desk.controller.select_object(1)
    desk.main.settle()
    np.testing.assert_array_equal(desk.annotation.layers.points.data, [cells.center(1)])
    assert [t.score for t in desk.state.thumbnails] == scores
    assert desk.annotation.writer.layer.selected_label == 1


def test_new_object_twice_stays_on_the_empty_one(desk, cells):
    desk.open(cells.image)
    desk.click(*cells.center(1))
    desk.controller.new_object()
    desk.controller.new_object()
    assert desk.state.object_id == 2


def test_another_candidate_is_one_undoable_change(desk, cells):
    desk.open(cells.image)
    desk.click(*cells.center(1))
    best = desk.labels.copy()
    desk.controller.next_candidate()
    desk.main.settle()
    assert desk.state.chosen == 1
    desk.controller.undo()
    desk.main.settle()
    assert desk.state.chosen == 0
    np.testing.assert_array_equal(desk.labels, best)
    desk.controller.choose(2)
    desk.main.settle()
    assert desk.state.chosen == 2


def test_a_box_gives_a_mask_and_a_new_box_replaces_it(desk, cells):
    desk.open(cells.image)
    desk.controller.tools.box()
    shapes = desk.annotation.layers.shapes
    assert desk.viewer.layers.selection.active is shapes

    grow = (-3, -3, 2, 2)

    def draw(object_id):
        y0, x0, y1, x1 = (
            v + d for v, d in zip(cells.box(object_id), grow, strict=True)
        )
        shapes.add_rectangles(np.array([(y0, x0), (y0, x1), (y1, x1), (y1, x0)], float))
        desk.main.settle()

    draw(1)
    assert _iou(desk.labels == 1, cells.labels == 1) > 0.95
    draw(3)
    assert _iou(desk.labels == 1, cells.labels == 3) > 0.95
    assert len(shapes.data) == 1 and shapes in desk.viewer.layers


def test_deleting_the_last_point_takes_the_mask_away_undoably(desk, stack):
    desk.open(stack.image)
    z, y, x = stack.center(1)
    desk.click(z, y, x)
    desk.click(z - 1, y, x)
    both = desk.labels.copy()
    points = desk.annotation.layers.points
    points.selected_data = {1}
    points.remove_selected()
    desk.main.settle()
    assert not desk.labels[z - 1].any()
    np.testing.assert_array_equal(desk.labels[z], both[z])
    desk.controller.undo()
    np.testing.assert_array_equal(desk.labels, both)
    assert len(points.data) == 2


@pytest.mark.parametrize("by", ["polygon", "mask", "scribbles"])
def test_prompts_that_no_layer_draws_outlive_clicks_beside_them(desk, stack, by):
    desk.open(stack.image)
    z, y, x = stack.center(1)
    corners = [(y - 3, x - 3), (y - 3, x + 3), (y + 3, x + 3), (y + 3, x - 3)]
    given = {
        "polygon": corners,
        "mask": stack.labels[z] == 1,
        "scribbles": [[(y, x - 2), (y, x + 2)]],
    }
    desk.session.segment(1, z, **{by: given[by]})
    desk.annotation.select(1)
    there = desk.labels[z].copy()
    assert there.any()
    said = desk.session.object(1, Plane((z,))).prompts
    desk.click(z - 1, y, x)
    np.testing.assert_array_equal(desk.labels[z], there)
    assert desk.labels[z - 1].any()
    desk.click(z, y, x)
    here = desk.session.object(1, Plane((z,))).prompts
    without = replace(here, points=(), point_labels=())
    assert without.to_json() == said.to_json()
    assert here.points == ((y, x),)
    points = desk.annotation.layers.points
    points.selected_data = {1}
    points.remove_selected()
    desk.main.settle()
    left = desk.session.object(1, Plane((z,))).prompts
    assert left.to_json() == said.to_json()


def test_moving_a_point_asks_again(desk, cells):
    desk.open(cells.image)
    desk.click(*cells.center(1))
    desk.annotation.layers.points.data = [cells.center(4)]
    desk.main.settle()
    assert _iou(desk.labels == 1, cells.labels == 4) > 0.95


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_clicks_land_on_the_shown_plane_of_any_axis(desk, stack, axis):
    layer = desk.open(stack.image, scale=(3, 0.5, 0.5), translate=(10, 5, -5))
    desk.controller.use_axis(axis)
    assert desk.state.axis == axis
    at = stack.center(1)
    desk.viewer.dims.set_point(axis, layer.data_to_world(at)[axis])
    desk.click(*at)
    [(object_id, found)] = desk.session.objects.items()
    assert object_id == 1 and list(found.planes) == [Plane((at[axis],), axis)]
    slicer = Plane((at[axis],), axis).slicer()
    assert _iou(desk.labels[slicer] == 1, stack.labels[slicer] == 1) > 0.9
    assert (desk.labels > 0).sum() == (desk.labels[slicer] > 0).sum()


def test_each_axis_shows_its_own_prompts(desk, stack):
    desk.open(stack.image)
    at = stack.center(1)
    desk.click(*at)
    desk.controller.use_axis(1)
    assert len(desk.annotation.layers.points.data) == 0
    desk.controller.use_axis(0)
    np.testing.assert_array_equal(desk.annotation.layers.points.data, [at])


def test_time_and_colour_and_pyramids_work(desk, cells):
    movie = np.stack([cells.image, cells.image[::-1], cells.image])[:, None]
    desk.open(movie, name="movie")
    y, x = cells.center(1)
    desk.viewer.dims.set_current_step((0, 1), (2, 0))
    desk.click(2, 0, y, x)
    assert _iou(desk.labels[2, 0] == 1, cells.labels == 1) > 0.95
    assert not desk.labels[:2].any()

    colour = desk.viewer.add_image(np.repeat(cells.image[..., None], 3, 2), rgb=True)
    desk.controller.use_image(colour)
    desk.main.settle()
    desk.click(*cells.center(2))
    assert desk.state.own_colors
    assert _iou(desk.labels == 1, cells.labels == 2) > 0.95

    pyramid = [np.kron(cells.image, np.ones((4, 4), np.uint8)), cells.image]
    pyramid = [pyramid[0], pyramid[0][::2, ::2], cells.image]
    level = desk.viewer.add_image(pyramid, multiscale=True, contrast_limits=(0, 255))
    desk.controller.use_image(level)
    desk.main.settle()
    desk.click(4 * y + 2, 4 * x + 2)
    truth = np.kron(cells.labels == 1, np.ones((4, 4), bool))
    assert _iou(desk.labels == 1, truth) > 0.9


def test_dask_images_are_read_where_they_are_clicked(desk, cells):
    da = pytest.importorskip("dask.array")
    desk.open(da.from_array(cells.image, chunks=32), contrast_limits=(0, 255))
    desk.click(*cells.center(1))
    assert _iou(desk.labels == 1, cells.labels == 1) > 0.95


def test_the_third_dimension_of_display_is_refused_with_advice(desk, stack):
    desk.open(stack.image)
    desk.viewer.dims.ndisplay = 3
    assert "3-D display" in desk.state.elsewhere and not desk.state.stuck
    desk.click(*stack.center(1))
    assert not desk.labels.any()
    assert len(desk.annotation.layers.points.data) == 0
    desk.viewer.dims.ndisplay = 2
    assert desk.state.status_kind == "info"


def test_a_lone_negative_point_waits_for_a_positive_one(desk, cells):
    told = []
    desk.controller.board.failed.connect(told.append)
    desk.open(cells.image)
    desk.controller.tools.toggle_polarity()
    desk.click(2, 2)
    assert "so first add a positive one" in told[0] and not desk.labels.any()
    desk.controller.tools.toggle_polarity()
    desk.click(*cells.center(1))
    assert _iou(desk.labels == 1, cells.labels == 1) > 0.95


def test_a_point_outside_is_refused_and_taken_away(desk, cells):
    desk.open(cells.image)
    desk.click(*cells.center(1))
    before = desk.labels.copy()
    desk.click(-30, 4)
    assert "outside" in desk.state.status
    np.testing.assert_array_equal(desk.annotation.layers.points.data, [cells.center(1)])
    np.testing.assert_array_equal(desk.labels, before)


def test_painting_enters_the_same_history(desk, cells):
    desk.open(cells.image)
    desk.click(*cells.center(1))
    before = desk.labels.copy()
    labels = desk.annotation.writer.layer
    labels.selected_label = 9
    labels.brush_size = 4
    labels.paint((2, 2), 9)
    assert (desk.labels == 9).any() and desk.state.object_id == 9
    desk.controller.undo()
    np.testing.assert_array_equal(desk.labels, before)
    desk.controller.redo()
    assert (desk.labels == 9).any()
    desk.controller.new_object()
    assert desk.state.object_id == 10


def test_keys_on_our_layers_and_on_no_other(desk, cells):
    other = desk.viewer.add_points(ndim=2)
    image = desk.open(cells.image)
    layers, writer = desk.annotation.layers, desk.annotation.writer
    anywhere = {"T", "P", "B", *"GLSHWME", "PageUp", "PageDown"} | {
        f"Alt+{n}" for n in range(1, 10)
    }
    undo, review = {"Ctrl+Z", "Ctrl+Shift+Z"}, {".", ",", "Y", "R", "D", "O"}
    ours = anywhere | undo | review | set("NCJKX") | set("UAQI")
    assert {str(k) for k in layers.points.keymap} == ours
    assert {str(k) for k in writer.layer.keymap} == ours - set("ELM")
    assert {str(k) for k in image.keymap} == anywhere
    assert not other.keymap and not desk.viewer.keymap
    desk.controller.close()
    assert not layers.points.keymap and not writer.layer.keymap and not image.keymap


def test_other_layers_are_left_alone(desk, cells):
    labels = desk.viewer.add_labels(cells.labels.copy(), name="mine")
    points = desk.viewer.add_points([[1, 2]], name="my points")
    desk.open(cells.image, name="cells")
    desk.click(*cells.center(1))
    np.testing.assert_array_equal(labels.data, cells.labels)
    np.testing.assert_array_equal(points.data, [[1, 2]])
    assert {"mine", "my points", "cells"} <= {x.name for x in desk.viewer.layers}


def test_deleting_an_object_looks_for_it_in_the_worker_and_can_be_undone(
    desk, cells, monkeypatch
):
    desk.open(cells.image)
    desk.click(*cells.center(1))
    before = desk.labels.copy()
    searched = []

    def look(labels, object_id):
        searched.append(threading.current_thread() is threading.main_thread())
        return boxes_of(labels, object_id)

    monkeypatch.setattr(annotation, "boxes_of", look)
    desk.controller.delete_object()
    desk.main.settle()
    assert searched == [False]
    assert before.any() and not desk.labels.any() and not desk.session.objects
    desk.controller.undo()
    np.testing.assert_array_equal(desk.labels, before)
    assert len(desk.annotation.layers.points.data) == 1


def test_a_deleted_masks_layer_comes_back_with_the_next_mask(desk, cells):
    desk.open(cells.image)
    desk.click(*cells.center(1))
    desk.viewer.layers.remove(desk.annotation.writer.layer)
    desk.controller.new_object()
    desk.click(*cells.center(2))
    layer = desk.annotation.writer.layer
    assert layer in desk.viewer.layers
    assert set(np.unique(layer.data)) == {0, 1, 2}


def test_a_deleted_points_layer_comes_back_with_its_prompts(desk, cells):
    desk.open(cells.image)
    desk.click(*cells.center(1))
    before = desk.labels.copy()
    desk.viewer.layers.remove(desk.annotation.layers.points)
    desk.controller.tools.point()
    np.testing.assert_array_equal(desk.annotation.layers.points.data, [cells.center(1)])
    np.testing.assert_array_equal(desk.labels, before)


def test_removing_the_image_under_way_stops_the_work_and_keeps_the_masks(desk, cells):
    desk.model.delay_s = 0.1
    image = desk.open(cells.image, name="cells")
    desk.click(*cells.center(1))
    labels = desk.annotation.writer.layer
    before = labels.data.copy()
    desk.annotation.layers.points.add(cells.center(3))
    desk.viewer.layers.remove(image)
    desk.main.settle()
    assert desk.annotation is None and "was removed" in desk.state.status
    np.testing.assert_array_equal(labels.data, before)
    desk.open(cells.image, name="again")
    desk.click(*cells.center(2))
    assert (desk.labels > 0).any()


def test_clearing_all_layers_under_way_is_no_crash(desk, cells):
    desk.model.delay_s = 0.1
    desk.open(cells.image)
    desk.annotation.layers.points.add(cells.center(1))
    desk.viewer.layers.clear()
    desk.main.settle()
    assert desk.state.images == () and desk.annotation is None


def test_undo_takes_back_a_click_that_is_still_being_answered(desk, cells):
    desk.open(cells.image)
    desk.click(*cells.center(1))
    before = desk.labels.copy()
    desk.model.delay_s = 0.2
    desk.annotation.layers.points.add(cells.center(2))
    desk.controller.undo()
    desk.main.settle()
    np.testing.assert_array_equal(desk.labels, before)
    np.testing.assert_array_equal(desk.annotation.layers.points.data, [cells.center(1)])


def test_another_model_goes_on_with_masks_prompts_and_history(desk, cells):
    desk.open(cells.image)
    desk.click(*cells.center(1))
    before = desk.labels.copy()
    desk.controller._load_model = lambda name: ToyModel(96)
    desk.controller.use_model("nano")
    desk.main.settle()
    assert desk.session.model.spec.input_side == 96
    np.testing.assert_array_equal(desk.labels, before)
    desk.controller.undo()
    assert not desk.labels.any()


def test_weights_are_not_fetched_before_the_user_agrees(desk, cells):
    desk.open(cells.image)
    asked = []
    desk.controller.download_wanted.connect(lambda name, notice: asked.append(notice))
    desk.controller.use_model("sam_vit_b")
    desk.main.settle()
    assert len(asked) == 1 and "Apache-2.0" in asked[0]
    assert desk.state.model == "nano"


def test_a_model_that_cannot_be_loaded_keeps_everything(desk, cells):
    desk.open(cells.image)
    desk.click(*cells.center(1))
    before, session = desk.labels.copy(), desk.session

    def broken(name):
        raise OSError("no such checkpoint")

    desk.controller._load_model = broken
    desk.controller.use_model("/nowhere/weights.pth")
    desk.main.settle()
    assert "no such checkpoint" in desk.state.status
    assert desk.session is session
    np.testing.assert_array_equal(desk.labels, before)


def test_a_checkpoint_file_gets_a_name_in_the_list(desk, cells, tmp_path, monkeypatch):
    file = tmp_path / "best.pth"
    file.write_bytes(b"weights")
    desk.model._spec = replace(desk.model.spec, source=f"sam:{file}")
    monkeypatch.setenv("NAPARI_SAM_CONFIG", str(tmp_path / "config"))
    desk.open(cells.image)
    desk.controller.use_checkpoint(str(file), "sam_vit_b")
    assert desk.state.status_kind == "error" and desk.state.model == "nano"
    desk.controller.use_checkpoint(str(file), "my_cells")
    desk.main.settle()
    assert desk.state.model == "my_cells"
    assert "my_cells" in [m.name for m in desk.state.models]


def test_the_window_follows_contrast_limits_only_when_asked(desk, cells):
    layer = desk.open(cells.image)
    layer.contrast_limits = (10, 90)
    assert desk.state.window != (10, 90)
    desk.controller.intensity.follow_contrast(True)
    assert desk.state.window == (10, 90)
    layer.contrast_limits = (20, 80)
    assert desk.session.engine.intensity.windows == ((20.0, 80.0),)
    desk.controller.intensity.set_window(0, 255)
    assert not desk.state.follow and desk.state.window == (0, 255)
    desk.controller.intensity.set_window(5, 5)
    assert desk.state.window == (0, 255) and desk.state.status_kind == "error"


def test_a_saved_session_is_continued_with_prompts_and_masks(desk, cells, tmp_path):
    desk.open(cells.image)
    desk.click(*cells.center(1))
    before = desk.labels.copy()
    desk.controller.files.save(str(tmp_path / "work.nsam"))
    desk.main.settle()
    assert "every change is kept" in desk.state.status
    desk.controller.new_object()
    desk.click(*cells.center(2))
    desk.controller.undo()
    desk.controller.open_saved(str(tmp_path / "work.nsam"))
    desk.main.settle()
    np.testing.assert_array_equal(desk.labels, before)
    np.testing.assert_array_equal(desk.annotation.writer.layer.data, before)


def test_order_for_axis_is_a_permutation_that_hides_the_axis(desk, stack):
    desk.open(stack.image)
    for axis in range(3):
        order = order_for_axis(desk.viewer.dims, 3, axis)
        assert sorted(order) == [0, 1, 2] and order[0] == axis


# -- keys and answers under way ------------------------------------------------------


def test_an_undo_while_the_mask_is_sharpened_is_the_last_word(desk_for):
    block, step = threading.Event(), threading.Event()

    class Slow(ToyModel):
        def decode(self, embedding, prompts):
            if block.is_set():
                step.wait(20)
            return super().decode(embedding, prompts)

    desk = desk_for(Slow(64))
    image = np.full((400, 400), 20, np.uint8)
    image[40:360, 40:360] = 200
    desk.open(image)
    desk.main.pump(lambda: desk.main.jobs.idle)
    desk.annotation.layers.points.add(np.array([200.0, 200.0]))
    desk.main.pump(lambda: (desk.labels == 1).any())
    block.set()
    desk.controller.undo()
    step.set()
    desk.main.settle()
    assert not desk.labels.any()
    assert desk.state.said.startswith("Undone") and not desk.state.thumbnails
    assert not len(desk.annotation.layers.points.data)


def test_a_candidate_chosen_while_a_click_is_answered_waits_for_the_answer(desk_for):
    answer = threading.Event()
    answer.set()

    class Slow(ToyModel):
        def decode(self, embedding, prompts):
            answer.wait(20)
            return super().decode(embedding, prompts)

    desk = desk_for(Slow(64))
    image = np.full((64, 96), 20, np.uint8)
    image[20:40, 10:80] = 200
    desk.open(image)
    desk.click(30, 20)
    answer.clear()
    desk.controller.tools.toggle_polarity()
    desk.annotation.layers.points.add(np.array([30.0, 70.0]))
    desk.controller.choose(1)
    answer.set()
    desk.main.settle()
    state = desk.session.object(1, Plane(()))
    assert state.prompts.n_clicks == len(desk.annotation.layers.points.data) == 2
    assert state.chosen == desk.state.chosen
    assert desk.state.said.startswith("Candidate")


# -- what is shown is so -------------------------------------------------------------


def test_the_model_shown_is_the_one_that_answers(desk, cells):
    desk.open(cells.image)
    shown = []
    desk.controller.board.changed.connect(lambda s: shown.append((s.model, s.loading)))

    def broken(name):
        raise OSError("no such checkpoint")

    desk.controller._load_model = broken
    desk.controller.use_model("/nowhere/weights.pth")
    desk.main.settle()
    assert ("nano", "/nowhere/weights.pth") in shown
    assert (desk.state.model, desk.state.loading) == ("nano", "")
    assert {model for model, _ in shown} == {"nano"}


def test_a_first_model_that_cannot_be_loaded_is_said_not_to_answer(desk, cells):
    def broken(name):
        raise OSError("no such checkpoint")

    load, desk.controller._load_model = desk.controller._load_model, broken
    desk.open(cells.image)
    assert "no model answers" in desk.state.model_note
    desk.controller._load_model = load
    desk.click(*cells.center(1))
    assert (desk.labels == 1).any() and "no model" not in desk.state.model_note


def test_the_tool_shown_is_the_one_the_canvas_has(desk, cells):
    image = desk.open(cells.image, name="cells")
    desk.click(*cells.center(1))
    active = desk.viewer.layers.selection
    assert not desk.state.elsewhere and "Click to add a part" in desk.state.status
    active.active = image
    assert "cells" in desk.state.elsewhere and "(P)" in desk.state.status
    active.active = desk.annotation.writer.layer
    desk.annotation.writer.layer.mode = "paint"
    assert "paint by hand" in desk.state.elsewhere
    desk.controller.tools.point()
    assert not desk.state.elsewhere and desk.state.tool == "point"
    desk.annotation.layers.points.mode = "select"
    assert "select" in desk.state.elsewhere
    desk.controller.tools.box()
    assert not desk.state.elsewhere and "Drag a box" in desk.state.status
    active.active = desk.annotation.layers.points
    desk.annotation.layers.points.mode = "add"
    assert (desk.state.tool, desk.state.elsewhere) == ("point", "")
    active.clear()
    assert "No layer" in desk.state.elsewhere


def test_a_poor_score_is_said_to_be_one(desk):
    desk.model.delay_s = 0
    desk.open(np.full((64, 96), 20, np.uint8))
    desk.click(30, 20)
    score = desk.session.object(1, Plane(())).scores[0]
    assert f"{score:.2f}" in desk.state.said
    assert ("probably wrong" in desk.state.said) == (score < 0.5)


def test_a_folder_that_cannot_be_written_is_said_until_it_can(
    desk, cells, sessions, monkeypatch
):
    monkeypatch.setattr(keeping, "AGAIN_S", 0)
    sessions.parent.mkdir(exist_ok=True)
    sessions.write_text("a file where the folder should be")
    desk.open(cells.image, name="cells")
    assert (
        "Changes are not kept on disk" in desk.state.unsaved and not desk.state.kept_in
    )
    desk.click(*cells.center(1))
    assert desk.state.unsaved
    sessions.unlink()
    desk.controller.new_object()
    desk.click(*cells.center(2))
    assert not desk.state.unsaved
    assert desk.state.kept_in == desk.session.path
    assert autosave.kept("cells") == [Path(desk.session.path)]


def test_a_folder_half_made_is_no_earlier_work(sessions):
    (sessions / "cells 2026-01-01 10.00.00.nsam").mkdir(parents=True)
    assert not autosave.kept("cells")


def test_a_disk_that_fills_up_is_said_until_there_is_room(desk, cells, monkeypatch):
    monkeypatch.setattr(keeping, "AGAIN_S", 0)
    desk.open(cells.image, name="cells")
    full = OSError(28, "No space left on device")
    writer = desk.session.document.journal.writer
    with monkeypatch.context() as patched:
        patched.setattr(type(writer.logs[0]), "write", failing(full))
        desk.click(*cells.center(1))
        desk.main.pump(lambda: desk.state.unsaved)
        assert "No space left" in desk.state.unsaved
        assert (desk.labels == 1).any()
    desk.controller.new_object()
    desk.click(*cells.center(2))
    desk.main.pump(lambda: not desk.state.unsaved)
    path, labels = desk.session.path, desk.labels.copy()
    desk.controller.close()
    again = Session.load(path, volume=cells.image, model=ToyModel(64))
    np.testing.assert_array_equal(np.asarray(again.labels), labels)
    again.close()


def failing(error):
    def call(*arguments):
        raise error

    return call


def test_an_object_gets_a_class_which_is_undone_like_the_rest(desk, cells):
    desk.open(cells.image)
    desk.click(*cells.center(1))
    desk.controller.classes.set_class("nucleus")
    desk.main.settle()
    assert desk.state.class_name == "nucleus" and desk.state.classes == ("nucleus",)
    (row,) = desk.state.objects
    assert (row.class_name, row.planes, row.how) == ("nucleus", 1, "clicked")
    desk.controller.new_object()
    assert desk.state.class_name == ""
    desk.controller.undo()
    desk.main.settle()
    assert desk.session.objects[1].class_name is None
