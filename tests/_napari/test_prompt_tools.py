"""Outlines, scribbles, paths, split, merge, refine in the panel, without a window."""

from dataclasses import replace

import numpy as np
import pytest

from napari_sam._napari.drawn import TOOLS
from napari_sam.core.masks import LabelPatch
from napari_sam.core.planes import Plane
from napari_sam.core.prompts import Prompts
from napari_sam.testing import ToyModel

PLANE = Plane(())


@pytest.fixture
def halves(desk):
    """A bright and a dim half that touch."""
    image = np.zeros((48, 80), np.uint8)
    image[10:40, 8:40] = 200
    image[10:40, 40:70] = 90
    desk.open(image)
    return desk


def draw(desk, tool, corners):
    """Add a shape as the tool's mode does."""
    desk.controller.tools.arm(tool)
    kinds = {"polygon": "polygon", "lasso": "polygon", "box": "rectangle"}
    layer = desk.annotation.layers.shapes
    layer.add(np.array(corners, float), shape_type=kinds.get(tool, "path"))
    desk.main.settle()


def said(desk, object_id=1):
    return desk.session.object(object_id, PLANE).prompts


def mark(desk, tool, *places):
    desk.controller.tools.arm(tool)
    for place in places:
        desk.click(*place)


@pytest.mark.parametrize("tool", ["polygon", "lasso"])
def test_an_outline_gives_a_mask_and_the_newest_one_counts(halves, tool):
    draw(halves, tool, [(8, 6), (8, 42), (42, 42), (42, 6)])
    np.testing.assert_array_equal(halves.labels == 1, halves.annotation.image.data > 99)
    draw(halves, tool, [(8, 38), (8, 72), (42, 72), (42, 38)])
    assert said(halves).polygon[0] == (8, 38)
    assert len(halves.annotation.layers.shapes.data) == 1
    halves.controller.undo()
    halves.main.settle()
    assert halves.annotation.layers.prompts()[PLANE].polygon[0] == (8, 6)


def test_scribbles_add_and_take_away_and_carry_their_sign(halves):
    draw(halves, "scribble", [(25, 12), (25, 20), (25, 30)])
    assert (halves.labels == 1)[25, 10] and not (halves.labels == 1)[25, 60]
    halves.controller.tools.toggle_polarity()
    assert halves.state.tool == "scribble" and halves.state.polarity == 0
    layer = halves.annotation.layers.shapes
    layer.add(np.array([(20, 36), (30, 37)], float), shape_type="path")
    halves.main.settle()
    assert said(halves).scribble_labels == (1, 0)
    assert not (halves.labels == 1)[25, 37]
    colors = [tuple(c[:2].round(1)) for c in layer.edge_color]
    assert colors[0] != colors[1]
    halves.controller.undo()
    assert said(halves).scribble_labels == (1,) and len(layer.data) == 1


def test_a_scribble_that_only_takes_away_waits_for_one_that_adds(halves):
    halves.controller.tools.arm("scribble", 0)
    layer = halves.annotation.layers.shapes
    layer.add(np.array([(20, 36), (30, 37)], float), shape_type="path")
    halves.main.settle()
    assert halves.session.object(1, PLANE) is None and len(layer.data) == 1
    assert "nly negative" in halves.state.status


def test_a_path_follows_a_thin_object(desk_for):
    desk = desk_for(ToyModel(64, mask_side=64, stride=1))
    image = np.full((48, 60), 30, np.uint8)
    image[20:24, 4:56] = 220
    desk.open(image)
    draw(desk, "path", [(21, 6), (22, 53)])
    assert said(desk).paths == (((21, 6), (22, 53)),)
    found, truth = desk.labels == 1, image > 99
    assert (found & truth).sum() / (found | truth).sum() > 0.9


def test_clicks_go_on_from_an_outline_and_undo_takes_them_alone(halves):
    draw(halves, "polygon", [(8, 6), (8, 42), (42, 42), (42, 6)])
    halves.controller.tools.point()
    halves.click(20, 30)
    prompts = said(halves)
    assert prompts.polygon and prompts.points == ((20, 30),)
    halves.controller.undo()
    assert (halves.labels == 1).sum() == 30 * 32 and not said(halves).points
    assert len(halves.annotation.layers.points.data) == 0


def test_prompts_are_shown_exactly_as_they_were_said(halves):
    layers = halves.annotation.layers
    prompts = Prompts.of(
        points=[(1 / 3, 7.7)],
        box=(1.1, 2.2, 40.3, 60.4),
        polygon=[(8.123456789, 6), (8, 42.1), (42, 42)],
        scribbles=[[(1, 2), (3, 4.4444444)], [(5, 6)]],
        scribble_labels=[1, 0],
        paths=[[(0.1, 0.2), (9, 9.9)]],
    )
    layers.show({PLANE: prompts}, 0)
    layers.shapes.events.data(value=layers.shapes.data, action="changed")
    assert layers.prompts()[PLANE].to_json() == prompts.to_json()


def test_an_outline_of_a_script_is_not_asked_again_by_a_click_elsewhere(halves):
    session = halves.session
    session.segment(1, polygon=[(8.1, 6.3), (8, 42.7), (42.9, 42), (42, 6)])
    halves.annotation.show_object()
    asked = []
    halves.annotation.ask = lambda plane, prompts: asked.append(prompts)
    halves.annotation.on_edited()
    assert not asked


def test_refine_reads_the_pixels_in_the_worker_and_asks_from_them(halves):
    layer = halves.annotation.writer.layer
    before = np.zeros_like(halves.labels)
    layer.data[8:42, 6:40] = 1
    patch = LabelPatch(PLANE, (0, 0, *before.shape), before, halves.labels.copy())
    halves.session.record_paint(patch, 1)
    reads = []
    read = halves.session.shown
    halves.session.shown = lambda *a: reads.append(1) or read(*a)
    halves.controller.reshaping.refine()
    assert not reads  # not on this thread
    halves.main.settle()
    assert reads and said(halves).mask is not None
    np.testing.assert_array_equal(halves.labels == 1, halves.annotation.image.data > 99)
    halves.controller.undo()
    assert (halves.labels == 1).sum() == 34 * 34


def test_refine_of_nothing_says_so(halves):
    halves.controller.reshaping.refine()
    halves.main.settle()
    assert "object 1 has no pixel" in halves.state.status.lower()


def both_as_one(desk):
    desk.session.segment(1, points=[(20, 20), (20, 60)])
    desk.annotation.show_object()
    assert (desk.labels == 1).sum() == 30 * 62


def test_two_clicks_split_an_object_as_one_step(halves):
    both_as_one(halves)
    halves.controller.select_object(5)
    mark(halves, "split", (20, 20), (20, 60))
    image = halves.annotation.image.data
    np.testing.assert_array_equal(halves.labels == 1, image == 200)
    np.testing.assert_array_equal(halves.labels == 2, image == 90)
    assert halves.state.object_id == 1 and "object 2" in halves.state.status
    assert not halves.annotation.layers.marks
    halves.controller.undo()
    assert (halves.labels == 1).sum() == 30 * 62


def test_a_click_on_background_splits_nothing_and_is_no_prompt(halves):
    both_as_one(halves)
    mark(halves, "split", (2, 2))
    assert "no object" in halves.state.status and not halves.annotation.layers.marks
    mark(halves, "split", (20, 20))
    halves.controller.tools.point()
    halves.click(20, 61)
    assert (20, 20) in said(halves).points and said(halves).n_clicks == 3


def test_what_is_clicked_on_joins_the_object_at_hand(halves):
    halves.click(20, 20)
    halves.controller.new_object()
    halves.click(20, 60)
    mark(halves, "merge", (20, 60))
    assert "at hand" in halves.state.status
    mark(halves, "merge", (20, 20))
    assert set(np.unique(halves.labels)) == {0, 2}
    assert (halves.labels == 2).sum() == 30 * 62 and list(halves.session.objects) == [2]
    halves.controller.undo()
    assert sorted(halves.session.objects) == [1, 2]


def test_a_merge_with_no_object_at_hand_begins_with_the_one_clicked_on(halves):
    halves.click(20, 20)
    halves.controller.new_object()
    mark(halves, "merge", (20, 20))
    assert halves.state.object_id == 1 and list(halves.session.objects) == [1]


class BoxModel(ToyModel):
    """Reads boxes alone, as MedSAM does."""

    @property
    def spec(self):
        return replace(super().spec, prompts=frozenset({"box"}))

    def decode_many(self, embedding, prompts):
        for given in prompts:
            assert not len(given.points) and given.mask_input is None
            assert given.box is not None
        return super().decode_many(embedding, prompts)


@pytest.mark.parametrize("tool", [t for t in TOOLS if t not in ("split", "merge")])
def test_a_model_of_boxes_answers_every_tool_or_has_it_not(desk_for, tool):
    desk = desk_for(BoxModel(64))
    image = np.zeros((48, 80), np.uint8)
    image[10:40, 8:40] = 200
    desk.open(image)
    assert desk.state.tool == "box"
    desk.controller.tools.arm(tool)
    if tool == "point":
        assert desk.state.tool == "box" and "no points" in desk.state.status
        return
    desk.controller.tools.toggle_polarity()
    assert desk.state.polarity == 1
    draw(desk, tool, [(10, 8), (10, 40), (40, 40), (40, 8)])
    assert (desk.labels == 1)[25, 25] and desk.state.status_kind != "error"


def test_each_shape_of_a_layer_becomes_an_object_as_one_step(halves):
    # Twice as large and shifted: places count in the world.
    corners = [np.array([(9, 7), (9, 40), (41, 40), (41, 7)]) / 2 - 5,
               np.array([(9, 38), (9, 72), (41, 72), (41, 38)]) / 2 - 5]  # fmt: skip
    mine = halves.viewer.add_shapes(corners, scale=(2, 2), translate=(10, 10))
    assert halves.controller.many.layers == [mine]
    halves.controller.many.from_selected_layer()
    halves.main.settle()
    image = halves.annotation.image.data
    np.testing.assert_array_equal(halves.labels == 1, (image == 200))
    assert (halves.labels == 2)[20, 60] and "2 objects of 2" in halves.state.status
    assert halves.state.progress is None
    halves.controller.undo()
    assert not halves.labels.any()


def test_points_of_a_layer_and_boxes_of_a_file(halves, tmp_path):
    halves.viewer.add_points([(20, 20), (2, 2)], name="seeds")
    halves.controller.many.from_layer(halves.viewer.layers["seeds"])
    halves.main.settle()
    assert (halves.labels == 1).sum() == 30 * 32
    path = tmp_path / "boxes.csv"
    path.write_text("y0,x0,y1,x1\n9,39,41,71\n")
    halves.controller.many.from_file(str(path))
    halves.main.settle()
    assert halves.labels[20, 60] == halves.state.object_id
    path.write_text("nothing")
    halves.controller.many.from_file(str(path))
    assert halves.state.status_kind == "error" and "boxes.csv" in halves.state.status


def test_points_in_a_volume_lie_on_their_planes(desk, stack):
    desk.open(stack.image)
    z, y, x = stack.center(1)
    layer = desk.viewer.add_points([(z, y, x), (z + 1, y, x)])
    desk.controller.many.from_layer(layer)
    desk.main.settle()
    places = [p.index for i in (1, 2) for p in desk.session.states(i)]
    assert places == [(round(z),), (round(z) + 1,)]
