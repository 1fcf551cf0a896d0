"""Volumes as napari layer data: pixels, place in the world, contrast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam._napari.own_layers import TAG
from napari_sam.volume.geometry import coordinates_of, directions, is_aligned

if TYPE_CHECKING:
    from napari_sam.volume.volume import Volume

LayerData = tuple[Any, dict[str, Any], str]


def layer_data(volume: Volume) -> list[LayerData]:
    """Turn a volume into image layers: one, or one for each channel.

    The volume itself travels in the layer's metadata, so the widget works on the same
    pixels, geometry and intensity window that the file has.
    """
    if volume.channel_axis is None or volume.rgb:
        return [_layer(volume, volume.name)]
    layers = []
    for c in range(volume.n_channels):
        known = c < len(volume.channel_names)
        name = volume.channel_names[c] if known else f"channel {c}"
        data, options, kind = _layer(_channel(volume, c), f"{volume.name} · {name}")
        if volume.n_channels > 1:
            options |= {"colormap": _color(c, volume.n_channels)}
            options |= {"blending": "additive"} if c else {}
        layers.append((data, options, kind))
    return layers


def _color(c: int, of: int) -> str:
    """Colormap of a channel, as napari itself gives them; all shine through."""
    from napari.utils.colormaps.colormap_utils import CYMRGB, MAGENTA_GREEN

    colors = MAGENTA_GREEN if of == 2 else CYMRGB
    return str(colors[c % len(colors)])


def _channel(volume: Volume, c: int) -> Volume:
    from napari_sam.volume.opening import open_volume

    if volume.recipe is not None:
        which = c if volume.channels is None else volume.channels[c]
        return open_volume(**{**volume.recipe, "channels": which})
    axes = list(volume.axes)
    axes.insert(volume.channel_axis or 0, "c")
    return open_volume(volume, axes=axes, channels=c)


def label_layer(labels: Any, volume: Volume, name: str) -> LayerData:
    """Turn labels on a volume's grid into a Labels layer that lies on its image."""
    return labels, {"name": name, **placement(volume)}, "labels"


def placement(volume: Volume) -> dict[str, Any]:
    """Keyword arguments that place any layer of a volume's pixels in napari's world.

    The layer lies exactly where the affine says. Of a volume that is turned against
    the axes of the world, napari can show no slice, or none across; such layers, and
    all that are turned or flipped in a patient, lie in the frame of their own axes,
    and those of equal directions in place to each other.
    """
    affine = np.asarray(volume.affine, float)
    sizes, origin = np.linalg.norm(affine[:-1, :-1], axis=0), affine[:-1, -1]
    place: dict[str, Any] = {"units": _units(volume)}
    patient = coordinates_of(volume) is not None
    if is_aligned(affine) and not (patient and (np.diag(affine) < 0).any()):
        return {**place, "scale": np.diag(affine)[:-1], "translate": origin}
    ways = directions(affine)
    if patient or not is_aligned(_without_planes(affine)):
        return {**place, "scale": sizes, "translate": np.linalg.solve(ways, origin)}
    turned = np.eye(volume.ndim + 1)
    turned[:-1, :-1], turned[:-1, -1] = ways, origin
    return {**place, "scale": sizes, "affine": turned}


def _without_planes(affine: np.ndarray) -> np.ndarray:
    """The affine with the turn within planes left out: what slices see of it."""
    out = affine.copy()
    out[-3:-1, -3:-1] = np.diag(np.linalg.norm(affine[-3:-1, -3:-1], axis=0))
    return out


def _layer(volume: Volume, name: str) -> LayerData:
    levels = list(volume.levels)
    channel = volume.channel_axis
    if volume.rgb and channel is not None and channel != volume.ndim:
        levels = [_channels_last(a, channel) for a in levels]
    options: dict[str, Any] = {
        "name": name,
        "metadata": {TAG: {"volume": volume}},
        **placement(volume),
    }
    if volume.rgb:
        options["rgb"] = True
    else:
        options["contrast_limits"] = volume.intensity.windows[0]
        if volume.intensity.invert:
            options["colormap"] = "gray_r"
    if len(levels) > 1:
        options["multiscale"] = True
    return levels if len(levels) > 1 else levels[0], options, "image"


def _channels_last(level: Any, channel: int) -> Any:
    from napari_sam.volume.lazy_arrays import AxisView

    order = [*(a for a in range(level.ndim) if a != channel), channel]
    if isinstance(level, np.ndarray):
        return level.transpose(order)
    return AxisView(level, order, None, None)


def _units(volume: Volume) -> tuple[str, ...]:
    import pint

    known = pint.get_application_registry()  # type: ignore[no-untyped-call]
    return tuple(u if u in known else "pixel" for u in volume.units)
