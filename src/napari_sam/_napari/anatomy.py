"""Images of patients shown head up, with letters of their directions at the edges."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from napari_sam._napari.own_layers import TAG
from napari_sam._napari.plane_view import shown_axis
from napari_sam.core.orientation import OPPOSITE, PlaneView, plane_view
from napari_sam.errors import VolumeError
from napari_sam.volume.geometry import coordinates_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_sam.volume.volume import Volume

Letters = tuple[str, str, str, str]
"""At the top, the left, the bottom and the right of the canvas."""

_known: weakref.WeakKeyDictionary[Any, Anatomy] = weakref.WeakKeyDictionary()


def show_anatomy(viewer: Any) -> Anatomy:
    """Show the patients of a viewer head up, from now on; once for each viewer.

    Where the viewer has a window, letters stand at the edges of its canvas.
    """
    viewer = getattr(viewer, "__wrapped__", viewer)
    if viewer not in _known:
        _known[viewer] = Anatomy(viewer, _edge_letters(viewer))
    return _known[viewer]


def _edge_letters(viewer: Any) -> Callable[[Letters | None], None]:
    window = getattr(viewer, "window", None)
    if window is None:
        return lambda letters: None
    from napari_sam._napari.views.edge_letters import EdgeLetters

    return EdgeLetters.over(window).show_letters


class Anatomy:
    """Keeps a viewer's camera head up for what it shows, and says the letters.

    The stored data and the layers stay as they are: only the camera looks from the
    other side. A camera that was turned for a patient is turned back for other images.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    show : callable
        Called with the letters, or None where no patient is shown in 2-D.
    """

    def __init__(self, viewer: Any, show: Callable[[Letters | None], None]) -> None:
        self._viewer = weakref.ref(viewer)
        self._show = show
        self._turned = False
        self.letters: Letters | None = None
        """What stands at the edges now."""
        for event in (
            viewer.dims.events.order, viewer.dims.events.ndisplay,
            viewer.dims.events.ndim, viewer.layers.events.inserted,
            viewer.layers.events.removed, viewer.layers.events.reordered,
            viewer.layers.selection.events.active,
        ):  # fmt: skip
            event.connect(self.update)
        self.update()

    def update(self, event: Any = None) -> None:
        """Turn the camera for what is shown now."""
        viewer = self._viewer()
        if viewer is None:
            return
        view, swapped = _view(viewer)
        camera = getattr(viewer, "scene", viewer).camera
        if view is None:
            if self._turned:
                camera.orientation2d = ("down", "right")
                self._turned = False
            self.letters = None
        else:
            up, left, self.letters = _as_shown(view, swapped)
            wanted = ("up" if up else "down", "left" if left else "right")
            if tuple(str(o.value) for o in camera.orientation2d) != wanted:
                camera.orientation2d = wanted
            self._turned = True
        self._show(self.letters)


def _as_shown(view: PlaneView, swapped: bool) -> tuple[bool, bool, Letters]:
    """Whether the canvas runs up, and to the left, and the letters at its edges.

    Planes whose rows and columns would have to change places are left as they are:
    napari's order of axes is the user's.
    """
    down, right = (view.right, view.bottom) if swapped else (view.bottom, view.right)
    if view.transpose != swapped:
        up = left = False
    else:
        up, left = view.flip_rows, view.flip_columns
    bottom = OPPOSITE[down] if up else down
    side = OPPOSITE[right] if left else right
    return up, left, (OPPOSITE[bottom], OPPOSITE[side], bottom, side)


def _view(viewer: Any) -> tuple[PlaneView | None, bool]:
    """How the plane on the canvas lies in the patient, and if its axes are swapped."""
    found = _patient(viewer)
    if found is None:
        return None, False
    layer, volume = found
    ndim = layer.ndim
    system = coordinates_of(volume)
    if ndim < 3 or system is None or viewer.dims.ndim < ndim:
        return None, False
    try:
        axis = shown_axis(viewer.dims, ndim)
        view = plane_view(volume.affine, axis, system)  # type: ignore[arg-type]
    except (VolumeError, ValueError):
        return None, False
    rows, columns = viewer.dims.displayed[-2:]
    return view, rows > columns


def _patient(viewer: Any) -> tuple[Any, Volume] | None:
    """Return the image layer of a patient that counts: the active one, else the top."""
    from napari_sam.volume.volume import Volume

    active = viewer.layers.selection.active
    for layer in (active, *reversed(list(viewer.layers))):
        known = None if layer is None else layer.metadata.get(TAG, {}).get("volume")
        if isinstance(known, Volume) and coordinates_of(known) is not None:
            return layer, known
        if layer is active is not None and _is_other_image(layer):
            return None
    return None


def _is_other_image(layer: Any) -> bool:
    from napari.layers import Image

    return isinstance(layer, Image)
