"""Many objects at once: measured, named, accepted, rejected, and gone through."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_sam._napari.state import CheckState, MeasuredState
from napari_sam._napari.workers import PREPARE
from napari_sam.errors import NapariSamError
from napari_sam.results.label_objects import boxes_of_each
from napari_sam.results.measure import MeasureOptions, measure

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_sam._napari.annotation import Annotation
    from napari_sam._napari.review import Review
    from napari_sam._napari.state import Board
    from napari_sam._napari.workers import Cancel, Jobs
    from napari_sam.core.masks import LabelPatch
    from napari_sam.results.measure import Measured
    from napari_sam.session import Session

KEY = "measure"
_LOOKED_AT = 2**18
"""Pixels of a change that are looked through for the objects it changes; after a
larger one, all count as changed."""
HOW = "Y: it is right, R: it is wrong, 1 to 9 in the table: its class."


class Reviewing:
    """Passes on what the user says of the objects in the table.

    Everything here runs on the main thread, except what it gives to `jobs`.

    Parameters
    ----------
    board : Board
    jobs : Jobs
    go_to : callable
        Goes on with an object, and shows where it is.
    proposals : Review
        Takes the keys for right and wrong while proposals wait.
    """

    def __init__(
        self,
        board: Board,
        jobs: Jobs,
        go_to: Callable[[int], None],
        proposals: Review,
    ) -> None:
        self.board = board
        self.jobs = jobs
        self._go_to = go_to
        self._proposals = proposals
        self._annotation: Annotation | None = None
        self._session: Session | None = None
        self._measured: Measured | None = None
        self._changed: set[int] = set()
        self._time: int | None = None
        self._among: list[int] = []

    @property
    def state(self) -> CheckState:
        """What the panel shows of it."""
        return self.board.state.check

    @property
    def _proposed(self) -> bool:
        """Whether keys speak of a proposal."""
        return bool(self._proposals.state.rows) and not self.state.order

    def use(self, annotation: Annotation | None) -> None:
        """Work on another image or none."""
        self._leave()
        self._annotation = annotation
        self.board.update(check=CheckState(), measured=None)

    def renew(self) -> None:
        """Go on with another session."""
        self._leave()
        self._session = None if self._annotation is None else self._annotation.session
        if self._session is not None:
            self._session.patched.connect(self._on_patched)
            self._session.changed.connect(self._on_changed)
            self._on_changed()

    # -- many objects ----------------------------------------------------------------

    def accept(self, ids: list[int] | None = None) -> None:
        """Say that objects are right: those given, or what is looked at."""
        if ids is None and self._proposed:
            self._proposals.accept()
        else:
            self._judge(ids, right=True)

    def reject(self, ids: list[int] | None = None) -> None:
        """Say that objects are wrong: those given, or what is looked at."""
        if ids is None and self._proposed:
            self._proposals.reject()
        else:
            self._judge(ids, right=False)

    def delete(self, ids: list[int]) -> None:
        """Remove objects, as one step."""
        session = self._session
        if session is None or not (known := self._known(ids)):
            return

        def found(boxes: dict[int, Any]) -> None:
            there = self._known(known)
            self._try(
                lambda: session.delete_objects(there, boxes=boxes),
                "{} removed (Ctrl-Z: undo).",
            )

        self.jobs.submit(
            "delete many",
            lambda _: boxes_of_each(session.labels, known),
            found,
            self.board.fail,
        )

    def set_class(self, ids: list[int], kind: str | int) -> None:
        """Give objects a class: by its name, "" for none, or its number from 1."""
        session = self._session
        if session is None:
            return
        if isinstance(kind, int):
            classes = session.classes.classes
            if kind > len(classes):
                self.board.say(f"There is no class {kind} yet: add one to the list.")
                return
            kind = classes[kind - 1].name
        known, name = self._known(ids), kind.strip()
        if not known:
            self.board.say("Choose objects in the table first.")
            return
        told = f"{{}}: {name or 'no class'} (Ctrl-Z: undo)."
        self._try(lambda: session.describe(known, class_name=name or None), told)

    # -- going through them ----------------------------------------------------------

    def check(
        self, order: Literal["", "doubt", "random"], among: list[int] | None = None
    ) -> None:
        """Go through objects, the most doubtful first or as by lot; "" to stop.

        Parameters
        ----------
        order : {"doubt", "random", ""}
        among : list of int, optional
            Only these; all when left out.
        """
        ids = [row.object_id for row in self.board.state.objects]
        self._among = ids if among is None else among
        self._show(order=order)
        if order:
            self._next()
        else:
            self.board.say("The review was left; what was said is kept.")

    def next_object(self) -> None:
        """Go to the next object, by id; after the last comes the first."""
        self._step(1)

    def previous_object(self) -> None:
        """Go to the object before, by id; before the first comes the last."""
        self._step(-1)

    def _step(self, by: int) -> None:
        ids = [row.object_id for row in self.board.state.objects]
        if not ids:
            self.board.say("There is no object yet.")
            return
        here = self.board.state.object_id
        later = [i for i in ids if i > here] if by > 0 else [i for i in ids if i < here]
        ends = ids[0] if by > 0 else ids[-1]
        self._go_to((later[0] if by > 0 else later[-1]) if later else ends)

    def _next(self) -> None:
        session, state = self._session, self.state
        if session is None or not state.order:
            return
        among = [i for i in self._among if i in session.objects]
        queue = session.review_queue(state.order, among)
        self._show(left=len(queue))
        if queue:
            self._go_to(queue[0])
            self.board.say(f"Is object {queue[0]} right? {HOW}", guide=False)
        else:
            self._show(order="")
            self.board.say("All have been looked at.", guide=False)

    def _judge(self, ids: list[int] | None, *, right: bool) -> None:
        session, state = self._session, self.state
        known = self._known([self.board.state.object_id] if ids is None else ids)
        if session is None or not known:
            self.board.say("Choose objects in the table first.")
            return
        drawn = state.order == "random" and len(known) == 1
        if drawn and known[0] in session.review_queue("random", self._known(known)):
            done = self._try(lambda: session.judge(known[0], right), "")
        else:
            word = "accepted" if right else "rejected"
            done = self._try(
                lambda: session.describe(known, review=word),
                f"{{}} {word} (Ctrl-Z: undo).",
            )
        if done and state.order:
            self._next()

    # -- measuring -------------------------------------------------------------------

    def measure(self) -> None:
        """Measure all objects, in the background."""
        session = self._session
        if session is None:
            return
        self._changed.clear()
        self._show(measuring=True)
        self.board.say("Measuring the objects…", "busy")
        results = session.results()
        options = MeasureOptions()

        def work(cancelled: Cancel) -> Measured:
            return measure(results, options, cancelled)

        def failed(error: Exception) -> None:
            self._show(measuring=False)
            self.board.fail(error)

        def found(measured: Measured) -> None:
            self._measured = measured
            self._show(measuring=False)
            self._show_measured()
            n = len(np.unique(measured.ids))
            some = "1 object" if n == 1 else f"{n:,} objects"
            self.board.say(f"{some} measured; Export… writes them as CSV or Parquet.")

        self.jobs.submit(KEY, work, found, failed, priority=PREPARE)

    def stop(self) -> None:
        """Stop measuring."""
        self.jobs.cancel(KEY)
        if self.state.measuring:
            self._show(measuring=False)

    def on_view(self) -> None:
        """Show what was measured at the time point in view."""
        if self._measured is not None and self._measured.times is not None:
            if self._time_shown() != self._time:
                self._show_measured()

    def _time_shown(self) -> int:
        annotation = self._annotation
        plane = None if annotation is None else annotation.plane
        if annotation is None or plane is None or "t" not in annotation.volume.axes:
            return 0
        at = plane.slicer()[annotation.volume.axes.index("t")]
        return at if isinstance(at, int) else 0

    def _show_measured(self) -> None:
        found = self._measured
        if found is None:
            return
        self._time = self._time_shown()
        here = found.at(self._time)
        columns = {
            name: [None if v != v else v for v in values.tolist()]
            for name, values in here.columns.items()
            if not name.startswith("bbox_")
        }
        ids = here.ids.tolist()
        place = {i: n for n, i in enumerate(ids) if i not in self._changed}
        self.board.update(measured=MeasuredState(columns, place, here.size_unit))
        self._show(outdated=len(self._changed))

    # -- inside ----------------------------------------------------------------------

    def _leave(self) -> None:
        self.stop()
        if self._session is not None:
            self._session.patched.disconnect(self._on_patched)
            self._session.changed.disconnect(self._on_changed)
        self._session, self._measured = None, None
        self._changed.clear()
        self._among = []

    def _on_patched(self, patch: LabelPatch) -> None:
        if self._measured is None and not self.state.measuring:
            return
        if patch.changed.size > _LOOKED_AT:
            ids = {row.object_id for row in self.board.state.objects}
        else:
            sides = (patch.before, patch.after)
            whole = [np.broadcast_to(s, patch.changed.shape) for s in sides]
            ids = {i for s in whole for i in np.unique(s[patch.changed]).tolist()}
        if ids - {0} - self._changed:
            self._changed |= ids - {0}
            self.jobs.post(self._show_measured)

    def _on_changed(self) -> None:
        if self._session is not None:
            rate = self._session.error_rate()
            self._show(error_rate=str(rate) if rate.checked else "")

    def _known(self, ids: list[int]) -> list[int]:
        session = self._session
        return [] if session is None else [i for i in ids if i in session.objects]

    def _try(self, call: Callable[[], Any], told: str) -> bool:
        """Make a change; `told` gets the number of objects."""
        try:
            n = call()
        except NapariSamError as error:
            self.board.fail(error)
            return False
        if told:
            some = "1 object" if n == 1 else f"{n:,} objects"
            self.board.say(told.format(some), guide=False)
        return True

    def _show(self, **values: Any) -> None:
        if any(getattr(self.state, name) != v for name, v in values.items()):
            self.board.update(check=replace(self.state, **values))
