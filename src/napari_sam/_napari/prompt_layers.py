"""The Points and Shapes layers that prompts are drawn in: ours, next to the image."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from psygnal import Signal

from napari_sam.core.planes import Plane
from napari_sam.core.prompts import Prompts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Tool = Literal["point", "box"]

TAG = "napari_sam"
"""Key in `layer.metadata` that marks a layer as ours, with its role."""
SIGNS = {1: "positive", 0: "negative"}
COLORS = {1: "#2ecc71", 0: "#ff4d4d"}
SYMBOLS = {1: "disc", 0: "x"}
"""A sign differs in shape too: red and green alone do not reach everybody."""
DRAGGED = 4
"""Pixels of the screen that each side of a box spans, else it is a slip of the hand."""
_DONE = {"added", "removed", "changed"}
"""Actions of `events.data` after which the data are final."""
_PLACE = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")


@dataclass(frozen=True, slots=True)
class _Click:
    """One point of the Points layer."""

    coordinates: tuple[float, ...]
    positive: int


_Drawn: TypeAlias = "_Click | np.ndarray"


def with_undrawn(drawn: Prompts | None, asked: Prompts | None) -> Prompts | None:
    """Add to what layers say the prompts that they do not draw.

    Outlines, masks, scribbles and paths come from the session (a script, a split, a
    merge); no edit of points and boxes takes them back.

    Parameters
    ----------
    drawn : Prompts or None
        What the layers say of a plane now.
    asked : Prompts or None
        What was asked there last.

    Returns
    -------
    Prompts or None
        None where nothing is said any more.
    """
    if asked is None:
        return drawn
    if not (asked.polygon or asked.mask or asked.scribbles or asked.paths):
        return drawn
    said = drawn or Prompts()
    points, labels = said.points, said.point_labels
    return replace(asked, points=points, point_labels=labels, box=said.box)


class PromptLayers:
    """Shows the prompts of one object, and tells when the user changes them.

    The layers hold the prompts of all planes along one axis at their n-dimensional
    coordinates, so stepping through planes changes nothing here. They are made when
    first needed, copy the image's place in the world, and are made anew should the
    user delete them.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    image : napari.layers.Image
    shape : tuple of int
        Spatial shape of the image.
    """

    edited = Signal()
    """The user added, moved or removed a point or box."""
    slipped = Signal()
    """The user clicked where a box has to be dragged; nothing is changed."""
    made = Signal(object)
    """A layer was made (it needs its keys bound)."""

    def __init__(self, viewer: Any, image: Any, shape: tuple[int, ...]) -> None:
        self.viewer = viewer
        self.image = image
        self.shape = tuple(shape)
        self.points: Any = None
        self.boxes: Any = None
        self.axis = 0
        self.polarity = 1
        self._showing = False
        self._clicks: list[_Click] = []
        self._corners: list[np.ndarray] = []

    @property
    def layers(self) -> list[Any]:
        """The layers of ours that are in the viewer."""
        both = ((self.points, self.points_shown), (self.boxes, self.boxes_shown))
        return [layer for layer, shown in both if shown]

    @property
    def points_shown(self) -> bool:
        """Whether the Points layer is in the viewer."""
        return self.points is not None and self.points in self.viewer.layers

    @property
    def boxes_shown(self) -> bool:
        """Whether the Shapes layer is in the viewer."""
        return self.boxes is not None and self.boxes in self.viewer.layers

    def arm(self, tool: Tool) -> None:
        """Make a left click (or drag) on the canvas give a prompt."""
        layer = self._points() if tool == "point" else self._boxes()
        self.viewer.layers.selection.active = layer
        layer.mode = "add" if tool == "point" else "add_rectangle"

    def set_polarity(self, polarity: int) -> None:
        """Set the sign of the next points: 1 = in the object, 0 = not in it."""
        self.polarity = polarity
        if self.points_shown:
            self._next_sign(self.points)

    def show(self, prompts: Mapping[Plane, Prompts], axis: int) -> None:
        """Replace what the layers hold by the prompts of one object along an axis."""
        self.axis = axis
        self._clicks = [
            _Click(self._coordinates(plane, point), sign)
            for plane, said in prompts.items()
            for point, sign in zip(said.points, said.point_labels, strict=True)
        ]
        self._corners = [
            np.array([self._coordinates(plane, c) for c in _corners(said.box)])
            for plane, said in prompts.items()
            if said.box is not None
        ]
        if self._clicks or self.points_shown:
            self._fill_points(self._points())
        if self._corners or self.boxes_shown:
            self._fill_boxes(self._boxes())

    @property
    def drawn(self) -> tuple[_Drawn, ...]:
        """What the layers hold, for `add` to put back."""
        return (*self._clicks, *self._corners)

    def add(self, *drawn: _Drawn) -> None:
        """Put clicks and boxes beside those that are shown, as the newest."""
        clicks = [d for d in drawn if isinstance(d, _Click)]
        corners = [d for d in drawn if not isinstance(d, _Click)]
        self._clicks += clicks
        self._corners += corners
        if clicks:
            self._fill_points(self._points())
        if corners:
            self._fill_boxes(self._boxes())

    def prompts(self) -> dict[Plane, Prompts]:
        """What the layers say now, for each plane on which they say something."""
        said: dict[Plane, dict[str, Any]] = {}
        for click in self._clicks:
            plane, (y, x) = self._split(np.array(click.coordinates))
            entry = said.setdefault(plane, {})
            entry.setdefault("points", []).append((y, x))
            entry.setdefault("point_labels", []).append(click.positive)
        for corners in self._corners:
            plane, _ = self._split(corners[0])
            ys, xs = np.array([self._split(c)[1] for c in corners]).T
            box = (ys.min() + 0.5, xs.min() + 0.5, ys.max() + 0.5, xs.max() + 0.5)
            said.setdefault(plane, {})["box"] = box  # the newest box of a plane counts
        return {plane: Prompts.of(**entry) for plane, entry in said.items()}

    def drop_older_boxes(self) -> None:
        """Keep the newest box of each plane."""
        newest = {self._split(c[0])[0]: c for c in self._corners}
        if len(newest) < len(self._corners) and self.boxes_shown:
            self._corners = list(newest.values())
            self._fill_boxes(self.boxes)

    def deselect(self) -> None:
        """Let the last point show its own colour, not the selection's."""
        if self.points_shown and str(self.points.mode) == "add":
            self.points.selected_data = set()

    def close(self) -> None:
        """Stop listening; the layers stay."""
        for layer in (self.points, self.boxes):
            if layer is not None:
                layer.events.data.disconnect(self._on_data)
        if self.points is not None:
            self.points.mouse_drag_callbacks.remove(self._before_click)

    def _points(self) -> Any:
        if not self.points_shown:
            style = _point_style()
            self.points = self._make("points", "add_points", style, self._fill_points)
        return self.points

    def _boxes(self) -> Any:
        if not self.boxes_shown:
            style = _box_style()
            self.boxes = self._make("boxes", "add_shapes", style, self._fill_boxes)
        return self.boxes

    def _make(
        self, role: str, add: str, style: dict[str, Any], fill: Callable[[Any], None]
    ) -> Any:
        """Add a layer of ours, or take up the one an earlier widget left."""
        found = find_layer(self.viewer, self.image, role)
        if found is None:
            ndim = len(self.shape)
            with keep_active(self.viewer):
                found = getattr(self.viewer, add)(
                    ndim=ndim,
                    name=f"{self.image.name} · {role}",
                    metadata={TAG: {"role": role, "image": self.image.unique_id}},
                    **place_of(self.image, ndim),
                    **style,
                )
        fill(found)
        found.events.data.connect(self._on_data)
        if role == "points":
            found.mouse_drag_callbacks.append(self._before_click)
        self.made(found)
        return found

    def _before_click(self, layer: Any, event: Any) -> None:
        """Selecting a point hands its sign to the next one: the panel's sign counts."""
        if str(layer.mode) == "add":
            self._next_sign(layer)

    def _next_sign(self, layer: Any) -> None:
        layer.selected_data = set()  # the selected points would change with it
        layer.current_symbol = SYMBOLS[self.polarity]
        layer.current_face_color = COLORS[self.polarity]
        layer.current_border_color = COLORS[self.polarity]
        layer.feature_defaults = {"sign": SIGNS[self.polarity]}

    def _fill_points(self, layer: Any) -> None:
        with self._silent():
            layer.selected_data = set()
            data = [c.coordinates for c in self._clicks]
            layer.data = np.array(data, float).reshape(-1, len(self.shape))
            signs = [SIGNS[c.positive] for c in self._clicks]
            layer.features = {"sign": np.array(signs, dtype=object)}
            if data:
                layer.symbol = [SYMBOLS[c.positive] for c in self._clicks]
                colors = [COLORS[c.positive] for c in self._clicks]
                layer.face_color, layer.border_color = colors, colors
            self._next_sign(layer)

    def _fill_boxes(self, layer: Any) -> None:
        with self._silent():
            layer.selected_data = set()
            layer.data = []
            if self._corners:
                layer.add_rectangles(self._corners)

    def _read(self) -> None:
        """Take over what the layers hold; prompts of a deleted layer stay."""
        if self.points_shown:
            signs = self.points.features["sign"]
            self._clicks = [
                _Click(tuple(float(v) for v in at), int(sign == SIGNS[1]))
                for at, sign in zip(self.points.data, signs, strict=True)
            ]
        if self.boxes_shown:
            self._corners = [np.array(c, float) for c in self.boxes.data]

    def _coordinates(
        self, plane: Plane, point: tuple[float, float]
    ) -> tuple[float, ...]:
        """(y, x) on a plane -> n-dimensional data coordinates."""
        shown = iter(point)
        return tuple(
            next(shown) if isinstance(s, slice) else float(s) for s in plane.slicer()
        )

    def _split(self, coordinates: np.ndarray) -> tuple[Plane, tuple[float, float]]:
        """n-dimensional data coordinates -> the plane they lie on, and (y, x)."""
        ndim = len(self.shape)
        if ndim == 2:
            return Plane(()), (float(coordinates[0]), float(coordinates[1]))
        hidden = [*range(ndim - 3), ndim - 3 + self.axis]
        index = tuple(
            int(np.clip(np.round(coordinates[a]), 0, self.shape[a] - 1)) for a in hidden
        )
        y, x = (float(coordinates[a]) for a in range(ndim) if a not in hidden)
        return Plane(index, self.axis), (y, x)

    @contextmanager
    def _silent(self) -> Iterator[None]:
        before, self._showing = self._showing, True
        try:
            yield
        finally:
            self._showing = before

    def _on_data(self, event: Any) -> None:
        action = str(getattr(event, "action", "changed"))
        if self._showing or action not in _DONE:
            return
        self._read()
        known = len(self._corners)
        if action == "added":
            self._corners = [c for c in self._corners if not self._is_slip(c)]
        if len(self._corners) < known:
            self._fill_boxes(self.boxes)
            self.slipped()
        else:
            self.edited()

    def _is_slip(self, corners: np.ndarray) -> bool:
        """Whether a box has no area, as far as a hand can tell on the screen."""
        scene = getattr(self.viewer, "scene", self.viewer)
        scale = np.abs(np.asarray(self.image.scale, float))[-corners.shape[1] :]
        sides = np.sort(np.ptp(corners, axis=0) * scale)[-2:]
        return bool((sides * float(scene.camera.zoom) < DRAGGED).any())


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


def _corners(box: tuple[float, float, float, float]) -> list[tuple[float, float]]:
    """Half-open edges -> corners in napari's frame: pixel centres at integers."""
    y0, x0, y1, x1 = (v - 0.5 for v in box)
    return [(y0, x0), (y0, x1), (y1, x1), (y1, x0)]


def _point_style() -> dict[str, Any]:
    return {
        "features": {"sign": np.array([], dtype=object)},
        "feature_defaults": {"sign": SIGNS[1]},
        "border_width": 0,
        "size": 14,
        "canvas_size_limits": (14, 14),  # one size on the screen, whatever the zoom
    }


def _box_style() -> dict[str, Any]:
    return {"edge_color": COLORS[1], "face_color": "transparent", "edge_width": 1}
