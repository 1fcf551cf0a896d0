"""Objects carried through a volume by a session: one undo step, key planes stay."""

from dataclasses import replace

import numpy as np
import pytest

from napari_sam.core.masks import LabelPatch, mask_iou
from napari_sam.core.planes import Plane
from napari_sam.engine.propagate import PropagateOptions
from napari_sam.errors import Cancelled, PromptError, VolumeError
from napari_sam.session import Session
from napari_sam.session.doubts import worth
from napari_sam.testing import ToyModel, phantom_volume
from napari_sam.volume.opening import open_volume

PHANTOM = phantom_volume((24, 96, 112), n_objects=3)


@pytest.fixture
def session():
    return Session(PHANTOM.image, ToyModel(128), embeddings=False)


def click(session, object_id, number):
    mask = PHANTOM.labels[number] == object_id
    y, x = np.argwhere(mask).mean(0)
    session.segment(object_id, plane=number, points=[(y, x)])


def middle(object_id):
    planes = np.flatnonzero((PHANTOM.labels == object_id).any((1, 2)))
    return int(planes[len(planes) // 2])


def planes_of(session, object_id, *origins):
    return sorted(
        plane.index[0]
        for plane, record in session.objects[object_id].planes.items()
        if record.origin in origins
    )


def test_one_click_becomes_the_whole_object_in_one_step(session):
    click(session, 1, middle(1))
    before = session.labels.copy()
    found = session.propagate(1)
    assert found and all(one.origin == "propagated" for one in found)
    truth = PHANTOM.labels == 1
    assert mask_iou(session.labels == 1, truth) > 0.85
    assert planes_of(session, 1, "clicked") == [middle(1)]
    assert np.array_equal(session.labels[middle(1)], before[middle(1)])
    after = session.labels.copy()
    assert session.undo()
    assert np.array_equal(session.labels, before)
    assert planes_of(session, 1, "propagated") == []
    assert session.redo()
    assert np.array_equal(session.labels, after)


def test_key_planes_are_never_changed_and_corrections_become_keys(session):
    click(session, 1, middle(1))
    session.propagate(1)
    other = middle(1) + 2
    session.segment(1, plane=other, box=(5, 5, 25, 25))
    drawn = session.labels[other].copy()
    session.propagate(1)
    assert planes_of(session, 1, "clicked", "drawn") == [middle(1), other]
    assert np.array_equal(session.labels[other], drawn)


def test_a_brush_stroke_makes_a_key_plane_also_one_that_erases(session):
    click(session, 1, middle(1))
    session.propagate(1)
    number = middle(1) + 1
    plane = Plane((number,))
    there = session.labels[number] == 1
    y, x = (int(v) for v in np.argwhere(there)[0])
    patch = LabelPatch(
        plane, (y, x, y + 1, x + 1), np.array([[1]], "u2"), np.array([[0]], "u2")
    )
    session.labels[number, y, x] = 0
    session.record_paint(patch)
    assert number in planes_of(session, 1, "painted")
    erased = session.labels[number].copy()
    session.propagate(1)
    assert np.array_equal(session.labels[number], erased)


def test_only_stretches_next_to_a_changed_key_are_filled_anew(session):
    numbers = [middle(1) - 3, middle(1), middle(1) + 3]
    for number in numbers:
        click(session, 1, number)
    session.propagate(1)
    click(session, 1, numbers[2])
    task = session.set_propagation(1, anew=False)
    ((below, above),) = [s for s in task.spans[1] if s[1] < numbers[2]]
    assert (below, above) == (numbers[1] + 1, numbers[2] - 1)
    assert all(first > numbers[1] for first, _ in task.spans[1])


def test_objects_filled_together_do_not_take_each_other_s_pixels(session):
    for object_id in (1, 2, 3):
        click(session, object_id, middle(object_id))
    keys = [session.labels[middle(i)].copy() for i in (1, 2, 3)]
    session.propagate([1, 2, 3])
    for object_id, key in zip((1, 2, 3), keys, strict=True):
        truth = PHANTOM.labels == object_id
        assert mask_iou(session.labels == object_id, truth) > 0.8
        here = session.labels[middle(object_id)]
        assert np.array_equal(here == object_id, key == object_id)
    assert session.undo() and (session.labels != 0).any((1, 2)).sum() <= 3


def test_work_done_meanwhile_stays(session):
    click(session, 1, middle(1))
    task = session.set_propagation(1)
    found = list(task.run())
    number = middle(1) + 1
    session.segment(1, plane=number, box=(40, 40, 60, 60))
    drawn = session.labels[number].copy()
    assert session.accept_propagation(task, found) == len(found) - 1
    assert np.array_equal(session.labels[number], drawn)


def test_a_session_comes_back_with_what_was_filled(session, tmp_path):
    click(session, 1, middle(1))
    session.save(tmp_path / "a.nsam")
    session.propagate(1)
    labels, doubts = session.labels.copy(), session.doubtful(least=0)
    session.close()
    again = Session.load(
        tmp_path / "a.nsam", volume=PHANTOM.image, model=ToyModel(128),
        embeddings=False,
    )  # fmt: skip
    assert np.array_equal(again.labels, labels)
    assert [(i, p) for i, p, _ in again.doubtful(least=0)] == [
        (i, p) for i, p, _ in doubts
    ]
    assert again.undo() and planes_of(again, 1, "propagated") == []
    again.close()


def test_doubtful_planes_wait_until_they_are_reviewed(session):
    click(session, 1, middle(1))
    session.propagate(1)
    waiting = session.doubtful(1, least=0)
    assert len(waiting) == len(planes_of(session, 1, "propagated")) > 3
    _, worst, doubt = waiting[0]
    assert doubt == session.objects[1].planes[worst].doubt
    assert session.doubtful(least=doubt + 1e-9) != waiting
    session.objects[1].set_reviewed(worst)
    assert worst not in [plane for _, plane, _ in session.doubtful(1, least=0)]
    assert session.undo()
    assert session.doubtful(1, least=0) == waiting
    assert session.undo() and session.doubtful(least=0) == []


def test_the_midst_of_a_doubtful_stretch_comes_before_the_worst_plane_by_a_key():
    numbers, doubts = [1, 5, 6, 7, 8, 9], [0.9, 0.6, 0.6, 0.6, 0.6, 0.6]
    weights = worth(numbers, doubts, [0, 14])
    assert numbers[int(np.argmax(weights))] == 7
    for n, weight in zip(numbers, weights, strict=True):
        reach = min(n, 14 - n) + 1
        near = [max(0, 1 - abs(m - n) / reach) for m in numbers]
        assert weight == pytest.approx(np.dot(near, doubts))
    assert worth([], [], [3]) == []


def test_where_all_of_it_was_erased_the_object_ends(session):
    click(session, 1, middle(1))
    session.propagate(1)
    low, high = planes_of(session, 1, "propagated")[0], middle(1) + 2
    plane = Plane((high,))
    box = (0, 0, *PHANTOM.image.shape[1:])
    there = np.asarray(session.labels[high]).copy()
    kept = np.where(there == 1, 0, there)
    session.labels[high] = kept
    session.record_paint(LabelPatch(plane, box, there, kept))
    session.propagate(1)
    filled = planes_of(session, 1, "propagated")
    assert filled[0] == low and filled[-1] == high - 1
    assert not (session.labels[high:] == 1).any()


def test_a_range_between_two_keys_is_filled_from_both(session):
    low, high = middle(1) - 3, middle(1) + 3
    click(session, 1, low)
    click(session, 1, high)
    whole = {one.plane: one for one in session.propagate(1)}
    session.undo()
    found = session.propagate(1, planes=(middle(1) - 1, middle(1)))
    assert [one.plane.index[0] for one in found] == [middle(1) - 1, middle(1)]
    for one in found:
        assert np.array_equal(one.mask, whole[one.plane].mask)


def test_keys_that_look_unlike_each_other_are_told(session):
    click(session, 1, middle(1))
    y, x = np.argwhere(PHANTOM.labels[middle(1) + 1] == 0)[0]
    session.segment(1, plane=middle(1) + 3, box=(y, x, y + 20, x + 20))
    task = session.set_propagation(1)
    list(task.run())
    (note,) = task.notes
    assert f"planes {middle(1)} and {middle(1) + 3}" in note
    session.delete_object(1, Plane((middle(1) + 3,)))
    click(session, 1, middle(1) + 3)
    task = session.set_propagation(1)
    list(task.run())
    assert task.notes == []


def test_a_key_plane_with_a_poor_score_is_told(session):
    click(session, 1, middle(1))
    key = 1, Plane((middle(1),))
    state = session.document.states[key]
    session.document.states[key] = replace(state, scores=(0.31,) * len(state.scores))
    assert "poor score (0.31)" in session.set_propagation(1).notes[0]


def test_interpolation_fills_between_keys_alone(session):
    low, high = middle(1) - 3, middle(1) + 3
    click(session, 1, low)
    click(session, 1, high)
    found = session.interpolate(1)
    assert sorted(one.plane.index[0] for one in found) == list(range(low + 1, high))
    assert planes_of(session, 1, "interpolated") == list(range(low + 1, high))
    shapes = session.labels.copy()
    assert session.interpolate(1, snap=True)
    truth = PHANTOM.labels == 1
    between = np.s_[low + 1 : high]
    fitted, plain = (
        mask_iou(a[between] == 1, truth[between]) for a in (session.labels, shapes)
    )
    assert fitted > plain


def test_along_another_axis_the_object_is_the_same_thing(session):
    mask = PHANTOM.labels == 2
    y = int(np.argwhere(mask)[:, 1].mean())
    z, x = np.argwhere(mask[:, y]).mean(0)
    session.segment(2, plane=y, axis=1, points=[(z, x)])
    session.propagate(2, axis=1)
    assert mask_iou(session.labels == 2, mask) > 0.8


def test_a_range_bounds_what_is_filled(session):
    click(session, 1, middle(1))
    session.propagate(1, planes=(middle(1) - 1, middle(1) + 2))
    filled = planes_of(session, 1, "propagated")
    assert filled == [middle(1) - 1, middle(1) + 1, middle(1) + 2]


def test_stopped_work_changes_nothing(session):
    click(session, 1, middle(1))
    before = session.labels.copy()
    with pytest.raises(Cancelled):
        session.propagate(1, cancel=lambda: True)
    assert np.array_equal(session.labels, before)
    assert session.undo() and not session.labels.any()


def test_what_cannot_be_propagated_is_said(session):
    click(session, 1, middle(1))
    with pytest.raises(PromptError, match="object 2 was drawn on no plane"):
        session.propagate(2)
    with pytest.raises(PromptError, match="along axis 1"):
        session.propagate(1, axis=1)
    flat = Session(PHANTOM.image[12], ToyModel(128), embeddings=False)
    with pytest.raises(VolumeError, match="one plane"):
        flat.propagate(1)


def test_numpy_ids_and_options_are_taken(session):
    click(session, 1, middle(1))
    options = PropagateOptions(max_area_ratio=1.05)
    strict = session.propagate(np.int64(1), options=options)
    session.undo()
    assert len(strict) < len(session.propagate(np.array([1])))


def test_an_object_of_a_volume_is_followed_through_time_at_its_depth():
    movie = np.full((7, 4, 64, 64), 30, np.uint8)
    for t in range(7):
        movie[t, 1:, 20:40, 10 + 3 * t : 30 + 3 * t] = 200
    movie[5:, 3] = 30  # it leaves this depth
    session = Session(open_volume(movie, axes="tzyx"), ToyModel(64), embeddings=False)
    session.segment(1, plane=(1, 2), points=[(30, 22)])
    session.segment(1, plane=(0, 3), points=[(30, 20)])
    before = session.labels.copy()

    session.propagate(1, plane=(0, 2), through="t")

    assert np.array_equal(session.labels[:, 2] == 1, movie[:, 2] == 200)
    assert np.array_equal(session.labels[:, [0, 1, 3]], before[:, [0, 1, 3]])
    session.propagate(1, plane=(0, 3), through="t", planes=(0, 5))
    assert np.array_equal(session.labels[:, 3] == 1, movie[:, 3] == 200)
    session.undo()
    session.undo()
    assert np.array_equal(session.labels, before)
    with pytest.raises(VolumeError, match=r"one of \['t'\]"):
        session.propagate(1, through="z")
    with pytest.raises(PromptError, match="no plane"):
        session.propagate(1, plane=(0, 0), through="t")
