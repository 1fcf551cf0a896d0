"""Arrays that hold labels: in memory while they are small, chunked on disk beyond."""

from __future__ import annotations

import logging
import math
import os
import shutil
import tempfile
import threading
import weakref
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

logger = logging.getLogger(__name__)

MEMORY_BYTES = 2**30
"""Labels up to this size are a numpy array."""
_BLOCK = 2048
"""Side of the blocks that other arrays are read by."""

Spans = tuple[slice, ...]
"""A block: one slice for each axis."""


def new_labels(shape: Sequence[int], dtype: Any = np.uint16) -> Any:
    """Make empty labels.

    Parameters
    ----------
    shape : sequence of int
        Spatial shape of the volume.
    dtype : dtype
        Unsigned integers. Small ones draw faster in napari.

    Returns
    -------
    ndarray or ChunkedLabels
        numpy up to `MEMORY_BYTES`; beyond, chunks in a temporary folder that goes with
        them, until they move to a session's folder.
    """
    shape = tuple(int(n) for n in shape)
    if math.prod(shape) * np.dtype(dtype).itemsize <= MEMORY_BYTES:
        return np.zeros(shape, dtype)
    folder = tempfile.mkdtemp(prefix="napari-sam-labels-")
    return ChunkedLabels(_create(folder, shape, dtype), folder)


def open_labels(path: str | os.PathLike[str], *, live: Path | None = None) -> Any:
    """Open saved labels, which are not changed; those beyond `MEMORY_BYTES` stay on
    the disk.

    Parameters
    ----------
    path : path-like
        Folder of a zarr array.
    live : Path, optional
        Where labels on the disk are worked on: a folder that does not exist, on the
        same file system; a temporary copy when left out.

    Returns
    -------
    ndarray or ChunkedLabels
    """
    import zarr

    array: Any = zarr.open_array(Path(path), mode="r")
    if array.nbytes <= MEMORY_BYTES:
        return np.asarray(array[:])
    folder = None
    if live is None:
        folder = tempfile.mkdtemp(prefix="napari-sam-labels-")
        live = Path(folder) / "labels.zarr"
    copy_chunks(Path(path), live)
    return ChunkedLabels(zarr.open_array(live, mode="r+"), folder)


def copy_chunks(source: Path, target: Path) -> None:
    """Copy a zarr array's folder; files are shared where the file system can.

    Sharing is safe: zarr never changes a chunk's file, it puts another in its place.
    """

    def share(a: str, b: str) -> str:
        try:
            os.link(a, b)
        except OSError:
            shutil.copyfile(a, b)
        return b

    half = shutil.ignore_patterns("*.partial")  # a chunk that is being written
    shutil.copytree(source, target, copy_function=share, ignore=half)


class ChunkedLabels:
    """Labels on disk, read and written where they are indexed, as numpy is.

    Only chunks that were ever written exist. The array can move to another folder
    while it is in use.

    Parameters
    ----------
    array : zarr.Array
    folder : str, optional
        Deleted once this array is no longer in use.
    """

    def __init__(self, array: Any, folder: str | None = None) -> None:
        self._array, self._folder = array, folder
        self._moving = threading.Lock()
        self._cleaning = folder and weakref.finalize(self, shutil.rmtree, folder, True)

    @property
    def path(self) -> Path:
        """Folder of the chunks."""
        return Path(str(self._array.store.root), self._array.path)

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        shape: tuple[int, ...] = self._array.shape
        return shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Unsigned integers."""
        dtype: np.dtype[Any] = self._array.dtype
        return dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def chunks(self) -> tuple[int, ...]:
        """Shape of a chunk: one plane's."""
        chunks: tuple[int, ...] = self._array.chunks
        return chunks

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        return self._array[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        with self._moving:
            self._array[key] = value

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self._array[:], dtype=dtype)

    def __repr__(self) -> str:
        return f"<ChunkedLabels {self.shape} {self.dtype} in {self.path}>"

    def iter_written(self) -> Iterator[Spans]:
        """Yield the blocks that are on the disk; all others are 0."""
        yield from _written_chunks(self._array, self.path) or ()

    def move_to(self, path: str | os.PathLike[str]) -> None:
        """Go on in another folder; what is written is copied there.

        A temporary folder goes away; any other stays as it is.

        Parameters
        ----------
        path : path-like
            Does not exist yet.
        """
        import zarr

        with self._moving:
            copy_chunks(self.path, Path(path))
            self._array = zarr.open_array(Path(path), mode="r+")
        if folder := self.release():
            shutil.rmtree(folder, ignore_errors=True)

    def copy_to(self, path: Path) -> None:
        """Leave a copy of what is written at a path that does not exist."""
        copy_chunks(self.path, path)

    def release(self) -> str | None:
        """Return the temporary folder, if any; the caller has to delete it now."""
        folder, self._folder = self._folder, None
        if self._cleaning:
            self._cleaning.detach()
        return folder


class OnlyLabels:
    """Read-only labels in which only some objects are there.

    Parameters
    ----------
    labels : array-like, unsigned integers
    object_ids : iterable of int
        Values that stay; all others read as 0.
    """

    def __init__(self, labels: Any, object_ids: Iterable[int]) -> None:
        self._labels = labels
        self._ids = np.array(sorted(object_ids), labels.dtype)
        self.shape: tuple[int, ...] = tuple(labels.shape)
        self.dtype: np.dtype[Any] = labels.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        block = np.asarray(self._labels[key])
        return np.where(np.isin(block, self._ids), block, block.dtype.type(0))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[...], dtype=dtype)

    def written_blocks(self) -> list[Spans] | None:
        """Return the blocks that were ever written; None: not known."""
        return written_blocks(self._labels)


def grown(labels: Any, top: int) -> Any:
    """Return labels that can hold `top`: the same, or a copy of a bigger type.

    Chunked labels are written anew beside their folder and take its place.

    Raises
    ------
    SessionError
        If they cannot grow as far.
    """
    if top > (most := highest_possible(labels)):
        raise SessionError(f"these labels hold values up to {most}; got {top}")
    types = [t for t in (np.uint8, np.uint16, np.uint32) if np.iinfo(t).max >= top]
    if top <= np.iinfo(labels.dtype).max:
        return labels
    logger.info("labels grow from %s to %s", labels.dtype, np.dtype(types[0]))
    if not isinstance(labels, ChunkedLabels):
        return np.asarray(labels).astype(types[0])
    import zarr

    target = labels.path
    part = Path(f"{target}.part")
    shutil.rmtree(part, ignore_errors=True)
    copy_labels(labels, _create(part, labels.shape, types[0]))
    shutil.rmtree(target)
    os.replace(part, target)
    return ChunkedLabels(zarr.open_array(target, mode="r+"), labels.release())


def highest_possible(labels: Any) -> int:
    """Return the largest value that labels can hold, grown or not."""
    own = int(np.iinfo(labels.dtype).max)
    grows = isinstance(labels, (np.ndarray, ChunkedLabels))
    return max(own, 2**32 - 1) if grows else own


def copy_labels(source: Any, out: Any) -> None:
    """Copy labels into an empty array, block by block; empty blocks are left out."""
    for spans in iter_blocks_of(source):
        block = np.asarray(source[spans])
        if block.any():
            out[spans] = block


def write_labels(path: str | os.PathLike[str], labels: Any) -> Any:
    """Write labels as a zarr array at a path that does not exist; return it."""
    copy_labels(labels, out := _create(path, labels.shape, labels.dtype))
    return out


def iter_blocks_of(labels: Any) -> Iterator[Spans]:
    """Yield blocks that hold every label of an array; those known to be 0 are left out.

    Examples
    --------
    >>> list(iter_blocks_of(np.zeros((2, 8, 8), np.uint8)))[1]
    (slice(1, 2, None), slice(0, 8, None), slice(0, 8, None))
    """
    written = written_blocks(labels)
    if written is not None:
        yield from written
        return
    sides = (*(1,) * (len(labels.shape) - 2), _BLOCK, _BLOCK)
    steps = (range(0, n, s) for n, s in zip(labels.shape, sides, strict=True))
    for corner in product(*steps):
        ends = zip(corner, sides, labels.shape, strict=True)
        yield tuple(slice(a, min(a + s, n)) for a, s, n in ends)


def written_blocks(labels: Any) -> list[Spans] | None:
    """Return the blocks of chunked labels that were ever written; None: not known.

    Everything outside of them is background. What a zarr array holds is asked of its
    folder; other stores are not asked.
    """
    if hasattr(labels, "written_blocks"):  # another view of such labels
        found: list[Spans] | None = labels.written_blocks()
        return found
    if isinstance(labels, ChunkedLabels):
        return list(labels.iter_written())
    root = getattr(getattr(labels, "store", None), "root", None)
    if isinstance(root, Path) and getattr(labels, "fill_value", None) == 0:
        return _written_chunks(labels, root / labels.path)
    return None


def _written_chunks(array: Any, folder: Path) -> list[Spans] | None:
    """Blocks of the chunks (or shards) of a zarr array that are files in its folder."""
    if array.metadata.zarr_format != 3:
        return None
    sides = array.shards or array.chunks
    encoding = array.metadata.chunk_key_encoding
    if encoding.name != "default":
        return None
    found = []
    names = folder.rglob("*") if encoding.separator == "/" else folder.glob("c.*")
    for file in names:
        place = "/".join(file.relative_to(folder).parts).replace(".", "/").split("/")
        if place[0] == "c" and len(place) == array.ndim + 1:
            if all(p.isdecimal() for p in place[1:]):
                found.append(_spans([int(p) for p in place[1:]], sides, array.shape))
    return sorted(found, key=lambda spans: [s.start for s in spans])


def _spans(place: Sequence[int], sides: Sequence[int], shape: Sequence[int]) -> Spans:
    starts = [p * s for p, s in zip(place, sides, strict=True)]
    ends = zip(starts, sides, shape, strict=True)
    return tuple(slice(a, min(a + s, n)) for a, s, n in ends)


def highest_label(labels: Any) -> int:
    """Return the largest value, read block by block."""
    tops = (np.max(labels[spans], initial=0) for spans in iter_blocks_of(labels))
    return int(max(tops, default=0))


def label_chunks(shape: Sequence[int]) -> tuple[int, ...]:
    """Plane-shaped chunks of at most 1024 x 1024."""
    return (1,) * (len(shape) - 2) + tuple(max(1, min(1024, n)) for n in shape[-2:])


def _create(path: str | os.PathLike[str], shape: Sequence[int], dtype: Any) -> Any:
    import zarr

    return zarr.create_array(
        Path(path), shape=tuple(shape), dtype=dtype, chunks=label_chunks(shape),
        fill_value=0,
    )  # fmt: skip
