"""What it costs to say that one object is another: 0 (sure) to 1, of four kinds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import cKDTree

from napari_sam.engine.motion import overlaps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sam.core.tracks import Edge, Node
    from napari_sam.engine.motion import Frame

_DISTANCE, _OVERLAP, _SIZE = 0.4, 0.4, 0.2
"""Weights of a link's costs."""
_UNLIKE = np.log(4.0)
"""Logarithm of the ratio of sizes that counts as wholly unlike."""
_EVENT, _NEEDED = 0.35, 2.0
"""Divisions and merges are rare: what one costs by itself, and how much a link that is
good without it speaks against it."""
_MISSING = 0.05
"""Cost of each frame in which an object is missing."""


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Objects of a frame and of the next one that might be the same."""

    rows: np.ndarray
    cols: np.ndarray
    costs: np.ndarray
    shared: np.ndarray
    """Pixels that each has in common with the other, once moved."""

    @classmethod
    def near(
        cls, a: Frame, b: Frame, motion: np.ndarray, reach: float, look: float
    ) -> Pairs:
        """Return those that touch, or whose centres are near.

        Parameters
        ----------
        a, b : Frame
        motion : ndarray, (n, d) or (d,)
            How far each object of `a` is expected to go.
        reach : float
            Farthest that they may be apart, in their mean diameter.
        look : float
            Weight of the likeness, where both frames have looks.
        """
        if not len(a.ids) or not len(b.ids):
            nothing = np.zeros(0, int)
            return cls(nothing, nothing, np.zeros(0), np.zeros(0))
        motion = np.broadcast_to(motion, a.centers.shape)
        expected = a.centers + motion
        touch = overlaps(a, b, motion)
        far = reach * (a.diameters + b.diameters.max()) / 2
        near = cKDTree(b.centers).query_ball_point(expected, far)
        near_rows = np.repeat(np.arange(len(near)), [len(found) for found in near])
        near_cols = np.fromiter((j for found in near for j in found), int)
        n = len(b.ids)
        both, where = np.unique(
            np.concatenate([touch.row * n + touch.col, near_rows * n + near_cols]),
            return_index=True,
        )
        rows, cols = both // n, both % n
        held = np.concatenate([touch.data, np.zeros(len(near_rows))])
        shared = held[where]
        gone = np.linalg.norm(b.centers[cols] - expected[rows], axis=1)
        gone /= (a.diameters[rows] + b.diameters[cols]) / 2
        ok = (gone < reach) | (shared > 0)
        rows, cols, shared = rows[ok], cols[ok], shared[ok]
        costs = _costs(a.areas[rows], b.areas[cols], shared, gone[ok] / reach)
        if a.looks is not None and b.looks is not None:
            unlike = (1 - (a.looks[rows] * b.looks[cols]).sum(axis=1)) / 2
            costs = (1 - look) * costs + look * unlike
        return cls(rows, cols, costs, shared)


def _costs(
    areas_a: np.ndarray, areas_b: np.ndarray, shared: np.ndarray, gone: np.ndarray
) -> np.ndarray:
    iou = shared / np.maximum(areas_a + areas_b - shared, 1)
    size = np.abs(np.log(areas_b / areas_a)) / _UNLIKE
    return np.asarray(
        _DISTANCE * np.minimum(gone, 1)
        + _OVERLAP * (1 - iou)
        + _SIZE * np.minimum(size, 1)
    )


@dataclass(frozen=True, slots=True, eq=False)
class Links:
    """How two frames are linked, and what else of them might belong together."""

    a: Frame
    b: Frame
    motion: np.ndarray
    """(n, d)"""
    pairs: Pairs
    rows: np.ndarray
    cols: np.ndarray
    """The pairs that are linked."""
    reach: float

    def splits(self, begun: Sequence[int]) -> dict[Edge, float]:
        """Cost that objects which begin are second daughters of those that go on."""
        a, b = self.a, self.b
        first = dict(zip(self.rows.tolist(), self.cols.tolist(), strict=True))
        return self._of(
            [(i, first[i], j) for i, j in self._near(begun, 1) if i in first],
            a, b, a.centers + self.motion, back=False,
        )  # fmt: skip

    def merges(self, ended: Sequence[int]) -> dict[Edge, float]:
        """Cost that objects which end are part of those that others go on as."""
        a, b = self.a, self.b
        first = dict(zip(self.cols.tolist(), self.rows.tolist(), strict=True))
        return self._of(
            [(j, first[j], i) for i, j in self._near(ended, 0) if j in first],
            b, a, b.centers, back=True,
        )  # fmt: skip

    def _near(self, some: Sequence[int], side: int) -> list[tuple[int, int]]:
        of = (self.pairs.rows, self.pairs.cols)[side]
        at = np.flatnonzero(np.isin(of, np.asarray(some, int)))
        return list(
            zip(self.pairs.rows[at].tolist(), self.pairs.cols[at].tolist(), strict=True)
        )

    def _of(
        self, found: list[tuple[int, int, int]], one: Frame, two: Frame,
        expected: np.ndarray, *, back: bool,
    ) -> dict[Edge, float]:  # fmt: skip
        """Costs that an object of a frame is two of the other."""
        if not found:
            return {}
        whole, first, second = np.array(found).T
        pairs = self.pairs
        turned = (pairs.cols, pairs.rows) if back else (pairs.rows, pairs.cols)
        place = {
            pair: k
            for k, pair in enumerate(
                zip(turned[0].tolist(), turned[1].tolist(), strict=True)
            )
        }
        at = [place.get((w, f), -1) for w, f, _ in found]
        more = [place[w, s] for w, _, s in found]
        both = np.append(pairs.shared, 0)[at] + pairs.shared[more]
        alone = np.append(pairs.costs, 1)[at]
        centers = two.centers + (self.motion if back else 0)
        areas = two.areas[first], two.areas[second]
        middle = (centers[first] + centers[second]) / 2
        size = one.diameters[whole]
        gone = np.linalg.norm(middle - expected[whole], axis=1) / size
        apart = np.linalg.norm(centers[first] - centers[second], axis=1) / size
        inside = both / np.maximum(np.minimum(one.areas[whole], sum(areas)), 1)
        unequal = np.abs(np.log(areas[0] / areas[1])) / _UNLIKE
        costs = (
            0.4 * np.minimum(gone / self.reach, 1)
            + 0.2 * np.minimum(apart / (2 * self.reach), 1)
            + 0.2 * (1 - np.minimum(inside, 1))
            + 0.2 * np.minimum(unequal, 1)
        )
        costs = costs + _EVENT + _NEEDED * np.maximum(costs - alone, 0)
        names, others = one.nodes, two.nodes
        return {
            (others[s], names[w]) if back else (names[w], others[s]): float(c)
            for (w, _, s), c in zip(found, costs, strict=True)
        }


@dataclass(frozen=True, slots=True, eq=False)
class Lost:
    """An object that goes on as none, and where it would be by now."""

    node: Node
    area: float
    diameter: float
    center: np.ndarray
    look: np.ndarray | None = None

    @classmethod
    def of(cls, frame: Frame, i: int, motion: np.ndarray) -> Lost:
        """Lose an object of a frame; it would be there in the next one."""
        look = None if frame.looks is None else frame.looks[i]
        return cls(
            frame.nodes[i], frame.areas[i], frame.diameters[i],
            frame.centers[i] + motion, look,
        )  # fmt: skip

    def moved(self, frame: Frame, motion: np.ndarray) -> Lost:
        """Return where it would be a frame later: it moves as its nearest neighbour."""
        if not len(frame.ids):
            return self
        nearest = np.linalg.norm(frame.centers - self.center, axis=1).argmin()
        return replace(self, center=self.center + motion[nearest])


def closings(
    lost: Sequence[Lost], frame: Frame, begun: Sequence[int], reach: float
) -> dict[Edge, float]:
    """Cost that objects which begin in a frame are some that were lost before it."""
    names, out = frame.nodes, {}
    for one in lost:
        for j in begun:
            gone = float(np.linalg.norm(frame.centers[j] - one.center))
            gone /= (one.diameter + frame.diameters[j]) / 2 * reach
            missing = frame.number - one.node.frame - 1
            if gone < 1 + 0.5 * missing:
                # Two discs overlap so much at this distance, more or less.
                overlap = max(0.0, 1 - gone * reach) * min(one.area, frame.areas[j])
                areas = np.array([one.area]), np.array([frame.areas[j]])
                cost = _costs(*areas, np.array([overlap]), np.array([gone]))
                out[one.node, names[j]] = float(cost[0]) + _MISSING * missing
    return out
