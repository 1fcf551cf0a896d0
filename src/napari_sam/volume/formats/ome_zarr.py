"""Open zarr arrays and OME-Zarr images (0.4 and 0.5), local or remote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.errors import NapariSamError, SeriesError, VolumeError
from napari_sam.volume.arrays import assemble, dimension_names
from napari_sam.volume.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_sam.volume.lazy_arrays import Array
    from napari_sam.volume.volume import Volume


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
    """
    node = _open_node(path)
    if hasattr(node, "shape"):
        if series is not None:
            raise SeriesError(f"{path!r} holds one array: leave series= out")
        levels, layout = [node], Layout(axes=dimension_names(node))
        extra: dict[str, Any] = {}
    else:
        levels, layout, _, extra = read_group(node, series)
    name = path.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1]
    return assemble(
        levels, layout, axes=axes, channels=channels,
        name=name.split(".")[0] or name, source=path, crs=extra.pop("crs", None),
        metadata=extra,
    )  # fmt: skip


def open_group(group: Any, *, axes: Any = None, channels: Any = None) -> Volume:
    """Open a group of the zarr package that is open already."""
    levels, layout, name, _ = read_group(group, None)
    return assemble(levels, layout, axes=axes, channels=channels, name=name)


def _open_node(path: str) -> Any:
    import zarr

    from napari_sam.volume.remote import is_url, open_remote

    store: Any = path
    if is_url(path):
        try:
            store = open_remote(path, read_only=True)
        except NapariSamError as error:
            raise VolumeError(str(error)) from error
    elif path.endswith(".zip"):
        store = zarr.storage.ZipStore(path, mode="r")
    try:
        return zarr.open(store, mode="r")
    except (OSError, ValueError, KeyError, TypeError) as error:
        error = getattr(store, "denied", None) or error
        raise VolumeError(
            f"{path!r} cannot be opened as zarr ({type(error).__name__}: {error}): "
            "check the address and that the copy is complete"
        ) from error


def read_group(
    group: Any, series: str | None
) -> tuple[list[Array], Layout, str, dict[str, Any]]:
    """Find the image in a group: (levels, layout, name, metadata).

    Raises
    ------
    SeriesError
        If the group holds several images and `series` names none of them.
    """
    if series is not None:
        try:
            group = group[str(series)]
        except KeyError:
            found = _images(group)
            raise SeriesError(
                f"there is no image {series!r} in this zarr: choose one of "
                f"{', '.join(found) or '(none)'}", found,
            ) from None  # fmt: skip
        if hasattr(group, "shape"):
            return [group], Layout(axes=dimension_names(group)), group.basename, {}
    ome = _ome(group)
    if ome.get("multiscales"):
        return _read_multiscale(group, ome)
    found = _images(group)
    if len(found) == 1:
        return read_group(group, next(iter(found)))
    if not found:
        raise VolumeError(
            "this zarr group holds no image: neither OME-Zarr metadata nor an array of "
            "two or more axes"
        )
    listing = "".join(f"\n  {key}  {text}" for key, text in list(found.items())[:30])
    raise SeriesError(
        f"this zarr holds {len(found)} images; choose one with series=...:{listing}",
        found,
    )


def _ome(group: Any) -> dict[str, Any]:
    attrs = dict(group.attrs)
    return dict(attrs.get("ome", attrs))


def _images(group: Any) -> dict[str, str]:
    """Images inside a group: fields of a plate, numbered images, or plain arrays."""
    ome = _ome(group)
    if "plate" in ome:
        wells = [w["path"] for w in ome["plate"]["wells"]]
        return {
            f"{well}/{image['path']}": f"well {well.replace('/', '')}"
            for well in wells
            for image in _ome(group[well]).get("well", {}).get("images", [])
        }
    if "well" in ome:
        return {i["path"]: "field of view" for i in ome["well"]["images"]}
    found = {}
    for key, member in sorted(group.members()):
        if hasattr(member, "shape"):
            if member.ndim >= 2:
                found[key] = f"array {member.shape} {member.dtype}"
        elif _ome(member).get("multiscales"):
            found[key] = str(_ome(member)["multiscales"][0].get("name") or "image")
    return found


def _read_multiscale(
    group: Any, ome: Mapping[str, Any]
) -> tuple[list[Array], Layout, str, dict[str, Any]]:
    multiscale = ome["multiscales"][0]
    try:
        levels = [group[d["path"]] for d in multiscale["datasets"]]
    except KeyError as error:
        raise VolumeError(
            f"the OME-Zarr metadata lists a level {error} that is not there: the "
            "copy is not complete"
        ) from error
    names, units = _axes(multiscale, levels[0].ndim)
    scale, shift = _transform(multiscale, len(names))
    channels = ome.get("omero", {}).get("channels", [])
    layout = Layout(
        axes=names,
        spacing={n: abs(s) or 1.0 for n, s in zip(names, scale, strict=True)},
        units=units,
        origin=dict(zip(names, shift, strict=True)),
        affine=_affine(group, names, scale, shift),
        rgb=None,
        channel_names=_channel_names(channels, names, levels[0]),
    )
    kept = {k: v for k, v in ome.items() if k in ("omero", "image-label", "version")}
    extra: dict[str, Any] = {"ome": kept}
    own = group.attrs.get("napari_sam")
    if isinstance(own, dict) and own.get("coordinates") in ("LPS", "RAS"):
        extra["coordinates"] = own["coordinates"]
    if isinstance(own, dict) and isinstance(own.get("crs"), str):
        extra["crs"] = own["crs"]
    return levels, layout, str(multiscale.get("name") or "image"), extra


def _affine(
    group: Any, names: tuple[str, ...], scale: list[float], shift: list[float]
) -> np.ndarray | None:
    """Index to world of the axes without channels: ours where it is kept, else a scale.

    An affine among our own attributes counts as long as nobody changed what OME-Zarr
    itself can say: pixel sizes and origin.
    """
    spatial = [i for i, n in enumerate(names) if n != "c"]
    out = np.diag([*(scale[i] or 1.0 for i in spatial), 1.0])
    out[:-1, -1] = [shift[i] for i in spatial]
    own = group.attrs.get("napari_sam")
    try:
        kept = np.asarray(own["affine"] if isinstance(own, dict) else None, float)
    except (TypeError, ValueError, KeyError):
        return out
    if kept.shape != out.shape or not np.isfinite(kept).all():
        return out
    sizes = np.linalg.norm(kept[:-1, :-1], axis=0)
    same = np.allclose(sizes, np.abs(np.diag(out)[:-1]), rtol=1e-6)
    return kept if same and np.allclose(kept[:, -1], out[:, -1]) else out


def _axes(
    multiscale: Mapping[str, Any], ndim: int
) -> tuple[tuple[str, ...], dict[str, str]]:
    axes = multiscale.get("axes") or list("tczyx"[-ndim:])
    entries = [{"name": a} if isinstance(a, str) else dict(a) for a in axes]
    names = tuple(
        "c" if e.get("type") == "channel" else str(e["name"]).lower() for e in entries
    )
    units = {n: e["unit"] for n, e in zip(names, entries, strict=True) if e.get("unit")}
    return names, units


def _transform(
    multiscale: Mapping[str, Any], ndim: int
) -> tuple[list[float], list[float]]:
    """Scale and translation of level 0: the dataset's own, then the image's."""
    scale, shift = [1.0] * ndim, [0.0] * ndim
    for step in (
        *multiscale["datasets"][0].get("coordinateTransformations", ()),
        *multiscale.get("coordinateTransformations", ()),
    ):
        if step.get("type") == "scale" and "scale" in step:
            scale = [a * b for a, b in zip(scale, step["scale"], strict=True)]
            shift = [a * b for a, b in zip(shift, step["scale"], strict=True)]
        elif step.get("type") == "translation" and "translation" in step:
            shift = [a + b for a, b in zip(shift, step["translation"], strict=True)]
    return scale, shift


def _channel_names(
    channels: Any, names: tuple[str, ...], level: Any
) -> tuple[str, ...]:
    if "c" not in names or len(channels) != level.shape[names.index("c")]:
        return ()
    return tuple(str(c.get("label", i)) for i, c in enumerate(channels))
