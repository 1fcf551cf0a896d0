from __future__ import annotations

import json
import threading
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from scipy import ndimage
from skimage.draw import disk

from napari_sam.core.intensity import IntensityMapping
from napari_sam.core.masks import (
    MaskCandidate,
    crop_mask,
    deepest_point,
    mask_iou,
)
from napari_sam.core.prompts import Prompts
from napari_sam.engine.engine import Engine
from napari_sam.engine.predict import predict
from napari_sam.engine.refine import refine
from napari_sam.errors import Cancelled, NapariSamError, PromptError, VolumeError
from napari_sam.models.protocol import ModelSpec
from napari_sam.testing import ToyModel, phantom_image, phantom_volume
from napari_sam.training.clicks import (
    ellipse_in,
    next_click,
    same_frame,
)
from napari_sam.training.datasets import read_labelled
from napari_sam.training.evaluate import evaluate
from napari_sam.training.labelled import LabelledVolume
from napari_sam.training.scores import Evaluation, ObjectScore
from napari_sam.training.variants import vary
from napari_sam.volume.opening import open_volume

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)
"""pycocotools' own arrays, when they are decoded here for comparison."""


class _Counting(ToyModel):
    """Counts what it encodes and keeps what it is asked."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.encoded = 0
        self.asked: list[Any] = []

    def encode(self, batch: np.ndarray) -> Any:
        self.encoded += len(batch)
        return super().encode(batch)

    def decode(self, embedding: Any, prompts: Any) -> list[MaskCandidate]:
        self.asked.append(prompts)
        return super().decode(embedding, prompts)


class _Worsened(_Counting):
    """Ranks first what is shifted by `shift` pixels; the true mask comes second."""

    shift = 4

    def decode(self, embedding: Any, prompts: Any) -> list[MaskCandidate]:
        true = super().decode(embedding, prompts)[0]
        moved = replace(true.moved(0, self.shift), predicted_iou=1.0)
        return [moved, replace(true, predicted_iou=0.5)]


def _blobs(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.asarray(ndimage.gaussian_filter(rng.normal(size=(40, 56)), 3) > 0.02)


@pytest.mark.parametrize("seed", range(5))
def test_inscribed_circle_is_the_deepest_point_of_the_distance_transform(
    seed: int,
) -> None:
    region = _blobs(seed)
    (y, x), radius = deepest_point(region)
    depth = ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
    assert radius == depth.max() == depth[int(y), int(x)]
    rr, cc = disk((y, x), radius - 1e-6)  # pixels nearer than the radius
    assert region[rr, cc].all()


@pytest.mark.parametrize("seed", range(5))
def test_cropped_iou_is_the_iou_of_pycocotools(seed: int) -> None:
    from pycocotools import mask as coco

    a, b = _blobs(seed), _blobs(seed + 50)
    a[:, :9], b[-7:] = False, False
    _, left, right = same_frame(crop_mask(a), crop_mask(b))
    packed = [coco.encode(np.asfortranarray(m, np.uint8)) for m in (a, b)]
    expected = float(coco.iou(packed[:1], packed[1:], [0])[0, 0])
    assert mask_iou(left, right) == pytest.approx(expected, abs=1e-12)


def test_iou_with_an_empty_mask_is_zero() -> None:
    empty = (0, 0, 0, 0), np.zeros((0, 0), bool)
    origin, a, b = same_frame(((3, 4, 5, 6), np.ones((2, 2), bool)), empty)
    assert origin == (3, 4)
    assert mask_iou(a, b) == 0


@pytest.mark.parametrize("seed", range(5))
def test_next_click_lies_in_the_error_and_has_its_sign(seed: int) -> None:
    truth, mask = _blobs(seed), _blobs(seed + 90)
    (y, x), sign = next_click(truth, mask)
    error = truth & ~mask if sign else mask & ~truth
    other = mask & ~truth if sign else truth & ~mask
    assert error[int(y), int(x)]
    assert deepest_point(error)[1] >= deepest_point(other)[1]


def test_next_click_goes_to_the_deeper_error_and_into_the_object_without_one() -> None:
    truth = np.zeros((40, 40), bool)
    truth[5:16, 5:16] = True
    assert next_click(truth, np.zeros_like(truth)) == ((10.0, 10.0), 1)
    mask = truth.copy()
    mask[20:39, 20:39] = True
    assert next_click(truth, mask) == ((29.0, 29.0), 0)
    assert next_click(truth, truth) == ((10.0, 10.0), 1)


def test_inscribed_ellipse_touches_the_sides_of_its_box() -> None:
    mask = ellipse_in((10, 20, 30, 60), (64, 64))
    ys, xs = np.nonzero(mask)
    assert (ys.min(), xs.min(), ys.max(), xs.max()) == (10, 20, 29, 59)
    assert mask.sum() == pytest.approx(np.pi / 4 * 20 * 40, rel=0.02)


def test_a_perfect_model_scores_one_and_baselines_are_those_of_the_shape() -> None:
    cells = phantom_image((96, 128), n_objects=4)
    found = evaluate(ToyModel(), cells.image, cells.labels, clicks=3)
    assert len(found.scores) == cells.n_objects
    assert found.mean["click1"] == found.mean["click3"] == found.mean["box"] == 1
    assert found.mean["noc90"] == 1
    for score in found.scores:
        truth = cells.labels == score.object_id
        y0, x0, y1, x1 = cells.box(score.object_id)
        box = np.zeros_like(truth)
        box[y0:y1, x0:x1] = True
        assert score.rectangle == mask_iou(box, truth)
        assert score.ellipse == mask_iou(ellipse_in((y0, x0, y1, x1), box.shape), truth)
        assert score.area == truth.sum()


def test_answers_are_those_of_the_engine_click_after_click() -> None:
    cells = phantom_image((200, 260), n_objects=3, noise=12)
    model = ToyModel(input_side=64)  # windows are chosen and masks refined
    found = evaluate(model, cells.image, cells.labels, clicks=3)
    engine = Engine.of(open_volume(cells.image), model)
    for score in found.scores:
        truth = cells.labels == score.object_id
        (plane,) = {p for p, _ in read_labelled(cells.image, cells.labels)[0].planes()}
        points, signs, answer = [], [], None
        mask = np.zeros_like(truth)
        for n in range(3):
            if (mask == truth).all():
                assert score.click[n] == 1
                continue
            point, sign = next_click(truth, mask)
            points, signs = [*points, point], [*signs, sign]
            prompts = Prompts.of(points=points, point_labels=signs)
            answer = predict(engine, prompts, plane, previous=answer)
            *_, answer = (answer, *refine(engine, answer, plane))
            mask = answer.chosen.full(truth.shape)
            assert score.click[n] == mask_iou(mask, truth)
        boxed = predict(engine, Prompts.of(box=cells.box(score.object_id)), plane)
        *_, boxed = (boxed, *refine(engine, boxed, plane))
        assert score.box == mask_iou(boxed.chosen.full(truth.shape), truth)


def test_ranked_first_and_best_are_told_apart() -> None:
    cells = phantom_image((96, 128), n_objects=2)
    found = evaluate(_Worsened(), cells.image, cells.labels, clicks=2)
    assert found.mean["click1_best"] == found.mean["box_best"] == 1
    truth = cells.labels == 1
    moved = np.roll(truth, _Worsened.shift, 1)
    (first,) = (s for s in found.scores if s.object_id == 1)
    assert first.click[0] == first.box == mask_iou(truth, moved)


def test_corrections_are_in_the_mask_ranked_first() -> None:
    cells = phantom_image((96, 128), n_objects=1)
    model = _Worsened()
    evaluate(model, cells.image, cells.labels, prompts="point", clicks=2)
    truth = cells.labels == 1
    expected = next_click(truth, np.roll(truth, _Worsened.shift, 1))
    last = model.asked[-1]
    assert (tuple(last.points[-1]), last.point_labels[-1]) == expected
    assert last.mask_input is not None


def test_clicks_to_an_iou_are_counted_and_not_reached_is_one_more() -> None:
    score = ObjectScore(
        "v", "", 0, (), 1, 30, (0.5, 0.82, 0.7, 0.9), (0.5,) * 4, None, None, 0.7, 0.6
    )
    assert [score.clicks_to(g) for g in (0.4, 0.8, 0.85, 0.95)] == [1, 2, 4, 5]
    assert score.columns()["noc90"] == 4


def test_each_plane_is_encoded_once_for_all_objects_and_prompts() -> None:
    phantom = phantom_volume((8, 64, 96), n_objects=3)
    model = _Counting(input_side=128)
    evaluate(model, phantom.image, phantom.labels, clicks=3)
    planes = np.flatnonzero(phantom.labels.any((1, 2)))
    big = [z for z in planes if np.bincount(phantom.labels[z].ravel())[1:].max() >= 20]
    assert model.encoded == len(big)


def test_objects_are_asked_tile_by_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.zeros((480, 480), np.uint8)
    corners = [(y, x) for y in range(8, 480, 48) for x in range(8, 480, 48)]
    order = np.random.default_rng(0).permutation(len(corners))
    for number, i in enumerate(order, 1):
        y, x = corners[i]
        labels[y : y + 16, x : x + 16] = number
    image = ((labels > 0) * 200).astype(np.uint8)

    def encoded(**options: Any) -> int:
        model = _Counting(input_side=128)
        monkeypatch.setattr(Engine, "of", partial(Engine.of, **options))
        evaluate(model, image, labels, prompts="box")
        return model.encoded

    # Memory for one tile at a time is nearly enough.
    assert encoded(cache_bytes=1) <= 1.5 * encoded()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_volumes_are_scored_on_any_axis(axis: int) -> None:
    phantom = phantom_volume((16, 40, 48), n_objects=2)
    found = evaluate(ToyModel(), phantom.image, phantom.labels, axis=axis, clicks=1)
    moved = np.moveaxis(phantom.labels, axis, 0)
    expected = {
        (i, int(k))
        for i, p in enumerate(moved)
        for k in np.unique(p[p > 0])
        if (p == k).sum() >= 20
    }
    assert {(s.plane[-1], s.object_id) for s in found.scores} == expected
    assert {s.axis for s in found.scores} == {axis}
    # Many objects of a plane may be joined by the noise between them; most are not.
    assert found.mean["box"] > 0.8


def test_same_seed_same_objects_and_figures_and_another_seed_others() -> None:
    cells = phantom_image((128, 128), n_objects=16)

    def ask(seed: int) -> Evaluation:
        return evaluate(
            ToyModel(), cells.image, cells.labels, clicks=1, max_objects=4, seed=seed
        )

    assert ask(0).to_json() == ask(0).to_json()
    ids = [{s.object_id for s in ask(seed).scores} for seed in range(4)]
    assert all(len(one) == 4 for one in ids)
    assert len({frozenset(one) for one in ids}) > 1


def test_small_objects_are_left_out() -> None:
    labels = np.zeros((64, 64), np.uint8)
    labels[5:25, 5:25], labels[40:44, 40:44] = 1, 2
    image = labels * 100
    found = evaluate(ToyModel(), image, labels, clicks=1)
    assert [s.object_id for s in found.scores] == [1]
    both = evaluate(ToyModel(), image, labels, clicks=1, min_area=16)
    assert [s.object_id for s in both.scores] == [1, 2]


def test_progress_counts_every_object_of_every_variant() -> None:
    cells = phantom_image((64, 96), n_objects=2)
    seen: list[tuple[int, int]] = []
    evaluate(
        ToyModel(), cells.image, cells.labels, clicks=1, variants=["inverted"],
        progress=lambda *step: seen.append(step),
    )  # fmt: skip
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("after", [0, 5])
def test_cancel_stops_it(after: int) -> None:
    cells = phantom_image((64, 96), n_objects=2)
    model, stop = _Worsened(), threading.Event()
    if not after:
        stop.set()
        given: Any = stop
    else:
        given = lambda: len(model.asked) >= after  # noqa: E731
    with pytest.raises(Cancelled):
        evaluate(model, cells.image, cells.labels, clicks=8, cancel=given)
    assert len(model.asked) <= after


def _rows(**columns: float) -> ObjectScore:
    values: dict[str, Any] = {
        "volume": "v", "group": "", "axis": 0, "plane": (), "object_id": 1,
        "area": 30, "click": (0.5,), "click_best": (0.6,), "box": 0.7,
        "box_best": 0.7, "ellipse": 0.7, "rectangle": 0.6,
    }  # fmt: skip
    return ObjectScore(**values | columns)


def test_mean_is_over_data_sets_and_rows_are_data_sets() -> None:
    scores = (
        _rows(group="a", box=0.2),
        _rows(group="a", box=0.4),
        _rows(group="b", box=0.9),
    )
    found = Evaluation(scores)
    assert found.rows["a"]["box"] == pytest.approx(0.3)
    assert found.mean["box"] == pytest.approx(0.6)
    assert found.mean["objects"] == 3
    assert "| **mean** | 3 |" in found.table()


def test_without_data_sets_rows_are_volumes_and_the_mean_is_over_objects() -> None:
    scores = (_rows(box=0.2), _rows(box=0.4), _rows(volume="w", box=0.9))
    found = Evaluation(scores)
    assert set(found.rows) == {"v", "w"}
    assert found.mean["box"] == pytest.approx(0.5)


def test_json_holds_every_object_and_what_was_asked() -> None:
    cells = phantom_image((64, 96), n_objects=2)
    found = evaluate(
        ToyModel(), cells.image, cells.labels, clicks=2, variants=("16bit",), seed=3
    )
    value = json.loads(found.to_json())
    assert value["seed"] == 3
    assert value["clicks"] == 2
    assert value["model"] == ToyModel().spec.name
    assert [o["object_id"] for o in value["objects"]] == [1, 2]
    assert [o["object_id"] for o in value["variants"]["16bit"]] == [1, 2]
    assert value["mean"]["box"] == found.mean["box"]


def test_variants_show_the_model_another_image() -> None:
    labels = np.zeros((64, 64), np.uint8)
    labels[20:40, 20:40] = 1
    image = labels * 200 + 30
    volume = open_volume(image).with_intensity((0.0, 255.0))
    shown = {
        name: volume.intensity if varied is None else varied.intensity
        for name in ("inverted", "half-contrast", "16bit")
        for varied in [vary(volume, name)]
    }
    assert shown["half-contrast"].windows == ((0.0, 255.0),)
    assert shown["16bit"].windows == ((0.0, 255.0 * 257),)
    pixels = {
        name: varied.intensity.apply(varied.plane())[..., 0]
        for name in shown
        if (varied := vary(volume, name)) is not None
    }
    assert np.array_equal(pixels["inverted"], 255 - image)
    assert np.array_equal(pixels["16bit"], image)
    half = pixels["half-contrast"].astype(float)
    assert np.ptp(half) == np.ptp(image) / 2
    assert half.mean() == pytest.approx((image.mean() + 127.5) / 2, abs=1)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "bool"])
@pytest.mark.parametrize("variant", ["inverted", "half-contrast"])
def test_values_of_every_type_keep_their_order_or_turn_it(
    dtype: str, variant: str
) -> None:
    rng = np.random.default_rng(0)
    image = (rng.random((32, 32)) * 100).astype(dtype)
    if dtype == "bool":
        image[:16] = False
    varied = vary(open_volume(image), variant)
    assert varied is not None
    out = varied.plane()
    assert out.dtype == image.dtype
    order = np.sign(np.corrcoef(image.ravel().astype(float), out.ravel())[0, 1])
    assert order == (-1 if variant == "inverted" else 1)
    # Shown as it would come, an inverted image is the inverted picture.
    before = open_volume(image).intensity.apply(image)[..., 0].astype(int)
    after = varied.intensity.apply(out)[..., 0].astype(int)
    if variant == "inverted":
        after = 255 - after
    assert np.abs(before - after).max() <= 6


def test_a_window_of_a_format_follows_inverted_values() -> None:
    ct = np.linspace(-1000, 1000, 64, dtype=np.int16).reshape(8, 8)
    mapping = IntensityMapping.grey(-160, 240)
    volume = replace(open_volume(ct), mapping=mapping)
    varied = vary(volume, "inverted")
    assert varied is not None
    shown = varied.intensity.apply(varied.plane()).astype(int)
    assert np.abs(shown - (255 - mapping.apply(ct).astype(int))).max() <= 1


def test_variants_report_differences_of_the_same_objects() -> None:
    cells = phantom_image((64, 96), n_objects=2)
    wide = cells.image.astype(np.uint16) * 3
    found = evaluate(
        ToyModel(), [cells.image, wide], [cells.labels] * 2, clicks=1,
        variants=("16bit", "inverted"),
    )  # fmt: skip
    assert found.changes["16bit"]["objects"] == 2  # the other one has 16 bits already
    assert found.changes["inverted"]["objects"] == 4
    assert found.changes["16bit"]["click1"] == 0
    assert "| 16bit | 2 | +0.000 |" in found.table()


def test_variant_that_hurts_is_told() -> None:
    plain = (_rows(box=0.8), _rows(object_id=2, box=0.6))
    worse = (_rows(object_id=2, box=0.5),)
    found = Evaluation(plain, variants={"inverted": worse})
    assert found.changes["inverted"]["box"] == pytest.approx(-0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"prompts": "point,text"}, "point, box; got 'text'", id="prompt"),
        pytest.param({"prompts": ()}, "got none", id="no-prompt"),
        pytest.param({"variants": ["blurred"]}, "got 'blurred'", id="variant"),
        pytest.param({"clicks": 0}, "clicks must be 1 or more", id="clicks"),
        pytest.param({"max_objects": 0}, "max_objects must be", id="objects"),
    ],
)
def test_what_cannot_be_asked_is_refused(options: Any, message: str) -> None:
    cells = phantom_image((64, 96), n_objects=2)
    with pytest.raises(PromptError, match=message):
        evaluate(ToyModel(), cells.image, cells.labels, **options)


def test_images_without_objects_are_refused() -> None:
    with pytest.raises(VolumeError, match="no object of 20 pixels or more in 1 image"):
        evaluate(ToyModel(), np.zeros((32, 32), np.uint8), np.zeros((32, 32), np.uint8))


def test_prompts_that_the_model_does_not_take_are_refused() -> None:
    class _Boxes(ToyModel):
        @property
        def spec(self) -> ModelSpec:
            return replace(super().spec, prompts=frozenset({"box"}))

    model = _Boxes()
    cells = phantom_image((64, 96), n_objects=2)
    with pytest.raises(PromptError, match="takes no point prompts"):
        evaluate(model, cells.image, cells.labels)
    found = evaluate(model, cells.image, cells.labels, prompts="box")
    assert "click1" not in found.mean
    assert "noc80" not in found.table()


def test_errors_are_of_one_tree() -> None:
    for error in (PromptError, VolumeError, Cancelled):
        assert issubclass(error, NapariSamError)


def test_labelled_volumes_are_taken_as_they_are() -> None:
    cells = phantom_image((64, 96), n_objects=2)
    one = LabelledVolume("cells", open_volume(cells.image), cells.labels, group="mine")
    found = evaluate(ToyModel(), [one], clicks=1)
    assert {(s.volume, s.group) for s in found.scores} == {("cells", "mine")}
