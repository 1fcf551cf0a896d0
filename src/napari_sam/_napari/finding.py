"""Looking for objects: all there are, or those like the ones made so far."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from napari_sam._napari.workers import BACKGROUND
from napari_sam.core.planes import count_planes, plane_at
from napari_sam.core.thresholds import Thresholds
from napari_sam.engine.propose_options import ProposeOptions
from napari_sam.engine.select import select
from napari_sam.engine.suggest import SuggestRules
from napari_sam.errors import Cancelled, NapariSamError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from napari_sam._napari.annotation import Annotation
    from napari_sam._napari.state import Board
    from napari_sam._napari.workers import Jobs
    from napari_sam.core.masks import Bbox
    from napari_sam.core.planes import Plane
    from napari_sam.core.proposals import Proposal
    from napari_sam.engine.candidates import Candidates
    from napari_sam.engine.propose import Proposer
    from napari_sam.session import Session
    from napari_sam.session.search import Found

Scope = Literal["view", "plane", "all"]
KEY = "find"
AT_ONCE = 100
"""Proposals that are taken in between two events of the window."""


@dataclass(frozen=True, slots=True, eq=False)
class FoundAll:
    """What one step of looking for everything gave."""

    done: int
    total: int
    """Windows."""
    plane: Plane
    proposals: tuple[Proposal, ...] = ()
    more: bool = True
    """Whether others of the plane came before."""


class Finding:
    """Runs searches, and lets what they find wait.

    Everything here runs on the main thread, except what it gives to `jobs`.

    Parameters
    ----------
    board : Board
    jobs : Jobs
    tell : callable
        Says what waits, after what it is given.
    """

    def __init__(self, board: Board, jobs: Jobs, tell: Callable[[str], None]) -> None:
        self.board = board
        self.jobs = jobs
        self._tell = tell
        self._annotation: Annotation | None = None

    def use(self, annotation: Annotation | None) -> None:
        """Work on another image or none."""
        self.leave()
        self._annotation = annotation

    def leave(self) -> None:
        """Stop looking, and say nothing."""
        self.jobs.cancel(KEY)
        self._show(running=False)

    def everything(
        self, scope: Scope = "plane", options: ProposeOptions | None = None
    ) -> None:
        """Look for all objects in the view, on its plane, or on all planes."""
        found = self._begin(scope)
        if found is None:
            return
        session, plane, planes, region = found
        options = replace(options or ProposeOptions(), points_per_batch=self._batch)
        try:
            proposers = [
                session.set_everything(p, options, axis=plane.axis, region=region)
                for p in planes
            ]
        except NapariSamError as error:
            self.board.fail(error)
            return
        session.proposals.thresholds = usual(proposers)
        self._run(
            lambda cancel: find_all(proposers, cancel),
            self._on_found_all,
            "Looking for all objects. You can go on working meanwhile.",
        )

    def suggest(
        self, scope: Scope = "plane", rules: SuggestRules | None = None
    ) -> None:
        """Look for objects like those there are, in the view, on a plane, or on all."""
        found = self._begin(scope)
        if found is None:
            return
        session, plane, planes, region = found
        rules = replace(rules or SuggestRules(), points_per_batch=self._batch)
        try:
            search = session.proposals.search(
                planes, axis=plane.axis, region=region, rules=rules
            )
        except NapariSamError as error:
            self.board.fail(error)
            return
        session.proposals.thresholds = Thresholds()
        self._run(
            search.run,
            self._on_found,
            "Looking for further objects. You can go on working meanwhile.",
        )

    def named(self, text: str, scope: Scope, told: str) -> None:
        """Look for what a word names, in the view, on a plane, or on all.

        `told` is what the status says of it meanwhile.
        """
        found = self._begin(scope)
        if found is None:
            return
        session, plane, planes, region = found
        try:
            search = session.search_kind(
                text, planes=planes, axis=plane.axis, region=region
            )
        except NapariSamError as error:
            self.board.fail(error)
            return
        session.proposals.thresholds = Thresholds()
        self._run(search.run, self._on_found, told)

    def stop(self) -> None:
        """Stop looking; what was found stays."""
        self.jobs.cancel(KEY)
        if self.board.state.review.running:
            self._show(running=False)
            self._tell("Stopped. ")

    # -- inside ----------------------------------------------------------------------

    @property
    def _session(self) -> Session | None:
        return None if self._annotation is None else self._annotation.session

    @property
    def _batch(self) -> int:
        """Points decoded together: clicks wait for a batch at most."""
        session = self._session
        return 16 if session is None or session.model.device == "cpu" else 64

    def _begin(
        self, scope: Scope
    ) -> tuple[Session, Plane, list[Plane], Bbox | None] | None:
        """Where to look; None, and said why, where that is nowhere."""
        annotation, session = self._annotation, self._session
        plane = None if annotation is None else annotation.plane
        if annotation is None or session is None or plane is None:
            self.board.say("Open an image first, and show a plane of it.")
            return None
        return session, plane, *where(annotation, plane, scope)

    def _run(
        self,
        work: Callable[[Callable[[], bool]], Any],
        found: Callable[[Any], None],
        said: str,
    ) -> None:
        self._show(running=True, done=0, total=0)
        self.board.say(said, "busy")
        self.jobs.submit(
            KEY,
            work,
            lambda _: self._on_done(),
            self._on_failed,
            progress=found,
            every=True,
            priority=BACKGROUND,
        )

    def _on_found(self, found: Found) -> None:
        self._show(done=found.done, total=found.total)
        if self._session is not None:
            self._session.proposals.add(found)

    def _on_found_all(self, found: FoundAll) -> None:
        self._show(done=found.done, total=found.total)
        session = self._session
        if session is not None and (found.proposals or not found.more):
            session.accept_everything(found.plane, found.proposals, more=found.more)

    def _on_done(self) -> None:
        self._show(running=False)
        self._tell("")

    def _on_failed(self, error: Exception) -> None:
        self._show(running=False)
        self.board.fail(error)

    def _show(self, **fields: Any) -> None:
        self.board.update(review=replace(self.board.state.review, **fields))


def where(
    annotation: Annotation, plane: Plane, scope: Scope
) -> tuple[list[Plane], Bbox | None]:
    """Planes and region of a search; all planes from the shown one outwards."""
    shape = annotation.volume.shape
    if scope == "all":
        here = plane.linear(shape)
        order = sorted(
            range(count_planes(shape, plane.axis)), key=lambda i: abs(i - here)
        )
        return [plane_at(shape, i, plane.axis) for i in order], None
    view = annotation.view
    if scope == "plane" or view is None or view.box is None:
        return [plane], None
    h, w = plane.shape(shape)
    y0, x0, y1, x1 = (int(v) for v in view.box)
    return [plane], (max(y0, 0), max(x0, 0), min(y1, h), min(x1, w))


def find_all(
    proposers: Sequence[Proposer], cancel: Callable[[], bool]
) -> Iterator[FoundAll]:
    """Look for everything on one plane after the other.

    All that may be of use is given, also below the thresholds that suit the model:
    sliders move up and down from there.
    """
    done, total = 0, sum(len(p.looks) for p in proposers)
    for proposer in proposers:
        proposer.cancel = cancel
        parts: list[Candidates] = []
        try:
            for step in proposer.run():
                parts.append(step.found)
                done += 1
                yield FoundAll(done, total, proposer.plane)
        except Cancelled:
            return
        chosen = select(proposer.candidates(parts), proposer.lowest)
        yield FoundAll(done, total, proposer.plane, more=False)
        drawn = iter(chosen)
        while some := tuple(islice(drawn, AT_ONCE)):
            yield FoundAll(done, total, proposer.plane, some)


def usual(proposers: Sequence[Proposer]) -> Thresholds:
    """Thresholds that suit the model which is asked."""
    iou, stability = proposers[0].engine.model.spec.proposal_thresholds
    return Thresholds(pred_iou_thresh=iou, stability_score_thresh=stability)
