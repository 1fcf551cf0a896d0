"""Going through what was proposed, one by one or all at once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_sam._napari.camera import go_to
from napari_sam._napari.finding import Finding
from napari_sam._napari.preview import Preview
from napari_sam._napari.state import ReviewRow
from napari_sam.core.thresholds import Scores, Thresholds
from napari_sam.errors import NapariSamError

if TYPE_CHECKING:
    from napari_sam._napari.annotation import Annotation
    from napari_sam._napari.state import Board, ReviewState
    from napari_sam._napari.workers import Jobs
    from napari_sam.core.proposals import Proposal
    from napari_sam.session import Session
    from napari_sam.session.proposals import Proposals

MOST_ROWS = 500
"""Rows of the list: nobody goes through more by scrolling."""
HOW = "Y accepts it, R rejects it, . and , go on and back."


class Review:
    """Keeps its place in the list of proposals, and passes on the user's word.

    Everything here runs on the main thread, except what it gives to `jobs`.

    Parameters
    ----------
    board : Board
    jobs : Jobs
    """

    box_wanted = Signal()
    """The next drag on the canvas is to give a box."""

    def __init__(self, board: Board, jobs: Jobs) -> None:
        self.board = board
        self.jobs = jobs
        self.finding = Finding(board, jobs, self._say_what_waits)
        self._annotation: Annotation | None = None
        self._proposals: Proposals | None = None
        self._preview: Preview | None = None
        self._drawing = False

    @property
    def state(self) -> ReviewState:
        """What the panel shows of it."""
        return self.board.state.review

    @property
    def current(self) -> Proposal | None:
        """The proposal at hand."""
        return next((s for s in self._listed() if s.number == self.state.current), None)

    def use(self, annotation: Annotation | None) -> None:
        """Work on another image or none."""
        self.finding.use(annotation)
        self._leave()
        self._annotation = annotation
        self._preview = None
        if annotation is not None:
            self._preview = Preview(
                annotation.viewer, annotation.image, annotation.volume.shape
            )
        self._show(rows=(), pending=0, hidden=0, current=0, rejected=0)

    def renew(self) -> None:
        """Go on with another session, and what it has left to review."""
        self.finding.leave()
        self._leave()
        session = self._session
        if session is not None:
            self._proposals = session.proposals
            self._proposals.changed.connect(self._on_changed)
        self._draw()

    def look(self) -> None:
        """Draw what is proposed on a plane that came into view."""
        if self._preview is not None and self._annotation is not None:
            self._preview.look(self._annotation.plane)

    def stop(self) -> None:
        """Stop looking for more."""
        self.finding.stop()

    # -- going through them ----------------------------------------------------------

    def show(self, number: int) -> None:
        """Go to a proposal: its plane, and its place there."""
        self._show(current=number)
        found, annotation = self.current, self._annotation
        self._draw()
        if found is None or annotation is None:
            return
        shape = annotation.volume.shape
        go_to(annotation.viewer, annotation.image, shape, found.plane, found.bbox)
        self.board.say(
            f"Proposed with a doubt of {found.doubt:.2f}: {HOW}", guide=False
        )

    def tell(self) -> None:
        """Say what waits, and which keys go through it."""
        self._say_what_waits("")

    def next(self) -> None:
        """Go to the next proposal of the list."""
        self._step(1)

    def previous(self) -> None:
        """Go to the one before."""
        self._step(-1)

    def order(self, *, doubtful_first: bool) -> None:
        """List the most doubtful first, or last."""
        self._show(doubtful_first=doubtful_first)
        self._draw()

    # -- the user's word -------------------------------------------------------------

    def accept(self) -> None:
        """Make the proposal at hand an object, and go to the next."""
        found = self._at_hand()
        if found is not None:
            following = self._following(found)
            if self._accept([found]):
                self._go_on(following, "Accepted (Ctrl-Z: undo).")

    def reject(self) -> None:
        """Do not suggest this again, and go to the next."""
        found, proposals = self._at_hand(), self._proposals
        if found is not None and proposals is not None:
            following = self._following(found)
            proposals.reject([found])
            self._go_on(following, "Rejected, not proposed again (Ctrl-Z: undo).")

    def correct(self) -> None:
        """Accept the proposal at hand and take it up, to be corrected by points."""
        found, annotation = self._at_hand(), self._annotation
        if found is None or annotation is None or self._proposals is None:
            return
        self.show(found.number)
        if not self._accept([found]):
            return
        annotation.select(self._proposals.object_id(found))
        self._show(current=0)
        self._draw()
        self.board.say(
            "Click where it is missing a part; T, then a click, takes a part away. "
            "Then . goes on to the next proposal.",
            guide=False,
        )

    def select(self, thresholds: Thresholds) -> None:
        """Show the proposals that pass; the others are kept, and come back."""
        if self._proposals is not None:
            self._proposals.thresholds = thresholds

    def redraw(self) -> None:
        """Let a box take the place of the proposal at hand: its mask is a new object.

        A proposal that the new mask covers waits no more; undo brings it back.
        """
        found, annotation = self._at_hand(), self._annotation
        if found is None or annotation is None:
            return
        self.show(found.number)
        annotation.new_object()
        self.box_wanted.emit()
        self.board.say(
            "Drag a box around what it should be: the mask is an object of yours. Then "
            ". goes on; R rejects the proposal where it still waits.",
            guide=False,
        )

    def accept_all(self) -> None:
        """Accept all that are shown, as one change."""
        chosen = self._listed()
        if not chosen:
            self.board.say(self._waiting())
        elif self._accept(chosen):
            self._show(current=0)
            self.board.say(
                f"{len(chosen)} accepted (one Ctrl-Z takes them all back). "
                f"{self._waiting()}",
                guide=False,
            )

    def reject_all(self) -> None:
        """Take all that are shown away, as one change."""
        n = 0 if self._proposals is None else self._proposals.reject()
        if not n:
            self.board.say(self._waiting())
            return
        self._show(current=0)
        self.board.say(
            f"{n} rejected, not proposed again (one Ctrl-Z takes them all back). "
            f"{self._waiting()}",
            guide=False,
        )

    def restore(self) -> None:
        """Let the proposal that was rejected last wait again."""
        proposals = self._proposals
        if proposals is not None and proposals.rejected:
            last = proposals.rejected[-1]
            proposals.restore([last])
            self.show(last.number)

    # -- inside ----------------------------------------------------------------------

    @property
    def _session(self) -> Session | None:
        return None if self._annotation is None else self._annotation.session

    def _leave(self) -> None:
        if self._proposals is not None:
            self._proposals.changed.disconnect(self._on_changed)
        self._proposals = None

    def _listed(self) -> list[Proposal]:
        """What waits, in the order of the list."""
        if self._proposals is None:
            return []
        waiting = self._proposals.pending
        return waiting if self.state.doubtful_first else waiting[::-1]

    def _at_hand(self) -> Proposal | None:
        """The current proposal; where there is none, go to the first."""
        if self.current is None:
            self._step(1)
            return None
        return self.current

    def _following(self, found: Proposal) -> int:
        """Number of the proposal after one, or of the last before it."""
        listed = [s.number for s in self._listed()]
        place = listed.index(found.number)
        rest = listed[place + 1 :] or listed[:place][-1:]
        return rest[0] if rest else 0

    def _go_on(self, number: int, said: str) -> None:
        if number:
            self.show(number)
            self.board.say(f"{said} {HOW}", guide=False)
        else:
            self._show(current=0)
            self._draw()
            self.board.say(f"{said} {self._waiting()}", guide=False)

    def _step(self, by: int) -> None:
        listed = [s.number for s in self._listed()]
        if not listed:
            self.board.say(self._waiting(), guide=False)
            return
        if self.state.current in listed:
            self.show(listed[(listed.index(self.state.current) + by) % len(listed)])
        else:
            self.show(listed[0 if by > 0 else -1])

    def _accept(self, chosen: list[Proposal]) -> bool:
        """Accept; the object at hand, where it is still empty, gets another number."""
        annotation, session = self._annotation, self._session
        if annotation is None or session is None or self._proposals is None:
            return False
        empty = annotation.object_id not in session.objects
        try:
            n = self._proposals.accept(chosen)
        except (NapariSamError, OSError) as error:
            self.board.fail(error)
            return False
        if empty and annotation.object_id in session.objects:
            annotation.new_object()
        return n > 0

    def _say_what_waits(self, before: str) -> None:
        self.board.say(before + self._waiting(), guide=False)

    def _waiting(self) -> str:
        n = len(self._listed())
        hidden = 0 if self._proposals is None else len(self._proposals.waiting) - n
        if hidden and not n:
            return f"{hidden} proposals wait, below the thresholds."
        if not n:
            return "No proposal is waiting; prompt objects by hand."
        some = "1 proposal waits" if n == 1 else f"{n} proposals wait"
        return f"{some}: . goes to the first. {HOW}"

    def _on_changed(self) -> None:
        """Draw once for all changes made in one go."""
        if not self._drawing:
            self._drawing = True
            self.jobs.post(self._draw_now)

    def _draw_now(self) -> None:
        self._drawing = False
        if self._annotation is not None:
            self._draw()

    def _draw(self) -> None:
        proposals, listed = self._proposals, self._listed()
        waiting = [] if proposals is None else proposals.waiting
        scores = Scores.of(()) if proposals is None else proposals.scores
        first = listed[:MOST_ROWS]
        if self.state.current and not any(
            p.number == self.state.current for p in first
        ):
            first += [p for p in listed if p.number == self.state.current]
        self._show(
            rows=tuple(map(_row, first)),
            pending=len(listed),
            hidden=len(scores.doubt) - len(listed),
            largest=float(scores.area.max(initial=0)),
            like=bool((scores.likeness < 1).any()),
            thresholds=Thresholds() if proposals is None else proposals.thresholds,
            rejected=0 if proposals is None else len(proposals.rejected),
        )
        if self._preview is not None and self._annotation is not None:
            plane = self._annotation.plane
            self._preview.show(listed, plane, self.state.current, soon=waiting)

    def _show(self, **fields: Any) -> None:
        new = replace(self.state, **fields)
        if new != self.state:  # drawing the panel takes milliseconds
            self.board.update(review=new)


def _row(s: Proposal) -> ReviewRow:
    where = ", ".join(str(i) for i in s.plane.index)
    text = f"plane {where} · {s.area:,} px" if where else f"{s.area:,} px"
    if s.object_id:
        text = f"object {s.object_id} · {text}"
    return ReviewRow(s.number, s.doubt, text)
