"""What outlines and strokes become for a model, which reads points, boxes and masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_sam.core.prompt_values import Line


@dataclass(frozen=True, slots=True)
class PromptForms:
    """How a model is told what it has no prompt for; measured in docs/prompts.md.

    Many points are no outline: models trained on a few clicks answer dozens of them
    with the background, or with what lies between them.
    """

    kinds: frozenset[str] = frozenset({"points", "box", "mask"})
    """Kinds of prompt that the model understands."""
    outline: frozenset[str] = frozenset({"box", "mask"})
    """What an outline or a mask is given as, of "box", "mask" and "point": the deepest
    one inside."""
    stroke_points: int = 5
    """Places of a stroke that are given as points, evenly along it."""

    def takes(self, kind: str) -> bool:
        """Whether an outline is given as a box, mask or point."""
        known = "points" if kind == "point" else kind
        alone = "box" if self.kinds == {"box"} else None
        return known in self.kinds and (kind in self.outline or kind == alone)


def spread(line: Line, n: int) -> np.ndarray:
    """Places (<= n, 2) evenly along a line, its ends left out; never two on a pixel.

    Examples
    --------
    >>> spread(((0.0, 0.0), (0.0, 9.0)), 3).tolist()
    [[0.0, 1.5], [0.0, 4.5], [0.0, 7.5]]
    """
    at = np.array(line, np.float64)
    ends = np.concatenate([[0.0], np.hypot(*np.diff(at, axis=0).T).cumsum()])
    n = max(1, min(n, int(ends[-1])))
    wanted = (np.arange(n) + 0.5) / n * ends[-1]
    return np.stack([np.interp(wanted, ends, at[:, i]) for i in (0, 1)], axis=1)
