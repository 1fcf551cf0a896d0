"""Session: prompts to labels, with undo that is exact, and files that survive."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from napari_sam.core.masks import LabelPatch, mask_iou
from napari_sam.core.planes import Plane
from napari_sam.core.prompts import Prompts
from napari_sam.errors import PromptError
from napari_sam.session import Session
from napari_sam.testing import ToyModel, phantom_image, phantom_volume

PHANTOM = phantom_image()
PLANE = Plane(())


@pytest.fixture
def session() -> Session:
    return Session(PHANTOM.image, ToyModel())


def test_one_point_labels_the_object_under_it(session):
    candidates = session.segment(3, points=[PHANTOM.center(3)])
    assert len(candidates) == 3
    assert np.array_equal(session.labels == 3, PHANTOM.labels == 3)


def test_labels_are_small_unsigned_integers_of_the_volumes_shape(session):
    assert session.labels.shape == PHANTOM.image.shape
    assert session.labels.dtype == np.uint16


def test_undo_and_redo_walk_through_every_state(session):
    seen = [session.labels.copy()]
    for k in (1, 2, 3):
        session.segment(k, points=[PHANTOM.center(k)])
        seen.append(session.labels.copy())
    for expected in seen[-2::-1]:
        assert session.undo()
        assert np.array_equal(session.labels, expected)
    assert not session.undo()
    assert session.objects == {}
    for expected in seen[1:]:
        assert session.redo()
        assert np.array_equal(session.labels, expected)
    assert not session.redo()


def test_undo_brings_back_an_older_object_underneath(session):
    session.segment(1, points=[PHANTOM.center(1)])
    first = session.labels.copy()
    session.rule = "overwrite"
    y, x = PHANTOM.center(1)
    session.segment(2, points=[(y, x)])
    assert not (session.labels == 1).any()
    session.undo()
    assert np.array_equal(session.labels, first)


def test_refining_a_mask_uncovers_what_it_had_overwritten(session):
    session.segment(1, points=[PHANTOM.center(1)])
    first = session.labels.copy()
    session.rule = "overwrite"
    session.segment(2, points=[PHANTOM.center(1)])
    session.segment(2, points=[PHANTOM.center(4)])
    assert np.array_equal(session.labels == 1, first == 1)
    assert np.array_equal(session.labels == 2, PHANTOM.labels == 4)


def test_keep_protects_other_objects(session):
    session.segment(1, points=[PHANTOM.center(1)])
    assert session.left_out(1, Plane(())) == 0
    session.segment(2, points=[PHANTOM.center(1)])
    assert not (session.labels == 2).any()
    assert session.left_out(2, Plane(())) == 1
    session.labels[:] = 0
    assert session.left_out(3, Plane(())) == 0  # nobody asked


def test_how_much_of_a_mask_others_keep_is_told(session):
    session.segment(1, box=(0, 0, 40, 50))
    hidden = (session.labels == 1).copy()
    found = session.segment(2, box=(0, 0, 96, 128))[0]
    whole = np.zeros(session.labels.shape, bool)
    y0, x0, y1, x1 = found.bbox
    whole[y0:y1, x0:x1] = found.mask
    share = np.count_nonzero(whole & hidden) / found.area
    assert session.left_out(2, Plane(())) == pytest.approx(share)


def test_a_negative_point_refines_its_own_object_only(session):
    session.segment(1, points=[PHANTOM.center(1)])
    other = session.segment(2, points=[PHANTOM.center(2)])[0].area
    y, x = PHANTOM.center(1)
    session.segment(1, points=[(y, x), (y + 12, x)], point_labels=[1, 0])
    one = np.count_nonzero(session.labels == 1)
    assert 0 < one < np.count_nonzero(PHANTOM.labels == 1)
    assert np.count_nonzero(session.labels == 2) == other


def test_clicks_one_by_one_and_all_at_once_give_the_same_mask():
    y, x = PHANTOM.center(1)
    clicks, signs = [(y, x), (y + 12, x), (y - 9, x + 2)], [1, 0, 1]
    slow, fast = (Session(PHANTOM.image, ToyModel()) for _ in range(2))
    for n in (1, 2, 3):
        slow.segment(1, points=clicks[:n], point_labels=signs[:n])
    fast.segment(1, points=clicks, point_labels=signs)
    assert np.array_equal(slow.labels, fast.labels)


def test_painting_by_hand_survives_refinement_and_enters_the_history(session):
    session.segment(1, points=[PHANTOM.center(1)])
    before = session.labels[:4, :4].copy()
    session.labels[:4, :4] = 1
    session.record_paint(LabelPatch(PLANE, (0, 0, 4, 4), before, before * 0 + 1), 1)
    session.segment(1, points=[PHANTOM.center(2)])
    assert (session.labels[:4, :4] == 1).all()
    session.undo()
    session.undo()
    assert not session.labels[:4, :4].any()


def test_choose_applies_another_candidate_and_can_be_undone(session):
    candidates = session.segment(1, points=[PHANTOM.center(1)])
    first = session.labels.copy()
    session.choose(2)
    assert np.array_equal(session.labels > 0, candidates[2].full(first.shape))
    assert session.object(1, PLANE).chosen == 2
    session.undo()
    assert np.array_equal(session.labels, first)
    with pytest.raises(PromptError, match="3 candidate"):
        session.choose(3)


def test_delete_object_removes_it_everywhere_and_undo_brings_it_back():
    phantom = phantom_volume()
    session = Session(phantom.image, ToyModel())
    z, y, x = phantom.center(1)
    session.segment(1, z, points=[(y, x)])
    session.segment(1, y, points=[(z, x)], axis=1)
    before = session.labels.copy()
    session.delete_object(1)
    assert not session.labels.any() and session.objects == {}
    session.undo()
    assert np.array_equal(session.labels, before)
    assert len(session.objects[1].planes) == 2


def test_a_late_answer_is_dropped(session):
    first = session.set_prompts(1, PLANE, Prompts.of(points=[PHANTOM.center(1)]))
    late = session.run(first)
    second = session.set_prompts(1, PLANE, Prompts.of(points=[PHANTOM.center(2)]))
    assert session.accept(late) is None
    assert session.accept(session.run(second)) is not None
    assert np.array_equal(session.labels == 1, PHANTOM.labels == 2)


def test_undo_makes_pending_answers_stale(session):
    session.segment(1, points=[PHANTOM.center(1)])
    request = session.set_prompts(1, PLANE, Prompts.of(points=[PHANTOM.center(2)]))
    session.undo()
    assert session.accept(session.run(request)) is None


def test_a_sharper_answer_takes_the_coarse_ones_place():
    y, x = np.ogrid[:600, :500]
    truth = (y - 300) ** 2 + (x - 260) ** 2 <= 190**2
    image = np.where(truth, 200, 40).astype(np.uint8)
    session = Session(image, ToyModel(input_side=128))
    request = session.set_prompts(1, PLANE, Prompts.of(points=[(300, 260)]))
    seen = []
    for result in session.iter_run(request):
        session.accept(result)
        seen.append(mask_iou(session.labels == 1, truth))
    assert len(seen) > 1 and seen[-1] > 0.999 > seen[0]
    assert session.undo() and not session.labels.any() and not session.can_undo
    again = Session(image, ToyModel(input_side=128))
    again.segment(1, points=[(300, 260)])
    assert mask_iou(again.labels == 1, truth) == seen[-1]


@pytest.mark.parametrize("reload", [False, True], ids=["at-once", "after-a-reload"])
def test_another_candidate_is_sharpened_too_and_is_one_undo_step(reload, tmp_path):
    y, x = np.ogrid[:600, :500]
    halo, core = ((y - 300) ** 2 + (x - 260) ** 2 <= r**2 for r in (190, 8))
    image = np.where(halo, 178, 40).astype(np.uint8)
    image[core] = 200  # found first, at its finest level
    session = Session(image, ToyModel(input_side=128))
    session.segment(1, points=[(300, 260)])
    first = session.labels.copy()
    if reload:
        session.save(tmp_path / "a.nsam")
        session.close()
        session = Session.load(
            tmp_path / "a.nsam", volume=image, model=ToyModel(input_side=128)
        )
    seen = []
    for result in session.iter_run(session.set_choice(2)):
        session.accept(result)
        seen.append(mask_iou(session.labels == 1, halo))
    assert len(seen) > 1 and seen[-1] > 0.999 > seen[0]
    assert session.object(1, PLANE).chosen == 2
    assert session.undo()
    np.testing.assert_array_equal(session.labels, first)
    session.choose(2)
    assert mask_iou(session.labels == 1, halo) == seen[-1]


def test_a_choice_gives_way_to_a_newer_click(session):
    session.segment(1, points=[PHANTOM.center(1)])
    choice = session.set_choice(2)
    session.segment(1, points=[PHANTOM.center(1), PHANTOM.center(2)])
    labels = session.labels.copy()
    assert session.accept(session.run(choice)) is None
    np.testing.assert_array_equal(session.labels, labels)


def test_run_changes_nothing(session):
    request = session.set_prompts(1, PLANE, Prompts.of(points=[PHANTOM.center(1)]))
    session.run(request)
    assert not session.labels.any()
    assert session.objects == {} and not session.can_undo


def test_two_sessions_do_not_meet():
    one, two = (Session(PHANTOM.image, ToyModel()) for _ in range(2))
    one.segment(1, points=[PHANTOM.center(1)])
    assert not two.labels.any() and not two.can_undo


def test_new_object_is_free_also_beside_given_labels():
    labels = np.zeros(PHANTOM.image.shape, np.uint16)
    labels[:3, :3] = 7
    session = Session(PHANTOM.image, ToyModel(), labels=labels)
    assert session.new_object() == 8
    session.segment(8, points=[PHANTOM.center(1)])
    assert (labels[:3, :3] == 7).all() and session.new_object() == 9


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        pytest.param({}, "no prompt", id="nothing"),
        pytest.param(
            {"points": [(5, 5)], "point_labels": [0]}, "negative", id="negative-only"
        ),
        pytest.param({"points": [(500, 5)]}, "outside", id="outside"),
        pytest.param({"points": [(np.nan, 5)]}, "finite", id="nan"),
        pytest.param({"box": (9, 9, 9, 20)}, "empty", id="empty-box"),
        pytest.param({"box": (900, 900, 950, 950)}, "outside", id="far-box"),
        pytest.param({"points": [(5, 5)], "point_labels": []}, "label", id="labels"),
    ],
)
def test_bad_prompts_say_why_and_lose_nothing(session, prompts, message):
    session.segment(1, points=[PHANTOM.center(1)])
    before, state = session.labels.copy(), session.object(1, PLANE)
    with pytest.raises(PromptError, match=message):
        session.segment(1, **prompts)
    assert np.array_equal(session.labels, before)
    assert session.object(1, PLANE) is state


def test_object_id_must_be_a_label_value(session):
    for wrong in (0, -1, 2**32):
        with pytest.raises(PromptError, match="1 to 4294967295"):
            session.segment(wrong, points=[(5, 5)])


def test_object_id_must_fit_labels_that_cannot_grow(tmp_path):
    labels = zarr.create_array(
        tmp_path / "l.zarr", shape=PHANTOM.image.shape, dtype="uint8", fill_value=0
    )
    session = Session(PHANTOM.image, ToyModel(), labels=labels)
    with pytest.raises(PromptError, match="1 to 255"):
        session.segment(256, points=[(5, 5)])
