from __future__ import annotations

from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_sam.errors import VolumeError
from tools.nano.data import (
    HELD_OUT,
    CropSampler,
    LabelledImage,
    balanced_by_size,
    read_folder,
    split,
)
from tools.nano.procedural import procedural_images


def _blank(dataset: str, stem: str) -> LabelledImage:
    labels = np.zeros((40, 40), np.int32)
    labels[10:30, 10:30] = 1
    return LabelledImage(dataset, stem, (labels * 200).astype(np.uint8), labels)


def test_split_is_the_same_in_any_order_and_holds_whole_data_sets_out() -> None:
    images = [_blank("a", str(i)) for i in range(30)]
    images += [_blank("b", str(i)) for i in range(5)]
    images += [_blank(HELD_OUT[0], str(i)) for i in range(4)]
    one, other = split(images), split(images[::-1])
    for a, b in (
        (one.train, other.train),
        (one.kept_back, other.kept_back),
        (one.held_out, other.held_out),
    ):
        assert [(i.dataset, i.stem) for i in a] == [(i.dataset, i.stem) for i in b]
    assert {i.dataset for i in one.held_out} == {HELD_OUT[0]}
    assert [i.dataset for i in one.kept_back].count("a") == 4
    assert [i.dataset for i in one.kept_back].count("b") == 2
    assert not {id(i) for i in one.train} & {id(i) for i in one.kept_back}


def test_read_folder_reads_images_labels_and_kinds(tmp_path: Path) -> None:
    for part in ("images", "labels"):
        (tmp_path / "d" / part).mkdir(parents=True)
    pixels = np.zeros((32, 30, 3), np.uint8)
    labels = np.zeros((32, 30), np.uint8)
    labels[4:20, 5:25] = 3
    Image.fromarray(pixels).save(tmp_path / "d" / "images" / "x.png")
    Image.fromarray(labels).save(tmp_path / "d" / "labels" / "x.png")
    (tmp_path / "INDEX.csv").write_text("dataset,stem,label_kind\nd,x,binary-cc\n")
    (image,) = read_folder(tmp_path)
    assert image.image.shape == (32, 30)  # three equal channels are one
    assert image.label_kind == "binary-cc"
    assert image.objects.tolist() == [[3, 320, 4, 5, 20, 25]]


def test_missing_index_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match=r"INDEX\.csv"):
        read_folder(tmp_path)


def test_rare_sizes_are_drawn_more_often_than_their_number_says() -> None:
    weights = balanced_by_size(np.array([20] * 9 + [4000]))
    assert weights.sum() == pytest.approx(1)
    assert weights[-1] == pytest.approx(0.29, abs=0.01)


@pytest.mark.parametrize("side", [64, 192, 384])
def test_crops_hold_the_objects_they_promise(side: int) -> None:
    sampler = CropSampler(procedural_images(4), objects_per_crop=3)
    batch = sampler.batch([0, 1], n_crops=3, side=side)
    assert batch.images.shape == (3, 3, side, side)
    assert batch.masks.shape == (9, side // 2, side // 2)
    assert batch.image_of.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert batch.masks.any((1, 2)).all()
    assert 0 <= batch.images.min() <= batch.images.max() <= 255


def test_a_batch_is_a_function_of_its_seed() -> None:
    sampler = CropSampler(procedural_images(4))
    first = sampler.batch([3, 5], n_crops=2, side=64)
    sampler.batch([3, 6], n_crops=2, side=64)
    again = sampler.batch([3, 5], n_crops=2, side=64)
    for a, b in zip(astuple(first), astuple(again), strict=True):
        assert np.array_equal(a, b)


def test_labels_move_with_the_pixels() -> None:
    """The object is the bright part of the crop, whatever was done to both."""
    labels = np.zeros((300, 200), np.int32)
    labels[60:160, 40:120] = 1
    source = LabelledImage("d", "x", (labels * 180 + 30).astype(np.uint8), labels)
    sampler = CropSampler([source], objects_per_crop=1)
    for step in range(20):
        batch = sampler.batch([step], n_crops=1, side=96)
        grey = batch.images[0].mean(0).reshape(48, 2, 48, 2).mean((1, 3))
        mask = batch.masks[0]
        if mask.all():
            continue
        inside = (grey > np.median([grey[mask].mean(), grey[~mask].mean()])) == (
            grey[mask].mean() > grey[~mask].mean()
        )
        assert (inside == mask).mean() > 0.8


def test_procedural_images_repeat_and_have_connected_objects() -> None:
    one, two = procedural_images(3), procedural_images(3)
    for a, b in zip(one, two, strict=True):
        assert np.array_equal(a.image, b.image)
        assert np.array_equal(a.labels, b.labels)
        assert len(a.objects) > 0
