"""How well a model answers clicks and boxes: the protocol, any model, any images.

First click: the centre of the largest inscribed circle. Each further click: the
centre of the largest inscribed circle of the error, the first-ranked mask fed back.
The box is the object's own. IoU is counted at the image's full resolution, for the
candidate that the model ranks first and for the best of all it gives.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from napari_sam.core.masks import mask_iou
from napari_sam.core.prompts import WindowPrompts
from napari_sam.training.prompts import inner_depth

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from napari_sam.core.masks import MaskCandidate
    from napari_sam.models.base import PromptableModel
    from napari_sam.training.data import LabelledImage, Split


@dataclass(frozen=True, slots=True)
class ScoreOptions:
    """What is asked, and of how many."""

    clicks: int = 3
    max_images: int = 1000
    """Of each data set."""
    max_objects: int = 8
    """Of each image, drawn at random, the same ones every time."""
    variant: str = "plain"
    """"plain", "inverted" or "half_contrast": what is done to the image first."""


@dataclass(frozen=True, slots=True)
class ObjectScore:
    """IoU that one object got."""

    dataset: str
    stem: str
    object_id: int
    area: int
    click: tuple[float, ...]
    """First-ranked candidate after 1, 2, ... clicks."""
    click_best: tuple[float, ...]
    box: float
    box_best: float
    ellipse: float
    """The box's inscribed ellipse, the baseline that needs no image."""
    rectangle: float
    """The box itself."""


COLUMNS = ("click1", "click1_best", "click_last", "box", "box_best", "ellipse")


@dataclass(frozen=True)
class Report:
    """Scores of many objects, by part of the split and data set."""

    parts: dict[str, list[ObjectScore]] = field(default_factory=dict)

    def means(self, part: str) -> dict[str, dict[str, float]]:
        """Mean over objects of every data set of a part, and "mean" over data sets."""
        by_set: dict[str, list[ObjectScore]] = {}
        for score in self.parts[part]:
            by_set.setdefault(score.dataset, []).append(score)
        out = {name: _columns(scores) for name, scores in sorted(by_set.items())}
        if out:
            out["mean"] = {
                c: float(np.mean([row[c] for row in out.values()]))
                for c in ("objects", *COLUMNS)
            }
        return out

    def table(self) -> str:
        """Markdown, a row a data set."""
        lines = []
        for part in self.parts:
            lines += ["", f"| {part} | objects | " + " | ".join(COLUMNS) + " |"]
            lines += ["|---" * (len(COLUMNS) + 2) + "|"]
            for name, row in self.means(part).items():
                cells = " | ".join(f"{row[c]:.3f}" for c in COLUMNS)
                lines.append(f"| {name} | {row['objects']:.0f} | {cells} |")
        return "\n".join(lines)

    def to_json(self) -> str:
        """Means and every object's scores."""
        value = {
            "means": {part: self.means(part) for part in self.parts},
            "objects": {
                p: [asdict(s) for s in scores] for p, scores in self.parts.items()
            },
        }
        return json.dumps(value, indent=1)


def _columns(scores: Sequence[ObjectScore]) -> dict[str, float]:
    return {
        "objects": float(len(scores)),
        "click1": float(np.mean([s.click[0] for s in scores])),
        "click1_best": float(np.mean([s.click_best[0] for s in scores])),
        "click_last": float(np.mean([s.click[-1] for s in scores])),
        "box": float(np.mean([s.box for s in scores])),
        "box_best": float(np.mean([s.box_best for s in scores])),
        "ellipse": float(np.mean([s.ellipse for s in scores])),
    }


def score_split(
    model: PromptableModel, split: Split, options: ScoreOptions | None = None
) -> Report:
    """Score kept-back images and held-out data sets."""
    options = options or ScoreOptions()
    return Report(
        {
            "kept back": list(score_images(model, split.kept_back, options)),
            "held out": list(score_images(model, split.held_out, options)),
        }
    )


def score_images(
    model: PromptableModel, images: Iterable[LabelledImage], options: ScoreOptions
) -> Iterator[ObjectScore]:
    """Score the objects of images one after the other."""
    taken: dict[str, int] = {}
    for image in images:
        taken[image.dataset] = taken.get(image.dataset, 0) + 1
        if taken[image.dataset] <= options.max_images:
            yield from score_image(model, image, options)


def score_image(
    model: PromptableModel, source: LabelledImage, options: ScoreOptions
) -> list[ObjectScore]:
    """Score some objects of one image."""
    objects = source.objects
    if len(objects) > options.max_objects:
        rng = np.random.default_rng(len(objects))
        chosen = rng.choice(len(objects), options.max_objects, replace=False)
        objects = objects[np.sort(chosen)]
    truths = [source.labels == row[0] for row in objects]
    boxes = [tuple(int(v) for v in row[2:]) for row in objects]
    asker = ImageAsker(model, source.image, options.variant)
    boxed = asker.ask(
        [WindowPrompts(box=tuple(float(v) for v in b)) for b in boxes]  # type: ignore[arg-type]
    )
    clicked = _click(asker, truths, options.clicks)
    return [
        ObjectScore(
            source.dataset,
            source.stem,
            int(row[0]),
            int(row[1]),
            tuple(c[0] for c in clicks),
            tuple(max(c) for c in clicks),
            asker.ious(answer, truth)[0],
            max(asker.ious(answer, truth)),
            mask_iou(ellipse_in(box, truth.shape), truth),
            row[1] / ((box[2] - box[0]) * (box[3] - box[1])),
        )
        for row, truth, box, answer, clicks in zip(
            objects, truths, boxes, boxed, clicked, strict=True
        )
    ]


def _click(
    asker: ImageAsker, truths: Sequence[np.ndarray], n_clicks: int
) -> list[list[list[float]]]:
    """IoUs [object][click][candidate]."""
    points: list[list[tuple[float, float]]] = [[] for _ in truths]
    labels: list[list[int]] = [[] for _ in truths]
    fed: list[np.ndarray | None] = [None] * len(truths)
    masks = [np.zeros(t.shape, bool) for t in truths]
    out: list[list[list[float]]] = [[] for _ in truths]
    for _ in range(n_clicks):
        for i, truth in enumerate(truths):
            point, label = next_click(truth, masks[i])
            points[i].append(point)
            labels[i].append(label)
        answers = asker.ask(
            [
                WindowPrompts(
                    points=np.array(points[i]),
                    point_labels=np.array(labels[i]),
                    mask_input=fed[i],
                    multimask_output=len(points[i]) == 1,
                )
                for i in range(len(truths))
            ]
        )
        for i, answer in enumerate(answers):
            out[i].append(asker.ious(answer, truths[i]))
            masks[i] = asker.full(answer[0])
            fed[i] = answer[0].low_res_logits
    return out


def next_click(truth: np.ndarray, mask: np.ndarray) -> tuple[tuple[float, float], int]:
    """Return the point (y, x) and label that a careful user would click next."""
    missing, extra = _deepest(truth & ~mask), _deepest(mask & ~truth)
    if max(missing[1], extra[1]) == 0:
        return _deepest(truth)[0], 1
    return (missing[0], 1) if missing[1] >= extra[1] else (extra[0], 0)


def _deepest(region: np.ndarray) -> tuple[tuple[float, float], float]:
    """Centre of the largest inscribed circle and its radius (0 for an empty region)."""
    if not region.any():
        return (0.0, 0.0), 0.0
    rows, cols = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    depth = inner_depth(region[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1])
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return (float(y + rows[0]), float(x + cols[0])), float(depth.max())


def ellipse_in(box: Sequence[float], shape: tuple[int, ...]) -> np.ndarray:
    """Pixels of the ellipse inscribed in a half-open box."""
    y0, x0, y1, x1 = box
    ys, xs = np.ogrid[: shape[0], : shape[1]]
    dy = (ys + 0.5 - (y0 + y1) / 2) / max((y1 - y0) / 2, 0.5)
    dx = (xs + 0.5 - (x0 + x1) / 2) / max((x1 - x0) / 2, 0.5)
    return np.asarray(dy**2 + dx**2 <= 1)


def _rgb(image: np.ndarray, variant: str) -> np.ndarray:
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    if variant == "inverted":
        return 255 - image
    if variant == "half_contrast":
        return (image // 2 + 64).astype(np.uint8)
    return image


class ImageAsker:
    """One encoded image; prompts and masks in its own pixels.

    An image larger than the frame of a model that does not scale is reduced to fit.
    """

    def __init__(
        self, model: PromptableModel, image: np.ndarray, variant: str = "plain"
    ) -> None:
        image = _rgb(image, variant)
        self.model, self.shape = model, image.shape[:2]
        side, longest = model.spec.input_side, max(self.shape)
        self.scale = 1.0
        if longest > side and not model.spec.enlarges:
            self.scale = side / longest
            h, w = (max(1, round(n * self.scale)) for n in self.shape)
            image = np.asarray(
                Image.fromarray(image).resize((w, h), Image.Resampling.BOX)
            )
        self.window = image.shape[:2]
        self.embedding = model.encode(np.ascontiguousarray(image)[None])[0]

    def ask(self, prompts: Sequence[WindowPrompts]) -> list[list[MaskCandidate]]:
        """Candidates of each prompt set, best first, in the window's pixels."""
        return self.model.decode_many(
            self.embedding, [self._scaled(p) for p in prompts]
        )

    def full(self, candidate: MaskCandidate) -> np.ndarray:
        """Candidate as a mask of the image's own pixels."""
        mask = candidate.full(self.window)
        if self.window == self.shape:
            return mask
        h, w = self.shape
        rows = np.minimum((np.arange(h) + 0.5) * self.window[0] / h, self.window[0] - 1)
        cols = np.minimum((np.arange(w) + 0.5) * self.window[1] / w, self.window[1] - 1)
        return mask[np.ix_(rows.astype(int), cols.astype(int))]

    def ious(self, answer: Sequence[MaskCandidate], truth: np.ndarray) -> list[float]:
        """IoU of each candidate."""
        return [mask_iou(self.full(c), truth) for c in answer]

    def _scaled(self, p: WindowPrompts) -> WindowPrompts:
        if self.scale == 1.0:
            return p
        by = np.array(self.window) / np.array(self.shape)
        box = None
        if p.box is not None:
            y0, x0, y1, x1 = np.array(p.box) * np.tile(by, 2)
            box = float(y0), float(x0), float(y1), float(x1)
        return WindowPrompts(
            points=(np.asarray(p.points, float) + 0.5) * by - 0.5,
            point_labels=p.point_labels,
            box=box,
            mask_input=p.mask_input,
            multimask_output=p.multimask_output,
        )
