"""What an outline or a scribble is best turned into, measured on labelled images.

    python benchmarks/prompt_forms.py DATA [--sets a,b] [--objects 40] [--model nano]

DATA holds ``<data set>/{images,labels}/<stem>.png`` and ``INDEX.csv``. A hand is
simulated: outlines with few, shaken corners, and strokes along the middle of an object.
Each is given to the model in several forms, and the masks are compared with the truth.
"""

from __future__ import annotations

import argparse
import zlib
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from skimage.draw import polygon2mask
from skimage.graph import route_through_array
from skimage.measure import approximate_polygon, find_contours

from napari_sam import load_model
from napari_sam.core.frames import MASK_LOGIT
from napari_sam.core.masks import deepest_point, depth_of
from napari_sam.core.planes import Plane
from napari_sam.core.prompts import Prompts, WindowPrompts
from napari_sam.engine.engine import Engine
from napari_sam.engine.windows import choose_window
from napari_sam.volume.opening import open_volume
from tools.nano.data import read_folder, split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_sam.core.masks import MaskCandidate

FAILED = 0.2
"""IoU below which an answer is inverted or about something else."""


def rough_outline(truth: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """(N, 2) corners of an outline drawn in haste around an object."""
    contour = max(find_contours(np.pad(truth, 1).astype(float), 0.5), key=len) - 1
    size = float(np.sqrt(truth.sum()))
    corners = approximate_polygon(contour, 0.06 * size)[:-1]
    if len(corners) < 4:
        corners = contour[:: max(1, len(contour) // 6)][:6]
    if len(corners) < 3:
        return None
    middle = corners.mean(0)
    grown = middle + (corners - middle) * rng.normal(1.06, 0.06)
    return np.asarray(grown + rng.normal(0, 0.06 * size, corners.shape))


def stroke(truth: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """(N, 2) places of a stroke drawn inside an object, along its middle."""
    depth = depth_of(truth)
    inner = np.argwhere(depth >= 0.4 * depth.max())
    if len(inner) < 2:
        return None
    start = inner[rng.integers(len(inner))]
    far = inner[np.argsort(-((inner - start) ** 2).sum(1))]
    stop = far[rng.integers(max(1, len(far) // 4))]
    cost = 1 / np.maximum(depth, 0.2) + 50.0 * ~truth
    path, _ = route_through_array(cost, start, stop, geometric=True)
    places = np.array(path, float)
    if len(places) < 4:
        return None
    shaken = ndimage.gaussian_filter1d(rng.normal(0, 3, places.shape), 4, axis=0)
    return np.asarray(places + shaken)


class Asked:
    """One object and the model's answers to it in one window."""

    def __init__(self, engine: Engine, prompts: Prompts) -> None:
        self.plane = Plane(())
        self.window = choose_window(prompts, engine.grid(0))
        self.model = engine.model
        self.frame = engine.frame(self.window)
        self.embedding = engine.embedding(self.plane, self.window)

    def points(self, plane: np.ndarray) -> np.ndarray:
        """Plane places (N, 2) that lie in the window, in its pixels."""
        ys, xs = np.asarray(plane, float).reshape(-1, 2).T
        at = np.stack(self.window.to_window(ys, xs), 1)
        size = self.window.h - 0.5, self.window.w - 0.5
        return np.asarray(at[((at >= -0.5) & (at <= size)).all(1)])

    def logits(self, mask: np.ndarray, strength: float = MASK_LOGIT) -> np.ndarray:
        """A mask of the plane as the model's mask prompt."""
        from napari_sam.core.frames import mask_logits

        small = mask_logits(self.frame, (0, 0, *mask.shape), mask)
        return np.asarray(small * (strength / MASK_LOGIT), np.float32)

    def ask(
        self,
        points: np.ndarray | None = None,
        labels: np.ndarray | None = None,
        box: tuple[float, ...] | None = None,
        mask_input: np.ndarray | None = None,
    ) -> MaskCandidate:
        """Decode, and take the best."""
        pts = np.zeros((0, 2)) if points is None else points
        signs = np.ones(len(pts), int) if labels is None else labels
        lone = len(pts) == 1 and box is None and mask_input is None
        held = None if box is None else self.window.box_to_window(box)  # type: ignore[arg-type]
        given = WindowPrompts(pts, signs, held, mask_input, lone)
        return self.model.decode(self.embedding, given)[0]

    def stepwise(self, points: np.ndarray) -> MaskCandidate:
        """One point after the other, each refining the mask before it."""
        found = self.ask(points[:1])
        for n in range(2, len(points) + 1):
            found = self.ask(points[:n], mask_input=found.low_res_logits)
        return found


def outline_forms(
    asked: Asked, corners: np.ndarray, drawn: np.ndarray
) -> Iterator[tuple[str, Callable[[], MaskCandidate]]]:
    """Forms that an outline can be given in."""
    y0, x0 = corners.min(0)
    y1, x1 = corners.max(0)
    box = (y0 + 0.5, x0 + 0.5, y1 + 0.5, x1 + 0.5)
    mask = asked.logits(drawn)
    deep = asked.points(np.array([deepest_point(drawn)[0]]))
    few = asked.points(_innermost(drawn, 3))
    grid = np.argwhere(ndimage.binary_erosion(drawn))[::37][:40]
    many = asked.points(grid) if len(grid) else deep
    around = asked.points(corners)
    yield "box", lambda: asked.ask(box=box)
    yield "mask", lambda: asked.ask(mask_input=mask)
    yield "mask, soft", lambda: asked.ask(mask_input=mask / 3)
    yield "box + mask", lambda: asked.ask(box=box, mask_input=mask)
    yield "box + soft mask", lambda: asked.ask(box=box, mask_input=mask / 3)
    yield "1 inner point", lambda: asked.ask(deep)
    yield "3 inner points", lambda: asked.ask(few)
    yield "box + inner point", lambda: asked.ask(deep, box=box)
    yield "mask + inner point", lambda: asked.ask(deep, mask_input=mask)
    yield "box + mask + point", lambda: asked.ask(deep, box=box, mask_input=mask)
    yield "up to 40 inner points", lambda: asked.ask(many)
    yield "corners as points", lambda: asked.ask(around)


def stroke_forms(
    asked: Asked, places: np.ndarray, shape: tuple[int, int]
) -> Iterator[tuple[str, Callable[[], MaskCandidate]]]:
    """Forms that a stroke can be given in."""
    tube = _tube(places, shape, 2.0)
    mask = asked.logits(tube)
    y0, x0 = places.min(0)
    y1, x1 = places.max(0)
    box = (y0, x0, y1 + 1, x1 + 1)

    def spread(n: int) -> np.ndarray:
        """N places, evenly along the stroke, its ends left out."""
        at = (np.arange(n) + 0.5) / n * (len(places) - 1)
        return asked.points(places[np.rint(at).astype(int)])

    yield "middle point", lambda: asked.ask(spread(1))
    for n in (2, 3, 4, 5, 8, 16):
        yield f"{n} points", lambda n=n: asked.ask(spread(n))
    yield "every 2nd pixel", lambda: asked.ask(asked.points(places[::2]))
    for n in (3, 5):
        yield f"{n} points, one by one", lambda n=n: asked.stepwise(spread(n))
    yield "tube as mask", lambda: asked.ask(mask_input=mask)
    yield "tube + 3 points", lambda: asked.ask(spread(3), mask_input=mask)
    yield "box of the stroke", lambda: asked.ask(box=box)


def _innermost(mask: np.ndarray, n: int) -> np.ndarray:
    """N deep places, each away from those before it."""
    left, out = mask.copy(), []
    for _ in range(n):
        at, depth = deepest_point(left)
        if depth <= 0:
            break
        out.append(at)
        ys, xs = np.ogrid[: mask.shape[0], : mask.shape[1]]
        left &= (ys - at[0]) ** 2 + (xs - at[1]) ** 2 > (1.2 * depth) ** 2
    return np.array(out, float)


def _tube(places: np.ndarray, shape: tuple[int, int], radius: float) -> np.ndarray:
    line = np.zeros(shape, bool)
    at = np.rint(places).astype(int)
    line[tuple(np.clip(at, 0, np.array(shape) - 1).T)] = True
    return np.asarray(ndimage.distance_transform_edt(~line) <= radius)


def iou(found: MaskCandidate, asked: Asked, truth: np.ndarray) -> float:
    """IoU of an answer with the truth, in the window at level 0."""
    w = asked.window
    seen = found.full((w.h, w.w))
    if w.level:
        seen = np.kron(seen, np.ones((1 << w.level, 1 << w.level), bool))
    whole = np.zeros(truth.shape, bool)
    y, x = (int(v) for v in (w.y0 * (1 << w.level), w.x0 * (1 << w.level)))
    part = whole[max(y, 0) : y + seen.shape[0], max(x, 0) : x + seen.shape[1]]
    part |= seen[max(-y, 0) :, max(-x, 0) :][: part.shape[0], : part.shape[1]]
    return float((whole & truth).sum() / max((whole | truth).sum(), 1))


def main() -> None:
    """Measure, and print a table of mean IoU over data sets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--sets", default="")
    parser.add_argument("--objects", type=int, default=30, help="of each data set")
    parser.add_argument("--model", default="nano")
    options = parser.parse_args()
    parts = split(read_folder(options.data))
    images = [*parts.kept_back, *parts.held_out]
    wanted = options.sets.split(",") if options.sets else None
    by_set = defaultdict(list)
    for image in images:
        if wanted is None or image.dataset in wanted:
            by_set[image.dataset].append(image)
    model = load_model(options.model)
    scores: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for name, members in by_set.items():
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        per_image = max(1, -(-options.objects // len(members)))
        for image in members[: options.objects]:
            engine = Engine.of(open_volume(image.image), model)
            n = min(per_image, len(image.objects))
            for row in rng.permutation(len(image.objects))[:n]:
                truth = image.labels == image.objects[row, 0]
                _measure(engine, truth, rng, scores, name)
        print(f"{name}: {len(members)} images", flush=True)
    for kind in ("outline", "stroke"):
        _print(kind, {f: s for (k, f), s in scores.items() if k == kind})


def _measure(
    engine: Engine,
    truth: np.ndarray,
    rng: np.random.Generator,
    scores: dict[tuple[str, str], dict[str, list[float]]],
    name: str,
) -> None:
    corners, places = rough_outline(truth, rng), stroke(truth, rng)
    if corners is not None:
        drawn = polygon2mask(truth.shape, corners)
        if drawn.sum() >= 9:
            inside = np.clip(corners, 0, np.array(truth.shape) - 1)
            asked = Asked(engine, Prompts.of(polygon=inside))
            both = (drawn & truth).sum() / (drawn | truth).sum()
            scores["outline", "the outline itself"][name].append(float(both))
            for form, ask in outline_forms(asked, inside, drawn):
                scores["outline", form][name].append(iou(ask(), asked, truth))
    if places is not None:
        places = np.clip(places, 0, np.array(truth.shape) - 1)
        low, high = places.min(0) - 0.5, places.max(0) + 0.5
        asked = Asked(engine, Prompts.of(box=(*low, *high)))
        for form, ask in stroke_forms(asked, places, truth.shape):
            scores["stroke", form][name].append(iou(ask(), asked, truth))


def _print(kind: str, found: dict[str, dict[str, list[float]]]) -> None:
    print(f"\n{kind:24} mean IoU  seen sets  unseen  IoU < {FAILED}    n")
    from tools.nano.data import HELD_OUT

    for form, by_set in found.items():
        means = {n: float(np.mean(v)) for n, v in by_set.items()}
        seen = [m for n, m in means.items() if n not in HELD_OUT]
        unseen = [m for n, m in means.items() if n in HELD_OUT]
        every = np.concatenate([np.array(v) for v in by_set.values()])
        failed = np.mean([np.mean(np.array(v) < FAILED) for v in by_set.values()])
        print(
            f"{form:24} {np.mean(list(means.values())):.3f}     "
            f"{np.mean(seen) if seen else float('nan'):.3f}      "
            f"{np.mean(unseen) if unseen else float('nan'):.3f}   "
            f"{failed:.3f}      {len(every)}"
        )


if __name__ == "__main__":
    main()
