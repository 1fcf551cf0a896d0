"""Open zarr arrays and OME-Zarr images (0.1 to 0.6), local, zipped or remote."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.errors import NapariSamError, SeriesError, VolumeError, reason
from napari_sam.volume.arrays import assemble, dimension_names
from napari_sam.volume.formats.ome_metadata import Multiscale, first_entry
from napari_sam.volume.formats.zarr_stores import (
    ContainedStore,
    check_array,
    is_inside,
    open_zip,
)
from napari_sam.volume.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_sam.volume.lazy_arrays import Array
    from napari_sam.volume.volume import Volume

_DEEPEST = 8
"""How many groups that hold one thing each are gone through."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """An image in a zarr."""

    levels: list[Array]
    layout: Layout
    name: str
    metadata: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def open_zarr(
    path: str, *, axes: Any = None, channels: Any = None, series: Any = None
) -> Volume:
    """Open a zarr array or an OME-Zarr group.

    Parameters
    ----------
    path : str
        Folder, zip file or URL.
    axes, channels
        As in `open_volume`.
    series : str, optional
        Path of one image inside the group.

    Raises
    ------
    SeriesError
        If the group holds several images and none was chosen.
    VolumeError
        If it holds none, leads out of its folder, or is damaged.
    """
    node = _open_node(path)
    if hasattr(node, "shape"):
        if series is not None:
            raise SeriesError(f"{path!r} holds one array: leave series= out")
        found = _one_array(node)
    else:
        found = read_group(node, series)
    name = path.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1]
    return assemble(
        found.levels, found.layout, axes=axes, channels=channels, notes=found.notes,
        name=name.split(".")[0] or name, source=path,
        crs=found.metadata.pop("crs", None), metadata=found.metadata,
    )  # fmt: skip


def open_group(group: Any, *, axes: Any = None, channels: Any = None) -> Volume:
    """Open a group of the zarr package that is open already."""
    found = read_group(group, None)
    return assemble(
        found.levels, found.layout, axes=axes, channels=channels, notes=found.notes,
        name=found.name,
    )  # fmt: skip


def _open_node(path: str) -> Any:
    import zarr

    from napari_sam.core.urls import is_url
    from napari_sam.volume.remote import open_remote

    store: Any
    root = ""
    if is_url(path):
        try:
            store = open_remote(path, read_only=True)
        except NapariSamError as error:
            raise VolumeError(str(error)) from error
    elif path.endswith(".zip"):
        store, root = open_zip(path)
    else:
        store = ContainedStore(path)
    try:
        return zarr.open(store, mode="r", path=root)
    except NapariSamError:
        raise
    except Exception as error:
        denied = getattr(store, "denied", None)
        raise VolumeError(
            f"{path!r} cannot be opened as zarr ({denied or reason(error)}): "
            "check the address and that the copy is complete"
        ) from error


def _one_array(array: Any) -> Found:
    check_array(array)
    return Found([array], Layout(axes=dimension_names(array)), array.basename)


def read_group(group: Any, series: Any) -> Found:
    """Find the image in a group.

    Parameters
    ----------
    group : zarr.Group
    series : str or None
        Path of the image in it.

    Raises
    ------
    SeriesError
        If the group holds several images and `series` names none of them.
    VolumeError
        If it holds none.
    """
    if series is not None:
        node = _node(group, str(series))
        if node is None:
            images, _ = list_images(group)
            raise SeriesError(
                f"there is no image {series!r} in this zarr: choose one of "
                f"{', '.join(images) or '(none)'}", images,
            )  # fmt: skip
        if hasattr(node, "shape"):
            return _one_array(node)
        group = node
    notes: list[str] = []
    for _ in range(_DEEPEST):
        ome = ome_of(group)
        if ome.get("multiscales"):
            return _read_multiscale(group, ome, notes)
        images, missing = list_images(group)
        if missing:
            notes.append(f"{missing} of its images are named and are not there")
        if len(images) != 1:
            raise _choice(images)
        only = next(iter(images))
        group = _node(group, only)
        if group is None:
            raise VolumeError(
                f"the metadata of this zarr name an image {only!r} that is not there: "
                "the copy is not complete"
            )
        if hasattr(group, "shape"):
            return _one_array(group)
    raise VolumeError("this zarr holds nothing but groups in one another")


def _choice(images: dict[str, str]) -> VolumeError:
    if not images:
        return VolumeError(
            "this zarr group holds no image: neither OME-Zarr metadata nor an array of "
            "two or more axes"
        )
    listing = "".join(f"\n  {key}  {text}" for key, text in list(images.items())[:30])
    return SeriesError(
        f"this zarr holds {len(images)} images; choose one with series=...:{listing}",
        images,
    )


def ome_of(group: Any) -> dict[str, Any]:
    """OME metadata of a group, of whichever version; empty if there are none."""
    attrs = dict(group.attrs)
    ome = attrs.get("ome", attrs)
    return dict(ome) if isinstance(ome, Mapping) else {}


def label_names(path: str, series: str = "") -> list[str]:
    """Names of the label images that an OME-Zarr image lists; empty if there are none.

    Parameters
    ----------
    path : str
        Folder, zip file or URL.
    series : str
        Path of the image inside, where it is not at the top.
    """
    try:
        labels = _node(_open_node(path), f"{series}/labels".strip("/"))
    except NapariSamError:
        return []
    names = ome_of(labels).get("labels") if hasattr(labels, "members") else None
    listed = names if isinstance(names, list) else []
    return [n for n in listed if isinstance(n, str) and is_inside(n)]


def _node(group: Any, path: str) -> Any:
    """Return what lies at a path in a group, or None."""
    if not is_inside(path):
        return None
    try:
        return group[path.strip("/")]
    except (KeyError, FileNotFoundError):
        return None


def _is_there(group: Any, path: str) -> bool:
    """Whether a plate's image is there; servers are not asked for each of thousands."""
    if not is_inside(path):
        return False
    root = getattr(group.store, "root", None)
    if root is not None:
        return Path(str(root), group.path, path).is_dir()
    return is_remote(group.store) or _node(group, path) is not None


def is_remote(store: Any) -> bool:
    """Whether each look into a store is a request to a server."""
    return hasattr(store, "url")


def list_images(group: Any) -> tuple[dict[str, str], int]:
    """List the images of a group: fields of a plate, numbered images, plain arrays.

    Returns
    -------
    images : dict of str to str
        Path in the group, and words for people.
    missing : int
        How many are named in the metadata and are not there.
    """
    ome = ome_of(group)
    if isinstance(ome.get("plate"), Mapping):
        return _fields(group, _paths(ome["plate"].get("wells")))
    if isinstance(ome.get("well"), Mapping):
        images = _paths(ome["well"].get("images"))
        there = {p: "field of view" for p in images if _is_there(group, p)}
        return there, len(images) - len(there)
    found = {}
    for key, member in _members(group, ome):
        if hasattr(member, "shape"):
            if member.ndim >= 2:
                found[key] = f"array {member.shape} {member.dtype}"
        elif first := first_entry(ome_of(member).get("multiscales")):
            found[key] = str(first.get("name") or "image")
    return found, 0


def _fields(plate: Any, wells: list[str]) -> tuple[dict[str, str], int]:
    found, missing = {}, 0
    for well in wells:
        group = _node(plate, well)
        if group is None or hasattr(group, "shape"):
            missing += 1
            continue
        inner = ome_of(group).get("well")
        images = _paths(inner.get("images") if isinstance(inner, Mapping) else None)
        for image in images:
            if _is_there(group, image):
                found[f"{well}/{image}"] = f"well {well.replace('/', '')}"
            else:
                missing += 1
    return found, missing


def _paths(entries: Any) -> list[str]:
    entries = entries if isinstance(entries, list) else []
    paths = [e.get("path") for e in entries if isinstance(e, Mapping)]
    return [str(p).strip("/") for p in paths if isinstance(p, (str, int))]


def _members(group: Any, ome: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    layout = "bioformats2raw.layout" in ome
    if layout and not getattr(group.store, "supports_listing", True):
        return _numbered(group)
    with warnings.catch_warnings():  # of files that are no part of the hierarchy
        warnings.simplefilter("ignore")
        return sorted(group.members())


def _numbered(group: Any) -> list[tuple[str, Any]]:
    """Images of a container on a web server, which does not list what it has."""
    listed = _node(group, "OME")
    named = ome_of(listed).get("series") if listed is not None else None
    if isinstance(named, list):
        pairs = [(str(n), _node(group, str(n))) for n in named]
        return [(name, node) for name, node in pairs if node is not None]
    out: list[tuple[str, Any]] = []
    while (node := _node(group, str(len(out)))) is not None:
        out.append((str(len(out)), node))
    return out


def _read_multiscale(group: Any, ome: Mapping[str, Any], notes: list[str]) -> Found:
    multiscale = Multiscale.of(ome)
    levels: list[Any] = []
    for path in multiscale.paths:
        level = _node(group, path)
        if not hasattr(level, "shape"):
            raise VolumeError(
                f"the OME-Zarr metadata lists a level {path!r} that is not there: the "
                "copy is not complete"
            )
        check_array(level)
        levels.append(level)
    layout = multiscale.layout(levels[0].shape)
    own = group.attrs.get("napari_sam")
    own = own if isinstance(own, Mapping) else {}
    if layout.affine is not None:
        layout = replace(layout, affine=_own_affine(own, layout.affine))
    kept = {k: v for k, v in ome.items() if k in ("omero", "image-label", "version")}
    metadata: dict[str, Any] = {"ome": kept}
    if own.get("coordinates") in ("LPS", "RAS"):
        metadata["coordinates"] = own["coordinates"]
    if isinstance(own.get("crs"), str):
        metadata["crs"] = own["crs"]
    notes = [*notes, *multiscale.notes]
    return Found(levels, layout, multiscale.name, metadata, notes)


def _own_affine(own: Mapping[str, Any], affine: np.ndarray) -> np.ndarray:
    """Take the affine among our own attributes, unless OME-Zarr's was changed since.

    What OME-Zarr 0.5 itself can say, pixel sizes and origin, has to agree.
    """
    try:
        kept = np.asarray(own.get("affine"), float)
    except (TypeError, ValueError):
        return affine
    if kept.shape != affine.shape or not np.isfinite(kept).all():
        return affine
    sizes, given = (np.linalg.norm(a[:-1, :-1], axis=0) for a in (kept, affine))
    same = np.allclose(sizes, given, rtol=1e-6)
    return kept if same and np.allclose(kept[:, -1], affine[:, -1]) else affine
