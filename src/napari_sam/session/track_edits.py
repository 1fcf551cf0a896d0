"""Corrections of tracks, each one undoable change of the lineage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from napari_sam.core.tracks import Link, Node, Tracks
from napari_sam.errors import SessionError
from napari_sam.results.results import Results
from napari_sam.results.track_scores import TrackScores, track_scores
from napari_sam.session.exchange import find
from napari_sam.session.gaps import expected
from napari_sam.session.lineage import Change, Presence, family
from napari_sam.session.provenance import results_of
from napari_sam.session.track_tables import read_table, write_table

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from napari_sam.core.planes import Plane
    from napari_sam.core.prompts import Prompts
    from napari_sam.core.tracks import Edge, LinkState
    from napari_sam.session.document import Document
    from napari_sam.volume.volume import Volume

Place = tuple[int, int]
"""(frame, object_id)"""


class Linked(Protocol):
    """What holds a lineage and takes another one in its place: a session."""

    document: Document
    volume: Volume

    @property
    def labels(self) -> Any:
        """Labels of all frames."""
        ...

    @property
    def presence(self) -> Presence:
        """Which objects are in which frame."""
        ...

    def lineage(self, ids: Collection[int] | None = None) -> Tracks:
        """Return the graph of objects through time."""
        ...

    def restructure(
        self, before: Tracks, after: Tracks,
        said: Mapping[Edge, Link | None] | None = None,
    ) -> Change:  # fmt: skip
        """Make another graph of the same nodes the one that counts."""
        ...

    def segment_at(self, object_id: int, plane: Plane, prompts: Prompts) -> None:
        """Segment an object on a plane."""
        ...

    def track(self, *, frames: tuple[int, int], object_ids: Collection[int]) -> Tracks:
        """Link objects in some frames anew."""
        ...


class TrackEdits:
    """Corrections of a session's tracks.

    Objects are named by (frame, object_id), with the id that they have there now. What
    is changed by hand is kept when objects are tracked again: links made are frozen,
    links cut are not made anew.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_sam.session import Session
    >>> from napari_sam.testing import ToyModel
    >>> labels = np.zeros((4, 16, 16), np.uint8)
    >>> labels[:, 4:8, 4:8] = 1
    >>> session = Session(labels, ToyModel(), embeddings=False, labels=labels)
    >>> session.tracks.cut((2, 1))
    2
    >>> labels[:, 5, 5].tolist(), session.labels[:, 5, 5].tolist()
    ([1, 1, 1, 1], [1, 1, 2, 2])
    >>> session.tracks.link((1, 1), (2, 2))
    1
    >>> session.undo(), session.undo(), session.labels[:, 5, 5].tolist()
    (True, True, [1, 1, 1, 1])
    """

    def __init__(self, session: Linked) -> None:
        self._session = session

    # -- edits -----------------------------------------------------------------------

    def link(self, before: Place, after: Place) -> int:
        """Say that an object goes on as another one of a later frame.

        What the first went on as before begins a track of its own, and where the second
        came from ends. The link is frozen.

        Returns
        -------
        int
            Id of the track that both are now.

        Raises
        ------
        SessionError
            If an object is not in its frame, or the frames are not in order.
        """
        one, two = self._nodes([before, after])
        graph = self._around(one, two)
        _in_order(one, two)
        gone = [e for e in graph.edges if e[0] == one or e[1] == two]
        return self._change(graph, gone, {(one, two): "validated"}, two)

    def cut(self, place: Place) -> int:
        """Say that an object is another one than in the frames before.

        Returns
        -------
        int
            Id that it has from this frame on.

        Raises
        ------
        SessionError
            If it is not in this frame, or begins there.
        """
        (node,) = self._nodes([place])
        graph = self._around(node)
        gone = [e for e in graph.edges if e[1] == node]
        if not gone:
            raise SessionError(
                f"object {node.object_id} begins in frame {node.frame}: there is no "
                "link to cut"
            )
        return self._change(graph, gone, dict.fromkeys(gone, "refused"), node)

    def divide(self, mother: Place, daughters: Sequence[Place]) -> list[int]:
        """Say that an object goes on as several: they become its daughters.

        Returns
        -------
        list of int
            Ids of the daughters.

        Raises
        ------
        SessionError
            If an object is not in its frame, or a daughter is not later.
        """
        one, *others = self._nodes([mother, *daughters])
        if len(set(others)) < 2:
            raise SessionError(
                "a division needs two daughters or more, each an object of its own; "
                f"got {len(set(others))}"
            )
        graph = self._around(one, *others)
        for node in others:
            _in_order(one, node)
        gone = [e for e in graph.edges if e[0] == one or e[1] in others]
        made: dict[Edge, LinkState] = {(one, node): "validated" for node in others}
        change = self._changed(graph, gone, made)
        return [_new(change, node) for node in others]

    def merge(self, parts: Sequence[Place], into: Place) -> int:
        """Say that several objects go on as one.

        Returns
        -------
        int
            Id that it has now. Its parent is the first of `parts`.

        Raises
        ------
        SessionError
            If an object is not in its frame, or a part is not earlier.
        """
        *others, one = self._nodes([*parts, into])
        if len(set(others)) < 2:
            raise SessionError(
                "a merge needs two parts or more, each an object of its own; got "
                f"{len(set(others))}"
            )
        graph = self._around(one, *others)
        for node in others:
            _in_order(node, one)
        gone = [e for e in graph.edges if e[1] == one or e[0] in others]
        made: dict[Edge, LinkState] = {(node, one): "validated" for node in others}
        return self._change(graph, gone, made, one)

    def swap(self, one: Place, other: Place) -> None:
        """Exchange two tracks from a frame on: each goes on as the other did.

        Raises
        ------
        SessionError
            If they are not in the same frame, or one of them begins there.
        """
        a, b = self._nodes([one, other])
        if a.frame != b.frame or a == b:
            raise SessionError(
                "two objects of the same frame are swapped; got frames "
                f"{a.frame} and {b.frame}"
            )
        graph = self._around(a, b)
        into_a, into_b = ([e for e in graph.edges if e[1] == n] for n in (a, b))
        if len(into_a) != 1 or len(into_b) != 1:
            raise SessionError(
                "two objects are swapped that both came from one other each; "
                f"{len(into_a)} and {len(into_b)} lead there"
            )
        made: dict[Edge, LinkState] = {
            (into_a[0][0], b): "validated", (into_b[0][0], a): "validated",
        }  # fmt: skip
        self._changed(graph, [*into_a, *into_b], made)

    def freeze(
        self, object_id: int, frames: tuple[int, int] | None = None, *,
        frozen: bool = True,
    ) -> int:  # fmt: skip
        """Say that an object's links are right: tracking again keeps them.

        Parameters
        ----------
        object_id : int
        frames : (first, last), optional
            Only links between these; with all that lead to it or from it otherwise.
        frozen : bool
            False lets go of them again.

        Returns
        -------
        int
            Links that are frozen, or let go of.
        """
        graph = self._session.lineage(family(self._session.document, [object_id]))
        first, last = frames or (0, max((n.frame for n in graph.nodes), default=0))
        mine = [
            (a, b)
            for a, b in graph.edges
            if object_id in (a.object_id, b.object_id)
            and first <= a.frame
            and b.frame <= last
        ]
        if not mine:
            raise SessionError(
                f"object {object_id} has no links in frames {first} to {last}"
            )
        self._changed(graph, [], dict.fromkeys(mine, "validated" if frozen else "open"))
        return len(mine)

    # -- what is linked --------------------------------------------------------------

    def after(self, place: Place) -> list[Place]:
        """Return what an object goes on as; nothing where it ends."""
        (node,) = self._nodes([place])
        return [
            (n.frame, n.object_id) for a, n in self._around(node).edges if a == node
        ]

    def before(self, place: Place) -> list[Place]:
        """Return where an object came from; nothing where it begins."""
        (node,) = self._nodes([place])
        return [
            (n.frame, n.object_id) for n, b in self._around(node).edges if b == node
        ]

    # -- gaps ------------------------------------------------------------------------

    def expected(self, object_id: int, frame: int) -> tuple[Plane, Prompts]:
        """Return where an object should be in a frame in which it is missing.

        Returns
        -------
        plane : Plane
        prompts : Prompts
            A box, between those in the frames beside.

        Raises
        ------
        SessionError
            If it is there, or in no frame at all.
        """
        at = [n.frame for n in self._session.lineage({object_id}).nodes]
        return expected(self._session.labels, object_id, at, frame)

    def fill_gap(self, object_id: int, frame: int) -> None:
        """Segment an object where it should be, and link it there anew.

        Two undo steps: the mask, and the links, where any change: what a track that
        ended goes on as is looked for in the frames beside alone.

        Raises
        ------
        SessionError
            If it is there, or in no frame at all.
        ModelError
        NapariSamError
            If laptrack is not installed.
        """
        session = self._session
        plane, prompts = self.expected(object_id, frame)
        session.segment_at(object_id, plane, prompts)
        if object_id not in session.presence.ids(frame):
            raise SessionError(
                f"object {object_id} was not found in frame {frame}: click it there"
            )
        session.track(frames=self.beside(frame), object_ids=[object_id])

    def beside(self, frame: int) -> tuple[int, int]:
        """Return the frames that are linked anew once a gap in one is filled."""
        last = int(self._session.labels.shape[0]) - 1
        return max(frame - 1, 0), min(frame + 1, last)

    # -- tables ----------------------------------------------------------------------

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the tracks as CSV: ``track_id, t, (z,) y, x, parent``.

        A row for each object and frame, at its centre in pixels. `Session.export`
        writes formats that hold masks, too.

        Raises
        ------
        ExportError
            If it cannot be written.
        """
        write_table(path, self._session.lineage(), self._frame)

    def read(self, path: str | os.PathLike[str]) -> int:
        """Link the objects that are there as a table says, as one change.

        Tables of this method, of napari's tracks and of TrackMate are taken. A row is
        the object at its place.

        Returns
        -------
        int
            Rows for which there is no object.

        Raises
        ------
        SessionError
            If it is no table of tracks.
        """
        before = self._session.lineage()
        spacing = self._session.volume.spacing[1:]
        after, unknown = read_table(path, before.nodes, self._frame, spacing)
        self._session.restructure(before, after)
        return unknown

    def score(self, truth: Any, name: str | None = None) -> TrackScores:
        """Compare the tracks with true ones: TRA, DET, SEG, edges, divisions.

        Parameters
        ----------
        truth : path-like or Results
            Such as a folder of the Cell Tracking Challenge (``name="ctc"`` where its
            own does not end in ``.ctc``).
        name : str, optional
            Name of its format, where neither suffix nor content says.

        Raises
        ------
        VolumeError
            If it cannot be read, is of another shape, or holds no object.
        """
        if not isinstance(truth, Results):
            truth = find(self._session.volume, truth, name)
        return track_scores(results_of(cast("Any", self._session)), truth)

    def _frame(self, number: int) -> np.ndarray:
        return np.asarray(self._session.labels[number])

    # -- inside ----------------------------------------------------------------------

    def _nodes(self, places: Iterable[Place]) -> list[Node]:
        nodes = [Node(int(frame), int(i)) for frame, i in places]
        there = set(self._session.lineage({n.object_id for n in nodes}).nodes)
        for node in nodes:
            if node not in there:
                at = sorted(n.frame for n in there if n.object_id == node.object_id)
                raise SessionError(
                    f"object {node.object_id} is not in frame {node.frame}: it is in "
                    f"{', '.join(_ranges(at)) or 'none'}"
                )
        return nodes

    def _around(self, *nodes: Node) -> Tracks:
        """Return the graph of objects with all that they are linked to."""
        ids = family(self._session.document, {n.object_id for n in nodes})
        return self._session.lineage(ids)

    def _change(
        self, graph: Tracks, gone: Collection[Edge], made: Mapping[Edge, LinkState],
        told: Node,
    ) -> int:  # fmt: skip
        return _new(self._changed(graph, gone, made), told)

    def _changed(
        self, graph: Tracks, gone: Collection[Edge], made: Mapping[Edge, LinkState]
    ) -> Change:
        edges = {e: d for e, d in graph.edges.items() if e not in gone}
        said: dict[Edge, Link | None] = dict.fromkeys(gone)
        for edge, state in made.items():
            if state != "refused":
                edges[edge] = 0.0 if state == "validated" else graph.edges[edge]
            said[edge] = Link(state)
        return self._session.restructure(graph, Tracks(graph.nodes, edges), said)


def _in_order(one: Node, two: Node) -> None:
    if one.frame >= two.frame:
        raise SessionError(
            f"an object goes on in a later frame; got frame {one.frame} before frame "
            f"{two.frame}"
        )


def _new(change: Change, node: Node) -> int:
    """Id that a node has after a change."""
    return change.names.get(node.frame, {}).get(node.object_id, node.object_id)


def _ranges(frames: Sequence[int]) -> Iterator[str]:
    """Say which numbers there are: 0-4, 7.

    Examples
    --------
    >>> list(_ranges([0, 1, 2, 7]))
    ['0-2', '7']
    """
    start = 0
    for k in range(1, len(frames) + 1):
        if k == len(frames) or frames[k] != frames[k - 1] + 1:
            a, b = frames[start], frames[k - 1]
            yield f"{a}-{b}" if b > a else f"{a}"
            start = k
