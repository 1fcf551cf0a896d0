"""Tracks through time: linking, what is to be checked, and corrections by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam._napari.camera import go_to
from napari_sam._napari.track_layer import Drawing, TrackLayer
from napari_sam._napari.workers import BACKGROUND, PREPARE
from napari_sam.core.planes import Plane
from napari_sam.core.tracks import Tracks
from napari_sam.errors import NapariSamError
from napari_sam.session.track_tables import places_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_sam._napari.annotation import Annotation
    from napari_sam._napari.state import Board, TimeState
    from napari_sam._napari.workers import Cancel, Jobs
    from napari_sam.core.masks import LabelPatch
    from napari_sam.core.tracks import Edge
    from napari_sam.engine.track import TrackOptions
    from napari_sam.session import Session
    from napari_sam.session.requests import Result
    from napari_sam.session.track_edits import Place, TrackEdits
    from napari_sam.session.track_tables import Places
    from napari_sam.session.tracking import Plan, Tracking

KEY, DRAW = "track", "lineage"


class TimeLapse:
    """Runs the linking, shows tracks, and passes on the user's corrections.

    Everything here runs on the main thread, except what it gives to `jobs`.

    Parameters
    ----------
    board : Board
    jobs : Jobs
    """

    def __init__(self, board: Board, jobs: Jobs) -> None:
        self.board = board
        self.jobs = jobs
        self._annotation: Annotation | None = None
        self._session: Session | None = None
        self._layer: TrackLayer | None = None
        self._tracks: Tracks | None = None
        """As they were found last; None before."""
        self._places: Places = {}
        self._mark: Place | None = None
        self._drawing = self._stale = False
        self._at: Edge | None = None
        """Link that was gone to last."""

    @property
    def state(self) -> TimeState:
        """What the panel shows of it."""
        return self.board.state.time

    @property
    def busy(self) -> bool:
        """Whether tracks are linked, or found out for the layer."""
        return self.state.running or self._drawing

    def use(self, annotation: Annotation | None) -> None:
        """Work on another image or none."""
        self._leave()
        self._annotation = annotation
        self._layer = None
        if annotation is not None:
            self._layer = TrackLayer(annotation.viewer, annotation.image)
        self.look()

    def renew(self) -> None:
        """Go on with another session."""
        self._leave()
        annotation = self._annotation
        self._session = None if annotation is None else annotation.session
        session = self._session
        if session is not None and session.volume.ndim in (3, 4):
            session.changed.connect(self._on_changed)
            session.patched.connect(self._on_patch)
            self._show(n_frames=int(session.volume.shape[0]))
            document = session.document
            known = any(r.parent is not None for r in document.about.values())
            if known or document.links:
                self.show_tracks(True)
        self.look()

    def look(self) -> None:
        """Show the frame in view."""
        self._show(frame=-1 if self._frame is None else self._frame)

    # -- linking ---------------------------------------------------------------------

    def track(self, options: TrackOptions | None = None) -> None:
        """Link the objects of all frames; one undo step."""
        session = self._ready("Tracking needs an image with frames.")
        if session is None:
            return
        try:
            task = session.set_tracking(options)
        except NapariSamError as error:
            self.board.fail(error)
            return
        self._run(session, task, "Linking objects from frame to frame…")

    def stop(self) -> None:
        """Stop linking; nothing is changed."""
        self.jobs.cancel(KEY)
        if self.state.running:
            self._show(running=False)
            self.board.say("Stopped; nothing was linked.")

    def _run(self, session: Session, task: Tracking, said: str, told: str = "") -> None:
        self._show(running=True, done=0, total=len(task.frames))
        self.board.say(said, "busy")
        plans: list[Plan] = []
        self.jobs.submit(
            KEY,
            lambda cancel: _planned(session, task, plans, cancel),
            lambda _: self._on_tracked(session, task, plans, told),
            self._on_failed,
            progress=lambda done: self._show(done=done),
            priority=PREPARE,
        )

    def _on_tracked(
        self, session: Session, task: Tracking, plans: list[Plan], told: str
    ) -> None:
        self._show(running=False)
        if session is not self._session:
            return
        count = session.accept_tracking(task, plans[0])
        if count is None:
            self.board.say("Objects were changed meanwhile: track again.")
            return
        self.show_tracks(True)
        self.board.say(
            told
            or f"{count} tracks (one Ctrl-Z takes them back). U goes through what is "
            "to be checked.",
            guide=False,
        )

    # -- what is to be checked -------------------------------------------------------

    def next_check(self) -> None:
        """Go to the next gap or doubtful link that nobody has said anything of."""
        waiting = self._waiting()
        if not waiting or self._annotation is None:
            self.board.say("No link is doubtful, and no track has a gap.")
            return
        later = [e for e in waiting if self._at is None or e != self._at]
        start = waiting.index(self._at) + 1 if self._at in waiting else 0
        edge = waiting[start % len(waiting)] if later else waiting[0]
        self._at = edge
        a, b = edge
        self._annotation.select(b.object_id)
        gap = b.frame - a.frame > 1
        self._go(b.object_id, b.frame if not gap else a.frame + 1, around=edge)
        self._mark_at((a.frame, a.object_id))
        self.board.say(self._question(edge, gap), guide=False)

    def _question(self, edge: Edge, gap: bool) -> str:
        a, b = edge
        if gap:
            missing = f"frames {a.frame + 1} to {b.frame - 1}"
            if b.frame - a.frame == 2:
                missing = f"frame {a.frame + 1}"
            return (
                f"Object {b.object_id} is missing in {missing}: Fill gap asks the "
                "model where it should be. If it is not there, say that the link is "
                "right."
            )
        doubt = self._tracks.edges[edge] if self._tracks is not None else 0.0
        one = "itself" if a.object_id == b.object_id else f"object {a.object_id}"
        return (
            f"Object {b.object_id} in frame {b.frame} may not come from {one} (doubt "
            f"{doubt:.2f}): Cut here, or say that the link is right. U goes on."
        )

    def right(self) -> None:
        """Freeze the link gone to last, or all links of the object at hand."""
        session = self._session
        if session is None:
            return
        object_id = self.board.state.object_id
        at = self._at
        if at is not None and at[1].object_id == object_id:
            frames = at[0].frame, at[1].frame
            self._edit(lambda t: t.freeze(object_id, frames), "Frozen: {} link.")
        else:
            self._edit(lambda t: t.freeze(object_id), "Frozen: {} links.")

    def fill_gap(self) -> None:
        """Ask the model where the object at hand should be in the frame shown."""
        session, frame = self._session, self._frame
        if session is None or frame is None:
            self.board.say("There is no track yet.")
            return
        object_id = self.board.state.object_id
        try:
            plane, prompts = session.tracks.expected(object_id, frame)
            request = session.set_prompts(object_id, plane, prompts)
        except NapariSamError as error:
            self.board.fail(error)
            return
        self._show(running=True, done=0, total=0)
        self.board.say(f"Looking for object {object_id}…", "busy")
        self.jobs.submit(
            KEY,
            lambda cancel: session.run(request, cancel),
            lambda result: self._on_filled(session, result),
            self._on_failed,
            priority=PREPARE,
        )

    def _on_filled(self, session: Session, result: Result) -> None:
        self._show(running=False)
        object_id, frame = result.request.object_id, result.request.plane.index[0]
        if session is not self._session:
            return
        session.accept(result)
        if object_id not in session.presence.ids(frame):
            self.board.say(f"Object {object_id} was not found here: click it.")
            return
        frames = session.tracks.beside(frame)
        task = session.set_tracking(frames=frames, object_ids=[object_id])
        told = f"Object {object_id} is here again, and linked to the frames beside."
        self._run(session, task, f"Linking object {object_id} here…", told)

    # -- corrections -----------------------------------------------------------------

    def mark(self) -> None:
        """Remember the object at hand in the frame shown, for the next correction."""
        frame = self._frame
        if frame is not None:
            self._mark_at((frame, self.board.state.object_id))
            self.board.say(
                f"{self.state.marked} is marked: go to another frame, choose an "
                "object, and say what it is to this one.",
                guide=False,
            )

    def cut(self) -> None:
        """Make the object at hand another one from the frame shown on."""
        self._edit(lambda t: t.cut(self._here), "From here on it is object {}.")

    def link(self) -> None:
        """Say that the marked object goes on as the one at hand."""
        self._with_mark(lambda t, a, b: t.link(a, b), "Both are object {} now.")

    def divide(self) -> None:
        """Say that the marked object divides: what it goes on as, and this one."""

        def edit(tracks: TrackEdits, a: Place, b: Place) -> list[int]:
            session = self._session
            assert session is not None
            return tracks.divide(a, [*session.tracks.after(a), b])

        self._with_mark(edit, "Daughters: {}.")

    def merge(self) -> None:
        """Say that the marked object becomes one with what leads to this one."""

        def edit(tracks: TrackEdits, a: Place, b: Place) -> int:
            session = self._session
            assert session is not None
            return tracks.merge([*session.tracks.before(b), a], b)

        self._with_mark(edit, "They go on as object {}.")

    def swap(self) -> None:
        """Exchange the marked object and the one at hand from the frame shown on."""

        def edit(tracks: TrackEdits, a: Place, b: Place) -> None:
            tracks.swap((b[0], a[1]), b)

        self._with_mark(edit, "Swapped from here on.")

    # -- the layer -------------------------------------------------------------------

    def show_tracks(self, shown: bool) -> None:
        """Draw the tracks in a layer of their own, or take it away."""
        self._show(shown=shown)
        if shown:
            self._on_changed()
        elif self._layer is not None:
            self._layer.hide()

    # -- inside ----------------------------------------------------------------------

    @property
    def _frame(self) -> int | None:
        plane = None if self._annotation is None else self._annotation.plane
        if plane is None or not plane.index or (len(plane.index) == 1 and plane.axis):
            return None
        return plane.index[0]

    @property
    def _here(self) -> Place:
        frame = self._frame
        if frame is None:
            raise NapariSamError("show the frames one by one: time on the slider")
        return frame, self.board.state.object_id

    def _ready(self, otherwise: str) -> Session | None:
        if self._session is None or self._session.volume.ndim not in (3, 4):
            self.board.say(otherwise)
            return None
        return self._session

    def _mark_at(self, place: Place | None) -> None:
        self._mark = place
        said = "" if place is None else f"Object {place[1]} in frame {place[0]}"
        self._show(marked=said)

    def _with_mark(
        self, edit: Callable[[TrackEdits, Place, Place], Any], said: str
    ) -> None:
        mark = self._mark
        if mark is None:
            self.board.say(
                "Mark an object first: choose it in its frame and press Mark (A)."
            )
            return
        self._edit(lambda t: edit(t, mark, self._here), said)

    def _edit(self, edit: Callable[[TrackEdits], Any], said: str) -> None:
        session = self._ready("Tracks need an image with frames.")
        if session is None:
            return
        try:
            told = edit(session.tracks)
        except NapariSamError as error:
            self.board.fail(error)
            return
        if not self.state.shown:
            self.show_tracks(True)
        text = ", ".join(map(str, told)) if isinstance(told, list) else str(told)
        if isinstance(told, int) and "object" in said and self._annotation is not None:
            self._annotation.select(told)
        self._mark_at(None)
        self.board.say(f"{said.format(text)} Ctrl-Z takes it back.", guide=False)

    def _waiting(self) -> list[Edge]:
        """Gaps and doubtful links that nobody has frozen, by frame."""
        tracks, session = self._tracks, self._session
        if tracks is None or session is None:
            return []
        links = session.document.links
        found = {*tracks.gaps, *tracks.doubtful()}
        return sorted(
            (e for e in found if e not in links or links[e].state != "validated"),
            key=lambda e: (e[1].frame, e),
        )

    def _go(self, object_id: int, frame: int, around: Edge) -> None:
        annotation = self._annotation
        if annotation is None:
            return
        shape = annotation.volume.shape
        found = [
            self._places[n.frame][n.object_id]
            for n in around
            if n.object_id in self._places.get(n.frame, ())
        ]
        box = (0, 0, int(shape[-2]), int(shape[-1]))
        index: tuple[int, ...] = (frame,)
        if found:
            centers = np.array([c for c, _ in found])
            reach = 2 * max(d for _, d in found)
            low, high = centers.min(0) - reach, centers.max(0) + reach
            (y0, x0), (y1, x1) = low[-2:].tolist(), high[-2:].tolist()
            box = (int(y0), int(x0), int(y1) + 1, int(x1) + 1)
            if len(shape) == 4:
                index = (frame, round(float(centers[:, 0].mean())))
        elif len(shape) == 4:
            index = (frame, int(shape[1]) // 2)
        go_to(annotation.viewer, annotation.image, shape, Plane(index), box)

    def _leave(self) -> None:
        self.jobs.cancel(KEY)
        self.jobs.cancel(DRAW)
        if self._session is not None and self._session.volume.ndim in (3, 4):
            self._session.changed.disconnect(self._on_changed)
            self._session.patched.disconnect(self._on_patch)
        self._session = self._tracks = self._at = None
        self._places, self._drawing = {}, False
        self._mark_at(None)
        self._show(
            n_frames=0, summary="", to_check=0, shown=False, running=False, frame=-1
        )

    def _on_patch(self, patch: LabelPatch) -> None:
        if len(patch.plane.index) == 1 and patch.plane.axis:
            self._places = {}
        else:
            self._places = {
                t: v for t, v in self._places.items() if t != patch.plane.index[0]
            }

    def _on_changed(self) -> None:
        """Find the tracks out once for all changes made in one go."""
        self._stale = True
        if not self._drawing and self.state.shown:
            self._drawing = True
            self.jobs.post(self._find_out)

    def _find_out(self) -> None:
        session = self._session
        if session is None or not self._drawing:
            self._drawing = False
            return
        known, self._stale = self._places, False
        self.jobs.submit(
            DRAW,
            lambda cancel: _drawn(session, known, cancel),
            lambda found: self._on_drawn(session, known, found),
            self._on_undrawn,
            priority=BACKGROUND,
        )

    def _on_drawn(
        self, session: Session, known: Places, found: tuple[Tracks, Places, Drawing]
    ) -> None:
        self._drawing = False
        if session is not self._session or self._layer is None:
            return
        self._tracks, places, drawing = found
        if known is self._places:
            self._places = places
        if self._stale:
            self._on_changed()  # links, records or pixels have changed meanwhile
        if self.state.shown:
            self._layer.show(drawing)
        self._show(summary=_summary(self._tracks), to_check=len(self._waiting()))

    def _on_undrawn(self, error: Exception) -> None:
        self._drawing = False
        self.board.fail(error)

    def _on_failed(self, error: Exception) -> None:
        self._show(running=False)
        self.board.fail(error)

    def _show(self, **fields: Any) -> None:
        new = replace(self.state, **fields)
        if new != self.state:
            self.board.update(time=new)


def _planned(
    session: Session, task: Tracking, plans: list[Plan], cancel: Cancel
) -> Iterator[int]:
    for found in task.run(cancel):
        if isinstance(found, Tracks):
            plans.append(session.plan_tracking(task, found))
        else:
            yield found


def _drawn(
    session: Session, known: Places, cancel: Cancel
) -> tuple[Tracks, Places, Drawing]:
    """Find tracks and places; what is known of frames is not looked up again."""
    while True:
        tracks = session.lineage()
        places = dict(known)
        frames = {n.frame for n in tracks.nodes}
        for t in sorted(frames - set(places)):
            places[t] = places_of(np.asarray(session.labels[t]))
        there = all(n.object_id in places[n.frame] for n in tracks.nodes)
        if there or cancel():
            return tracks, places, Drawing.of(tracks, places)
        known = {}  # labels were changed while they were read


def _summary(tracks: Tracks) -> str:
    lines = tracks.lines()
    parts = [
        (len(lines), "track"), (len(tracks.divisions), "division"),
        (len(tracks.merges), "merge"), (len(tracks.gaps), "gap"),
        (len(tracks.doubtful()), "doubtful link"),
    ]  # fmt: skip
    return ", ".join(f"{n} {what}{'s' if n != 1 else ''}" for n, what in parts if n)
