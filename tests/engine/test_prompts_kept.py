"""What a model is told is what was said: prompts are never moved, cut or dropped."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sam.core.mask_prompt import MaskPrompt
from napari_sam.core.planes import Plane
from napari_sam.core.prompts import Prompts
from napari_sam.engine import engine as decoding
from napari_sam.engine.engine import Engine
from napari_sam.engine.predict import predict
from napari_sam.errors import PromptError
from napari_sam.testing import ToyModel
from napari_sam.volume.opening import open_volume

PLANE = Plane(())
SHAPE = (400, 400)


def told(prompts: Prompts, image: np.ndarray) -> list[tuple[Prompts, object, object]]:
    """Predict, and return (said, window, told) of every look."""
    seen = []
    real = decoding.window_prompts

    def spy(said, frame, previous, shape, forms):
        given = real(said, frame, previous, shape, forms)
        seen.append((said, frame.window, given))
        return given

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "window_prompts", spy)
        predict(Engine.of(open_volume(image), ToyModel(96)), prompts, PLANE)
    return seen


@settings(max_examples=25, deadline=None)
@given(
    points=st.lists(
        st.tuples(st.floats(-0.5, 399.5), st.floats(-0.5, 399.5)),
        min_size=1,
        max_size=4,
    ),
    seed=st.integers(0, 5),
)
def test_every_point_is_told_where_it_was_said(points, seed):
    rng = np.random.default_rng(seed)
    image = np.zeros(SHAPE, np.uint8)
    for _ in range(4):
        y, x = rng.integers(0, 300, 2)
        image[y : y + 100, x : x + 60] = rng.integers(60, 255)
    labels = [1, *rng.integers(0, 2, len(points) - 1)]
    for said, window, got in told(
        Prompts.of(points=points, point_labels=labels), image
    ):
        back = np.stack(window.to_plane(*got.points.T), 1)
        assert back.shape == (said.n_clicks, 2)
        np.testing.assert_allclose(back, said.points, atol=1e-6)
        assert tuple(got.point_labels) == said.point_labels


def test_a_negative_click_beyond_a_grown_window_stays_where_it_is():
    image = np.zeros(SHAPE, np.uint8)
    image[190:210, 90:170] = 200
    said = Prompts.of(points=[(200, 20), (200, 100)], point_labels=[0, 1])
    for _, window, got in told(said, image):
        _, xs = window.to_plane(*got.points.T)
        np.testing.assert_allclose(sorted(xs), [20, 100])


@pytest.mark.parametrize(
    ("box", "cut"),
    [((10, 20, 60, 90), (10, 20, 60, 90)), ((-50, -9, 60, 500), (0, 0, 60, 400)),
     ((300, 300, 900, 900), (300, 300, 400, 400))],
)  # fmt: skip
def test_a_box_is_cut_by_the_image_alone(box, cut):
    image = np.zeros(SHAPE, np.uint8)
    image[20:50, 30:80] = 200
    for _, window, got in told(Prompts.of(box=box), image):
        np.testing.assert_allclose(window.box_to_plane(got.box), cut, atol=1e-6)


def test_a_polygon_partly_outside_is_cut_by_the_image():
    image = np.zeros(SHAPE, np.uint8)
    image[:80, :60] = 200
    polygon = [(-40, -30), (-40, 60), (80, 60), (80, -30)]
    engine = Engine.of(open_volume(image), ToyModel(96))
    found = predict(engine, Prompts.of(polygon=polygon), PLANE).chosen
    assert np.array_equal(found.full(SHAPE), image > 0)


@pytest.mark.parametrize(
    "prompts",
    [
        pytest.param(Prompts.of(points=[(5, 400)]), id="point"),
        pytest.param(Prompts.of(box=(0, 410, 9, 420)), id="box"),
        pytest.param(Prompts.of(polygon=[(-9, 1), (-5, 9), (-2, 1)]), id="polygon"),
        pytest.param(
            Prompts.of(mask=MaskPrompt((0, 395, 2, 405), np.ones((2, 10), bool))),
            id="mask crop",
        ),
        pytest.param(Prompts.of(mask=np.ones((10, 10), bool)), id="mask shape"),
    ],
)
def test_what_lies_outside_the_image_is_refused(prompts):
    engine = Engine.of(open_volume(np.zeros(SHAPE, np.uint8)), ToyModel(96))
    with pytest.raises(PromptError, match="400"):
        predict(engine, prompts, PLANE)


@pytest.mark.parametrize("mask", [np.ones((4, 4)), np.zeros((4, 4), bool), np.ones(4)])
def test_logits_and_empty_masks_are_no_mask_prompts(mask):
    with pytest.raises(PromptError, match="boolean"):
        Prompts.of(mask=mask)


def test_prompts_take_arrays_of_any_kind():
    said = Prompts.of(
        points=np.array([[1, 2]]), point_labels=np.array([True]),
        polygon=np.array([[0, 0], [0, 5], [5, 5]]), mask=np.eye(4, dtype=np.uint8),
    )  # fmt: skip
    assert said.points == ((1.0, 2.0),) and said.point_labels == (1,)
    assert len(said.polygon) == 3 and said.mask.shape == (4, 4)
    assert Prompts.of(points=np.zeros((0, 2))).is_empty


class Nothing:
    """A black image of 50 000 x 50 000 pixels that exists nowhere."""

    shape, dtype, chunks = (50_000, 50_000), np.dtype(np.uint8), (2048, 2048)
    ndim = 2

    def __getitem__(self, index):
        rows, cols = (range(n)[s] for n, s in zip(self.shape, index, strict=True))
        return np.zeros((len(rows), len(cols)), np.uint8)


def test_a_click_on_the_background_of_a_huge_image_costs_a_few_windows():
    import tracemalloc

    from napari_sam.session.session import Session

    session = Session(Nothing(), ToyModel(256), embeddings=False)
    tracemalloc.start()
    try:
        found = session.segment(points=[(25_000, 25_000)])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 300 * 2**20
    assert found[0].read((24_990, 24_990, 25_010, 25_010)).all()
