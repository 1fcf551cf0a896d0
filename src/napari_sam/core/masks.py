"""Masks as models propose them and as labels receive them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from napari_sam.core.planes import Plane

Bbox = tuple[int, int, int, int]
"""(y0, x0, y1, x1) in pixels, half-open."""
_BAND = 2**20
"""Pixels that are written at a time: what the processor's cache holds."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class MaskCandidate:
    """One mask a model proposes, cropped to its bounding box."""

    bbox: Bbox
    """(y0, x0, y1, x1), half-open, in pixels of the plane (from a model: window)."""
    mask: np.ndarray
    """(y1 - y0, x1 - x0), bool."""
    predicted_iou: float
    """The model's own estimate of its overlap with the truth, about 0..1."""
    stability_score: float
    """IoU between the mask cut at logit +1 and at logit -1, 0..1 (SAM, appendix B)."""
    low_res_logits: np.ndarray
    """(m, m) float32 over the model's padded frame: what `mask_input` takes back."""

    def __repr__(self) -> str:
        return described(self.area, self.bbox, self.predicted_iou, self.stability_score)

    @property
    def area(self) -> int:
        """Pixels in the mask."""
        return int(np.count_nonzero(self.mask))

    def moved(self, dy: int, dx: int) -> MaskCandidate:
        """Return the same mask `dy` rows and `dx` columns further."""
        y0, x0, y1, x1 = self.bbox
        return replace(self, bbox=(y0 + dy, x0 + dx, y1 + dy, x1 + dx))

    def full(self, shape: tuple[int, int]) -> np.ndarray:
        """Return the mask on a boolean array of the plane's (height, width)."""
        out = np.zeros(shape, bool)
        y0, x0, y1, x1 = self.bbox
        out[y0:y1, x0:x1] = self.mask
        return out

    def _repr_png_(self) -> bytes:
        from napari_sam.core.picture import mask_picture, png

        return png(mask_picture(self.mask, f"predicted IoU {self.predicted_iou:.2f}"))


@dataclass(frozen=True, slots=True, eq=False)
class LabelPatch:
    """One change of the labels: what pixels in a box of a plane held, and will hold."""

    plane: Plane
    bbox: Bbox
    """(y0, x0, y1, x1) in level-0 pixels of the plane, half-open."""
    before: np.ndarray
    """(h, w) unsigned integers, or () where they are all the same; meant where
    `changed`."""
    after: np.ndarray
    """As `before`."""
    mask: np.ndarray | None = None
    """(h, w) bool: pixels that change; None: all that differ."""

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the box."""
        return self.bbox[2] - self.bbox[0], self.bbox[3] - self.bbox[1]

    @property
    def changed(self) -> np.ndarray:
        """(h, w) bool: pixels that change."""
        if self.mask is not None:
            return self.mask
        return np.broadcast_to(self.before != self.after, self.shape)

    def reversed(self) -> LabelPatch:
        """Return the patch that takes this one back."""
        return replace(self, before=self.after, after=self.before)

    def write(self, labels: Any) -> None:
        """Write the pixels that change into an array of the volume's shape."""
        window = self.plane.window(self.bbox)
        if not isinstance(labels, np.ndarray):
            block = np.array(labels[window])
            np.copyto(block, self.after, where=self.changed, casting="unsafe")
            labels[window] = block
            return
        view, changed = labels[window], self.changed
        after = np.broadcast_to(self.after, self.shape)
        step = max(1, _BAND // max(1, changed.shape[1]))
        for y in range(0, len(changed), step):
            rows = slice(y, y + step)
            if changed[rows].any():
                np.copyto(
                    view[rows], after[rows], where=changed[rows], casting="unsafe"
                )


def described(area: int, bbox: Bbox, predicted_iou: float, stability: float) -> str:
    """Say in a line what a candidate is.

    Examples
    --------
    >>> described(3210, (0, 30, 90, 99), 0.913, 0.765)
    '<mask of 3,210 px in (0, 30, 90, 99), predicted IoU 0.91, stability 0.77>'
    """
    return (
        f"<mask of {area:,} px in {tuple(map(int, bbox))}, predicted IoU "
        f"{predicted_iou:.2f}, stability {stability:.2f}>"
    )


def crop_mask(mask: np.ndarray) -> tuple[Bbox, np.ndarray]:
    """Cut a boolean (h, w) mask to its pixels; an empty one gives bbox (0, 0, 0, 0)."""
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not rows.size:
        return (0, 0, 0, 0), np.zeros((0, 0), bool)
    y0, y1, x0, x1 = int(rows[0]), int(rows[-1]) + 1, int(cols[0]), int(cols[-1]) + 1
    return (y0, x0, y1, x1), np.ascontiguousarray(mask[y0:y1, x0:x1])


def stability_score(logits: np.ndarray, offset: float = 1.0) -> float:
    """IoU between `logits` cut at `+offset` and at `-offset` (SAM, appendix B)."""
    inner = np.count_nonzero(logits > offset)
    outer = np.count_nonzero(logits > -offset)
    return float(inner / outer) if outer else 0.0


def mask_iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boolean masks; 1 if both are empty."""
    union = np.count_nonzero(a | b)
    return float(np.count_nonzero(a & b) / union) if union else 1.0


def crop_iou(a: Bbox, mask_a: np.ndarray, b: Bbox, mask_b: np.ndarray) -> float:
    """Intersection over union of two masks, each cropped to its box on one plane."""
    shared = crops_overlap(a, mask_a, b, mask_b)
    union = np.count_nonzero(mask_a) + np.count_nonzero(mask_b) - shared
    return float(shared / union) if union else 1.0


def depth_of(mask: np.ndarray) -> np.ndarray:
    """Distance of each pixel to the nearest one outside the mask.

    What lies beyond the array counts as outside.

    Parameters
    ----------
    mask : ndarray, (h, w), bool

    Returns
    -------
    ndarray, (h, w), float64
        In pixels; 0 outside the mask.
    """
    from scipy.ndimage import distance_transform_edt

    return np.asarray(distance_transform_edt(np.pad(mask, 1)))[1:-1, 1:-1]


def deepest_point(mask: np.ndarray) -> tuple[tuple[float, float], float]:
    """Find the centre of the largest circle inside a mask.

    Parameters
    ----------
    mask : ndarray, (h, w), bool

    Returns
    -------
    center : (y, x)
        Of the pixel that is deepest inside; the first one of several.
    radius : float
        Distance in pixels to the nearest pixel outside; 0 for an empty mask.

    Examples
    --------
    >>> deepest_point(np.ones((5, 9), bool))
    ((2.0, 2.0), 3.0)
    """
    (y0, x0, _, _), crop = crop_mask(mask)
    if not crop.size:
        return (0.0, 0.0), 0.0
    depth = depth_of(crop)
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return (float(y + y0), float(x + x0)), float(depth.max())


def union_bbox(a: Bbox, b: Bbox) -> Bbox:
    """Smallest box around two; an empty one does not count."""
    if a[2] <= a[0] or a[3] <= a[1]:
        return b
    if b[2] <= b[0] or b[3] <= b[1]:
        return a
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


def boxes_meet(a: Bbox, b: Bbox) -> bool:
    """Whether two boxes share a pixel."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def crops_overlap(a: Bbox, mask_a: np.ndarray, b: Bbox, mask_b: np.ndarray) -> int:
    """Pixels that two masks share, each cropped to its own box on one plane."""
    y0, x0, y1, x1 = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
    if y1 <= y0 or x1 <= x0:
        return 0
    part_a = mask_a[y0 - a[0] : y1 - a[0], x0 - a[1] : x1 - a[1]]
    part_b = mask_b[y0 - b[0] : y1 - b[0], x0 - b[1] : x1 - b[1]]
    return int(np.count_nonzero(part_a & part_b))
