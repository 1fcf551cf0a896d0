"""Which plane of an image the viewer shows, from its dims and the layer's place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.planes import Plane
from napari_sam.embeddings.scheduler import Viewport
from napari_sam.errors import VolumeError

if TYPE_CHECKING:
    from collections.abc import Sequence

_TILT = 1e-3
"""Planes a slice may drift through per shown pixel before it counts as oblique."""


def shown_plane(dims: Any, layer: Any, shape: Sequence[int]) -> Plane:
    """Return the plane of an image layer that the viewer shows.

    Parameters
    ----------
    dims : napari.components.Dims
    layer : napari.layers.Image
        Its ``world_to_data`` gives the hidden indices.
    shape : sequence of int
        Spatial shape of the layer's data.

    Raises
    ------
    VolumeError
        If what is shown is no plane along z, y or x of this image: 3-D display, an
        oblique cut, or a view along time. The message says what to change.
    """
    ndim = len(shape)
    axis = shown_axis(dims, ndim)
    if ndim == 2:
        return Plane(())
    linear = _data_from_world(layer, ndim)
    shown = [a for a in range(ndim) if a in _layer_axes(dims, ndim)]
    hidden = [a for a in range(ndim) if a not in shown]
    if np.abs(linear[np.ix_(hidden, shown)]).max() > _TILT:
        raise VolumeError(
            "this image is turned out of the view: what the viewer shows is no plane "
            "of it. Reset its rotation, or change the order of axes"
        )
    point = np.array(dims.point, float)[-ndim:] * _unit_factors(dims, layer, ndim)
    data = np.asarray(layer.world_to_data(point), float)
    index = [int(np.clip(np.round(data[a]), 0, shape[a] - 1)) for a in hidden]
    return Plane.of(shape, index, axis=axis)


def shown_axis(dims: Any, ndim: int) -> int:
    """Axis of the last three that the view hides: 0 = z, 1 = y, 2 = x; 0 in 2-D.

    Raises
    ------
    VolumeError
        In 3-D display, or when an axis before the last three is shown.
    """
    if dims.ndisplay != 2:
        raise VolumeError(
            "prompts need the 2-D view: leave 3-D display (the cube button below the "
            "layer list)"
        )
    shown = _layer_axes(dims, ndim) if dims.ndim >= ndim else []
    last = [a - max(ndim - 3, 0) for a in shown]
    if len(shown) != 2 or min(last) < 0:
        raise VolumeError(
            "the view shows an axis that is not z, y or x of this image: choose a "
            "plane under Image, or roll the axes back"
        )
    if ndim == 2:
        return 0
    return next(a for a in (0, 1, 2) if a not in last)


def order_for_axis(dims: Any, ndim: int, axis: int) -> tuple[int, ...]:
    """Return the `dims.order` that hides `axis` of a layer's last three axes."""
    offset = dims.ndim - min(ndim, 3)
    last = list(range(offset, dims.ndim))
    hidden = last.pop(axis)
    return (*range(offset), hidden, *last)


def shown_view(viewer: Any, layer: Any, plane: Plane, ndim: int) -> Viewport | None:
    """Return which part of a plane the canvas shows; None where nothing is drawn.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    layer : napari.layers.Image
        Its ``corner_pixels`` are as of the last time the canvas was drawn.
    plane : Plane
        The one shown.
    ndim : int
        Spatial axes of the image.
    """
    axes = plane.shown_axes()
    corners = np.asarray(layer.corner_pixels, float)[:, list(axes)]
    if layer.multiscale:
        corners = corners * layer.downsample_factors[layer.data_level][list(axes)]
    if (corners[1] <= corners[0]).any():
        return None
    (y0, x0), (y1, x1) = corners.tolist()
    return Viewport(plane, (y0, x0, y1 + 1, x1 + 1), screen_level(viewer, layer, ndim))


def screen_level(viewer: Any, layer: Any, ndim: int) -> int:
    """Pyramid level at which one pixel is about one pixel of the screen."""
    scene = getattr(viewer, "scene", viewer)
    size = max(abs(float(layer.scale[a])) for a in (ndim - 2, ndim - 1))
    on_screen = float(scene.camera.zoom) * size
    return max(0, int(np.floor(np.log2(1 / on_screen)))) if on_screen > 0 else 0


def layer_over(viewer: Any, layer: Any) -> Any:
    """Topmost image that hides all of another one where nothing shines through."""
    from napari.layers import Image

    def extent(image: Any) -> np.ndarray:
        axes = _layer_axes(viewer.dims, image.ndim)
        return np.asarray(image.extent.world)[:, axes]

    own = extent(layer)
    above = list(viewer.layers)[viewer.layers.index(layer) + 1 :]
    for other in reversed(above):
        solid = str(other.blending) in ("translucent", "translucent_no_depth", "opaque")
        if isinstance(other, Image) and other.visible and solid and other.opacity == 1:
            its = extent(other)
            if its.shape != own.shape:
                continue
            if (its[0] <= own[0]).all() and (its[1] >= own[1]).all():
                return other
    return None


def _layer_axes(dims: Any, ndim: int) -> list[int]:
    """Shown axes of the layer; the layer's axes are the last ones of the viewer."""
    return [a - (dims.ndim - ndim) for a in dims.displayed if a >= dims.ndim - ndim]


def _data_from_world(layer: Any, ndim: int) -> np.ndarray:
    """(ndim, ndim) linear part of the map from world to data coordinates."""
    origin = np.asarray(layer.world_to_data(np.zeros(ndim)))
    steps = [np.asarray(layer.world_to_data(row)) for row in np.eye(ndim)]
    return np.asarray(np.stack(steps, axis=1) - origin[:, None])


def _unit_factors(dims: Any, layer: Any, ndim: int) -> np.ndarray:
    """From the viewer's units to the layer's, where they differ (mm and um, say)."""
    world, own = getattr(dims, "units", None), getattr(layer, "units", None)
    if world is None or own is None:
        return np.ones(ndim)
    pairs = zip(world[-ndim:], own, strict=True)
    return np.array([_factor(a, b) for a, b in pairs])


def _factor(a: Any, b: Any) -> float:
    if a == b:
        return 1.0
    try:
        return float((1 * a).to(b).magnitude)
    except Exception:  # noqa: BLE001  units that cannot be converted are not mixed
        return 1.0
