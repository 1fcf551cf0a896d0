"""A mask as a prompt: pixels of an object and where they lie on the plane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_sam.core.masks import crop_mask, union_bbox
from napari_sam.errors import PromptError


@dataclass(frozen=True, slots=True, eq=False)
class MaskPrompt:
    """A mask given as a prompt: a boolean crop and where it lies on the plane."""

    bbox: tuple[int, int, int, int]
    """(y0, x0, y1, x1) in level-0 pixels, half-open."""
    mask: np.ndarray
    """(y1 - y0, x1 - x0), bool."""
    shape: tuple[int, int] | None = None
    """(height, width) of the array it was cut from; None for a crop."""

    @classmethod
    def of(cls, mask: Any) -> MaskPrompt:
        """Crop a mask of the whole plane to its pixels.

        Parameters
        ----------
        mask : array-like, (h, w), bool or integers
            Integers other than 0 are in the mask.

        Raises
        ------
        PromptError
            If the mask is empty, not 2-D, or holds fractions or logits.
        """
        mask = np.asarray(mask)
        if mask.ndim != 2 or mask.dtype.kind not in "biu" or not mask.any():
            raise PromptError(
                "a mask prompt is a 2-D boolean array of the plane's shape with at "
                f"least one pixel set; got {mask.dtype} of shape {mask.shape} with "
                f"{np.count_nonzero(mask)} set. Of logits, give `logits > 0`"
            )
        h, w = mask.shape
        bbox, pixels = crop_mask(mask != 0)
        return cls(bbox, pixels, (h, w))

    def joined(self, other: MaskPrompt) -> MaskPrompt:
        """Return the mask of both."""
        y0, x0, y1, x1 = bbox = union_bbox(self.bbox, other.bbox)
        pixels = np.zeros((y1 - y0, x1 - x0), bool)
        for part in (self, other):
            a, b, c, d = part.bbox
            pixels[a - y0 : c - y0, b - x0 : d - x0] |= part.mask
        return MaskPrompt(bbox, pixels, self.shape)

    def without(self, other: MaskPrompt) -> MaskPrompt:
        """Return the mask less the pixels of another; it may be empty."""
        y0, x0, y1, x1 = self.bbox
        v0, u0, v1, u1 = other.bbox
        a, b, c, d = max(y0, v0), max(x0, u0), min(y1, v1), min(x1, u1)
        if a >= c or b >= d:
            return self
        mask = self.mask.copy()
        theirs = other.mask[a - v0 : c - v0, b - u0 : d - u0]
        mask[a - y0 : c - y0, b - x0 : d - x0] &= ~theirs
        (a, b, c, d), mask = crop_mask(mask)
        return MaskPrompt((y0 + a, x0 + b, y0 + c, x0 + d), mask, self.shape)

    def parts(self) -> list[MaskPrompt]:
        """Return the connected parts; pixels that touch at corners are connected."""
        from scipy import ndimage

        numbers, _ = ndimage.label(self.mask, np.ones((3, 3), bool))
        top, left = self.bbox[:2]
        out = []
        for k, (ys, xs) in enumerate(ndimage.find_objects(numbers), 1):
            box = top + ys.start, left + xs.start, top + ys.stop, left + xs.stop
            out.append(MaskPrompt(box, numbers[ys, xs] == k, self.shape))
        return out

    def check(self, plane_shape: tuple[int, int]) -> None:
        """Refuse a mask of another shape than the plane's (height, width).

        Raises
        ------
        PromptError
        """
        h, w = plane_shape
        y0, x0, y1, x1 = self.bbox
        if self.shape is not None and self.shape != plane_shape:
            raise PromptError(
                f"a mask prompt has the plane's shape, {h} x {w} px; got "
                f"{self.shape[0]} x {self.shape[1]}"
            )
        if (
            y0 < 0
            or x0 < 0
            or y1 > h
            or x1 > w
            or self.mask.shape != (y1 - y0, x1 - x0)
        ):
            raise PromptError(
                f"a mask prompt lies in the plane of {h} x {w} px and fills its box; "
                f"got (y0, x0, y1, x1) = {self.bbox} and pixels of {self.mask.shape}"
            )

    def to_json(self) -> dict[str, Any]:
        """Plain values: box, and pixels as bits in hexadecimal digits."""
        bits = np.packbits(self.mask).tobytes().hex()
        return {"bbox": list(self.bbox), "bits": bits}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> MaskPrompt:
        """Read what `to_json` wrote."""
        y0, x0, y1, x1 = (int(v) for v in value["bbox"])
        bits = np.frombuffer(bytes.fromhex(value["bits"]), np.uint8)
        shape = (y1 - y0, x1 - x0)
        pixels = np.unpackbits(bits, count=shape[0] * shape[1]).reshape(shape)
        return cls((y0, x0, y1, x1), pixels.astype(bool))


def same_mask(a: MaskPrompt | None, b: MaskPrompt | None) -> bool:
    """Whether two prompts are the same pixels, or both none."""
    if a is None or b is None:
        return a is b
    return a is b or (a.bbox == b.bbox and np.array_equal(a.mask, b.mask))
