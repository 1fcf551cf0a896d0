"""Following an object part by part, where it lies in several."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.mask_prompt import MaskPrompt
from napari_sam.engine.follow import (
    Follower,
    Found,
    Memory,
    Projection,
    Propagator,
    overlap,
)
from napari_sam.errors import ModelError

if TYPE_CHECKING:
    from napari_sam.engine.engine import Engine
    from napari_sam.engine.follow import Mask, Stack

_MOST_PARTS = 4
_LEAST_PIXELS = 30
_LEAST_SHARE = 0.1
"""Of the object: smaller parts are not followed by themselves."""
_MOST_CHANGE = 3.0
"""Factor by which a part may grow or shrink from plane to plane."""
_LEAST_OVERLAP = 0.6
"""Least share of the smaller of a part and what it became that both have."""


def follower_of(method: str, engine: Engine, stack: Stack) -> Follower:
    """Return what follows an object through a stack.

    Raises
    ------
    ModelError
        If the method is unknown, or "memory" is asked of a model without one.
    """
    remembers = isinstance(engine.model, Propagator)
    if method == "memory" and not remembers:
        raise ModelError(
            f"{engine.model.spec.name} has no memory of planes; use a SAM 2 model, "
            "or the method 'projection'"
        )
    if method not in ("auto", "memory", "projection"):
        raise ModelError(
            f"unknown method {method!r}; expected 'auto', 'memory' or 'projection'"
        )
    if remembers and method != "projection":
        return Memory(engine, stack)
    return Parts(engine, stack)


class Parts:
    """Prompts a model with one connected part after the other.

    Of an object in several parts, models tend to answer with one of them, or with all
    that lies between. What the parts become is joined; they branch and merge as they
    go, for parts are those of the mask found last.
    """

    def __init__(self, engine: Engine, stack: Stack) -> None:
        self._one = Projection(engine, stack)

    def begin(self, number: int, mask: MaskPrompt, *, reverse: bool) -> None:
        """Start from a plane."""
        self._mask = mask
        self._one.begin(number, mask, reverse=reverse)

    def go_on_from(self, number: int, mask: MaskPrompt) -> None:
        """Go on from an earlier plane: what was found since is not the object."""
        self._mask = mask
        self._one.go_on_from(number, mask)

    def follow(self, number: int) -> Found:
        """Find the object on the next plane."""
        parts = _large(self._mask)
        found = [f for part in parts if (f := self._part(number, part)) is not None]
        if found:
            joined = _joined(found)
            self._one.go_on_from(number, joined.mask)
        else:
            if parts:
                self._one.go_on_from(number, self._mask)
            joined = self._one.follow(number)
        if joined.mask.mask.any():
            self._mask = joined.mask
        return joined

    def _part(self, number: int, part: MaskPrompt) -> Found | None:
        """Follow a part; None where it ends."""
        self._one.go_on_from(number - 1, part)
        found = self._one.follow(number)
        n, m = int(part.mask.sum()), int(found.mask.mask.sum())
        if not m or max(n, m) > _MOST_CHANGE * min(n, m):
            return None
        return found if shared(found.mask, part) >= _LEAST_OVERLAP else None


def shared(a: Mask, b: Mask) -> float:
    """Share of the smaller of two masks that both have; neither is empty."""
    n, m = (int(np.count_nonzero(one.mask)) for one in (a, b))
    iou = overlap(a, b)
    return iou * (n + m) / (1 + iou) / min(n, m)


def _large(mask: MaskPrompt) -> list[MaskPrompt]:
    """Parts worth following by themselves, where there are two or more."""
    parts = mask.parts()
    least = max(_LEAST_PIXELS, _LEAST_SHARE * np.count_nonzero(mask.mask))
    large = [part for part in parts if np.count_nonzero(part.mask) >= least]
    large.sort(key=lambda part: -np.count_nonzero(part.mask))
    return large[:_MOST_PARTS] if len(large) > 1 else []


def _joined(found: list[Found]) -> Found:
    """Union of parts, with the means of their scores by area."""
    areas = [np.count_nonzero(one.mask.mask) for one in found]
    score, stability = (
        float(np.average(values, weights=areas))
        for values in (
            [one.predicted_iou for one in found],
            [one.stability_score for one in found],
        )
    )
    mask = reduce(MaskPrompt.joined, [one.mask for one in found])
    return Found(mask, score, stability)
