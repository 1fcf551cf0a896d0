"""Prompts that are being answered: asked in the worker, dropped, or taken in turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_sam._napari.state import Board
    from napari_sam._napari.workers import Job, Jobs
    from napari_sam.core.planes import Plane
    from napari_sam.session import Request, Result, Session


class Clicks:
    """Requests of one session under way; at most one an object and plane.

    Parameters
    ----------
    board : Board
    jobs : Jobs
    """

    def __init__(self, board: Board, jobs: Jobs) -> None:
        self.board = board
        self.jobs = jobs
        self.then: int | None = None
        """Candidate to take once the prompts under way are answered."""
        self._jobs: dict[tuple[str, int, Plane], Job] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def is_asked(self, object_id: int, plane: Plane) -> bool:
        """Whether prompts of an object on a plane have no answer yet."""
        return ("click", object_id, plane) in self._jobs

    def answer(
        self,
        session: Session,
        request: Request,
        accept: Callable[[Result, str], None],
        done: str = "",
    ) -> None:
        """Answer a request in the worker; the first answer, then each sharper one.

        Parameters
        ----------
        accept : callable
            Takes each answer, and `done`: what to say then.
        """
        self.board.say(f"Looking for object {request.object_id}…", "busy")
        key = ("click", request.object_id, request.plane)

        def failed(error: Exception) -> None:
            self._jobs.pop(key, None)
            self.board.fail(error)

        def answered(result: Result) -> None:
            self._jobs.pop(key, None)
            accept(result, done)

        self._jobs[key] = self.jobs.submit(
            key,
            lambda cancelled: session.iter_run(request, cancelled),
            lambda _: None,
            failed,
            progress=answered,
            every=True,
        )

    def take_then(self) -> int | None:
        """Return the candidate to take now, once."""
        then, self.then = self.then, None
        return then

    def stop_sharpening(self) -> None:
        """Sharper answers are of no use to what is taken back."""
        keys = (key for key in self.jobs.keys if isinstance(key, tuple))
        self.jobs.cancel(*(key for key in keys if key[0] == "click"), "thumbnails")

    def drop(self, object_id: int, plane: Plane) -> None:
        """Give up prompts of an object on a plane."""
        job = self._jobs.pop(("click", object_id, plane), None)
        if job is not None:
            job.cancel()

    def drop_all(self) -> None:
        """Give up all that has no answer yet."""
        for job in self._jobs.values():
            job.cancel()
        self._jobs.clear()
        self.then = None
