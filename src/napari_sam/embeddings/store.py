"""The embedding store: what an encoder made of each tile, kept on disk between runs.

Layout (zarr v3)::

    path/                      attribute "napari_sam_embeddings": version of this layout
    └── <signature.key>/       one group per signature, side by side
        ├── present            (plane, tile) uint64, one flag a chunk
        └── features/<name>    (plane, tile, C, h, w), one tile a chunk

A flag holds two checksums of its tile and is written last; 0 is "not there". The lower
half is of the features: a chunk that was lost, cut short or altered is noticed when it
is read. The upper half is of the window's pixels as the model saw them: whoever reads
a tile gives the checksum of the pixels there now, and gets nothing where they differ.
Chunks are made as they are written, so a plane with a million tiles costs nothing to
open.

Chunks are neither sharded nor compressed. Tiles are written one at a time, in any
order and by several processes: rewriting a shard for each tile cost 4 times as much as
a chunk (42 ms against 10 ms for 2 MB tiles, 8 a shard), and two processes that write
into one shard lose each other's tiles, because zarr has no locks. With one file of 0.5
to 2 MB a tile, files are few enough for any file system and as large as object stores
like them. zstd saved 8 % and read 3 times slower, which every click would feel.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from napari_sam.core.embedding import Embedding, EmbeddingSignature
from napari_sam.core.lru import ByteLRU
from napari_sam.embeddings.cache import Use
from napari_sam.embeddings.features import checksum_of, stored_form
from napari_sam.embeddings.layout import (
    StorePath,
    check_head,
    explained,
    head_of,
    mismatch,
    open_root,
    require_arrays,
    require_group,
    signatures,
)
from napari_sam.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Iterator, Mapping
    from types import TracebackType

    from napari_sam.core.tiles import Tile, TileGrid

logger = logging.getLogger(__name__)

_CACHE_BYTES = 256 * 2**20
_LOWER = 2**32 - 1


class EmbeddingStore:
    """Embeddings of one signature; open it with `EmbeddingStore.open`.

    Safe from any thread, and several processes may write different tiles at once.
    Tiles lately used stay in memory, up to a number of bytes.

    Examples
    --------
    >>> store = EmbeddingStore.open(
    ...     path, signature, grid, 1, model.spec.feature_shapes
    ... )  # doctest: +SKIP
    >>> store.put(0, grid.tile(0, 0, 0), embedding)  # doctest: +SKIP
    >>> store.count()  # doctest: +SKIP
    (1, 12)
    """

    signature: EmbeddingSignature
    """What the embeddings are of."""
    grid: TileGrid
    n_planes: int
    writable: bool
    """Whether `put` is allowed."""

    def __init__(
        self,
        path: StorePath,
        group: Any,
        signature: EmbeddingSignature,
        grid: TileGrid,
        n_planes: int,
        *,
        writable: bool,
        cache_bytes: int,
        max_bytes: int | None = None,
        use: Use | None = None,
    ) -> None:
        self.path = path
        self.signature, self.grid, self.n_planes = signature, grid, n_planes
        self.writable = writable
        self.is_full = False
        """Set by who found that it takes no more: other embeddings are not tried."""
        self._group = group
        self._flags = group["present"]
        names = sorted(group.attrs["features"])
        self._features = {name: group[f"features/{name}"] for name in names}
        self.max_bytes = max_bytes
        """Most that it keeps, the longest unused going first; None: no bound."""
        self._sizes: ByteLRU[tuple[int, int], int] = ByteLRU(
            max_bytes or 0, lambda size: size, keep_last=True
        )
        """Bytes of each tile put here, where that is bounded."""
        self._use = use
        self._memory: ByteLRU[tuple[int, int], Embedding] = ByteLRU(
            cache_bytes, lambda embedding: embedding.nbytes
        )
        self._sources: defaultdict[int, dict[int, int]] = defaultdict(dict)
        """Checksums of pixels compared or written here, by plane and tile."""
        self._claimed: set[tuple[int, int]] = set()
        self._claims = threading.Condition()

    @classmethod
    def open(
        cls,
        path: StorePath,
        signature: EmbeddingSignature,
        grid: TileGrid,
        n_planes: int,
        feature_shapes: Mapping[str, tuple[int, int, int]],
        *,
        mode: Literal["a", "r+", "r"] = "a",
        dtype: Literal["float16", "float32"] = "float16",
        cache_bytes: int = _CACHE_BYTES,
        max_bytes: int | None = None,
    ) -> Self:
        """Open the embeddings of a signature, or start them.

        Parameters
        ----------
        path : path-like, URL or zarr store
            May hold several signatures side by side.
        signature : EmbeddingSignature
        grid : TileGrid
        n_planes : int
            Planes on the signature's axis.
        feature_shapes : mapping of str to (C, h, w)
            `ModelSpec.feature_shapes`.
        mode : {"a", "r+", "r"}
            "a" starts what is not there; "r+" and "r" demand that this signature
            exists, and "r" only reads.
        dtype : {"float16", "float32"}
            Of a new store; an existing one keeps its own.
        cache_bytes : int
            Memory for tiles.
        max_bytes : int, optional
            Drop the tiles put first, once there are more bytes: for stores in memory.

        Raises
        ------
        SignatureError
            If the path holds embeddings, but not these; the message names what differs.
        StoreError
            If the path holds something else, or cannot be read or written.
        """
        open_root(path, mode)
        use = Use(path, signature.key)
        root = open_root(path, mode)  # it may have been removed until now
        with explained(path):
            group = root.get(signature.key)
            head = head_of(grid, n_planes, feature_shapes)
            if group is None:
                if mode != "a":
                    raise mismatch(path, signature, signatures(root))
                attributes = {**head, "signature": signature.to_json()}
                group = require_group(root, signature.key, attributes)
            check_head(path, dict(group.attrs), head)
            if mode == "a":
                require_arrays(group, grid, n_planes, feature_shapes, dtype)
            return cls(
                path, group, signature, grid, n_planes,
                writable=mode != "r", cache_bytes=cache_bytes, max_bytes=max_bytes,
                use=use,
            )  # fmt: skip

    @staticmethod
    def list(path: StorePath) -> tuple[EmbeddingSignature, ...]:
        """Return the signatures that a path holds.

        Raises
        ------
        StoreError
            If it is not an embedding store.
        """
        root = open_root(path, "r")
        with explained(path):
            return tuple(signatures(root))

    def has(self, plane_linear: int, tile: Tile) -> bool:
        """Whether a tile is there, whole."""
        return self._flag(plane_linear, tile) != 0

    def is_checked(self, plane_linear: int, tile: Tile) -> bool:
        """Whether this process knows that a tile is there and of the present pixels."""
        return tile.number in self._sources[plane_linear]

    def check(self, plane_linear: int, tile: Tile, source: int) -> bool:
        """Compare the pixels that a tile was made from with those there now.

        Parameters
        ----------
        plane_linear : int
        tile : Tile
        source : int
            `checksum` of the tile's window as the model sees it now.

        Returns
        -------
        bool
            Whether the tile is there and of those pixels.
        """
        here = self._sources[plane_linear]
        known = here.get(tile.number)
        if known is None:
            flag = self._flag(plane_linear, tile)
            known = flag >> 32 if flag else None
        if known != source:
            here.pop(tile.number, None)
            return False
        here[tile.number] = source
        return True

    def get(
        self, plane_linear: int, tile: Tile, source: int | None = None
    ) -> Embedding | None:
        """Return a tile's embedding in the stored dtype, or None if it is not there.

        Parameters
        ----------
        plane_linear : int
        tile : Tile
        source : int, optional
            `checksum` of the window's pixels now: a tile that was made from others
            counts as not there. Left out: those that `is_checked` knows.

        Raises
        ------
        StoreError
            If the tile was finished and its data is damaged now.
        """
        if source is not None and not self.check(plane_linear, tile, source):
            return None
        key = plane_linear, tile.number
        self._sizes.get(key)  # it counts as used
        if (found := self._memory.get(key)) is not None:
            return found
        flag = self._flag(plane_linear, tile)
        if not flag:
            return None
        with explained(self.path):
            try:
                features = {n: np.asarray(a[key]) for n, a in self._features.items()}
                sound = checksum_of(features) == flag & _LOWER
            except (ValueError, RuntimeError) as error:
                logger.debug("tile %s cannot be decoded: %s", key, error)
                sound = False
        if not sound:
            raise StoreError(
                f"tile {tile.number} of plane {plane_linear} in {self._name()} is "
                "damaged: its data does not match its checksum. discard(plane, tile) "
                "drops it, so that it is encoded again; other tiles are not affected"
            )
        known = self._sources[plane_linear]
        if flag >> 32 != known.get(tile.number, flag >> 32):
            # Replaced meanwhile, by a process that sees other pixels.
            known.pop(tile.number, None)
            return None
        embedding = Embedding(features, (tile.window.h, tile.window.w))
        self._memory.put(key, embedding)
        return embedding

    def put(
        self, plane_linear: int, tile: Tile, embedding: Embedding, source: int
    ) -> None:
        """Keep a tile's embedding; it counts as present once all of it is written.

        A tile that is there is replaced, unless it is the same: readers in other
        processes would miss it for a moment. `discard` a damaged one first. In a
        float16 store, values beyond its range are clipped to it, and logged.

        Parameters
        ----------
        plane_linear : int
        tile : Tile
        embedding : Embedding
        source : int
            `checksum` of the window that was encoded, as the model saw it.

        Raises
        ------
        StoreError
            If the store is read-only or full, a feature is missing, has another shape
            or holds NaN or infinite values. Tiles stored before are safe.
        """
        if not self.writable:
            raise StoreError(
                f"{self._name()} was opened for reading: open it with mode='a' to write"
            )
        self._check_place(plane_linear, tile)
        key = plane_linear, tile.number
        features = self._stored_form(embedding)
        flag = source << 32 | checksum_of(features)
        with explained(self.path):
            there = self._flag(plane_linear, tile)
            if there != flag:  # else another process was first with the same
                if there:
                    self._flags[key] = 0  # never new features under an old flag
                for name, values in features.items():
                    self._features[name][key] = values
                self._flags[key] = np.uint64(flag)
        kept = Embedding(features, (tile.window.h, tile.window.w))
        self._memory.put(key, kept)
        self._sources[plane_linear][tile.number] = source
        if self.max_bytes is not None:
            for old in self._sizes.put(key, kept.nbytes):
                self._remove(old)

    @contextmanager
    def claim(self, plane_linear: int, tiles: Iterable[Tile]) -> Iterator[bool]:
        """Hold tiles while they are encoded, so that no other thread does the same.

        Yields
        ------
        bool
            Whether another thread held some of them first: look again what is there.
        """
        keys = {(plane_linear, tile.number) for tile in tiles}
        with self._claims:
            free = self._claimed.isdisjoint(keys)
            self._claims.wait_for(lambda: self._claimed.isdisjoint(keys))
            self._claimed |= keys
        try:
            yield not free
        finally:
            with self._claims:
                self._claimed -= keys
                self._claims.notify_all()

    def discard(self, plane_linear: int, tile: Tile) -> None:
        """Forget a tile, so that it is encoded again.

        Raises
        ------
        StoreError
            If the store cannot be written.
        """
        self._discard((plane_linear, tile.number))

    def numbers(self, plane_linear: int) -> frozenset[int]:
        """Numbers of the tiles that are there on a plane: one listing, no reading."""
        with explained(self.path):
            if not self._flags.store.supports_listing:  # a plain web server
                flags = np.asarray(self._flags[plane_linear])
                return frozenset(map(int, np.flatnonzero(flags)))
            return frozenset(map(int, self._listed(f"c/{plane_linear}")))

    def checked_numbers(self, plane_linear: int) -> frozenset[int]:
        """Numbers of the tiles of a plane for which `is_checked` holds."""
        return frozenset(list(self._sources[plane_linear]))

    def count(self) -> tuple[int, int]:
        """(tiles there, tiles in all) over every plane and level."""
        with explained(self.path):
            listing = self._flags.store.supports_listing
            planes = self._listed("c") if listing else range(self.n_planes)
        done = sum(len(self.numbers(int(p))) for p in planes)
        return done, self.n_planes * self.grid.n_tiles()

    def close(self) -> None:
        """Finish writing, and let the store be removed by those who prune."""
        self._group.store.close()
        if self._use is not None:
            self._use.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _name(self) -> str:
        return f"the embedding store {self.path}"

    def _check_place(self, plane_linear: int, tile: Tile) -> None:
        n_tiles = self.grid.n_tiles()
        if not (0 <= plane_linear < self.n_planes and 0 <= tile.number < n_tiles):
            raise StoreError(
                f"no tile {tile.number} of plane {plane_linear} in {self._name()}: it "
                f"has {self.n_planes} plane(s) of {n_tiles} tile(s)"
            )

    def _flag(self, plane_linear: int, tile: Tile) -> int:
        self._check_place(plane_linear, tile)
        with explained(self.path):
            return int(self._flags[plane_linear, tile.number])

    def _stored_form(self, embedding: Embedding) -> dict[str, np.ndarray]:
        out = {}
        for name, array in self._features.items():
            values = embedding.features.get(name)
            shape = array.shape[2:]
            if values is None or values.shape != shape:
                came = "none" if values is None else values.shape
                raise StoreError(
                    f"feature {name!r} must have shape {shape}; got {came}"
                )
            out[name] = stored_form(np.asarray(values), array.dtype, name)
        return out

    def _discard(self, key: tuple[int, int]) -> None:
        with explained(self.path):
            self._flags[key] = 0
        self._memory.drop(key)
        self._sources[key[0]].pop(key[1], None)

    def _remove(self, key: tuple[int, int]) -> None:
        self._discard(key)
        for array in self._features.values():
            array[key] = 0  # chunks of zeros are not kept

    def _listed(self, prefix: str) -> tuple[str, ...]:
        where = self._flags.store_path / prefix

        async def names() -> list[str]:
            return [name async for name in where.store.list_dir(where.path)]

        try:
            found = _run(names())
        except FileNotFoundError:
            return ()
        # Unfinished writes lie beside chunks under other names.
        return tuple(n for name in found if (n := name.rstrip("/")).isdecimal())


def _run(work: Coroutine[Any, Any, list[str]]) -> list[str]:
    """Run a coroutine in a thread of its own: this one may have a loop that runs."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
