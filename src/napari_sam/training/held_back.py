"""Scores of a model before and after training, on planes held back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.training.evaluate import evaluate
from napari_sam.training.labelled import LabelledVolume

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from threading import Event

    from napari_sam.core.planes import Plane
    from napari_sam.models.protocol import PromptableModel
    from napari_sam.training.examples import LabelledPlane
    from napari_sam.training.scores import Evaluation

CLICKS = 3
MAX_OBJECTS = 60
"""Objects that a model is judged by, about."""
COMPARED = ("click1", f"click{CLICKS}", "box")
"""Figures whose mean decides which of two models is better."""


@dataclass(frozen=True, slots=True, eq=False)
class SomePlanes(LabelledVolume):
    """A labelled volume of which only some planes are looked at."""

    only: frozenset[Plane] = frozenset()

    def objects(self, plane: Plane) -> np.ndarray:
        """Find the objects on a plane; none on others."""
        if plane not in self.only:
            return np.zeros((0, 6), np.int64)
        return LabelledVolume.objects(self, plane)


class Judge:
    """Scores models by the same objects of the same planes."""

    def __init__(
        self,
        volumes: Sequence[LabelledVolume],
        planes: Sequence[LabelledPlane],
        seed: int,
    ) -> None:
        only: dict[int, set[Plane]] = {}
        for each in planes:
            only.setdefault(each.source, set()).add(each.plane)
        self._volumes = [
            SomePlanes(v.name, v.volume, v.labels, v.group, frozenset(only[i]))
            for i, v in enumerate(volumes)
            if i in only
        ]
        self._seed = seed

    def score(
        self,
        model: PromptableModel,
        tell: Callable[[float], None],
        cancel: Callable[[], bool] | Event | None = None,
    ) -> Evaluation:
        """Prompt objects as ``napari-sam evaluate`` does; `tell` hears the share done.

        Raises
        ------
        Cancelled
            When asked to stop.
        """
        takes = model.spec.prompts
        kinds = {"point": "points", "box": "box"}
        return evaluate(
            model,
            self._volumes,
            prompts=[p for p, needed in kinds.items() if needed in takes],
            clicks=CLICKS,
            max_objects=max(2, -(-MAX_OBJECTS // len(self._volumes))),
            seed=self._seed,
            progress=lambda done, total: tell(done / total),
            cancel=cancel,
        )


def overall(scores: Evaluation) -> float:
    """Mean IoU of the mask ranked first, over the kinds of prompt asked."""
    mean = scores.mean
    return float(np.mean([mean[c] for c in COMPARED if c in mean]))


def compared(before: Evaluation, after: Evaluation) -> str:
    """Put scores before and after training side by side, as text."""
    names = {
        "click1": "1 click",
        "click1_best": "1 click, best of its masks",
        f"click{CLICKS}": f"{CLICKS} clicks",
        "box": "box",
    }
    rows = [
        (title, before.mean[c], after.mean[c])
        for c, title in names.items()
        if c in before.mean
    ]
    rows.append(("mean of what is ranked first", overall(before), overall(after)))
    lines = [f"{'mean IoU':<30}{'before':>8}{'after':>8}{'change':>9}"]
    lines += [f"{t:<30}{b:8.3f}{a:8.3f}{a - b:+9.3f}" for t, b, a in rows]
    count = f"{before.mean['objects']:.0f} objects of images held back"
    return "\n".join([*lines, f"on {count}"])
