"""One look at one window of a plane: the candidates a model sees there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_sam.core.frames import window_prompts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sam.core.masks import MaskCandidate
    from napari_sam.core.planes import Plane
    from napari_sam.core.prompts import Prompts
    from napari_sam.core.tiles import Window
    from napari_sam.engine.engine import Engine
    from napari_sam.engine.prediction import Refined

MOST_READ = 1 << 26
"""Pixels of the data that a window of a lone click may take to read: 8192 x 8192.

A level that the data has takes no more than the window; one that must be averaged on
the way takes four times as many pixels as the level below it, at last the whole image.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """What a model made of prompts in one window."""

    window: Window
    raw: Sequence[MaskCandidate]
    """Best first, in the window's pixels."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the window."""
        return self.window.h, self.window.w


def decode_window(
    engine: Engine,
    prompts: Prompts,
    plane: Plane,
    window: Window,
    refined: Refined | None = None,
) -> Decoded:
    """Decode prompts in a window; `refined` are logits to go on from."""
    frame = engine.frame(window)
    previous = None
    if refined is not None:
        previous, seen = refined
        if seen != window:
            ys, xs = frame.low_res_in_plane()
            old = engine.frame(seen)
            previous = old.resample(previous, ys, xs, float(previous.min()))
    shape = plane.shape(engine.volume.shape)
    given = window_prompts(prompts, frame, previous, shape)
    return Decoded(window, engine.model.decode(engine.embedding(plane, window), given))


def coarsest_level(engine: Engine, plane: Plane, window: Window) -> int:
    """Coarsest level of the grid that may be read for a lone click."""
    grid = engine.grid(plane.axis)
    level = window.level
    while level + 1 < grid.n_levels and is_cheap(engine, plane, level + 1):
        level += 1
    return level


def is_cheap(engine: Engine, plane: Plane, level: int) -> bool:
    """Whether a window of a level is read from few enough pixels."""
    window = engine.grid(plane.axis).around((0.0, 0.0), level)
    return engine.volume.pixels_read(plane, window) <= MOST_READ
