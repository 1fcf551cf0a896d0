"""Array-likes that read only what is indexed, and views that reorder them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


class Array(Protocol):
    """What a pyramid level must offer: numpy's basic indexing, lazily or not."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        ...

    @property
    def dtype(self) -> Any:
        """Type of the values."""
        ...

    @property
    def ndim(self) -> int:
        """Number of axes."""
        ...

    def __getitem__(self, key: Any) -> Any: ...


class LazyArray:
    """Base of arrays that read on indexing with integers, slices and ``...``.

    A subclass sets `shape` and `dtype` and implements `read`.
    """

    def __init__(self, shape: Sequence[int], dtype: Any) -> None:
        self.shape = tuple(int(n) for n in shape)
        self.dtype = np.dtype(dtype)

    def read(self, spans: tuple[slice, ...]) -> np.ndarray:
        """Read a block: one slice with start, stop and a positive step per axis."""
        raise NotImplementedError

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        size: int = math.prod(self.shape)
        return size

    @property
    def nbytes(self) -> int:
        """Bytes that all values would take in memory."""
        return self.size * int(self.dtype.itemsize)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        spans, after = split_index(key, self.shape)
        return np.asarray(self.read(spans)[after])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        out = self[...]
        return out if dtype is None else out.astype(dtype, copy=bool(copy))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.shape} {self.dtype}>"


class AxisView(LazyArray):
    """Another array with its axes reordered and one axis cut to chosen indices.

    Parameters
    ----------
    base : array-like
        Read with basic indexing only.
    order : sequence of int
        Axes of `base` in the order of the view; an axis left out must be `pick_axis`
        with one index, and disappears.
    pick_axis, picks : int and sequence of int, optional
        Axis of `base` and the indices kept of it.
    """

    def __init__(
        self,
        base: Array,
        order: Sequence[int],
        pick_axis: int | None = None,
        picks: Sequence[int] | None = None,
    ) -> None:
        self.base, self.order = base, tuple(order)
        self.pick_axis = pick_axis
        self.picks = None if picks is None else tuple(picks)
        sizes = list(base.shape)
        if pick_axis is not None and self.picks is not None:
            sizes[pick_axis] = len(self.picks)
        super().__init__([sizes[a] for a in self.order], base.dtype)
        chunks = getattr(base, "chunks", None)
        if chunks and all(isinstance(c, int) for c in chunks):
            self.chunks = tuple(min(chunks[a], sizes[a]) for a in self.order)

    def read(self, spans: tuple[slice, ...]) -> np.ndarray:
        """Read a block of the view."""
        index: list[Any] = [slice(0, n) for n in self.base.shape]
        for axis, span in zip(self.order, spans, strict=True):
            index[axis] = span
        if self.pick_axis is None or self.picks is None:
            return np.asarray(self.base[tuple(index)]).transpose(self.order)
        if self.pick_axis not in self.order:
            index[self.pick_axis] = self.picks[0]
            out = np.asarray(self.base[tuple(index)])
            return out.transpose([a - (a > self.pick_axis) for a in self.order])
        parts = []
        for pick in self.picks[index[self.pick_axis]]:
            index[self.pick_axis] = slice(pick, pick + 1)
            parts.append(np.asarray(self.base[tuple(index)]))
        if not parts:
            index[self.pick_axis] = slice(0, 0)
            parts.append(np.asarray(self.base[tuple(index)]))
        return np.concatenate(parts, self.pick_axis).transpose(self.order)


class FlippedView(LazyArray):
    """Another array with some axes running backwards.

    Parameters
    ----------
    base : array-like
        Read with basic indexing only.
    axes : sequence of int
        Axes that are flipped.
    """

    def __init__(self, base: Array, axes: Sequence[int]) -> None:
        super().__init__(base.shape, base.dtype)
        self.base, self.axes = base, tuple(axes)
        chunks = getattr(base, "chunks", None)
        if chunks and all(isinstance(c, int) for c in chunks):
            self.chunks = tuple(chunks)

    def read(self, spans: tuple[slice, ...]) -> np.ndarray:
        """Read a block of the view."""
        index = list(spans)
        for a in self.axes:
            taken = range(*spans[a].indices(self.shape[a]))
            last = self.shape[a] - 1
            if len(taken):
                low, high = last - taken[-1], last - taken[0]
                index[a] = slice(low, high + 1, taken.step)
        return np.flip(np.asarray(self.base[tuple(index)]), self.axes)


def split_index(
    key: Any, shape: Sequence[int]
) -> tuple[tuple[slice, ...], tuple[int | slice, ...]]:
    """Split a basic index into a block to read and an index into that block.

    Examples
    --------
    >>> split_index((-1, slice(2, 4)), (5, 9))
    ((slice(4, 5, 1), slice(2, 4, 1)), (0, slice(None, None, None)))
    """
    spans: list[slice] = []
    after: list[int | slice] = []
    for item, n in zip(_expand(key, len(shape)), shape, strict=True):
        if isinstance(item, slice):
            start, stop, step = item.indices(n)
            if step > 0:
                spans.append(slice(start, max(start, stop), step))
                after.append(slice(None))
            else:
                count = len(range(start, stop, step))
                low = start + (count - 1) * step if count else 0
                spans.append(slice(low, start + 1 if count else 0, -step))
                after.append(slice(None, None, -1))
            continue
        i = int(item)
        if not -n <= i < n:
            raise IndexError(f"index {i} is out of bounds for an axis of size {n}")
        spans.append(slice(i % n, i % n + 1, 1))
        after.append(0)
    return tuple(spans), tuple(after)


def _expand(key: Any, ndim: int) -> tuple[Any, ...]:
    items = key if isinstance(key, tuple) else (key,)
    for item in items:
        if not (item is Ellipsis or isinstance(item, (int, np.integer, slice))):
            raise IndexError(
                "this array reads lazily and takes integers, slices and ... only; got "
                f"{type(item).__name__}. Convert it with np.asarray first."
            )
    if not any(item is Ellipsis for item in items):
        items = (*items, Ellipsis)
    at = next(i for i, item in enumerate(items) if item is Ellipsis)
    rest = items[at + 1 :]
    missing = ndim - at - len(rest)
    if missing < 0:
        raise IndexError(f"too many indices: {len(items) - 1} for {ndim} axes")
    return (*items[:at], *[slice(None)] * missing, *rest)
