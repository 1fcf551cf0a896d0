"""What a model proposes for a volume, apart from the labels until accepted.

The search only reads, so that it may run in another thread; what it finds is taken in,
accepted and rejected by the thread that owns the session. All of it is in the journal:
what was found as notes, what was decided as changes that can be undone.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from napari_sam.core.masks import boxes_meet
from napari_sam.core.planes import Plane
from napari_sam.core.thresholds import Scores, Thresholds
from napari_sam.embeddings.source import planes_of
from napari_sam.engine.suggest import SuggestRules, regrouped
from napari_sam.errors import PromptError
from napari_sam.session import deciding
from napari_sam.session.search import Found, Search

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping

    from napari_sam.core.masks import Bbox, LabelPatch
    from napari_sam.core.objects import Key
    from napari_sam.core.proposals import Proposal
    from napari_sam.session.annotation import Annotation

_COVERED = 0.5
"""Share of a proposal that labels must leave free for it to wait any longer."""


class Proposals:
    """Objects proposed for a session, to be accepted or rejected one by one or all.

    A proposal waits until it is accepted or rejected, each of which can be undone, or
    until labels cover most of it. When those are gone it waits again.

    Examples
    --------
    >>> from napari_sam.session import Session
    >>> from napari_sam.testing import ToyModel, phantom_image
    >>> cells = phantom_image((64, 96), n_objects=4, noise=0)
    >>> session = Session(cells.image, ToyModel(), embeddings=False)
    >>> _ = session.segment(points=[cells.center(1)])
    >>> len(session.suggest())
    3
    >>> session.proposals.accept()
    3
    >>> session.undo(), len(session.proposals.pending)
    (True, 3)
    """

    changed = Signal()
    """Other proposals wait or pass the thresholds, or none."""

    def __init__(self, session: Annotation) -> None:
        self._session = session
        self._covered: set[int] = set()
        self._by_plane: dict[Plane, dict[int, Proposal]] = {}
        self._waiting: list[Proposal] | None = None
        self._scores: Scores | None = None
        """Of those that wait."""
        self._found: dict[int, tuple[Proposal, int]] = {}
        """Proposals as the search at work knows them, by `id`, with their numbers."""
        self._accepting: list[LabelPatch] | None = None
        """What an acceptance under way changes."""
        self._decided = -1
        """What `Document.decided` was when this was up to date."""
        self._follow()
        session.patched.connect(self._on_patched)
        session.grown.connect(self._check_all)
        session.changed.connect(self._follow)

    def __len__(self) -> int:
        return len(self.pending)

    @property
    def pending(self) -> list[Proposal]:
        """Proposals that wait and pass the thresholds, the most doubtful first."""
        waiting, scores = self.waiting, self.scores
        return [waiting[i] for i in np.flatnonzero(scores.passing(self.thresholds))]

    @property
    def waiting(self) -> list[Proposal]:
        """Proposals that wait, whatever the thresholds say, the most doubtful first."""
        self._follow()
        if self._waiting is None:
            document = self._session.document
            gone = self._covered.union(document.rejected, document.accepted)
            waiting = [p for n, p in document.proposals.items() if n not in gone]
            self._waiting = sorted(waiting, key=lambda p: (-p.doubt, p.number))
            self._scores = None
        return list(self._waiting)

    @property
    def scores(self) -> Scores:
        """What thresholds ask of those that are `waiting`, in their order."""
        waiting = self.waiting
        if self._scores is None:
            self._scores = Scores.of(waiting)
        return self._scores

    @property
    def thresholds(self) -> Thresholds:
        """What a proposal must reach to be `pending`; set it as often as you like.

        It is kept with the session, and is no change that undo takes back.
        """
        return self._session.document.thresholds[""]

    @thresholds.setter
    def thresholds(self, thresholds: Thresholds) -> None:
        if thresholds != self.thresholds:
            self._session.document.note({"thresholds": {"": thresholds}})
            self.changed.emit()

    @property
    def rejected(self) -> list[Proposal]:
        """Proposals that are not made again, in the order they were rejected."""
        return list(self._session.document.rejected.values())

    # -- looking for them ------------------------------------------------------------

    def find(
        self,
        planes: Iterable[Any] | None = None,
        *,
        axis: int = 0,
        region: Bbox | None = None,
        rules: SuggestRules | None = None,
        cancel: Callable[[], bool] | None = None,
    ) -> Iterator[tuple[int, int]]:
        """Look for further objects; what is found waits in `pending`.

        Parameters
        ----------
        planes : iterable of int, sequence of int or Plane, optional
            In the order they are wanted; all when left out.
        axis : int
            Sliced axis among the last three.
        region : (y0, x0, y1, x1), optional
            Level-0 pixels, half-open: look only for objects that lie in here.
        rules : SuggestRules, optional
            Learnt from the objects annotated so far where it says None.
        cancel : callable, optional
            Asked before each batch of points; once true, the generator ends. What was
            found so far stays.

        Yields
        ------
        done, total : int
            Steps of the search.

        Raises
        ------
        PromptError, ModelError, VolumeError
            If nothing can be proposed as asked.
        """
        found = self.search(planes, axis=axis, region=region, rules=rules)
        for step in found.run(cancel):
            self.add(step)
            yield step.done, step.total

    def search(
        self,
        planes: Iterable[Any] | None = None,
        *,
        axis: int = 0,
        region: Bbox | None = None,
        rules: SuggestRules | None = None,
    ) -> Search:
        """Prepare what `find` does, to be run in another thread.

        Proposals that wait where it looks are dropped: it finds them again. Pass
        each `Found` that ``run`` yields to `add`.
        """
        self._found.clear()
        session = self._session
        wanted = planes_of(session.volume, planes, axis)
        if region is not None:
            check_region(region, wanted[0].shape(session.volume.shape))
        self.drop(p for p in self._waiting_on(wanted) if _lies_in(p, region))
        kept: dict[Plane, list[Proposal]] = defaultdict(list)
        for p in self._waiting_on(wanted):
            kept[p.plane].append(p)
        refused: dict[Plane, list[Proposal]] = defaultdict(list)
        for p in self.rejected:
            refused[p.plane].append(p)
        touched = {key[1] for keys in session.document.keys.values() for key in keys}
        return Search(
            session.engine, session.labels, tuple(wanted),
            frozenset(p for p in touched if p.axis == axis),
            region, rules or SuggestRules(), dict(kept), dict(refused),
        )  # fmt: skip

    def add(self, found: Found) -> list[Proposal]:
        """Take in what a search found; return what is new."""
        document = self._session.document
        before = [(p.number, self._found.get(id(p))) for p in found.withdrawn]
        gone = {number if new is None else new[1] for number, new in before}
        self.drop(p for p in self.waiting if p.number in gone)
        number = max((0, *document.proposals, *document.rejected, *document.accepted))
        taken: dict[int, Proposal] = {}
        fresh: dict[Plane, list[Proposal]] = defaultdict(list)
        for given in found.proposals:
            number += 1
            near: list[Proposal] = []
            for plane in _beside(given.plane):
                held = self._by_plane.get(plane, {})
                known = (p for n, p in held.items() if n not in document.rejected)
                near += [
                    p
                    for p in itertools.chain(known, fresh.get(plane, ()))
                    if boxes_meet(p.bbox, given.bbox)
                ]
            new = regrouped(given, near, number)
            taken[number] = replace(new, number=number)
            fresh[given.plane].append(taken[number])
            self._found[id(given)] = given, number
        if taken:
            self._note(taken)
        return list(taken.values())

    def drop(self, proposals: Iterable[Proposal] | None = None) -> None:
        """Forget proposals that wait, or all of them: they may be made again."""
        waiting = {p.number: p for p in self.waiting}
        given = waiting.values() if proposals is None else proposals
        gone = dict.fromkeys(p.number for p in given if p.number in waiting)
        if gone:
            self._note(gone)

    # -- the user's word -------------------------------------------------------------

    def accept(
        self,
        proposals: Iterable[Proposal] | None = None,
        *,
        max_doubt: float | None = None,
    ) -> int:
        """Make proposals objects of the session, as one undoable change.

        Annotated pixels stay as they are.

        Parameters
        ----------
        proposals : iterable of Proposal, optional
            All that are `pending` when left out.
        max_doubt : float, optional
            Only those with at most this doubt.

        Returns
        -------
        int
            How many became objects.
        """
        waiting = {p.number: p for p in self.waiting}
        given = self.pending if proposals is None else proposals
        chosen = [waiting[p.number] for p in given if p.number in waiting]
        if max_doubt is not None:
            chosen = [p for p in chosen if p.doubt <= max_doubt]
        if not chosen:
            return 0
        chosen.sort(key=lambda p: p.doubt)
        ids = self._ids_for(chosen)
        session, made = self._session, list(zip(ids, chosen, strict=True))
        document = session.document
        session.make_room(max(ids))
        document.order += 1
        patches: list[LabelPatch] = []
        self._accepting = patches
        try:
            with document.journal.lock:
                count = deciding.accept_proposals(document, made, document.order)
        finally:
            self._accepting = None
            for patch in patches:
                self._check_near(patch, but=document.accepted)
        session.changed.emit()
        return count

    def reject(self, proposals: Iterable[Proposal] | None = None) -> int:
        """Take proposals away and do not make them again, as one undoable change.

        All that are `pending` when left out; returns how many were taken away.
        """
        chosen = self.pending if proposals is None else list(proposals)
        return self._decide(lambda d: deciding.reject_proposals(d, chosen))

    def restore(self, proposals: Iterable[Proposal] | None = None) -> int:
        """Let rejected proposals wait again, the last one by default; count them."""
        chosen = self.rejected[-1:] if proposals is None else list(proposals)
        known = self._session.document.proposals
        rejected = self._session.document.rejected
        lost = [p for p in chosen if p.number in rejected and p.number not in known]
        if lost:
            self._note({p.number: p for p in lost})
        numbers = [p.number for p in chosen]
        return self._decide(lambda d: deciding.restore_proposals(d, numbers))

    def object_id(self, proposal: Proposal) -> int:
        """Return the object that a proposal became, or continues; 0 for none."""
        accepted = self._session.document.accepted
        return accepted.get(proposal.number, proposal.object_id)

    # -- inside ----------------------------------------------------------------------

    def _ids_for(self, chosen: list[Proposal]) -> list[int]:
        """Object of each: the one it continues, its group's, or a new one."""
        session, document = self._session, self._session.document
        following = session.new_object()
        groups = {
            document.proposals[n].group: object_id
            for n, object_id in document.accepted.items()
            if n in document.proposals
        }
        used: set[Key] = set()
        out = []
        for p in chosen:
            object_id = p.object_id or (groups.get(p.group, 0) if p.group else 0)
            key = object_id, p.plane
            if not object_id or key in used or key in document.pixels.claims:
                object_id, following = following, following + 1
                groups.setdefault(p.group, object_id)
            used.add((object_id, p.plane))
            out.append(object_id)
        return out

    def _decide(self, make: Callable[[Any], int]) -> int:
        document = self._session.document
        with document.journal.lock:
            count = make(document)
        if count:
            self._session.changed.emit()
        return count

    def _note(self, values: Mapping[int, Proposal | None]) -> None:
        self._session.document.note({"proposals": values})
        self._follow()

    def _waiting_on(self, planes: Iterable[Plane]) -> list[Proposal]:
        wanted = set(planes)
        return [p for p in self.waiting if p.plane in wanted]

    def _follow(self) -> None:
        """Take in what the document knows of proposals, if that is news."""
        document = self._session.document
        if self._decided == document.decided:
            return
        self._decided = document.decided
        by_plane: dict[Plane, dict[int, Proposal]] = defaultdict(dict)
        for n, p in document.proposals.items():
            by_plane[p.plane][n] = p
            if n not in self._by_plane.get(p.plane, ()):
                self._check(p)
        self._by_plane = dict(by_plane)
        self._tell()

    def _tell(self) -> None:
        self._waiting = None
        self.changed.emit()

    def _check(self, p: Proposal) -> bool:
        """Note whether labels cover a proposal; whether that is news."""
        before = p.number in self._covered
        labels = np.asarray(self._session.labels[p.plane.window(p.bbox)])
        free = np.count_nonzero(p.mask & (labels == 0))
        if free < _COVERED * p.area:
            self._covered.add(p.number)
        else:
            self._covered.discard(p.number)
        return before != (p.number in self._covered)

    def _check_all(self) -> None:
        news = [self._check(p) for ps in self._by_plane.values() for p in ps.values()]
        if any(news):
            self._tell()

    def _on_patched(self, patch: LabelPatch) -> None:
        if self._accepting is not None:
            self._accepting.append(patch)
        else:
            self._check_near(patch)

    def _check_near(self, patch: LabelPatch, but: Container[int] = ()) -> None:
        """Look again at proposals that a patch reaches."""
        news = [
            self._check(p)
            for plane, ps in self._by_plane.items()
            if plane == patch.plane or plane.axis != patch.plane.axis
            for n, p in ps.items()
            if (plane != patch.plane or boxes_meet(p.bbox, patch.bbox)) and n not in but
        ]
        if any(news):
            self._tell()


def check_region(region: Bbox, shape: tuple[int, int]) -> None:
    """Raise `PromptError` unless a region holds pixels of a plane of a shape."""
    y0, x0, y1, x1 = region
    if not (0 <= y0 < y1 <= shape[0] and 0 <= x0 < x1 <= shape[1]):
        raise PromptError(
            f"region is (y0, x0, y1, x1) with pixels of a plane of {shape}, half-open; "
            f"got {tuple(region)}"
        )


def _lies_in(p: Proposal, region: Bbox | None) -> bool:
    """Whether the middle of a proposal's box lies in a region."""
    if region is None:
        return True
    y, x = (p.bbox[0] + p.bbox[2]) / 2, (p.bbox[1] + p.bbox[3]) / 2
    return region[0] <= y < region[2] and region[1] <= x < region[3]


def _beside(plane: Plane) -> list[Plane]:
    if not plane.index:
        return []
    *others, last = plane.index
    return [Plane((*others, last + d), plane.axis) for d in (-1, 1) if last + d >= 0]
