"""Filling a volume from key planes, and going through the planes that are doubtful."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from napari_sam._napari.camera import go_to
from napari_sam._napari.state import AXES, StripPlane, as_sentence
from napari_sam._napari.workers import PREPARE
from napari_sam.core.objects import DOUBTFUL
from napari_sam.core.planes import Plane, count_planes
from napari_sam.errors import NapariSamError
from napari_sam.session import edits
from napari_sam.session.cleaning import cleaned
from napari_sam.session.doubts import count_doubtful

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_sam._napari.annotation import Annotation
    from napari_sam._napari.state import Board, VolumeState
    from napari_sam._napari.workers import Cancel, Jobs
    from napari_sam.core.clean import CleanOptions
    from napari_sam.core.mask_prompt import MaskPrompt
    from napari_sam.core.objects import PlaneRecord
    from napari_sam.engine.propagate import PlaneMask, PropagateOptions
    from napari_sam.session import Session
    from napari_sam.session.entries import ObjectState
    from napari_sam.session.propagation import Propagation

KEY = "propagate"
Scope = Literal["object", "all"]


class Following:
    """Runs the filling, shows what each plane is, and passes on the user's word.

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
        self._drawing = False
        self._drawn = 0
        """Object that the strip shows."""
        self._filled_with: PropagateOptions | None = None
        """How it was filled last."""
        self._stack: tuple[Any, ...] = ()
        """Object, axis and time point of `_bars`."""
        self._bars: dict[int, tuple[Any, StripPlane]] = {}
        """What was known of each plane of the strip, and its bar."""
        board.changed.connect(self._on_board)

    @property
    def state(self) -> VolumeState:
        """What the panel shows of it."""
        return self.board.state.volume

    def use(self, annotation: Annotation | None) -> None:
        """Work on another image or none."""
        self._leave()
        self._annotation = annotation
        self._draw()

    def renew(self) -> None:
        """Go on with another session."""
        self._leave()
        annotation = self._annotation
        self._session = None if annotation is None else annotation.session
        if self._session is not None:
            self._session.changed.connect(self._on_changed)
        self._draw()

    def look(self) -> None:
        """Show the planes of the object at hand along the axis in view."""
        self._draw()

    # -- filling ---------------------------------------------------------------------

    def fill(
        self, scope: Scope = "object", options: PropagateOptions | None = None
    ) -> None:
        """Carry the object at hand, or all of them, through the stack in view."""
        plane, session = self._plane, self._session
        if session is None or plane is None or not plane.index:
            self.board.say("Filling needs a volume, and an object on one plane of it.")
            return
        ids = self._ids(scope)
        try:
            task = self._task(session, ids, plane, options)
        except NapariSamError as error:
            self.board.fail(error)
            return
        self._show(running=True, done=0, total=task.total)
        self.board.say("Filling from the planes that were made by hand…", "busy")
        found: list[tuple[int, PlaneMask]] = []
        self.jobs.submit(
            KEY,
            lambda cancel: _run(task, found, cancel),
            lambda _: self._on_done(session, task, found),
            self._on_failed,
            progress=lambda done: self._on_found(found[:done]),
            priority=PREPARE,
        )

    def _on_found(self, found: list[tuple[int, PlaneMask]]) -> None:
        """Show how far it is, and in the strip what was found of the object at hand."""
        plane, bars = self._plane, {p.number: p for p in self.state.strip}
        for object_id, one in found:
            if plane is not None and object_id == self.board.state.object_id:
                if one.plane.stack() == plane.stack():
                    number = one.plane.index[-1]
                    doubtful = one.doubt >= DOUBTFUL
                    bars[number] = StripPlane(number, one.origin, doubtful)
        strip = tuple(bars[n] for n in sorted(bars))
        self._show(done=len(found), strip=strip)

    def _task(
        self,
        session: Session,
        ids: list[int],
        plane: Plane,
        options: PropagateOptions | None,
    ) -> Propagation:
        """What has changed since it was last filled this way, or else all of it."""
        anew = options != self._filled_with
        task = session.set_propagation(ids, plane, options=options, anew=anew)
        if not (anew or task.total):
            task = session.set_propagation(ids, plane, options=options)
        self._filled_with = options
        return task

    def stop(self) -> None:
        """Stop filling; nothing is changed."""
        self.jobs.cancel(KEY)
        if self.state.running:
            self._show(running=False)
            self._draw()
            self.board.say("Stopped; nothing was filled.")

    def tidy(self, whole: bool, options: CleanOptions) -> None:
        """Tidy the object at hand: as a whole, or on the plane shown; undoable."""
        plane, session = self._plane, self._session
        if session is None or plane is None:
            self.board.say("There is no object to tidy yet.")
            return
        object_id = self.board.state.object_id
        labels, volume = session.labels, session.volume
        where = None if whole else plane
        self.board.say(f"Tidying object {object_id}…", "busy")
        self.jobs.submit(
            "tidy",
            lambda _: cleaned(labels, volume, object_id, options, where),
            lambda masks: self._on_tidied(session, object_id, masks),
            self.board.fail,
            priority=PREPARE,
        )

    def _on_tidied(
        self, session: Session, object_id: int, masks: dict[Plane, MaskPrompt]
    ) -> None:
        if session is not self._session:
            return
        session.change(lambda d: edits.reshape(d, object_id, masks))
        n = len(masks)
        planes = "1 plane" if n == 1 else f"{n} planes"
        said = f"Changed on {planes} (Ctrl-Z: undo)." if n else "It was tidy already."
        self.board.say(f"Object {object_id}: {said}", guide=False)

    # -- going through doubtful planes -----------------------------------------------

    def next_doubtful(self) -> None:
        """Go to the most doubtful plane nobody has reviewed."""
        session = self._session
        waiting = [] if session is None else session.doubtful()
        here = self.board.state.object_id, self._plane
        waiting = [w for w in waiting if (w[0], w[1]) != here] or waiting
        if not waiting or self._annotation is None:
            self.board.say("No plane is doubtful that you have not reviewed.")
            return
        object_id, plane, doubt = waiting[0]
        self._annotation.select(object_id)
        self.show(plane)
        self.board.say(
            f"Object {object_id} here has a doubt of {doubt:.2f}: prompt or paint to "
            "correct it, or press O if it is right. D goes on.",
            guide=False,
        )

    def set_reviewed(self) -> None:
        """Say that the object is right on the plane shown."""
        plane, session = self._plane, self._session
        object_id = self.board.state.object_id
        if session is None or plane is None:
            return
        try:
            if object_id not in session.objects:
                raise NapariSamError(f"object {object_id} has no masks yet")
            record = session.objects[object_id].planes.get(plane)
            reviewed = record is None or not record.reviewed
            session.objects[object_id].set_reviewed(plane, reviewed)
        except NapariSamError as error:
            self.board.fail(error)
            return
        said = "Reviewed" if reviewed else "No longer reviewed"
        self.board.say(f"{said}. {self._waiting()}", guide=False)

    def show_plane(self, number: int) -> None:
        """Go to a plane of the stack in view; the camera stays."""
        plane, annotation = self._plane, self._annotation
        if annotation is not None and plane is not None and plane.index:
            there = replace(plane, index=(*plane.index[:-1], number))
            shape = annotation.volume.shape
            go_to(annotation.viewer, annotation.image, shape, there, None)

    def show(self, plane: Plane) -> None:
        """Go to a plane, where the object at hand lies there."""
        annotation, session = self._annotation, self._session
        if annotation is None:
            return
        shape = annotation.volume.shape
        box = (0, 0, *plane.shape(shape))
        if session is not None:
            # The box alone: no mask is unpacked for it.
            key = self.board.state.object_id, plane
            claim = session.document.pixels.claims.get(key)
            box = claim.bbox if claim is not None and any(claim.bbox) else box
        go_to(annotation.viewer, annotation.image, shape, plane, box)

    # -- inside ----------------------------------------------------------------------

    @property
    def _plane(self) -> Plane | None:
        return None if self._annotation is None else self._annotation.plane

    def _ids(self, scope: Scope) -> list[int]:
        session = self._session
        if scope == "object" or session is None:
            return [self.board.state.object_id]
        return sorted(session.objects) or [self.board.state.object_id]

    def _leave(self) -> None:
        self.jobs.cancel(KEY)
        if self._session is not None:
            self._session.changed.disconnect(self._on_changed)
        self._session = None
        self._show(running=False, strip=())

    def _on_done(
        self, session: Session, task: Propagation, found: list[tuple[int, PlaneMask]]
    ) -> None:
        self._show(running=False)
        if session is not self._session:
            return
        try:
            filled = session.accept_propagation(task, found)
        except (NapariSamError, OSError) as error:
            self.board.fail(error)
            return
        if filled is None:
            self._draw()
            self.board.say("Too much was changed meanwhile: fill again.")
        else:
            self.board.say(
                " ".join(
                    [
                        f"{filled} planes filled (one Ctrl-Z takes them back).",
                        *map(as_sentence, task.notes),
                        self._waiting(),
                    ]
                ),
                guide=False,
            )

    def _on_failed(self, error: Exception) -> None:
        self._show(running=False)
        self._draw()
        self.board.fail(error)

    def _waiting(self) -> str:
        session = self._session
        n = 0 if session is None else count_doubtful(session.document)
        if not n:
            return "No plane is doubtful."
        return f"{n} doubtful plane{'s' if n > 1 else ''}: D goes to the worst."

    def _on_board(self) -> None:
        if self.board.state.object_id != self._drawn:
            self._draw()

    def _on_changed(self) -> None:
        """Draw once for all changes made in one go."""
        if not self._drawing:
            self._drawing = True
            self.jobs.post(self._draw_now)

    def _draw_now(self) -> None:
        self._drawing = False
        self._draw()

    def _draw(self) -> None:
        self._drawn = self.board.state.object_id
        plane, session = self._plane, self._session
        if plane is None or not plane.index or self._annotation is None:
            self._show(strip=(), n_planes=0, current=-1, doubtful=0)
            return
        shape = self._annotation.volume.shape
        object_id = self.board.state.object_id
        self._show(
            strip=() if session is None else self._strip_of(session, object_id, plane),
            n_planes=count_planes(shape[-3:], plane.axis),
            current=plane.index[-1],
            doubtful=0 if session is None else count_doubtful(session.document),
            conflict="" if session is None else _conflict(session, object_id, plane),
        )

    def _strip_of(
        self, session: Session, object_id: int, plane: Plane
    ) -> tuple[StripPlane, ...]:
        """Return the object's planes in a stack; only what has changed is made anew."""
        document = session.document
        stack = object_id, plane.axis, plane.index[:-1]
        held = self._bars if self._stack == stack else {}
        bars: dict[int, tuple[Any, StripPlane]] = {}
        for key in document.keys.get(object_id, ()):
            where = key[1]
            if (where.axis, where.index[:-1]) == stack[1:]:
                number = where.index[-1]
                known = document.states.get(key) or document.painted[key]
                bar = held.get(number)
                if bar is None or bar[0] is not known:
                    bar = known, _of(where, known)
                bars[number] = bar
        self._stack, self._bars = stack, bars
        return tuple(bars[n][1] for n in sorted(bars))

    def _show(self, **fields: Any) -> None:
        new = replace(self.state, **fields)
        if new != self.state:
            self.board.update(volume=new)


def _run(
    task: Propagation, found: list[tuple[int, PlaneMask]], cancel: Cancel
) -> Iterator[int]:
    for one in task.run(cancel):
        found.append(one)
        yield len(found)


def _conflict(session: Session, object_id: int, plane: Plane) -> str:
    """Say what disagrees with the plane shown, where planes of two axes cross."""
    found = session.conflicts(object_id, plane)
    if not found:
        return ""
    worst = found[0]
    other = next(p for p in worst.planes if p != plane)
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return (
        f"Disagrees with the plane at {AXES[other.axis]} = {other.index[-1]}{more} on "
        f"{worst.voxels} voxels where they cross: correct one of them."
    )


def _of(plane: Plane, record: PlaneRecord | ObjectState) -> StripPlane:
    doubtful = record.doubt is not None and record.doubt >= DOUBTFUL
    return StripPlane(
        plane.index[-1],
        record.origin,
        doubtful and not record.reviewed,
        record.reviewed,
    )
