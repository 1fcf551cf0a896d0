"""A lone click is asked at other scales, and gets the same object at each."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_sam import load_model
from napari_sam.core.masks import MaskCandidate, mask_iou
from napari_sam.core.planes import Plane
from napari_sam.core.prompts import Prompts
from napari_sam.core.scales import ScaleRule
from napari_sam.core.tiles import Window
from napari_sam.engine.engine import Engine
from napari_sam.engine.look_again import look_again
from napari_sam.engine.predict import iter_predict, predict
from napari_sam.engine.refine import refine
from napari_sam.errors import Cancelled
from napari_sam.session.session import Session
from napari_sam.testing import ToyModel
from napari_sam.volume.opening import open_volume

PLANE = Plane(())


def disc(size: int, diameter: float) -> np.ndarray:
    y, x = np.ogrid[:size, :size]
    middle = (size - 1) / 2
    return np.hypot(y - middle, x - middle) < diameter / 2


def noisy(mask: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 6, mask.shape)
    return np.clip(80 + 75 * mask + noise, 0, 255).astype(np.uint8)


def middle_click(size: int) -> Prompts:
    return Prompts.of(points=[(size // 2, size // 2)])


class ShortSighted(ToyModel):
    """Sure of itself only where an object spans an eighth to a half of its frame."""

    def decode(self, embedding, prompts):
        found = super().decode(embedding, prompts)
        if prompts.mask_input is not None:
            return found
        return [replace(c, predicted_iou=self.sureness(c)) for c in found]

    def sureness(self, candidate: MaskCandidate) -> float:
        y0, x0, y1, x1 = candidate.bbox
        span = max(y1 - y0, x1 - x0) / self.spec.input_side
        return 0.95 if 1 / 8 <= span <= 0.5 else 0.2


@pytest.fixture(scope="module")
def nano():
    return load_model("nano", device="cpu")


@pytest.mark.parametrize(
    ("size", "diameter"), [(512, 40), (512, 280), (512, 420), (1200, 800)]
)
def test_nano_gets_a_disc_of_any_size_from_one_click(nano, size, diameter):
    truth = disc(size, diameter)
    engine = Engine.of(open_volume(noisy(truth)), nano)
    found = predict(engine, middle_click(size), PLANE)
    assert mask_iou(found.chosen.full(truth.shape), truth) > 0.9


@pytest.mark.parametrize("factor", [0.25, 0.5, 1, 2, 4])
def test_the_level_that_is_taken_follows_the_size_of_the_object(factor):
    size = 1024
    truth = disc(size, 40 * factor)
    engine = Engine.of(open_volume(np.where(truth, 200, 40).astype(np.uint8)),
                       ShortSighted(128))  # fmt: skip
    *_, found = iter_predict(engine, middle_click(size), PLANE)
    seen = 40 * factor / 2**found.window.level / 128
    assert 1 / 8 <= seen <= 0.5
    # Of small objects the toy leaves out the rim that interpolation blurs.
    assert mask_iou(found.chosen.full(truth.shape), truth) > 0.84


def test_a_good_answer_is_not_asked_again():
    model = ToyModel(128)
    engine = Engine.of(open_volume(np.where(disc(100, 30), 200, 40)), model)
    answers = list(iter_predict(engine, middle_click(100), PLANE))
    assert len(answers) == 1 and answers[0].settled
    assert model.n_decoded == 1


def test_the_first_answer_comes_before_the_better_one_and_both_are_one_step():
    truth = disc(1024, 10)
    image = np.where(truth, 200, 40).astype(np.uint8)
    session = Session(image, ShortSighted(128), embeddings=False)
    request = session.set_prompts(1, PLANE, middle_click(1024))
    results = []
    for result in session.iter_run(request):
        session.accept(result)
        results.append(result.prediction)
    assert not results[0].settled and results[0].window.level == 0
    assert results[-1].settled and results[-1].window.level < 0
    assert session.undo() and not np.any(session.labels) and not session.can_undo


def test_clicks_one_at_a_time_and_at_once_give_the_same_mask_after_another_look():
    size = 700
    image = np.where(disc(size, 300), 200, 40).astype(np.uint8)
    points = [(350, 350), (350, 420)]
    engine = Engine.of(open_volume(image), ShortSighted(128))
    first = next(iter_predict(engine, Prompts.of(points=points[:1]), PLANE))
    one = predict(engine, Prompts.of(points=points), PLANE, previous=first)
    other = predict(engine, Prompts.of(points=points), PLANE)
    assert one.window == other.window
    assert np.array_equal(one.chosen.mask, other.chosen.mask)


def test_a_click_that_only_the_other_scale_contradicts_goes_back_to_the_first():
    size = 700
    halo = disc(size, 300)
    image = np.where(halo, 178, 40).astype(np.uint8)
    image[disc(size, 12)] = 230  # found first, too small to be sure of
    engine = Engine.of(open_volume(image), ShortSighted(128))
    points = [(350, 350), (350, 420)]
    first, *_, better = iter_predict(engine, Prompts.of(points=points[:1]), PLANE)
    assert better.window.level != first.window.level and better.first is not None
    wrong, right = np.zeros((2, size, size), bool)
    wrong[300:400, 300:500] = right[340:360, 340:360] = True
    told = replace(
        better.with_chosen(_drawn(better, wrong)),
        first=first.with_chosen(_drawn(first, right)),
    )
    minus = Prompts.of(points=points, point_labels=[1, 0])
    plus = Prompts.of(points=points)
    assert told.fitting(minus) is told.first
    assert told.fitting(plus) is told
    assert better.choose(1).first is None


def _drawn(prediction, mask):
    y0, x0, y1, x1 = 0, 0, *mask.shape
    seen = replace(prediction.chosen.seen, bbox=(y0, x0, y1, x1), mask=mask)
    return replace(prediction.chosen, seen=seen, window=Window(0, 0, 0, *mask.shape))


def test_other_scales_are_not_asked_for_boxes_or_several_clicks():
    model = ShortSighted(128)
    engine = Engine.of(open_volume(np.where(disc(400, 20), 200, 40)), model)
    for prompts in (
        Prompts.of(box=(188, 188, 212, 212)),
        Prompts.of(points=[(200, 200), (210, 230)], point_labels=[1, 0], box=(180,) * 2
                   + (220,) * 2),
    ):  # fmt: skip
        assert len(list(iter_predict(engine, prompts, PLANE))) == 1


def test_looking_again_stops_when_asked():
    engine = Engine.of(open_volume(np.where(disc(400, 8), 200, 40)), ShortSighted(128))
    first = next(iter_predict(engine, middle_click(400), PLANE))
    with pytest.raises(Cancelled):
        look_again(engine, first, PLANE, cancel=lambda: True)


def test_a_model_that_enlarges_images_is_not_shown_the_same_twice():
    class Enlarging(ShortSighted):
        @property
        def spec(self):
            return replace(super().spec, enlarges=True)

    sizes = []

    class Counting(Enlarging):
        def encode(self, batch):
            sizes.append(batch.shape[1:3])
            return super().encode(batch)

    engine = Engine.of(open_volume(np.where(disc(100, 90), 200, 40)), Counting(128))
    answers = list(iter_predict(engine, middle_click(100), PLANE))
    assert len(answers) == 2
    assert sizes.count((100, 100)) == 1
    assert min(min(size) for size in sizes) == 100  # nothing coarser


def test_a_mask_that_fills_a_small_image_is_worth_less():
    rule = ScaleRule(filling_malus=0.4)
    logits = np.zeros((4, 4), np.float32)
    full = MaskCandidate((0, 0, 64, 64), np.ones((64, 64), bool), 0.9, 1.0, logits)
    assert rule.worth(full, (64, 64), 512) == pytest.approx(0.9 - 0.4 * (1 - 64 / 512))
    assert rule.worth(full, (512, 512), 512) == pytest.approx(0.9)
    assert rule.score(0.5, [0.2, 0.4], 2) == pytest.approx(0.5 + 0.4 * 0.3 - 0.1)


def test_sharpening_a_large_mask_decodes_few_tiles_and_stops_when_asked():
    size = 1600
    truth = disc(size, 1400)
    model = ToyModel(64)
    engine = Engine.of(open_volume(np.where(truth, 200, 40).astype(np.uint8)), model)
    found = predict(engine, Prompts.of(box=(98, 98, 1502, 1502)), PLANE)
    before = model.n_decoded
    levels = [s.window.level for s in (p.chosen for p in refine(engine, found, PLANE))]
    assert levels == [3, 1, 0]
    outline_tiles = np.pi * 1400 / 48  # of level 0, at the very least
    assert model.n_decoded - before < 2 * outline_tiles
    with pytest.raises(Cancelled):
        next(refine(engine, found, PLANE, cancel=lambda: True))
