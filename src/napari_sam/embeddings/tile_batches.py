"""Regions: tiles of one plane that one task encodes and no other writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.embeddings.source import checksum
from napari_sam.errors import NapariSamError

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Sequence
    from threading import Event

    from napari_sam.core.planes import Plane
    from napari_sam.core.tiles import Tile, TileGrid
    from napari_sam.embeddings.source import EmbeddingSource
    from napari_sam.embeddings.store import EmbeddingStore

REGION_TILES = 64
"""Most tiles of a region that this process encodes."""
TASK_TILES = 4
"""Most tiles of a region that is one of several processes': progress is that fine."""


@dataclass(frozen=True, slots=True)
class Region:
    """Tiles of one level of one plane that one task encodes and no other writes."""

    plane: Plane
    numbers: tuple[int, ...]
    """`Tile.number` of each."""
    there: frozenset[int] = frozenset()
    """Those that are stored already, perhaps of other pixels: only to be compared."""


def regions(
    plane: Plane,
    grid: TileGrid,
    levels: Sequence[int],
    *,
    skip: Container[int] = (),
    there: frozenset[int] = frozenset(),
    n_tiles: int = REGION_TILES,
    first: int = 0,
    every: int = 1,
) -> Iterator[Region]:
    """Cut a plane's tiles, less those to skip, into regions; coarsest level first.

    `there` are those stored already. Which tiles share a region depends on neither
    `skip` nor what runs elsewhere: with `first` and `every`, several processes take
    every n-th region and none twice.
    """
    count = 0
    for level in sorted(levels, reverse=True):
        span = tile_numbers(grid, level)
        for start in range(span.start, span.stop, n_tiles):
            count += 1
            if (count - 1) % every != first:
                continue
            block = range(start, min(start + n_tiles, span.stop))
            if numbers := tuple(n for n in block if n not in skip):
                yield Region(plane, numbers, there.intersection(numbers))


def count_regions(grid: TileGrid, levels: Sequence[int], n_tiles: int) -> int:
    """Return how many regions `regions` cuts a whole plane into."""
    return sum(-(-grid.n_tiles(level) // n_tiles) for level in levels)


def tile_numbers(grid: TileGrid, level: int) -> range:
    """Return `Tile.number` of all tiles of a level."""
    first = sum(grid.n_tiles(n) for n in range(level))
    return range(first, first + grid.n_tiles(level))


@dataclass(frozen=True, slots=True)
class Shard:
    """The regions that one call encodes: all, or every n-th of them."""

    grid: TileGrid
    levels: tuple[int, ...]
    first: int
    every: int
    n_tiles: int

    @classmethod
    def of(
        cls,
        grid: TileGrid,
        levels: Sequence[int],
        shard: tuple[int, int] | None,
        n_tiles: int,
    ) -> Shard:
        """Check a shard (i, n), None for all.

        Raises
        ------
        NapariSamError
            If it is none of n parts.
        """
        first, every = (0, 1) if shard is None else shard
        if not 0 <= first < every:
            raise NapariSamError(
                f"shard is (i, n) with i from 0 to n - 1; got {(first, every)}"
            )
        return cls(grid, tuple(levels), first, every, n_tiles)

    def regions(
        self,
        number: int,
        plane: Plane,
        skip: frozenset[int] = frozenset(),
        there: frozenset[int] = frozenset(),
    ) -> Iterator[Region]:
        """Regions of the plane that comes `number`-th."""
        before = number * count_regions(self.grid, self.levels, self.n_tiles)
        first = (self.first - before) % self.every
        return regions(
            plane, self.grid, self.levels,
            skip=skip, there=there, n_tiles=self.n_tiles, first=first, every=self.every,
        )  # fmt: skip

    def numbers(self, number: int, plane: Plane) -> frozenset[int]:
        """Numbers of the tiles of the plane that comes `number`-th."""
        if self.every == 1:
            spans = (tile_numbers(self.grid, n) for n in self.levels)
            return frozenset(n for span in spans for n in span)
        return frozenset(n for r in self.regions(number, plane) for n in r.numbers)


def encode_region(
    source: EmbeddingSource,
    store: EmbeddingStore,
    region: Region,
    *,
    batch_size: int = 1,
    cancel: Callable[[], bool] | Event | None = None,
) -> Iterator[int]:
    """Encode a region's tiles; yields how many are there more after each batch.

    Tiles that are stored are compared with the pixels there now, once a process, and
    encoded anew where they were made from others.
    """
    for start in range(0, len(region.numbers), batch_size):
        if stopped(cancel):
            return
        numbers = region.numbers[start : start + batch_size]
        tiles = [store.grid.tile_by_number(n) for n in numbers]
        _encode_missing(source, store, region.plane, tiles)
        yield sum(n not in region.there for n in numbers)


def _encode_missing(
    source: EmbeddingSource, store: EmbeddingStore, plane: Plane, tiles: Sequence[Tile]
) -> None:
    linear = plane.linear(source.volume.shape)
    unknown = [t for t in tiles if not store.is_checked(linear, t)]
    with store.claim(linear, unknown):
        missing, windows, checksums = [], [], []
        for tile in unknown:
            if store.is_checked(linear, tile):
                continue  # a click has encoded it meanwhile
            pixels = source.pixels(plane, tile.window)
            found = checksum(pixels)
            if not store.check(linear, tile, found):
                missing.append(tile)
                windows.append(pixels)
                checksums.append(found)
        if not missing:
            return
        made = source.model.encode(np.stack(windows))  # tiles of a level: one size
        for tile, embedding, found in zip(missing, made, checksums, strict=True):
            store.put(linear, tile, embedding, found)


def stopped(cancel: Callable[[], bool] | Event | None) -> bool:
    """Whether a caller's `cancel` says so."""
    if cancel is None:
        return False
    return cancel() if callable(cancel) else cancel.is_set()
