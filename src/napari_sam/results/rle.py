"""COCO's run lengths and polygons: masks known inside a box of a plane of any size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.masks import crop_mask
from napari_sam.errors import VolumeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sam.core.masks import Bbox

_LONGEST_RUN = 2**32 - 1
"""Longest run that COCO's compressed form can hold."""
_NOTHING: tuple[Bbox, np.ndarray] = ((0, 0, 0, 0), np.zeros((0, 0), bool))


def encode(mask: np.ndarray, bbox: Bbox, shape: tuple[int, int]) -> dict[str, Any]:
    """Run-length encode a mask known inside a box, as COCO does.

    Parameters
    ----------
    mask : ndarray, (y1 - y0, x1 - x0), bool
    bbox : (y0, x0, y1, x1)
        Half-open, within the plane.
    shape : tuple of int
        (height, width) of the plane, which may be of any size: only the box is held.

    Returns
    -------
    dict
        ``{"size": [h, w], "counts": ...}``: COCO's compressed text, or a plain list
        of runs where one is too long for that.

    Examples
    --------
    >>> encode(np.ones((1, 2), bool), (0, 1, 1, 3), (2, 4))
    {'size': [2, 4], 'counts': '21102'}
    """
    from pycocotools import mask as coco

    h, w = shape
    runs = _runs(mask, bbox, h)
    edges = np.concatenate([[0], runs.ravel(), [h * w]])
    counts = np.diff(edges).tolist()
    if counts[-1] == 0:
        counts.pop()
    size = [int(h), int(w)]
    if max(counts) > _LONGEST_RUN:
        return {"size": size, "counts": counts}
    packed = coco.frPyObjects({"size": size, "counts": counts}, h, w)
    return {"size": size, "counts": packed["counts"].decode("ascii")}


def _runs(mask: np.ndarray, bbox: Bbox, height: int) -> np.ndarray:
    """(n, 2) int64: start and end of each run of the mask, counted down columns."""
    y0, x0, _, _ = bbox
    columns = np.zeros((mask.shape[1], mask.shape[0] + 2), np.int8)
    columns[:, 1:-1] = mask.T
    steps = np.diff(columns, axis=1)
    col, start = np.nonzero(steps == 1)
    _, end = np.nonzero(steps == -1)
    at = (col + x0).astype(np.int64) * height + y0
    runs = np.stack([at + start, at + end], axis=1)
    # A run that ends at a column's foot goes on at the head of the next.
    joined = runs[1:, 0] == runs[:-1, 1]
    if not joined.any():
        return runs
    starts = runs[np.concatenate([[True], ~joined]), 0]
    ends = runs[np.concatenate([~joined, [True]]), 1]
    return np.stack([starts, ends], axis=1)


def decode(segmentation: dict[str, Any], shape: tuple[int, int]) -> tuple[Bbox, Any]:
    """Return (bbox, mask cropped to it) of COCO's run lengths, compressed or not.

    Raises
    ------
    VolumeError
        If they are of an image of another size, or make no sense.
    """
    if [int(n) for n in segmentation["size"]] != list(shape):
        raise VolumeError(
            f"a COCO mask has size {segmentation['size']} on an image of size "
            f"{list(shape)}: the file is damaged, or belongs to another image"
        )
    counts = segmentation["counts"]
    if isinstance(counts, bytes):
        counts = counts.decode("ascii")
    runs = np.asarray(_unpack(counts) if isinstance(counts, str) else counts, np.int64)
    if runs.ndim != 1 or (runs < 0).any() or runs.sum() > shape[0] * shape[1]:
        raise VolumeError(
            f"the runs of a COCO mask do not fit an image of {shape[0]} x {shape[1]} "
            "pixels: the file is damaged"
        )
    edges = np.cumsum(runs)
    pairs = zip(edges[0::2].tolist(), edges[1::2].tolist(), strict=False)
    return _from_runs([(a, b) for a, b in pairs if b > a], shape[0])


def _from_runs(runs: list[tuple[int, int]], h: int) -> tuple[Bbox, np.ndarray]:
    if not runs:
        return _NOTHING
    x0, x1 = runs[0][0] // h, (runs[-1][1] - 1) // h + 1
    tall = any(a // h != (b - 1) // h for a, b in runs)
    y0 = 0 if tall else min(a % h for a, _ in runs)
    y1 = h if tall else max((b - 1) % h for _, b in runs) + 1
    columns = np.zeros((x1 - x0, y1 - y0), bool)
    for a, b in runs:
        if tall:
            columns.reshape(-1)[a - x0 * h : b - x0 * h] = True
        else:
            columns[a // h - x0, a % h - y0 : (b - 1) % h + 1 - y0] = True
    (cy0, cx0, cy1, cx1), mask = crop_mask(columns.T)
    return (cy0 + y0, cx0 + x0, cy1 + y0, cx1 + x0), mask


def _unpack(text: str) -> list[int]:
    """Read COCO's compressed counts: 5 bits a character, differences from the third."""
    counts: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise VolumeError(
                "the runs of a COCO mask cannot be unpacked: it is damaged"
            )
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return counts


def fill_polygons(
    polygons: Sequence[Any], shape: tuple[int, int]
) -> tuple[Bbox, np.ndarray]:
    """Return (bbox, mask cropped to it) of polygons, filled as COCO fills them.

    Parameters
    ----------
    polygons : sequence of sequence of float
        x and y of the corners in turn; also one polygon that stands for itself.
        Those of fewer than three corners hold nothing.
    shape : tuple of int
        (height, width) of the plane.

    Raises
    ------
    VolumeError
        If a corner lacks its y, or lies far outside the plane.
    """
    from pycocotools import mask as coco

    if not isinstance(polygons[0], (list, tuple, np.ndarray)):
        polygons = [polygons]
    corners = [c for p in polygons if len(c := _corners(p, shape)) > 2]
    if not corners:
        return _NOTHING
    points = np.concatenate(corners)
    x0, y0 = (max(0, int(v) - 1) for v in points.min(0))
    x1, y1 = np.minimum(points.max(0).astype(int) + 2, shape[::-1]).tolist()
    if x1 <= x0 or y1 <= y0:
        return _NOTHING
    local = [(p - (x0, y0)).ravel().tolist() for p in corners]
    packed = coco.frPyObjects(local, y1 - y0, x1 - x0)
    (cy0, cx0, cy1, cx1), mask = decode(coco.merge(packed), (y1 - y0, x1 - x0))
    if not mask.size:
        return _NOTHING
    return (cy0 + y0, cx0 + x0, cy1 + y0, cx1 + x0), mask


def _corners(polygon: Any, shape: tuple[int, int]) -> np.ndarray:
    flat = np.asarray(polygon, np.float64).ravel()
    if len(flat) % 2:
        raise VolumeError(
            f"a COCO polygon is x and y of its corners in turn; got {len(flat)} numbers"
        )
    corners = flat.reshape(-1, 2)
    size = np.array(shape[::-1])
    # The filling takes memory for every pixel along the outline.
    if not (np.abs(corners - size / 2) <= 2 * size + 1000).all():
        raise VolumeError(
            f"a COCO polygon has corners far outside the image of {shape[0]} x "
            f"{shape[1]} pixels: the file is damaged, or belongs to another image"
        )
    return corners
