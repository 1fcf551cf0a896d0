"""The embedding store: what an encoder made of each tile, kept on disk between runs.

Layout (zarr v3)::

    path/                      attribute "napari_sam_embeddings": version of this layout
    └── <signature.key>/       one group per signature, side by side
        ├── present            (plane, tile) uint32, one flag a chunk
        └── features/<name>    (plane, tile, C, h, w), one tile a chunk

A flag is the checksum of its tile's features, written after them: 0 is "not there", and
a chunk that was lost, cut short or altered is noticed when it is read. Chunks are made
as they are written, so a plane with a million tiles costs nothing to open.

Chunks are neither sharded nor compressed. Tiles are written one at a time, in any
order and by several processes: rewriting a shard for each tile cost 4 times as much as
a chunk (42 ms against 10 ms for 2 MB tiles, 8 a shard), and two processes that write
into one shard lose each other's tiles, because zarr has no locks. With one file of 0.5
to 2 MB a tile, files are few enough for any file system and as large as object stores
like them. zstd saved 8 % and read 3 times slower, which every click would feel.
"""

from __future__ import annotations

import logging
import threading
import zlib
from collections import OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from napari_sam.core.embedding import Embedding, EmbeddingSignature
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
    from collections.abc import Iterable, Iterator, Mapping
    from types import TracebackType

    from napari_sam.core.tiles import Tile, TileGrid

logger = logging.getLogger(__name__)

_CACHE_BYTES = 256 * 2**20


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
    ) -> None:
        self.path = path
        self.signature, self.grid, self.n_planes = signature, grid, n_planes
        self.writable = writable
        self._group = group
        self._flags = group["present"]
        names = sorted(group.attrs["features"])
        self._features = {name: group[f"features/{name}"] for name in names}
        self._memory = _Memory(cache_bytes)
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

        Raises
        ------
        SignatureError
            If the path holds embeddings, but not these; the message names what differs.
        StoreError
            If the path holds something else, or cannot be read or written.
        """
        root = open_root(path, mode)
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
                writable=mode != "r", cache_bytes=cache_bytes,
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

    def get(self, plane_linear: int, tile: Tile) -> Embedding | None:
        """Return a tile's embedding in the stored dtype, or None if it is not there.

        Raises
        ------
        StoreError
            If the tile was finished and its data is damaged now.
        """
        key = plane_linear, tile.number
        if (found := self._memory.get(key)) is not None:
            return found
        flag = self._flag(plane_linear, tile)
        if not flag:
            return None
        with explained(self.path):
            try:
                features = {n: np.asarray(a[key]) for n, a in self._features.items()}
                sound = _checksum(features) == flag
            except (ValueError, RuntimeError) as error:
                logger.debug("tile %s cannot be decoded: %s", key, error)
                sound = False
        if not sound:
            raise StoreError(
                f"tile {tile.number} of plane {plane_linear} in {self._name()} is "
                "damaged: its data does not match its checksum. discard(plane, tile) "
                "drops it, so that it is encoded again; other tiles are not affected"
            )
        embedding = Embedding(features, (tile.window.h, tile.window.w))
        self._memory.put(key, embedding)
        return embedding

    def put(self, plane_linear: int, tile: Tile, embedding: Embedding) -> None:
        """Keep a tile's embedding; it counts as present once all of it is written.

        In a float16 store, values beyond its range are clipped to it, and logged.

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
        with explained(self.path):
            for name, values in features.items():
                self._features[name][key] = values
            self._flags[key] = _checksum(features)
        size = (tile.window.h, tile.window.w)
        self._memory.put(key, Embedding(features, size))

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
        with explained(self.path):
            self._flags[plane_linear, tile.number] = 0
        self._memory.drop((plane_linear, tile.number))

    def numbers(self, plane_linear: int) -> frozenset[int]:
        """Numbers of the tiles that are there on a plane: one listing, no reading."""
        with explained(self.path):
            if not self._flags.store.supports_listing:  # a plain web server
                flags = np.asarray(self._flags[plane_linear])
                return frozenset(map(int, np.flatnonzero(flags)))
            return frozenset(map(int, self._listed(f"c/{plane_linear}")))

    def count(self) -> tuple[int, int]:
        """(tiles there, tiles in all) over every plane and level."""
        with explained(self.path):
            listing = self._flags.store.supports_listing
            planes = self._listed("c") if listing else range(self.n_planes)
        done = sum(len(self.numbers(int(p))) for p in planes)
        return done, self.n_planes * self.grid.n_tiles()

    def close(self) -> None:
        """Finish writing; only zip files need it."""
        self._group.store.close()

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
            out[name] = _cast(np.asarray(values), array.dtype, name)
        return out

    def _listed(self, prefix: str) -> tuple[str, ...]:
        from zarr.core.sync import sync

        store_path = self._flags.store_path / prefix

        async def names() -> Any:
            found = store_path.store.list_dir(store_path.path)
            return [name.rstrip("/") async for name in found]

        try:
            # Unfinished writes lie beside chunks under other names.
            return tuple(name for name in sync(names()) if name.isdecimal())
        except FileNotFoundError:
            return ()


class _Memory:
    """Tiles lately used, up to a number of bytes; the oldest go first."""

    def __init__(self, max_bytes: int) -> None:
        self._tiles: OrderedDict[tuple[int, int], Embedding] = OrderedDict()
        self._max_bytes, self._bytes = max_bytes, 0
        self._lock = threading.Lock()

    def get(self, key: tuple[int, int]) -> Embedding | None:
        with self._lock:
            if key in self._tiles:
                self._tiles.move_to_end(key)
            return self._tiles.get(key)

    def put(self, key: tuple[int, int], embedding: Embedding) -> None:
        self.drop(key)
        with self._lock:
            self._tiles[key] = embedding
            self._bytes += embedding.nbytes
            while self._bytes > self._max_bytes and self._tiles:
                self._bytes -= self._tiles.popitem(last=False)[1].nbytes

    def drop(self, key: tuple[int, int]) -> None:
        with self._lock:
            if (old := self._tiles.pop(key, None)) is not None:
                self._bytes -= old.nbytes


def _cast(values: np.ndarray, dtype: np.dtype[Any], name: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        cast = np.array(values, dtype=dtype, order="C")
    if _is_finite(cast):
        return cast
    if not np.isfinite(values).all():
        raise StoreError(
            f"feature {name!r} holds NaN or infinite values, so no mask can come of "
            "it: run the model in float32 (device='cpu' always does)"
        )
    limit = float(np.finfo(dtype).max)
    logger.warning(
        "feature %r goes up to %g: clipped to %g; dtype='float32' keeps it exact",
        name, float(np.abs(values).max()), limit,
    )  # fmt: skip
    return np.asarray(np.clip(values, -limit, limit), dtype)


def _is_finite(values: np.ndarray) -> bool:
    if values.dtype != np.float16:
        return bool(np.isfinite(values).all())
    # numpy has no fast path for float16: an exponent of ones is NaN or infinite.
    return bool((values.view(np.uint16) & 0x7C00).max(initial=0) < 0x7C00)


def _checksum(features: Mapping[str, np.ndarray]) -> int:
    total = 0
    for name in sorted(features):
        total = zlib.crc32(np.ascontiguousarray(features[name]).data, total)
    return total or 1
