"""The public test tools hold what they promise."""

from __future__ import annotations

import inspect
from dataclasses import replace

import numpy as np
import pytest

from napari_sam.core.masks import mask_iou
from napari_sam.core.prompts import WindowPrompts
from napari_sam.errors import ModelError, PromptError
from napari_sam.testing import ModelContract, ToyModel, phantom_image, phantom_volume
from napari_sam.testing.contracts import click


class TestToyModel(ModelContract):
    min_iou = 0.99

    def make_model(self):
        return ToyModel(96)


class TestToyModelAtHalfResolution(ModelContract):
    min_iou = 0.9

    def make_model(self):
        return ToyModel(128, stride=2, dtype="float16")


def rgb(image):
    return np.repeat(image[..., None], 3, 2)


def encode(model, image):
    return model.encode(rgb(image)[None])[0]


def best(model, image, prompts):
    return model.decode(encode(model, image), prompts)[0].full(image.shape)


@pytest.mark.parametrize(("dy", "dx"), [(0, 0), (7, 3), (20, 31), (40, 40)])
def test_toy_mask_does_not_depend_on_where_the_window_lies(dy, dx):
    phantom = phantom_image((160, 160), n_objects=9, noise=4)
    model, whole = ToyModel(120), ToyModel(160)
    y, x = phantom.center(5)
    window = np.s_[dy : dy + 120, dx : dx + 120]
    found = model.decode(encode(model, phantom.image[window]), click((y - dy, x - dx)))
    expected = whole.decode(encode(whole, phantom.image), click((y, x)))
    for candidate, reference in zip(found, expected, strict=True):
        assert candidate.moved(dy, dx).bbox == reference.bbox
        np.testing.assert_array_equal(candidate.mask, reference.mask)
        assert candidate.predicted_iou == reference.predicted_iou
    assert mask_iou(expected[0].full((160, 160)), phantom.labels == 5) == 1


def test_toy_candidates_are_nested():
    ramp = np.tile(np.arange(0, 200, 2, dtype=np.uint8), (20, 1))
    model = ToyModel(100)
    found = model.decode(encode(model, ramp), click((10, 50)))
    small, middle, large = sorted(
        (c.full(ramp.shape) for c in found), key=np.count_nonzero
    )
    assert small.sum() < middle.sum() < large.sum()
    assert not (small & ~middle).any()
    assert not (middle & ~large).any()


def test_toy_negative_point_takes_away_its_side_and_nothing_elsewhere():
    image = np.full((40, 60), 20, np.uint8)
    image[10:30, 10:50] = 200
    model = ToyModel(64)
    whole = best(model, image, click((20, 15)))
    cut = best(model, image, click((20, 15), (20, 44), labels=[1, 0]))
    outside = best(model, image, click((20, 15), (5, 44), labels=[1, 0]))
    assert whole.sum() == 800
    assert cut[20, 15]
    assert not cut[20, 44]
    assert 0 < cut.sum() < whole.sum()
    np.testing.assert_array_equal(outside, whole)


def test_toy_box_bounds_the_mask():
    image = np.full((40, 60), 20, np.uint8)
    image[10:30, 10:50] = 200
    found = best(ToyModel(64), image, WindowPrompts(box=(5.0, 5.0, 35.0, 30.0)))
    expected = np.zeros_like(image, bool)
    expected[10:30, 10:30] = True
    np.testing.assert_array_equal(found, expected)


def test_toy_mask_input_finds_its_object_again():
    phantom = phantom_image((96, 96), n_objects=4)
    model = ToyModel(96)
    embedding = encode(model, phantom.image)
    first = model.decode(embedding, click(phantom.center(2)))[0]
    alone = WindowPrompts(mask_input=first.low_res_logits, multimask_output=False)
    [again] = model.decode(embedding, alone)
    assert mask_iou(again.full((96, 96)), phantom.labels == 2) == 1


def test_toy_low_res_logits_agree_with_the_mask():
    phantom = phantom_image((96, 64), n_objects=2)
    model = ToyModel(96, mask_side=96)
    [candidate, *_] = model.decode(
        encode(model, phantom.image), click(phantom.center(1))
    )
    inside = candidate.low_res_logits[:, :64] > 0
    np.testing.assert_array_equal(inside, candidate.full((96, 64)))
    assert (candidate.low_res_logits[:, 64:] < 0).all()


def test_toy_points_outside_the_window_say_nothing():
    image = np.full((32, 32), 20, np.uint8)
    found = ToyModel(32).decode(encode(ToyModel(32), image), click((40, 5)))
    assert all(c.bbox == (0, 0, 0, 0) and c.mask.shape == (0, 0) for c in found)


def test_toy_refuses_no_prompt_and_large_windows():
    model = ToyModel(32)
    with pytest.raises(PromptError, match="nothing is prompted"):
        model.decode(encode(model, np.zeros((8, 8), np.uint8)), WindowPrompts())
    with pytest.raises(ModelError, match=r"1\.\.32"):
        encode(model, np.zeros((33, 8), np.uint8))
    with pytest.raises(ModelError, match="stride"):
        ToyModel(33, stride=2)


def test_toy_counts_its_work():
    model = ToyModel(32)
    embedding = model.encode(np.zeros((3, 8, 8, 3), np.uint8))[0]
    model.decode_many(embedding, [click((1, 1))] * 2)
    assert (model.n_encode_calls, model.n_encoded, model.n_decoded) == (1, 3, 2)


class WorstFirst(ToyModel):
    def decode(self, embedding, prompts):
        return super().decode(embedding, prompts)[::-1]


class Loose(ToyModel):
    def decode(self, embedding, prompts):
        shape = embedding.original_size
        found = super().decode(embedding, prompts)
        return [replace(c, bbox=(0, 0, *shape), mask=c.full(shape)) for c in found]


class Forgetful(ToyModel):
    def decode_many(self, embedding, prompts):
        return [self.decode(embedding, prompts[0]) for _ in prompts]


class Huge(ToyModel):
    def encode(self, batch):
        found = super().encode(batch)
        return [
            replace(e, features={"colors": e.features["colors"] * 1e6}) for e in found
        ]


class Careless(ToyModel):
    def encode(self, batch):
        return super().encode(batch.astype(np.uint8))


@pytest.mark.parametrize(
    ("make", "test"),
    [
        (WorstFirst, "test_lone_click_gives_alternatives_best_first"),
        (Loose, "test_candidates_are_tight_crops_inside_the_window"),
        (Forgetful, "test_decode_many_equals_decode"),
        (Huge, "test_features_fit_float16"),
        (Careless, "test_encode_refuses_what_is_not_uint8_rgb"),
    ],
)
def test_contract_catches_models_that_break_it(make, test):
    model, phantom = make(64), phantom_image((64, 64), n_objects=4)
    subjects = {
        "model": model,
        "phantom": phantom,
        "embedding": encode(model, phantom.image),
    }
    check = getattr(ModelContract(), test)
    wanted = inspect.signature(check).parameters
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check(**{name: subjects[name] for name in wanted})


def test_toys_of_different_features_have_different_checksums():
    sums = {
        ToyModel(64).spec.sha256,
        ToyModel(64, stride=2).spec.sha256,
        ToyModel(64, dtype="float16").spec.sha256,
    }
    assert len(sums) == 3


@pytest.mark.parametrize("make", [phantom_image, phantom_volume])
def test_phantoms_are_reproducible_and_complete(make):
    a, b, other = make(), make(), make(seed=1)
    np.testing.assert_array_equal(a.image, b.image)
    assert not np.array_equal(a.image, other.image)
    assert set(np.unique(a.labels)) == set(range(a.n_objects + 1))
    for object_id in range(1, a.n_objects + 1):
        assert a.labels[a.center(object_id)] == object_id
        box = a.box(object_id)
        half = len(box) // 2
        inside = tuple(
            slice(*span) for span in zip(box[:half], box[half:], strict=True)
        )
        held = np.count_nonzero(a.labels[inside] == object_id)
        assert held == np.count_nonzero(a.labels == object_id)
        assert a.image[a.labels == object_id].min() > a.image[a.labels == 0].max()


def test_volume_objects_cover_the_middle_plane():
    phantom = phantom_volume((9, 64, 64), n_objects=4)
    assert set(np.unique(phantom.labels[4])) == {0, 1, 2, 3, 4}


def test_torch_runs_on_one_thread_here():
    torch = pytest.importorskip("torch")
    assert torch.get_num_threads() == 1
