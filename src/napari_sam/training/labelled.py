"""One labelled image as a value, and how images of a data set are opened."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.errors import VolumeError
from napari_sam.results.incoming import IncomingLabels
from napari_sam.results.label_objects import iter_blocks, iter_planes, moments_in_block
from napari_sam.volume.opening import open_volume

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_sam.core.planes import Plane
    from napari_sam.volume.volume import Volume


@dataclass(frozen=True, slots=True, eq=False)
class LabelledVolume:
    """An image with its objects marked; neither is read before it is looked at."""

    name: str
    """Shown in tables."""
    volume: Volume
    labels: Any
    """Array-like of the volume's spatial shape, unsigned integers, 0 = background."""
    group: str = ""
    """Data set that the image belongs to, where there are several."""

    def planes(self, axis: int = 0) -> Iterator[tuple[Plane, np.ndarray]]:
        """Yield each plane that holds an object, and its labels (h, w) as integers.

        Parameters
        ----------
        axis : int
            Sliced axis among the last three.
        """
        for plane in iter_planes(self.volume.shape, axis):
            labels = np.asarray(self.labels[plane.slicer()])
            if labels.any():
                wide = int(labels.max()) > np.iinfo(np.int32).max
                yield plane, labels.astype(np.int64 if wide else np.int32)

    def objects(self, plane: Plane) -> np.ndarray:
        """Find the objects on a plane, read block by block.

        Returns
        -------
        ndarray, (N, 6), int64
            Id, area in pixels and half-open box y0, x0, y1, x1, by rising id.
        """
        rows: dict[int, np.ndarray] = {}
        for (dy, dx), part in iter_blocks(self.labels, plane):
            for row in _objects_in(part):
                row[2:] += (dy, dx, dy, dx)
                known = rows.get(int(row[0]))
                rows[int(row[0])] = row if known is None else _joined(known, row)
        found = [rows[i] for i in sorted(rows)]
        return np.array(found, np.int64).reshape(-1, 6)

    def opened(self) -> LabelledVolume:
        """Return the same with files opened anew: pixels it decodes go away with it."""
        return replace(self, volume=copy.copy(self.volume), labels=_anew(self.labels))


@dataclass(frozen=True, slots=True)
class Opening:
    """How images are opened, where their format leaves a choice."""

    axes: str | Sequence[str] | None = None
    channels: int | Sequence[int] | None = None

    def volume(self, source: Any) -> Volume:
        """Open an image."""
        return open_volume(source, axes=self.axes, channels=self.channels)

    def refuse(self, what: str) -> None:
        """Raise `VolumeError` where something else has settled it."""
        if self.axes is not None or self.channels is not None:
            raise VolumeError(
                f"{what} has its axes and channels already: leave those given out"
            )


def _objects_in(part: np.ndarray) -> np.ndarray:
    """(N, 6) id, area and box of the objects of a block."""
    rows = [(i, n, *low, *high) for i, n, low, high, _ in moments_in_block(part)]
    return np.array(rows, np.int64).reshape(-1, 6)


def _joined(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    low, high = np.minimum(a[2:4], b[2:4]), np.maximum(a[4:], b[4:])
    return np.array([a[0], a[1] + b[1], *low, *high], np.int64)


def _anew(labels: Any) -> Any:
    return copy.copy(labels) if isinstance(labels, IncomingLabels) else labels
