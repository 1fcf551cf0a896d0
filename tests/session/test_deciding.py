"""Whatever is decided on proposals, in any order, against the rule written plainly."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from napari_sam.core.masks import LabelPatch
from napari_sam.core.planes import Plane
from napari_sam.core.proposals import Proposal
from napari_sam.core.thresholds import Thresholds
from napari_sam.session import Session
from napari_sam.session.search import Found
from napari_sam.testing import ToyModel

SHAPE = (2, 5, 6)
BOXES = st.tuples(
    st.integers(0, 1), st.integers(0, 3), st.integers(0, 4), *(st.integers(1, 3),) * 2
)
SOME = st.sets(st.integers(0, 5), max_size=4)


class Decisions(RuleBasedStateMachine):
    @initialize()
    def start(self):
        self.folder = Path(tempfile.mkdtemp())
        self.session = Session(
            np.zeros(SHAPE, np.uint8), ToyModel(16), embeddings=False,
            path=self.folder / "a.nsam",
        )  # fmt: skip
        self.known: dict[int, tuple[Plane, np.ndarray, float]] = {}
        self.ever = dict(self.known)
        self.most = 1.0
        self.labels = np.zeros(SHAPE, int)
        self.accepted: dict[int, int] = {}
        self.rejected: list[int] = []
        self.done, self.undone = [], []

    def teardown(self):
        if hasattr(self, "session"):
            self.session.close()
            shutil.rmtree(self.folder)

    @property
    def held(self):
        return self.labels.copy(), dict(self.accepted), list(self.rejected)

    def changing(self):
        self.done.append(self.held)
        self.undone.clear()

    def pending(self):
        """Numbers of what is shown, in the order of the list."""
        return [n for n in self.waiting() if self.known[n][2] <= self.most]

    def waiting(self):
        """Numbers of what waits, in the order of the list."""
        gone = set(self.accepted) | set(self.rejected)
        free = self.labels == 0
        waiting = [
            n for n, (_, voxels, _) in self.known.items()
            if n not in gone and (voxels & free).sum() >= 0.5 * voxels.sum()
        ]  # fmt: skip
        return sorted(waiting, key=lambda n: (-self.known[n][2], n))

    # -- what is done ----------------------------------------------------------------

    @rule(boxes=st.lists(BOXES, min_size=1, max_size=3), doubt=st.integers(0, 4))
    def find(self, boxes, doubt):
        found = []
        for z, y, x, h, w in boxes:
            mask = np.ones((min(h, SHAPE[1] - y), min(w, SHAPE[2] - x)), bool)
            bbox = (y, x, y + mask.shape[0], x + mask.shape[1])
            found.append(Proposal(Plane((z,)), bbox, mask, 0.9, 0.9, doubt / 4))
        for given in self.session.proposals.add(Found(1, 1, tuple(found))):
            voxels = np.zeros(SHAPE, bool)
            voxels[given.plane.window(given.bbox)] = True
            assert given.number not in self.known
            self.known[given.number] = given.plane, voxels, given.doubt
            self.ever[given.number] = self.known[given.number]

    @rule(some=SOME, most=st.integers(0, 4))
    def accept(self, some, most):
        pending = self.session.proposals.pending
        chosen = [p for i, p in enumerate(pending) if i in some]
        before = self.held
        count = self.session.proposals.accept(chosen, max_doubt=most / 4)
        wanted = [p for p in chosen if p.doubt <= most / 4]
        for p in sorted(wanted, key=lambda p: p.doubt):
            object_id = self.session.proposals.object_id(p)
            took = self.known[p.number][1] & (self.labels == 0)
            if took.any():
                assert object_id > 0
                self.labels[took] = object_id
                self.accepted[p.number] = object_id
        assert count == len(self.accepted) - len(before[1])
        if count:
            self.done.append(before)
            self.undone.clear()

    @rule(some=SOME)
    def reject(self, some):
        pending = self.session.proposals.pending
        chosen = [p for i, p in enumerate(pending) if i in some]
        if chosen:
            self.changing()
        assert self.session.proposals.reject(chosen) == len(chosen)
        self.rejected += [p.number for p in chosen]

    @rule(n=st.integers(0, 3))
    def restore(self, n):
        chosen = self.session.proposals.rejected[:n]
        if chosen:
            self.changing()
        assert self.session.proposals.restore(chosen) == len(chosen)
        self.rejected = self.rejected[n:]
        for p in chosen:  # also those that were dropped meanwhile
            self.known[p.number] = self.ever[p.number]

    @rule(box=BOXES, value=st.integers(0, 9))
    def paint(self, box, value):
        z, y, x, h, w = box
        bbox = (y, x, min(y + h, SHAPE[1]), min(x + w, SHAPE[2]))
        window = Plane((z,)).window(bbox)
        before = np.array(self.session.labels[window])
        if (before == value).all():
            return
        self.changing()
        self.session.labels[window] = value
        after = np.array(self.session.labels[window])
        self.session.record_paint(LabelPatch(Plane((z,)), bbox, before, after), value)
        self.labels[window] = value

    @rule(most=st.integers(0, 4))
    def move_the_threshold(self, most):
        """No change that undo takes back; nothing is lost by it."""
        self.most = most / 4
        self.session.proposals.thresholds = Thresholds(max_doubt=self.most)

    @rule()
    def accept_all_that_are_shown(self):
        self.accept(range(len(self.pending())), 4)

    @rule(some=SOME)
    def drop(self, some):
        pending = self.session.proposals.pending
        chosen = [p for i, p in enumerate(pending) if i in some]
        self.session.proposals.drop(chosen)
        for p in chosen:
            del self.known[p.number]

    @rule(back=st.booleans())
    def step(self, back):
        source, target = (self.done, self.undone) if back else (self.undone, self.done)
        moved = self.session.undo() if back else self.session.redo()
        assert moved == bool(source)
        if source:
            target.append(self.held)
            self.labels, self.accepted, self.rejected = source.pop()

    @rule(elsewhere=st.booleans())
    def reopen(self, elsewhere):
        """Close and open, from the journal as it grew or as saving elsewhere has it."""
        path = Path(self.session.path)
        if elsewhere:
            path = self.folder / f"{path.stem}a.nsam"
            self.session.save(path)
        self.session.close()
        self.session = Session.load(
            path, volume=np.zeros(SHAPE, np.uint8), model=ToyModel(16),
            embeddings=False,
        )  # fmt: skip

    # -- what holds ------------------------------------------------------------------

    @invariant()
    def everything_follows_from_the_rule(self):
        if not hasattr(self, "session"):
            return
        proposals = self.session.proposals
        np.testing.assert_array_equal(self.session.labels, self.labels)
        assert [p.number for p in proposals.rejected] == self.rejected
        assert [p.number for p in proposals.pending] == self.pending()
        assert [p.number for p in proposals.waiting] == self.waiting()
        assert self.session.can_undo == bool(self.done)


TestDecisions = Decisions.TestCase
TestDecisions.settings = settings(
    max_examples=40, stateful_step_count=20, deadline=None, derandomize=True,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
