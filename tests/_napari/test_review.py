import numpy as np
import pytest
from scipy import ndimage

from napari_sam._napari.preview import CURRENT
from napari_sam.core.mask_prompt import MaskPrompt
from napari_sam.core.planes import Plane
from napari_sam.core.thresholds import Thresholds
from napari_sam.engine.propose_options import ProposeOptions
from napari_sam.errors import ModelError
from napari_sam.testing import ToyModel, phantom_image, phantom_volume


@pytest.fixture
def cells():
    return phantom_image((72, 108), n_objects=6, noise=0)


@pytest.fixture
def review(desk_for, cells):
    """A desk with one object annotated and five suggested."""
    desk = desk_for(ToyModel(48))
    desk.open(cells.image, name="cells")
    desk.click(*cells.center(1))
    desk.controller.review.finding.suggest("plane")
    desk.main.settle()
    return desk


def _preview(desk):
    return desk.viewer.layers["cells · proposals"]


def test_proposals_are_listed_by_doubt_and_drawn_in_a_layer_of_their_own(review, cells):
    rows = review.state.review.rows
    assert len(rows) == 5 and not review.state.review.running
    doubts = [row.doubt for row in rows]
    assert doubts == sorted(doubts, reverse=True)
    layer = _preview(review)
    inside = ndimage.binary_fill_holes(layer.data > 0)
    assert (inside == (cells.labels > 1)).mean() > 0.99
    assert 0 < (layer.data > 0).sum() < 0.6 * inside.sum()  # outlines
    assert not layer.editable
    assert set(np.unique(review.labels)) == {0, 1}
    assert "5 proposals wait" in review.state.status
    points = review.annotation.layers.points
    assert review.viewer.layers.selection.active is points


def test_going_through_them_moves_camera_and_highlight(review):
    controller = review.controller
    seen = []
    for _ in range(5):
        controller.review.next()
        found = controller.review.current
        seen.append(found.number)
        y0, x0, y1, x1 = found.bbox
        center = getattr(review.viewer, "scene", review.viewer).camera.center
        assert center[1:] == ((y0 + y1 - 1) / 2, (x0 + x1 - 1) / 2)
        lit = _preview(review).data == CURRENT
        inside = ndimage.binary_fill_holes(lit)
        assert inside.sum() == found.area == inside[y0:y1, x0:x1].sum()
    assert seen == [row.number for row in review.state.review.rows]
    controller.review.next()
    assert controller.review.current.number == seen[0]
    controller.review.previous()
    assert controller.review.current.number == seen[-1]


def test_accept_goes_on_to_the_next_and_is_one_step_back(review):
    do, before = review.controller, review.labels.copy()
    do.review.next()
    first = do.review.current
    do.review.accept()
    review.main.settle()
    assert do.review.current.number == review.state.review.rows[0].number
    new = review.session.proposals.object_id(first)
    assert (review.labels == new).sum() == first.area
    assert len(review.state.review.rows) == 4
    y0, x0, y1, x1 = first.bbox
    assert not _preview(review).data[y0:y1, x0:x1][first.mask].any()
    do.undo()
    review.main.settle()
    np.testing.assert_array_equal(review.labels, before)
    assert len(review.state.review.rows) == 5
    drawn = _preview(review).data[y0:y1, x0:x1] > 0
    assert (drawn & first.mask).any() and not drawn[~first.mask].any()


def test_the_empty_object_at_hand_does_not_become_an_accepted_one(review, cells):
    do = review.controller
    do.new_object()
    assert review.state.object_id == 2
    do.review.next()
    do.review.accept()
    review.main.settle()
    assert review.session.objects[2] and review.state.object_id == 3


def test_rejected_ones_stay_away_until_they_are_brought_back(review):
    do = review.controller
    do.review.next()
    bad = do.review.current
    do.review.reject()
    review.main.settle()
    assert bad.number not in [row.number for row in review.state.review.rows]
    assert review.state.review.rejected == 1
    do.review.finding.suggest("plane")
    review.main.settle()
    assert len(review.state.review.rows) == 4
    do.review.restore()
    review.main.settle()
    assert do.review.current.number == bad.number
    assert len(review.state.review.rows) == 5


def test_a_proposal_is_corrected_with_points_like_any_object(review):
    do = review.controller
    do.review.next()
    found = do.review.current
    do.review.correct()
    review.main.settle()
    object_id = review.session.proposals.object_id(found)
    assert review.state.object_id == object_id
    np.testing.assert_array_equal(
        review.annotation.layers.points.data, found.prompts.points
    )
    whole = (review.labels == object_id).sum()
    do.tools.toggle_polarity()
    review.click(*np.argwhere(review.labels == object_id)[-1])
    assert 0 < (review.labels == object_id).sum() < whole
    do.undo()
    do.undo()
    review.main.settle()
    assert not (review.labels == object_id).any()


def test_a_box_takes_the_place_of_a_proposal(review):
    do, before = review.controller, review.labels.copy()
    do.review.next()
    found = do.review.current
    do.review.redraw()
    assert review.state.tool == "box" and review.state.object_id == 2
    y0, x0, y1, x1 = found.bbox
    corners = [(y0 - 1, x0 - 1), (y0 - 1, x1), (y1, x1), (y1, x0 - 1)]
    review.annotation.layers.shapes.add_rectangles(np.array(corners, float))
    review.main.settle()
    assert (review.labels == 2).sum() > 0.8 * found.area
    assert found.number not in [row.number for row in review.state.review.rows]
    assert review.session.object(2, found.plane).prompts.box is not None
    do.undo()
    review.main.settle()
    np.testing.assert_array_equal(review.labels, before)
    assert found.number in [row.number for row in review.state.review.rows]


def test_thresholds_are_moved_live_and_all_that_is_shown_is_accepted(review):
    do, before = review.controller, review.labels.copy()
    doubts = sorted(row.doubt for row in review.state.review.rows)
    whole = _preview(review).data.copy()
    do.review.select(Thresholds(max_doubt=doubts[2]))
    review.main.settle()
    assert len(review.state.review.rows) == 3 == review.state.review.pending
    assert review.state.review.hidden == 2
    assert 0 < (_preview(review).data > 0).sum() < (whole > 0).sum()
    do.review.accept_all()
    review.main.settle()
    assert review.state.review.pending == 0 and len(review.session.objects) == 4
    do.review.accept_all()
    assert "2 proposals wait, below the thresholds" in review.state.status
    do.undo()
    do.review.select(Thresholds())
    review.main.settle()
    np.testing.assert_array_equal(review.labels, before)
    np.testing.assert_array_equal(_preview(review).data, whole)
    do.review.reject_all()
    review.main.settle()
    assert review.state.review.rejected == 5 and not _preview(review).data.any()
    do.undo()
    review.main.settle()
    assert review.state.review.pending == 5
    do.review.select(Thresholds(min_area=10**6))
    do.review.reject_all()
    assert "below the thresholds" in review.state.status


def test_the_order_can_be_turned(review):
    doubtful = [row.number for row in review.state.review.rows]
    review.controller.review.order(doubtful_first=False)
    assert [row.number for row in review.state.review.rows] == doubtful[::-1]


def test_keys_of_our_layers_go_through_the_list(review):
    layer = review.annotation.layers.points
    keys = {str(key): call for key, call in layer.keymap.items()}
    keys["."](layer)
    first = review.controller.review.current
    assert first is not None
    keys["R"](layer)
    review.main.settle()
    keys["Y"](layer)
    review.main.settle()
    assert review.state.review.rejected == 1
    assert len(review.state.review.rows) == 3


def test_the_view_jumps_to_the_plane_of_a_proposal(desk_for):
    stack = phantom_volume((7, 40, 64), n_objects=2, noise=0)
    desk = desk_for(ToyModel(48))
    layer = desk.open(stack.image, scale=(3.0, 0.5, 0.5), translate=(10, 5, 5))
    desk.viewer.dims.set_point(0, layer.data_to_world((3, 0, 0))[0])
    desk.click(*stack.center(1))
    desk.controller.review.finding.suggest("all")
    desk.main.settle()
    planes = {s.plane for s in desk.session.proposals.pending}
    assert len(planes) > 2
    for _ in desk.state.review.rows:
        desk.controller.review.next()
        assert desk.annotation.plane == desk.controller.review.current.plane
    desk.controller.review.finding.suggest("plane")
    desk.main.settle()
    assert "object 1" in desk.state.review.rows[0].text or desk.annotation.plane


def test_stopping_keeps_what_was_found_and_clicks_go_on(desk_for, cells):
    desk = desk_for(ToyModel(40, delay_s=0.05))
    desk.open(cells.image)
    desk.click(*cells.center(1))
    desk.controller.review.finding.suggest("plane")
    desk.main.pump(lambda: desk.state.review.rows)
    desk.controller.review.stop()
    n = len(desk.state.review.rows)
    desk.main.settle()
    assert not desk.state.review.running and len(desk.state.review.rows) >= n > 0


def test_all_objects_are_found_without_any_and_thresholds_go_both_ways(desk_for, cells):
    desk = desk_for(ToyModel(64))
    desk.open(cells.image, name="cells")
    find = desk.controller.review
    find.finding.everything("plane", ProposeOptions(points_per_side=12))
    desk.main.settle()
    usual = desk.session.proposals.thresholds
    assert usual.pred_iou_thresh == desk.model.spec.proposal_thresholds[0]
    shown = desk.state.review.pending
    find.select(Thresholds(max_area=1000))
    desk.main.settle()
    assert desk.state.review.hidden > 0
    assert desk.state.review.pending + desk.state.review.hidden >= shown
    assert any(
        p.overlap(*_crop(cells.labels == 3)) > 0.9
        for p in desk.session.proposals.pending
    )
    before = desk.state.review.pending + desk.state.review.hidden
    find.finding.everything("plane", ProposeOptions(points_per_side=12))
    desk.main.settle()
    assert desk.state.review.pending + desk.state.review.hidden == before
    find.finding.everything("view", ProposeOptions(points_per_side=12))
    desk.main.pump(lambda: desk.state.review.total)
    find.stop()
    assert not desk.state.review.running and "Stopped" in desk.state.status


def _crop(mask):
    found = MaskPrompt.of(mask)
    return found.bbox, found.mask


def test_an_error_of_the_search_is_shown_and_nothing_is_lost(review, monkeypatch):
    def broken(*_):
        raise ModelError("out of memory: use a smaller model")

    before = review.labels.copy()
    monkeypatch.setattr(review.model, "decode_many", broken)
    review.controller.review.finding.suggest("plane")
    review.main.settle()
    assert "Out of memory" in review.state.status
    assert not review.state.review.running
    np.testing.assert_array_equal(review.labels, before)


def test_another_model_leaves_proposals_and_prompts_in_place(review):
    rows = review.state.review.rows
    review.controller.use_model("another")
    review.main.settle()
    assert review.state.review.rows == rows
    assert review.session.object(1, Plane(())) is not None
