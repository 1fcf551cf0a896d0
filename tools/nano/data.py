"""Labelled images in memory, their split, and the crops that one training step sees."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from scipy import ndimage

from napari_sam.errors import VolumeError
from napari_sam.training.examples import MIN_OBJECT_AREA
from tools.nano.augment import augment

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HELD_OUT = ("ccaus", "glomeruli", "msd_spleen")
"""Data sets never trained on: ultrasound, kidney histology and abdominal CT."""
VALIDATED = ("em_chloroplast", "krd_wbc", "lumbar_mri")
"""Data sets kept back whole: electron microscopy, blood and a spine seen otherwise."""
TRAINED = ("f3_seismic", "feral_cats", "feral_cats2", "usgra_us")
"""Data sets whose images are too much alike to validate each other: all in training."""
KEPT_BACK = 0.12
"""Share of every other data set that is kept back for validation."""
UNITED = 0.1
"""How often what touches an object counts to it: a click may mean the whole."""
COMPOSITE = "composite"
"""Label kind of objects that a lone click cannot mean."""


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """One image with one label plane."""

    dataset: str
    stem: str
    image: np.ndarray
    """(h, w) or (h, w, 3), uint8."""
    labels: np.ndarray
    """(h, w), unsigned; 0 is background."""
    label_kind: str = "instance"
    """"instance"; "class-cc", "binary-cc", "region", "composite": less certain."""

    @cached_property
    def objects(self) -> np.ndarray:
        """(N, 6) int: id, area, y0, x0, y1, x1 of every object worth prompting."""
        areas = np.bincount(self.labels.ravel())
        rows = []
        for i, found in enumerate(ndimage.find_objects(self.labels), 1):
            if found is not None and areas[i] >= MIN_OBJECT_AREA:
                ys, xs = found
                rows.append((i, areas[i], ys.start, xs.start, ys.stop, xs.stop))
        return np.array(rows, np.int64).reshape(-1, 6)

    @cached_property
    def object_weights(self) -> np.ndarray:
        """(N,) how often each object is taken."""
        return balanced_by_size(self.objects[:, 1])


def balanced_by_size(areas: np.ndarray) -> np.ndarray:
    """Weights that sum to 1 and draw rare sizes more often than their number says.

    Sizes are classed by powers of four of the area.
    """
    bins = (np.log2(np.maximum(areas, 1)) / 2).astype(int)
    weights = np.bincount(bins)[bins] ** -0.6
    return np.asarray(weights / weights.sum())


@dataclass(frozen=True)
class Split:
    """Labelled images by their use."""

    train: list[LabelledImage]
    kept_back: list[LabelledImage]
    """Images of data sets that are trained on, and data sets chosen on."""
    held_out: list[LabelledImage]
    """Images of data sets that are not."""


def read_folder(root: str | Path) -> list[LabelledImage]:
    """Read ``<root>/<data set>/{images,labels}/<stem>.png`` listed in ``INDEX.csv``."""
    root = Path(root)
    index = root / "INDEX.csv"
    if not index.is_file():
        raise VolumeError(f"expected a table of images at {index}; there is none")
    out = []
    with index.open(newline="") as file:
        for row in csv.DictReader(file):
            folder = root / row["dataset"]
            image = np.asarray(Image.open(folder / "images" / f"{row['stem']}.png"))
            labels = np.asarray(Image.open(folder / "labels" / f"{row['stem']}.png"))
            if image.ndim == 3:
                image = image[..., :3]
                if (image == image[..., :1]).all():
                    image = image[..., 0]
            found = LabelledImage(
                row["dataset"],
                row["stem"],
                np.ascontiguousarray(image, np.uint8),
                np.ascontiguousarray(labels, np.int32),
                row["label_kind"],
            )
            if len(found.objects):
                out.append(found)
    return out


def split(images: Iterable[LabelledImage]) -> Split:
    """Split by data set and by a hash of the name; the same on every machine."""
    by_set: dict[str, list[LabelledImage]] = {}
    for image in images:
        by_set.setdefault(image.dataset, []).append(image)
    out = Split([], [], [])
    for name, members in sorted(by_set.items()):
        if name in HELD_OUT:
            out.held_out.extend(sorted(members, key=lambda i: i.stem))
            continue
        if name in VALIDATED:
            out.kept_back.extend(sorted(members, key=lambda i: i.stem))
            continue
        if name in TRAINED:
            out.train.extend(sorted(members, key=lambda i: i.stem))
            continue
        shuffled = sorted(members, key=lambda i: _hash(f"{name}/{i.stem}"))
        n = max(2, round(KEPT_BACK * len(members)))
        out.kept_back.extend(shuffled[:n])
        out.train.extend(shuffled[n:])
    return out


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class CropBatch:
    """What one step trains on."""

    images: np.ndarray
    """(B, 3, side, side) float32, 0..255."""
    masks: np.ndarray
    """(P, side / 2, side / 2) bool: objects on the decoder's finest grid."""
    image_of: np.ndarray
    """(P,) int64: the crop of each object."""
    weights: np.ndarray
    """(P,) float32: how far the outline is trusted."""
    composite: np.ndarray
    """(P,) bool: a lone click cannot mean the object."""
    labels: np.ndarray
    """(B, side / 2, side / 2) int32: all objects of each crop."""
    complete: np.ndarray
    """(B,) bool: every object of the crop is labelled, touching ones apart."""


class CropSampler:
    """Draws crops around objects; every batch is a pure function of its seed.

    Parameters
    ----------
    images : sequence of LabelledImage
    shares : dict of str to float
        How often each data set is drawn, relative to the others; 1 where left out.
    objects_per_crop : int
    native : bool
        Keep pixels about as they come, as in use, instead of varying the zoom widely.
    """

    def __init__(
        self,
        images: Sequence[LabelledImage],
        *,
        shares: dict[str, float] | None = None,
        objects_per_crop: int = 3,
        native: bool = False,
    ) -> None:
        self._native = native
        self._by_set: dict[str, list[LabelledImage]] = {}
        for image in images:
            self._by_set.setdefault(image.dataset, []).append(image)
        self._names = sorted(self._by_set)
        share = np.array(
            [
                (shares or {}).get(n, 1.0) * min(len(self._by_set[n]), 30) ** 0.5
                for n in self._names
            ]
        )
        self._p = share / share.sum()
        self._objects_per_crop = objects_per_crop

    def batch(self, seed: Sequence[int], *, n_crops: int, side: int) -> CropBatch:
        """Draw `n_crops` crops of `side` pixels with their objects."""
        rng = np.random.default_rng(seed)
        images: list[np.ndarray] = []
        masks: list[np.ndarray] = []
        image_of: list[int] = []
        weights: list[float] = []
        composite: list[bool] = []
        coarse: list[np.ndarray] = []
        complete: list[bool] = []
        while len(images) < n_crops:
            name = self._names[rng.choice(len(self._names), p=self._p)]
            members = self._by_set[name]
            source = members[rng.integers(len(members))]
            image, labels, chosen = self._crop(source, side, rng)
            if not chosen:
                continue
            for i in chosen:
                united = _united(labels, i, rng)
                cells = np.isin(labels, united).reshape(side // 2, 2, side // 2, 2)
                masks.append(cells.sum((1, 3), dtype=np.uint8) >= 2)
                image_of.append(len(images))
                weights.append(1.0 if source.label_kind == "instance" else 0.8)
                composite.append(source.label_kind == COMPOSITE or len(united) > 1)
            images.append(image)
            coarse.append(np.ascontiguousarray(labels[::2, ::2], np.int32))
            complete.append(source.label_kind == "instance")
        return CropBatch(
            np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2), np.float32),
            np.stack(masks),
            np.array(image_of, np.int64),
            np.array(weights, np.float32),
            np.array(composite, bool),
            np.stack(coarse),
            np.array(complete, bool),
        )

    def _crop(
        self, source: LabelledImage, side: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, list[int]]:
        objects = source.objects
        anchor = objects[rng.choice(len(objects), p=source.object_weights)]
        (sy, sx), (y0, x0) = _place(
            source.labels.shape, anchor, side, rng, native=self._native
        )
        h, w = source.labels.shape
        box = (x0, y0, min(x0 + side / sx, w), min(y0 + side / sy, h))
        image = Image.fromarray(source.image).resize(
            (side, side), Image.Resampling.BILINEAR, box=box
        )
        rows = np.minimum((np.arange(side) + 0.5) / sy + y0, h - 1).astype(int)
        cols = np.minimum((np.arange(side) + 0.5) / sx + x0, w - 1).astype(int)
        labels = source.labels[np.ix_(rows, cols)]
        pixels, labels = augment(np.asarray(image), labels, rng)
        chosen = self._choose(labels, objects, int(anchor[0]), sy * sx, rng)
        return pixels, labels, chosen

    def _choose(
        self,
        labels: np.ndarray,
        objects: np.ndarray,
        anchor: int,
        zoom: float,
        rng: np.random.Generator,
    ) -> list[int]:
        """Ids of objects of which enough is in the crop, the anchor among them."""
        seen = np.bincount(labels.ravel(), minlength=int(objects[:, 0].max()) + 1)
        area = seen[objects[:, 0]]
        enough = (area >= 36) & (area >= 0.3 * zoom * objects[:, 1])
        if seen[anchor] < 36:
            return []
        ids, areas = objects[enough, 0], area[enough]
        rest = areas[ids != anchor]
        ids = ids[ids != anchor]
        n = min(self._objects_per_crop - 1, len(ids))
        more: np.ndarray | tuple[int, ...] = ()
        if n:
            more = rng.choice(ids, n, replace=False, p=balanced_by_size(rest))
        chosen = [anchor, *(int(i) for i in more)]
        while len(chosen) < self._objects_per_crop:
            chosen.append(chosen[rng.integers(len(chosen))])
        return chosen


def _united(labels: np.ndarray, i: int, rng: np.random.Generator) -> list[int]:
    """Id of an object, now and then with those of the objects that it touches."""
    if rng.random() >= UNITED:
        return [i]
    around = ndimage.binary_dilation(labels == i, iterations=2)
    near = np.unique(labels[around])
    return [i, *(int(n) for n in near if n not in (0, i))]


def _place(
    shape: tuple[int, ...],
    anchor: np.ndarray,
    side: int,
    rng: np.random.Generator,
    *,
    native: bool = False,
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Choose (scale y, x) and the crop's origin (y, x) in the image.

    Sizes in the crop should vary from 8 pixels to beyond the window whatever they are
    in the file, but pixels as they come are the commonest case in use, so the zoom
    stays within 0.4 .. 3.
    """
    h, w = shape
    _, _, oy0, ox0, oy1, ox1 = (float(v) for v in anchor)
    extent = max(oy1 - oy0, ox1 - ox0)
    if native:
        scale = np.exp(rng.uniform(np.log(0.85), np.log(1.2)))
    elif rng.random() < 0.4:
        scale = np.exp(rng.uniform(np.log(0.7), np.log(1.6)))
    else:
        wanted = np.exp(rng.uniform(np.log(8.0), np.log(1.3 * side)))
        scale = np.clip(wanted / extent, 0.4, 3.0)
    if extent * scale > 0.9 * side and rng.random() < 0.5:
        scale = rng.uniform(0.6, 0.9) * side / extent
    stretch = np.exp(rng.uniform(-0.2, 0.2)) if rng.random() < 0.4 else 1.0
    # The whole crop has to lie in the image.
    sy, sx = max(scale * stretch, side / h), max(scale / stretch, side / w)
    out = []
    for s, n, low, high in ((sy, h, oy0, oy1), (sx, w, ox0, ox1)):
        size = side / s
        inside = rng.uniform(low, high) if high - low > size else None
        if inside is not None:
            first, last = inside - 0.7 * size, inside - 0.3 * size
        else:
            first, last = high - size, low
        out.append(float(np.clip(rng.uniform(first, last), 0, max(n - size, 0.0))))
    return (sy, sx), (out[0], out[1])
