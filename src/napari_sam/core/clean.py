"""Tidying masks: holes, fragments, ragged outlines, the largest part; 2-D and 3-D."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage


@dataclass(frozen=True, slots=True)
class CleanOptions:
    """What to do to an object's mask, in this order."""

    fill_holes: bool = True
    """Fill holes that are closed on all sides."""
    largest_hole: int = field(default=0, metadata={"range": (0, 10**9)})
    """Fill only holes of at most this many pixels (voxels); 0: all."""
    smooth: float = field(default=0.0, metadata={"range": (0, 50)})
    """Round the outline off by a Gaussian of this standard deviation, in pixels; the
    size stays about the same. 0: leave it as it is."""
    smallest_part: int = field(default=0, metadata={"range": (0, 10**9)})
    """Remove parts of fewer pixels (voxels) than this; 0: none."""
    largest_only: bool = False
    """Keep the largest part alone."""


def clean(
    mask: np.ndarray,
    options: CleanOptions | None = None,
    *,
    spacing: tuple[float, ...] | None = None,
) -> np.ndarray:
    """Tidy a mask.

    Parameters
    ----------
    mask : ndarray, (h, w) or (d, h, w), bool
    options : CleanOptions, optional
    spacing : tuple of float, optional
        Size of a pixel on each axis, in one unit; smoothing is even in these. The
        finest counts as 1.

    Returns
    -------
    ndarray, of the mask's shape, bool

    Examples
    --------
    >>> ring = np.ones((5, 5), bool)
    >>> ring[2, 2] = False
    >>> bool(clean(ring).all())
    True
    """
    options = options or CleanOptions()
    out = np.asarray(mask, bool)
    if not out.any():
        return out.copy()
    if options.fill_holes:
        out = _filled(out, options.largest_hole)
    if options.smooth > 0:
        out = _smoothed(out, options.smooth, spacing)
    if options.smallest_part > 1 or options.largest_only:
        out = _parts(out, options.smallest_part, options.largest_only)
    return out if out is not mask else out.copy()


def _filled(mask: np.ndarray, largest: int) -> np.ndarray:
    # Diagonal gaps do not close a hole: background is joined across faces only.
    filled = ndimage.binary_fill_holes(mask)
    if not largest:
        return np.asarray(filled)
    holes, count = ndimage.label(filled & ~mask)
    small = np.bincount(holes.ravel(), minlength=count + 1) <= largest
    small[0] = False
    return np.asarray(mask | small[holes])


def _smoothed(
    mask: np.ndarray, sigma: float, spacing: tuple[float, ...] | None
) -> np.ndarray:
    sizes = np.asarray(spacing or (1.0,) * mask.ndim, float)
    sigmas = sigma * sizes.min() / sizes
    margin = int(np.ceil(4 * sigma))
    # The image's edge does not round an object off: what lies beyond is as at the edge.
    soft = ndimage.gaussian_filter(
        np.pad(mask.astype(np.float32), margin, mode="edge"), sigmas
    )
    inside = soft[(slice(margin, -margin),) * mask.ndim] if margin else soft
    found = np.asarray(inside > 0.5)
    return found if found.any() else mask


def _parts(mask: np.ndarray, smallest: int, largest_only: bool) -> np.ndarray:
    parts, count = ndimage.label(mask, np.ones((3,) * mask.ndim, bool))
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    sizes[0] = 0
    kept = sizes >= max(smallest, 1)
    if largest_only:
        kept = np.arange(count + 1) == int(sizes.argmax())
    kept[0] = False
    return np.asarray(kept[parts])


def without_small_regions(mask: np.ndarray, area: int) -> np.ndarray:
    """Fill holes and remove parts of fewer pixels, as SAM's mask generator does.

    Parameters
    ----------
    mask : ndarray, (h, w), bool
        What lies beyond the array is outside.
    area : int
        In pixels. Regions are joined over corners; where all parts are smaller, the
        largest stays.

    Returns
    -------
    ndarray, (h, w), bool
    """
    around = np.ones((3, 3), bool)
    holes, count = ndimage.label(np.pad(~mask, 1, constant_values=True), around)
    small = np.bincount(holes.ravel(), minlength=count + 1) < area
    small[0] = False
    small[holes[0, 0]] = False
    filled = mask | small[holes][1:-1, 1:-1]
    parts, count = ndimage.label(filled, around)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    sizes[0] = 0
    kept = sizes >= max(area, 1)
    kept[0] = False
    if count and not kept.any():
        kept[int(sizes.argmax())] = True
    return np.asarray(kept[parts])
