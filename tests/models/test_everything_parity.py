"""Everything on SAM's weights against the authors' own mask generator."""

from __future__ import annotations

import sys
import types
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from reference_sam import TINY, import_segment_anything, reference_sam, with_objects
from skimage.measure import label
from skimage.transform import resize
from test_sam_parity import ours

from napari_sam.core.planes import Plane
from napari_sam.engine.engine import Engine
from napari_sam.engine.propose import propose
from napari_sam.engine.propose_options import parted
from napari_sam.engine.select import select
from napari_sam.models.torch_model import TorchModel
from napari_sam.volume.opening import open_volume

SCORES = {"pred_iou_thresh": 0.65, "stability_score_thresh": 0.3, "points_per_side": 16}

QUANTILES = (0, 0.25, 0.5, 0.75, 1)


@pytest.fixture(scope="module")
def reference() -> torch.nn.Module:
    return with_objects(reference_sam(TINY))


@pytest.fixture(scope="module")
def model(reference: torch.nn.Module) -> TorchModel:
    return ours(reference)


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the authors' code takes of OpenCV."""

    def with_stats(mask: np.ndarray, connectivity: int) -> tuple[Any, ...]:
        assert connectivity == 8
        regions, n = label(mask, connectivity=2, return_num=True)
        stats = np.zeros((n + 1, 5), int)
        stats[:, -1] = np.bincount(regions.ravel(), minlength=n + 1)
        return n + 1, regions, stats, None

    cv2 = types.ModuleType("cv2")
    cv2.connectedComponentsWithStats = with_stats  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cv2", cv2)


def image_of(name: str, shape: tuple[int, int]) -> np.ndarray:
    pixels = getattr(skimage.data, name)()
    small = resize(pixels, (*shape, *pixels.shape[2:]), anti_aliasing=True)
    seen = (small * 255).astype(np.uint8)
    return seen if seen.ndim == 3 else np.stack([seen] * 3, axis=-1)


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        pytest.param("coins", (190, 251), {}, id="whole"),
        pytest.param(
            "astronaut", (251, 190),
            {"crop_n_layers": 1, "crop_n_points_downscale_factor": 2}, id="crops",
        ),
        pytest.param("camera", (200, 200), {"min_mask_region_area": 6}, id="tidied"),
    ],
)  # fmt: skip
def test_masks_are_those_of_sams_generator(
    reference: torch.nn.Module,
    model: TorchModel,
    name: str,
    shape: tuple[int, int],
    options: dict[str, Any],
) -> None:
    image = image_of(name, shape)
    kind = import_segment_anything().SamAutomaticMaskGenerator
    theirs = kind(reference, **SCORES, **options).generate(image)

    asked, chosen = parted(SCORES | options | {"least_stability_score": 0.3})
    engine = Engine.of(open_volume(image), model)
    found = list(select(propose(engine, Plane(()), asked), chosen))

    assert len(theirs) >= 20 and len(found) == pytest.approx(len(theirs), rel=0.02)
    mine = np.zeros((len(found), image[..., 0].size), np.float32)
    for row, p in zip(mine, found, strict=True):
        y0, x0, y1, x1 = p.bbox
        row.reshape(shape)[y0:y1, x0:x1] = p.mask
    others = np.array([t["segmentation"].ravel() for t in theirs], np.float32)
    shared = mine @ others.T
    iou = shared / (mine.sum(1)[:, None] + others.sum(1) - shared)
    assert iou.max(0).mean() >= 0.99 and iou.max(1).mean() >= 0.99
    for field in ("predicted_iou", "stability_score"):
        expected = sorted(t[field] for t in theirs)
        scores = sorted(getattr(p, field) for p in found)
        assert np.quantile(scores, QUANTILES) == pytest.approx(
            np.quantile(expected, QUANTILES), abs=5e-3
        )
    asked_at = {tuple(t["point_coords"][0]) for t in theirs}
    assert sum(tuple(p.prompts.points[0][::-1]) in asked_at for p in found) > 0.9 * len(
        found
    )
