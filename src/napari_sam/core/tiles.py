"""Windows on a plane, and the grid of overlapping tiles that embeddings live on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


Box = tuple[float, float, float, float]
"""(y0, x0, y1, x1), half-open."""


Zoom = tuple[float, float]
"""Square pixels to a pixel of the plane, on y and on x; the smaller one is 1."""

MOST_ZOOM = 16.0
"""Beyond, pixel sizes are taken as they are: more is a slip in a header."""
ALIKE = 1.1
"""Ratio of two pixel sizes up to which pixels count as square."""


def zoom_for(pixel_size: tuple[float, float]) -> Zoom:
    """Return how often each axis is sampled so that pixels are square.

    Both axes get the finer one's distance, so that nothing is lost.

    Parameters
    ----------
    pixel_size : tuple of float
        Distance of neighbouring pixels on y and on x, in one unit.

    Examples
    --------
    >>> zoom_for((5.0, 1.0))
    (5.0, 1.0)
    >>> zoom_for((0.5, 0.5))
    (1.0, 1.0)
    """
    finest = min(abs(s) for s in pixel_size)
    if not finest > 0 or not math.isfinite(sum(pixel_size)):
        return 1.0, 1.0
    zoom = abs(pixel_size[0]) / finest, abs(pixel_size[1]) / finest
    return zoom if ALIKE < max(zoom) <= MOST_ZOOM else (1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of pixels of one pyramid level of a plane.

    Level `n` halves level 0 `n` times: with square pixels, its pixel (i, j) covers the
    level-0 pixels [i * 2**n, (i + 1) * 2**n) x [j * 2**n, (j + 1) * 2**n). Levels below
    0 are enlarged: the pixels of level -1 are half as wide.
    """

    level: int
    y0: int
    """First row, in pixels of the level."""
    x0: int
    h: int
    w: int
    zoom: Zoom = (1.0, 1.0)
    """How often each axis of the plane is sampled, so that pixels are square."""

    def __post_init__(self) -> None:
        if self.h < 1 or self.w < 1 or min(self.zoom) < 1:
            raise ValueError(f"a window needs size >= 1 and zoom >= 1; got {self}")

    @property
    def step(self) -> tuple[float, float]:
        """Level-0 pixels of the plane that a pixel spans, on y and on x."""
        s = 2.0**self.level
        return s / self.zoom[0], s / self.zoom[1]

    @property
    def bbox(self) -> tuple[int, int, int, int]:
        """(y0, x0, y1, x1) in pixels of the level, half-open."""
        return self.y0, self.x0, self.y0 + self.h, self.x0 + self.w

    def to_window(self, y: Any, x: Any) -> tuple[Any, Any]:
        """Convert level-0 pixel centres to this window's pixel centres.

        Pixel centres sit at integers on every level, so the centre of level-0
        pixel y lies at (y + 0.5) / step - 0.5 on the level.
        """
        sy, sx = self.step
        return (y + 0.5) / sy - 0.5 - self.y0, (x + 0.5) / sx - 0.5 - self.x0

    def to_plane(self, y: Any, x: Any) -> tuple[Any, Any]:
        """Convert this window's pixel centres to level-0 pixel centres."""
        sy, sx = self.step
        return (y + self.y0 + 0.5) * sy - 0.5, (x + self.x0 + 0.5) * sx - 0.5

    def box_to_window(self, box: Box) -> Box:
        """Convert a half-open level-0 box (edges) to this window's pixels."""
        sy, sx = self.step
        y0, x0, y1, x1 = box
        return (
            y0 / sy - self.y0, x0 / sx - self.x0, y1 / sy - self.y0, x1 / sx - self.x0,
        )  # fmt: skip

    def box_to_plane(self, box: Box) -> Box:
        """Convert a half-open box of this window's pixels (edges) to level 0."""
        sy, sx = self.step
        y0, x0, y1, x1 = box
        return (
            (y0 + self.y0) * sy, (x0 + self.x0) * sx,
            (y1 + self.y0) * sy, (x1 + self.x0) * sx,
        )  # fmt: skip

    def to_json(self) -> list[int]:
        """Plain values, for files."""
        return [self.level, self.y0, self.x0, self.h, self.w]


@dataclass(frozen=True, slots=True)
class Tile:
    """One cell of a `TileGrid`."""

    level: int
    row: int
    col: int
    number: int
    """Position among all tiles of all levels, level 0 first, rows before columns."""
    window: Window
    """The pixels that are encoded."""
    core: Window
    """The pixels this tile owns: cores of one level cover it without overlap."""


@dataclass(frozen=True, slots=True)
class TileGrid:
    """Overlapping square tiles on every pyramid level of a plane.

    Tiles have a fixed side; the last one of a row or column is moved back so that
    it ends at the image's edge, and a plane smaller than a tile is one smaller tile.

    Parameters
    ----------
    shape : tuple of int
        (height, width) of the plane at level 0.
    side : int
        Tile side in pixels: the model's input side.
    overlap : int
        Pixels shared by neighbouring tiles, 0 <= overlap < side.
    n_levels : int
        Pyramid levels. `TileGrid.of` picks enough that the last is one tile.
    zoom : tuple of float
        How often each axis of the plane is sampled; see `zoom_for`.
    """

    shape: tuple[int, int]
    side: int
    overlap: int
    n_levels: int = 1
    zoom: Zoom = (1.0, 1.0)

    def __post_init__(self) -> None:
        if min(self.shape) < 1:
            raise ValueError(
                f"a plane needs at least one pixel; got shape {self.shape}"
            )
        if not 0 <= self.overlap < self.side:
            raise ValueError(
                f"overlap must be in 0..{self.side - 1} for tiles of side {self.side}; "
                f"got {self.overlap}"
            )
        if self.n_levels < 1:
            raise ValueError(f"a grid needs at least one level; got {self.n_levels}")

    @classmethod
    def of(
        cls,
        shape: tuple[int, int],
        side: int,
        overlap: int | None = None,
        zoom: Zoom = (1.0, 1.0),
    ) -> TileGrid:
        """Grid whose coarsest level fits one tile; overlap: a quarter tile."""
        overlap = side // 4 if overlap is None else overlap
        n_levels, longest = 1, max(cls(shape, side, overlap, 1, zoom).level_shape(0))
        while longest > side:
            longest = -(-longest // 2)
            n_levels += 1
        return cls(shape, side, overlap, n_levels, zoom)

    def level_shape(self, level: int) -> tuple[int, int]:
        """(height, width) of a level, also of one below 0 or above the coarsest."""
        return level_shape(self.shape, level, self.zoom)

    def counts(self, level: int) -> tuple[int, int]:
        """Rows and columns of tiles on a level."""
        h, w = self.level_shape(level)
        return self._count(h), self._count(w)

    def n_tiles(self, level: int | None = None) -> int:
        """Tiles on one level, or on all."""
        levels = range(self.n_levels) if level is None else [level]
        return sum(r * c for r, c in map(self.counts, levels))

    def tile(self, level: int, row: int, col: int) -> Tile:
        """Return the tile at a row and column of a level."""
        rows, cols = self.counts(level)
        if not (0 <= level < self.n_levels and 0 <= row < rows and 0 <= col < cols):
            raise IndexError(
                f"no tile ({row}, {col}) on level {level}, which has {rows} x {cols} "
                f"tiles; the grid has {self.n_levels} levels"
            )
        h, w = self.level_shape(level)
        y0, th = self._span(h, row)
        x0, tw = self._span(w, col)
        cy0, ch = self._core(h, row)
        cx0, cw = self._core(w, col)
        number = sum(self.n_tiles(i) for i in range(level)) + row * cols + col
        return Tile(
            level, row, col, number,
            Window(level, y0, x0, th, tw, self.zoom),
            Window(level, cy0, cx0, ch, cw, self.zoom),
        )  # fmt: skip

    def tile_by_number(self, number: int) -> Tile:
        """Return the tile whose `Tile.number` is `number`."""
        left = number
        for level in range(self.n_levels):
            rows, cols = self.counts(level)
            if left < rows * cols:
                return self.tile(level, left // cols, left % cols)
            left -= rows * cols
        raise IndexError(f"no tile {number}: the grid has {self.n_tiles()}")

    def tiles(self, level: int | None = None) -> Iterator[Tile]:
        """Tiles of one level, or of all levels from the finest."""
        for i in range(self.n_levels) if level is None else [level]:
            rows, cols = self.counts(i)
            for row in range(rows):
                for col in range(cols):
                    yield self.tile(i, row, col)

    def owner(self, level: int, y: float, x: float) -> Tile:
        """Return the tile whose core holds the level's pixel centre (y, x)."""
        h, w = self.level_shape(level)
        return self.tile(level, self._owner(h, y), self._owner(w, x))

    def around(self, center: tuple[float, float], level: int) -> Window:
        """Return the window of one tile's size centred as far as the plane allows.

        Parameters
        ----------
        center : tuple of float
            (y, x) pixel centre in pixels of the level.
        level : int
            Any, also below 0 (enlarged) or above the coarsest of the grid.
        """
        height, width = self.level_shape(level)
        h, w = min(self.side, height), min(self.side, width)
        y0 = min(max(round(center[0] - (h - 1) / 2), 0), height - h)
        x0 = min(max(round(center[1] - (w - 1) / 2), 0), width - w)
        return Window(level, y0, x0, h, w, self.zoom)

    def on_level(self, point: tuple[float, float], level: int) -> tuple[float, float]:
        """Convert a level-0 pixel centre (y, x) of the plane to one of a level."""
        y, x = Window(level, 0, 0, 1, 1, self.zoom).to_window(*point)
        return float(y), float(x)

    def _count(self, size: int) -> int:
        if size <= self.side:
            return 1
        return -(-(size - self.overlap) // (self.side - self.overlap))

    def _span(self, size: int, i: int) -> tuple[int, int]:
        if size <= self.side:
            return 0, size
        return min(i * (self.side - self.overlap), size - self.side), self.side

    def _core(self, size: int, i: int) -> tuple[int, int]:
        start = 0 if i == 0 else self._seam(size, i)
        stop = size if i == self._count(size) - 1 else self._seam(size, i + 1)
        return start, stop - start

    def _seam(self, size: int, i: int) -> int:
        """Return where tile i - 1 hands over to tile i: the middle of their overlap."""
        left, n = self._span(size, i - 1)
        right, _ = self._span(size, i)
        return (right + left + n) // 2

    def _owner(self, size: int, v: float) -> int:
        pixel = min(max(round(v), 0), size - 1)
        i = min(pixel // (self.side - self.overlap), self._count(size) - 1)
        while i > 0 and pixel < self._seam(size, i):
            i -= 1
        while i < self._count(size) - 1 and pixel >= self._seam(size, i + 1):
            i += 1
        return i


def level_shape(
    shape: tuple[int, int], level: int, zoom: Zoom = (1.0, 1.0)
) -> tuple[int, int]:
    """(height, width) of a level: the plane's, sampled, over 2**level, rounded up."""
    step = Window(level, 0, 0, 1, 1, zoom).step
    h, w = (max(1, math.ceil(n / s - 1e-6)) for n, s in zip(shape, step, strict=True))
    return h, w
