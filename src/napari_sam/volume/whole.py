"""Files that can only be decoded whole, and pixels that a file says hold no data."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.memory import available_bytes, readable_size
from napari_sam.errors import VolumeError
from napari_sam.volume.lazy_arrays import LazyArray

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

_MASK_SHARE = 0.95
"""Share of an alpha channel's values that are 0 or its highest in one that masks."""
_UNSUSPICIOUS, _MOST_PACKED = 64 << 20, 5000
"""Bytes of pixels that any file may hold, and how many a byte of a larger one may."""
_TIMES = 2
"""How often what is decoded lies in memory while it is decoded."""


class WholeArray(LazyArray):
    """Pixels that are decoded whole, at the first look, if they fit in memory.

    Parameters
    ----------
    path : str
        For messages.
    decode : callable
        Gives the pixels, of `shape` and `dtype`.
    shape, dtype
    """

    def __init__(
        self,
        path: str,
        decode: Callable[[], np.ndarray],
        shape: Sequence[int],
        dtype: Any,
    ) -> None:
        super().__init__(shape, dtype)
        self.path, self._decode = path, decode
        self._pixels: np.ndarray | None = None
        self._lock = threading.Lock()

    def read(self, spans: tuple[slice, ...]) -> np.ndarray:
        """Cut a block out of the decoded pixels."""
        with self._lock:
            if self._pixels is None:
                check_memory(self.path, self.nbytes)
                pixels = self._decode()
                if pixels.shape != self.shape:
                    raise VolumeError(
                        f"{self.path!r} says that it holds {self.shape} pixels, but "
                        f"{pixels.shape} came: the file is damaged"
                    )
                self._pixels = pixels.astype(self.dtype, copy=False)
            return self._pixels[spans]


def check_memory(path: str, n_bytes: int) -> None:
    """Refuse to decode what would not fit in memory.

    Raises
    ------
    VolumeError
        If twice `n_bytes` are more than what is free, or far more than a file of that
        size can hold.
    """
    check_claim(path, n_bytes)
    free = available_bytes()
    if n_bytes * _TIMES > free:
        raise VolumeError(
            f"{path!r} is of a format that can only be decoded whole, which takes "
            f"{readable_size(n_bytes * _TIMES)} of memory, and {readable_size(free)} "
            "are free: convert it to OME-Zarr or a tiled TIFF on a larger machine"
        )


def check_claim(path: str, n_bytes: int) -> None:
    """Refuse a header that promises far more pixels than its file can hold.

    Raises
    ------
    VolumeError
    """
    size = os.path.getsize(path)
    if n_bytes > _UNSUSPICIOUS and n_bytes > _MOST_PACKED * size:
        raise VolumeError(
            f"{path!r} says that it holds {readable_size(n_bytes)} of pixels in "
            f"{readable_size(size)}: its header is damaged, or it is made to fill the "
            "memory"
        )


def is_mask(alpha: np.ndarray) -> bool:
    """Whether an alpha channel says where there is data, rather than holding some.

    Infra-red bands and other measurements are often marked as alpha; nearly all
    values of a real one are 0 or the highest.
    """
    if alpha.size == 0 or alpha.dtype.kind not in "buif":
        return False
    high = alpha.max()
    if not high or not np.isfinite(high):
        return False
    if alpha.min() == high:
        return bool(
            high == (np.iinfo(alpha.dtype).max if alpha.dtype.kind in "iu" else 1)
        )
    ends = (alpha == 0) | (alpha == high)
    return bool(ends.mean() >= _MASK_SHARE)


def blank_value(dtype: Any) -> float:
    """Value given to pixels without data where the file names none."""
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return float("nan")
    return float(np.iinfo(dtype).min) if dtype.kind == "i" else 0.0
