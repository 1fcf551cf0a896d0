"""Whether what is done is kept on disk: told while it is not, and tried again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from napari_sam._napari import autosave
from napari_sam._napari.workers import PREPARE

if TYPE_CHECKING:
    from napari_sam._napari.state import Board
    from napari_sam._napari.workers import Jobs
    from napari_sam.session import Session

KEY = "keep"
AGAIN_S = 5.0
"""Seconds after which a change has it tried again."""


class Keeping:
    """Shows the health of the folder that every change is kept in.

    Parameters
    ----------
    board : Board
    jobs : Jobs
    name : str
        Of the image.
    """

    def __init__(self, board: Board, jobs: Jobs, name: str) -> None:
        self.board = board
        self.jobs = jobs
        self._name = name
        self._session: Session | None = None
        self._tried = 0.0

    def use(self, session: Session, unsaved: str) -> None:
        """Follow a session; `unsaved` says why it is not kept, "" when it is."""
        self._session = session
        self._show(unsaved)

    def look(self) -> None:
        """The session has changed: try again what failed."""
        session = self._session
        if session is None or not self.board.state.unsaved:
            return
        now = time.monotonic()
        if session.path is not None:  # it was saved by hand meanwhile
            self._show("")
        elif now - self._tried >= AGAIN_S:
            self._tried = now
            self.jobs.submit(
                KEY,
                lambda _: autosave.keep(session, self._name),
                self._show,
                priority=PREPARE,
            )

    def _show(self, why: str) -> None:
        self._tried = time.monotonic()
        path = None if self._session is None else self._session.path
        text = f"Nothing is kept on disk: {why}. Save… chooses another folder."
        self.board.update(unsaved=text if why else "", kept_in=path or "")
