"""Labels of huge planes as a pyramid, so that drawing reads what the screen shows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sam.core.masks import LabelPatch

WHOLE = 2**26
"""Pixels of a plane up to which a Labels layer draws it whole."""
HELD = 2**24
"""Pixels of a plane up to which a coarser level is held in memory."""


class LabelPyramid:
    """Every 2nd, 4th, 8th ... pixel in y and x of an array of labels.

    Finer levels read the labels when they are looked at; coarser ones are held in
    memory and follow each patch, so that neither costs the size of the image.

    Parameters
    ----------
    labels : array-like, unsigned integers, (..., y, x)
    fill : bool
        Whether the labels hold something already, which is then read a block at a
        time: call this in a worker.

    Examples
    --------
    >>> pyramid = LabelPyramid(np.zeros((8000, 10000), np.uint16))
    >>> [level.shape for level in pyramid.levels]
    [(8000, 10000), (4000, 5000), (2000, 2500), (1000, 1250)]
    """

    def __init__(self, labels: Any, *, fill: bool = False) -> None:
        self.labels = labels
        self.levels: list[Any] = [labels]
        """Finest first: what a multiscale layer takes."""
        self._held: list[tuple[int, np.ndarray]] = []
        step = 1
        while max(labels.shape[-2:]) > 2048 * step:
            step *= 2
            view = EveryNth(labels, step)
            if math.prod(view.shape[-2:]) > HELD:
                self.levels.append(view)
                continue
            level = np.zeros(view.shape, labels.dtype)
            self._held.append((step, level))
            self.levels.append(level)
        if fill:
            self._fill()

    def put(self, patch: LabelPatch) -> None:
        """Follow a patch that has been written into the labels."""
        window = patch.plane.window(patch.bbox)
        after, changed = np.broadcast_to(patch.after, patch.shape), patch.changed
        for step, level in self._held:
            where, what = _thinned(window, _steps(level.ndim, step))
            if where is not None:
                np.copyto(
                    level[where], after[what], where=changed[what], casting="unsafe"
                )

    def _fill(self, rows: int = 1024) -> None:
        for index in np.ndindex(*self.labels.shape[:-2]):
            for y in range(0, self.labels.shape[-2], rows):
                block = np.asarray(self.labels[(*index, slice(y, y + rows))])
                if not block.any():
                    continue
                for step, level in self._held:
                    first = -(-y // step)
                    part = block[first * step - y :: step, ::step]
                    level[(*index, slice(first, first + len(part)))] = part


class EveryNth:
    """Array-like view of every n-th pixel in y and x, read when it is indexed."""

    def __init__(self, base: Any, step: int) -> None:
        self.base = base
        self.step = step
        self.dtype = base.dtype
        self.ndim = base.ndim
        self.shape = tuple(
            -(-n // s) for n, s in zip(base.shape, _steps(base.ndim, step), strict=True)
        )

    @property
    def size(self) -> int:
        """Number of pixels."""
        return math.prod(self.shape)

    def __getitem__(self, key: Any) -> np.ndarray:
        keys = key if isinstance(key, tuple) else (key,)
        keys = (*keys, *(slice(None),) * (self.ndim - len(keys)))
        spread = []
        steps = _steps(self.ndim, self.step)
        for k, n, s in zip(keys, self.shape, steps, strict=True):
            if isinstance(k, slice):
                start, stop, step = k.indices(n)
                end = (stop - 1) * s + 1 if stop > start else start * s
                spread.append(slice(start * s, end, step * s))
            else:
                spread.append(int(k) % n * s)
        return np.asarray(self.base[tuple(spread)])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[...] if self.ndim == 0 else self[()], dtype)


def is_huge(shape: Sequence[int]) -> bool:
    """Whether a plane of labels is too large to be drawn whole."""
    return math.prod(shape[-2:]) > WHOLE


def _steps(ndim: int, step: int) -> tuple[int, ...]:
    return (1,) * (ndim - 2) + (step, step)


def _thinned(
    window: Sequence[int | slice], steps: Sequence[int]
) -> tuple[tuple[Any, ...] | None, tuple[slice, ...]]:
    """Where a window lies on a coarser level, and which of its pixels stay."""
    where: list[int | slice] = []
    what: list[slice] = []
    for w, s in zip(window, steps, strict=True):
        if not isinstance(w, slice):
            if w % s:
                return None, ()
            where.append(w // s)
            continue
        first, stop = -(-w.start // s), -(-w.stop // s)
        if stop <= first:
            return None, ()
        where.append(slice(first, stop))
        what.append(slice(first * s - w.start, None, s))
    return tuple(where), tuple(what)
