"""Corrections of tracks: each one step, all of them undone bit by bit."""

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from test_tracking import everything, session_of
from time_lapses import dividing, drifting, merging

from napari_sam.core.tracks import Link, Node
from napari_sam.errors import NapariSamError, SessionError
from napari_sam.session import Session
from napari_sam.testing import ToyModel


def ids_at(session, lapse, i):
    """Id that a disc of a made sequence has in each frame."""
    return [int(session.labels[lapse.place(i, t)]) for t in sorted(lapse.discs[i])]


def test_a_cut_begins_a_new_track_that_is_not_linked_again():
    pytest.importorskip("laptrack")
    lapse = drifting(n=2)
    session = session_of(lapse.labels())
    session.objects[1].class_name = "cell"
    before = everything(session)
    assert session.tracks.cut((3, 1)) == 3
    assert ids_at(session, lapse, 1) == [1, 1, 1, 3, 3, 3]
    assert ids_at(session, lapse, 2) == [2] * 6
    assert session.objects[3].class_name == "cell"
    assert session.objects[3].parent is None
    session.track()
    assert ids_at(session, lapse, 1) == [1, 1, 1, 3, 3, 3]
    while session.document.journal.done[-1].kind == "track":
        session.undo()
    assert everything(session) == before


def test_a_link_takes_the_rest_along_and_is_kept():
    pytest.importorskip("laptrack")
    lapse = drifting(n=2)
    session = session_of(lapse.labels())
    assert session.tracks.link((2, 1), (3, 2)) == 1
    assert ids_at(session, lapse, 2) == [2, 2, 2, 1, 1, 1]
    assert ids_at(session, lapse, 1) == [1, 1, 1, 3, 3, 3]
    edge = Node(2, 1), Node(3, 1)
    assert session.document.links[edge] == Link("validated")
    session.track()
    assert ids_at(session, lapse, 2)[3:] == [1, 1, 1]


def test_two_that_were_mixed_up_are_swapped():
    lapse = drifting(n=2)
    session = session_of(lapse.labels())
    session.tracks.swap((3, 1), (3, 2))
    assert ids_at(session, lapse, 1) == [1, 1, 1, 2, 2, 2]
    assert ids_at(session, lapse, 2) == [2, 2, 2, 1, 1, 1]
    session.tracks.swap((3, 1), (3, 2))
    np.testing.assert_array_equal(session.labels, lapse.labels())


def test_a_division_is_set_here_and_cut_again():
    lapse = dividing()
    labels = lapse.labels()
    labels[labels == 2] = 1  # followed as one of its daughters
    session = session_of(labels)
    new = session.tracks.divide((2, 1), [(3, 1), (3, 3)])
    assert ids_at(session, lapse, 2) == [new[0]] * 3 and new[1] == 3
    assert [session.objects[i].parent for i in new] == [1, 1]
    assert session.lineage().divisions == {Node(2, 1): (Node(3, 3), Node(3, new[0]))}
    session.tracks.cut((3, 3))
    assert ids_at(session, lapse, 2) == [1] * 3  # a lone daughter is its mother
    assert session.objects[3].parent is None
    session.undo()
    assert [session.objects[i].parent for i in new] == [1, 1]


def test_a_merge_has_two_ways_in():
    lapse = merging()
    session = session_of(lapse.labels())
    assert session.tracks.merge([(2, 1), (2, 2)], (3, 3)) == 3
    assert session.lineage().merges == {Node(3, 3): (Node(2, 1), Node(2, 2))}
    assert session.objects[3].parent == 1
    session.tracks.cut((3, 3))
    assert not session.lineage().merges and session.objects[3].parent is None


def test_frozen_links_survive_what_looks_better():
    pytest.importorskip("laptrack")
    lapse = drifting(n=2, step=(0, 2))
    labels = lapse.labels()
    labels[3:] = np.choose(labels[3:], [0, 2, 1])  # mixed up, and said to be right
    session = session_of(labels)
    assert session.tracks.freeze(1, (2, 3)) == 1
    session.track()
    np.testing.assert_array_equal(session.labels, labels)
    session.tracks.freeze(1, (2, 3), frozen=False)
    session.track()
    np.testing.assert_array_equal(session.labels, lapse.labels())


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda t: t.cut((0, 1)), "begins in frame 0"),
        (lambda t: t.cut((2, 9)), "object 9 is not in frame 2: it is in none"),
        (lambda t: t.link((3, 1), (2, 2)), "in a later frame"),
        (lambda t: t.divide((2, 1), [(3, 2)]), "two daughters"),
        (lambda t: t.divide((2, 1), [(3, 2), (2, 2)]), "in a later frame"),
        (lambda t: t.merge([(2, 1), (2, 1)], (3, 2)), "two parts"),
        (lambda t: t.swap((2, 1), (3, 2)), "same frame"),
        (lambda t: t.swap((0, 1), (0, 2)), "0 and 0 lead there"),
        (lambda t: t.freeze(7), "object 7 has no links"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(edit, says):
    session = session_of(drifting(n=2).labels())
    before = everything(session)
    with pytest.raises(SessionError, match=says):
        edit(session.tracks)
    assert everything(session) == before and not session.can_undo


def test_a_gap_becomes_a_prompt_where_the_object_should_be():
    pytest.importorskip("laptrack")
    lapse = drifting(n=3, step=(0, 4))
    true = lapse.labels()
    labels = true.copy()
    labels[3][labels[3] == 2] = 0
    image = (true > 0).astype(np.uint8) * 180 + 20
    session = Session(image, ToyModel(96), embeddings=False, labels=labels.copy())
    (gap,) = session.lineage().gaps
    assert gap == (Node(2, 2), Node(4, 2))
    plane, prompts = session.tracks.expected(2, 3)
    y0, x0, y1, x1 = prompts.box
    y, x, r = lapse.discs[2][3]
    assert plane.index == (3,)
    assert np.allclose([y0, x0, y1, x1], [y - r, x - r, y + r + 1, x + r + 1], atol=2)
    session.tracks.fill_gap(2, 3)
    assert not session.lineage().gaps
    overlap = (session.labels[3] == 2) & (true[3] == 2)
    assert overlap.sum() > 0.8 * (true[3] == 2).sum()
    assert (session.labels[true == 1] == 1).all()
    with pytest.raises(SessionError, match="object 2 is there"):
        session.tracks.fill_gap(2, 3)
    while session.undo():
        pass
    np.testing.assert_array_equal(session.labels, labels)


def test_a_track_that_ended_goes_on_behind_a_gap_once_that_is_filled():
    pytest.importorskip("laptrack")
    lapse = drifting(n=2, step=(0, 4))
    true = lapse.labels()
    labels = true.copy()
    labels[4:][labels[4:] == 2] = 7  # another object behind the gap
    labels[3][labels[3] == 2] = 0
    image = (true > 0).astype(np.uint8) * 180 + 20
    session = Session(image, ToyModel(96), embeddings=False, labels=labels.copy())
    session.tracks.fill_gap(2, 3)
    assert ids_at(session, lapse, 2) == [2] * 6
    assert ids_at(session, lapse, 1) == [1] * 6


def test_where_an_object_should_be_beyond_its_ends_and_in_volumes():
    lapse = drifting(n=1, step=(0, 4))
    labels = lapse.labels()
    labels[[0, 5]] = 0
    session = session_of(labels)
    for t in (0, 5):
        _, prompts = session.tracks.expected(1, t)
        y, x, _ = lapse.discs[1][t]
        box = np.array(prompts.box).reshape(2, 2)
        assert np.allclose(box.mean(0), (y + 0.5, x + 0.5), atol=0.6)
    deep = np.zeros((3, 6, 64, 96), np.uint16)
    deep[0, 1:3] = deep[2, 3:5] = drifting(n=1, frames=1).labels()[0]
    plane, _ = session_of(deep).tracks.expected(1, 1)
    assert plane.index in ((1, 2), (1, 3))


class Edits(RuleBasedStateMachine):
    """Any edits in any order: every state that was there comes back by undo, exactly,
    and the lineage always is a graph in which an id is one unbroken track."""

    def __init__(self):
        super().__init__()
        lapse = drifting(n=3, frames=4, skip={(2, 1)})
        self.session = session_of(lapse.labels(seed=1))
        self.seen = [everything(self.session)]
        self.deleted = False

    def do(self, edit):
        count = len(self.session.document.journal.done)
        try:
            edit(self.session)
        except NapariSamError:
            assert everything(self.session) == self.seen[-1]
            return
        new = len(self.session.document.journal.done) - count
        assert new in (0, 1)
        if new:
            self.seen.append(everything(self.session))

    def place(self, data, frame=None):
        graph = self.session.lineage()
        nodes = [n for n in graph.nodes if frame is None or n.frame == frame]
        # Without a node in this frame, one that is refused.
        return data.draw(st.sampled_from(nodes or [Node(0, 999)]))

    @rule(data=st.data())
    def link(self, data):
        a, b = self.place(data), self.place(data)
        self.do(lambda s: s.tracks.link(a, b))

    @rule(data=st.data())
    def cut(self, data):
        a = self.place(data)
        self.do(lambda s: s.tracks.cut(a))

    @rule(data=st.data())
    def divide(self, data):
        a, b, c = (self.place(data) for _ in range(3))
        self.do(lambda s: s.tracks.divide(a, [b, c]))

    @rule(data=st.data())
    def merge(self, data):
        a, b, c = (self.place(data) for _ in range(3))
        self.do(lambda s: s.tracks.merge([a, b], c))

    @rule(data=st.data(), frame=st.integers(1, 3))
    def swap(self, data, frame):
        a, b = self.place(data, frame), self.place(data, frame)
        self.do(lambda s: s.tracks.swap(a, b))

    @rule(data=st.data(), frozen=st.booleans())
    def freeze(self, data, frozen):
        a = self.place(data)
        self.do(lambda s: s.tracks.freeze(a.object_id, frozen=frozen))

    @rule(data=st.data())
    def delete(self, data):
        graph = self.session.lineage()
        if len({n.object_id for n in graph.nodes}) > 2:
            a = self.place(data)
            self.do(lambda s: s.delete_object(a.object_id))
            self.deleted = True  # a lone daughter is an object still

    @rule(data=st.data())
    def click(self, data):
        frame, x = data.draw(st.integers(0, 3)), data.draw(st.integers(10, 80))
        number = self.session.new_object()
        self.do(lambda s: s.segment(number, plane=frame, box=(50, x, 58, x + 8)))

    @rule()
    def undo_and_redo(self):
        assert self.session.undo() == (len(self.seen) > 1)
        if len(self.seen) > 1:
            assert everything(self.session) == self.seen[-2]
            assert self.session.redo()
        assert everything(self.session) == self.seen[-1]

    @invariant()
    def an_id_is_a_track(self):
        if self.deleted:
            return
        graph = self.session.lineage()
        ids = [line[0].object_id for line in graph.lines()]
        assert len(ids) == len(set(ids))
        for line in graph.lines():
            assert {n.object_id for n in line} == {line[0].object_id}

    def teardown(self):
        for before in reversed(self.seen[:-1]):
            assert self.session.undo()
            assert everything(self.session) == before
        assert not self.session.undo()
        self.session.close()


Edits.TestCase.settings = settings(
    max_examples=12, stateful_step_count=12, deadline=None, derandomize=True,
    suppress_health_check=list(HealthCheck), phases=(Phase.generate,),
)  # fmt: skip
TestEdits = Edits.TestCase


def test_edits_are_saved_and_come_back(tmp_path):
    session = session_of(dividing().labels(), path=tmp_path / "a.nsam")
    session.tracks.divide((2, 1), [(3, 2), (3, 3)])
    session.tracks.cut((2, 4))
    session.tracks.freeze(1)
    image, after = np.asarray(session.volume.levels[0]), everything(session)
    session.close()
    again = Session.load(tmp_path / "a.nsam", volume=image, model=ToyModel(64),
                         embeddings=False)  # fmt: skip
    assert everything(again) == after
    again.close()
