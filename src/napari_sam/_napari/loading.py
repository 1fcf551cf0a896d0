"""The model that is to answer: agreed to, fetched, loaded; or the former one stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_sam._napari import opening
from napari_sam._napari.workers import PREPARE
from napari_sam.errors import NapariSamError

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_sam._napari.state import Board
    from napari_sam._napari.workers import Jobs
    from napari_sam.session import Session

KEY = "prepare"
"""Key of the one job that loads a model."""


class Loading:
    """Runs work that needs a model's weights, and shows which model answers.

    The panel names a model only once it answers: one that cannot be had changes
    nothing.

    Parameters
    ----------
    board : Board
    jobs : Jobs
    """

    download_wanted = Signal(str, str)
    """A model's name and the notice to agree to before its weights are fetched."""

    def __init__(self, board: Board, jobs: Jobs) -> None:
        self.board = board
        self.jobs = jobs
        self._names_of_files: dict[str, str] = {}
        """Checkpoint file -> name to keep it under once it is loaded."""

    @property
    def name(self) -> str:
        """Name or path of the model that answers, or is about to."""
        return self.board.state.loading or self.board.state.model

    @property
    def going_on(self) -> bool:
        """Whether a model is being loaded."""
        return KEY in self.jobs.keys

    def is_agreed(self, name: str, *, agreed: bool) -> bool:
        """Whether a model may be fetched; if not yet, the user is asked."""
        notice = "" if agreed else opening.download_notice(name)
        by_hand = opening.fetch_by_hand(name)
        if notice or by_hand:
            self.board.update()  # the list goes back to the model that answers
        if by_hand:
            self.board.say(by_hand, "error")
        elif notice:
            self.download_wanted(name, notice)
        return not (notice or by_hand)

    def name_file(self, path: str, name: str) -> bool:
        """Keep a checkpoint file under a name once it is loaded; whether it may be."""
        from napari_sam.models.registry import check_own_name

        if name:
            try:
                check_own_name(name)
            except NapariSamError as error:
                self.board.fail(error)
                return False
            self._names_of_files[path] = name
        return True

    def run(self, name: str, work: Any, done: Callable[[Any], None]) -> None:
        """Queue work that loads a model: its weights are fetched first if need be."""

        def ready(result: Any) -> None:
            self.board.update(model=name, loading="")
            done(result)

        def start(_: Any = None) -> None:
            self.board.update(progress=None, models=opening.model_choices())
            self.jobs.submit(KEY, work, ready, self._on_failed, priority=PREPARE)

        self.board.update(loading=name)
        if not opening.download_notice(name):
            start()
            return
        self.board.update(progress=(0, 0), progress_text="MB")
        self.jobs.submit(
            KEY,
            lambda _: opening.download(name),
            start,
            self._on_failed,
            progress=lambda step: self.board.update(progress=step),
            priority=PREPARE,
        )

    def stop(self) -> None:
        """Load no further; the model that answers stays."""
        self.jobs.cancel(KEY)
        self.board.update(loading="", progress=None)

    def show(self, session: Session) -> str:
        """Show the facts of the model that answers; return its name."""
        spec = session.model.spec
        licence = f"licence {spec.license}" if spec.license else ""
        facts = [session.model.device, licence, f"tiles of {spec.input_side} px"]
        self.board.update(model_note=" · ".join(f for f in facts if f), can_embed=True)
        name = self._names_of_files.pop(self.board.state.model, "")
        if name:
            from napari_sam.models.registry import remember

            try:
                remember(name, session.model)
            except NapariSamError as error:
                self.board.fail(error)
                return spec.name
            self.board.update(model=name, models=opening.model_choices())
        return name or spec.name

    def _on_failed(self, error: Exception) -> None:
        name = opening.short(self.name)
        note = self.board.state.model_note
        if not self.board.state.can_embed:
            note = f"{name} could not be loaded: no model answers prompts"
        self.board.update(loading="", progress=None, model_note=note)
        self.board.fail(error)
