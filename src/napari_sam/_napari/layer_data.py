"""Volumes as napari layer data: pixels, place in the world, contrast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam._napari.prompt_layers import TAG

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
        layers.append(_layer(_channel(volume, c), f"{volume.name} · {name}"))
    return layers


def _channel(volume: Volume, c: int) -> Volume:
    from napari_sam.volume.opening import open_volume

    if volume.recipe is not None:
        which = c if volume.channels is None else volume.channels[c]
        return open_volume(**{**volume.recipe, "channels": which})
    axes = list(volume.axes)
    axes.insert(volume.channel_axis or 0, "c")
    return open_volume(volume, axes=axes, channels=c)


def _layer(volume: Volume, name: str) -> LayerData:
    levels = list(volume.levels)
    channel = volume.channel_axis
    if volume.rgb and channel is not None and channel != volume.ndim:
        levels = [_channels_last(a, channel) for a in levels]
    options: dict[str, Any] = {
        "name": name,
        "scale": volume.spacing,
        "units": _units(volume),
        "metadata": {TAG: {"volume": volume}},
    }
    if _is_aligned(volume.affine):
        options["translate"] = volume.affine[:-1, -1]
    if volume.rgb:
        options["rgb"] = True
    else:
        options["contrast_limits"] = volume.intensity.windows[0]
    if len(levels) > 1:
        options["multiscale"] = True
    return levels if len(levels) > 1 else levels[0], options, "image"


def _channels_last(level: Any, channel: int) -> Any:
    from napari_sam.volume.lazy_arrays import AxisView

    order = [*(a for a in range(level.ndim) if a != channel), channel]
    if isinstance(level, np.ndarray):
        return level.transpose(order)
    return AxisView(level, order, None, None)


def _is_aligned(affine: np.ndarray) -> bool:
    """Whether it only scales and shifts: other layers are shown upright instead."""
    linear = affine[:-1, :-1]
    off = linear - np.diag(np.diag(linear))
    return bool(np.allclose(off, 0) and (np.diag(linear) > 0).all())


def _units(volume: Volume) -> tuple[str, ...]:
    import pint

    known = pint.get_application_registry()  # type: ignore[no-untyped-call]
    return tuple(u if u in known else "pixel" for u in volume.units)
