from dataclasses import fields, replace

import numpy as np
import pytest

from napari_sam.core.planes import Plane
from napari_sam.core.thresholds import Thresholds
from napari_sam.engine.suggest import SuggestRules
from napari_sam.errors import PromptError
from napari_sam.session import Session
from napari_sam.session.search import Found
from napari_sam.testing import ToyModel, phantom_image, phantom_volume


@pytest.fixture
def cells():
    return phantom_image((72, 108), n_objects=6, noise=0)


def _session(phantom, ids=(1,), plane=0, **options):
    session = Session(phantom.image, ToyModel(48), embeddings=False, **options)
    for k in ids:
        labels = phantom.labels if phantom.labels.ndim == 2 else phantom.labels[plane]
        y, x = np.argwhere(labels == k).mean(0).round()
        session.segment(k, plane, points=[(y, x)])
    return session


def test_proposals_leave_the_labels_alone_until_one_step_accepts_them(cells):
    session = _session(cells)
    before = np.array(session.labels)
    found = session.suggest()
    assert len(found) == 5
    assert [s.doubt for s in found] == sorted((s.doubt for s in found), reverse=True)
    np.testing.assert_array_equal(session.labels, before)
    assert session.proposals.accept() == 5
    assert sorted(np.unique(session.labels)) == [0, 1, 2, 3, 4, 5, 6]
    accepted = np.array(session.labels)
    assert ((accepted > 0) == (cells.labels > 0)).mean() > 0.99
    np.testing.assert_array_equal(accepted == 1, before == 1)
    assert not session.proposals.pending

    session.undo()
    np.testing.assert_array_equal(session.labels, before)
    assert len(session.proposals.pending) == 5
    session.redo()
    np.testing.assert_array_equal(session.labels, accepted)
    assert not session.proposals.pending


def test_an_accepted_proposal_is_an_object_like_any_other(cells):
    session = _session(cells)
    (first, *_) = session.suggest()
    session.proposals.accept([first])
    object_id = session.proposals.object_id(first)
    state = session.object(object_id, first.plane)
    assert state.prompts is first.prompts and state.chosen == first.choice
    assert len(state.scores) == 3
    whole = np.array(session.labels) == object_id
    y, x = first.prompts.points[0]
    far = np.argwhere(whole)[-1]
    session.segment(object_id, points=[(y, x), far], point_labels=[1, 0])
    part = np.array(session.labels) == object_id
    assert 0 < part.sum() < whole.sum()
    session.undo()
    np.testing.assert_array_equal(np.array(session.labels) == object_id, whole)


def test_only_those_under_a_doubt_are_accepted(cells):
    session = _session(cells)
    found = session.suggest(rules=SuggestRules(max_doubt=1))
    limit = float(np.median([s.doubt for s in found]))
    expected = sum(s.doubt <= limit for s in found)
    assert 0 < expected < len(found)
    assert session.proposals.accept(max_doubt=limit) == expected
    assert all(s.doubt > limit for s in session.proposals.pending)


def test_the_rejected_are_not_suggested_again_until_restored(cells):
    session = _session(cells)
    bad = session.suggest()[0]
    session.proposals.reject([bad])
    assert len(session.proposals.pending) == 4
    again = session.suggest()
    assert len(again) == 4
    assert all(s.overlap(bad.bbox, bad.mask) == 0 for s in again)
    assert session.proposals.restore() == 1
    assert bad in session.proposals.pending
    assert session.proposals.restore() == 0


def test_painting_over_a_proposal_withdraws_it_and_undo_brings_it_back(cells):
    session = _session(cells)
    first = session.suggest()[-1]
    told = []
    session.proposals.changed.connect(lambda: told.append(1))
    y, x = first.prompts.points[0]
    session.segment(9, points=[(y, x)])
    assert first not in session.proposals.pending and told
    session.undo()
    assert first in session.proposals.pending


def test_accepting_keeps_what_was_annotated_meanwhile(cells):
    session = _session(cells)
    first = session.suggest()[-1]
    y0, x0, y1, x1 = first.bbox
    session.labels[y0 : y0 + (y1 - y0) // 3, x0:x1] = 7
    held = np.array(session.labels) == 7
    assert session.proposals.accept([first]) == 1
    np.testing.assert_array_equal(np.array(session.labels) == 7, held)
    new = session.proposals.object_id(first)
    assert (np.array(session.labels) == new).sum() == first.area - (
        first.mask[: (y1 - y0) // 3].sum()
    )


def test_objects_are_followed_to_other_planes_and_keep_their_number():
    stack = phantom_volume((7, 40, 64), n_objects=2, noise=0)
    session = _session(stack, ids=(1, 2), plane=3)
    found = session.suggest(rules=SuggestRules(grid=False))
    assert {s.object_id for s in found} == {1, 2}
    assert all(s.plane.index[0] != 3 for s in found)
    session.proposals.accept()
    labels = np.array(session.labels)
    for k in (1, 2):
        both = (labels == k) & (stack.labels == k)
        assert both.sum() > 0.8 * (stack.labels == k).sum()
    session.undo()
    assert not np.array(session.labels)[2].any()


def test_new_objects_of_neighbouring_planes_are_one():
    stack = phantom_volume((7, 40, 64), n_objects=2, noise=0)
    session = _session(stack, ids=(1,), plane=3)
    session.suggest([3, 4, 2])
    session.proposals.accept()
    labels = np.array(session.labels)
    other = stack.labels == 2
    values = {int(v) for v in np.unique(labels[2:5][other[2:5]])} - {0}
    assert len(values) == 1 and values != {1}
    assert (labels[3] == 1).any() and (labels[4] == 1).any()


def test_one_plane_alone_takes_the_nearest_annotated_one():
    stack = phantom_volume((7, 40, 64), n_objects=1, noise=0)
    session = _session(stack, ids=(1,), plane=3)
    found = session.suggest([4], rules=SuggestRules(grid=False))
    assert [s.plane for s in found] == [Plane((4,))]


def test_a_search_that_is_stopped_keeps_what_it_found(cells):
    session = _session(cells)
    steps = session.proposals.find(cancel=lambda: len(session.proposals) >= 2)
    done, total = list(steps)[-1]
    assert 2 <= len(session.proposals) < 5
    assert done < total


def test_proposals_and_decisions_come_back_with_the_session(cells, tmp_path):
    session = _session(cells, path=tmp_path / "work.nsam")
    found = session.suggest()
    session.proposals.reject(found[:1])
    session.proposals.accept(found[1:2])
    ids = np.array(session.labels)
    session.close()

    again = Session.load(
        tmp_path / "work.nsam", volume=cells.image, model=ToyModel(48), embeddings=False
    )
    np.testing.assert_array_equal(again.labels, ids)
    waiting = again.proposals.pending
    assert [p.number for p in waiting] == [p.number for p in found[2:]]
    for before, after in zip(found[2:], waiting, strict=True):
        np.testing.assert_array_equal(after.mask, before.mask)
        for name in (f.name for f in fields(before)):
            if name not in ("mask", "prompts"):
                assert getattr(after, name) == getattr(before, name), name
        assert after.prompts.to_json() == before.prompts.to_json()
    assert again.proposals.object_id(found[1]) == 2
    assert [p.number for p in again.proposals.rejected] == [found[0].number]
    again.undo(), again.undo()
    assert len(again.proposals.pending) == 5
    again.close()


def test_a_rejection_is_a_change_like_any_other(cells):
    session = _session(cells)
    found = session.suggest()
    assert session.proposals.reject(found[:2]) == 2
    assert session.proposals.reject(found[:2]) == 0
    session.undo()
    assert session.proposals.pending == found and not session.proposals.rejected
    session.redo()
    assert session.proposals.pending == found[2:]
    assert session.proposals.restore(found[:1]) == 1
    assert session.proposals.reject() == 4 and not session.proposals.pending


def test_thresholds_hide_and_show_and_are_kept(cells, tmp_path):
    session = _session(cells, path=tmp_path / "work.nsam")
    found = session.suggest(rules=SuggestRules(max_doubt=1))
    told = []
    session.proposals.changed.connect(lambda: told.append(1))
    asked = {
        "max_doubt": lambda p, v: p.doubt <= v,
        "pred_iou_thresh": lambda p, v: p.predicted_iou >= v,
        "stability_score_thresh": lambda p, v: p.stability_score >= v,
        "min_likeness": lambda p, v: p.likeness >= v,
        "min_area": lambda p, v: p.area >= v,
        "max_area": lambda p, v: p.area <= v,
    }
    names = "doubt", "predicted_iou", "stability_score", "likeness", "area", "area"
    for (name, passes), of in zip(asked.items(), names, strict=True):
        value = float(np.median([getattr(p, of) for p in found]))
        session.proposals.thresholds = Thresholds(**{name: value})
        assert session.proposals.pending == [p for p in found if passes(p, value)]
        assert session.proposals.waiting == found
    assert len(told) == len(asked) and not session.proposals.rejected
    n = len(session.proposals)
    assert session.proposals.accept() == n
    session.undo()
    session.close()
    again = Session.load(
        tmp_path / "work.nsam", volume=cells.image, model=ToyModel(48), embeddings=False
    )
    assert again.proposals.thresholds == Thresholds(max_area=value)
    assert len(again.proposals) == n
    again.close()


@pytest.mark.parametrize(
    "wrong", [{"max_doubt": 2}, {"min_likeness": -1}, {"min_area": 9, "max_area": 3}]
)
def test_thresholds_that_mean_nothing_are_refused(wrong):
    with pytest.raises(PromptError, match="got"):
        Thresholds(**wrong)


def test_a_deleted_object_is_not_proposed_again_by_what_it_was(cells):
    session = _session(cells)
    first = session.suggest()[0]
    session.proposals.accept([first])
    session.delete_object(session.proposals.object_id(first))
    assert first not in session.proposals.pending
    session.undo(), session.undo()
    assert first in session.proposals.pending


def test_proposals_made_before_the_first_save_are_saved_with_it(cells, tmp_path):
    session = _session(cells)
    found = session.suggest()
    session.proposals.reject(found[:2])
    session.save(tmp_path / "late.nsam")
    session.close()
    again = Session.load(
        tmp_path / "late.nsam", volume=cells.image, model=ToyModel(48), embeddings=False
    )
    assert len(again.proposals.pending) == 3
    assert len(again.proposals.rejected) == 2
    again.close()


@pytest.mark.parametrize("region", [(0, 0, 0, 10), (0, 0, 500, 10), (-1, 0, 5, 5)])
def test_a_region_outside_the_plane_is_refused_and_nothing_is_dropped(cells, region):
    session = _session(cells)
    session.suggest()
    with pytest.raises(PromptError, match="region is"):
        session.suggest(region=region)
    assert len(session.proposals) == 5


def test_a_better_proposal_takes_the_place_of_one_shown_before(cells):
    """A part, tried first, gives way to the whole that is more like the known."""
    session = _session(cells)
    rules = SuggestRules(points_per_batch=1, max_doubt=1, min_area=16)
    shown, withdrawn = [], 0
    search = session.proposals.search(rules=rules)
    for step in search.run():
        session.proposals.add(step)
        withdrawn += len(step.withdrawn)
        shown.append(len(session.proposals))
    found = session.proposals.pending
    for i, a in enumerate(found):
        assert all(a.overlap(b.bbox, b.mask) < 0.3 for b in found[:i])
    assert max(shown) >= len(found) >= 5
    first = found[0]
    better = replace(first, number=0, doubt=0.0)
    session.proposals.add(Found(1, 1, (better,), (first,)))
    numbers = [s.number for s in session.proposals.pending]
    assert first.number not in numbers and len(numbers) == len(found)
    session.proposals.add(Found(1, 1, (), (better,)))
    assert len(session.proposals.pending) == len(found) - 1
