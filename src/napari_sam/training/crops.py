"""One image cut into several, so that a few annotated objects are enough to learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.tiles import Window
from napari_sam.errors import VolumeError
from napari_sam.results.label_objects import iter_objects, iter_planes
from napari_sam.training.labelled import LabelledVolume
from napari_sam.volume.opening import open_volume

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sam.core.intensity import IntensityMapping
    from napari_sam.core.masks import Bbox
    from napari_sam.core.planes import Plane
    from napari_sam.volume.volume import Volume

ENOUGH = 5
"""Planes from which on a stack is cut into stretches of planes instead."""
PIECES = 6
"""Pieces wanted of fewer planes, while there are as many objects."""
FEWEST = 3
"""Objects without which nothing can be held back to judge by."""


@dataclass(frozen=True, slots=True)
class _Group:
    """Objects of one plane that are shown together."""

    plane: Plane
    objects: tuple[tuple[int, Bbox], ...]

    @property
    def bbox(self) -> Bbox:
        """Box around all of them."""
        boxes = np.array([bbox for _, bbox in self.objects])
        y0, x0 = boxes[:, :2].min(0)
        y1, x1 = boxes[:, 2:].max(0)
        return int(y0), int(x0), int(y1), int(x1)

    @property
    def span(self) -> int:
        """Longer side of that box."""
        y0, x0, y1, x1 = self.bbox
        return max(y1 - y0, x1 - x0)

    def halves(self) -> tuple[_Group, _Group]:
        """Cut across the longer side, as many objects on either."""
        middles = [((b[0] + b[2]) / 2, (b[1] + b[3]) / 2) for _, b in self.objects]
        axis = int(np.ptp(np.array(middles), axis=0).argmax())
        order = sorted(range(len(middles)), key=lambda i: middles[i][axis])
        half = len(order) // 2
        first, second = (
            _Group(self.plane, tuple(self.objects[i] for i in part))
            for part in (order[:half], order[half:])
        )
        return first, second


def pieces_of(
    volume: Volume,
    labels: Any,
    planes: Sequence[Plane] = (),
    *,
    side: int,
    intensity: IntensityMapping | None = None,
) -> list[LabelledVolume]:
    """Make labelled images for `train` of what is annotated in one volume.

    A stack with objects on five planes or more stays whole. Of fewer, each plane is
    cut into pieces around some of its objects, so that some can be held back; a piece
    has the labels of its own objects alone.

    Parameters
    ----------
    volume : Volume
    labels : array-like
        Unsigned integers of the volume's shape; copied where they are in memory.
    planes : sequence of Plane, optional
        Planes that were annotated; found in the labels when left out.
    side : int
        Pixels that a piece has on each side at least, as far as the plane goes: the
        model's input side, so that objects keep their size.
    intensity : IntensityMapping, optional
        How the model sees raw values; the volume's own when left out.

    Raises
    ------
    VolumeError
        If there are too few objects.
    """
    intensity = intensity or volume.intensity
    wanted = planes or list(iter_planes(volume.shape))
    groups = []
    for plane in wanted:
        found = tuple((i, bbox) for i, bbox, _ in iter_objects(labels, plane))
        if found:
            groups.append(_Group(plane, found))
    count = sum(len(g.objects) for g in groups)
    if count < FEWEST:
        raise VolumeError(
            f"a model learns from at least {FEWEST} objects, of which some are held "
            f"back to judge it; {count} annotated so far. Ten or more are a good start"
        )
    if len(groups) >= ENOUGH and all(g.plane.axis == 0 for g in groups):
        snapshot = labels.copy() if isinstance(labels, np.ndarray) else labels
        shown = volume.with_intensity(intensity)
        return [LabelledVolume(volume.name, shown, snapshot)]
    return [
        _piece(volume, labels, group, side, intensity, number)
        for number, group in enumerate(_cut(groups, side), 1)
    ]


def _cut(groups: list[_Group], side: int) -> list[_Group]:
    """Halve groups until there are enough of them, and none is much too wide."""
    out: list[_Group] = []
    todo = list(groups)
    while todo:
        todo.sort(key=lambda g: (len(g.objects), g.span))
        group = todo.pop()
        few = len(todo) + len(out) + 1 < PIECES
        if len(group.objects) > 1 and (few or group.span > 2 * side):
            todo += group.halves()
        else:
            out.append(group)
    return out


def _piece(
    volume: Volume,
    labels: Any,
    group: _Group,
    side: int,
    intensity: IntensityMapping,
    number: int,
) -> LabelledVolume:
    y0, x0, y1, x1 = group.bbox
    h, w = group.plane.shape(volume.shape)
    margin = max(16, group.span // 4)
    top, bottom = _widened(y0 - margin, y1 + margin, side, h)
    left, right = _widened(x0 - margin, x1 + margin, side, w)
    window = Window(0, top, left, bottom - top, right - left)
    pixels = volume.read(group.plane, window)
    found = np.asarray(labels[group.plane.window((top, left, bottom, right))])
    own = np.where(np.isin(found, [i for i, _ in group.objects]), found, 0)
    piece = open_volume(pixels, axes="yx" if pixels.ndim == 2 else "yxc")
    return LabelledVolume(
        f"{volume.name} {number}", piece.with_intensity(intensity), own
    )


def _widened(low: int, high: int, side: int, size: int) -> tuple[int, int]:
    """Widen a span to `side` pixels on a line of `size`, and cut it to that."""
    length = min(max(side, high - low), size)
    start = min(max((low + high - length) // 2, 0), size - length)
    return start, start + length
