"""What an encoding will take: tiles, disk space and time."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_sam.core.planes import count_planes, plane_at
from napari_sam.embeddings.source import grid_for, levels_of, planes_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_sam.core.intensity import IntensityMapping
    from napari_sam.models.protocol import PromptableModel
    from napari_sam.volume.volume import Volume


@dataclass(frozen=True, slots=True)
class EncodingEstimate:
    """What an encoding will take, found without reading a pixel."""

    n_planes: int
    tiles_per_plane: int
    bytes_per_tile: int
    """On disk, in float16."""

    @property
    def tiles(self) -> int:
        """Windows to encode when nothing is stored yet."""
        return self.n_planes * self.tiles_per_plane

    @property
    def disk_bytes(self) -> int:
        """Size of the finished store."""
        return self.tiles * self.bytes_per_tile


def estimate_encoding(
    volume: Volume,
    model: PromptableModel,
    *,
    planes: Iterable[Any] | None = None,
    axis: int = 0,
    levels: Iterable[int] | None = None,
) -> EncodingEstimate:
    """Return the number of tiles and the disk space that `encode_volume` will need.

    Parameters are those of `encode_volume`.
    """
    grid = grid_for(volume, model, axis)
    chosen = levels_of(grid, levels)
    values = sum(math.prod(shape) for shape in model.spec.feature_shapes.values())
    return EncodingEstimate(
        n_planes=len(planes_of(volume, planes, axis)),
        tiles_per_plane=sum(grid.n_tiles(n) for n in chosen),
        bytes_per_tile=2 * values + 8,
    )


def seconds_per_tile(
    volume: Volume,
    model: PromptableModel,
    *,
    axis: int = 0,
    intensity: IntensityMapping | None = None,
) -> float:
    """Read and encode one tile in the middle of the image, and time it.

    A tile that took less than a second is done once more: the first one also pays for
    what happens only once.
    """
    grid = grid_for(volume, model, axis)
    plane = plane_at(volume.shape, count_planes(volume.shape, axis) // 2, axis)
    h, w = grid.shape
    window = grid.owner(0, h / 2, w / 2).window
    mapping = intensity or volume.intensity
    taken = math.inf
    for _ in range(2):
        start = time.perf_counter()
        model.encode(mapping.apply(volume.read(plane, window))[None])
        taken = min(taken, time.perf_counter() - start)
        if taken > 1:
            break
    return taken
