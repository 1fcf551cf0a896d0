"""The layer that shows proposals, apart from the masks."""

from __future__ import annotations

import bisect
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_sam._napari.label_pyramid import LabelPyramid, is_huge
from napari_sam._napari.own_layers import TAG, find_layer, keep_active, place_of
from napari_sam.core.masks import LabelPatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari_sam.core.planes import Plane
    from napari_sam.core.proposals import Proposal

ROLE = "proposals"
COLORS = ("#4fd1c5", "#f6ad55", "#fc5c65")
"""Little doubt, some, much."""
STEPS = 0.25, 0.5
"""Doubt from which the next colour is taken."""
CURRENT = 255
_SHADES = 80
"""Values of each colour, so that neighbours can be told apart."""
_SIDE = 512
"""Side of the squares in which labels on the disk are drawn anew."""

_CELL = 32
"""Side of the cells by which overlaps are found."""


class _Drawing(NamedTuple):
    """A proposal as it is drawn: N pixels of its plane."""

    ys: np.ndarray
    """(N,) int"""
    xs: np.ndarray
    """(N,) int"""


class Preview:
    """Draws proposals into a Labels layer of its own, which nobody paints in.

    Only the plane in view is drawn; others are when they come into view. The outlines
    are drawn as pixels: napari's own take a look at the whole plane at each change.
    The layer is made when there is something to show, and anew should the user delete
    it.

    Parameters
    ----------
    viewer : napari.Viewer or napari.components.ViewerModel
    image : napari.layers.Image
        The layer is placed exactly over it, below the masks.
    shape : tuple of int
        Spatial shape of the volume.
    """

    def __init__(self, viewer: Any, image: Any, shape: tuple[int, ...]) -> None:
        self.viewer = viewer
        self.image = image
        self.shape = tuple(shape)
        self.layer: Any = None
        self._data: Any = None
        self._pyramid: LabelPyramid | None = None
        self._width = max(1, round(math.sqrt(max(self.shape[-2:]) / 256)))
        self._drawings: dict[Proposal, _Drawing] = {}
        self._wanted: dict[Plane, dict[Proposal, int]] = {}
        """Value of each proposal by plane, in the order they are drawn."""
        self._drawn: dict[Plane, dict[Proposal, int]] = {}
        self._remove_old()

    @property
    def shown(self) -> bool:
        """Whether the layer is in the viewer."""
        return self.layer is not None and self.layer in self.viewer.layers

    def show(
        self,
        proposals: Sequence[Proposal],
        plane: Plane | None,
        current: int = 0,
        *,
        soon: Sequence[Proposal] = (),
    ) -> None:
        """Show these proposals and no others; the current one stands out.

        Parameters
        ----------
        proposals : sequence of Proposal
        plane : Plane or None
            The one in view.
        current : int
            Number of the proposal at hand; 0 for none.
        soon : sequence of Proposal
            Those that may be shown again: their outlines are kept.
        """
        if len(self._drawings) > len(proposals) + len(soon):
            kept = {*proposals, *soon}
            self._drawings = {p: d for p, d in self._drawings.items() if p in kept}
        wanted: dict[Plane, dict[Proposal, int]] = {}
        for p in proposals:
            wanted.setdefault(p.plane, {})[p] = _value(p, current)
        self._wanted = wanted
        if not wanted and not self._drawn:
            return
        if not self.shown:
            self._make()
        self.look(plane)

    def look(self, plane: Plane | None) -> None:
        """Draw what is to be seen of a plane that came into view."""
        if plane is None or not self.shown:
            return
        changed = False
        for other in [p for p in self._drawn if p.axis != plane.axis]:
            changed |= self._draw(other, {})
        if self._draw(plane, self._wanted.get(plane, {})) or changed:
            self.layer.refresh(highlight=False, extent=False, thumbnail=False)

    def _draw(self, plane: Plane, wanted: dict[Proposal, int]) -> bool:
        """Draw a plane anew where something differs; whether anything did."""
        drawn = self._drawn.get(plane, {})
        gone = [p for p, value in drawn.items() if wanted.get(p) != value]
        fresh = [p for p, value in wanted.items() if drawn.get(p) != value]
        if not gone and not fresh:
            return False
        anew = [*fresh, *self._touched(plane, gone, wanted)]
        # Larger ones first: parts lie on wholes. The one at hand lies on all.
        order = sorted(
            dict.fromkeys(anew),
            key=lambda p: (wanted[p] == CURRENT, -p.mask.size),
        )
        counts = [len(self._drawing(p).ys) for p in order]
        values = np.repeat(np.array([wanted[p] for p in order], np.uint8), counts)
        self._write(plane, self._pixels([*gone, *fresh]), self._pixels(order), values)
        if wanted:
            self._drawn[plane] = wanted
        else:
            self._drawn.pop(plane, None)
        return True

    def _touched(
        self, plane: Plane, gone: list[Proposal], wanted: dict[Proposal, int]
    ) -> list[Proposal]:
        """Proposals that are drawn, and that lose pixels where others are cleared."""
        drawn = self._drawn.get(plane, {})
        stay = [p for p, value in wanted.items() if drawn.get(p) == value]
        if not gone or not stay:
            return []
        h, w = plane.shape(self.shape)
        # Counted by cells of the plane, as sums over rectangles.
        corners = np.zeros((h // _CELL + 3, w // _CELL + 3), np.int64)
        y0, x0, y1, x1 = _cells(gone)
        for y, x, sign in ((y0, x0, 1), (y1, x0, -1), (y0, x1, -1), (y1, x1, 1)):
            np.add.at(corners, (y, x), sign)
        covered = corners.cumsum(0).cumsum(1) > 0
        total = np.pad(covered.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        y0, x0, y1, x1 = _cells(stay)
        met = total[y1, x1] - total[y0, x1] - total[y1, x0] + total[y0, x0]
        return [stay[i] for i in np.flatnonzero(met)]

    def _write(
        self,
        plane: Plane,
        changed: tuple[np.ndarray, np.ndarray],
        wanted: tuple[np.ndarray, np.ndarray],
        values: np.ndarray,
    ) -> None:
        """Clear pixels, then set those that are wanted, wherever that may differ."""
        h, w = plane.shape(self.shape)
        if isinstance(self._data, np.ndarray) and self._pyramid is None:
            view = self._data[plane.window((0, 0, h, w))]
            view[changed] = 0
            view[wanted] = values
            return
        n = -(-w // _SIDE)
        clear, put = (ys // _SIDE * n + xs // _SIDE for ys, xs in (changed, wanted))
        for square in np.unique(clear):
            y, x = square // n * _SIDE, square % n * _SIDE
            box = (int(y), int(x), int(min(y + _SIDE, h)), int(min(x + _SIDE, w)))
            window = plane.window(box)
            before = np.array(self._data[window])
            after = before.copy()
            here = np.flatnonzero(clear == square)
            after[changed[0][here] - y, changed[1][here] - x] = 0
            here = np.flatnonzero(put == square)
            after[wanted[0][here] - y, wanted[1][here] - x] = values[here]
            self._data[window] = after
            if self._pyramid is not None:
                self._pyramid.put(LabelPatch(plane, box, before, after))

    def _pixels(self, proposals: Iterable[Proposal]) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of what is drawn of proposals, one after the other."""
        drawings = [self._drawing(p) for p in proposals]
        none = np.zeros(0, np.intp)
        return (
            np.concatenate([none, *(d.ys for d in drawings)]),
            np.concatenate([none, *(d.xs for d in drawings)]),
        )

    def _drawing(self, p: Proposal) -> _Drawing:
        found = self._drawings.get(p)
        if found is None:
            # Coarser levels of a pyramid take every n-th pixel, and outline these.
            huge = self._pyramid is not None
            pixels = p.mask if huge else outline(p.mask, self._width)
            ys, xs = np.nonzero(pixels)
            found = _Drawing(ys + p.bbox[0], xs + p.bbox[1])
            self._drawings[p] = found
        return found

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
        self._drawn, self._drawings = {}, {}
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
        if huge is not None:
            self.layer.contour = self._width
        self.layer.editable = False
        with keep_active(self.viewer):
            place = self.viewer.layers.index(self.image) + 1
            while place < len(self.viewer.layers) and (
                self.viewer.layers[place].metadata.get(TAG, {}).get("role") == "masks"
            ):
                place += 1
            self.viewer.layers.insert(place, self.layer)


def outline(mask: np.ndarray, width: int) -> np.ndarray:
    """Pixels of a mask that lie within a width of its edge; (h, w) bool."""
    inside = np.pad(mask, 1)
    for _ in range(width):
        core = inside[1:-1, 1:-1].copy()
        core &= inside[:-2, 1:-1]
        core &= inside[2:, 1:-1]
        core &= inside[1:-1, :-2]
        core &= inside[1:-1, 2:]
        inside[1:-1, 1:-1] = core
    return np.asarray(mask > inside[1:-1, 1:-1])


def _cells(proposals: list[Proposal]) -> np.ndarray:
    """First and last cell of each box, the last not included: (4, N)."""
    boxes = np.array([p.bbox for p in proposals]).T // _CELL
    boxes[2:] += 1
    return np.asarray(boxes)


def _value(p: Proposal, current: int) -> int:
    if p.number == current:
        return CURRENT
    doubtful = bisect.bisect_right(STEPS, p.doubt)
    return 1 + doubtful + len(COLORS) * (p.number % _SHADES)


def _colormap() -> Any:
    from napari.utils.colormaps import DirectLabelColormap

    colors: dict[int | None, Any] = {None: "transparent", 0: "transparent"}
    for value in range(len(COLORS) * _SHADES):
        colors[value + 1] = COLORS[value % len(COLORS)]
    colors[CURRENT] = "white"
    return DirectLabelColormap(color_dict=colors)
