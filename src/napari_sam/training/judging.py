"""Scores of a model before and after training, on planes held back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.masks import mask_iou
from napari_sam.core.prompts import Prompts
from napari_sam.engine.predict import Predictor
from napari_sam.engine.regions import stopped
from napari_sam.errors import Cancelled
from napari_sam.training.score import next_click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from threading import Event

    from napari_sam.models.base import PromptableModel
    from napari_sam.training.datasets import LabelledVolume
    from napari_sam.training.examples import LabelledPlane

CLICKS = 3
MAX_OBJECTS = 60
"""Objects that are judged, about, over all planes."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Mean IoU of the mask that the model ranks first."""

    means: Mapping[str, float]
    """By column, such as "box", "click 1" and "click 3"."""
    objects: int

    @property
    def mean(self) -> float:
        """Mean over all columns: what models are compared by."""
        return float(np.mean(list(self.means.values())))


def compared(before: Scores, after: Scores) -> str:
    """Put scores before and after training side by side, as text."""
    lines = [f"{'IoU':<10}{'before':>8}{'after':>8}{'change':>9}"]
    rows = {**before.means, "mean": before.mean}
    new = {**after.means, "mean": after.mean}
    lines += [
        f"{column:<10}{old:8.3f}{new[column]:8.3f}{new[column] - old:+9.3f}"
        for column, old in rows.items()
    ]
    return "\n".join([*lines, f"on {before.objects} objects of images held back"])


class Judge:
    """Scores models on the same objects of the same planes."""

    def __init__(
        self,
        volumes: Sequence[LabelledVolume],
        planes: Sequence[LabelledPlane],
        seed: int,
    ) -> None:
        self._volumes, self._planes, self._seed = volumes, planes, seed

    def score(
        self,
        model: PromptableModel,
        tell: Callable[[float], None],
        cancel: Callable[[], bool] | Event | None = None,
    ) -> Scores:
        """Prompt objects as the protocol of `napari-sam evaluate` does."""
        most = max(2, -(-MAX_OBJECTS // len(self._planes)))
        rows: list[dict[str, float]] = []
        for number, each in enumerate(self._planes):
            tell(number / len(self._planes))
            labelled = self._volumes[each.source].opened()
            predictor = Predictor(labelled.volume, model)
            labels = np.asarray(labelled.labels[each.plane.slicer()])
            rng = np.random.default_rng([self._seed, number, 6])
            for row in rng.permutation(each.objects)[:most]:
                if stopped(cancel):
                    raise Cancelled("training was stopped; train again to go on")
                rows.append(dict(_columns(predictor, each, labels == row[0], row)))
        tell(1.0)
        columns = rows[0]
        return Scores(
            {c: float(np.mean([r[c] for r in rows])) for c in columns}, len(rows)
        )


def _columns(
    predictor: Predictor, each: LabelledPlane, truth: np.ndarray, row: np.ndarray
) -> Iterator[tuple[str, float]]:
    takes = predictor.model.spec.prompts
    if "box" in takes:
        box = Prompts.of(box=[float(v) for v in row[1:]])
        found = predictor.predict(box, each.plane)
        yield "box", mask_iou(found.chosen.full(truth.shape), truth)
    if "points" not in takes:
        return
    points: list[tuple[float, float]] = []
    labels: list[int] = []
    mask, previous = np.zeros(truth.shape, bool), None
    for k in range(1, CLICKS + 1):
        point, label = next_click(truth, mask)
        points.append(point)
        labels.append(label)
        asked = Prompts.of(points=points, point_labels=labels)
        previous = predictor.predict(asked, each.plane, previous=previous)
        mask = previous.chosen.full(truth.shape)
        if k in (1, CLICKS):
            yield f"click {k}", mask_iou(mask, truth)
