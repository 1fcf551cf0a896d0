"""The shipped model on real objects: the same mask from tiles as from one window.

What is held here is the engine, not the model: where windows that hold an object whole
disagree with each other, the model has no answer that tiles could be compared with.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from skimage import data, transform

from napari_sam import load_model
from napari_sam.core.masks import mask_iou
from napari_sam.core.planes import Plane
from napari_sam.core.prompts import Prompts
from napari_sam.engine.engine import Engine
from napari_sam.engine.predict import predict
from napari_sam.engine.refine import refine
from napari_sam.engine.windows import FILL
from napari_sam.volume.opening import open_volume
from napari_sam.volume.pyramid import block_mean
from napari_sam.volume.volume import Volume

PLANE = Plane(())
SIDE = 512
"""Of nano's tiles; they step by three quarters of it."""
STEADY = 0.97
"""IoU of windows among themselves where the model has an answer at all."""
COVERED = 0.5
"""Share of an object's box that an answer to it fills at least.

A click may be answered with a small part instead. Sharpening, which a single window
goes without, changes much of what is so small where the object is seen whole, so such
answers are compared before it.
"""
SAME = 0.95
"""IoU that masks from tiles must reach with it there."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Thing:
    """An object in a picture of scikit-image, and where it goes on the mosaic."""

    picture: str
    box: tuple[int, int, int, int]
    inside: Point
    size: int
    """Longer side on the mosaic."""
    at: Point
    """Where its middle goes."""

    @property
    def zoom(self) -> float:
        y0, x0, y1, x1 = self.box
        return self.size / max(y1 - y0, x1 - x0)

    @property
    def middle(self) -> Point:
        y0, x0, y1, x1 = self.box
        return (y0 + y1) / 2, (x0 + x1) / 2

    @property
    def area(self) -> float:
        """Of its box on the mosaic."""
        y0, x0, y1, x1 = self.box
        return (y1 - y0) * (x1 - x0) * self.zoom**2

    def place(self, y: float, x: float) -> Point:
        """Where an edge or point of the picture lies on the mosaic."""
        my, mx = self.middle
        return self.at[0] + (y - my) * self.zoom, self.at[1] + (x - mx) * self.zoom

    def paint(self, canvas: np.ndarray) -> None:
        """Enlarge the picture around the object, four fifths of it on each side."""
        cut = _around(self.box, 0.3, PICTURES[self.picture]().shape)
        part = PICTURES[self.picture]()[cut[0] : cut[2], cut[1] : cut[3]]
        size = [round(n * self.zoom) for n in part.shape]
        large = transform.resize(part, size, order=1, preserve_range=True)
        y, x = (round(v) for v in self.place(cut[0], cut[1]))
        top, left = max(-y, 0), max(-x, 0)
        target = canvas[y + top : y + size[0], x + left : x + size[1]]
        h, w = target.shape
        target[...] = np.rint(large[top : top + h, left : left + w])


def _around(box, share, shape):
    y0, x0, y1, x1 = box
    by = share * max(y1 - y0, x1 - x0)
    return (
        int(max(y0 - by, 0)),
        int(max(x0 - by, 0)),
        int(min(y1 + by, shape[0])),
        int(min(x1 + by, shape[1])),
    )


def _tissue() -> np.ndarray:
    return data.immunohistochemistry()[..., 0]


PICTURES = {
    "coins": data.coins,
    "cell": data.cell,
    "tissue": _tissue,
    "retina": cache(lambda: data.retina()[::2, ::2, 1]),
}
COIN, LATE_COIN = (16, 305, 72, 365), (156, 315, 218, 380)
CELL, DISC = (315, 367, 434, 489), (297, 107, 365, 154)
NUCLEUS, OTHER_NUCLEUS = (30, 310, 46, 325), (53, 143, 71, 156)

# Cores of tiles meet at 448 + 384 n. Objects lie on a corner of four tiles, on an edge
# of two, off the middle of one, and near the image's edge.
SMALL = (
    Thing("coins", COIN, (43, 335), 56, (448, 448)),
    Thing("tissue", NUCLEUS, (37, 317), 48, (448, 640)),
    Thing("cell", CELL, (374, 429), 120, (832, 448)),
    Thing("retina", DISC, (325, 130), 100, (760, 760)),
    Thing("tissue", OTHER_NUCLEUS, (62, 149), 90, (60, 300)),
)
MEDIUM = (
    Thing("coins", LATE_COIN, (186, 348), 250, (448, 448)),
    Thing("cell", CELL, (374, 429), 360, (448, 1000)),
    Thing("retina", DISC, (325, 130), 300, (1000, 448)),
)
LARGE = (Thing("coins", COIN, (43, 335), 1000, (660, 640)),)


@pytest.fixture(scope="module")
def nano():
    return load_model("nano", device="cpu")


def mosaic(things: tuple[Thing, ...], shape: tuple[int, int]) -> Volume:
    """Real pictures side by side, with the objects enlarged in their places."""
    ground = np.tile(data.coins(), (9, 9))[: shape[0], : shape[1]].copy()
    for thing in things:
        thing.paint(ground)
    return open_volume(ground)


def level_of(thing: Thing) -> int:
    """Finest level on which a window holds an object with a margin."""
    level = 0
    while thing.size / 2**level > FILL * SIDE:
        level += 1
    return level


def prompts_of(thing: Thing) -> dict[str, Prompts]:
    """Ways to ask for an object that the view shows whole, in pixels of the mosaic."""
    y0, x0, y1, x1 = thing.box
    box = (*thing.place(y0, x0), *thing.place(y1, x1))
    points = [thing.place(*thing.inside)]
    my, mx = thing.middle
    rim = [(y0, mx), (my, x1), (y1, mx), (my, x0)]
    return {
        "click": Prompts.of(points=points, level=level_of(thing)),
        "box and click": Prompts.of(box=box, points=points),
        "outline": Prompts.of(polygon=[thing.place(*p) for p in rim]),
    }


class OneWindow:
    """The model on one window around an object: an image of its own, without tiles.

    Parameters
    ----------
    volume, thing, model
    aside : int
        Pixels of the window by which the object lies off its middle, down and right.
    """

    def __init__(self, volume, thing, model, aside):
        level = level_of(thing)
        self.scale, self.shape = 2**level, volume.shape
        starts, stops = [], []
        for middle, n in zip(thing.at, volume.shape, strict=True):
            start = round(middle / self.scale - SIDE / 2 - aside)
            start = min(max(start, 0), max(n // self.scale - SIDE, 0))
            starts.append(start * self.scale)
            stops.append(min((start + SIDE) * self.scale, n))
        self.corner = starts
        pixels = volume.plane()[starts[0] : stops[0], starts[1] : stops[1]]
        coarse = pixels if level == 0 else block_mean(pixels, self.scale)
        self.engine = Engine.of(open_volume(coarse), model, intensity=volume.intensity)

    def _point(self, y: float, x: float) -> Point:
        s = self.scale
        return (
            (y - self.corner[0] + 0.5) / s - 0.5,
            (x - self.corner[1] + 0.5) / s - 0.5,
        )

    def mask(self, prompts: Prompts) -> np.ndarray:
        box = prompts.box and np.subtract(prompts.box, self.corner * 2) / self.scale
        moved = Prompts.of(
            points=[self._point(*p) for p in prompts.points] or None,
            box=box,
            polygon=[self._point(*p) for p in prompts.polygon] or None,
        )
        found = predict(self.engine, moved, PLANE).chosen
        seen = found.full(self.engine.volume.shape)
        large = np.kron(seen, np.ones((self.scale, self.scale), bool))
        out = np.zeros(self.shape, bool)
        y, x = self.corner
        part = out[y : y + large.shape[0], x : x + large.shape[1]]
        part[...] = large[: part.shape[0], : part.shape[1]]
        return out


def compared(things, volume, model):
    """(what, steadiness of the windows, IoU of tiles with them) of every prompt."""
    for thing in things:
        tiled = Engine.of(volume, model)
        # As far aside as tiles take an object, and as clicks may lie from an edge.
        room = SIDE // 2 - SIDE // 8 - min(thing.size, FILL * SIDE) // 2
        asides = (0, max(room, SIDE // 8), -max(room, SIDE // 8))
        windows = [OneWindow(volume, thing, model, round(a)) for a in asides]
        for kind, prompts in prompts_of(thing).items():
            whole, *others = [w.mask(prompts) for w in windows]
            steady = min(mask_iou(whole, other) for other in others)
            found = predict(tiled, prompts, PLANE)
            if whole.sum() >= COVERED * thing.area:
                *_, found = (found, *refine(tiled, found, PLANE))
            iou = mask_iou(found.chosen.full(volume.shape), whole)
            yield f"{thing.picture} {thing.size} {kind}", steady, iou


@pytest.mark.parametrize(
    ("things", "shape"),
    [
        pytest.param(SMALL, (1300, 1300), id="small"),
        pytest.param(MEDIUM, (1400, 1500), id="on-seams"),
        pytest.param(LARGE, (1310, 1300), id="several-tiles"),
    ],
)
def test_tiles_give_the_mask_of_the_window_that_holds_the_object(nano, things, shape):
    found = list(compared(things, mosaic(things, shape), nano))
    steady = [(what, iou) for what, certain, iou in found if certain >= STEADY]
    assert len(steady) >= 2
    assert [f for f in steady if f[1] < SAME] == []
