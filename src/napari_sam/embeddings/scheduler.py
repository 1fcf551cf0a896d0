"""Which tiles to encode next: what the view shows, its plane, neighbouring planes."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.planes import Plane, count_planes, plane_at
from napari_sam.embeddings.source import grid_for, levels_of
from napari_sam.embeddings.tile_batches import TASK_TILES, Region, tile_numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from napari_sam.core.tiles import Box, TileGrid
    from napari_sam.models.protocol import PromptableModel
    from napari_sam.volume.volume import Volume

_RECENT = 16
"""Steps over which `Pace` averages."""


@dataclass(frozen=True, slots=True)
class Viewport:
    """What somebody looks at."""

    plane: Plane
    box: Box | None = None
    """Half-open box of the plane in level-0 pixels; None for all of it."""
    level: int = 0
    """Pyramid level at which one pixel is about one pixel of the screen."""


class EncodingQueue:
    """Tiles of a volume that are still to be encoded, in the order they are wanted.

    First comes what the view shows at its own level, from the middle outwards; then
    the same place on coarser and on finer levels; then the rest of the plane; then the
    neighbouring planes, each in that order. `look` moves the view at any moment, from
    any thread, and what comes next follows it. Nothing is as large as the volume: the
    order is worked out plane by plane as it is asked for.

    Parameters
    ----------
    shape : sequence of int
        Spatial shape of the volume.
    grid : TileGrid
        Of the planes on `axis`.
    present : callable
        Gives the numbers of the tiles that are there already on a plane, by the
        plane's linear index; asked once for each plane, by whoever calls `take`.
    view : Viewport
    axis : int
        Sliced axis among the last three.
    levels : iterable of int, optional
        Pyramid levels; all when left out.
    everything : bool
        False: only what the view shows at its own level.

    Examples
    --------
    >>> from napari_sam.core.tiles import TileGrid
    >>> grid = TileGrid((100, 100), 64, 16, n_levels=2)
    >>> view = Viewport(Plane(()), box=(60, 60, 100, 100))
    >>> queue = EncodingQueue((100, 100), grid, lambda plane: (), view)
    >>> [queue.take().numbers for _ in range(5)]
    [(3,), (4,), (1,), (2,), (0,)]
    >>> queue.take() is None
    True
    """

    def __init__(
        self,
        shape: Sequence[int],
        grid: TileGrid,
        present: Callable[[int], Iterable[int]],
        view: Viewport,
        *,
        axis: int = 0,
        levels: Iterable[int] | None = None,
        everything: bool = True,
    ) -> None:
        self.shape = tuple(shape)
        self.grid = grid
        self.axis = axis
        self.levels = tuple(levels_of(grid, levels))
        self.n_planes = count_planes(self.shape, axis)
        self._present = present
        self._wish = (view, everything)
        """Replaced as a whole, so that `look` never waits for who takes tiles."""
        self._lock = threading.RLock()
        self._there: dict[int, np.ndarray] = {}
        """Flags of the tiles of each plane that is neither untouched nor whole."""
        self._whole: set[int] = set()
        self._order: Iterator[tuple[int, int]] | None = None
        self._ordered: tuple[Viewport, bool] | None = None
        """The wish that `_order` is for."""

    @classmethod
    def of(
        cls,
        volume: Volume,
        model: PromptableModel,
        present: Callable[[int], Iterable[int]],
        view: Viewport,
        **options: Any,
    ) -> EncodingQueue:
        """Make the queue of a volume and model; options as above."""
        axis = view.plane.axis
        grid = grid_for(volume, model, axis)
        return cls(volume.shape, grid, present, view, axis=axis, **options)

    @property
    def view(self) -> Viewport:
        """What is looked at now."""
        return self._wish[0]

    def look(self, view: Viewport) -> None:
        """Go on with what is looked at now; nothing under way is stopped."""
        if view.plane.axis != self.axis and view.plane.index:
            raise ValueError(
                f"this queue is of axis {self.axis}; got a view along "
                f"{view.plane.axis}: make another queue"
            )
        self._wish = (view, self._wish[1])

    @property
    def everything(self) -> bool:
        """Whether it goes on beyond what the view shows."""
        return self._wish[1]

    @everything.setter
    def everything(self, everything: bool) -> None:
        self._wish = (self._wish[0], everything)

    def take(self, n: int = 1) -> Region | None:
        """Take up to `n` tiles of one plane and level; None when none is wanted.

        Whoever takes a tile encodes it, or hands it back with `give_back`.
        """
        with self._lock:
            first = self._next()
            if first is None:
                return None
            linear, number = first
            numbers = [number]
            level = self._level_of(number)
            while len(numbers) < n and (more := self._next()) is not None:
                if more[0] != linear or self._level_of(more[1]) != level:
                    self._unmark(*more)
                    self._order = None
                    break
                numbers.append(more[1])
            return Region(plane_at(self.shape, linear, self.axis), tuple(numbers))

    def give_back(self, region: Region) -> None:
        """Hand back tiles that were taken and not encoded."""
        with self._lock:
            for number in region.numbers:
                self._unmark(region.plane.linear(self.shape), number)
            self._order = None

    def take_each(self, n: int = TASK_TILES) -> Generator[Region]:
        """Take region after region until none is wanted, in the order of the moment.

        Asking for the next one says that the one before is done, or in good hands. A
        generator that is closed before gives it back.
        """
        while (region := self.take(n)) is not None:
            try:
                yield region
            except GeneratorExit:
                self.give_back(region)
                raise

    @property
    def total(self) -> int:
        """Tiles wanted on all planes, or in view where only that is wanted."""
        view, everything = self._wish
        if not everything:
            return len(self._in_view(view, self._view_level(view)))
        return self.n_planes * sum(self.grid.n_tiles(n) for n in self.levels)

    def count(self) -> tuple[int, int]:
        """(tiles there or taken, tiles wanted); asks for each plane not known yet."""
        with self._lock:
            view, everything = self._wish
            if not everything:
                linear = view.plane.linear(self.shape)
                wanted = self._in_view(view, self._view_level(view))
                return int(self._flags(linear)[wanted].sum()), len(wanted)
            wanted = self._all_numbers()
            done = 0
            for linear in range(self.n_planes):
                if linear in self._whole:
                    done += len(wanted)
                else:
                    done += int(self._flags(linear)[wanted].sum())
                    self._forget_if_whole(linear)
            return done, self.n_planes * len(wanted)

    # -- the order -------------------------------------------------------------------

    def _next(self) -> tuple[int, int] | None:
        if self._order is None or self._ordered != self._wish:
            self._ordered = self._wish
            self._order = self._wanted(*self._ordered)
        for linear, number in self._order:
            flags = self._flags(linear)
            if not flags[number]:
                flags[number] = True
                return linear, number
        return None

    def _wanted(self, view: Viewport, everything: bool) -> Iterator[tuple[int, int]]:
        start = view.plane.linear(self.shape)
        if not everything:
            yield from self._missing(start, self._in_view(view, self._view_level(view)))
            return
        for linear in sorted(range(self.n_planes), key=lambda i: abs(i - start)):
            if linear in self._whole:
                continue
            for numbers in self._plane_order(view):
                yield from self._missing(linear, numbers)
            self._forget_if_whole(linear)

    def _missing(self, linear: int, numbers: np.ndarray) -> Iterator[tuple[int, int]]:
        left = numbers[~self._flags(linear)[numbers]]
        return ((linear, int(n)) for n in left)

    def _plane_order(self, view: Viewport) -> Iterator[np.ndarray]:
        """Numbers of a plane's tiles: in view level by level, then all the others."""
        own = self._view_level(view)
        coarser = [n for n in self.levels if n > own]
        finer = [n for n in reversed(self.levels) if n < own]
        for level in (own, *coarser, *finer):
            yield self._in_view(view, level)
        for level in (own, *coarser, *finer):
            yield _by_distance(self.grid, level, self._middle(view))

    def _view_level(self, view: Viewport) -> int:
        """The wanted level that is nearest to the view's own."""
        return min(self.levels, key=lambda n: (abs(n - view.level), n))

    def _in_view(self, view: Viewport, level: int) -> np.ndarray:
        return _by_distance(self.grid, level, self._middle(view), view.box)

    def _middle(self, view: Viewport) -> tuple[float, float]:
        h, w = self.grid.shape
        y0, x0, y1, x1 = view.box or (0.0, 0.0, float(h), float(w))
        return (y0 + y1) / 2, (x0 + x1) / 2

    # -- what is there ---------------------------------------------------------------

    def _flags(self, linear: int) -> np.ndarray:
        """(tiles,) bool: there or taken."""
        if linear in self._whole:
            return np.ones(self.grid.n_tiles(), bool)
        if linear not in self._there:
            flags = np.zeros(self.grid.n_tiles(), bool)
            flags[list(self._present(linear))] = True
            self._there[linear] = flags
        return self._there[linear]

    def _forget_if_whole(self, linear: int) -> None:
        """Keep no flags of planes that are whole."""
        if linear in self._there and self._there[linear][self._all_numbers()].all():
            self._whole.add(linear)
            del self._there[linear]

    def _unmark(self, linear: int, number: int) -> None:
        if linear in self._whole:
            self._whole.discard(linear)
            self._there[linear] = np.ones(self.grid.n_tiles(), bool)
        self._there[linear][number] = False

    def _all_numbers(self) -> np.ndarray:
        return np.concatenate([_numbers(self.grid, n) for n in self.levels])

    def _level_of(self, number: int) -> int:
        return next(n for n in self.levels if number in tile_numbers(self.grid, n))


class Pace:
    """How long work takes still, from how long its last steps took.

    Examples
    --------
    >>> pace = Pace()
    >>> for second, done in ((0, 10), (1, 12), (2, 14)):
    ...     pace.note(done, second)
    >>> pace.seconds_left(20)
    3.0
    """

    def __init__(self) -> None:
        self._steps: list[tuple[float, int]] = []

    def note(self, done: int, now: float) -> None:
        """Note how much is done at a time in seconds."""
        if self._steps and done < self._steps[-1][1]:
            self._steps.clear()
        self._steps = [*self._steps[-_RECENT:], (now, done)]

    def rest(self) -> None:
        """Forget the pace: work was paused."""
        self._steps.clear()

    def seconds_left(self, total: int) -> float | None:
        """Seconds until `total` is done at the present pace; None: not known yet."""
        if len(self._steps) < 2:
            return None
        (t0, n0), (t1, n1) = self._steps[0], self._steps[-1]
        if n1 <= n0 or t1 <= t0:
            return None
        return max(total - n1, 0) * (t1 - t0) / (n1 - n0)


@lru_cache(maxsize=64)
def _numbers(grid: TileGrid, level: int) -> np.ndarray:
    span = tile_numbers(grid, level)
    return np.arange(span.start, span.stop)


@lru_cache(maxsize=64)
def _edges(grid: TileGrid, level: int) -> tuple[np.ndarray, np.ndarray]:
    """First pixel of each row's and each column's core, and the end; level 0."""
    rows, cols = grid.counts(level)
    ys = [grid.tile(level, r, 0).core.y0 for r in range(rows)]
    xs = [grid.tile(level, 0, c).core.x0 for c in range(cols)]
    h, w = grid.level_shape(level)
    step_y, step_x = grid.tile(level, 0, 0).core.step
    return np.array([*ys, h]) * step_y, np.array([*xs, w]) * step_x


def _by_distance(
    grid: TileGrid,
    level: int,
    middle: tuple[float, float],
    box: Box | None = None,
) -> np.ndarray:
    """Numbers of a level's tiles whose cores meet a box, the nearest first."""
    distances, spans = [], []
    for axis, edges in enumerate(_edges(grid, level)):
        n = len(edges) - 1
        first, stop = 0, n
        if box is not None:
            low, high = box[axis], box[axis + 2]
            first = int(np.clip(np.searchsorted(edges, low, "right") - 1, 0, n - 1))
            stop = int(np.clip(np.searchsorted(edges, high, "left"), first + 1, n))
        spans.append(range(first, stop))
        centers = (edges[first:stop] + edges[first + 1 : stop + 1]) / 2
        distances.append((centers - middle[axis]) ** 2)
    cols = grid.counts(level)[1]
    start = tile_numbers(grid, level).start
    ys, xs = (np.arange(s.start, s.stop) for s in spans)
    numbers = start + ys[:, None] * cols + xs[None]
    far = distances[0][:, None] + distances[1][None]
    return numbers.ravel()[np.argsort(far, axis=None, kind="stable")]
