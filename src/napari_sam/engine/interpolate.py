"""Masks between key planes from their shapes alone: signed distances, blended.

Shape-based interpolation (Raya and Udupa 1990; Herman et al. 1992) fails where an
object moves by more than its width from key to key, branches, or ends. So parts are
matched first; each matched pair is moved onto one another by its centroid and blended
there; a part without a partner shrinks to nothing half-way.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_sam.core.mask_prompt import MaskPrompt
from napari_sam.core.masks import Bbox, crop_mask, union_bbox

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_REACH = 1.5
"""Parts farther apart than this many of their mean widths are not the same part."""


def interpolate(
    keys: Mapping[int, MaskPrompt],
    numbers: Iterable[int] | None = None,
    *,
    spacing: tuple[float, float] = (1.0, 1.0),
    shape: tuple[int, int] | None = None,
) -> Iterator[tuple[int, MaskPrompt]]:
    """Fill the planes between key planes.

    Parameters
    ----------
    keys : mapping of int to MaskPrompt
        The object on planes of one stack, by plane number; level-0 pixels.
    numbers : iterable of int, optional
        Planes wanted; those not between two keys are left out. All where not given.
    spacing : tuple of float
        Size of a pixel, (y, x), in one unit.
    shape : tuple of int, optional
        (height, width) of the planes, to which masks are cut.

    Yields
    ------
    tuple of int and MaskPrompt
        By rising plane number, without the keys; planes on which nothing is left, as
        where every part ends, are not among them.

    Examples
    --------
    >>> disc = MaskPrompt((0, 0, 9, 9), np.hypot(*np.mgrid[-4:5, -4:5]) < 4.5)
    >>> moved = MaskPrompt((0, 20, 9, 29), disc.mask)
    >>> dict(interpolate({0: disc, 2: moved}))[1].bbox
    (0, 10, 9, 19)
    """
    wanted = None if numbers is None else set(numbers)
    for low, high in pairwise(sorted(keys)):
        between = [n for n in range(low + 1, high) if wanted is None or n in wanted]
        if not between:
            continue
        blend = _Blend.of(keys[low], keys[high], spacing)
        for n in between:
            found = blend.at((n - low) / (high - low))
            if found is not None and shape is not None:
                found = _cut(found, shape)
            if found is not None:
                yield n, found


def blend(
    votes: Sequence[tuple[MaskPrompt, float]],
    spacing: tuple[float, float] = (1.0, 1.0),
) -> MaskPrompt | None:
    """Return the mask on which several agree: the mean of their signed distances.

    Parameters
    ----------
    votes : sequence of (MaskPrompt, float)
        Masks on one plane, and how much each counts; at least one.
    spacing : tuple of float
        Size of a pixel, (y, x), in one unit.

    Returns
    -------
    MaskPrompt or None
        None where they leave nothing.
    """
    if len(votes) == 1:
        return votes[0][0]
    box = votes[0][0].bbox
    for mask, _ in votes:
        box = union_bbox(box, mask.bbox)
    depth = sum(weight * _depth(mask, box, spacing) for mask, weight in votes)
    return _cropped(np.asarray(depth) > 0, box)


@dataclass(frozen=True, slots=True, eq=False)
class _Pair:
    """Parts of two keys that belong together; one of them may be missing."""

    low: MaskPrompt | None
    high: MaskPrompt | None

    def at(self, t: float, spacing: tuple[float, float]) -> MaskPrompt | None:
        """The part at `t` of the way from low (0) to high (1)."""
        if self.low is None or self.high is None:
            one, far = (self.high, 1 - t) if self.low is None else (self.low, t)
            assert one is not None
            return _shrunk(one, 2 * far, spacing)
        step = np.subtract(_centroid(self.high), _centroid(self.low))
        # Whole pixels, so that distances stay exact; both meet in the same place.
        ahead = np.round(step * t).astype(int)
        back = ahead - np.round(step).astype(int)
        low, high = _moved(self.low, ahead), _moved(self.high, back)
        box = union_bbox(low.bbox, high.bbox)
        depth = (1 - t) * _depth(low, box, spacing) + t * _depth(high, box, spacing)
        inside = depth > 0
        if not inside.any():  # thin parts that do not meet: the nearer one, moved
            return low if t <= 0.5 else high
        return _cropped(inside, box)


@dataclass(frozen=True, slots=True, eq=False)
class _Blend:
    """What lies between two keys."""

    pairs: tuple[_Pair, ...]
    spacing: tuple[float, float]

    @classmethod
    def of(
        cls, low: MaskPrompt, high: MaskPrompt, spacing: tuple[float, float]
    ) -> _Blend:
        return cls(tuple(_matched(low.parts(), high.parts())), spacing)

    def at(self, t: float) -> MaskPrompt | None:
        """Union of all pairs at `t` of the way."""
        parts = [p for pair in self.pairs if (p := pair.at(t, self.spacing))]
        return _joined(parts) if parts else None


def _matched(low: list[MaskPrompt], high: list[MaskPrompt]) -> Iterator[_Pair]:
    """Pair parts that overlap or are each other's nearest; branches stay together."""
    near = np.zeros((len(low), len(high)), bool)
    shift = np.subtract(_centroid(_joined(high)), _centroid(_joined(low)))
    ahead = [_moved(one, np.round(shift).astype(int)) for one in low]
    for i, one in enumerate(low):
        for j, other in enumerate(high):
            near[i, j] = _meet(one, other) or _meet(ahead[i], other)
    for i in np.flatnonzero(~near.any(1)).tolist():
        free = np.flatnonzero(~near.any(0))
        if free.size:
            gaps = [_gap(low[i], high[j]) for j in free.tolist()]
            if min(gaps) <= _REACH:
                near[i, free[int(np.argmin(gaps))]] = True
    n = len(low)
    links = np.zeros((n + len(high),) * 2, bool)
    links[:n, n:] = near
    count, group = _components(links)
    for k in range(count):
        members = np.flatnonzero(group == k)
        here = [low[i] for i in members if i < n]
        there = [high[i - n] for i in members if i >= n]
        yield from _branches(here, there)


def _branches(here: list[MaskPrompt], there: list[MaskPrompt]) -> Iterator[_Pair]:
    """Split a part that becomes several into the pieces nearest to each of them."""
    if not here or not there:
        yield _Pair(_joined(here) if here else None, _joined(there) if there else None)
    elif len(here) == 1 and len(there) > 1:
        pieces = _divided(here[0], there)
        yield from (_Pair(a, b) for a, b in zip(pieces, there, strict=True))
    elif len(there) == 1 and len(here) > 1:
        pieces = _divided(there[0], here)
        yield from (_Pair(a, b) for a, b in zip(here, pieces, strict=True))
    else:
        yield _Pair(_joined(here), _joined(there))


def _divided(one: MaskPrompt, among: list[MaskPrompt]) -> list[MaskPrompt | None]:
    """Give each pixel of a part to the nearest of several others."""
    box = one.bbox
    for other in among:
        box = union_bbox(box, other.bbox)
    away = [ndimage.distance_transform_edt(~_full(o, box)) for o in among]
    nearest, inside = np.argmin(np.stack(away), axis=0), _full(one, box)
    return [_cropped(inside & (nearest == k), box) for k in range(len(among))]


def _components(links: np.ndarray) -> tuple[int, np.ndarray]:
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    count, group = connected_components(csr_array(links), directed=False)
    return int(count), np.asarray(group)


def _centroid(mask: MaskPrompt) -> tuple[float, float]:
    y, x = np.argwhere(mask.mask).mean(0)
    return float(y + mask.bbox[0]), float(x + mask.bbox[1])


def _moved(mask: MaskPrompt, by: np.ndarray) -> MaskPrompt:
    (y0, x0, y1, x1), (dy, dx) = mask.bbox, (int(by[0]), int(by[1]))
    return MaskPrompt((y0 + dy, x0 + dx, y1 + dy, x1 + dx), mask.mask)


def _full(mask: MaskPrompt, box: Bbox) -> np.ndarray:
    out = np.zeros((box[2] - box[0], box[3] - box[1]), bool)
    y0, x0, y1, x1 = mask.bbox
    out[y0 - box[0] : y1 - box[0], x0 - box[1] : x1 - box[1]] = mask.mask
    return out


def _depth(mask: MaskPrompt, box: Bbox, spacing: tuple[float, float]) -> np.ndarray:
    """Signed distance to the outline, positive inside; a pixel's half at the border."""
    inside = np.pad(_full(mask, box), 1)
    within = ndimage.distance_transform_edt(inside, sampling=spacing)
    beyond = ndimage.distance_transform_edt(~inside, sampling=spacing)
    half = 0.5 * min(spacing)
    depth = np.where(inside, within - half, half - beyond)
    return np.asarray(depth[1:-1, 1:-1])


def _shrunk(
    mask: MaskPrompt, share: float, spacing: tuple[float, float]
) -> MaskPrompt | None:
    """A part with `share` of its depth worn off; None from 1 on."""
    if share >= 1:
        return None
    depth = _depth(mask, mask.bbox, spacing)
    return _cropped(depth > share * depth.max(), mask.bbox)


def _joined(masks: list[MaskPrompt]) -> MaskPrompt:
    return reduce(MaskPrompt.joined, masks)


def _meet(a: MaskPrompt, b: MaskPrompt) -> bool:
    box = union_bbox(a.bbox, b.bbox)
    return bool((_full(a, box) & _full(b, box)).any())


def _gap(a: MaskPrompt, b: MaskPrompt) -> float:
    """Distance of two centroids in mean widths (of discs of the same area)."""
    away = float(np.hypot(*np.subtract(_centroid(a), _centroid(b))))
    width = np.sqrt(np.count_nonzero(a.mask)) + np.sqrt(np.count_nonzero(b.mask))
    return away / max(float(width / np.sqrt(np.pi)), 1.0)


def _cropped(inside: np.ndarray, box: Bbox) -> MaskPrompt | None:
    (y0, x0, y1, x1), mask = crop_mask(inside)
    if not mask.size:
        return None
    top, left = box[:2]
    return MaskPrompt((top + y0, left + x0, top + y1, left + x1), mask)


def _cut(mask: MaskPrompt, shape: tuple[int, int]) -> MaskPrompt | None:
    y0, x0, y1, x1 = mask.bbox
    box = max(y0, 0), max(x0, 0), min(y1, shape[0]), min(x1, shape[1])
    part = mask.mask[box[0] - y0 : box[2] - y0, box[1] - x0 : box[3] - x0]
    return _cropped(part, box) if part.any() else None
