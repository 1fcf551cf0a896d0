"""Where embeddings are kept, and opening the store that is there."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from napari_sam.core.planes import count_planes
from napari_sam.embeddings.cache import cache_folder, enforce_limit
from napari_sam.embeddings.layout import VERSION
from napari_sam.embeddings.source import EmbeddingSource
from napari_sam.errors import StoreError

if TYPE_CHECKING:
    from napari_sam.core.intensity import IntensityMapping
    from napari_sam.embeddings.store import EmbeddingStore
    from napari_sam.models.protocol import PromptableModel
    from napari_sam.volume.volume import Volume

SUFFIX = ".nsam-emb"
"""End of the names of folders with embeddings."""
MEMORY_BYTES = 2**30
"""Embeddings that `memory_store` keeps of an image that has no name."""


def open_store(
    volume: Volume,
    model: PromptableModel,
    path: Any = None,
    *,
    axis: int = 0,
    intensity: IntensityMapping | None = None,
    mode: str = "a",
    cache_bytes: int = 2**28,
) -> EmbeddingStore:
    """Open (or start) the embedding store of a volume's axis for a model.

    Parameters
    ----------
    volume, model
    path : path-like, URL, zarr store or True, optional
        `default_store_path` when left out; True: `path_beside` the data.
    axis : int
        Sliced axis among the last three.
    intensity : IntensityMapping, optional
        The volume's own when left out.
    mode : {"a", "r+", "r"}
        As in `EmbeddingStore.open`.
    cache_bytes : int
        Memory for tiles.

    Raises
    ------
    StoreError, SignatureError
        As `EmbeddingStore.open` does; also if the volume is an array in memory and no
        path is given.
    """
    from napari_sam.embeddings.store import EmbeddingStore

    if path is None:
        path = default_store_path(volume)
    elif path is True:
        path = path_beside(volume)
    source = EmbeddingSource.of(volume, model, intensity)
    found = EmbeddingStore.open(
        path,
        source.signature(axis),
        source.grid(axis),
        count_planes(volume.shape, axis),
        model.spec.feature_shapes,
        mode=mode,  # type: ignore[arg-type]
        cache_bytes=cache_bytes,
    )
    if found.writable:
        enforce_limit(path)
    return found


def memory_store(source: EmbeddingSource, axis: int = 0) -> EmbeddingStore:
    """Start a store in memory, bounded to `MEMORY_BYTES`, for this process alone."""
    from zarr.storage import MemoryStore

    from napari_sam.embeddings.store import EmbeddingStore

    return EmbeddingStore.open(
        MemoryStore(),
        source.signature(axis),
        source.grid(axis),
        count_planes(source.volume.shape, axis),
        source.model.spec.feature_shapes,
        cache_bytes=0,
        max_bytes=MEMORY_BYTES,
    )


def default_store_path(volume: Volume) -> Path:
    """Return where embeddings go by default: into the user's cache.

    That is ``$NAPARI_SAM_CACHE/embeddings``, or the same in the system's folder for
    caches. The name tells the image's contents, not its place, so that an image that
    was moved finds its embeddings.

    Raises
    ------
    StoreError
        If the volume has no path or URL: nothing would tell its embeddings from those
        of another array.
    """
    if volume.source is None:
        raise StoreError(
            f"{volume.name!r} is an array in memory, so its embeddings have no place "
            "by default: give the path of a store, such as image.nsam-emb"
        )
    known = {"layout": VERSION, **volume.identity()}
    text = json.dumps(known, sort_keys=True, default=str)
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    name = re.sub(r"[^\w.-]+", "_", str(volume.identity()["uri"]))[:40]
    return cache_folder() / f"{name}-{key}{SUFFIX}"


def path_beside(volume: Volume) -> Path:
    """Return the path of a store beside an image, for those who want it there.

    A folder of DICOM files is never written to: the store of a file in it lies beside
    the folder.

    Raises
    ------
    StoreError
        If the volume is no file or folder of this machine.
    """
    local = _local_path(volume.source)
    if local is None:
        raise StoreError(
            f"{volume.name!r} is no file or folder on this computer, so nothing can "
            "lie beside it: give the path of a store, or leave it out"
        )
    if "frames" in volume.metadata and local.is_file():
        return local.parent.with_name(f"{local.parent.name}-{local.name}{SUFFIX}")
    return local.with_name(f"{local.name}{SUFFIX}")


def _local_path(source: str | None) -> Path | None:
    if not source:
        return None
    parts = urlsplit(source)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return None if "://" in source else Path(source)
