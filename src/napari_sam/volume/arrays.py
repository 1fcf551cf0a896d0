"""Volumes of arrays: axes named, channels chosen, spacing and affine put in order."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from napari_sam.errors import VolumeError
from napari_sam.volume.layout import Layout
from napari_sam.volume.lazy_arrays import Array, AxisView
from napari_sam.volume.plausible import check_levels, with_known_spacing
from napari_sam.volume.volume import Volume

logger = logging.getLogger(__name__)

CHANNEL_NAMES = frozenset(
    {"c", "s", "channel", "channels", "rgb", "rgba", "band", "samples"}
)
SYNONYMS = {
    "time": "t", "depth": "z", "plane": "z", "slice": "z", "row": "y", "rows": "y",
    "lat": "y", "latitude": "y", "height": "y", "col": "x", "column": "x",
    "columns": "x", "lon": "x", "longitude": "x", "width": "x",
}  # fmt: skip
MOST_CHANNELS = 6
"""Channels that an intensity mapping can show at once."""


def open_array(
    source: Any, *, axes: str | Sequence[str] | None = None, channels: Any = None
) -> Volume:
    """Open an array, a pyramid of arrays, an xarray object or a napari layer."""
    levels, layout, name = _describe(source)
    return assemble(levels, layout, axes=axes, channels=channels, name=name)


def assemble(
    levels: Sequence[Array],
    layout: Layout,
    *,
    axes: str | Sequence[str] | None = None,
    channels: int | Sequence[int] | None = None,
    notes: Sequence[str] = (),
    **fields: Any,
) -> Volume:
    """Build a `Volume` from arrays as stored and what is known about them.

    Parameters
    ----------
    levels : sequence of array-likes
        Pyramid in stored axis order, finest first.
    layout : Layout
    axes, channels
        As in `open_volume`; `axes` overrides the layout's.
    notes : sequence of str
        What was read otherwise than one might expect, or left out: a sentence each.
        They are logged, and kept as ``metadata["notes"]``.
    **fields
        Further fields of `Volume`.

    Raises
    ------
    VolumeError
        If the arrays are no image or of an absurd size, or a choice does not fit.
    """
    told = list(notes)
    levels = check_levels(levels, told)
    names, rgb = _name_axes(levels[0], layout, axes)
    layout = with_known_spacing(layout, told)
    if channels is None:
        channels = _first_channels(levels[0], names, rgb, layout.channel_names, told)
    channel = names.index("c") if "c" in names else None
    picks, chosen = _choose(levels[0], channel, channels, rgb)
    spatial = _spatial_order(names)
    order = _stored_order(names, spatial, keep_channel=picks is None or len(picks) > 1)
    views = tuple(_view(level, order, channel, picks) for level in levels)
    out_names = tuple(names[a] for a in spatial)
    rgb = rgb and (3 if picks is None else len(picks)) == 3
    _tell(told, fields)
    affine = _affine(layout, names, spatial, axes is not None)
    lengths = np.linalg.norm(affine[:-1, :-1], axis=0)
    return Volume(
        levels=views,
        axes=out_names,
        spacing=tuple(
            float(layout.spacing.get(n, length))
            for n, length in zip(out_names, lengths, strict=True)
        ),
        units=tuple(layout.units.get(n, "pixel") for n in out_names),
        affine=affine,
        channel_axis=order.index(channel) if channel in order else None,
        channels=chosen,
        channel_names=_names_of(layout.channel_names, picks),
        rgb=rgb,
        **fields,
    )


def _tell(notes: Sequence[str], fields: dict[str, Any]) -> None:
    if not notes:
        return
    known = fields.get("metadata", {})
    fields["metadata"] = {**known, "notes": [*known.get("notes", ()), *notes]}
    for note in notes:
        logger.warning("%s: %s", fields.get("source") or fields.get("name"), note)


def _first_channels(
    array: Array,
    names: list[str],
    rgb: bool,
    channel_names: Sequence[str],
    notes: list[str],
) -> list[int] | None:
    """Return the channels to begin with where there are more than can be shown."""
    count = array.shape[names.index("c")] if "c" in names else 1
    if count <= MOST_CHANNELS or rgb:
        return None
    named = [n for n in channel_names if not n.isdigit()]
    known = f" ({', '.join(channel_names)})" if named else ""
    notes.append(
        f"it has {count} channels{known}, more than can be shown at once: the first "
        f"{MOST_CHANNELS} were taken; choose others with channels=[...]"
    )
    return list(range(MOST_CHANNELS))


def _name_axes(
    array: Array, layout: Layout, axes: str | Sequence[str] | None
) -> tuple[list[str], bool]:
    """Name every stored axis ("c" holds channels) and tell colour from channels."""
    given = axes if axes is not None else layout.axes
    if given is None:
        colour = looks_rgb(array) if layout.rgb is None else layout.rgb
        ndim = array.ndim - colour
        lead = [f"d{i}" for i in range(ndim - 4)]
        names = [*lead, *"tzyx"[-min(ndim, 4) :], *(["c"] if colour else [])]
        return names, colour
    names = _canonical(given)
    if len(names) != array.ndim or len(set(names)) != len(names):
        raise VolumeError(
            f"axes= needs one different name for each of the {array.ndim} axes of "
            f"shape {tuple(array.shape)}; got {given!r}"
        )
    if "c" not in names:
        return names, False
    is_last = names[-1] == "c" and array.shape[-1] in (3, 4)
    colour = layout.rgb if layout.rgb is not None else is_last and looks_rgb(array)
    return names, colour


def looks_rgb(array: Array) -> bool:
    """Whether an array is RGB or RGBA: last axis 3 or 4, 8- or 16-bit unsigned."""
    last = array.shape[-1] in (3, 4) and array.ndim >= 3
    return last and np.dtype(array.dtype) in (np.dtype("u1"), np.dtype("u2"))


def _canonical(axes: str | Sequence[str]) -> list[str]:
    names = [str(a).lower() for a in axes]
    names = [SYNONYMS.get(n, n) for n in names]
    if not {"y", "x"} <= set(names):
        free = [i for i, n in enumerate(names) if n not in CHANNEL_NAMES]
        if len(free) < 2:
            raise VolumeError(f"axes must hold y and x; got {tuple(names)}")
        names[free[-2]], names[free[-1]] = "y", "x"
    unnamed = [i for i, n in enumerate(names[: names.index("y")]) if n in ("i", "q")]
    if "z" not in names and unnamed:
        names[unnamed[-1]] = "z"
    return _one_channel_axis(names)


def _one_channel_axis(names: list[str]) -> list[str]:
    found = [i for i, n in enumerate(names) if n in CHANNEL_NAMES]
    if len(found) > 1 and "s" in names:
        # Samples of a pixel are its channels; separate channel planes lead then.
        found = [names.index("s")]
    if len(found) > 1:
        raise VolumeError(f"only one axis can hold channels; got {tuple(names)}")
    return [
        "c" if i in found else "channel" if n == "c" else n for i, n in enumerate(names)
    ]


def _spatial_order(names: Sequence[str]) -> list[int]:
    """Stored axes without channels in our order: leading ones, then z, y, x."""
    rank = {"z": 1, "y": 2, "x": 3}
    spatial = [a for a, n in enumerate(names) if n != "c"]
    return sorted(spatial, key=lambda a: rank.get(names[a], 0))


def _stored_order(
    names: Sequence[str], spatial: list[int], *, keep_channel: bool
) -> list[int]:
    if "c" not in names or not keep_channel:
        return spatial
    channel = names.index("c")
    in_order = spatial == sorted(spatial)
    return list(range(len(names))) if in_order else [*spatial, channel]


def _choose(
    array: Array,
    channel: int | None,
    channels: int | Sequence[int] | None,
    rgb: bool,
) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    """Return the channels to cut to (None: none to cut) and the caller's choice."""
    count = 1 if channel is None else array.shape[channel]
    if channels is None:
        if rgb and count == 4:
            return (0, 1, 2), None
        return ((0,) if count == 1 and channel is not None else None), None
    given = [channels] if isinstance(channels, (int, np.integer)) else list(channels)
    picks = tuple(int(c) for c in given)
    bad = [c for c in picks if not -count <= c < count]
    if bad or not picks or len(picks) > MOST_CHANNELS:
        raise VolumeError(
            f"channels= takes 1 to {MOST_CHANNELS} of the {count} channel(s) 0.."
            f"{count - 1} of this image; got {given}. If an axis holds the channels, "
            'name it with axes=, such as axes="cyx".'
        )
    picks = tuple(c % count for c in picks)
    if channel is None or (picks == tuple(range(count)) and count > 1):
        return None, picks
    return picks, picks


def _names_of(names: tuple[str, ...], picks: tuple[int, ...] | None) -> tuple[str, ...]:
    if picks is None or not names:
        return names
    return tuple(names[i] for i in picks)


def _view(
    level: Array, order: list[int], channel: int | None, picks: tuple[int, ...] | None
) -> Array:
    if picks is None and order == list(range(level.ndim)):
        return level
    if not isinstance(level, np.ndarray):
        return AxisView(level, order, None if picks is None else channel, picks)
    if picks is not None and channel is not None:
        if channel not in order:
            rest = [a - (a > channel) for a in order]
            return np.asarray(level.take(picks[0], channel).transpose(rest))
        if picks == tuple(range(len(picks))):
            index = [slice(None)] * level.ndim
            index[channel] = slice(0, len(picks))
            return level[tuple(index)].transpose(order)
        return np.asarray(level.take(picks, channel).transpose(order))
    return level.transpose(order)


def _affine(
    layout: Layout, names: list[str], spatial: list[int], renamed: bool
) -> np.ndarray:
    n = len(spatial)
    known = None if renamed else layout.affine
    if known is not None and known.shape == (n + 1, n + 1):
        stored = sorted(spatial)
        place = [stored.index(a) for a in spatial] + [n]
        return np.asarray(known, float)[np.ix_(place, place)]
    ours = [names[a] for a in spatial]
    out = np.diag([*(float(layout.spacing.get(a, 1.0)) for a in ours), 1.0])
    out[:-1, -1] = [float(layout.origin.get(a, 0.0)) for a in ours]
    return out


def _describe(source: Any) -> tuple[list[Array], Layout, str]:
    """Tell apart what was handed in by what it offers, importing no library for it."""
    if hasattr(source, "data") and hasattr(source, "scale") and hasattr(source, "ndim"):
        return _from_layer(source)
    if hasattr(source, "dims") and hasattr(source, "coords"):
        return _from_xarray(source)
    # napari's MultiScaleData is a sequence of levels that also looks like an array.
    if _is_array(source) and not isinstance(source, Sequence):
        return [source], Layout(axes=dimension_names(source)), "array"
    try:
        items = list(source)
    except TypeError:
        items = []
    if items and all(_is_array(item) and item.ndim >= 2 for item in items):
        return items, Layout(), "array"
    raise VolumeError(
        "open_volume takes a path, a URL, an array, a list of arrays (a pyramid, "
        "finest first), an xarray DataArray or a napari layer; got "
        f"{type(source).__name__}"
    )


def _is_array(source: Any) -> bool:
    wanted = ("shape", "dtype", "ndim", "__getitem__")
    return all(hasattr(source, name) for name in wanted)


def is_zarr_group(source: Any) -> bool:
    """Whether this is a group of the zarr package, without importing that."""
    kind = type(source)
    return kind.__module__.startswith("zarr") and kind.__name__ == "Group"


def dimension_names(array: Any) -> tuple[str, ...] | None:
    """Names that a zarr array carries, in version 3 or as xarray writes them."""
    names = getattr(getattr(array, "metadata", None), "dimension_names", None)
    if not names and type(array).__module__.startswith("zarr"):
        names = dict(array.attrs).get("_ARRAY_DIMENSIONS")
    return tuple(names) if names and all(names) else None


def _from_layer(layer: Any) -> tuple[list[Array], Layout, str]:
    levels = list(layer.data) if getattr(layer, "multiscale", False) else [layer.data]
    rgb = bool(getattr(layer, "rgb", False))
    ndim = levels[0].ndim - rgb
    names = [*(f"d{i}" for i in range(ndim - 4)), *"tzyx"[-min(ndim, 4) :]]
    units = [str(u) for u in getattr(layer, "units", None) or ["pixel"] * ndim]
    layout = Layout(
        axes=(*names, "c") if rgb else tuple(names),
        spacing=dict(zip(names, (abs(float(s)) for s in layer.scale), strict=True)),
        units=dict(zip(names, units, strict=True)),
        affine=_layer_affine(layer, ndim),
        rgb=rgb,
    )
    return levels, layout, str(getattr(layer, "name", "layer"))


def _layer_affine(layer: Any, ndim: int) -> np.ndarray:
    scale = np.asarray(layer.scale, float)
    shift = np.asarray(getattr(layer, "translate", np.zeros(ndim)), float)
    affine = np.diag([*scale, 1.0])
    affine[:-1, -1] = shift
    to_world = getattr(layer, "data_to_world", None)
    if to_world is None:
        return affine
    # Rotation, shear and the layer's own affine only show in the whole transform.
    origin = np.asarray(to_world(np.zeros(ndim)), float)
    for a in range(ndim):
        affine[:-1, a] = np.asarray(to_world(np.eye(ndim)[a]), float) - origin
    affine[:-1, -1] = origin
    return affine


def _from_xarray(source: Any) -> tuple[list[Array], Layout, str]:
    names = [SYNONYMS.get(str(d).lower(), str(d).lower()) for d in source.dims]
    spacing, origin, units = {}, {}, {}
    for dim, name in zip(source.dims, names, strict=True):
        if dim not in source.coords:
            continue
        coord = source.coords[dim]
        values = np.asarray(coord)
        if values.ndim == 1 and values.dtype.kind in "iuf" and values.size > 1:
            step = np.diff(values.astype(float))
            if np.allclose(step, step[0], rtol=1e-3, atol=0) and step[0]:
                spacing[name], origin[name] = abs(float(step[0])), float(values[0])
                units[name] = str(getattr(coord, "attrs", {}).get("units", "pixel"))
    axes = tuple(_canonical(names))
    layout = Layout(axes, spacing, units, origin, _coordinate_affine(source, axes))
    return [source.data], layout, str(getattr(source, "name", None) or "array")


def _coordinate_affine(source: Any, axes: tuple[str, ...]) -> np.ndarray:
    """Affine of regular coordinates; falling ones (latitude) give negative entries."""
    pairs = [(d, a) for d, a in zip(source.dims, axes, strict=True) if a != "c"]
    affine = np.eye(len(pairs) + 1)
    for i, (dim, _) in enumerate(pairs):
        values = np.asarray(source.coords[dim]) if dim in source.coords else np.empty(0)
        if values.ndim == 1 and values.dtype.kind in "iuf" and values.size > 1:
            affine[i, i] = float(values[1]) - float(values[0])
            affine[i, -1] = float(values[0])
    return affine
