"""Prompts as callers give them, arrays or lists, to checked plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.errors import PromptError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sam.core.tiles import Box

Line = tuple[tuple[float, float], ...]
"""(y, x) places, one after the other."""


def pairs(value: Any, what: str) -> tuple[tuple[float, float], ...]:
    """Take pairs of any array, list or iterator; None for none.

    Raises
    ------
    PromptError
    """
    if value is None:
        return ()
    try:
        given = list(value)
    except TypeError:
        given = [value]
    if any(isinstance(p, (int, float, str)) or np.isscalar(p) for p in given):
        shown = tuple(given) if len(given) > 1 else given[0]
        raise PromptError(
            f"{what}s are a list of pairs (y, x), such as [(120, 85)]; got {shown!r}"
        )
    return tuple(_pair(p, what) for p in given)


def lines(value: Any, what: str, least: int) -> tuple[Line, ...]:
    """Take lines, each of `least` places or more; one alone counts as a list of one.

    Raises
    ------
    PromptError
    """
    if value is None:
        return ()
    given = list(value)
    if given and all(_numbers(place, 2) for place in given):
        given = [given]
    found = tuple(pairs(line, f"place of a {what}") for line in given)
    for line in found:
        if len(line) < least:
            raise PromptError(
                f"a {what} is a list of {least} places (y, x) or more; got {len(line)}"
            )
    return found


def signs(value: Any, what: str = "point_labels") -> tuple[int, ...]:
    """Take labels that are 1 or 0.

    Raises
    ------
    PromptError
    """
    try:
        given = list(value)
        if all(float(v) in (0.0, 1.0) for v in given):
            return tuple(int(v) for v in given)
    except (TypeError, ValueError):
        given = value
    raise PromptError(f"{what} are 1 (object) or 0 (background); got {given!r}")


def _numbers(value: Any, count: int) -> bool:
    """Whether a value is so many finite numbers."""
    try:
        array = np.asarray(value, float)
    except (TypeError, ValueError):
        return False
    return array.shape == (count,) and bool(np.isfinite(array).all())


def _pair(value: Sequence[float], what: str) -> tuple[float, float]:
    if not _numbers(value, 2):
        raise PromptError(f"a {what} is two finite numbers (y, x); got {value}")
    return float(value[0]), float(value[1])


def box(value: Sequence[float]) -> Box:
    """Take four numbers as a box.

    Raises
    ------
    PromptError
    """
    if not _numbers(value, 4):
        raise PromptError(f"a box is four finite numbers (y0, x0, y1, x1); got {value}")
    y0, x0, y1, x1 = (float(v) for v in value)
    return y0, x0, y1, x1
