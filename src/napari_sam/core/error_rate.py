"""How often objects are wrong, from those that were drawn at random and looked at."""

from __future__ import annotations

import math
from dataclasses import dataclass

_Z = 1.959963984540054
"""Half-width of 95 % of a normal distribution, in standard deviations."""


@dataclass(frozen=True, slots=True)
class ErrorRate:
    """Share of wrong objects, with what that says of all the others.

    Examples
    --------
    >>> print(ErrorRate(checked=50, wrong=2))
    4 % wrong (95 % interval 1 to 13 %), 2 of 50 drawn at random
    """

    checked: int
    wrong: int

    @property
    def rate(self) -> float | None:
        """Share of those checked, 0..1; None where nothing was."""
        return self.wrong / self.checked if self.checked else None

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the share among all objects (Wilson 1927)."""
        n = self.checked
        if not n:
            return 0.0, 1.0
        p, square = self.wrong / n, _Z**2
        middle = (p + square / (2 * n)) / (1 + square / n)
        half = _Z * math.sqrt(p * (1 - p) / n + square / (4 * n**2)) / (1 + square / n)
        return max(middle - half, 0.0), min(middle + half, 1.0)

    def __str__(self) -> str:
        if self.rate is None:
            return "nothing drawn at random was looked at yet"
        low, high = (round(100 * v) for v in self.interval)
        return (
            f"{round(100 * self.rate)} % wrong (95 % interval {low} to {high} %), "
            f"{self.wrong} of {self.checked} drawn at random"
        )
