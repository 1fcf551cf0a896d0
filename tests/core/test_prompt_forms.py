"""Outlines and strokes in the form that a model understands."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam.core.frames import Frame, window_prompts
from napari_sam.core.prompt_forms import PromptForms, spread
from napari_sam.core.prompts import Prompts
from napari_sam.core.tiles import Window

SHAPE = (64, 64)
FRAME = Frame(Window(0, 0, 0, *SHAPE), 64, 16, enlarge=False)
LINE = [(10, 10), (10, 50)]
OUTLINE = [(8, 8), (8, 40), (40, 40), (40, 8)]


def told(said, **forms):
    return window_prompts(said, FRAME, None, SHAPE, PromptForms(**forms))


def test_a_stroke_becomes_a_few_points_of_its_sign():
    said = Prompts.of(scribbles=[LINE, [(50, 5)]], scribble_labels=[1, 0])
    given = told(said, stroke_points=4)
    expected = [(10, 15), (10, 25), (10, 35), (10, 45), (50, 5)]
    np.testing.assert_allclose(given.points, expected)
    assert given.point_labels.tolist() == [1, 1, 1, 1, 0]
    assert given.box is None and given.mask_input is None
    assert not given.multimask_output


@pytest.mark.parametrize("n", [1, 3, 20])
def test_places_along_a_line_are_on_it_and_never_two_on_a_pixel(n):
    found = spread(((0.0, 0.0), (3.0, 4.0), (3.0, 4.0), (3.0, 8.0)), n)
    assert len(found) == min(n, 9)
    assert len({tuple(np.rint(p)) for p in found}) == len(found) or n == 20


def test_an_outline_is_given_as_what_the_model_gains_by():
    whole = told(
        Prompts.of(polygon=OUTLINE), outline=frozenset({"box", "mask", "point"})
    )
    assert whole.box == (8, 8, 40, 40)
    assert whole.mask_input is not None and whole.mask_input[6, 6] > 0
    [(y, x)] = whole.points
    assert 20 <= y <= 28 and 20 <= x <= 28
    only = told(Prompts.of(polygon=OUTLINE), outline=frozenset({"mask"}))
    assert only.box is None and not len(only.points)


@pytest.mark.parametrize(
    "said",
    [
        pytest.param({"polygon": OUTLINE}, id="outline"),
        pytest.param({"scribbles": LINE}, id="stroke"),
        pytest.param({"box": (8, 8, 40, 40), "points": [(20, 20)]}, id="box and point"),
    ],
)
def test_a_model_of_boxes_alone_gets_a_box_and_nothing_else(said):
    given = told(Prompts.of(**said), kinds=frozenset({"box"}), outline=frozenset())
    assert given.box is not None
    assert given.mask_input is None and not len(given.points)
