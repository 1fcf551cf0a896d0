"""Instance scores: as StarDist and Cellpose count them, on labels of any size."""

import numpy as np
import pytest
from instance_scene import scene
from scipy.optimize import linear_sum_assignment

from napari_sam.errors import ExportError, VolumeError
from napari_sam.results.instances import score_instances, summed_up
from napari_sam.results.label_arrays import _create
from napari_sam.results.overlaps import overlaps
from napari_sam.results.score_plot import score_plot

STARDIST = {
    0.1: (49, 14, 15, 0.777778, 0.765625, 0.628205, 0.771654, 0.520568, 0.401698),
    0.3: (48, 15, 16, 0.761905, 0.75, 0.607595, 0.755906, 0.52728, 0.398574),
    0.5: (30, 33, 34, 0.47619, 0.46875, 0.309278, 0.472441, 0.586549, 0.27711),
    0.6: (11, 52, 53, 0.174603, 0.171875, 0.094828, 0.173228, 0.696967, 0.120735),
    0.75: (3, 60, 61, 0.047619, 0.046875, 0.024194, 0.047244, 0.762879, 0.036042),
    0.9: (0, 63, 64, 0, 0, 0, 0, 0, 0),
}
"""What ``stardist.matching.matching`` 0.9.1 says of the scene: tp, fp, fn, precision,
recall, accuracy, f1, mean_matched_score, panoptic_quality. Cellpose 3.1.1 has the same
matches: 49, 48, 30, 11, 3, 0."""


def test_figures_are_those_of_stardist_and_cellpose():
    truth, found = scene()
    scores = score_instances(truth, found, thresholds=tuple(STARDIST))
    for threshold, want in STARDIST.items():
        c = scores.at(threshold)
        got = (c.tp, c.fp, c.fn, c.precision, c.recall, c.ap, c.f1, c.sq, c.pq)
        assert got == pytest.approx(want, abs=1e-6)
    with pytest.raises(ExportError, match=r"0\.1, 0\.3.*got 0\.2"):
        scores.at(0.2)


@pytest.mark.parametrize("seed", range(4))
def test_matches_below_half_are_as_many_as_can_be(seed):
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.repeat(rng.integers(0, 12, (12, 12)), 3, 0), 3, 1)
    found = np.repeat(np.repeat(rng.integers(0, 12, (9, 9)), 4, 0), 4, 1)
    whole = overlaps(truth, found)
    iou = np.zeros((12, 12))
    iou[tuple(whole.pairs.T)] = whole.ious
    for i, j in whole.pairs.tolist():
        a, b = truth == i, found == j
        assert iou[i, j] == pytest.approx((a & b).sum() / (a | b).sum())
    for threshold in (0.02, 0.05, 0.08):
        able = iou >= threshold
        rows, columns = linear_sum_assignment(able * (1 + iou / 100), maximize=True)
        tp = able[rows, columns].sum()
        got = score_instances(truth, found, thresholds=(threshold,)).counts[0]
        assert got.tp == tp
        assert got.iou == pytest.approx((iou * able)[rows, columns].sum())


def test_chunked_volumes_are_scored_block_by_block(tmp_path):
    truth, found = scene()
    truth, found = (np.stack([v, v * 0, v]) for v in (truth, found))
    want = score_instances(truth, found)
    stored = []
    for name, values in (("a", truth), ("b", found)):
        labels = _create(tmp_path / name, values.shape, np.uint32)
        labels[...] = values.astype(np.uint32)
        stored.append(labels)
    assert score_instances(*stored) == want
    # Objects of three dimensions are one each, in whatever order they are given.
    assert want.counts[0].tp == 30
    with pytest.raises(VolumeError, match="one shape"):
        score_instances(truth, found[:2])


def test_nothing_and_perfection():
    truth, _ = scene()
    same = score_instances(truth, truth + 7 * (truth > 0))
    assert same.mean_ap == 1 and same.at(0.95).pq == 1
    nothing = np.zeros_like(truth)
    assert score_instances(nothing, nothing).mean_ap == 1
    missed = score_instances(truth, nothing).at(0.5)
    assert (missed.ap, missed.recall, missed.precision, missed.pq) == (0, 0, 0, 0)


def test_images_are_summed_up_by_their_objects():
    truth, found = scene()
    parts = {"a": score_instances(truth, found), "b": score_instances(truth, truth)}
    whole = summed_up(parts)
    assert whole.at(0.5).tp == 30 + 64 and whole.at(0.5).fp == 33
    assert whole.to_dict()["images"]["b"][0]["ap"] == 1
    assert "| 0.50 | 94 | 34 | 33 | 0.584" in whole.table()


def test_the_plot_has_a_curve_a_figure():
    from xml.etree import ElementTree

    scores = score_instances(*scene())
    drawn = ElementTree.fromstring(score_plot(scores, "a < b"))
    curves = drawn.findall("{http://www.w3.org/2000/svg}polyline")
    ends = [c.get("points").split()[0].split(",")[1] for c in curves]
    first = scores.at(0.5)
    want = [34 + 240 * (1 - v) for v in (first.ap, first.f1, first.pq)]
    assert [float(y) for y in ends] == pytest.approx(want, abs=0.06)
