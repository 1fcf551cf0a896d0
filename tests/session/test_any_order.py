"""Whatever a person does, in any order: labels follow from base and claims alone."""

from __future__ import annotations

import copy
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from napari_sam.core.masks import LabelPatch, MaskCandidate
from napari_sam.core.planes import Plane
from napari_sam.core.prompts import Prompts
from napari_sam.core.tiles import Window
from napari_sam.engine.prediction import Prediction
from napari_sam.session import Result, Session
from napari_sam.testing import ToyModel

SHAPE = (2, 3, 5)
IDS = st.integers(1, 2)
VALUES = st.integers(0, 2)
RULES = st.sampled_from(["overwrite", "keep"])
PLANES = st.sampled_from([Plane((1,), 0)] * 3 + [Plane((1,), 1), Plane((1,), 2)])
BOXES = st.tuples(st.integers(0, 1), st.integers(0, 1), *(st.integers(1, 4),) * 2)


@dataclass
class Stroke:
    """A step of a hand: which voxels it changed."""

    changed: np.ndarray


@dataclass
class Held:
    """Everything that undo brings back, as plainly as can be."""

    base: np.ndarray
    claims: dict = field(default_factory=dict)
    """(order, voxels) by (id, plane)."""
    classes: dict = field(default_factory=dict)

    def labels(self, without=None):
        out = self.base.copy()
        for key, (_, voxels) in sorted(self.claims.items(), key=lambda c: c[1][0]):
            if key != without:
                out[voxels] = key[0]
        return out


class Rules:
    """The rule of labels, written down without regard to speed or disks."""

    def __init__(self, base):
        self.now = Held(base)
        self.done, self.undone = [], []
        self.steps = []
        self.last = None

    def commit(self, new, keys, *, hand=False, replaces=False):
        stroke = Stroke(new.labels() != self.now.labels()) if hand else None
        if replaces:
            before, former = self.done.pop()
            self.done.append((before, former | keys))
        else:
            self.done.append((self.now, keys))
            self.undone.clear()
        self.steps.append(stroke)
        self.now, self.last = new, None

    def step(self, back):
        source, target = (self.done, self.undone) if back else (self.undone, self.done)
        if not source:
            return None
        held, keys = source.pop()
        target.append((self.now, keys))
        self.steps.append(Stroke(held.labels() != self.now.labels()))
        self.now, self.last = held, None
        return keys

    def accept(self, key, voxels, order, position, how, request):
        for stroke in self.steps[position:]:
            if stroke is not None:
                voxels = voxels & ~stroke.changed
        rest = self.now.labels(without=key)
        if how == "keep":
            voxels = voxels & ((rest == 0) | (rest == key[0]))
        new = copy.deepcopy(self.now)
        new.claims[key] = order, voxels
        self.commit(new, {key}, replaces=self.last == request)
        self.last = request

    def paint(self, voxels, value):
        changed = voxels & (self.now.labels() != value)
        new = copy.deepcopy(self.now)
        new.base[changed] = value
        keys = set()
        for key, (order, held) in self.now.claims.items():
            if (held & changed).any():
                new.claims[key] = order, held & ~changed
                keys.add(key)
        self.commit(new, keys, hand=True)

    def delete(self, object_id):
        new = copy.deepcopy(self.now)
        keys = {k for k in new.claims if k[0] == object_id}
        for key in keys:
            del new.claims[key]
        new.base[new.base == object_id] = 0
        new.classes.pop(object_id, None)
        return new, keys


@dataclass
class Asked:
    """A request under way, and all that the rule needs to know of it."""

    request: object
    key: tuple
    order: int
    position: int
    how: str
    generation: int


class AnyOrder(RuleBasedStateMachine):
    @initialize(given=st.booleans())
    def start(self, given):
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "0.nsam"
        base = np.zeros(SHAPE, np.uint16)
        if given:
            base[1, 1:, 1:] = 2
        self.image = np.zeros(SHAPE, np.uint8)
        self.session = Session(
            self.image, ToyModel(16), embeddings=False, labels=base.copy(),
            path=self.path,
        )  # fmt: skip
        self.rules = Rules(base.astype(int))
        self.asked: list[Asked] = []
        self.generations: dict = {}
        self.order = 0

    def teardown(self):
        if hasattr(self, "session"):
            self.session.close()
            seen = self.load(read_only=True)
            np.testing.assert_array_equal(seen.labels, self.rules.now.labels())
            shutil.rmtree(self.folder)

    def load(self, **options):
        return Session.load(
            self.path, volume=self.image, model=ToyModel(16),
            embeddings=False, **options,
        )  # fmt: skip

    def supersede(self, keys):
        for key in keys:
            self.generations[key] = self.generations.get(key, 0) + 1

    # -- what a person does ----------------------------------------------------------

    @rule(object_id=IDS, plane=PLANES, how=RULES)
    def ask(self, object_id, plane, how):
        self.session.rule = how
        request = self.session.set_prompts(
            object_id, plane, Prompts.of(points=[(1, 1)])
        )
        self.note(request, (object_id, plane), how)

    @precondition(lambda self: self.session.document.states)
    @rule(data=st.data(), how=RULES)
    def ask_for_another_candidate(self, data, how):
        key = data.draw(st.sampled_from(sorted(self.session.document.states, key=repr)))
        self.session.rule = how
        request = self.session.set_choice(0, *key)
        self.note(request, key, how)

    def note(self, request, key, how):
        self.order += 1
        self.supersede([key])
        position, generation = len(self.rules.steps), self.generations[key]
        asked = Asked(request, key, self.order, position, how, generation)
        self.asked = [*self.asked[-3:], asked]

    @rule(object_id=IDS, plane=PLANES, how=RULES, box=BOXES)
    def segment(self, object_id, plane, how, box):
        self.ask(object_id, plane, how)
        self.take(self.asked[-1], *box)

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), box=BOXES)
    def answer(self, data, box):
        """Any request may be answered, at any time, more than once, or too late."""
        self.take(data.draw(st.sampled_from(self.asked)), *box)

    def take(self, asked, y, x, h, w):
        plane = asked.key[1]
        top, right = plane.shape(SHAPE)
        mask = np.ones((min(h, top - y), min(w, right - x)), bool)
        bbox = (y, x, y + mask.shape[0], x + mask.shape[1])
        if not mask.size:
            bbox, mask = (0, 0, 0, 0), np.zeros((0, 0), bool)
        elif mask.size > 3:
            mask.flat[1] = False
        found = MaskCandidate(bbox, mask, 0.9, 0.9, np.zeros((4, 4), np.float32))
        window = Window(0, 0, 0, 4, 4)
        prediction = Prediction(asked.request.prompts, (found,), window, (0,))
        self.session.accept(Result(asked.request, prediction))
        if self.generations[asked.key] == asked.generation:
            voxels = np.zeros(SHAPE, bool)
            voxels[plane.window(bbox)] = mask
            self.rules.accept(
                asked.key, voxels, asked.order, asked.position, asked.how,
                (asked.key, asked.generation),
            )  # fmt: skip

    @rule(plane=PLANES, y=st.integers(0, 1), x=st.integers(0, 1), value=VALUES)
    def paint(self, plane, y, x, value):
        h, w = plane.shape(SHAPE)
        bbox = (y, x, min(y + 2, h), min(x + 2, w))
        window = plane.window(bbox)
        before = np.array(self.session.labels[window])
        self.session.labels[window] = value
        after = np.array(self.session.labels[window])
        if (before == after).all():
            return
        self.session.record_paint(LabelPatch(plane, bbox, before, after), value)
        voxels = np.zeros(SHAPE, bool)
        voxels[window] = True
        self.rules.paint(voxels, value)

    @rule(object_id=IDS, plane=PLANES, how=RULES, boxes=st.tuples(BOXES, BOXES))
    def sharpen(self, object_id, plane, how, boxes):
        self.segment(object_id, plane, how, boxes[0])
        self.take(self.asked[-1], *boxes[1])

    @rule(object_id=IDS, plane=PLANES, how=RULES, box=BOXES, value=VALUES)
    def paint_while_it_is_answered(self, object_id, plane, how, box, value):
        self.ask(object_id, plane, how)
        self.paint(plane, 0, 1, value)
        self.take(self.asked[-1], *box)

    @rule(plane=PLANES, how=RULES, boxes=st.tuples(BOXES, BOXES))
    def answer_the_later_one_first(self, plane, how, boxes):
        for object_id in (1, 2):
            self.ask(object_id, plane, how)
        self.take(self.asked[-1], *boxes[0])
        self.take(self.asked[-2], *boxes[1])

    @rule(box=BOXES)
    def delete_what_lies_beneath(self, box):
        plane = Plane((1,), 0)
        self.paint(plane, 0, 1, 1)
        self.segment(2, plane, "overwrite", box)
        self.delete(1)

    @rule(object_id=IDS)
    def delete(self, object_id):
        new, keys = self.rules.delete(object_id)
        known = {k for k in self.session.document.painted if k[0] == object_id}
        changes = keys or known or (new.base != self.rules.now.base).any()
        self.session.delete_object(object_id)
        self.supersede([k for k in self.generations if k[0] == object_id])
        if changes or object_id in self.rules.now.classes:
            self.rules.commit(new, keys, hand=True)

    @precondition(lambda self: self.rules.now.claims)
    @rule(data=st.data())
    def take_prompts_back(self, data):
        key = data.draw(st.sampled_from(sorted(self.rules.now.claims, key=repr)))
        self.session.delete_object(*key)
        new = copy.deepcopy(self.rules.now)
        del new.claims[key]
        self.supersede([key])
        self.rules.commit(new, {key}, hand=True)

    @rule(object_id=IDS, name=st.sampled_from(["nucleus", "cell"]))
    def name_the_class(self, object_id, name):
        if object_id not in self.session.objects:
            return
        if self.rules.now.classes.get(object_id) == name:
            return
        self.session.objects[object_id].class_name = name
        new = copy.deepcopy(self.rules.now)
        new.classes[object_id] = name
        self.rules.commit(new, set())

    @rule()
    def undo(self):
        self.supersede(self.rules.step(back=True) or ())
        self.session.undo()

    @rule()
    def redo(self):
        self.supersede(self.rules.step(back=False) or ())
        self.session.redo()

    @rule()
    def use_another_model(self):
        self.session.use(model=ToyModel(32))
        self.supersede(list(self.generations))

    @rule(elsewhere=st.booleans())
    def save(self, elsewhere):
        if elsewhere:
            self.path = self.folder / f"{len(list(self.folder.iterdir()))}.nsam"
        self.session.save(self.path)

    @rule(saved=st.booleans())
    def reopen(self, saved):
        if saved:
            self.session.save()
        self.session.close()
        self.session = self.load()
        self.asked.clear()

    # -- what must hold --------------------------------------------------------------

    @invariant()
    def labels_follow_from_the_rule(self):
        now, session = self.rules.now, self.session
        np.testing.assert_array_equal(session.labels, now.labels())
        assert set(session.document.pixels.claims) == set(now.claims)
        assert set(session.document.states) == set(now.claims)
        journal = session.document.journal
        assert len(journal.done) == len(self.rules.done)
        assert len(journal.undone) == len(self.rules.undone)
        names = {i: session.objects[i].class_name for i in session.objects}
        assert {i: n for i, n in names.items() if n} == now.classes


AnyOrder.TestCase.settings = settings(
    max_examples=50,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
test_any_order_of_steps_follows_the_rule = AnyOrder.TestCase
