"""Generations of the network: their sizes, and which blocks they have.

A file of weights says its generation; those of the first keep working, which matters
to decoders that people trained on their own images.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Generation:
    """Sizes of one generation of nano."""

    revision: str
    """As written in a file of weights."""
    widths: tuple[int, int, int, int]
    """Channels of the decoder at strides 4, 8, 16 and 32."""
    fine: int
    """Channels of its refinement at stride 2."""
    ranker: int
    """Hidden units of the head that predicts IoU."""
    deep: bool
    """Whether the encoder's neck and the decoder have further blocks, and the
    refinement sees the prompts."""
    seeds: bool
    """Whether there is a head for all instances in one pass."""


FIRST = Generation("1", (32, 48, 64, 96), 8, 96, deep=False, seeds=False)
SECOND = Generation("2", (48, 72, 128, 192), 16, 192, deep=True, seeds=True)
GENERATIONS = {g.revision: g for g in (FIRST, SECOND)}
"""Generation by its revision."""
