"""Proposing: where a model is asked, what is kept, and one id an object at seams."""

import numpy as np
import pytest
from scipy import ndimage

from napari_sam.core.planes import Plane
from napari_sam.engine.engine import Engine
from napari_sam.engine.nms import inclusive, overlapping, suppress
from napari_sam.engine.propose import Proposer, propose
from napari_sam.engine.propose_options import ProposeOptions, SelectOptions, parted
from napari_sam.engine.select import select
from napari_sam.errors import Cancelled, PromptError
from napari_sam.testing import ToyModel, phantom_image
from napari_sam.volume.opening import open_volume

HERE = Plane(())
FEW = ProposeOptions(points_per_side=16, thorough=False)
CLEAR = SelectOptions(pred_iou_thresh=0.85, stability_score_thresh=0.5)
BACKGROUND = 10


def engine_of(image, side=64):
    return Engine.of(open_volume(image), ToyModel(side))


@pytest.fixture(scope="module")
def cells():
    return phantom_image((72, 108), n_objects=6, noise=0)


def test_each_object_is_proposed_once(cells):
    found = propose(engine_of(cells.image, 128), HERE, FEW)
    chosen = list(select(found, SelectOptions(0.7, 0.5, max_area=2000)))
    assert len(chosen) == 6
    for k in range(1, 7):
        y, x = cells.center(k)
        hits = [
            p for p in chosen
            if p.bbox[0] <= y < p.bbox[2] and p.bbox[1] <= x < p.bbox[3]
        ]  # fmt: skip
        assert len(hits) == 1
        assert hits[0].area == np.count_nonzero(cells.labels == k)


def random_scene(seed):
    """Labels with discs, bars, U shapes and frames of any size at any place."""
    rng = np.random.default_rng(seed)
    shape = h, w = tuple(rng.integers(70, 260, 2).tolist())
    labels, yx = np.zeros(shape, int), np.indices(shape)
    for _ in range(rng.integers(3, 14)):
        y, x = rng.integers(0, h - 12), rng.integers(0, w - 12)
        mask, kind, thick = np.zeros(shape, bool), rng.integers(3), rng.integers(8, 14)
        if kind == 0:
            mask = np.hypot(yx[0] - y, yx[1] - x) <= rng.integers(5, 40)
        elif kind == 1:
            mask[y : y + rng.integers(8, 60), x : x + rng.integers(8, w)] = True
        else:
            s, right = rng.integers(30, 150, 2)
            mask[y : y + s, x : x + thick] = mask[y : y + thick, x : x + right] = True
            end = min(x + right, w)
            mask[y : y + s, max(end - thick, x) : end] = True
        near = ndimage.binary_dilation(mask, iterations=3)
        if not labels[near].any() and mask.sum() >= 40:
            labels[mask] = labels.max() + 1
    return labels


def parts_of(labels):
    """Masks of all objects and of each connected part of the background."""
    holes, n = ndimage.label(labels == 0)
    return [labels == k for k in range(1, labels.max() + 1)] + [
        holes == k for k in range(1, n + 1)
    ]


def is_fair(masks):
    """Whether points on a grid must meet all parts, and boxes tell them apart."""
    thin = [not ndimage.binary_erosion(m, np.ones((5, 5)), border_value=1).any()
            for m in masks]  # fmt: skip
    spans = [s for m in masks for s in ndimage.find_objects(m.astype(int))]
    boxes = np.array([[ys.start, xs.start, ys.stop, xs.stop] for ys, xs in spans])
    return not any(thin) and not len(overlapping(inclusive(boxes), 0.65).iou)


SCENES = [s for s in range(40) if is_fair(parts_of(random_scene(s)))][:8]


@pytest.mark.parametrize("seed", SCENES)
def test_objects_on_seams_and_beyond_tiles_have_one_id_each(seed):
    labels = random_scene(seed)
    greys = np.linspace(60, 250, max(labels.max(), 1)).astype(np.uint8)
    image = np.concatenate([[BACKGROUND], greys]).astype(np.uint8)[labels]
    chosen = select(propose(engine_of(image), HERE, FEW), CLEAR)
    truth = parts_of(labels)
    assert len(chosen) == len(truth)
    best = []
    for p in chosen:
        mask = np.zeros(labels.shape, bool)
        mask[tuple(slice(*s) for s in zip(p.bbox[:2], p.bbox[2:], strict=True))] = (
            p.mask
        )
        ious = [(mask & t).sum() / (mask | t).sum() for t in truth]
        best.append((int(np.argmax(ious)), max(ious)))
    assert sorted(k for k, _ in best) == list(range(len(truth)))
    assert min(iou for _, iou in best) > 0.85
    assert np.mean([iou for _, iou in best]) > 0.97


def test_an_object_of_many_tiles_is_drawn_exactly():
    image = np.full((300, 280), BACKGROUND, np.uint8)
    image[21:283, 33:51] = image[21:39, 33:263] = 200  # an L over all tiles, 18 wide
    chosen = list(select(propose(engine_of(image), HERE, FEW), CLEAR))
    assert len(chosen) == 2
    bent = min(chosen, key=lambda p: p.area)
    assert bent.bbox == (21, 33, 283, 263)
    assert np.array_equal(bent.mask, image[21:283, 33:263] == 200)


def test_what_tiles_cut_is_left_out_unless_it_is_wanted():
    image = np.full((60, 400), BACKGROUND, np.uint8)
    image[20:40, 100:300] = 200
    engine = engine_of(image)
    proposer = Proposer(engine, HERE, FEW)
    look = proposer.looks[3]  # one tile in the middle of the bar
    found = proposer.look(look)
    assert not len(select(found, CLEAR))
    kept = SelectOptions(0.85, 0.5, keep_cut=True)
    assert {p.bbox[0] for p in select(found, kept)} >= {20}


def test_thresholds_move_without_the_network(cells):
    engine = engine_of(cells.image)
    found = propose(engine, HERE, FEW)
    asked = engine.model.n_decoded
    counts = [
        len(select(found, SelectOptions(t, 0.5, max_area=2000)))
        for t in (0.3, 0.8, 0.99)
    ]
    assert counts[0] >= counts[1] == 6 and counts[2] == 0
    assert engine.model.n_decoded == asked


def test_only_a_region_is_asked_for_and_annotated_pixels_are_not(cells):
    engine = engine_of(cells.image, 128)
    y, x = (int(v) for v in cells.center(1))
    region = (y - 2, x - 2, y + 3, x + 3)
    [one] = select(propose(engine, HERE, FEW, region=region), CLEAR)
    assert one.area == np.count_nonzero(cells.labels == 1)

    def taken(bbox, step):
        y0, x0, y1, x1 = bbox
        return cells.labels[y0:y1:step, x0:x1:step] == 1

    rest = select(
        propose(engine, HERE, FEW, taken=taken), SelectOptions(0.85, 0.5, max_area=2000)
    )
    assert len(rest) == 5
    assert not any(p.overlap(one.bbox, one.mask) for p in rest)


def test_stopping_says_so(cells):
    with pytest.raises(Cancelled):
        propose(engine_of(cells.image), HERE, FEW, cancel=lambda: True)


def test_options_are_checked():
    with pytest.raises(PromptError, match="'points_per_sid' is no option"):
        parted({"points_per_sid": 3})
    with pytest.raises(PromptError, match="box_nms_thresh must be in"):
        SelectOptions(box_nms_thresh=0.95)


def test_suppressing_by_pairs_is_the_same_as_one_after_the_other():
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 100, (300, 2))
    boxes = np.hstack([corner, corner + rng.uniform(5, 30, (300, 2))])
    order = rng.permutation(300)[:250]
    kept = []
    for i in order:
        pair = [overlapping(boxes[[i, j]], 0.3) for j in kept]
        if not any(len(p.iou) for p in pair):
            kept.append(i)
    assert suppress(order, overlapping(boxes, 0.3).pairs, 300).tolist() == kept
