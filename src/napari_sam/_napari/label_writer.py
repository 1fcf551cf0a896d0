"""The Labels layer that holds the masks, and the one way pixels get into it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from napari_sam._napari.label_colors import object_colormap
from napari_sam._napari.own_layers import TAG, find_layer, place_of
from napari_sam._napari.plane_view import shown_plane
from napari_sam.core.masks import LabelPatch
from napari_sam.core.planes import Plane
from napari_sam.errors import VolumeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_sam._napari.label_pyramid import LabelPyramid

ROLE = "masks"
_POINTWISE = 2**18
"""Pixels up to which only what changes is drawn anew."""


class LabelWriter:
    """Writes patches into a Labels layer, and tells what the user paints there.

    The layer is made when it is first needed, and anew should the user delete it; the
    pixels live in the array, which belongs to the session.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    image : napari.layers.Image
        The layer is put where the image is, right above it.
    """

    painted = Signal(list)
    """list of LabelPatch: pixels that the user painted, one patch for each plane."""
    made = Signal(object)
    """A layer was made (it needs its keys bound)."""

    def __init__(self, viewer: Any, image: Any) -> None:
        self.viewer = viewer
        self.image = image
        self.layer: Any = None
        self.axis = 0
        """Axis that painted pixels are cut along, the one the view hides."""
        self._data: Any = None
        self._pyramid: LabelPyramid | None = None
        self._writing = False

    @property
    def data(self) -> Any:
        """The labels that are shown, or were; None before."""
        return self._data

    @property
    def shown(self) -> bool:
        """Whether the layer is in the viewer."""
        return self.layer is not None and self.layer in self.viewer.layers

    def found(self) -> Any:
        """Return labels that an earlier widget left for this image, or None."""
        layer = find_layer(self.viewer, self.image, ROLE)
        if layer is None:
            return None
        return layer.data[0] if layer.multiscale else layer.data

    def show(self, data: Any, pyramid: LabelPyramid | None = None) -> Any:
        """Show an array of labels; the layer is made or reused.

        Parameters
        ----------
        data : array-like, unsigned integers
            Of the image's spatial shape; written in place from now on.
        pyramid : LabelPyramid, optional
            Of `data`, for planes too large to be drawn whole. napari cannot paint in
            such a layer.
        """
        if data is not self._data or pyramid is not None:
            self._data, self._pyramid = data, pyramid
        if not self.shown:
            self._take(find_layer(self.viewer, self.image, ROLE) or self._make())
        if self._pyramid is None and self.layer.data is not data:
            with self._ours():
                self.layer.data = data
        return self.layer

    def write(self, patch: LabelPatch) -> None:
        """Write one patch: one call, inside its box, only what differs."""
        if self._pyramid is not None:
            patch.write(self._data)
            self._pyramid.put(patch)
            if self.shown:
                self.layer.refresh(highlight=False, extent=False)
            return
        hidden = not self.shown or self.layer.data is not self._data
        if hidden or self._elsewhere(patch.plane):
            patch.write(self._data)
            return
        with self._ours():
            count = np.count_nonzero(patch.changed)
            if isinstance(self._data, np.ndarray) and count <= _POINTWISE:
                ys, xs = np.nonzero(patch.changed)
                values = patch.after if not patch.after.ndim else patch.after[ys, xs]
                self.layer.data_setitem(_indices(patch, ys, xs), values)
            else:  # indexing point by point is slow for many, and in chunked arrays
                patch.write(self._data)
                self.layer.refresh(thumbnail=False, highlight=False, extent=False)

    def _elsewhere(self, plane: Plane) -> bool:
        """Whether nothing of a plane is in view: filling writes hundreds of these."""
        try:
            seen = shown_plane(self.viewer.dims, self.image, self._data.shape)
        except VolumeError:
            return False
        return seen.axis == plane.axis and seen.index != plane.index

    def color(self, object_id: int) -> str:
        """Colour of an object in the layer, as #rrggbb."""
        rgba = self.layer.get_color(object_id) if self.layer is not None else None
        if rgba is None:
            return "#888888"
        return "#" + "".join(f"{round(float(v) * 255):02x}" for v in rgba[:3])

    def close(self) -> None:
        """Stop listening; the layer stays."""
        if self.layer is not None:
            self.layer.events.paint.disconnect(self._on_paint)

    def _make(self) -> Any:
        from napari.layers import Labels

        huge = self._pyramid
        data = self._data if huge is None else huge.levels

        name = f"{self.image.name} · {ROLE}"
        tag = {"role": ROLE, "image": self.image.unique_id}
        layer = Labels(
            data, name=name, opacity=0.5, metadata={TAG: tag},
            colormap=object_colormap(),
            multiscale=huge is not None, **place_of(self.image, self._data.ndim),
        )  # fmt: skip
        selection = set(self.viewer.layers.selection)
        self.viewer.layers.insert(self.viewer.layers.index(self.image) + 1, layer)
        self.viewer.layers.selection = selection
        return layer

    def _take(self, layer: Any) -> None:
        self.layer = layer
        layer.events.paint.connect(self._on_paint)
        self.made(layer)

    @contextmanager
    def _ours(self) -> Iterator[None]:
        before, self._writing = self._writing, True
        try:
            yield
        finally:
            self._writing = before

    def _on_paint(self, event: Any) -> None:
        if not self._writing:
            self.painted(painted_patches(event.value, self.layer.data, self.axis))


def adopt(layer: Any, image: Any) -> None:
    """Let a Labels layer be the one that the widget goes on with for an image."""
    layer.metadata[TAG] = {"role": ROLE, "image": image.unique_id}


def painted_patches(atoms: Sequence[Any], data: Any, axis: int = 0) -> list[LabelPatch]:
    """Turn one entry of a Labels layer's history into patches, one for each plane.

    Parameters
    ----------
    atoms : sequence
        Value of ``Labels.events.paint``: each one either has `slice_key`, `mask` and
        `old_values` (brush, fill, polygon), or is (indices, old, new)
        (``data_setitem``).
    data : array-like
        The layer's data. Fill tells of its change before it makes it and the brush
        afterwards, so only pixels outside the change are taken from here.
    axis : int
        Axis of the planes among the last three.
    """
    spans = [_span(atom) for atom in atoms]
    start = np.min([[s.start for s in span] for span in spans], axis=0)
    stop = np.max([[s.stop for s in span] for span in spans], axis=0)
    whole = tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    before = np.array(data[whole])
    for atom in reversed(atoms):
        _put(before, atom, start, _OLD)
    after = before.copy()
    for atom in atoms:
        _put(after, atom, start, _NEW)
    return list(_by_plane(before, after, whole, axis))


def _span(atom: Any) -> tuple[slice, ...]:
    if hasattr(atom, "slice_key"):
        return tuple(atom.slice_key)
    axes = (np.atleast_1d(np.asarray(i)) for i in atom[0])
    return tuple(slice(int(a.min()), int(a.max()) + 1) for a in axes)


_OLD, _NEW = 1, 2
"""Places of the values before and after in an atom of three."""


def _put(pixels: np.ndarray, atom: Any, start: np.ndarray, which: int) -> None:
    """Write an atom's old or new values into a crop that begins at `start`."""
    if not hasattr(atom, "slice_key"):
        where = zip(atom[0], start, strict=True)
        pixels[tuple(np.asarray(i) - s for i, s in where)] = atom[which]
        return
    pairs = zip(atom.slice_key, start, strict=True)
    part = pixels[tuple(slice(k.start - s, k.stop - s) for k, s in pairs)]
    values = atom.old_values if which == _OLD else atom.new_value
    part[... if atom.mask is None else atom.mask] = values


def _by_plane(
    before: np.ndarray, after: np.ndarray, whole: tuple[slice, ...], axis: int
) -> Iterator[LabelPatch]:
    ndim = before.ndim
    hidden = [] if ndim == 2 else [*range(ndim - 3), ndim - 3 + axis]
    shown = [a for a in range(ndim) if a not in hidden]
    y, x = (whole[a] for a in shown)
    for offsets in np.ndindex(*(before.shape[a] for a in hidden)):
        cut: list[Any] = [slice(None)] * ndim
        for a, i in zip(hidden, offsets, strict=True):
            cut[a] = i
        was, now = before[tuple(cut)], after[tuple(cut)]
        if (was != now).any():
            index = tuple(
                whole[a].start + i for a, i in zip(hidden, offsets, strict=True)
            )
            plane = Plane(index, axis if hidden else 0)
            bbox = (y.start, x.start, y.stop, x.stop)
            yield LabelPatch(plane, bbox, was.copy(), now.copy())


def _indices(patch: LabelPatch, ys: np.ndarray, xs: np.ndarray) -> tuple[Any, ...]:
    """One index array an axis; int32, since the layer keeps them in its own history."""
    shown = iter((ys + patch.bbox[0], xs + patch.bbox[1]))
    return tuple(
        next(shown).astype(np.int32)
        if isinstance(s, slice)
        else np.full(len(ys), s, np.int32)
        for s in patch.plane.slicer()
    )
