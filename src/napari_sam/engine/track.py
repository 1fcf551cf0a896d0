"""Objects linked through time: each frame to the next one, then what that leaves apart.

From frame to frame each object may go on as one other: a linear assignment over pairs
that are near each other once the frame's motion is taken off. What begins or ends in
the midst of the time is then joined by laptrack: over gaps, as daughters of a division,
or as merged (Jaqaman et al., Nature Methods 2008). All costs are of one kind, 0 (sure)
to 1: how far an object is from where it was expected, in its own diameters, how much of
it lies where it was expected, how its size differs, and how its look does where looks
are given.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from napari_sam.core.tracks import Tracks
from napari_sam.engine.link_costs import Links, Lost, Pairs, closings
from napari_sam.engine.motion import drift, flow
from napari_sam.engine.segments import Loose, join
from napari_sam.errors import Cancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from napari_sam.core.tracks import Edge, Node
    from napari_sam.engine.motion import Frame

_SURE = 0.5
"""Cost up to which a link tells how the frame moves."""
_EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class TrackOptions:
    """How far objects may go from frame to frame, and what may happen to them."""

    max_distance: float = field(default=1.5, metadata={"range": (0.1, 20)})
    """Farthest that an object may be from where it is expected, in its diameters."""
    max_gap: int = field(default=2, metadata={"range": (0, 50)})
    """Most frames in a row in which an object may be missing."""
    divisions: bool = True
    """Whether an object may go on as two."""
    merges: bool = False
    """Whether two objects may go on as one."""
    max_cost: float = field(default=0.8, metadata={"range": (0, 1)})
    """Links that are more doubtful are not made."""
    look: float = field(default=0.0, metadata={"range": (0, 1)})
    """Weight of how alike objects look to the model, against place and size. With 0
    nothing is encoded."""


@dataclass(frozen=True, slots=True, eq=False)
class Fixed:
    """What a person has said of links; the linking keeps to it."""

    validated: Collection[Edge] = ()
    refused: Collection[Edge] = ()


def track(
    frames: Iterable[Frame],
    options: TrackOptions | None = None,
    *,
    fixed: Fixed | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Iterator[Tracks | int]:
    """Link objects through time.

    Parameters
    ----------
    frames : iterable of Frame
        In the order of time, each measured when it is asked for; few are kept.
    options : TrackOptions, optional
    fixed : Fixed, optional
        Validated links are made as they are; refused ones are not.
    cancel : callable, optional
        Asked before each frame; True raises `Cancelled`.

    Yields
    ------
    int
        The number of frames that are linked; at last the `Tracks`.

    Raises
    ------
    Cancelled
    """
    linking = Linking(options or TrackOptions(), fixed or Fixed())
    for n, frame in enumerate(frames):
        if cancel is not None and cancel():
            raise Cancelled("stopped before the frames were linked")
        linking.add(frame)
        yield n + 1
    yield linking.tracks()


class Linking:
    """Frames linked as they come.

    Parameters
    ----------
    options : TrackOptions
    fixed : Fixed
    """

    def __init__(self, options: TrackOptions, fixed: Fixed) -> None:
        self.options = options
        self._next: dict[Node, list[Node]] = {}
        self._last: dict[Node, list[Node]] = {}
        for one, two in fixed.validated:
            self._next.setdefault(one, []).append(two)
            self._last.setdefault(two, []).append(one)
        self._validated = list(fixed.validated)
        self._refused = set(fixed.refused)
        self._nodes: list[Node] = []
        self._edges: dict[Edge, float] = {}
        self._piece: dict[Node, Node] = {}
        """First node of the unbroken line that each is part of."""
        self._loose = Loose()
        self._before: Frame | None = None
        self._lost: list[Lost] = []

    def add(self, frame: Frame) -> None:
        """Take the next frame."""
        self._nodes += frame.nodes
        if self._before is not None:
            self._link(self._before, frame)
        for node in frame.nodes:
            before = self._piece_after(self._last.get(node, ()))
            self._piece.setdefault(node, before or node)
        self._before = frame

    def tracks(self) -> Tracks:
        """Return all that is linked."""
        there, options = set(self._nodes), self.options
        fixed = [e for e in self._validated if e[0] in there and e[1] in there]
        edges = self._edges | dict.fromkeys(fixed, 0.0)
        edges |= join(self._piece, self._loose, options.max_cost, options.max_gap)
        return Tracks(tuple(sorted(self._nodes)), edges)

    def _piece_after(self, came: Sequence[Node]) -> Node | None:
        """Return the piece that goes on from these nodes; None: a new one begins."""
        if len(came) != 1 or len(self._next.get(came[0], ())) > 1:
            return None
        return self._piece.get(came[0])

    def _link(self, a: Frame, b: Frame) -> None:
        shift = drift(a, b)
        rows, cols, costs = self._assign(a, b, self._pairs(a, b, shift))
        sure = costs < _SURE
        moved = b.centers[cols[sure]] - a.centers[rows[sure]]
        motion = flow(a, rows[sure], moved, shift)
        pairs = self._pairs(a, b, motion)
        rows, cols, costs = self._assign(a, b, pairs)
        names_a, names_b = a.nodes, b.nodes
        for i, j, cost in zip(rows, cols, costs.tolist(), strict=True):
            self._edges[names_a[i], names_b[j]] = cost
            if piece := self._piece_after([names_a[i]]):
                self._piece[names_b[j]] = piece
        begun = [
            j
            for j in np.setdiff1d(np.arange(len(b.ids)), cols)
            if names_b[j] not in self._last
        ]
        ended = [
            i
            for i in np.setdiff1d(np.arange(len(a.ids)), rows)
            if names_a[i] not in self._next
        ]
        links = Links(a, b, motion, pairs, rows, cols, self.options.max_distance)
        if self.options.divisions:
            self._take(self._loose.splits, links.splits(begun))
        if self.options.merges:
            self._take(self._loose.merges, links.merges(ended))
        self._close_gaps(a, b, ended, begun, motion)

    def _close_gaps(
        self, a: Frame, b: Frame, ended: list[int], begun: list[int],
        motion: np.ndarray,
    ) -> None:  # fmt: skip
        """Look for those lost before among those that begin; carry the lost along."""
        self._take(
            self._loose.gaps,
            closings(self._lost, b, begun, self.options.max_distance),
        )
        oldest = b.number - self.options.max_gap
        kept = [x for x in self._lost if x.node.frame >= oldest]
        self._lost = [x.moved(a, motion) for x in kept]
        if self.options.max_gap:
            self._lost += [Lost.of(a, i, motion[i]) for i in ended]

    def _take(self, to: dict[Edge, float], found: dict[Edge, float]) -> None:
        for edge, cost in found.items():
            said = edge in self._refused or edge[0] in self._next
            if not said and edge[1] not in self._last and cost <= self.options.max_cost:
                to[edge] = cost

    def _pairs(self, a: Frame, b: Frame, motion: np.ndarray) -> Pairs:
        return Pairs.near(a, b, motion, self.options.max_distance, self.options.look)

    def _assign(
        self, a: Frame, b: Frame, pairs: Pairs
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return rows, columns and costs of the links of two frames."""
        rows, cols, costs = pairs.rows, pairs.cols, pairs.costs
        forced: list[tuple[int, int]] = []
        if self._validated or self._refused:
            names_a, names_b = a.nodes, b.nodes
            place = {n: j for j, n in enumerate(names_b)}
            forced = [
                (i, place[two])
                for i, one in enumerate(names_a)
                for two in self._next.get(one, ())
                if two in place
            ]
            held_a = np.array([n in self._next for n in names_a], bool)
            held_b = np.array([n in self._last for n in names_b], bool)
            ok = ~held_a[rows] & ~held_b[cols]
            refused = [
                (names_a[i], names_b[j]) in self._refused
                for i, j in zip(rows, cols, strict=True)
            ]
            ok &= ~np.array(refused, bool)
            rows, cols, costs = rows[ok], cols[ok], costs[ok]
        sizes = len(a.ids), len(b.ids)
        found = assign(rows, cols, costs, sizes, self.options.max_cost)
        more = np.array(forced, int).reshape(-1, 2)
        return (
            np.concatenate([rows[found], more[:, 0]]),
            np.concatenate([cols[found], more[:, 1]]),
            np.concatenate([costs[found], np.zeros(len(more))]),
        )


def assign(
    rows: np.ndarray,
    cols: np.ndarray,
    costs: np.ndarray,
    sizes: tuple[int, int],
    alone: float,
) -> np.ndarray:
    """Choose pairs so that the sum of their costs, and of those left alone, is least.

    Parameters
    ----------
    rows, cols, costs : ndarray, (k,)
        Pairs that are possible.
    sizes : (int, int)
        How many there are on each side.
    alone : float
        What it costs to leave two alone that might be a pair.

    Returns
    -------
    ndarray of int
        Indices of the pairs chosen.
    """
    n, m = sizes
    if not len(rows):
        return np.zeros(0, int)
    i, j = np.arange(n), np.arange(m)
    # Below right lies a copy turned over, so that a full assignment always exists.
    full = coo_matrix(
        (
            np.concatenate([
                costs, np.full(n + m, alone / 2), np.zeros(len(rows)),
            ]) + _EPSILON,
            (
                np.concatenate([rows, i, n + j, n + cols]),
                np.concatenate([cols, m + i, j, m + rows]),
            ),
        ),
        shape=(n + m, n + m),
    )  # fmt: skip
    left, right = min_weight_full_bipartite_matching(full.tocsr())
    partner = np.full(n + m, -1)
    partner[left] = right
    return np.flatnonzero(partner[rows] == cols)
