"""Arrays that hold labels: in memory while they are small, chunked on disk beyond."""

from __future__ import annotations

import math
import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

MEMORY_BYTES = 2**30
"""Labels up to this size are a numpy array."""


def new_labels(shape: Sequence[int], dtype: Any = np.uint16) -> Any:
    """Make empty labels.

    Parameters
    ----------
    shape : sequence of int
        Spatial shape of the volume.
    dtype : dtype
        Unsigned integers. Small ones draw faster in napari.

    Returns
    -------
    ndarray or zarr.Array
        numpy up to `MEMORY_BYTES`; beyond, a zarr array with plane-shaped chunks in a
        temporary folder that goes with it.
    """
    shape = tuple(int(n) for n in shape)
    if math.prod(shape) * np.dtype(dtype).itemsize <= MEMORY_BYTES:
        return np.zeros(shape, dtype)
    import zarr

    folder = tempfile.TemporaryDirectory(prefix="napari-sam-labels-")
    array = zarr.create_array(
        folder.name, shape=shape, dtype=dtype, chunks=label_chunks(shape), fill_value=0
    )
    object.__setattr__(array, "_folder", folder)
    return array


def label_chunks(shape: Sequence[int]) -> tuple[int, ...]:
    """Plane-shaped chunks of at most 1024 x 1024."""
    return (1,) * (len(shape) - 2) + tuple(max(1, min(1024, n)) for n in shape[-2:])
