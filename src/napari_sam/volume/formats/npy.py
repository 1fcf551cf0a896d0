"""Open NPY files as memory maps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.errors import SeriesError, VolumeError
from napari_sam.volume.arrays import assemble
from napari_sam.volume.layout import Layout

if TYPE_CHECKING:
    from napari_sam.volume.volume import Volume


def open_npy(
    path: str, *, axes: Any = None, channels: Any = None, series: Any = None
) -> Volume:
    """Open an NPY file as a memory map."""
    if series is not None:
        raise SeriesError(f"{path!r} holds one array: leave series= out")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise VolumeError(f"{path!r} is not a whole NPY file: {error}") from error
    return assemble(
        [array],
        Layout(),
        axes=axes,
        channels=channels,
        name=Path(path).stem,
        source=path,
    )
