"""Masks carried from plane to plane, on volumes whose objects are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_sam.core.mask_prompt import MaskPrompt
from napari_sam.core.masks import MaskCandidate, mask_iou
from napari_sam.core.planes import Plane
from napari_sam.core.prompts import WindowPrompts
from napari_sam.engine.doubt import doubt_beyond, shape_weight
from napari_sam.engine.engine import Engine
from napari_sam.engine.follow import Propagator, innermost
from napari_sam.engine.propagate import PlaneMask, PropagateOptions, propagate
from napari_sam.errors import Cancelled, ModelError, PromptError, VolumeError
from napari_sam.models.registry import load_model
from napari_sam.testing import ToyModel, phantom_volume
from napari_sam.volume.opening import open_volume

PHANTOM = phantom_volume((24, 96, 112), n_objects=3)


class RecallingToy(ToyModel):
    """Remembers the mask of the plane before, as SAM 2 would its memory."""

    def __init__(self, input_side: int = 128) -> None:
        super().__init__(input_side)
        self.conditioned: list[list[int]] = []
        self.followed: list[tuple[int, bool]] = []

    def tracker(self, embedding, n_planes, window_size):
        self.conditioned.append([])
        return _Recall(self, embedding, window_size)


class _Recall:
    def __init__(self, model, embedding, window_size):
        self.model, self.embedding, self.size = model, embedding, window_size
        self.keys, self.masks = {}, {}

    def condition(self, plane, mask):
        side, m = self.model.spec.input_side, self.model.spec.mask_side
        assert mask.shape == (side, side) and mask.dtype == bool and mask.any()
        cells = mask.reshape(m, side // m, m, side // m).mean((1, 3))
        self.keys[plane] = (cells * 2 - 1).astype(np.float32) * 8
        self.model.conditioned[-1].append(plane)

    def follow(self, plane, *, reverse=False):
        self.model.followed.append((plane, reverse))
        known = {**self.keys, **self.masks}
        passed = [n for n in known if (n > plane) == reverse and n != plane]
        before = known[min(passed, key=lambda n: abs(n - plane))]
        prompts = WindowPrompts(mask_input=before, multimask_output=False)
        embedding = self.embedding(plane)
        assert embedding.original_size == self.size
        found = self.model.decode(embedding, prompts)[0]
        self.masks[plane] = found.low_res_logits
        return found

    def forget(self):
        self.masks.clear()


def engine(model=None, array=None) -> Engine:
    volume = open_volume(PHANTOM.image if array is None else array)
    return Engine.of(volume, model or ToyModel(128))


def truth(number: int, object_id: int = 1, axis: int = 0) -> np.ndarray:
    return np.take(PHANTOM.labels == object_id, number, axis)


def key(number: int, object_id: int = 1, axis: int = 0) -> tuple[Plane, MaskPrompt]:
    plane = Plane.of(PHANTOM.labels.shape, number, axis=axis)
    return plane, MaskPrompt.of(truth(number, object_id, axis))


def extent(object_id: int, axis: int) -> range:
    others = tuple(a for a in range(3) if a != axis)
    planes = np.flatnonzero((PHANTOM.labels == object_id).any(others))
    return range(int(planes[0]), int(planes[-1]) + 1)


@pytest.mark.parametrize("model", [ToyModel, RecallingToy])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("object_id", [1, 3])
def test_one_key_plane_gives_the_whole_object(model, axis, object_id) -> None:
    planes = extent(object_id, axis)
    middle = (planes.start + planes.stop) // 2
    run = propagate(engine(model(128)), dict([key(middle, object_id, axis)]))
    found = {c.plane.index[0]: (c.plane, c) for c in run}
    assert middle not in found
    assert set(found) <= set(planes)
    assert len(found) >= 0.7 * len(planes)
    for number, (plane, candidate) in found.items():
        assert plane.axis == axis
        expected = truth(number, object_id, axis)
        assert mask_iou(candidate.full(expected.shape), expected) >= 0.9


@pytest.mark.parametrize("model", [ToyModel, RecallingToy])
def test_every_plane_between_keys_is_found_once(model) -> None:
    keys = dict([key(8), key(12), key(15)])
    found = [c.plane.index[0] for c in propagate(engine(model(128)), keys)]
    assert len(found) == len(set(found))
    assert {9, 10, 11, 13, 14} <= set(found)
    assert not {8, 12, 15} & set(found)


def test_between_keys_shapes_pass_into_one_another() -> None:
    # The keys differ in size, so that a mask tells how near it is to each.
    image = np.full((11, 64, 64), 30, np.uint8)
    keys = {}
    for number, side in ((0, 20), (10, 40)):
        mask = np.zeros((64, 64), bool)
        mask[32 - side // 2 : 32 + side // 2, 32 - side // 2 : 32 + side // 2] = True
        keys[Plane.of(image.shape, number)] = MaskPrompt.of(mask)
    options = PropagateOptions(method="interpolate")
    found = list(propagate(engine(array=image), keys, options=options))
    assert [c.plane.index[0] for c in found] == list(range(1, 10))
    assert {c.origin for c in found} == {"interpolated"}
    areas = [c.area for c in found]
    assert areas == sorted(areas) and areas[0] > 400 and areas[-1] < 1600


def test_where_walks_end_the_shapes_fill() -> None:
    # Nothing is to be seen between the keys, so no walk gets anywhere.
    image = np.full((9, 96, 112), 30, np.uint8)
    image[[0, 8]] = PHANTOM.image[[12, 12]]
    (_, mask), *_ = [key(12)]
    keys = {Plane.of(image.shape, n): mask for n in (0, 8)}
    found = list(propagate(engine(array=image), keys))
    assert [c.plane.index[0] for c in found] == list(range(1, 8))
    assert {c.origin for c in found} == {"interpolated"}
    assert all(mask_iou(c.full((96, 112)), truth(12)) > 0.95 for c in found)


@pytest.mark.parametrize("snap", [False, True])
def test_shapes_are_fitted_to_the_image_where_it_agrees(snap) -> None:
    # Shapes pass straight from key to key; the object bulges half-way.
    image = np.full((9, 96, 112), 30, np.uint8)
    sides = [20, 22, 23, 24, 25, 24, 23, 22, 20]
    for z, side in enumerate(sides):
        image[z, 48 - side : 48 + side, 56 - side : 56 + side] = 200
    image[6] = 30  # nothing is seen here
    keys = {Plane.of(image.shape, n): MaskPrompt.of(image[n] > 100) for n in (0, 8)}
    options = PropagateOptions("interpolate", snap=snap)
    found = list(propagate(engine(array=image), keys, options=options))
    assert [c.plane.index[0] for c in found] == list(range(1, 8))
    assert {c.origin for c in found} == {"interpolated"}
    areas = [c.area for c in found]
    if snap:
        assert areas[5] == 40 * 40
        seen = [a for n, a in enumerate(areas) if n != 5]
        assert seen == [(2 * s) ** 2 for n, s in enumerate(sides[1:-1]) if n != 5]
    else:
        assert set(areas) == {40 * 40}


def test_an_object_in_two_parts_is_followed_in_both_until_each_ends() -> None:
    image = np.full((12, 96, 112), 30, np.uint8)
    image[:, 10:40, 10:40] = 200
    image[:8, 50:80, 60:100] = 200
    keys = {Plane.of(image.shape, 0): MaskPrompt.of(image[0] > 100)}
    anything = PropagateOptions(max_area_ratio=4, max_doubt=1)
    found = list(propagate(engine(array=image), keys, options=anything))
    assert [c.plane.index[0] for c in found] == list(range(1, 12))
    for one in found:
        seen = image[one.plane.index[0]] > 100
        assert mask_iou(one.full((96, 112)), seen) > 0.95


def test_where_walks_and_shapes_disagree_there_is_doubt() -> None:
    keys = dict([key(9), key(14)])
    sure = [c.doubt for c in propagate(engine(), keys, first=9, last=14)]
    image = PHANTOM.image.copy()
    image[11:13] = 30
    torn = list(propagate(engine(array=image), keys, first=9, last=14))
    assert max(sure) < 0.2
    assert min(c.doubt for c in torn if c.plane.index[0] in (11, 12)) > max(sure)


def test_an_object_that_turns_into_another_tissue_ends() -> None:
    image = np.full((12, 64, 64), 30, np.uint8)
    image[:, 20:44, 20:44] = 120
    image[8:, 20:44, 20:44] = 220
    mask = np.zeros((64, 64), bool)
    mask[20:44, 20:44] = True
    keys = {Plane.of(image.shape, 3): MaskPrompt.of(mask)}
    found = [c.plane.index[0] for c in propagate(engine(array=image), keys)]
    assert sorted(found) == [0, 1, 2, 4, 5, 6, 7]


def test_memory_is_taught_all_keys_once_and_walks_both_ways() -> None:
    model = RecallingToy()
    run = propagate(engine(model), dict([key(9), key(13)]), last=14)
    order = [c.plane.index[0] for c in run]
    assert order[-4:] == [10, 11, 12, 14]
    assert order[:-4] == list(range(8, 8 - len(order[:-4]), -1))
    assert model.conditioned == [[9, 13]]  # once, for all walks
    assert {(8, True), (10, False), (12, True)} <= set(model.followed)


def test_planes_outside_first_and_last_are_left_alone() -> None:
    run = propagate(engine(), dict([key(12)]), first=10, last=13)
    assert sorted(c.plane.index[0] for c in run) == [10, 11, 13]


@pytest.mark.parametrize("model", [ToyModel, RecallingToy])
def test_an_object_larger_than_a_tile_is_followed(model) -> None:
    image = np.full((5, 300, 300), 30, np.uint8)
    for z in range(5):
        image[z, 60 - 8 * z : 200 + 8 * z, 80 : 210 + 8 * z] = 200
    plane = Plane.of(image.shape, 0)
    keys = {plane: MaskPrompt.of(image[0] > 100)}
    found = {c.plane: c for c in propagate(engine(model(64), image), keys)}
    assert len(found) == 4
    for plane, candidate in found.items():
        expected = image[plane.index[0]] > 100
        assert mask_iou(candidate.full((300, 300)), expected) >= 0.9


@pytest.mark.parametrize("model", [ToyModel, RecallingToy])
def test_an_object_that_wanders_through_windows_is_followed(model) -> None:
    image = np.full((36, 64, 260), 30, np.uint8)
    for z in range(36):
        image[z, 20:44, 10 + 5 * z : 50 + 5 * z] = 200
    keys = {Plane.of(image.shape, 0): MaskPrompt.of(image[0] > 100)}
    found = {c.plane: c for c in propagate(engine(model(64), image), keys)}
    assert len(found) == 35
    for plane, candidate in found.items():
        expected = image[plane.index[0]] > 100
        assert mask_iou(candidate.full((64, 260)), expected) >= 0.9


def candidate(rows: slice) -> MaskCandidate:
    bbox = (rows.start, 0, rows.stop, 10)
    mask = np.ones((rows.stop - rows.start, 10), bool)
    return MaskCandidate(bbox, mask, 0.9, 1.0, np.zeros((4, 4), np.float32))


@pytest.mark.parametrize(
    ("rows", "unlike", "ended"),
    [
        pytest.param(slice(0, 10), 0.1, False, id="same"),
        pytest.param(slice(0, 10), 5.0, True, id="another tissue"),
        pytest.param(slice(0, 21), 0.1, True, id="grew"),
        pytest.param(slice(0, 4), 0.1, True, id="shrank"),
        pytest.param(slice(0, 7), 0.1, False, id="shrank a little"),
        pytest.param(slice(9, 19), 0.1, True, id="elsewhere"),
        pytest.param(slice(2, 12), 0.1, False, id="moved"),
    ],
)
def test_objects_end_by_look_area_and_place(rows, unlike, ended) -> None:
    before = MaskPrompt((0, 0, 10, 10), np.ones((10, 10), bool))
    assert PropagateOptions().ended(candidate(rows), before, 100, unlike) is ended


def test_a_walk_that_floods_ends() -> None:
    options = PropagateOptions(max_area_ratio=2)
    before, larger = candidate(slice(0, 30)), candidate(slice(0, 41))
    grown = MaskPrompt(before.bbox, before.mask)
    assert not options.ended(larger, grown, 137, 0.0)
    assert options.ended(larger, grown, 136, 0.0)


def test_beyond_the_keys_doubt_ends_a_walk() -> None:
    keys = dict([key(12)])
    found = list(propagate(engine(), keys, first=13))
    doubts = [c.doubt for c in found]
    most = max(doubts[1:])
    at = doubts.index(most)
    strict = PropagateOptions(max_doubt=most - 1e-9)
    left = [c.plane for c in propagate(engine(), keys, first=13, options=strict)]
    assert left == [c.plane for c in found[: next(
        i for i, d in enumerate(doubts) if d > strict.max_doubt
    )]] and len(left) <= at  # fmt: skip


@pytest.mark.parametrize("model", [ToyModel, RecallingToy])
def test_a_spoilt_slice_is_stepped_over_by_those_with_patience(model) -> None:
    image = PHANTOM.image.copy()
    image[14] = 30
    keys = dict([key(12)])
    there = [n for n in extent(1, 0) if n > 12]

    def filled(patience: int) -> dict[int, PlaneMask]:
        run = propagate(
            engine(model(128), image), keys, first=13,
            options=PropagateOptions(patience=patience),
        )  # fmt: skip
        return {c.plane.index[0]: c for c in run}

    assert list(filled(0)) == [13]
    found = filled(1)
    assert sorted(found)[:4] == [13, 14, 15, 16] and set(found) <= set(there)
    assert found[14].origin == "interpolated" and found[14].doubt >= 0.5
    assert found[15].origin == "propagated"
    assert mask_iou(found[14].full((96, 112)), truth(14)) > 0.85
    image[15] = 30
    assert list(filled(1)) == [13]


def test_reach_bounds_what_lies_beyond_the_keys() -> None:
    keys = dict([key(9), key(13)])
    whole = {c.plane.index[0] for c in propagate(engine(), keys)}
    options = PropagateOptions(reach=1)
    found = {c.plane.index[0] for c in propagate(engine(), keys, options=options)}
    assert found == whole & {8, 10, 11, 12, 14}


def test_growing_beyond_a_key_is_doubtful_and_shrinking_is_not() -> None:
    same = doubt_beyond(0.9, 0.8, 0.7, 1.0)
    assert doubt_beyond(0.9, 0.8, 0.7, 0.4) == same
    assert doubt_beyond(0.9, 0.8, 0.7, 2.0) > same
    assert doubt_beyond(0.9, 0.8, 0.3, 1.0) > same


def test_shapes_count_more_where_a_walk_lost_the_object() -> None:
    one = MaskPrompt((0, 0, 10, 10), np.ones((10, 10), bool))
    other = MaskPrompt((0, 2, 10, 12), np.ones((10, 10), bool))
    assert shape_weight([one, one], arrived=True) == 0
    assert shape_weight([one, other], arrived=True) == 0.5
    assert shape_weight([one, one], arrived=False) > 0.5
    assert shape_weight([one], arrived=False) > 0.5


def test_an_empty_mask_ends_the_object() -> None:
    before = MaskPrompt((0, 0, 10, 10), np.ones((10, 10), bool))
    nothing = MaskCandidate(
        (0, 0, 0, 0), np.zeros((0, 0), bool), 0.9, 0.0, np.zeros((4, 4), np.float32)
    )
    assert PropagateOptions().ended(nothing, before, 100, 0.0)


def test_a_walk_can_be_stopped_and_keeps_what_was_found() -> None:
    found = []
    with pytest.raises(Cancelled):
        for one in propagate(engine(), dict([key(12)]), cancel=lambda: len(found) == 2):
            found.append(one)
    assert len(found) == 2


def test_stored_embeddings_are_read_not_made_again() -> None:
    model = ToyModel(128)
    looking = engine(model)
    first = [c.plane for c in propagate(looking, dict([key(12)]))]
    made = model.n_encoded
    assert [c.plane for c in propagate(looking, dict([key(12)]))] == first
    assert model.n_encoded == made


def test_time_points_are_kept_apart() -> None:
    image = np.stack([PHANTOM.image[::-1], PHANTOM.image])
    plane = Plane.of(image.shape, (1, 12))
    run = propagate(engine(array=image), {plane: MaskPrompt.of(truth(12))})
    assert {c.plane.index[0] for c in run} == {1}
    other = Plane.of(image.shape, (0, 12))
    with pytest.raises(PromptError, match="one axis at one time point"):
        mask = MaskPrompt.of(truth(12))
        list(propagate(engine(array=image), {plane: mask, other: mask}))


def test_what_cannot_be_propagated_is_refused() -> None:
    with pytest.raises(PromptError, match="one or more key planes"):
        list(propagate(engine(), {}))
    with pytest.raises(PromptError, match="no key plane lies on planes 0 to 5"):
        list(propagate(engine(), dict([key(12)]), last=5))
    with pytest.raises(ModelError, match="toy has no memory"):
        list(propagate(engine(), dict([key(12)]), options=PropagateOptions("memory")))
    with pytest.raises(ModelError, match="unknown method 'tracking'"):
        list(propagate(engine(), dict([key(12)]), options=PropagateOptions("tracking")))
    flat = Engine.of(open_volume(PHANTOM.image[12]), ToyModel(128))
    with pytest.raises(VolumeError, match="one plane"):
        list(propagate(flat, {Plane(()): MaskPrompt.of(truth(12))}))


def test_models_with_a_memory_are_told_apart() -> None:
    assert isinstance(RecallingToy(), Propagator)
    assert not isinstance(ToyModel(), Propagator)
    model = RecallingToy()
    list(
        propagate(
            engine(model), dict([key(12)]), options=PropagateOptions("projection")
        )
    )
    assert not model.followed


@pytest.mark.parametrize(
    ("understands", "said"),
    [
        ({"points", "box", "mask"}, {"points", "mask"}),
        ({"points", "box"}, {"points"}),
        ({"box"}, {"box"}),
    ],
)
def test_planes_are_prompted_with_what_the_model_understands(understands, said) -> None:
    model = ToyModel(128)
    model._spec = replace(model._spec, prompts=frozenset(understands))
    asked = []
    decode = model.decode
    model.decode = lambda e, p: asked.append(p) or decode(e, p)
    list(propagate(engine(model), dict([key(12)]), first=11, last=13))
    for prompts in asked:
        given = {
            "points": len(prompts.points) > 0,
            "box": prompts.box is not None,
            "mask": prompts.mask_input is not None,
        }
        assert {kind for kind, there in given.items() if there} == said
        if "mask" in said:
            assert np.abs(prompts.mask_input).max() <= 4


def test_nano_follows_an_object_and_stops_where_it_ends() -> None:
    phantom = phantom_volume((24, 160, 160), n_objects=3, noise=8)
    looking = Engine.of(open_volume(phantom.image), load_model("nano", device="cpu"))
    objects = phantom.labels == 2
    keys = {Plane((11,)): MaskPrompt.of(objects[11])}
    found = {c.plane: c for c in propagate(looking, keys)}
    there = np.flatnonzero(objects.any((1, 2)))
    assert len({p.index[0] for p in found} - set(there)) <= 2
    assert len(found) >= 0.6 * (len(there) - 1)
    ious = [mask_iou(c.full((160, 160)), objects[p.index[0]]) for p, c in found.items()]
    assert np.mean(ious) >= 0.7


def test_innermost_point_lies_in_the_thickest_part() -> None:
    mask = np.zeros((40, 60), bool)
    mask[5:8, 2:50] = True
    mask[3:14, 40:51] = True
    assert innermost(MaskPrompt.of(mask)) == (8.0, 45.0)
    everywhere = MaskPrompt((4, 0, 25, 61), np.ones((21, 61), bool))
    assert innermost(everywhere) == (14.0, 30.0)
