"""What a model suggests for the rest of a volume, apart from the labels until accepted.

The search only reads, so that it may run in another thread; what it finds is taken in,
accepted and rejected by the thread that owns the session.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from napari_sam.core.masks import boxes_meet
from napari_sam.core.planes import Plane
from napari_sam.embeddings.source import planes_of
from napari_sam.engine.suggest import SuggestRules, regrouped
from napari_sam.errors import PromptError
from napari_sam.session.search import Found, Search
from napari_sam.session.suggestion_file import SuggestionFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from napari_sam.core.masks import Bbox, LabelPatch
    from napari_sam.core.objects import Key
    from napari_sam.core.proposals import Proposal
    from napari_sam.session.saved import Saved

_COVERED = 0.5
"""Share of a suggestion that labels must leave free for it to wait any longer."""


class Suggestions:
    """Objects proposed for a session, to be accepted or rejected one by one or all.

    A suggestion waits until it is rejected, or labels cover most of it: those of its
    own acceptance or others. When those are undone it waits again.

    Examples
    --------
    >>> from napari_sam.session import Session
    >>> from napari_sam.testing import ToyModel, phantom_image
    >>> cells = phantom_image((64, 96), n_objects=4, noise=0)
    >>> session = Session(cells.image, ToyModel(), embeddings=False)
    >>> _ = session.segment(points=[cells.center(1)])
    >>> len(session.suggest())
    3
    >>> session.suggestions.accept()
    3
    >>> session.undo(), len(session.suggestions.pending)
    (True, 3)
    """

    changed = Signal()
    """Other suggestions wait, or none."""

    def __init__(self, session: Saved) -> None:
        self._session = session
        self._known: dict[int, Proposal] = {}
        self._rejected: list[int] = []
        self._covered: set[int] = set()
        self._by_plane: dict[Plane, set[int]] = defaultdict(set)
        self._ids: dict[int, int] = {}
        """Object of each group of which some suggestion was accepted."""
        self._last = 0
        self._found: dict[int, tuple[Proposal, int]] = {}
        """Suggestions as the search at work knows them, by `id`, with their numbers."""
        self._file = SuggestionFile(lambda: session.path)
        for kind, value in self._file.read():
            self._replay(kind, value)
        session.patched.connect(self._on_patched)
        session.grown.connect(self._check_all)
        self._check_all()

    def __len__(self) -> int:
        return len(self.pending)

    @property
    def pending(self) -> list[Proposal]:
        """Suggestions that wait, the most doubtful first."""
        gone = self._covered.union(self._rejected)
        waiting = [s for n, s in self._known.items() if n not in gone]
        return sorted(waiting, key=lambda s: (-s.doubt, s.number))

    @property
    def rejected(self) -> list[Proposal]:
        """Suggestions that are not made again, in the order they were rejected."""
        return [self._known[n] for n in self._rejected]

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
            If nothing can be suggested as asked.
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

        Suggestions that wait where it looks are dropped: it finds them again. Pass
        each `Found` that ``run`` yields to `add`.
        """
        self._found.clear()
        session = self._session
        wanted = planes_of(session.volume, planes, axis)
        if region is not None:
            _check_region(region, wanted[0].shape(session.volume.shape))
        self.drop(s for s in self._waiting_on(wanted) if _lies_in(s, region))
        kept: dict[Plane, list[Proposal]] = defaultdict(list)
        for s in self._waiting_on(wanted):
            kept[s.plane].append(s)
        refused: dict[Plane, list[Proposal]] = defaultdict(list)
        for s in self.rejected:
            refused[s.plane].append(s)
        touched = {key[1] for keys in session.document.keys.values() for key in keys}
        return Search(
            session.engine, session.labels, tuple(wanted),
            frozenset(p for p in touched if p.axis == axis),
            region, rules or SuggestRules(), dict(kept), dict(refused),
        )  # fmt: skip

    def add(self, found: Found) -> list[Proposal]:
        """Take in what a search found; return what is new."""
        known = [(s.number, self._found.get(id(s))) for s in found.withdrawn]
        gone = {number if new is None else new[1] for number, new in known}
        self.drop(s for s in self.pending if s.number in gone)
        taken = []
        for suggestion in found.suggestions:
            near = [
                self._known[n]
                for plane in _beside(suggestion.plane)
                for n in self._by_plane.get(plane, ())
                if n not in self._rejected
            ]
            self._last += 1
            new = regrouped(suggestion, near, self._last)
            taken.append(replace(new, number=self._last))
            self._found[id(suggestion)] = suggestion, self._last
            self._take(taken[-1])
        if taken:
            self._note("add", taken)
        return taken

    def drop(self, suggestions: Iterable[Proposal] | None = None) -> None:
        """Forget suggestions that wait, or all of them: they may be made again."""
        numbers = [
            s.number for s in (self.pending if suggestions is None else suggestions)
        ]
        for n in numbers:
            self._forget(n)
        if numbers:
            self._note("drop", numbers)

    # -- the user's word -------------------------------------------------------------

    def accept(
        self,
        suggestions: Iterable[Proposal] | None = None,
        *,
        max_doubt: float | None = None,
    ) -> int:
        """Make suggestions objects of the session, as one undoable change.

        Annotated pixels stay as they are.

        Parameters
        ----------
        suggestions : iterable of Proposal, optional
            All that wait when left out.
        max_doubt : float, optional
            Only those with at most this doubt.

        Returns
        -------
        int
            How many became objects.
        """
        chosen = list(self.pending if suggestions is None else suggestions)
        if max_doubt is not None:
            chosen = [s for s in chosen if s.doubt <= max_doubt]
        waiting = {s.number for s in self.pending}
        chosen = sorted(
            (s for s in chosen if s.number in waiting), key=lambda s: s.doubt
        )
        if not chosen:
            return 0
        before = dict(self._ids)
        ids = self._ids_for(chosen)
        if before != self._ids:
            self._file.append("ids", list(self._ids.items()))
        session = self._session
        session.make_room(max(ids))
        return session.accept_suggestions(list(zip(ids, chosen, strict=True)))

    def reject(self, suggestions: Iterable[Proposal]) -> None:
        """Take suggestions away and do not make them again."""
        numbers = [s.number for s in suggestions if s.number not in self._rejected]
        if numbers:
            self._rejected += numbers
            self._note("reject", numbers)

    def restore(self, suggestions: Iterable[Proposal] | None = None) -> int:
        """Let rejected suggestions wait again, the last one by default; count them."""
        chosen = self.rejected[-1:] if suggestions is None else suggestions
        numbers = [s.number for s in chosen if s.number in self._rejected]
        if numbers:
            self._rejected = [n for n in self._rejected if n not in numbers]
            self._note("restore", numbers)
        return len(numbers)

    def object_id(self, suggestion: Proposal) -> int:
        """Return the object that a suggestion became, or continues; 0 for none."""
        return suggestion.object_id or self._ids.get(suggestion.group, 0)

    def save(self) -> None:
        """Write all into the session's folder, as far as that has one."""
        self._file.write(
            [
                ("add", list(self._known.values())),
                ("reject", list(self._rejected)),
                ("ids", list(self._ids.items())),
            ]
        )

    # -- inside ----------------------------------------------------------------------

    def _ids_for(self, chosen: list[Proposal]) -> list[int]:
        """Object of each: the one it continues, its group's, or a new one."""
        session = self._session
        following = session.new_object()
        used: set[Key] = set()
        out = []
        for s in chosen:
            object_id = self.object_id(s)
            key = object_id, s.plane
            if not object_id or key in used or session.object(*key) is not None:
                object_id, following = following, following + 1
                self._ids.setdefault(s.group, object_id)
            used.add((object_id, s.plane))
            out.append(object_id)
        return out

    def _waiting_on(self, planes: Iterable[Plane]) -> list[Proposal]:
        wanted = set(planes)
        return [s for s in self.pending if s.plane in wanted]

    def _take(self, suggestion: Proposal) -> None:
        n = suggestion.number
        self._known[n] = suggestion
        self._by_plane[suggestion.plane].add(n)
        self._last = max(self._last, n)
        self._check(n)

    def _forget(self, n: int) -> None:
        suggestion = self._known.pop(n, None)
        if suggestion is not None:
            self._by_plane[suggestion.plane].discard(n)
            self._covered.discard(n)

    def _check(self, n: int) -> bool:
        """Note whether labels cover a suggestion; whether that is news."""
        s, before = self._known[n], n in self._covered
        labels = np.asarray(self._session.labels[s.plane.window(s.bbox)])
        free = np.count_nonzero(s.mask & (labels == 0))
        if free < _COVERED * s.area:
            self._covered.add(n)
        else:
            self._covered.discard(n)
        return before != (n in self._covered)

    def _check_all(self) -> None:
        news = [self._check(n) for n in self._known]
        if any(news):
            self.changed.emit()

    def _on_patched(self, patch: LabelPatch) -> None:
        planes = [patch.plane]
        if any(p.axis != patch.plane.axis for p, ns in self._by_plane.items() if ns):
            planes = list(self._by_plane)
        near = [
            n
            for plane in planes
            for n in self._by_plane.get(plane, ())
            if plane != patch.plane or boxes_meet(self._known[n].bbox, patch.bbox)
        ]
        news = [self._check(n) for n in near]
        if any(news):
            self.changed.emit()

    def _note(self, kind: str, value: Any) -> None:
        self._file.append(kind, value)
        self.changed.emit()

    def _replay(self, kind: str, value: Any) -> None:
        if kind == "add":
            for suggestion in value:
                self._take(suggestion)
        elif kind == "drop":
            for n in value:
                self._forget(n)
        elif kind == "reject":
            self._rejected += value
        elif kind == "ids":
            self._ids = {int(group): int(object_id) for group, object_id in value}
        elif kind == "restore":
            self._rejected = [n for n in self._rejected if n not in value]


def _check_region(region: Bbox, shape: tuple[int, int]) -> None:
    y0, x0, y1, x1 = region
    if not (0 <= y0 < y1 <= shape[0] and 0 <= x0 < x1 <= shape[1]):
        raise PromptError(
            f"region is (y0, x0, y1, x1) with pixels of a plane of {shape}, half-open; "
            f"got {tuple(region)}"
        )


def _lies_in(s: Proposal, region: Bbox | None) -> bool:
    """Whether the middle of a suggestion's box lies in a region."""
    if region is None:
        return True
    y, x = (s.bbox[0] + s.bbox[2]) / 2, (s.bbox[1] + s.bbox[3]) / 2
    return region[0] <= y < region[2] and region[1] <= x < region[3]


def _beside(plane: Plane) -> list[Plane]:
    if not plane.index:
        return []
    *others, last = plane.index
    return [Plane((*others, last + d), plane.axis) for d in (-1, 1) if last + d >= 0]
