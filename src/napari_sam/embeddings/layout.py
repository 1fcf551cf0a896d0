"""Where an embedding store keeps what, and how to open one without harming others.

The layout itself is described in `napari_sam.embeddings.store`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import warnings
from typing import TYPE_CHECKING, Any

from napari_sam.core.embedding import EmbeddingSignature
from napari_sam.embeddings.cache import IN_USE
from napari_sam.errors import NapariSamError, SignatureError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from napari_sam.core.tiles import TileGrid

StorePath = str | os.PathLike[str] | Any
"""A folder, a ``.zip`` file, a URL, or a zarr store object."""

_MARK = "napari_sam_embeddings"
VERSION = 2
"""Of the layout; stores of another are refused, and may be deleted."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)


def open_root(path: StorePath, mode: str) -> Any:
    """Open the group at the top of a path, or start it with mode "a".

    Raises
    ------
    StoreError
        If the path holds anything else, which stays untouched, or cannot be read.
    """
    import zarr

    local = isinstance(path, (str, os.PathLike)) and "://" not in str(path)
    where = _reachable(path, mode)
    with explained(path):
        try:
            root = zarr.open_group(where, mode="r" if mode == "r" else "r+")
        except FileNotFoundError:
            if mode != "a":
                raise StoreError(
                    f"there is no embedding store at {path}: encode_volume makes one"
                ) from None
            if local and _holds_others_files(path):
                raise _foreign(path) from None
            root = _start(where)
        except ValueError:
            raise _foreign(path) from None
    version = root.attrs.get(_MARK)
    if version is None:
        raise _foreign(path)
    if version != VERSION:
        raise StoreError(
            f"{path} has version {version} of the layout and this napari-sam reads "
            f"version {VERSION}: delete it and encode again, or choose another path"
        )
    return root


def _reachable(path: StorePath, mode: str) -> StorePath:
    """Return what zarr opens: a store that tries again for URLs."""
    from napari_sam.core.urls import is_url
    from napari_sam.volume.remote import open_remote

    if not is_url(path):
        return path
    try:
        return open_remote(str(path), read_only=mode == "r")
    except NapariSamError as error:
        raise StoreError(str(error)) from error


def _start(path: StorePath) -> Any:
    import zarr
    from zarr.errors import ContainsGroupError

    try:
        return zarr.open_group(path, mode="a", attributes={_MARK: VERSION})
    except ContainsGroupError:  # made by another process meanwhile
        return zarr.open_group(path, mode="r+")


def _holds_others_files(path: str | os.PathLike[str]) -> bool:
    if os.path.isfile(path):
        return True
    found = os.listdir(path) if os.path.isdir(path) else []
    # Metadata seen only now: another process is starting the same store.
    if "zarr.json" in found:
        return False
    return any(name != IN_USE and not name.endswith(".partial") for name in found)


def _foreign(path: StorePath) -> StoreError:
    return StoreError(
        f"{path} exists and is not an embedding store; nothing was changed there. "
        "Choose another path, by convention <image>.nsam-emb"
    )


def signatures(root: Any) -> list[EmbeddingSignature]:
    """Return the signatures that a store holds."""
    with warnings.catch_warnings():
        # Unfinished writes, of this moment or of a killed process, lie beside groups.
        warnings.simplefilter("ignore")
        groups = [group for _, group in root.groups()]
    found = (group.attrs.get("signature") for group in groups)
    return [EmbeddingSignature.from_json(dict(s)) for s in found if s]


def mismatch(
    path: StorePath, wanted: EmbeddingSignature, found: list[EmbeddingSignature]
) -> StoreError:
    """Return the error for a signature that a store does not hold."""
    if not found:
        return StoreError(f"{path} holds no embeddings yet: encode_volume makes them")
    nearest = min((wanted.differences(s) for s in found), key=len)
    pairs = "; ".join(
        f"{k}: wanted {a!r}, stored {b!r}" for k, (a, b) in nearest.items()
    )
    return SignatureError(
        f"{path} holds embeddings of something else. {pairs}. Encode again (both are "
        "kept side by side), or use the model, image and intensity they were made with"
    )


def head_of(
    grid: TileGrid,
    n_planes: int,
    feature_shapes: Mapping[str, tuple[int, int, int]],
) -> dict[str, Any]:
    """Return the attributes of a signature's group that its arrays follow from."""
    return {
        "plane_shape": [int(n) for n in grid.shape],
        "tiles": [grid.side, grid.overlap, grid.n_levels],
        "n_planes": int(n_planes),
        "features": {k: [int(n) for n in v] for k, v in sorted(feature_shapes.items())},
    }


def check_head(path: StorePath, stored: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuse a group whose arrays have other shapes than wanted.

    Raises
    ------
    SignatureError
        The message names what differs.
    """
    for name, value in wanted.items():
        if stored.get(name) != value:
            raise SignatureError(
                f"{path} holds embeddings under this signature with other {name}: "
                f"wanted {value}, stored {stored.get(name)}. Choose another path"
            )


def require_group(root: Any, name: str, attributes: Mapping[str, Any]) -> Any:
    """Open a group, or make it with its attributes in one write."""
    from zarr.errors import ContainsGroupError

    try:
        return root.create_group(name, attributes=dict(attributes))
    except ContainsGroupError:  # made by another process meanwhile
        return root[name]


def require_arrays(
    group: Any,
    grid: TileGrid,
    n_planes: int,
    feature_shapes: Mapping[str, tuple[int, int, int]],
    dtype: str,
) -> None:
    """Make the arrays that a signature's group does not have yet."""
    # Killed between two of these, the next opening makes the rest.
    size = (n_planes, grid.n_tiles())
    for name, shape in feature_shapes.items():
        chunks = (1, 1, *shape)
        _require_array(group, f"features/{name}", (*size, *shape), chunks, dtype)
    _require_array(group, "present", size, (1, 1), "uint64")


def _require_array(
    group: Any, name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: str
) -> None:
    from zarr.errors import ContainsArrayError

    if name in group:
        return
    with contextlib.suppress(ContainsArrayError):  # made meanwhile, all the same
        group.create_array(
            name, shape=shape, chunks=chunks, dtype=dtype, fill_value=0,
            compressors=None,
        )  # fmt: skip


@contextlib.contextmanager
def explained(path: StorePath) -> Iterator[None]:
    """Turn what the file system or zarr raises into what to do about it."""
    try:
        yield
    except NapariSamError:
        raise
    except OSError as error:
        if error.errno in _FULL:
            advice = "the disk is full: free some space or choose another path"
        elif error.errno in _DENIED:
            advice = "it is read-only: choose a path you may write to, or mode='r'"
        else:
            advice = "check the path and the connection, then go on"
        raise StoreError(
            f"the embedding store {path} cannot be used ({error}); {advice}. Every "
            "tile finished before is safe, and encoding goes on from there"
        ) from error
    except (ValueError, KeyError) as error:
        raise StoreError(
            f"the embedding store {path} is damaged ({error}): delete it, or choose "
            "another path, and encode again"
        ) from error
