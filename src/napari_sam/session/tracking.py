"""Objects linked through time: what `Session` does on time-lapses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.mask_prompt import MaskPrompt
from napari_sam.core.masks import crop_mask
from napari_sam.core.planes import Plane
from napari_sam.core.tracks import Tracks
from napari_sam.engine.motion import Frame
from napari_sam.engine.pooled import pooled
from napari_sam.engine.track import Fixed, TrackOptions, track
from napari_sam.errors import SessionError
from napari_sam.session.lineage import Presence, change_to, graph
from napari_sam.session.prompting import Prompting
from napari_sam.session.relabel import relabel
from napari_sam.session.track_edits import TrackEdits

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from napari_sam.core.prompts import Prompts
    from napari_sam.core.tracks import Edge
    from napari_sam.engine.engine import Engine
    from napari_sam.session.entries import Entry
    from napari_sam.session.lineage import Change
    from napari_sam.session.relabel import Relabelling


@dataclass(frozen=True, slots=True, eq=False)
class Tracking:
    """Frames to be linked: a snapshot that any thread may work on."""

    engine: Engine
    labels: Any
    frames: range
    options: TrackOptions
    fixed: Fixed
    before: Tracks
    """How objects are linked now, those of other frames among them."""
    position: int

    def run(self, cancel: Callable[[], bool] | None = None) -> Iterator[Tracks | int]:
        """Link the frames; yield how many are linked, at last all objects' graph.

        Raises
        ------
        Cancelled
        NapariSamError
            If laptrack is not installed.
        """
        seen = (self._frame(f) for f in self.frames)
        for found in track(seen, self.options, fixed=self.fixed, cancel=cancel):
            if isinstance(found, Tracks):
                kept = {e: d for e, d in self.before.edges.items() if not self._of(e)}
                yield Tracks(self.before.nodes, {**kept, **found.edges})
            else:
                yield found

    def _of(self, edge: Edge) -> bool:
        return all(node.frame in self.frames for node in edge)

    def _frame(self, number: int) -> Frame:
        labels = np.asarray(self.labels[number])
        spacing = self.engine.volume.spacing[1:]
        frame = Frame.of(labels, number, spacing)
        if not self.options.look or not len(frame.ids):
            return frame
        looks = [self._look(labels, number, i) for i in frame.ids.tolist()]
        return replace(frame, looks=np.stack(looks))

    def _look(self, labels: np.ndarray, number: int, object_id: int) -> np.ndarray:
        """What the model makes of an object, on its largest plane."""
        mask = labels == object_id
        index: tuple[int, ...] = (number,)
        if mask.ndim == 3:
            index = (number, int(mask.sum((1, 2)).argmax()))
            mask = mask[index[1]]
        return pooled(self.engine, Plane(index), MaskPrompt(*crop_mask(mask)))


class Tracked(Prompting):
    """Tracking; the part of `Session` for images whose first axis is time."""

    def track(
        self,
        options: TrackOptions | None = None,
        *,
        frames: tuple[int, int] | None = None,
        object_ids: Collection[int] | None = None,
        cancel: Callable[[], bool] | None = None,
        **changed: Any,
    ) -> Tracks:
        """Link the objects of each frame through time; one undoable change.

        Afterwards an id is one track: an object keeps it from frame to frame, also over
        frames in which it is missing. Where an object divides, its daughters are
        objects of their own, and `objects[daughter].parent` is the mother's id. Links
        that a person has frozen or cut stay as they are.

        Parameters
        ----------
        options : TrackOptions, optional
        frames : (first, last), optional
            Link only these, both included; all when left out.
        object_ids : collection of int, optional
            Link only these objects anew; links between others stay.
        cancel : callable, optional
            Asked before each frame.
        **changed
            Single options, such as ``max_gap=3``.

        Returns
        -------
        Tracks
            The graph, by the ids that are in the labels now.

        Raises
        ------
        SessionError
            If the image has no frames, there is no such frame, or no object.
        Cancelled
        NapariSamError
            If laptrack is not installed.

        Examples
        --------
        >>> import numpy as np
        >>> from napari_sam.session import Session
        >>> from napari_sam.testing import ToyModel
        >>> labels = np.zeros((3, 32, 32), np.uint8)
        >>> for t in range(3):
        ...     labels[t, 8:16, 4 + 3 * t : 12 + 3 * t] = t + 1
        >>> session = Session(labels, ToyModel(), embeddings=False, labels=labels)
        >>> session.track().lines()
        [[Node(frame=0, object_id=1), Node(frame=1, object_id=1), \
Node(frame=2, object_id=1)]]
        >>> np.unique(session.labels).tolist()
        [0, 1]
        """
        chosen = replace(options or TrackOptions(), **changed)
        task = self.set_tracking(chosen, frames=frames, object_ids=object_ids)
        *_, found = task.run(cancel)
        assert isinstance(found, Tracks)
        self.accept_tracking(task, self.plan_tracking(task, found))
        return self.lineage()

    def set_tracking(
        self,
        options: TrackOptions | None = None,
        *,
        frames: tuple[int, int] | None = None,
        object_ids: Collection[int] | None = None,
    ) -> Tracking:
        """Ask for what `track` does, to be run in any thread.

        Raises
        ------
        SessionError
            As `track`.
        """
        count = self.presence.n_frames
        first, last = frames or (0, count - 1)
        if not 0 <= first <= last < count:
            raise SessionError(
                f"there are frames 0 to {count - 1}; got {first} to {last}"
            )
        with self.document.journal.lock:
            before = self.lineage()
            position = self.document.journal.position
        if not before.nodes:
            raise SessionError(
                "there is nothing to track: segment objects in the frames first, or "
                "read labels"
            )
        there = set(before.nodes)
        links = {
            edge: link.state
            for edge, link in self.document.links.items()
            if edge[0] in there and edge[1] in there
        }
        fixed = Fixed(
            [e for e, state in links.items() if state == "validated"],
            [e for e, state in links.items() if state == "refused"],
        )
        if object_ids is not None:
            fixed = _all_but(fixed, before, object_ids)
        return Tracking(
            self.engine, self.labels, range(first, last + 1),
            options or TrackOptions(), fixed, before, position,
        )  # fmt: skip

    def plan_tracking(self, task: Tracking, tracks: Tracks) -> Plan:
        """Work out what a lineage that was found changes; any thread may.

        Raises
        ------
        SessionError
            If an object was drawn on a plane across time.
        """
        with self.document.journal.lock:
            change = self._change(task.before, tracks)
            return Plan(change, change.prepare(self.document), len(tracks.lines()))

    def accept_tracking(self, task: Tracking, plan: Plan) -> int | None:
        """Give objects the ids of their tracks, as one undoable change.

        Returns
        -------
        int or None
            How many tracks there are; None when objects have changed since it was
            asked for.
        """
        with self.document.journal.lock:
            steps = self.document.journal.since(task.position)
            if steps is None or any(_matters(entry) for _, entry in steps):
                return None
            self._make(plan.change, plan.relabelling)
        self.changed.emit()
        return plan.count

    def lineage(self, ids: Any = None) -> Tracks:
        """Return the graph of objects through time, as ids and parents tell it.

        Parameters
        ----------
        ids : collection of int, optional
            Only of these objects.

        Raises
        ------
        SessionError
            If the image has no frames.
        """
        return graph(self.document, self.presence, ids)

    @property
    def tracks(self) -> TrackEdits:
        """Corrections of tracks: link, cut, divide, merge, swap, freeze."""
        return TrackEdits(self)

    @cached_property
    def presence(self) -> Presence:
        """Which objects are in which frame."""
        return Presence(self)

    def segment_at(self, object_id: int, plane: Plane, prompts: Prompts) -> None:
        """Segment an object on a plane and apply the best mask: `segment`."""
        self.accept(self.run(self.set_prompts(object_id, plane, prompts)))

    def restructure(self, before: Tracks, after: Tracks, said: Any = None) -> Change:
        """Make a graph of the same nodes the one that ids and parents tell.

        Parameters
        ----------
        before, after : Tracks
            A part of the lineage with all that it is linked to.
        said : mapping of Edge to Link or None, optional
            What is known of links besides.
        """
        with self.document.journal.lock:
            change = self._change(before, after, said)
            if not change.is_empty:
                self._make(change, change.prepare(self.document))
        self.changed.emit()
        return change

    def _change(self, before: Tracks, after: Tracks, said: Any = None) -> Change:
        free = max(self.presence.highest(), *self.objects, 0)
        return change_to(self.document, before, after, said, free)

    def _make(self, change: Change, relabelling: Relabelling) -> None:
        if change.is_empty:
            return
        news = (new for ids in change.names.values() for new in ids.values())
        self.make_room(max(news, default=0))
        for key in relabel(self.document, relabelling):
            self._requests.supersede(key)
            self._requests.predictions.pop(key, None)


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What tracking changes, worked out and not yet in force."""

    change: Change
    relabelling: Relabelling
    count: int
    """How many tracks there are."""


def _all_but(fixed: Fixed, tracks: Tracks, ids: Collection[int]) -> Fixed:
    """Hold all links but those that lead to some objects or from them."""
    held = [
        edge for edge in tracks.edges if not any(node.object_id in ids for node in edge)
    ]
    return Fixed({*fixed.validated, *held}, fixed.refused)


def _matters(entry: Entry) -> bool:
    """Whether a change makes what was found of tracks stale."""
    return bool(entry.patches) or not {"about", "links"}.isdisjoint(entry.values)
