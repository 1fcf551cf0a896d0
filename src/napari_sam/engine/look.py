"""How an object looks: the intensity of its pixels, compared from plane to plane."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.tiles import Window

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_sam.core.mask_prompt import MaskPrompt
    from napari_sam.core.planes import Plane
    from napari_sam.engine.engine import Engine

_SIDE = 256
"""Objects are looked at on a level on which they are at most about this wide."""
_LEAST_DEVIATION = 4.0
"""Grey levels of 255: what noise-free pixels are taken to vary by."""
_LEAST_APART = 8.0
"""The same between planes far apart, where shading adds to it: about 3 percent."""
_MOST_LOOKS = 24
"""Planes of one object that are compared; of more, some evenly spread ones."""


@dataclass(frozen=True, slots=True)
class Look:
    """Grey levels of an object's pixels as the model sees them."""

    mean: tuple[float, ...]
    """Of each of red, green and blue, 0..255."""
    deviation: tuple[float, ...]

    @classmethod
    def of(cls, engine: Engine, plane: Plane, mask: MaskPrompt) -> Look:
        """Look at an object on a plane; nothing larger than `_SIDE` is read."""
        values = _pixels(engine, plane, mask)
        deviation = np.maximum(values.std(0), _LEAST_DEVIATION)
        return cls(tuple(values.mean(0).tolist()), tuple(deviation.tolist()))

    def unlike(self, engine: Engine, plane: Plane, mask: MaskPrompt) -> float:
        """How far the mean of other pixels lies from this one, in its deviations."""
        mean = _pixels(engine, plane, mask).mean(0)
        return float(np.max(np.abs(mean - self.mean) / np.array(self.deviation)))

    def apart(self, other: Look) -> float:
        """How far two means lie apart, in the smaller of both deviations."""
        deviation = np.minimum(self.deviation, other.deviation).clip(_LEAST_APART)
        away = np.abs(np.subtract(self.mean, other.mean)) / deviation
        return float(np.max(away))


def most_unlike(
    engine: Engine, masks: Mapping[Plane, MaskPrompt]
) -> tuple[Plane, Plane, float]:
    """Return the two planes on which an object looks most unlike itself.

    What a box or click gave on one of them may not be the object at all: of two sets of
    masks that a model made of an object's boxes, the wrong ones were told by this.

    Parameters
    ----------
    engine : Engine
    masks : mapping of Plane to MaskPrompt
        Two or more.

    Returns
    -------
    Plane, Plane, float
        And how unlike: the difference of mean intensities, in standard deviations.
    """
    planes = sorted(masks, key=lambda p: p.index)
    if len(planes) > _MOST_LOOKS:
        some = np.linspace(0, len(planes) - 1, _MOST_LOOKS).round().astype(int)
        planes = [planes[i] for i in some]
    looks = {p: Look.of(engine, p, masks[p]) for p in planes}
    pairs = combinations(planes, 2)
    a, b = max(pairs, key=lambda pair: looks[pair[0]].apart(looks[pair[1]]))
    return a, b, looks[a].apart(looks[b])


def _pixels(engine: Engine, plane: Plane, mask: MaskPrompt) -> np.ndarray:
    """(N, 3) grey levels of the pixels of a mask."""
    y0, x0, y1, x1 = mask.bbox
    level = max(0, int(np.ceil(np.log2(max(y1 - y0, x1 - x0, 1) / _SIDE))))
    scale = 1 << level
    top, left = y0 // scale, x0 // scale
    window = Window(level, top, left, -(-y1 // scale) - top, -(-x1 // scale) - left)
    seen = engine.intensity.apply(engine.volume.read(plane, window))
    rows = (np.arange(window.h) + top) * scale + scale // 2 - y0
    cols = (np.arange(window.w) + left) * scale + scale // 2 - x0
    h, w = mask.mask.shape
    inside = mask.mask[np.ix_(rows.clip(0, h - 1), cols.clip(0, w - 1))]
    outside = (rows < 0) | (rows >= h)
    inside[outside] = False
    inside[:, (cols < 0) | (cols >= w)] = False
    values = seen.reshape(window.h, window.w, -1)
    found = values[inside] if inside.any() else values.reshape(-1, values.shape[-1])
    return np.asarray(found, np.float64)
