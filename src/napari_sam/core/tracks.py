"""Objects through time: which mask of a frame goes on as which mask of a later one."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class Node(NamedTuple):
    """One object in one frame: all pixels there that have its id."""

    frame: int
    object_id: int


Edge = tuple[Node, Node]
"""From an object to what it is in a later frame."""
LinkState = Literal["open", "validated", "refused"]
"""What a person has said of an edge: nothing, that it is right, that it is wrong."""


@dataclass(frozen=True, slots=True)
class Link:
    """What is known of an edge beside the ids of its nodes and their parents."""

    state: LinkState = "open"
    merged: bool = False
    """Whether it is a second way into an object, which has but one parent."""
    doubt: float | None = None
    """0 (sure) to 1."""


@dataclass(frozen=True, slots=True)
class Tracks:
    """A graph of objects through time, and the tracks that it is made of.

    A track is an unbroken line of nodes: it ends where an object divides, merges, or is
    found no more. A gap of some frames does not end it.

    Examples
    --------
    >>> mother, one, two = Node(0, 5), Node(1, 7), Node(1, 9)
    >>> tracks = Tracks((mother, one, two), {(mother, one): 0.1, (mother, two): 0.2})
    >>> [node.object_id for node in tracks.divisions[mother]]
    [7, 9]
    >>> [[node.object_id for node in line] for line in tracks.lines()]
    [[5], [7], [9]]
    """

    nodes: tuple[Node, ...]
    """By frame, then id."""
    edges: Mapping[Edge, float] = field(default_factory=dict)
    """Doubt of each, 0 (sure) to 1."""

    @property
    def successors(self) -> dict[Node, tuple[Node, ...]]:
        """What each node goes on as; nodes that end are left out."""
        return _grouped(self.edges)

    @property
    def predecessors(self) -> dict[Node, tuple[Node, ...]]:
        """Where each node came from; nodes that begin are left out."""
        return _grouped((b, a) for a, b in self.edges)

    @property
    def divisions(self) -> dict[Node, tuple[Node, ...]]:
        """Mothers, and their daughters."""
        return {a: b for a, b in self.successors.items() if len(b) > 1}

    @property
    def merges(self) -> dict[Node, tuple[Node, ...]]:
        """Objects that came from several, and those."""
        return {b: a for b, a in self.predecessors.items() if len(a) > 1}

    @property
    def gaps(self) -> list[Edge]:
        """Edges that skip frames."""
        return [e for e in self.edges if e[1].frame - e[0].frame > 1]

    def doubtful(self, least: float = 0.5) -> list[Edge]:
        """Edges whose doubt is at least `least`, the most doubtful first."""
        found = [e for e, doubt in self.edges.items() if doubt >= least]
        return sorted(found, key=lambda e: (-self.edges[e], e))

    def lines(self) -> list[list[Node]]:
        """Return the nodes of each track, the tracks that begin first coming first."""
        after, before = self.successors, self.predecessors
        begins = [n for n in self.nodes if not _goes_on(n, after, before)]
        out = []
        for node in begins:
            line = [node]
            while len(then := after.get(line[-1], ())) == 1:
                if len(before[then[0]]) != 1:
                    break
                line.append(then[0])
            out.append(line)
        return out

    def ids(self, free: int | None = None) -> dict[Node, int]:
        """Return an id for each node, so that one id is one track.

        A track has the id of its first node, unless one that begins earlier has it.

        Parameters
        ----------
        free : int, optional
            All ids above are free; the highest one of a node when left out.
        """
        if free is None:
            free = max((n.object_id for n in self.nodes), default=0)
        taken: set[int] = set()
        out: dict[Node, int] = {}
        for line in self.lines():
            i = line[0].object_id
            if i in taken:
                free += 1
                i = free
            taken.add(i)
            out |= dict.fromkeys(line, i)
        return out

    def second_ways(self) -> set[Edge]:
        """Return the edges into objects beside the one from their parent."""
        return {
            (a, b)
            for b, found in self.merges.items()
            for a in found
            if a != min(found, key=lambda x: (self.edges[x, b], x))
        }

    def parents(self) -> dict[Node, Node]:
        """Where each track came from: first node of a track -> last one of another.

        Of several, after a merge, the surest.
        """
        out = {}
        before, after = self.predecessors, self.successors
        for node, found in before.items():
            if not _goes_on(node, after, before):
                out[node] = min(found, key=lambda a: (self.edges[a, node], a))
        return out


def lineage(
    frames: Mapping[int, Sequence[int]],
    parents: Mapping[int, int],
    links: Mapping[Edge, Link],
) -> Tracks:
    """Return the graph that ids, parents and links tell.

    Parameters
    ----------
    frames : mapping of int to sequence of int
        Frames that each object is in, rising.
    parents : mapping of int to int
        Object that each came from. One that is in no frame before tells nothing.
    links : mapping of Edge to Link
        Second ways into an object, and doubt.

    Examples
    --------
    >>> lineage({1: [0, 1], 2: [2], 3: [2]}, {2: 1, 3: 1}, {}).divisions
    {Node(frame=1, object_id=1): (Node(frame=2, object_id=2), \
Node(frame=2, object_id=3))}
    """
    edges: dict[Edge, float] = {}
    for i, at in frames.items():
        for a, b in pairwise(at):
            edges[Node(a, i), Node(b, i)] = 0.0
        parent = parents.get(i, 0)
        before = [f for f in frames.get(parent, ()) if f < at[0]]
        if before:
            edges[Node(before[-1], parent), Node(at[0], i)] = 0.0
    for edge, link in links.items():
        there = all(node.frame in frames.get(node.object_id, ()) for node in edge)
        if edge in edges or (link.merged and there):
            edges[edge] = link.doubt or 0.0
    nodes = sorted(Node(f, i) for i, at in frames.items() for f in at)
    return Tracks(tuple(nodes), edges)


def _goes_on(
    node: Node,
    after: Mapping[Node, Sequence[Node]],
    before: Mapping[Node, Sequence[Node]],
) -> bool:
    """Whether a node is of the same track as what it came from."""
    came = before.get(node, ())
    return len(came) == 1 and len(after[came[0]]) == 1


def _grouped(pairs: Iterable[Edge]) -> dict[Node, tuple[Node, ...]]:
    out: dict[Node, tuple[Node, ...]] = {}
    for a, b in pairs:
        held = out.get(a)
        out[a] = (b,) if held is None else tuple(sorted((*held, b)))
    return out
