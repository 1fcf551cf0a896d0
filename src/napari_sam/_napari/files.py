"""Slow work with a session in the worker: saving it, writing results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_sam._napari.workers import PREPARE
from napari_sam.errors import NapariSamError

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_sam._napari.state import Board
    from napari_sam._napari.workers import Jobs
    from napari_sam.core.planes import Plane
    from napari_sam.results.results import Results
    from napari_sam.session import Session
    from napari_sam.session.combining import Combination


class Files:
    """Writes what there is, and says what came of it.

    Parameters
    ----------
    board : Board
    jobs : Jobs
    session : callable
        Gives the session in use, or None.
    """

    def __init__(
        self, board: Board, jobs: Jobs, session: Callable[[], Session | None]
    ) -> None:
        self.board = board
        self.jobs = jobs
        self._session = session

    def run(
        self, text: str, work: Callable[[Session], Any], done: Callable[[Any], str]
    ) -> None:
        """Do slow work with the session in the worker, such as an export.

        Parameters
        ----------
        text : str
            What to say meanwhile.
        work : callable
            Gets the session; runs in the worker.
        done : callable
            Gets the result on the main thread; returns what to say then.
        """
        session = self._session()
        if session is None:
            self.board.say("There is nothing to write yet.")
            return
        self.board.say(text, "busy")
        self.jobs.submit(
            ("run", text),
            lambda _: work(session),
            lambda result: self.board.say(done(result)),
            self.board.fail,
            priority=PREPARE,
        )

    def report(self, make: Callable[[], str], done: Callable[[str], str]) -> None:
        """Make a report in the worker; `done` gets it and returns what to say."""
        self.board.say("Looking at what is installed…", "busy")
        self.jobs.submit(
            ("run", "report"),
            lambda _: make(),
            lambda text: self.board.say(done(text)),
            self.board.fail,
            priority=PREPARE,
        )

    def combine(self, path: str) -> None:
        """Join another session to this one; they are compared in the worker."""
        session = self._session()
        if session is None:
            return
        self.board.say("Comparing the two sessions…", "busy")

        def found(combination: Combination) -> None:
            try:
                counts = session.accept_combination(combination).counts
            except NapariSamError as error:
                self.board.fail(error)
                return
            differ = sum(n for kind, n in counts.items() if kind != "same")
            self.board.say(
                f"{counts['same']} objects are the same, {differ} are flagged: "
                "type review=flagged above the table of objects. Ctrl-Z undoes it."
            )

        self.jobs.submit(
            ("run", "combine"),
            lambda _: session.set_combination(path),
            found,
            self.board.fail,
            priority=PREPARE,
        )

    def read(
        self, path: str, plane: Plane | None, done: Callable[[Results], None]
    ) -> None:
        """Take in the objects of a file, as one change; they are found in the worker.

        Parameters
        ----------
        path : str
            Labels or annotations of the image in use.
        plane : Plane, optional
            Where a file of one plane belongs.
        done : callable
            Gets what was taken in.
        """
        from napari_sam.session import exchange

        session = self._session()
        if session is None:
            self.board.say("First open the image that the file belongs to.")
            return

        def found(results: Results) -> None:
            if session is not self._session():
                return
            try:
                taken = exchange.take_in(session, results, path, "new")
            except (NapariSamError, OSError) as error:
                self.board.fail(error)
                return
            done(taken)
            some = f"{len(taken.objects)} object(s) read from {path}"
            self.board.say(". ".join((some, *taken.notes)) + ". Ctrl-Z: undo.")

        self.board.say(f"Reading {path}…", "busy")
        self.jobs.submit(
            ("run", path),
            lambda _: exchange.find(session.volume, path, plane=plane),
            found,
            self.board.fail,
            priority=PREPARE,
        )

    def save(self, path: str) -> None:
        """Save the session to a folder, which keeps every change from then on."""
        self.run(
            f"Saving to {path}…",
            lambda session: session.save(path),
            lambda _: self._saved(path),
        )

    def _saved(self, path: str) -> str:
        self.board.update(kept_in=path, unsaved="")
        return f"Saved; every change is kept in {path} from now on."
