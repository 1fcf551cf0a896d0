"""Images made from rules: closed regions of shapes that real data has too few of.

Families: loose shapes with their own textures, cells that touch (Voronoi, with or
without membranes), nested organs, shapes that are hollow, thin or bent, clusters of
touching equals, large grains of which each holds many small dots (as a gland holds
nuclei), and collages: parts of real images pasted on another one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from scipy import ndimage

from tools.nano.augment import smooth_field
from tools.nano.data import LabelledImage
from tools.nano.shapes import odd_shapes, touching_equals

if TYPE_CHECKING:
    from collections.abc import Sequence

SIDE = 320


def procedural_images(
    n: int, seed: int = 0, *, real: Sequence[LabelledImage] = ()
) -> list[LabelledImage]:
    """Make n images with instance labels; the same ones for the same seed.

    Parameters
    ----------
    n : int
    seed : int
    real : sequence of LabelledImage
        Images whose parts every fourth is pasted from; plain shapes without any.
    """
    families = (
        *(_shapes, _cells, _organs, _odd, _grains, _touching, _odd),
        *(_shapes, _cells, _organs, _odd, _large),
    )
    out = []
    for i in range(n):
        rng = np.random.default_rng([seed, i])
        family = families[i % len(families)]
        labels = family(rng)
        if family is _grains:
            image = _paint(_with_dots(labels, rng), rng)
        elif real and i % 4 == 3:
            image = _collage(labels, real, rng)
        else:
            image = _paint(labels, rng)
        made = LabelledImage("procedural", f"{i:05d}", image, labels)
        if len(made.objects):
            out.append(made)
    return out


def _grid() -> tuple[np.ndarray, np.ndarray]:
    ys, xs = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    return ys, xs


def _blob(rng: np.random.Generator, centre: np.ndarray, r: float) -> np.ndarray:
    """Closed outline r(angle): an ellipse with a few random waves, or a polygon."""
    ys, xs = _grid()
    turn, flat = rng.uniform(0, np.pi), rng.uniform(0.35, 1.0)
    dy, dx = ys - float(centre[0]), xs - float(centre[1])
    u = dy * np.cos(turn) + dx * np.sin(turn)
    v = (dx * np.cos(turn) - dy * np.sin(turn)) / flat
    angle, radius = np.arctan2(v, u), np.hypot(u, v)
    edge = np.ones_like(angle)
    kind = rng.random()
    if kind < 0.55:
        for k in range(2, 6):
            edge += rng.normal(0, 0.28 / k) * np.cos(k * angle + rng.uniform(0, 6.3))
    elif kind < 0.7:
        sides = int(rng.integers(3, 7))
        step = 2 * np.pi / sides
        edge = np.cos(step / 2) / np.cos((angle % step) - step / 2)
    return np.asarray(radius < r * np.maximum(edge, 0.15))


def _odd(rng: np.random.Generator) -> np.ndarray:
    return _largest_parts(odd_shapes(rng, SIDE))


def _touching(rng: np.random.Generator) -> np.ndarray:
    return _largest_parts(touching_equals(rng, SIDE))


def _large(rng: np.random.Generator) -> np.ndarray:
    return _shapes(rng, 25, 100)


def _grains(rng: np.random.Generator) -> np.ndarray:
    return _shapes(rng, 30, 90)


def _with_dots(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Regions to paint: dots in and between objects, in other numbers and shades."""
    ys, xs = _grid()
    out = labels.copy()
    n, r = int(labels.max()), rng.uniform(2.0, 6.0)
    crowded = rng.permutation([rng.uniform(0.25, 0.5), rng.uniform(0.0, 0.12)])
    for share, of in zip(crowded, (labels > 0, labels == 0), strict=True):
        for y, x in rng.uniform(0, SIDE, (int(share * SIDE**2 / (np.pi * r**2)), 2)):
            y0, x0 = max(int(y - r), 0), max(int(x - r), 0)
            at = np.s_[y0 : int(y + r) + 2, x0 : int(x + r) + 2]
            dot = (ys[at] - y) ** 2 + (xs[at] - x) ** 2 < r * r * rng.uniform(0.5, 1)
            out[at][dot & of[at]] = n + 1
    return out


def _collage(
    labels: np.ndarray, real: Sequence[LabelledImage], rng: np.random.Generator
) -> np.ndarray:
    """Fill background and objects from parts of two or three images, edges softened."""
    parts = [_part(real[int(rng.integers(len(real)))].image, rng) for _ in range(3)]
    which = rng.integers(1, 3, int(labels.max()) + 1) if rng.random() < 0.3 else None
    chosen = (labels > 0).astype(int) if which is None else which[labels] * (labels > 0)
    x = np.zeros_like(parts[0])
    sigma = rng.uniform(0.4, 1.5)
    for i, part in enumerate(parts):
        weight = ndimage.gaussian_filter((chosen == i).astype(np.float32), sigma)
        x += weight[..., None] * part
    if rng.random() < 0.3:
        rim = ndimage.morphological_gradient(labels, size=3) > 0
        x[rim] = x[rim] * 0.5 + 127 * rng.uniform(0, 1)
    return np.asarray(np.round(np.clip(x, 0, 255)), np.uint8)


def _part(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Any square of an image, enlarged or reduced; (s, s, 3) float32, 0..255."""
    h, w = image.shape[:2]
    side = min(int(SIDE * np.exp(rng.uniform(-0.7, 0.5))), h, w)
    y, x = rng.integers(0, h - side + 1), rng.integers(0, w - side + 1)
    square = Image.fromarray(image).crop((x, y, x + side, y + side)).convert("RGB")
    return np.asarray(square.resize((SIDE, SIDE)), np.float32)


def _shapes(
    rng: np.random.Generator, smallest: float = 6, largest: float = 80
) -> np.ndarray:
    labels = np.zeros((SIDE, SIDE), np.int32)
    typical = np.exp(rng.uniform(np.log(smallest), np.log(largest)))
    n = int(np.clip(rng.uniform(0.1, 0.6) * SIDE**2 / (4 * typical**2), 2, 60))
    for i in range(1, n + 1):
        r = typical * np.exp(rng.normal(0, 0.35))
        labels[_blob(rng, rng.uniform(0, SIDE, 2), r)] = i
    return _largest_parts(labels)


def _cells(rng: np.random.Generator) -> np.ndarray:
    n = int(np.exp(rng.uniform(np.log(8), np.log(220))))
    seeds = np.zeros((SIDE, SIDE), np.int32)
    at = rng.integers(0, SIDE, (n, 2))
    seeds[at[:, 0], at[:, 1]] = np.arange(1, n + 1)
    squash = np.exp(rng.uniform(-0.5, 0.5))
    d, (iy, ix) = ndimage.distance_transform_edt(
        seeds == 0, sampling=(1.0, squash), return_indices=True
    )
    bend = [smooth_field(SIDE, rng, low=-6, high=6, cells=24) for _ in range(2)]
    ys, xs = (
        np.clip(g + b, 0, SIDE - 1).astype(int)
        for g, b in zip(_grid(), bend, strict=True)
    )
    labels = seeds[iy, ix][ys, xs]
    if rng.random() < 0.5:
        labels[ndimage.morphological_gradient(labels, size=3) > 0] = 0
    if rng.random() < 0.5:
        labels[d > rng.uniform(0.5, 1.2) * SIDE / n**0.5] = 0
    return _largest_parts(labels)


def _organs(rng: np.random.Generator) -> np.ndarray:
    labels = np.zeros((SIDE, SIDE), np.int32)
    centre = rng.uniform(0.4, 0.6, 2) * SIDE
    body = _blob(rng, centre, rng.uniform(0.35, 0.5) * SIDE)
    labels[body] = 1
    for i in range(2, int(rng.integers(5, 14))):
        r = np.exp(rng.uniform(np.log(6), np.log(70)))
        part = _blob(rng, centre + rng.normal(0, 0.2 * SIDE, 2), r) & body
        labels[part] = i
        if rng.random() < 0.25:
            labels[ndimage.binary_erosion(part, iterations=int(rng.integers(2, 8)))] = (
                i + 20
            )
    return _largest_parts(labels)


def _largest_parts(labels: np.ndarray) -> np.ndarray:
    """Keep of every id its largest connected part, numbered from 1."""
    out, n = np.zeros_like(labels), 0
    for i, where in enumerate(ndimage.find_objects(labels), 1):
        if where is None:
            continue
        parts, _ = ndimage.label(labels[where] == i)
        n += 1
        sizes = np.bincount(parts.ravel())[1:]
        out[where][parts == 1 + int(sizes.argmax())] = n
    return out


def _paint(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Give regions intensities and textures; (s, s) or (s, s, 3) uint8."""
    n = int(labels.max()) + 1
    channels = 3 if rng.random() < 0.35 else 1
    alike = rng.random()
    base = rng.uniform(0.1, 0.9, (1, channels))
    contrast = rng.uniform(0.08, 0.5) * rng.choice((-1, 1), (1, channels))
    values = (
        base + contrast + rng.normal(0, 0.25 if alike < 0.4 else 0.06, (n, channels))
    )
    values[0] = base
    x = values[labels].astype(np.float32)  # (s, s, c)
    grains = [_texture(rng) for _ in range(3)]
    which, amount = rng.integers(0, 3, n), rng.uniform(0, 0.2, n)
    if alike < 0.6:
        which[1:], amount[1:] = which[-1], amount[-1]
    grain = np.choose(which[labels], grains) * amount[labels]
    x += grain[..., None].astype(np.float32)
    if rng.random() < 0.4:
        rim = ndimage.morphological_gradient(labels, size=int(rng.integers(2, 5))) > 0
        x[rim] = x[rim] * 0.3 + 0.7 * rng.uniform(0, 1, channels)
    if rng.random() < 0.3:
        depth = np.minimum(ndimage.distance_transform_edt(labels > 0), 12) / 12
        x += (rng.uniform(-0.3, 0.3) * depth)[..., None].astype(np.float32)
    x *= smooth_field(SIDE, rng, low=rng.uniform(0.6, 1), high=1.1)[..., None]
    sigma = rng.uniform(0.3, 2.0)
    x = ndimage.gaussian_filter(x, (sigma, sigma, 0), truncate=2.5)
    x += rng.standard_normal(x.shape, np.float32) * rng.uniform(0.0, 0.08)
    pixels = np.round(np.clip(x, 0, 1) * 255).astype(np.uint8)
    return np.asarray(pixels[..., 0] if channels == 1 else pixels)


def _texture(rng: np.random.Generator) -> np.ndarray:
    """(s, s) of deviation about 1: blurred noise, or stripes."""
    if rng.random() < 0.25:
        ys, xs = _grid()
        turn, period = rng.uniform(0, np.pi), rng.uniform(4, 24)
        wave = np.sin((ys * np.cos(turn) + xs * np.sin(turn)) * 2 * np.pi / period)
        return np.asarray(wave * 1.4)
    sigma = np.exp(rng.uniform(np.log(0.6), np.log(8)))
    grain = ndimage.gaussian_filter(
        rng.standard_normal((SIDE, SIDE), np.float32), sigma
    )
    return np.asarray(grain / grain.std())
