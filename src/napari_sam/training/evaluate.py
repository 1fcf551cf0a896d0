"""How well a model answers clicks and boxes, asked through the engine as users do.

First click: the centre of the largest circle inside the object. Each further one: the
centre of the largest circle in what is missing or too much, in the mask that the model
ranked first. The box is the object's own. IoU is counted at full resolution.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.masks import mask_iou
from napari_sam.core.prompts import Prompts
from napari_sam.embeddings.tile_batches import stopped
from napari_sam.engine.engine import Engine
from napari_sam.engine.predict import predict
from napari_sam.engine.refine import refine
from napari_sam.errors import Cancelled, PromptError, VolumeError
from napari_sam.models.given import as_model
from napari_sam.results.label_objects import iter_planes
from napari_sam.training.clicks import ellipse_in, next_click, same_frame
from napari_sam.training.datasets import read_labelled
from napari_sam.training.scores import Evaluation, ObjectScore
from napari_sam.training.variants import check_variants, vary

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from threading import Event

    from napari_sam.core.masks import Bbox
    from napari_sam.core.planes import Plane
    from napari_sam.engine.prediction import Prediction
    from napari_sam.models.protocol import PromptableModel
    from napari_sam.training.labelled import LabelledVolume
    from napari_sam.volume.volume import Volume

PROMPTS = ("point", "box")
"""Kinds of prompt that can be evaluated."""
_SHARPENING = 0.05
"""IoU that a finer outline may gain a mask found on a coarse level."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """What is asked, and of which objects."""

    prompts: tuple[str, ...] = PROMPTS
    clicks: int = 8
    max_objects: int | None = None
    """Of each volume, drawn at random; None: all."""
    min_area: int = 20
    """Smaller objects, in pixels of their plane, are left out."""
    axis: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = [p for p in self.prompts if p not in PROMPTS]
        if unknown or not self.prompts:
            raise PromptError(
                f"prompts are some of {', '.join(PROMPTS)}; got "
                f"{', '.join(map(repr, unknown)) or 'none'}"
            )
        for name, least in (("clicks", 1), ("min_area", 1), ("max_objects", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise PromptError(f"{name} must be {least} or more; got {value}")


@dataclass(frozen=True, slots=True, eq=False)
class _Object:
    """One object to ask for."""

    plane: Plane
    object_id: int
    area: int
    bbox: Bbox


def evaluate(
    model: PromptableModel | str | os.PathLike[str],
    images: Any,
    labels: Any = None,
    *,
    prompts: Iterable[str] | str = PROMPTS,
    clicks: int = 8,
    max_objects: int | None = None,
    min_area: int = 20,
    variants: Iterable[str] = (),
    axis: int = 0,
    axes: str | Sequence[str] | None = None,
    channels: int | Sequence[int] | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    cancel: Callable[[], bool] | Event | None = None,
) -> Evaluation:
    """Score a model on labelled images, by clicks and boxes.

    Parameters
    ----------
    model : PromptableModel or str
        A name that `load_model` takes, or a model.
    images, labels
        As `read_labelled` takes them: two folders, arrays, a COCO file, an OME-Zarr
        with labels, a saved session, a folder of data sets, ...
    prompts : iterable of {"point", "box"}
        A string may join them by commas.
    clicks : int
        Clicks on each object.
    max_objects : int, optional
        Of each volume, drawn at random; all when left out.
    min_area : int
        Smaller objects, in pixels of their plane, are left out.
    variants : iterable of {"inverted", "half-contrast", "16bit"}
        Ask again of the images changed so, and report what that costs.
    axis : int
        Sliced axis of volumes, among the last three.
    axes, channels : optional
        Of every image, as `open_volume` takes them.
    seed : int
        The same seed asks for the same objects.
    progress : callable, optional
        Called with the objects done and the objects in all.
    cancel : callable or threading.Event, optional
        Asked between clicks; true raises `Cancelled`.

    Returns
    -------
    Evaluation
        Every object's scores; `Evaluation.mean`, `Evaluation.rows` and
        `Evaluation.table` sum them up.

    Raises
    ------
    PromptError
        For prompts, variants or numbers that make no sense, or that the model does
        not understand.
    VolumeError
        If images or labels cannot be opened, or hold no object.
    Cancelled

    Examples
    --------
    >>> from napari_sam.testing import ToyModel, phantom_image
    >>> cells = phantom_image((64, 96), n_objects=2)
    >>> found = evaluate(ToyModel(), cells.image, cells.labels, clicks=1)
    >>> found.mean["click1"] > 0.9
    True
    """
    if isinstance(prompts, str):
        prompts = [p.strip() for p in prompts.split(",")]
    protocol = Protocol(
        tuple(dict.fromkeys(prompts)), clicks, max_objects, min_area, axis, seed
    )
    names = check_variants(variants)
    model = as_model(model)
    _check_model(model, protocol)
    volumes = read_labelled(images, labels, axes=axes, channels=channels)
    chosen = [_choose(one, protocol, cancel) for one in volumes]
    total = sum(map(len, chosen)) * (1 + len(names))
    if not total:
        raise VolumeError(
            f"no object of {protocol.min_area} pixels or more in {len(volumes)} "
            "image(s): labels hold 0 for background and a number from 1 for each object"
        )
    results: dict[str, list[ObjectScore]] = {"": [], **{name: [] for name in names}}
    done = 0
    for one, objects in zip(volumes, chosen, strict=True):
        labelled = one.opened()
        for name, scores in results.items():
            volume = vary(labelled.volume, name) if name else labelled.volume
            if volume is None:
                done += len(objects)
                continue
            found = []
            for score in _ask_all(model, volume, labelled, objects, protocol, cancel):
                found.append(score)
                done += 1
                if progress is not None:
                    progress(done, total)
            scores += sorted(found, key=lambda s: (s.plane, s.object_id))
    plain = tuple(results.pop(""))
    asked = {"model": model.spec.name, "checkpoint_sha256": model.spec.sha256}
    return Evaluation(
        plain, asked | asdict(protocol), {n: tuple(s) for n, s in results.items()}
    )


def _check_model(model: PromptableModel, protocol: Protocol) -> None:
    takes = model.spec.prompts
    for name, needed in (("point", "points"), ("box", "box")):
        if name in protocol.prompts and needed not in takes:
            raise PromptError(
                f"{model.spec.name} takes no {name} prompts, only "
                f"{', '.join(sorted(takes))}: leave {name!r} out of prompts"
            )


def _choose(
    one: LabelledVolume,
    protocol: Protocol,
    cancel: Callable[[], bool] | Event | None,
) -> list[_Object]:
    """Draw the objects to ask for; labels are read a block at a time."""
    labelled = one.opened()
    found: list[_Object] = []
    for plane in iter_planes(labelled.volume.shape, protocol.axis):
        if stopped(cancel):
            raise Cancelled("the evaluation was stopped")
        for name, area, *box in labelled.objects(plane).tolist():
            if area >= protocol.min_area:
                y0, x0, y1, x1 = box
                found.append(_Object(plane, name, area, (y0, x0, y1, x1)))
    most = protocol.max_objects
    if most is None or len(found) <= most:
        return found
    rng = np.random.default_rng(len(found) + protocol.seed)
    which = np.sort(rng.choice(len(found), most, replace=False))
    return [found[i] for i in which]


def _ask_all(
    model: PromptableModel,
    volume: Volume,
    labelled: LabelledVolume,
    objects: Sequence[_Object],
    protocol: Protocol,
    cancel: Callable[[], bool] | Event | None,
) -> Iterator[ObjectScore]:
    """Ask for objects plane by plane and tile by tile, so that each is encoded once."""
    engine = Engine.of(volume, model)
    grid = engine.grid(protocol.axis)

    def place(one: _Object) -> tuple[int, int, int]:
        y0, x0, y1, x1 = one.bbox
        tile = grid.owner(0, (y0 + y1) / 2 - 0.5, (x0 + x1) / 2 - 0.5)
        return one.plane.linear(volume.shape), tile.number, one.object_id

    for one in sorted(objects, key=place):
        pixels = np.asarray(labelled.labels[one.plane.window(one.bbox)])
        asker = _Asker(engine, one, pixels == one.object_id, cancel)
        click: tuple[float, ...] = ()
        click_best: tuple[float, ...] = ()
        box = asker.box() if "box" in protocol.prompts else []
        if "point" in protocol.prompts:
            click, click_best = asker.clicks(protocol.clicks)
        yield ObjectScore(
            volume=labelled.name,
            group=labelled.group,
            axis=one.plane.axis,
            plane=one.plane.index,
            object_id=one.object_id,
            area=one.area,
            click=click,
            click_best=click_best,
            box=box[0] if box else None,
            box_best=max(box) if box else None,
            ellipse=_ellipse_iou(asker.truth),
            rectangle=one.area / asker.truth.size,
        )


class _Asker:
    """Prompts for one object as a user would who sees the truth."""

    def __init__(
        self,
        engine: Engine,
        one: _Object,
        truth: np.ndarray,
        cancel: Callable[[], bool] | Event | None,
    ) -> None:
        self.engine, self.one, self.truth = engine, one, truth
        self._cancel = cancel

    def box(self) -> list[float]:
        """IoU of each mask, best-ranked first, from the object's own box."""
        return self._ious(self._ask(Prompts.of(box=self.one.bbox), None))

    def clicks(self, count: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """IoU after 1 to `count` clicks: of the mask ranked first, of the best one.

        Where nothing is left to correct, the last IoU holds for the other clicks.
        """
        first: list[float] = []
        best: list[float] = []
        points: list[tuple[float, float]] = []
        signs: list[int] = []
        answer: Prediction | None = None
        while len(first) < count and (not first or first[-1] < 1):
            point, sign = self._next(answer)
            points.append(point)
            signs.append(sign)
            answer = self._ask(Prompts.of(points=points, point_labels=signs), answer)
            ious = self._ious(answer)
            first.append(ious[0])
            best.append(max(ious))
        more = count - len(first)
        return (*first, *first[-1:] * more), (*best, *best[-1:] * more)

    def _next(self, answer: Prediction | None) -> tuple[tuple[float, float], int]:
        bbox, mask = (0, 0, 0, 0), np.zeros((0, 0), bool)
        if answer is not None:
            bbox, mask = answer.chosen.bbox, answer.chosen.mask
        (y0, x0), truth, mask = same_frame((self.one.bbox, self.truth), (bbox, mask))
        (y, x), sign = next_click(truth, mask)
        return (y + y0, x + x0), sign

    def _ask(self, prompts: Prompts, before: Prediction | None) -> Prediction:
        stop = None if self._cancel is None else lambda: stopped(self._cancel)
        answer = predict(
            self.engine, prompts, self.one.plane, previous=before, cancel=stop
        )
        return self._sharp(answer)

    def _sharp(self, answer: Prediction) -> Prediction:
        """Outline of the mask in force as the session ends up with it."""
        stop = None if self._cancel is None else lambda: stopped(self._cancel)
        *_, last = (answer, *refine(self.engine, answer, self.one.plane, stop))
        return last

    def _ious(self, answer: Prediction) -> list[float]:
        """IoU of each candidate, at full resolution.

        Of those not in force the best is sharpened too, where it may be the best.
        """
        out = [self._iou(c.bbox, c.mask) for c in answer.candidates]
        k = int(np.argmax([-1.0, *out[1:]]))
        if k and out[k] > out[0] - _SHARPENING:
            sharp = self._sharp(answer.choose(k)).candidates[k]
            out[k] = self._iou(sharp.bbox, sharp.mask)
        return out

    def _iou(self, bbox: Bbox, mask: np.ndarray) -> float:
        _, truth, found = same_frame((self.one.bbox, self.truth), (bbox, mask))
        return mask_iou(truth, found)


def _ellipse_iou(truth: np.ndarray) -> float:
    return mask_iou(ellipse_in((0, 0, *truth.shape), truth.shape), truth)
