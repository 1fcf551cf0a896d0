"""Where a careful user clicks next, and the baselines that need no model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.masks import union_bbox

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sam.core.masks import Bbox


def inscribed_circle(region: np.ndarray) -> tuple[tuple[float, float], float]:
    """Find the largest circle inside a region.

    What lies beyond the array counts as outside.

    Parameters
    ----------
    region : ndarray, (h, w), bool

    Returns
    -------
    center : (y, x)
        Of the pixel that is deepest inside; the first one of several.
    radius : float
        Distance in pixels to the nearest pixel outside; 0 for an empty region.

    Examples
    --------
    >>> inscribed_circle(np.ones((5, 9), bool))
    ((2.0, 2.0), 3.0)
    """
    from scipy import ndimage

    if not region.any():
        return (0.0, 0.0), 0.0
    rows, cols = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    crop = region[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    depth = ndimage.distance_transform_edt(np.pad(crop, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return (float(y + rows[0]), float(x + cols[0])), float(depth.max())


def next_click(truth: np.ndarray, mask: np.ndarray) -> tuple[tuple[float, float], int]:
    """Return the point (y, x) and label that a careful user would click next.

    The centre of the largest circle in what is missing (label 1) or in what is too
    much (label 0), whichever is larger; in the object itself if nothing is wrong.

    Parameters
    ----------
    truth, mask : ndarray, (h, w), bool
    """
    missing = inscribed_circle(truth & ~mask)
    extra = inscribed_circle(mask & ~truth)
    if max(missing[1], extra[1]) == 0:
        return inscribed_circle(truth)[0], 1
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
