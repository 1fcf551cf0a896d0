"""Candidates as small pictures: the image around them with the mask tinted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_sam._napari.state import Thumbnail
from napari_sam.core.masks import union_bbox
from napari_sam.core.tiles import Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sam.core.candidates import PlaneCandidate
    from napari_sam.core.intensity import IntensityMapping
    from napari_sam.core.masks import Bbox
    from napari_sam.core.planes import Plane
    from napari_sam.volume.volume import Volume

SIDE = 96
"""Pixels of a picture's side, at most twice that."""
LARGEST = 2048
"""Objects beyond this side are drawn without the image: reading it takes long."""
TINT = np.array([59, 156, 255], np.float32)


def draw_thumbnails(
    volume: Volume,
    intensity: IntensityMapping,
    plane: Plane,
    candidates: Sequence[PlaneCandidate],
) -> tuple[Thumbnail, ...]:
    """Draw all candidates over the same part of the plane.

    Returns
    -------
    tuple of Thumbnail
        Pictures are (h, w, 3) uint8.
    """
    box: Bbox = (0, 0, 0, 0)
    for candidate in candidates:
        box = union_bbox(box, candidate.bbox)
    box = _square(box, plane.shape(volume.shape))
    step = max(1, max(box[2] - box[0], box[3] - box[1]) // SIDE)
    under = _image(volume, intensity, plane, box, step)
    return tuple(
        Thumbnail(c.predicted_iou, _tinted(under, _cut(c, box, step)))
        for c in candidates
    )


def _square(box: Bbox, shape: tuple[int, int]) -> Bbox:
    """Widen a box to a square with a margin, inside the plane where it fits."""
    side = round(1.3 * max(box[2] - box[0], box[3] - box[1], 16))
    out = []
    for low, high, n in ((box[0], box[2], shape[0]), (box[1], box[3], shape[1])):
        start = min(max((low + high - side) // 2, 0), max(n - side, 0))
        out.append((start, min(start + side, n)))
    return out[0][0], out[1][0], out[0][1], out[1][1]


def _image(
    volume: Volume, intensity: IntensityMapping, plane: Plane, box: Bbox, step: int
) -> np.ndarray:
    h, w = box[2] - box[0], box[3] - box[1]
    if max(h, w) > LARGEST:
        return np.full((-(-h // step), -(-w // step), 3), 70, np.uint8)
    pixels = volume.read(plane, Window(0, box[0], box[1], h, w))
    return intensity.apply(pixels[::step, ::step])


def _cut(candidate: PlaneCandidate, box: Bbox, step: int) -> np.ndarray:
    """Every `step`-th pixel of the mask in a box, without making it full size."""
    y0, x0, y1, x1 = box
    out = np.zeros((-(-(y1 - y0) // step), -(-(x1 - x0) // step)), bool)
    ys = np.arange(y0, y1, step) - candidate.bbox[0]
    xs = np.arange(x0, x1, step) - candidate.bbox[1]
    h, w = candidate.mask.shape
    rows, cols = (ys >= 0) & (ys < h), (xs >= 0) & (xs < w)
    out[np.ix_(rows, cols)] = candidate.mask[np.ix_(ys[rows], xs[cols])]
    return out


def _tinted(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    out = image.astype(np.float32)
    out[~mask] *= 0.6
    out[mask] = 0.5 * out[mask] + 0.5 * TINT
    return np.ascontiguousarray(out.astype(np.uint8))
