"""Which candidates of different windows are one object: one id an object at seams.

Two masks are one object if they agree, with an IoU of `join_thresh` or more, in what
both windows show. The best agreement comes first, and no two masks of one window that
overlap are ever made one: a nucleus and its cell, each seen in both of two tiles, stay
two objects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_sam.engine.seams import find_seams

if TYPE_CHECKING:
    from napari_sam.engine.candidates import Candidates

_RIVALS = 0.3
"""Overlap, as a share of the smaller, from which two masks of one window are rivals."""


def join(c: Candidates, chosen: np.ndarray, threshold: float) -> list[np.ndarray]:
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
    list of ndarray
        Indices of each object's candidates, in the order of `chosen`. Masks of a
        coarser level alone that agree with one which a finer level shows whole, but
        could not be joined to it, are none.
    """
    pairs = _agreeing(c, chosen, threshold)
    refused = []
    members: dict[int, list[int]] = {i: [i] for i in chosen.tolist()}
    group = {i: i for i in members}
    for i, j in pairs.tolist():
        a, b = group[i], group[j]
        if a == b:
            continue
        if _are_rivals(c, members[a], members[b]):
            refused.append((i, j))
            continue
        if len(members[a]) < len(members[b]):
            a, b = b, a
        for k in members[b]:
            group[k] = a
        members[a] += members.pop(b)
    for i, j in refused:
        coarse = _unconfirmed(c, i, j, members, group)
        if coarse is not None:
            members.pop(coarse, None)
    rank = {i: n for n, i in enumerate(chosen.tolist())}
    found = [sorted(m, key=rank.__getitem__) for m in members.values()]
    return [np.array(m, np.intp) for m in sorted(found, key=lambda m: rank[m[0]])]


def is_whole(c: Candidates, members: np.ndarray) -> bool:
    """Whether candidates of one object show it to its ends: no tile cuts it off."""
    cut = c.cut[members]
    if not cut.any(1).all():
        return True
    shown = c.shown[c.window_of[members]]
    beyond = np.stack(
        [shown[:, 0].min() < shown[:, 0], shown[:, 1].min() < shown[:, 1],
         shown[:, 2].max() > shown[:, 2], shown[:, 3].max() > shown[:, 3]], axis=1
    )  # fmt: skip
    return bool((beyond | ~cut).all())


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


def _are_rivals(c: Candidates, first: list[int], second: list[int]) -> bool:
    """Whether two groups hold masks of one window that overlap."""
    windows = {int(c.window_of[i]) for i in first}
    for j in second:
        if int(c.window_of[j]) not in windows:
            continue
        for i in first:
            if c.window_of[i] == c.window_of[j] and c.overlap(i, j) > _RIVALS:
                return True
    return False
