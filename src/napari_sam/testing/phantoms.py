"""Phantoms: images whose objects are known, drawn without any data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class Phantom:
    """An image and the objects in it."""

    image: np.ndarray
    """Grey values, uint8 or as asked for, of the shape asked for."""
    labels: np.ndarray
    """Same shape, uint16: 0 = background, 1 ... n = objects."""

    @property
    def n_objects(self) -> int:
        """How many objects there are."""
        return int(self.labels.max())

    def center(self, object_id: int) -> tuple[int, ...]:
        """Index of the object's pixel nearest to its centre of mass."""
        pixels = np.argwhere(self.labels == object_id)
        nearest = ((pixels - pixels.mean(0)) ** 2).sum(1).argmin()
        return tuple(int(v) for v in pixels[nearest])

    def box(self, object_id: int) -> tuple[int, ...]:
        """Half-open bounds: (y0, x0, y1, x1), or (z0, y0, x0, z1, y1, x1)."""
        pixels = np.argwhere(self.labels == object_id)
        low, high = pixels.min(0), pixels.max(0) + 1
        return tuple(int(v) for v in (*low, *high))


def phantom_image(
    shape: tuple[int, int] = (256, 256),
    *,
    n_objects: int = 6,
    noise: float = 2.0,
    seed: int = 0,
    dtype: str = "uint8",
) -> Phantom:
    """Bright ellipses on a dark ground, one in each cell of a grid.

    Parameters
    ----------
    shape : tuple of int
        (height, width) in pixels, 16 or more on both axes.
    n_objects : int
        Ellipses; each has its own grey level between 120 and 230 of 255.
    noise : float
        Standard deviation of the noise, in grey levels of 255; clipped at 3 of them.
    seed : int
        The same seed gives the same phantom.
    dtype : str
        "uint8", or an integer or float type to hold the same numbers.

    Examples
    --------
    >>> phantom = phantom_image((64, 96), n_objects=2)
    >>> phantom.n_objects, phantom.image.shape
    (2, (64, 96))
    """
    return _phantom(shape, n_objects, noise, seed, dtype)


def phantom_volume(
    shape: tuple[int, int, int] = (16, 96, 96),
    *,
    n_objects: int = 3,
    noise: float = 2.0,
    seed: int = 0,
    dtype: str = "uint8",
) -> Phantom:
    """Bright ellipsoids on a dark ground: `phantom_image` in three dimensions.

    Parameters are those of `phantom_image`; `shape` is (z, y, x) with 6 planes or
    more. Every object covers the middle plane.
    """
    return _phantom(shape, n_objects, noise, seed, dtype)


def _phantom(
    shape: tuple[int, ...], n_objects: int, noise: float, seed: int, dtype: str
) -> Phantom:
    if min(shape[-2:]) < 16 or shape[0] < 6 or not 0 <= n_objects <= 200:
        raise ValueError(
            "a phantom needs 16 pixels or more in y and x, 6 planes or more and at "
            f"most 200 objects; got shape {shape} and {n_objects} objects"
        )
    rng = np.random.default_rng(seed)
    image = np.full(shape, 30.0, np.float32)
    labels = np.zeros(shape, np.uint16)
    rows = max(1, round((n_objects * shape[-2] / shape[-1]) ** 0.5))
    cols = -(-n_objects // rows)
    cell = np.array([shape[-2] / rows, shape[-1] / max(cols, 1)])
    for i in range(n_objects):
        corner = np.array(divmod(i, cols)) * cell
        center = corner + cell * rng.uniform(0.45, 0.55, 2)
        radius = cell * rng.uniform(0.25, 0.38, 2)
        if len(shape) == 3:
            center = np.array([(shape[0] - 1) / 2, *center])
            radius = np.array([shape[0] * rng.uniform(0.25, 0.45), *radius])
        level = 120.0 + 110.0 * (i * 0.618 % 1.0)
        _draw(image, labels, center, radius, level, i + 1)
    image += np.clip(rng.normal(0.0, 1.0, shape), -3, 3).astype(np.float32) * noise
    return Phantom(np.clip(np.rint(image), 0, 255).astype(dtype), labels)


def _draw(
    image: np.ndarray,
    labels: np.ndarray,
    center: np.ndarray,
    radius: np.ndarray,
    level: float,
    object_id: int,
) -> None:
    low = np.maximum(np.floor(center - radius), 0).astype(int)
    high = np.minimum(np.ceil(center + radius) + 1, image.shape).astype(int)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    grid = np.ogrid[box]
    axes = zip(grid, center, radius, strict=True)
    inside = sum(((g - c) / r) ** 2 for g, c, r in axes) <= 1
    image[box][inside] = level
    labels[box][inside] = object_id
