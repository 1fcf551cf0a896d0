"""The layer that shows proposals as outlines, apart from the masks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam._napari.label_pyramid import LabelPyramid, is_huge
from napari_sam._napari.prompt_layers import TAG, find_layer, keep_active, place_of
from napari_sam.core.masks import LabelPatch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_sam.core.proposals import Proposal

ROLE = "proposals"
COLORS = ("#4fd1c5", "#f6ad55", "#fc5c65")
"""Little doubt, some, much."""
STEPS = 0.25, 0.5
"""Doubt from which the next colour is taken."""
CURRENT = 255
_SHADES = 80
"""Values of each colour, so that neighbours keep an outline between them."""


class Preview:
    """Draws proposals into a Labels layer of its own, which nobody paints in.

    The layer is made when there is something to show, and anew should the user
    delete it.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    image : napari.layers.Image
        The layer lies where the image does, above it.
    shape : tuple of int
        Spatial shape of the image.
    """

    def __init__(self, viewer: Any, image: Any, shape: tuple[int, ...]) -> None:
        self.viewer = viewer
        self.image = image
        self.shape = tuple(shape)
        self.layer: Any = None
        self._data: Any = None
        self._pyramid: LabelPyramid | None = None
        self._drawn: dict[int, tuple[Proposal, int]] = {}
        self._remove_old()

    @property
    def shown(self) -> bool:
        """Whether the layer is in the viewer."""
        return self.layer is not None and self.layer in self.viewer.layers

    def show(self, proposals: Iterable[Proposal], current: int = 0) -> None:
        """Show these proposals and no others; the current one stands out."""
        wanted = {s.number: (s, _value(s, current)) for s in proposals}
        if not wanted and not self._drawn:
            return
        if not self.shown:
            self._make()
        gone = [
            (s, value)
            for n, (s, value) in self._drawn.items()
            if n not in wanted or wanted[n][1] != value
        ]
        fresh = [
            (s, value)
            for n, (s, value) in wanted.items()
            if n not in self._drawn or self._drawn[n][1] != value
        ]
        for s, value in gone:
            self._put(s, value, 0)
        for s, value in fresh:
            self._put(s, 0, value)
        self._drawn = wanted
        if gone or fresh:
            self.layer.refresh(highlight=False, extent=False)

    def _put(self, s: Proposal, old: int, new: int) -> None:
        window = s.plane.window(s.bbox)
        before = np.asarray(self._data[window])
        after = before.copy()
        after[s.mask & (before == old)] = new
        self._data[window] = after
        if self._pyramid is not None:
            self._pyramid.put(LabelPatch(s.plane, s.bbox, before, after))

    def _remove_old(self) -> None:
        """Remove what an earlier widget left: it is kept elsewhere, and drawn anew."""
        old = find_layer(self.viewer, self.image, ROLE)
        if old is not None:
            with keep_active(self.viewer):
                self.viewer.layers.remove(old)

    def _make(self) -> None:
        from napari.layers import Labels

        from napari_sam.results.label_arrays import new_labels

        self._remove_old()
        self._data = new_labels(self.shape, np.uint8)
        self._drawn = {}
        self._pyramid = LabelPyramid(self._data) if is_huge(self.shape) else None
        huge = self._pyramid
        self.layer = Labels(
            self._data if huge is None else huge.levels,
            name=f"{self.image.name} · {ROLE}",
            opacity=0.9,
            colormap=_colormap(),
            metadata={TAG: {"role": ROLE, "image": self.image.unique_id}},
            multiscale=huge is not None,
            **place_of(self.image, len(self.shape)),
        )
        self.layer.contour = max(1, round(math.sqrt(max(self.shape[-2:]) / 256)))
        self.layer.editable = False
        with keep_active(self.viewer):
            place = self.viewer.layers.index(self.image) + 1
            while place < len(self.viewer.layers) and (
                self.viewer.layers[place].metadata.get(TAG, {}).get("role") == "masks"
            ):
                place += 1
            self.viewer.layers.insert(place, self.layer)


def _value(s: Proposal, current: int) -> int:
    if s.number == current:
        return CURRENT
    doubtful = sum(s.doubt >= step for step in STEPS)
    return 1 + doubtful + len(COLORS) * (s.number % _SHADES)


def _colormap() -> Any:
    from napari.utils.colormaps import DirectLabelColormap

    colors: dict[int | None, Any] = {None: "transparent", 0: "transparent"}
    for value in range(len(COLORS) * _SHADES):
        colors[value + 1] = COLORS[value % len(COLORS)]
    colors[CURRENT] = "white"
    return DirectLabelColormap(color_dict=colors)
