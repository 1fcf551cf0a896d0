"""Arrays that give way to their compressed form, in memory and on disk."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.masks import LabelPatch, union_bbox

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari_sam.core.masks import Bbox
    from napari_sam.core.planes import Plane


@cache
def _zstd() -> Any:
    from numcodecs import Zstd

    return Zstd(level=1)


class Packed:
    """A read-only array, held as it is until `pack` compresses it.

    Any thread may pack while another reads.

    Parameters
    ----------
    array : ndarray
        Not to be changed any more.
    """

    __slots__ = ("_array", "_bytes", "dtype", "shape")

    def __init__(self, array: np.ndarray) -> None:
        self._array: np.ndarray | None = array
        self._bytes: bytes | None = None
        self.dtype: np.dtype[Any] = array.dtype
        self.shape: tuple[int, ...] = array.shape

    @classmethod
    def of_bytes(cls, data: bytes, dtype: str, shape: Sequence[int]) -> Packed:
        """Take what `pack` gave."""
        out = cls.__new__(cls)
        out._array, out._bytes = None, data
        out.dtype, out.shape = np.dtype(dtype), tuple(int(n) for n in shape)
        return out

    @property
    def array(self) -> np.ndarray:
        """The values; unpacked anew each time once they are packed."""
        array = self._array
        if array is not None:
            return array
        size = math.prod(self.shape)
        if not size:
            return np.zeros(self.shape, self.dtype)
        raw = np.frombuffer(_zstd().decode(self._bytes), np.uint8)
        if self.dtype == bool:
            bits = np.unpackbits(raw, count=size)
            return bits.view(bool).reshape(self.shape)
        return raw.view(self.dtype).reshape(self.shape)

    def pack(self) -> bytes:
        """Compress (booleans to bits first); return the bytes."""
        array = self._array
        if self._bytes is None:
            assert array is not None
            flat = np.packbits(array) if self.dtype == bool else array
            data = np.ascontiguousarray(flat).tobytes()
            self._bytes = bytes(_zstd().encode(data)) if data else b""
        self._array = None
        return self._bytes


@dataclass(frozen=True, slots=True, eq=False)
class PackedPatch:
    """A `LabelPatch` of which the mask and the changed values are kept packed."""

    plane: Plane
    bbox: Bbox
    mask: Packed
    """(h, w) bool."""
    before: Packed | int
    """Values where the mask is set, in C order; a number where all are the same."""
    after: Packed | int

    @classmethod
    def of(cls, patch: LabelPatch) -> PackedPatch:
        """Pack a patch; its arrays are copied where they hold more than one value."""
        changed = np.ascontiguousarray(patch.changed)
        before, after = _values(patch.before, changed), _values(patch.after, changed)
        return cls(patch.plane, patch.bbox, Packed(changed), before, after)

    def patch(self) -> LabelPatch:
        """Return the patch that this was made of."""
        mask = self.mask.array
        before, after = _spread(self.before, mask), _spread(self.after, mask)
        return LabelPatch(self.plane, self.bbox, before, after, mask)


def _values(values: np.ndarray, changed: np.ndarray) -> Packed | int:
    if not values.ndim:
        return int(values)
    held = values[changed]
    if not held.size:
        return 0
    first = int(held[0])
    return first if (held == first).all() else Packed(held)


def _spread(values: Packed | int, mask: np.ndarray) -> np.ndarray:
    if isinstance(values, int):
        return np.asarray(values, np.min_scalar_type(values))
    out = np.zeros(mask.shape, values.dtype)
    out[mask] = values.array
    return out


def merged(patches: Iterable[LabelPatch], limit: int = 2**27) -> list[LabelPatch]:
    """Make one patch a plane of patches that follow one another, where that is smaller.

    Parameters
    ----------
    patches : iterable of LabelPatch
        In order.
    limit : int
        Most pixels in the box of one merged patch; beyond, they stay as they are.
    """
    given = list(patches)
    by_plane: dict[Plane, list[LabelPatch]] = {}
    for patch in given:
        by_plane.setdefault(patch.plane, []).append(patch)
    if len({p.axis for p in by_plane}) > 1:  # planes that cross: their order counts
        return given
    return [p for found in by_plane.values() for p in _merge(found, limit)]


def _merge(patches: list[LabelPatch], limit: int) -> list[LabelPatch]:
    if len(patches) < 2:
        return patches
    bbox: Bbox = (0, 0, 0, 0)
    for patch in patches:
        bbox = union_bbox(bbox, patch.bbox)
    h, w = bbox[2] - bbox[0], bbox[3] - bbox[1]
    if h * w > limit:
        return patches
    kind = np.result_type(*(v.dtype for p in patches for v in (p.before, p.after)))
    before, after = np.zeros((h, w), kind), np.zeros((h, w), kind)
    seen = np.zeros((h, w), bool)
    for patch in patches:
        y0, x0 = patch.bbox[0] - bbox[0], patch.bbox[1] - bbox[1]
        part = np.s_[y0 : y0 + patch.shape[0], x0 : x0 + patch.shape[1]]
        changed = patch.changed
        np.copyto(before[part], patch.before, where=changed & ~seen[part])
        np.copyto(after[part], patch.after, where=changed)
        seen[part] |= changed
    seen &= before != after
    return [LabelPatch(patches[0].plane, bbox, before, after, seen)]
