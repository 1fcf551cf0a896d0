"""What is part of what: objects that lie in one another as a tree, and cuts of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_sam.engine.candidates import Candidates
    from napari_sam.engine.join import Groups

PART = 0.8
"""Share of a mask that must lie in a larger one to be a part of it."""
_LARGER = 1.1
"""Ratio of areas from which one object can hold another."""


@dataclass(frozen=True, slots=True, eq=False)
class Overlaps:
    """Pairs of objects, E of them, that share pixels."""

    pairs: np.ndarray
    """(E, 2) int, positions in the groups."""
    share: np.ndarray
    """(E,) float, 0..1: shared pixels, as a share of the smaller object."""


def overlaps(c: Candidates, groups: Groups, least: float) -> Overlaps:
    """Find objects that share at least a part of the smaller one."""
    # An object is compared by its mask that is whole; where tiles cut it, by each.
    sizes = np.diff(groups.starts)
    number = np.repeat(np.arange(len(groups)), sizes)
    by_lead = np.repeat(~c.cut[groups.leads].any(1), sizes)
    is_lead = np.zeros(len(number), bool)
    is_lead[groups.starts[:-1]] = True
    used = ~by_lead | is_lead
    whose = np.full(len(c), -1, np.intp)
    whose[groups.members[used]] = number[used]
    pairs = c.box_pairs(0.0).pairs
    objects = whose[pairs]
    apart = (objects >= 0).all(1) & (objects[:, 0] != objects[:, 1])
    pairs, objects = pairs[apart], objects[apart]
    share = np.array([c.overlap(i, j) for i, j in pairs.tolist()], float)
    good = share >= least
    return Overlaps(objects[good], share[good])


def parents(found: Overlaps, areas: np.ndarray) -> np.ndarray:
    """Return the smallest object that each is a part of.

    Parameters
    ----------
    found : Overlaps
    areas : ndarray, (M,), float
        Of the objects.

    Returns
    -------
    ndarray, (M,), int
        Position of the whole; -1 for none.
    """
    out = np.full(len(areas), -1, np.intp)
    pairs = found.pairs[found.share >= PART]
    swap = areas[pairs[:, 0]] > areas[pairs[:, 1]]
    small = np.where(swap, pairs[:, 1], pairs[:, 0])
    large = np.where(swap, pairs[:, 0], pairs[:, 1])
    holds = areas[large] >= _LARGER * areas[small]
    small, large = small[holds], large[holds]
    # The smallest whole is written last.
    order = np.argsort(-areas[large], kind="stable")
    out[small[order]] = large[order]
    return out


def cut_tree(parent: np.ndarray, areas: np.ndarray, detail: float) -> np.ndarray:
    """Choose one object on each way from a whole to its smallest parts.

    Parameters
    ----------
    parent : ndarray, (M,), int
        As `parents` gives it.
    areas : ndarray, (M,), float
    detail : float
        0: the wholes; 1: the smallest parts; between, what is larger than a size that
        falls from the largest whole's to the smallest part's gives way to its parts.

    Returns
    -------
    ndarray, (M,), bool

    Examples
    --------
    >>> parent, areas = np.array([-1, 0, 1]), np.array([100.0, 50, 10])
    >>> [cut_tree(parent, areas, d).tolist() for d in (0, 0.5, 1)]
    [[True, False, False], [False, False, True], [False, False, True]]
    >>> cut_tree(parent, areas, 0.3).tolist()
    [False, True, False]
    """
    nested = parent >= 0
    has_parts = np.zeros(len(parent), bool)
    has_parts[parent[nested]] = True
    if not nested.any():
        return np.ones(len(parent), bool)
    largest, smallest = areas[has_parts].max(), areas[nested].min()
    limit = largest * (max(smallest, 1) / largest) ** detail
    small = areas <= limit * (1 + 1e-9)
    ends = small | ~has_parts
    return np.asarray(ends & ~(nested & small[parent]))
