"""Many prompts at once: the masks of each alone, one undo step, classes, planes."""

import numpy as np
import pytest

from napari_sam import Session
from napari_sam.core.planes import Plane
from napari_sam.core.prompts import Prompts
from napari_sam.errors import PromptError
from napari_sam.testing import ToyModel, phantom_image, phantom_volume

PLANE = Plane(())
CELLS = phantom_image((200, 260), n_objects=12, noise=0)
IDS = [int(i) for i in np.unique(CELLS.labels) if i]


def boxes():
    out = []
    for i in IDS:
        ys, xs = np.nonzero(CELLS.labels == i)
        out.append((ys.min() - 1, xs.min() - 1, ys.max() + 2, xs.max() + 2))
    return out


@pytest.fixture
def session():
    return Session(CELLS.image, ToyModel(64))


def test_each_mask_is_the_one_of_its_prompts_alone(session):
    asked = [Prompts.of(box=b) for b in boxes()]
    asked += [Prompts.of(points=[CELLS.center(i)]) for i in IDS[:3]]
    task = session.set_many(session._detections(asked))
    answers = {a.number: a for a in task.run()}
    assert sorted(answers) == list(range(len(asked)))
    for number, prompts in enumerate(asked):
        lone = Session(CELLS.image, session.model)
        lone.accept(lone.run(lone.set_prompts(1, PLANE, prompts)))
        found = np.zeros(CELLS.labels.shape, bool)
        y0, x0, y1, x1 = answers[number].bbox
        found[y0:y1, x0:x1] = answers[number].mask
        np.testing.assert_array_equal(lone.labels == 1, found)


def test_boxes_become_objects_in_order_as_one_step(session):
    session.segment(4, points=[CELLS.center(IDS[0])])
    before = session.labels.copy()
    ids = session.segment_many(boxes=np.array(boxes()), class_name="cell")
    assert ids[0] == 0  # taken already
    assert ids[1:] == sorted(set(ids[1:])) and ids[1] > 4
    for object_id, i in zip(ids[1:], IDS[1:], strict=True):
        mine, truth = session.labels == object_id, CELLS.labels == i
        assert (mine & truth).sum() / (mine | truth).sum() > 0.95
        assert session.objects[object_id].class_name == "cell"
    state = session.object(ids[1], PLANE)
    assert state.origin == "drawn" and session.candidates(ids[1])
    session.undo()
    np.testing.assert_array_equal(session.labels, before)
    assert list(session.objects) == [4] and not session.classes.classes
    session.redo()
    assert len(session.objects) == len(IDS)


def test_they_are_saved_and_go_on_with_clicks(session, tmp_path):
    session.save(tmp_path / "work.nsam")
    ids = session.segment_many(boxes=boxes())
    session.close()
    again = Session.load(tmp_path / "work.nsam", volume=CELLS.image, model=ToyModel(64))
    assert sorted(again.objects) == ids
    y, x = CELLS.center(IDS[2])
    again.segment(ids[2], box=boxes()[2], points=[(y, x)])
    assert (again.labels == ids[2])[round(y), round(x)]
    again.close()


def test_overwriting_takes_pixels_and_gives_them_back(session):
    session.segment(1, points=[CELLS.center(IDS[0])])
    area = (session.labels == 1).sum()
    session.rule = "overwrite"
    [new] = session.segment_many(points=[CELLS.center(IDS[0])])
    assert (session.labels == new).sum() == area and not (session.labels == 1).any()
    session.delete_object(new)
    assert (session.labels == 1).sum() == area


def test_planes_of_a_file_are_those_of_the_volume(tmp_path):
    stack = phantom_volume((6, 64, 80), n_objects=2, noise=0)
    session = Session(stack.image, ToyModel(64))
    z, y, x = stack.center(1)
    path = tmp_path / "points.csv"
    path.write_text(f"z,y,x,class\n{z},{y},{x},a\n{z + 1},{y},{x},b\n")
    ids = session.segment_many(path)
    assert [p.index for i in ids for p in session.states(i)] == [
        (round(z),), (round(z) + 1,),
    ]  # fmt: skip
    assert [session.objects[i].class_name for i in ids] == ["a", "b"]
    with pytest.raises(PromptError, match="plane is needed"):
        session.segment_many(points=[(y, x)])


def test_one_bad_prompt_is_named_and_nothing_is_done(session):
    with pytest.raises(PromptError, match=r"prompt 2 of 2: .*outside the plane"):
        session.segment_many(points=[CELLS.center(1), (900, 2)])
    with pytest.raises(PromptError, match="no prompt given"):
        session.segment_many(boxes=[])
    assert not session.labels.any() and not session.can_undo


def test_cancelling_between_tiles_changes_nothing(session):
    from napari_sam.errors import Cancelled

    asked = []
    with pytest.raises(Cancelled):
        session.segment_many(
            boxes=boxes(), cancel=lambda: asked.append(1) or len(asked) > 2
        )
    assert not session.labels.any() and not session.can_undo
