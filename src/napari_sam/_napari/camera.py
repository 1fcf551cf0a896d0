"""The viewer taken to a place of an image: its plane, and there its pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam._napari.plane_view import order_for_axis, shown_axis
from napari_sam.errors import VolumeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sam.core.masks import Bbox
    from napari_sam.core.planes import Plane

LEAST_ON_SCREEN = 40
"""Pixels of the screen that a place spans at least; at most it fills the canvas."""


def go_to(
    viewer: Any, layer: Any, shape: Sequence[int], plane: Plane, bbox: Bbox | None
) -> None:
    """Show a box of a plane in the middle; zoom only where it is tiny or too large.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    layer : napari.layers.Image
    shape : sequence of int
        Spatial shape of the layer's data.
    plane : Plane
    bbox : tuple of int, optional
        (y0, x0, y1, x1) in level-0 pixels, half-open; the camera stays without one.
    """
    ndim, dims = len(shape), viewer.dims
    y0, x0, y1, x1 = bbox or (0, 0, 1, 1)
    shown = iter(((y0 + y1 - 1) / 2, (x0 + x1 - 1) / 2))
    data = [next(shown) if isinstance(s, slice) else float(s) for s in plane.slicer()]
    world = np.asarray(layer.data_to_world(data), float)[-ndim:]
    if ndim > 2 and _axis(dims, ndim) != plane.axis:
        dims.order = order_for_axis(dims, ndim, plane.axis)
    offset = dims.ndim - ndim
    hidden = [a for a in range(ndim) if a + offset not in dims.displayed]
    if hidden:
        dims.set_point([a + offset for a in hidden], [world[a] for a in hidden])
    if bbox is None:
        return
    camera = getattr(viewer, "scene", viewer).camera
    y, x = plane.shown_axes()
    camera.center = (0.0, float(world[y]), float(world[x]))
    size = max(abs(float(layer.scale[a])) * n for a, n in ((y, y1 - y0), (x, x1 - x0)))
    most = min(viewer.canvas.size)
    if size * camera.zoom < LEAST_ON_SCREEN:
        camera.zoom = np.sqrt(LEAST_ON_SCREEN * most) / size
    elif size * camera.zoom > most:
        camera.zoom = 0.8 * most / size


def _axis(dims: Any, ndim: int) -> int | None:
    try:
        return shown_axis(dims, ndim)
    except VolumeError:
        return None
