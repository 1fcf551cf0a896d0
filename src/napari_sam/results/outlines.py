"""Masks to polygons along the pixels' edges, and polygons to the pixels they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.masks import crop_mask
from napari_sam.errors import VolumeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sam.core.masks import Bbox

Ring = np.ndarray
"""(n, 2) float64: (y, x) of corners, not closed. Pixel (0, 0) reaches from corner
(0, 0) to (1, 1)."""
_STEPS = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])
"""Directions of edges: right, down, left, up."""


def outline(mask: np.ndarray, corner: tuple[int, int] = (0, 0)) -> list[list[Ring]]:
    """Return the polygons of a mask, exactly along its pixels' edges.

    Parameters
    ----------
    mask : ndarray, (h, w), bool
    corner : (y, x)
        Place of the mask's first pixel on the plane.

    Returns
    -------
    list of list of Ring
        One list for each part: its outer ring, then its holes. Parts that touch at a
        corner only stay apart.

    Examples
    --------
    >>> [[ring]] = outline(np.ones((2, 3), bool), (5, 7))
    >>> ring.tolist()
    [[5.0, 7.0], [5.0, 10.0], [7.0, 10.0], [7.0, 7.0]]
    """
    from scipy import ndimage

    parts, count = ndimage.label(mask)
    polygons: list[list[Ring]] = [[] for _ in range(count)]
    for ring, part in _rings(np.pad(np.asarray(parts, np.int32), 1)):
        y, x = ring[:, 0], ring[:, 1]
        area = np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))
        moved = ring.astype(np.float64) + np.subtract(corner, 1)
        # With the object on the right hand, outer rings turn one way and holes the
        # other.
        polygons[part - 1].insert(0 if area > 0 else len(polygons[part - 1]), moved)
    return polygons


def _rings(parts: np.ndarray) -> list[tuple[np.ndarray, int]]:
    """Closed ways along edges, the part always on the right; corners only."""
    h, w = parts.shape
    inner = parts[1:-1, 1:-1]
    width = w + 1
    # Part on the right of each edge, by where the edge starts and where it goes.
    on_right = np.zeros((h + 1, width, 4), np.int32)
    for neighbour, (dy, dx), towards in (
        (parts[:-2, 1:-1], (0, 0), 0), (parts[1:-1, 2:], (0, 1), 1),
        (parts[2:, 1:-1], (1, 1), 2), (parts[1:-1, :-2], (1, 0), 3),
    ):  # fmt: skip
        y, x = np.nonzero((inner != neighbour) & (inner > 0))
        on_right[y + 1 + dy, x + 1 + dx, towards] = inner[y, x]
    flat = on_right.reshape(-1)
    edges = np.flatnonzero(flat)
    start, direction = np.divmod(edges, 4)
    part = flat[edges]
    end = start + _STEPS[direction] @ (width, 1)
    following = np.zeros_like(edges)
    # Where a part touches itself at a corner, the left turn closes the hole: it is
    # looked at last, and counts most.
    for turn in (1, 0, 3):
        there = 4 * end + (direction + turn) % 4
        following = np.where(flat[there] == part, there, following)
    after = np.searchsorted(edges, following).tolist()
    seen = bytearray(len(edges))
    rings = []
    for first in range(len(edges)):
        if seen[first]:
            continue
        way, at = [], first
        while not seen[at]:
            seen[at] = 1
            way.append(at)
            at = after[at]
        order = np.array(way)
        going = direction[order]
        corners = start[order[going != np.roll(going, 1)]]
        places = np.stack(np.divmod(corners, width), axis=1)
        rings.append((places, int(part[first])))
    return rings


def fill(
    rings: Sequence[Ring], shape: tuple[int, int], *, centre: float = 0.5
) -> tuple[Bbox, np.ndarray]:
    """Return the pixels of a plane whose centres lie inside of a polygon.

    Parameters
    ----------
    rings : sequence of Ring
        The polygon's outer ring and its holes; a point inside of an odd number of
        rings is inside.
    shape : tuple of int
        (height, width) of the plane.
    centre : float
        Coordinate of the first pixel's centre: 0.5 where corners lie at integers, 0
        where centres do.

    Returns
    -------
    bbox, mask
        Box on the plane, and (h, w) bool cropped to it; empty where no centre is
        inside.

    Raises
    ------
    VolumeError
        If a coordinate is no finite number.
    """
    corners = [np.asarray(r, np.float64).reshape(-1, 2) - centre for r in rings]
    corners = [r for r in corners if len(r) > 2]
    nothing = (0, 0, 0, 0), np.zeros((0, 0), bool)
    if not corners:
        return nothing
    everything = np.concatenate(corners)
    if not np.isfinite(everything).all():
        raise VolumeError("a polygon has a corner that is no finite number")
    low = np.clip(np.ceil(everything.min(0)), 0, shape).astype(int)
    high = np.clip(np.floor(everything.max(0)) + 1, 0, shape).astype(int)
    h, w = high - low
    if h <= 0 or w <= 0:
        return nothing
    flips = np.zeros((h, w + 1), bool)
    for ring in corners:
        _flip(flips, ring - low)
    inside = np.logical_xor.accumulate(flips[:, :-1], axis=1)
    (y0, x0, y1, x1), mask = crop_mask(inside)
    if not mask.size:
        return nothing
    dy, dx = int(low[0]), int(low[1])
    return (y0 + dy, x0 + dx, y1 + dy, x1 + dx), mask


def _flip(flips: np.ndarray, ring: Ring) -> None:
    """Mark, on each row, the first pixel to the right of each edge that it crosses."""
    h, w = flips.shape
    start, end = ring, np.roll(ring, -1, axis=0)
    swap = start[:, 0] > end[:, 0]
    top = np.where(swap[:, None], end, start)
    bottom = np.where(swap[:, None], start, end)
    # A row belongs to an edge from its upper end on and up to before its lower end.
    first = np.clip(np.ceil(top[:, 0]), 0, h).astype(np.int64)
    stop = np.clip(np.ceil(bottom[:, 0]), 0, h).astype(np.int64)
    count = np.maximum(stop - first, 0)
    edge = np.repeat(np.arange(len(ring)), count)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
    row += first[edge]
    rise = bottom[edge, 0] - top[edge, 0]
    share = (row - top[edge, 0]) / rise
    x = top[edge, 1] + share * (bottom[edge, 1] - top[edge, 1])
    column = np.clip(np.ceil(x), 0, w - 1).astype(np.int64)
    odd = np.bincount(row * w + column, minlength=h * w).reshape(h, w) % 2
    flips ^= odd.astype(bool)
