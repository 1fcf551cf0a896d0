"""Which candidates of different windows are one object: one id an object at seams.

Two masks are one object if they agree, with an IoU of `join_thresh` or more, in what
both windows show. The best agreement comes first, and no two masks of one window that
overlap are ever made one: a nucleus and its cell, each seen in both of two tiles, stay
two objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.engine.seams import find_seams

if TYPE_CHECKING:
    from napari_sam.engine.candidates import Candidates

_RIVALS = 0.3
"""Overlap, as a share of the smaller, from which two masks of one window are rivals."""


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Candidates grouped into objects, M of them."""

    members: np.ndarray
    """(K,) int: candidates, object after object, the best of each first."""
    starts: np.ndarray
    """(M + 1,) int: where each object's begin, and the end."""

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, k: int) -> np.ndarray:
        return np.asarray(self.members[self.starts[k] : self.starts[k + 1]])

    @classmethod
    def alone(cls, chosen: np.ndarray) -> Groups:
        """Let each candidate be an object."""
        return cls(chosen, np.arange(len(chosen) + 1))

    @classmethod
    def of(cls, c: Candidates, chosen: np.ndarray, group: np.ndarray) -> Groups:
        """Sort candidates by the number of their object; below 0 are left out.

        Within an object those that no tile cuts come first, the finest before, and
        then by predicted IoU.
        """
        chosen, group = chosen[group >= 0], group[group >= 0]
        cut = c.cut[chosen].any(1)
        level = np.where(cut, 0, c.levels[c.window_of[chosen]])
        order = np.lexsort((-c.predicted_iou[chosen], level, cut, group))
        edges = np.flatnonzero(np.diff(group[order])) + 1
        ends = [len(order)] if len(order) else []
        return cls(chosen[order], np.array([0, *edges, *ends], np.intp))

    @property
    def leads(self) -> np.ndarray:
        """(M,) int: the best candidate of each object."""
        return np.asarray(self.members[self.starts[:-1]])

    def keep(self, kept: np.ndarray) -> Groups:
        """Keep some objects: (M,) bool."""
        sizes = np.diff(self.starts)
        starts = np.concatenate([[0], np.cumsum(sizes[kept])])
        return Groups(self.members[np.repeat(kept, sizes)], starts)

    def total(self, values: np.ndarray) -> np.ndarray:
        """(M,) sum of what each object's candidates have of (N,) values."""
        if not len(self):
            return np.zeros(0)
        return np.asarray(np.add.reduceat(values[self.members], self.starts[:-1]))

    def are_whole(self, c: Candidates) -> np.ndarray:
        """(M,) bool: which are shown to their ends, so that no tile cuts them off."""
        if not len(self):
            return np.zeros(0, bool)
        begins, sizes = self.starts[:-1], np.diff(self.starts)
        cut, shown = c.cut[self.members], c.shown[c.window_of[self.members]]
        low = np.minimum.reduceat(shown[:, :2], begins)
        high = np.maximum.reduceat(shown[:, 2:], begins)
        beyond = np.hstack(
            [np.repeat(low, sizes, 0) < shown[:, :2],
             np.repeat(high, sizes, 0) > shown[:, 2:]]
        )  # fmt: skip
        closed = np.logical_and.reduceat((beyond | ~cut).all(1), begins)
        return np.asarray(closed | ~cut[begins].any(1))


def join(c: Candidates, chosen: np.ndarray, threshold: float) -> Groups:
    """Group candidates into objects.

    Parameters
    ----------
    c : Candidates
    chosen : ndarray, (M,), int
        Which to group.
    threshold : float
        Least agreement.

    Returns
    -------
    Groups
        In the order in which `chosen` has the first of each. Masks of a coarser level
        alone that agree with one which a finer level shows whole, but could not be
        joined to it, are left out.
    """
    pairs = _agreeing(c, chosen, threshold)
    linked = np.unique(pairs).tolist()
    members: dict[int, list[int]] = {i: [i] for i in linked}
    group = {i: i for i in linked}
    refused = []
    window = c.window_of[linked].tolist()
    seen_in = dict(zip(linked, window, strict=True))
    windows = {i: {w} for i, w in seen_in.items()}
    for i, j in pairs.tolist():
        a, b = group[i], group[j]
        if a == b:
            continue
        shared = windows[a] & windows[b]
        if shared and _are_rivals(c, members[a], members[b], seen_in, shared):
            refused.append((i, j))
            continue
        if len(members[a]) < len(members[b]):
            a, b = b, a
        for k in members[b]:
            group[k] = a
        members[a] += members.pop(b)
        windows[a] |= windows.pop(b)
    for i, j in refused:
        coarse = _unconfirmed(c, i, j, members, group)
        if coarse is not None:
            members.pop(coarse, None)
    return _numbered(c, chosen, members, group)


def _numbered(
    c: Candidates,
    chosen: np.ndarray,
    members: dict[int, list[int]],
    group: dict[int, int],
) -> Groups:
    rank = np.full(len(c), -1, np.intp)
    rank[chosen] = np.arange(len(chosen))
    number = rank.copy()
    linked, owner = (np.fromiter(v, np.intp) for v in (group.keys(), group.values()))
    first = np.full(len(c), len(c), np.intp)
    np.minimum.at(first, owner, rank[linked])
    gone = np.array([a for a in set(group.values()) if a not in members], np.intp)
    first[gone] = -1
    number[linked] = first[owner]
    return Groups.of(c, chosen, number[chosen])


def _agreeing(c: Candidates, chosen: np.ndarray, threshold: float) -> np.ndarray:
    """(E, 2) pairs that agree, the best first; those of whole masks before parts."""
    seams = c.derived(find_seams)
    present = np.zeros(len(c), bool)
    present[chosen] = True
    wanted = np.flatnonzero(present[seams.pairs].all(1))
    agreement, by_part = seams.agreement(c, wanted)
    good = agreement >= threshold
    pairs, by_part = seams.pairs[wanted[good]], by_part[good]
    weight = agreement[good] * np.minimum(*c.predicted_iou[pairs].T)
    return np.asarray(pairs[np.lexsort((-weight, by_part))])


def _unconfirmed(
    c: Candidates, i: int, j: int, members: dict[int, list[int]], group: dict[int, int]
) -> int | None:
    """Of two whole masks that agree: the group that only a coarser level shows."""
    if c.window(i).level == c.window(j).level or c.cut[[i, j]].any():
        return None
    if c.window(i).level < c.window(j).level:
        i, j = j, i
    finest = min((c.window(k).level for k in members.get(group[i], ())), default=None)
    return None if finest is None or finest <= c.window(j).level else group[i]


def _are_rivals(
    c: Candidates,
    first: list[int],
    second: list[int],
    seen_in: dict[int, int],
    shared: set[int],
) -> bool:
    """Whether two groups hold masks of one window that overlap."""
    here = [i for i in first if seen_in[i] in shared]
    return any(
        seen_in[i] == seen_in[j] and c.overlap(i, j) > _RIVALS
        for j in second
        if seen_in[j] in shared
        for i in here
    )
