"""What embeddings are made from: an image, a model and an intensity mapping."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.embedding import EmbeddingSignature
from napari_sam.core.planes import Plane, count_planes, plane_at
from napari_sam.core.tiles import TileGrid
from napari_sam.errors import NapariSamError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from napari_sam.core.intensity import IntensityMapping
    from napari_sam.core.tiles import Window
    from napari_sam.models.protocol import PromptableModel
    from napari_sam.volume.volume import Volume


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingSource:
    """A volume, a model and an intensity mapping, which belong together.

    All work that encodes takes the three as this one value, so that no feature is ever
    kept under the name of another model or mapping.

    Examples
    --------
    >>> from napari_sam.testing import ToyModel
    >>> from napari_sam.volume.opening import open_volume
    >>> volume = open_volume(np.zeros((64, 48), np.uint8))
    >>> EmbeddingSource.of(volume, ToyModel(32)).grid().counts(0)
    (3, 2)
    """

    volume: Volume
    model: PromptableModel
    intensity: IntensityMapping
    """How raw values become the model's input."""

    @classmethod
    def of(
        cls,
        volume: Volume,
        model: PromptableModel,
        intensity: IntensityMapping | None = None,
    ) -> EmbeddingSource:
        """Put the three together; the mapping is the volume's own when left out."""
        return cls(volume, model, intensity or volume.intensity)

    def grid(self, axis: int = 0) -> TileGrid:
        """Return the tiles that embeddings of the planes on an axis live on."""
        return grid_for(self.volume, self.model, axis)

    def signature(self, axis: int = 0) -> EmbeddingSignature:
        """Return what must agree before stored embeddings of an axis serve."""
        spec, grid = self.model.spec, self.grid(axis)
        return EmbeddingSignature(
            model=spec.name,
            checkpoint_sha256=spec.sha256,
            encoder_revision=spec.encoder_revision,
            tile_side=grid.side,
            overlap=grid.overlap,
            n_levels=grid.n_levels,
            zoom=grid.zoom,
            axis=axis,
            intensity=self.intensity.to_json(),
            source=dict(self.volume.identity()),
        )

    def pixels(self, plane: Plane, window: Window) -> np.ndarray:
        """Read a window as the model sees it: (h, w, 3) uint8.

        Raises
        ------
        VolumeError
            If the pixels cannot be read.
        """
        return self.intensity.apply(self.volume.read(plane, window))


def grid_for(volume: Volume, model: PromptableModel, axis: int = 0) -> TileGrid:
    """Return the tiles that embeddings of a volume's planes live on.

    The tile side is the model's input side, neighbours share a quarter of it, and the
    coarsest level is one tile. Pixels are square, whatever the volume's spacing.
    """
    shape = Plane.of(volume.shape, 0, axis=axis).shape(volume.shape)
    return TileGrid.of(shape, model.spec.input_side, zoom=volume.zoom(axis))


def checksum(pixels: np.ndarray) -> int:
    """CRC-32 of an array's values: 0.6 ms for a window of 1024 x 1024 x 3.

    Tells pixels that were changed from those that were not; it is no proof against
    somebody who wants to deceive.
    """
    return zlib.crc32(np.ascontiguousarray(pixels).data)


def planes_of(volume: Volume, planes: Iterable[Any] | None, axis: int) -> list[Plane]:
    """Check the planes that a caller named, each once; None: all on the axis."""
    if planes is None:
        Plane.of(volume.shape, 0, axis=axis)  # refuses an axis that is not there
        n = count_planes(volume.shape, axis)
        return [plane_at(volume.shape, i, axis) for i in range(n)]
    given = [Plane.of(volume.shape, p, axis=axis) for p in planes]
    if not given:
        raise NapariSamError("planes must be one or more; got none")
    return list(dict.fromkeys(given))


def levels_of(grid: TileGrid, levels: Iterable[int] | None) -> list[int]:
    """Check the levels that a caller named; None: all of the grid."""
    chosen = list(range(grid.n_levels)) if levels is None else sorted(set(levels))
    if not chosen or chosen[0] < 0 or chosen[-1] >= grid.n_levels:
        raise NapariSamError(
            f"levels must be one or more of 0 ... {grid.n_levels - 1}; got {chosen}"
        )
    return chosen
