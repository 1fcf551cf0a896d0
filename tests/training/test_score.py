from __future__ import annotations

import json

import numpy as np
import pytest

from napari_sam.core.embedding import Embedding
from napari_sam.core.masks import MaskCandidate, crop_mask
from napari_sam.core.prompts import WindowPrompts
from napari_sam.models.base import ModelSpec
from napari_sam.training.data import LabelledImage, Split
from napari_sam.training.score import (
    ScoreOptions,
    ellipse_in,
    next_click,
    score_image,
    score_split,
)


class _Bright:
    """Finds what is bright in the red channel; its second answer is nothing."""

    spec = ModelSpec("bright", 256, {}, 4, "", enlarges=False)
    device = "cpu"

    def encode(self, batch: np.ndarray) -> list[Embedding]:
        size = batch.shape[1], batch.shape[2]
        return [Embedding({"r": b.transpose(2, 0, 1)[:1]}, size) for b in batch]

    def decode(
        self, embedding: Embedding, prompts: WindowPrompts
    ) -> list[MaskCandidate]:
        assert prompts.box is not None or len(prompts.points)
        bbox, mask = crop_mask(embedding.features["r"][0] > 100)
        low = np.zeros((4, 4), np.float32)
        nothing = np.zeros((0, 0), bool)
        return [
            MaskCandidate(bbox, mask, 0.9, 1.0, low),
            MaskCandidate((0, 0, 0, 0), nothing, 0.1, 1.0, low),
        ]

    def decode_many(
        self, embedding: Embedding, prompts: list[WindowPrompts]
    ) -> list[list[MaskCandidate]]:
        return [self.decode(embedding, p) for p in prompts]


def _image(shape: tuple[int, int]) -> LabelledImage:
    labels = np.zeros(shape, np.int32)
    labels[20:60, 30:90] = 1
    return LabelledImage("d", "x", (labels * 200).astype(np.uint8), labels)


@pytest.mark.parametrize(
    ("shape", "least"),
    [
        pytest.param((100, 120), 1.0, id="fits"),
        pytest.param((512, 700), 0.9, id="reduced-to-fit"),
    ],
)
def test_a_perfect_model_scores_one(shape: tuple[int, int], least: float) -> None:
    (score,) = score_image(_Bright(), _image(shape), ScoreOptions(clicks=2))
    assert min(score.click) >= least
    assert score.box >= least
    assert score.click_best == score.click
    assert score.rectangle == 1.0
    assert score.ellipse == pytest.approx(np.pi / 4, abs=0.02)


def test_report_has_a_row_a_data_set_and_their_mean() -> None:
    parts = Split([], [_image((100, 120))], [_image((90, 120))])
    report = score_split(_Bright(), parts, ScoreOptions(clicks=1))
    assert report.means("kept back")["mean"]["click1"] == 1.0
    assert "| d | 1 | 1.000 |" in report.table()
    assert set(json.loads(report.to_json())["objects"]) == {"kept back", "held out"}


def test_next_click_goes_to_the_deeper_error() -> None:
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
