"""Shapes that labelled data lacks: whoever has seen none fills them.

Rings, crescents, strips, branching tubes, brackets (L and U), and clusters of touching
equals; a box around most of these holds more background than object.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Callable


def odd_shapes(rng: np.random.Generator, side: int) -> np.ndarray:
    """Lay a few shapes of one kind on a square; later ones hide earlier ones.

    Returns
    -------
    (side, side) int32 labels, 0 = background.
    """
    kind = KINDS[int(rng.integers(len(KINDS)))]
    labels = np.zeros((side, side), np.int32)
    radius = np.exp(rng.uniform(np.log(8.0), np.log(side / 2.5)))
    n = int(np.clip(0.25 * side**2 / (4 * radius**2), 1, 14))
    for i in range(1, n + 1):
        r = radius * np.exp(rng.normal(0, 0.25))
        labels[kind(rng, side, rng.uniform(0.1, 0.9, 2) * side, r)] = i
    return labels


def touching_equals(rng: np.random.Generator, side: int) -> np.ndarray:
    """Clusters of discs and ovals of one size, cut where they meet; int32 labels."""
    ys, xs = np.mgrid[:side, :side].astype(np.float32)
    r = np.exp(rng.uniform(np.log(5.0), np.log(30.0)))
    flat, best = rng.uniform(0.6, 1.0), np.full((side, side), 1.0, np.float32)
    labels = np.zeros((side, side), np.int32)
    n = 0
    for _ in range(int(rng.integers(2, 7))):
        y, x = rng.uniform(0.1, 0.9, 2) * side
        for _ in range(int(rng.integers(2, 9))):
            turn = rng.uniform(0, np.pi)
            u = (ys - y) * np.cos(turn) + (xs - x) * np.sin(turn)
            v = ((xs - x) * np.cos(turn) - (ys - y) * np.sin(turn)) / flat
            far = np.hypot(u, v) / r
            n += 1
            nearer = far < best
            labels[nearer], best[nearer] = n, far[nearer]
            step = rng.uniform(0, 2 * np.pi)
            y += 1.7 * r * np.sin(step)
            x += 1.7 * r * np.cos(step)
    return labels


def _ring(rng: np.random.Generator, side: int, at: np.ndarray, r: float) -> np.ndarray:
    far = _distance(rng, side, at)
    return np.asarray((far < r) & (far > r * rng.uniform(0.5, 0.85)))


def _crescent(
    rng: np.random.Generator, side: int, at: np.ndarray, r: float
) -> np.ndarray:
    turn = rng.uniform(0, 2 * np.pi)
    off = r * rng.uniform(0.3, 0.7) * np.array([np.sin(turn), np.cos(turn)])
    ys, xs = np.mgrid[:side, :side].astype(np.float32)
    inner = np.hypot(ys - at[0] - off[0], xs - at[1] - off[1]) < r * 0.9
    return np.asarray((np.hypot(ys - at[0], xs - at[1]) < r) & ~inner)


def _strip(rng: np.random.Generator, side: int, at: np.ndarray, r: float) -> np.ndarray:
    return _thick(_walk(rng, at, 2.5 * r, rng.uniform(0, 6.3)), side, _width(rng, r))


def _tree(rng: np.random.Generator, side: int, at: np.ndarray, r: float) -> np.ndarray:
    heading, width = rng.uniform(0, 6.3), _width(rng, r)
    stem = _walk(rng, at, 2 * r, heading)
    found = _thick(stem, side, width)
    for _ in range(int(rng.integers(1, 5))):
        start = stem[int(rng.integers(len(stem) // 4, len(stem)))]
        turned = heading + rng.choice((-1, 1)) * rng.uniform(0.5, 1.4)
        branch = _walk(rng, start, r * rng.uniform(0.6, 1.5), turned)
        found |= _thick(branch, side, max(1.0, width * 0.75))
    return found


def _bracket(
    rng: np.random.Generator, side: int, at: np.ndarray, r: float
) -> np.ndarray:
    heading = rng.uniform(0, 6.3)
    corners = [at]
    for _ in range(int(rng.integers(2, 4))):
        last, length = corners[-1], r * rng.uniform(0.7, 1.5)
        corners.append(last + length * np.array([np.sin(heading), np.cos(heading)]))
        heading += np.pi / 2
    steps = np.linspace(0, 1, 200)[:, None]
    lines = [a + steps * (b - a) for a, b in itertools.pairwise(corners)]
    return _thick(np.concatenate(lines), side, _width(rng, r))


KINDS: tuple[
    Callable[[np.random.Generator, int, np.ndarray, float], np.ndarray], ...
] = (_ring, _crescent, _strip, _tree, _bracket)
"""Kinds of odd shapes: (rng, side, centre, size in pixels) -> mask."""


def _distance(rng: np.random.Generator, side: int, at: np.ndarray) -> np.ndarray:
    """Distance from a centre, in an oval and slightly waving measure."""
    ys, xs = np.mgrid[:side, :side].astype(np.float32)
    turn, flat = rng.uniform(0, np.pi), rng.uniform(0.6, 1.0)
    u = (ys - at[0]) * np.cos(turn) + (xs - at[1]) * np.sin(turn)
    v = ((xs - at[1]) * np.cos(turn) - (ys - at[0]) * np.sin(turn)) / flat
    wave = 1 + 0.06 * np.cos(3 * np.arctan2(v, u) + rng.uniform(0, 6.3))
    return np.asarray(np.hypot(u, v) * wave)


def _width(rng: np.random.Generator, r: float) -> float:
    return float(max(1.2, r * rng.uniform(0.06, 0.3)))


def _walk(
    rng: np.random.Generator, start: np.ndarray, length: float, heading: float
) -> np.ndarray:
    """A line that bends slowly, (n, 2), half a pixel a step."""
    n = max(int(2 * length), 8)
    arc = rng.normal(0, 1.5) * np.arange(n) / n
    turn = heading + arc + np.cumsum(rng.normal(0, 0.6 / n**0.5, n))
    steps = np.stack([np.sin(turn), np.cos(turn)], 1) / 2
    return np.asarray(start + np.cumsum(steps, 0))


def _thick(line: np.ndarray, side: int, width: float) -> np.ndarray:
    """Everything within `width` pixels of a line."""
    at = np.round(line).astype(int)
    at = at[((at >= 0) & (at < side)).all(1)]
    free = np.ones((side, side), bool)
    free[at[:, 0], at[:, 1]] = False
    if free.all():
        return ~free
    return np.asarray(ndimage.distance_transform_edt(free) <= width)
