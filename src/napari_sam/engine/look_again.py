"""A lone click, asked at other scales: the best answer by the model's scale rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_sam.core.candidates import Decoded
from napari_sam.core.masks import mask_iou
from napari_sam.core.sampling import draw
from napari_sam.engine.windows import is_cheap, is_cut, window_for
from napari_sam.errors import Cancelled

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_sam.core.planes import Plane
    from napari_sam.core.tiles import Window
    from napari_sam.engine.engine import Engine
    from napari_sam.engine.prediction import Prediction

SMALLEST = 64
"""Pixels of a plane's shorter side below which it is not reduced further."""


def needs_another_look(engine: Engine, plane: Plane, found: Decoded) -> bool:
    """Whether the first answer to a lone click is poor, or cut by its window."""
    spec, best = engine.model.spec, found.raw[0]
    worth = spec.scale_rule.worth(best, found.size, spec.input_side)
    poor = worth < spec.scale_rule.enough
    return poor or is_cut(best, found.window, engine.grid(plane.axis))


def look_again(
    engine: Engine,
    first: Prediction,
    plane: Plane,
    cancel: Callable[[], bool] | None = None,
) -> Decoded:
    """Ask for a lone click at coarser and finer scales, and return the best look.

    The next coarser and the next finer level come first; then it goes on in the
    direction that is better, until a level is good enough or no better than the one
    before. While every answer is poor, all coarser levels are asked for: an object of
    several windows says nothing about itself in one of them.

    Raises
    ------
    Cancelled
    """
    climb = _Climb(engine, first, plane, cancel)
    climb.ask(climb.start + 1)
    climb.ask(climb.start - 1)
    while climb.go_on():
        pass
    return climb.looks[climb.best()]


class _Climb:
    """The levels asked for so far, and what each gave."""

    def __init__(
        self,
        engine: Engine,
        first: Prediction,
        plane: Plane,
        cancel: Callable[[], bool] | None,
    ) -> None:
        self.engine, self.plane, self.cancel = engine, plane, cancel
        self.prompts = first.prompts
        self.grid = engine.grid(plane.axis)
        self.spec = engine.model.spec
        self.rule = self.spec.scale_rule
        self.start = min(max(self.prompts.level, 0), self.grid.n_levels - 1)
        self.looks: dict[int, Decoded] = {}
        self._agreed: dict[tuple[int, int], float] = {}
        level = first.window.level
        self._add(level, Decoded(first.window, [c.seen for c in first.candidates]))
        self.ask(self.start)

    def ask(self, level: int) -> bool:
        """Look at a level, if it shows anything new and may be read."""
        if level in self.looks:
            return True
        away = level - self.start
        if not -self.rule.finer <= away <= self.rule.coarser:
            return False
        window = window_for(self.prompts.extent(), level, self.grid)
        if not self._is_new(window) or not is_cheap(self.engine, self.plane, level):
            return False
        if self.cancel is not None and self.cancel():
            raise Cancelled("stopped before other scales were looked at")
        self._add(level, self.engine.decode(self.plane, window, self.prompts))
        return True

    def go_on(self) -> bool:
        """Look at the next level worth asking for; False if there is none."""
        best = self.best()
        if best != self.start and self._worth(best) >= self.rule.enough:
            return False
        top, bottom = max(self.looks), min(self.looks)
        poor = max(map(self._worth, self.looks)) < self.rule.poor
        if (best == top or poor) and self.ask(top + 1):
            return True
        return best == bottom and self.ask(bottom - 1)

    def best(self) -> int:
        """Level of the best answer so far."""
        return max(self.looks, key=self._score)

    def _worth(self, level: int) -> float:
        seen = self.looks[level]
        return self.rule.worth(seen.raw[0], seen.size, self.spec.input_side)

    def _score(self, level: int) -> float:
        agreed = [v for pair, v in self._agreed.items() if level in pair]
        return self.rule.score(self._worth(level), agreed, abs(level - self.start))

    def _add(self, level: int, found: Decoded) -> None:
        self.looks[level] = found
        for other in (level - 1, level + 1):
            if other in self.looks:
                pair = (min(level, other), max(level, other))
                self._agreed[pair] = _agreement(*(self.looks[n] for n in pair))

    def _is_new(self, window: Window) -> bool:
        """Whether a model sees anything else than at the scales asked for before."""
        h, w = self.grid.level_shape(window.level)
        if min(h, w) < SMALLEST:
            return False
        shows_all = (h, w) == (window.h, window.w)
        # Enlarged to the frame by the model, all of an image looks the same.
        return not (self.spec.enlarges and shows_all and self._has_shown_all())

    def _has_shown_all(self) -> bool:
        return any(
            (n.window.h, n.window.w) == self.grid.level_shape(level)
            for level, n in self.looks.items()
        )


def _agreement(finer: Decoded, coarser: Decoded) -> float:
    """IoU of the best masks of two scales, in the pixels of the coarser window."""
    a, b, window = finer.raw[0], coarser.raw[0], coarser.window
    seen = draw(a.bbox, a.mask, finer.window, window, (0, 0, window.h, window.w))
    return mask_iou(seen, b.full((window.h, window.w)))
