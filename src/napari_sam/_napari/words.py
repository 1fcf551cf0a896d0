"""Words: who reads them, and the search for what they name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from psygnal import Signal

if TYPE_CHECKING:
    from napari_sam._napari.finding import Finding, Scope
    from napari_sam._napari.state import Board
    from napari_sam.models.clip.catalogue import KnownScorer
    from napari_sam.session import Session

WEAK = "Everyday words work best; words of science are hardly known."


class Words:
    """Looks for what a word names; what is found waits in the review.

    Parameters
    ----------
    board : Board
    finding : Finding
    """

    download_wanted = Signal(str, str, str)
    """Words, where to look, and the notice to agree to before weights are fetched."""

    def __init__(self, board: Board, finding: Finding) -> None:
        self.board = board
        self.finding = finding
        self._session: Session | None = None

    def use(self, session: Session | None) -> None:
        """Work in another session, or say anew who reads words."""
        self._session = session
        by = "" if session is None else Path(session.reads_words).name
        self.board.update(words=_told(session), words_by=by)

    def find(self, text: str, scope: Scope = "plane", *, agreed: bool = False) -> None:
        """Look for what a word names in the view, on its plane, or on all planes."""
        known = None if self._session is None else _to_fetch(self._session)
        if known is not None and text.strip() and not agreed:
            self.download_wanted(text, scope, known.notice)
            return
        told = f"Looking for {text.strip()!r}. {_told(self._session)}"
        self.finding.named(text, scope, told)


def _to_fetch(session: Session) -> KnownScorer | None:
    """Return the reader of words that would have to be downloaded first."""
    from napari_sam.models.clip.catalogue import list_scorers

    name = session.reads_words
    if not isinstance(session.scorer, str) or name == session.model.spec.name:
        return None
    return next((k for k in list_scorers() if k.name == name and not k.cached), None)


def _told(session: Session | None) -> str:
    if session is None:
        return ""
    name = session.reads_words
    if name == session.model.spec.name:
        return f"{name} reads words itself. {WEAK}"
    fetch = _to_fetch(session)
    size = f", {fetch.size_bytes / 1e6:.0f} MB to download" if fetch else ""
    return f"Read by {name}{size}, which scores all objects found. {WEAK}"
