"""Which class objects may be of, from features of objects whose class is known."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NEIGHBOURS = 5
"""Known objects that have a say in the class of another."""
_STRANGE = 0.05
"""Share of the known objects that lie as far from all others as what counts as unlike
anything known."""


@dataclass(frozen=True, slots=True)
class ClassGuess:
    """What class an object may be of."""

    name: str
    doubt: float
    """0 (sure) to 1: share of its nearest known objects, by weight, that say otherwise;
    more where it is unlike anything known."""
    nearest: tuple[int, ...]
    """Ids of those objects, the nearest first."""


@dataclass(frozen=True, slots=True)
class ClassGuesses:
    """Guesses for many objects, and how far to trust them."""

    guesses: Mapping[int, ClassGuess]
    """By object."""
    accuracy: float | None
    """Mean over the classes of the share of their objects that would be guessed right
    from the others, 0..1 (leave one out); None with fewer than two objects of each."""
    known: Mapping[str, int]
    """Objects of each class that taught it."""

    def below(self, max_doubt: float) -> dict[int, str]:
        """Return the classes that are doubted no more than this."""
        return {i: g.name for i, g in self.guesses.items() if g.doubt <= max_doubt}


def guess_classes(
    known: Mapping[int, np.ndarray],
    names: Mapping[int, str],
    asked: Mapping[int, np.ndarray],
    *,
    neighbours: int = NEIGHBOURS,
) -> ClassGuesses:
    """Guess classes by the nearest known objects.

    The votes of a class are divided by how many of it are known, so that the most
    frequent class does not win by its number.

    Parameters
    ----------
    known : mapping of int to (C,) float
        Features of objects whose class is known, of length 1; see `pooled`.
    names : mapping of int to str
        Their classes.
    asked : mapping of int to (C,) float
        Features of the others.
    neighbours : int
        How many known objects have a say.

    Returns
    -------
    ClassGuesses
    """
    ids = list(known)
    kinds = [names[i] for i in ids]
    counts = Counter(kinds)
    if not ids:
        return ClassGuesses({}, None, {})
    held = np.stack([known[i] for i in ids])
    among = held @ held.T
    np.fill_diagonal(among, -np.inf)
    usual = np.sort(among.max(1)) if len(ids) > 1 else np.ones(1)
    least = float(usual[int(_STRANGE * (len(usual) - 1))])
    guesses = {}
    for i, values in asked.items():
        guesses[i] = _vote(held @ values, ids, kinds, counts, neighbours, least)
    accuracy = None
    if len(counts) > 1 and min(counts.values()) > 1:
        right: dict[str, list[bool]] = {kind: [] for kind in counts}
        for n, kind in enumerate(kinds):
            less = counts - Counter([kind])
            voted = _vote(among[n], ids, kinds, less, neighbours, least)
            right[kind].append(voted.name == kind)
        accuracy = float(np.mean([np.mean(found) for found in right.values()]))
    return ClassGuesses(guesses, accuracy, dict(counts))


def _vote(
    likeness: np.ndarray,
    ids: Sequence[int],
    kinds: Sequence[str],
    counts: Mapping[str, int],
    neighbours: int,
    least: float,
) -> ClassGuess:
    order = np.argsort(-likeness, kind="stable")
    nearest = [int(n) for n in order[:neighbours] if np.isfinite(likeness[n])]
    best = float(likeness[nearest[0]])
    votes: dict[str, float] = {}
    for n in nearest:
        # One that is much less alike than the nearest has little to say.
        weight = np.exp(8 * (float(likeness[n]) - best)) / counts[kinds[n]]
        votes[kinds[n]] = votes.get(kinds[n], 0.0) + float(weight)
    name = max(votes, key=lambda kind: votes[kind])
    share = votes[name] / sum(votes.values())
    strange = min(max((least - best) / max(1 - least, 1e-3), 0.0), 1.0)
    doubt = 1 - share * (1 - strange)
    return ClassGuess(name, round(doubt, 6), tuple(ids[n] for n in nearest))
