"""Whether what is done is kept on disk: told while it is not, and tried again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from napari_sam._napari import autosave
from napari_sam._napari.workers import PREPARE
from napari_sam.errors import SessionError

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
    place : str, optional
        Folder for its session, other than one among those of the widget.
    """

    def __init__(
        self, board: Board, jobs: Jobs, name: str, place: str | None = None
    ) -> None:
        self.board = board
        self.jobs = jobs
        self._name = name
        self._place = place
        self._session: Session | None = None
        self._tried = 0.0

    def use(self, session: Session, unsaved: str) -> None:
        """Follow a session; `unsaved` says why it is not kept, "" when it is."""
        self.close()
        self._session = session
        session.write_failed.connect(self._on_write_failed)
        error = session.write_error
        self._show(unsaved or ("" if error is None else str(error)))

    def close(self) -> None:
        """Follow it no longer."""
        if self._session is not None:
            self._session.write_failed.disconnect(self._on_write_failed)
        self._session = None

    def look(self) -> None:
        """The session has changed: try again what failed."""
        session = self._session
        if session is None or not self.board.state.unsaved:
            return
        now = time.monotonic()
        if now - self._tried < AGAIN_S:
            return
        self._tried = now

        def again(_: Any) -> str:
            if session.path is None:
                return autosave.keep(session, self._name, self._place)
            try:
                session.flush()
            except SessionError as error:
                return str(error)
            return ""

        self.jobs.submit(KEY, again, self._show, priority=PREPARE)

    def _on_write_failed(self, error: Exception) -> None:
        # Told by the thread that writes.
        self.jobs.post(lambda: self._show(str(error)))

    def _show(self, why: str) -> None:
        path = None if self._session is None else self._session.path
        text = f"Changes are not kept on disk: {why}. Save… chooses another folder."
        self.board.update(unsaved=text if why else "", kept_in=path or "")
