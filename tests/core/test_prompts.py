"""Prompts: checked, immutable, written down and read back, taken step by step."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sam.core.mask_prompt import MaskPrompt
from napari_sam.core.prompts import Prompts
from napari_sam.errors import PromptError

COORDS = st.floats(0, 99, width=32)
PAIRS = st.tuples(COORDS, COORDS)
SHAPE = (100, 100)


@st.composite
def masks(draw):
    out = np.zeros(SHAPE, bool)
    y, x = draw(st.integers(0, 90)), draw(st.integers(0, 90))
    crop = draw(st.lists(st.booleans(), min_size=12, max_size=12))
    out[y : y + 3, x : x + 4] = np.reshape(crop, (3, 4))
    out[y, x] = True
    return out


@st.composite
def prompts(draw):
    points = draw(st.lists(PAIRS, max_size=5))
    n = len(points)
    labels = draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))
    y0, x0 = draw(PAIRS)
    box = (y0, x0, y0 + draw(st.floats(1, 50)), x0 + draw(st.floats(1, 50)))
    strokes = draw(st.lists(st.lists(PAIRS, min_size=1, max_size=3), max_size=3))
    n = len(strokes)
    return Prompts.of(
        points=points,
        point_labels=labels,
        scribbles=strokes,
        scribble_labels=draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)),
        paths=draw(st.sampled_from([None, [(4, 4), (9, 30), (30, 9)]])),
        box=draw(st.sampled_from([None, box])),
        polygon=draw(st.sampled_from([None, [(1, 1), (20, 5), (9, 30)]])),
        mask=draw(st.one_of(st.none(), masks())),
        level=draw(st.integers(0, 3)),
    )


def parts(given):
    mask = given.mask
    return (
        given.points,
        given.point_labels,
        *(
            [
                s
                for s, n in zip(given.scribbles, given.scribble_labels, strict=True)
                if n == sign
            ]
            for sign in (0, 1)
        ),
        given.paths,
        given.box,
        given.polygon,
        given.level,
        None if mask is None else (mask.bbox, mask.mask.tobytes()),
    )


def is_answerable(given):
    anchored = given.box or given.polygon or given.paths or given.mask is not None
    return bool(anchored or any((*given.point_labels, *given.scribble_labels)))


@given(prompts())
def test_json_round_trip(given):
    text = json.dumps(given.to_json())
    assert parts(Prompts.from_json(json.loads(text))) == parts(given)


@given(prompts())
def test_check_refuses_exactly_what_has_nothing_positive(given):
    if is_answerable(given):
        given.check(SHAPE)
        return
    with pytest.raises(PromptError, match=r"no prompt|only negative"):
        given.check(SHAPE)


@given(prompts().filter(is_answerable))
def test_steps_add_one_thing_each_and_end_with_the_whole(given):
    steps = given.steps()
    assert parts(steps[-1]) == parts(given)
    counts = [s.length for s in steps]
    assert counts == list(range(counts[0], given.length + 1))
    for step in steps:
        assert is_answerable(step)
        assert given.extends(step)
    for earlier, later in itertools.pairwise(steps):
        assert later.extends(earlier)
        assert not earlier.extends(later)


@given(prompts().filter(is_answerable))
def test_steps_of_a_step_are_the_beginning_of_the_steps(given):
    steps = given.steps()
    for i, step in enumerate(steps):
        assert [parts(s) for s in step.steps()] == [parts(s) for s in steps[: i + 1]]


@given(prompts(), prompts())
def test_extends_holds_exactly_where_one_is_a_step_of_the_other(a, b):
    if is_answerable(a) and is_answerable(b):
        steps = [parts(s) for s in a.steps()]
        assert a.extends(b) == (parts(b) in steps)
    assert a.extends(a)


@given(prompts())
def test_extends_survives_json(given):
    again = Prompts.from_json(given.to_json())
    assert again.extends(given)
    assert given.extends(again)


@given(prompts().filter(lambda p: not p.is_empty))
def test_extent_holds_everything_said(given):
    y0, x0, y1, x1 = given.extent()
    assert y0 < y1
    assert x0 < x1
    lines = (*given.scribbles, *given.paths)
    for y, x in (*given.points, *given.polygon, *(p for line in lines for p in line)):
        assert y0 <= y <= y1
        assert x0 <= x <= x1
    for box in filter(None, (given.box, given.mask and given.mask.bbox)):
        assert y0 <= box[0]
        assert x0 <= box[1]
        assert box[2] <= y1
        assert box[3] <= x1


@given(masks())
def test_mask_prompt_keeps_every_pixel_in_the_tightest_box(mask):
    cropped = MaskPrompt.of(mask)
    y0, x0, y1, x1 = cropped.bbox
    out = np.zeros(SHAPE, bool)
    out[y0:y1, x0:x1] = cropped.mask
    np.testing.assert_array_equal(out, mask)
    edges = (cropped.mask[0], cropped.mask[-1], cropped.mask.T[0], cropped.mask.T[-1])
    assert all(edge.any() for edge in edges)


def test_mask_prompt_does_not_follow_its_source():
    mask = np.ones((4, 4), bool)
    prompt = Prompts.of(mask=mask)
    mask[:] = False
    assert prompt.mask.mask.all()


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"points": [(1, 2, 3)]}, id="point of three numbers"),
        pytest.param({"points": [(np.nan, 2)]}, id="NaN point"),
        pytest.param({"points": [(np.inf, 2)]}, id="infinite point"),
        pytest.param({"points": [(1, 2)], "point_labels": []}, id="label missing"),
        pytest.param({"points": [(1, 2)], "point_labels": [2]}, id="label 2"),
        pytest.param({"points": [(1, 2)], "point_labels": [-1]}, id="label -1"),
        pytest.param({"point_labels": [1]}, id="label without point"),
        pytest.param({"box": (1, 2, 3)}, id="box of three numbers"),
        pytest.param({"box": (1, 2, np.nan, 4)}, id="NaN box"),
        pytest.param({"polygon": [(1, 2), (3, 4)]}, id="polygon of two corners"),
        pytest.param({"mask": np.zeros((5, 5), bool)}, id="empty mask"),
        pytest.param({"mask": np.ones(5, bool)}, id="1-D mask"),
        pytest.param({"scribbles": [[]]}, id="scribble of nothing"),
        pytest.param({"scribbles": [[(1, 2), (3,)]]}, id="scribble of one number"),
        pytest.param(
            {"scribbles": [[(1, 2)]], "scribble_labels": [1, 0]}, id="label too many"
        ),
        pytest.param({"paths": [[(1, 2)]]}, id="path of one place"),
    ],
)
def test_values_that_make_no_sense_are_refused(given):
    with pytest.raises(PromptError):
        Prompts.of(**given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        pytest.param({}, "no prompt", id="nothing"),
        pytest.param(
            {"points": [(1, 1)], "point_labels": [0]}, "only negative", id="negative"
        ),
        pytest.param(
            {"scribbles": [[(1, 1)]], "scribble_labels": [0]},
            "only negative",
            id="negative scribble",
        ),
        pytest.param({"scribbles": [[(120, 1), (130, 2)]]}, "outside", id="scribble"),
        pytest.param({"points": [(100, 5)]}, "outside", id="point below"),
        pytest.param({"points": [(5, -0.6)]}, "outside", id="point left"),
        pytest.param({"box": (5, 5, 5, 9)}, "empty", id="box without height"),
        pytest.param({"box": (5, 9, 8, 5)}, "empty", id="turned box"),
        pytest.param({"box": (100, 5, 120, 9)}, "outside", id="box below"),
        pytest.param({"box": (-9, -9, 0, 5)}, "outside", id="box above"),
        pytest.param(
            {"polygon": [(200, 0), (210, 0), (205, 9)]}, "outside", id="polygon below"
        ),
        pytest.param({"polygon": [(3, 0), (3, 5), (3, 9)]}, "empty", id="flat polygon"),
    ],
)
def test_check_says_what_cannot_be_answered(given, message):
    with pytest.raises(PromptError, match=message):
        Prompts.of(**given).check(SHAPE)


@pytest.mark.parametrize("edge", [(-0.5, -0.5), (99.5, 99.5)])
def test_points_on_the_outer_edge_count_as_inside(edge):
    Prompts.of(points=[edge]).check(SHAPE)


def test_box_that_reaches_over_the_edge_is_accepted():
    Prompts.of(box=(-5, -5, 200, 200)).check(SHAPE)


def test_unknown_keys_are_refused_by_name():
    with pytest.raises(PromptError, match="pionts"):
        Prompts.from_json({"pionts": [[1, 2]]})


def test_one_scribble_or_path_need_not_be_in_a_list_and_may_be_an_array():
    line = np.array([(3, 4), (5, 9)])
    said = Prompts.of(scribbles=line, paths=line)
    assert said.scribbles == said.paths == (((3.0, 4.0), (5.0, 9.0)),)
    assert Prompts.of(scribbles=[line, line]).scribble_labels == (1, 1)
