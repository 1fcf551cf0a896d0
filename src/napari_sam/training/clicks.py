"""Where a careful user clicks next, and the baselines that need no model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.masks import deepest_point, union_bbox

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sam.core.masks import Bbox


def next_click(truth: np.ndarray, mask: np.ndarray) -> tuple[tuple[float, float], int]:
    """Return the point (y, x) and label that a careful user would click next.

    The centre of the largest circle in what is missing (label 1) or in what is too
    much (label 0), whichever is larger; in the object itself if nothing is wrong.

    Parameters
    ----------
    truth, mask : ndarray, (h, w), bool
    """
    missing = deepest_point(truth & ~mask)
    extra = deepest_point(mask & ~truth)
    if max(missing[1], extra[1]) == 0:
        return deepest_point(truth)[0], 1
    return (missing[0], 1) if missing[1] >= extra[1] else (extra[0], 0)


def ellipse_in(box: Sequence[float], shape: tuple[int, ...]) -> np.ndarray:
    """Pixels (h, w) of the ellipse inscribed in a half-open box (y0, x0, y1, x1)."""
    y0, x0, y1, x1 = box
    ys, xs = np.ogrid[: shape[0], : shape[1]]
    dy = (ys + 0.5 - (y0 + y1) / 2) / max((y1 - y0) / 2, 0.5)
    dx = (xs + 0.5 - (x0 + x1) / 2) / max((x1 - x0) / 2, 0.5)
    return np.asarray(dy**2 + dx**2 <= 1)


def same_frame(
    a: tuple[Bbox, np.ndarray], b: tuple[Bbox, np.ndarray]
) -> tuple[tuple[int, int], np.ndarray, np.ndarray]:
    """Put two cropped masks into the smallest array that holds both.

    Parameters
    ----------
    a, b : (bbox, mask)
        Half-open box on the plane and the mask cropped to it.

    Returns
    -------
    origin : (y, x)
        Of the arrays on the plane.
    a, b : ndarray, (h, w), bool
    """
    y0, x0, y1, x1 = union_bbox(a[0], b[0])
    out = []
    for bbox, mask in (a, b):
        full = np.zeros((y1 - y0, x1 - x0), bool)
        if mask.size:
            full[bbox[0] - y0 : bbox[2] - y0, bbox[1] - x0 : bbox[3] - x0] = mask
        out.append(full)
    return (y0, x0), out[0], out[1]
