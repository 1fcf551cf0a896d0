"""Layers of ours beside an image: found by their tag, put where the image is."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

TAG = "napari_sam"
"""Key in `layer.metadata` that marks a layer as ours, with its role."""
_PLACE = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")


def find_layer(viewer: Any, image: Any, role: str) -> Any:
    """Return the layer of ours with that role for an image, or None."""
    wanted = {"role": role, "image": image.unique_id}
    return next((x for x in viewer.layers if x.metadata.get(TAG) == wanted), None)


def place_of(image: Any, ndim: int) -> dict[str, Any]:
    """Keyword arguments that put a layer exactly where an image is."""
    place = {name: getattr(image, name) for name in _PLACE}
    if len(place["scale"]) != ndim:
        raise ValueError(f"{image.name} has {len(place['scale'])} axes, not {ndim}")
    return place


@contextmanager
def keep_active(viewer: Any) -> Iterator[None]:
    """Adding a layer selects it; give the selection back afterwards."""
    active = viewer.layers.selection.active
    try:
        yield
    finally:
        if active is not None and active in viewer.layers:
            viewer.layers.selection.active = active
