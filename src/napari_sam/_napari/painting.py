"""Pixels painted by hand in the masks layer, taken into the session's history."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.errors import NapariSamError

if TYPE_CHECKING:
    from napari_sam._napari.label_writer import LabelWriter
    from napari_sam._napari.state import Board
    from napari_sam.core.masks import LabelPatch
    from napari_sam.session import Session


class Painting:
    """Records strokes; those made while the session is being opened wait for it.

    Parameters
    ----------
    board : Board
    writer : LabelWriter
    """

    def __init__(self, board: Board, writer: LabelWriter) -> None:
        self.board = board
        self.writer = writer
        self.highest = 0
        """Largest value painted so far."""
        self._session: Session | None = None
        self._early: list[LabelPatch] = []
        writer.painted.connect(self._on_painted)

    def use(self, session: Session) -> None:
        """Go on with a session; paint again what it lacks of what was painted."""
        self._session = session
        for patch in self._early:
            session.make_room(int(patch.after.max(initial=0)))
            before = np.array(session.labels[patch.plane.window(patch.bbox)])
            after = patch.after.astype(before.dtype)
            if (before != after).any():
                late = replace(patch, before=before, after=after)
                self._record(session, late)
                self.writer.write(late)
        self._early.clear()

    def _on_painted(self, patches: list[LabelPatch]) -> None:
        session, label = self._session, int(self.writer.layer.selected_label)
        if session is None:
            self._early += patches
            return
        for patch in patches:
            self.highest = max(self.highest, int(patch.after.max(initial=0)))
            self._record(session, patch, label)
        self.board.say("Painted by hand (Ctrl-Z: undo).")

    def _record(
        self, session: Session, patch: LabelPatch, label: int | None = None
    ) -> None:
        try:
            session.record_paint(patch, label)
        except (NapariSamError, OSError) as error:
            self.board.fail(error)
