"""Objects made anew as a whole: refined, split in two, joined, by clicks on them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_sam.core.prompts import Prompts
from napari_sam.errors import NapariSamError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari_sam._napari.annotation import Annotation
    from napari_sam._napari.state import Board
    from napari_sam._napari.workers import Jobs
    from napari_sam.core.mask_prompt import MaskPrompt
    from napari_sam.core.planes import Plane
    from napari_sam.session import Session
    from napari_sam.session.reshape import Division, Parts, Union

KEY = "reshape"


class Reshaping:
    """Refine, split and merge: found by `jobs`, applied on the main thread.

    Parameters
    ----------
    board : Board
    jobs : Jobs
    """

    def __init__(self, board: Board, jobs: Jobs) -> None:
        self.board = board
        self.jobs = jobs
        self._annotation: Annotation | None = None

    def use(self, annotation: Annotation | None) -> None:
        """Work on another image or none."""
        self.jobs.cancel(KEY)
        if self._annotation is not None:
            self._annotation.layers.marked.disconnect(self._on_marked)
        self._annotation = annotation
        if annotation is not None:
            annotation.layers.marked.connect(self._on_marked)

    def stop(self) -> None:
        """Give up what is under way; nothing is changed."""
        self.jobs.cancel(KEY)
        if self._annotation is not None:
            self._annotation.layers.drop_marks()

    def refine(self) -> None:
        """Let the model draw the object at hand again, from the pixels it has here."""
        annotation = self._annotation
        session = None if annotation is None else annotation.session
        plane = None if annotation is None else annotation.plane
        if annotation is None or session is None or plane is None:
            self.board.say("There is no object to refine yet.")
            return
        object_id, begun = annotation.object_id, session.document.journal.position
        self.board.say(f"Reading object {object_id}…", "busy")

        def read(mask: MaskPrompt) -> None:
            if session is not annotation.session or annotation is not self._annotation:
                return
            if begun != session.document.journal.position:
                self.refine()  # it was changed meanwhile
            elif object_id == annotation.object_id:
                prompts = replace(Prompts.of(mask=mask), level=annotation.level)
                annotation.ask(plane, prompts, redraws=True)

        self.jobs.submit(
            KEY,
            lambda cancel: session.shown(object_id, plane, cancel),
            read,
            self.board.fail,
        )

    # -- clicks that are no prompts --------------------------------------------------

    def _on_marked(self, tool: str) -> None:
        annotation = self._annotation
        assert annotation is not None
        marks = annotation.layers.marks
        session, (plane, at) = annotation.session, marks[-1]
        here = [place for where, place in marks if where == plane]
        if session is None:
            annotation.layers.drop_marks()
            self.board.say("The model is loading; click again once it is ready.")
            return
        found = session.object_at(at, plane)
        if not found:
            annotation.layers.drop_marks()
            self.board.say("There is no object at that place.", guide=False)
        elif tool == "merge":
            annotation.layers.drop_marks()
            self._merge(session, found)
        elif len(here) < 2:
            self.board.say(f"Object {found}: click in its other part.", guide=False)
        else:
            annotation.layers.drop_marks()
            self._split(session, session.object_at(here[0], plane), plane, here)

    def _split(
        self,
        session: Session,
        object_id: int,
        plane: Plane,
        points: list[tuple[float, float]],
    ) -> None:
        def asked() -> Division:
            return session.set_split(object_id, plane, points)

        def found(division: Division, parts: Parts) -> None:
            ids = session.accept_split(division, parts)
            self._show(ids[0])
            others = ", ".join(str(i) for i in ids[1:])
            self.board.say(
                f"Object {object_id} is split: its other part is object {others} "
                "(Ctrl-Z: undo).",
                guide=False,
            )

        self._run(session, f"Splitting object {object_id}…", asked, found)

    def _merge(self, session: Session, object_id: int) -> None:
        into = self.board.state.object_id
        if object_id == into:
            self.board.say(
                f"Object {into} is at hand: click on what is to be part of it.",
                guide=False,
            )
            return
        if into not in session.objects:
            self._show(object_id)
            self.board.say(
                f"Object {object_id}: now click on what is to be part of it.",
                guide=False,
            )
            return

        def asked() -> Union:
            return session.set_merge([into, object_id])

        def found(union: Union, masks: Mapping[Plane, MaskPrompt]) -> None:
            session.accept_merge(union, masks)
            self._show(into)
            self.board.say(
                f"Object {object_id} is part of object {into} now (Ctrl-Z: undo).",
                guide=False,
            )

        self._run(session, f"Joining objects {into} and {object_id}…", asked, found)

    def _run(
        self,
        session: Session,
        said: str,
        ask: Callable[[], Any],
        accept: Callable[[Any, Any], None],
    ) -> None:
        """Ask, find in the worker, and apply, where the session is still in use."""
        annotation = self._annotation
        assert annotation is not None
        annotation.stop_sharpening()
        try:
            asked = ask()
        except NapariSamError as error:
            self.board.fail(error)
            return
        self.board.say(said, "busy")

        def found(result: Any) -> None:
            if annotation is not self._annotation or session is not annotation.session:
                return
            annotation.take_back_clicks()
            try:
                accept(asked, result)
            except (NapariSamError, OSError) as error:
                self.board.fail(error)

        self.jobs.submit(KEY, asked.run, found, self.board.fail)

    def _show(self, object_id: int) -> None:
        annotation = self._annotation
        if annotation is not None:
            annotation.select(object_id)
