"""The candidates of the object at hand as pictures, drawn in the worker and kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_sam._napari.state import Thumbnail
from napari_sam._napari.thumbnails import draw_thumbnails
from napari_sam._napari.workers import PREPARE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sam._napari.state import Board
    from napari_sam._napari.workers import Jobs
    from napari_sam.core.candidates import PlaneCandidate
    from napari_sam.core.planes import Plane
    from napari_sam.session import ObjectState, Session

MOST_PICTURES = 200
"""Sets of pictures kept, so that they are there again after an undo."""


class Candidates:
    """Shows scores at once, and pictures as soon as they are drawn.

    Parameters
    ----------
    board : Board
    jobs : Jobs
    """

    def __init__(self, board: Board, jobs: Jobs) -> None:
        self.board = board
        self.jobs = jobs
        self._pictures: dict[tuple[int, Plane, str], tuple[Thumbnail, ...]] = {}

    def show(
        self,
        session: Session | None,
        state: ObjectState | None,
        found: Sequence[PlaneCandidate] = (),
    ) -> None:
        """Show the candidates of an object on a plane; `found` are its new masks."""
        self.jobs.cancel("thumbnails")
        if state is None or session is None:
            self.board.update(thumbnails=(), chosen=0)
            return
        key = (state.object_id, state.plane, repr(state.prompts.to_json()))
        known = self._pictures.get(key)
        scores = tuple(Thumbnail(score) for score in state.scores)
        self.board.update(thumbnails=known or scores, chosen=state.chosen)
        if not found or known:
            return
        mapping = session.engine.intensity

        def work(_: Any) -> Any:
            return draw_thumbnails(session.volume, mapping, state.plane, found)

        def drawn(thumbnails: tuple[Thumbnail, ...]) -> None:
            self._pictures[key] = thumbnails
            while len(self._pictures) > MOST_PICTURES:
                del self._pictures[next(iter(self._pictures))]
            self.board.update(thumbnails=thumbnails)

        self.jobs.submit("thumbnails", work, drawn, priority=PREPARE)
