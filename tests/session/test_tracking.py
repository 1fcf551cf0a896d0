"""Tracks in a session: ids, parents and links in one entry, undone as a whole."""

import numpy as np
import pytest
from time_lapses import dividing, drifting, found_edges, merging

from napari_sam.core.tracks import Link, Node
from napari_sam.errors import SessionError
from napari_sam.session import Session
from napari_sam.testing import ToyModel

pytest.importorskip("laptrack")


def session_of(labels, **options):
    image = (np.asarray(labels) > 0).astype(np.uint8) * 180 + 20
    return Session(image, ToyModel(64), embeddings=False, labels=labels.copy(),
                   **options)  # fmt: skip


def everything(session):
    """All that an undo has to bring back, as values that can be compared."""
    document = session.document
    about = {
        i: (r.name, r.class_name, r.color, r.review, r.note, r.parent)
        for i, r in document.about.items()
    }
    claims = {
        key: (c.order, c.bbox, c.mask.tobytes())
        for key, c in document.pixels.claims.items()
    }
    states = {
        key: (s.object_id, s.plane, s.choices) for key, s in document.states.items()
    }
    return (
        np.asarray(session.labels).astype(np.uint32).tobytes(),
        about, claims, states, set(document.painted), dict(document.links),
    )  # fmt: skip


def test_an_id_becomes_a_track_and_undo_brings_all_back():
    lapse = dividing()
    labels = lapse.labels(seed=4)
    session = session_of(labels)
    session.objects[int(labels[0, 20, 30])].class_name = "cell"
    before = everything(session)
    tracks = session.track()
    assert found_edges(session.labels, tracks) == lapse.edges()
    ids = {i: int(session.labels[lapse.place(i, min(at))])
           for i, at in lapse.discs.items()}  # fmt: skip
    for i, at in lapse.discs.items():
        for t in at:
            assert session.labels[lapse.place(i, t)] == ids[i]
    assert {session.objects[ids[i]].parent for i in (2, 3)} == {ids[1]}
    assert session.objects[ids[1]].class_name == "cell"
    after = everything(session)
    assert session.lineage() == tracks
    assert session.undo() and everything(session) == before
    assert session.redo() and everything(session) == after


def test_tracking_again_changes_nothing():
    session = session_of(dividing().labels(seed=4))
    session.track()
    labels, about = session.labels.copy(), everything(session)[1]
    session.track()
    np.testing.assert_array_equal(session.labels, labels)
    assert everything(session)[1] == about


def test_prompts_and_masks_go_along_and_can_be_refined_afterwards():
    lapse = drifting(n=2, frames=4)
    image = (lapse.labels() > 0).astype(np.uint8) * 180 + 20
    session = Session(image, ToyModel(96), embeddings=False)
    number = 0
    for t in range(4):
        for i in (2, 1) if t % 2 else (1, 2):
            number += 1
            y, x, _ = lapse.discs[i][t]
            session.segment(number, plane=t, points=[(y, x)])
    assert len(np.unique(session.labels)) == 9
    before = everything(session)
    session.track()
    assert np.unique(session.labels).tolist() == [0, 1, 2]
    assert [p.index for p in session.states(1)] == [(0,), (1,), (2,), (3,)]
    y, x, _ = lapse.discs[1][2]
    session.segment(1, plane=2, points=[(y, x), (y + 2, x)])
    assert np.unique(session.labels[2]).tolist() == [0, 1, 2]
    session.undo()
    session.undo()
    assert everything(session) == before


def test_what_lies_hidden_beneath_a_mask_keeps_its_object():
    labels = drifting(n=2, frames=2).labels()
    labels[1][labels[1] == 1] = 7
    image = (labels > 0).astype(np.uint8) * 180 + 20
    y, x = (int(v) for v in np.argwhere(labels[1] == 7).min(0))
    image[1, : y + 5, : x + 12][labels[1, : y + 5, : x + 12] == 7] = 90
    session = Session(image, ToyModel(64), embeddings=False, labels=labels.copy())
    session.rule = "overwrite"
    session.segment(20, plane=1, points=[(y + 2, x + 5)])
    shown = (session.labels[1] == 7).sum()
    assert 0 < shown < (labels[1] == 7).sum()
    session.document.links[Node(0, 1), Node(1, 7)] = Link("validated")
    before = everything(session)
    session.track()
    assert (session.labels[1] == 1).sum() == shown
    session.undo()
    assert everything(session) == before
    session.redo()
    session.delete_object(int(session.labels[1, y + 2, x + 5]))
    np.testing.assert_array_equal(session.labels[1] == 1, labels[1] == 7)


def test_a_merge_keeps_both_ways_in():
    session = session_of(merging().labels(seed=2))
    tracks = session.track(merges=True)
    assert len(tracks.merges) == 1
    assert [link.merged for link in session.document.links.values()].count(True) == 1
    assert session.lineage() == tracks


def test_tracks_are_saved_and_come_back(tmp_path):
    lapse = dividing()
    session = session_of(lapse.labels(seed=4), path=tmp_path / "work.nsam")
    session.track(merges=True)
    image, tracks = session.volume.levels[0], session.lineage()
    after = everything(session)
    session.close()
    again = Session.load(
        tmp_path / "work.nsam", volume=np.asarray(image), model=ToyModel(64),
        embeddings=False,
    )  # fmt: skip
    assert everything(again) == after
    assert again.lineage() == tracks
    assert again.undo() and len(np.unique(again.labels[0])) > 1
    again.close()


def test_frames_apart_are_left_as_they_are():
    lapse = drifting(n=3, frames=6)
    labels = lapse.labels(seed=3)
    session = session_of(labels)
    tracks = session.track(frames=(2, 4))
    assert {a.frame for a, b in tracks.edges if a.object_id == b.object_id} >= {2, 3}
    np.testing.assert_array_equal(session.labels[:3], labels[:3])
    assert session.track() and found_edges(session.labels, session.lineage()) == (
        lapse.edges()
    )


def test_volumes_through_time_are_tracked_on_all_planes():
    flat = drifting(n=2, frames=3).labels(seed=5)
    labels = np.repeat(flat[:, None], 3, axis=1)
    session = session_of(labels)
    session.track()
    assert np.unique(session.labels).tolist() == [0, 1, 2]
    for z in range(3):
        np.testing.assert_array_equal(session.labels[:, z], session.labels[:, 0])
    session.undo()
    np.testing.assert_array_equal(session.labels, labels)


def test_an_answer_that_comes_too_late_is_dropped():
    session = session_of(drifting().labels(seed=1))
    task = session.set_tracking()
    *_, found = task.run()
    plan = session.plan_tracking(task, found)
    session.delete_object(1)
    labels = session.labels.copy()
    assert session.accept_tracking(task, plan) is None
    np.testing.assert_array_equal(session.labels, labels)


def test_looks_come_from_the_sessions_own_model():
    session = session_of(drifting(n=2, frames=3).labels(seed=1))
    assert len(session.track(look=0.3).lines()) == 2


def test_refusals_say_what_to_do():
    flat = Session(np.zeros((8, 8), np.uint8), ToyModel(64), embeddings=False)
    with pytest.raises(SessionError, match="tracks need frames"):
        flat.track()
    empty = session_of(np.zeros((3, 16, 16), np.uint8))
    with pytest.raises(SessionError, match="nothing to track"):
        empty.track()
    with pytest.raises(SessionError, match="frames 0 to 2; got 1 to 7"):
        empty.track(frames=(1, 7))
    across = session_of(drifting(n=2, frames=4).labels(seed=1))
    across.segment(1, plane=0, axis=1, box=(0, 0, 3, 9))
    with pytest.raises(SessionError, match="across time"):
        across.track()
