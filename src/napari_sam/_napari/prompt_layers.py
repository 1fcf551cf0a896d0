"""The Points and Shapes layers that prompts are drawn in: ours, next to the image."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from napari_sam._napari.drawn import (
    COLORS,
    MARKING,
    SIGNED,
    SIGNS,
    SYMBOLS,
    TOOLS,
    Click,
    Figure,
    figures_of,
    point_style,
    said_by,
    shape_style,
    tool_of,
)
from napari_sam._napari.own_layers import TAG, find_layer, keep_active, place_of
from napari_sam.core.planes import Plane
from napari_sam.core.prompts import Prompts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from napari_sam._napari.drawn import Drawn, Sign, Tool

    Place = tuple[Plane, tuple[float, float]]
    """A plane, and (y, x) on it."""

DRAGGED = 4
"""Pixels of the screen that each side of a box spans, else it is a slip of the hand."""
LINE = 2
"""Pixels of the screen that lines are wide when they are drawn."""
_DONE = {"added", "removed", "changed"}
"""Actions of `events.data` after which the data are final."""


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
    later : callable
        Calls a function once the event that is under way is over.
    """

    edited = Signal()
    """The user added, moved or removed a point or a figure."""
    slipped = Signal()
    """What was drawn is too small to mean anything; nothing is changed."""
    marked = Signal(str)
    """A click of this tool, which gives no prompt, is among the `marks`."""
    made = Signal(object)
    """A layer was made (it needs its keys bound)."""

    def __init__(
        self,
        viewer: Any,
        image: Any,
        shape: tuple[int, ...],
        later: Callable[[Callable[[], None]], None],
    ) -> None:
        self.viewer = viewer
        self._later = later
        self.image = image
        self.shape = tuple(shape)
        self.points: Any = None
        self.shapes: Any = None
        self.axis = 0
        self.polarity = 1
        self.tool: Tool = "point"
        """What a click on the canvas means, where one of our layers takes it."""
        self._showing = False
        self._clicks: list[Click] = []
        self._figures: list[Figure] = []

    @property
    def layers(self) -> list[Any]:
        """The layers of ours that are in the viewer."""
        both = ((self.points, self.points_shown), (self.shapes, self.shapes_shown))
        return [layer for layer, shown in both if shown]

    @property
    def points_shown(self) -> bool:
        """Whether the Points layer is in the viewer."""
        return self.points is not None and self.points in self.viewer.layers

    @property
    def shapes_shown(self) -> bool:
        """Whether the Shapes layer is in the viewer."""
        return self.shapes is not None and self.shapes in self.viewer.layers

    def arm(self, tool: Tool) -> None:
        """Make a left click (or drag) on the canvas give what a tool gives."""
        self.tool = tool
        self.drop_marks()
        points = TOOLS[tool].role == "points"
        layer = self._points() if points else self._shapes()
        self.viewer.layers.selection.active = layer
        layer.mode = TOOLS[tool].mode
        (self._next_click if points else self._next_figure)(layer)

    def set_polarity(self, polarity: int) -> None:
        """Set the sign of what is drawn next: 1 = in the object, 0 = not in it."""
        self.polarity = polarity
        if self.points_shown:
            self._next_click(self.points)
        if self.shapes_shown:
            self._next_figure(self.shapes)

    def show(self, prompts: Mapping[Plane, Prompts], axis: int) -> None:
        """Replace what the layers hold by the prompts of one object along an axis."""
        self.axis = axis
        self._clicks = [
            Click(self._coordinates(plane, point), SIGNS[sign])
            for plane, said in prompts.items()
            for point, sign in zip(said.points, said.point_labels, strict=True)
        ]
        self._figures = [
            Figure(kind, sign, np.array([self._coordinates(plane, c) for c in corners]))
            for plane, said in prompts.items()
            for kind, sign, corners in figures_of(said)
        ]
        if self._clicks or self.points_shown:
            self._fill_points(self._points())
        if self._figures or self.shapes_shown:
            self._fill_shapes(self._shapes())

    @property
    def drawn(self) -> tuple[Drawn, ...]:
        """What the layers hold, for `add` to put back."""
        return (*self._clicks, *self._figures)

    def add(self, *drawn: Drawn) -> None:
        """Put clicks and figures beside those that are shown, as the newest."""
        clicks = [d for d in drawn if isinstance(d, Click)]
        figures = [d for d in drawn if isinstance(d, Figure)]
        self._clicks += clicks
        self._figures += figures
        if clicks:
            self._fill_points(self._points())
        if figures:
            self._fill_shapes(self._shapes())

    def prompts(self) -> dict[Plane, Prompts]:
        """What the layers say now, for each plane on which they say something."""
        figures = ((f, [self.on_plane(c) for c in f.corners]) for f in self._figures)
        said = said_by((at[0][0], f, np.array([p for _, p in at])) for f, at in figures)
        for click in self._clicks:
            if click.sign not in MARKING:
                plane, place = self.on_plane(np.array(click.coordinates))
                entry = said.setdefault(plane, {})
                entry.setdefault("points", []).append(place)
                sign = int(click.sign == SIGNS[1])
                entry.setdefault("point_labels", []).append(sign)
        return {plane: Prompts.of(**entry) for plane, entry in said.items()}

    @property
    def marks(self) -> list[Place]:
        """Where clicks that are no prompts lie."""
        marks = (c for c in self._clicks if c.sign in MARKING)
        return [self.on_plane(np.array(c.coordinates)) for c in marks]

    def drop_marks(self) -> None:
        """Take the clicks that are no prompts off again."""
        kept = [c for c in self._clicks if c.sign not in MARKING]
        if len(kept) < len(self._clicks):
            self._clicks = kept
            if self.points_shown:
                self._fill_points(self.points)

    def drop_older(self) -> None:
        """Keep the newest box and the newest outline of each plane."""
        newest = {
            (f.kind, self.on_plane(f.corners[0])[0]): f
            for f in self._figures
            if f.kind in ("box", "outline")
        }
        kept = set(map(id, newest.values()))
        left = [
            f for f in self._figures
            if f.kind not in ("box", "outline") or id(f) in kept
        ]  # fmt: skip
        if len(left) < len(self._figures) and self.shapes_shown:
            self._figures = left
            self._fill_shapes(self.shapes)

    def deselect(self) -> None:
        """Let the last point show its own colour, not the selection's."""
        if self.points_shown and str(self.points.mode) == "add":
            self.points.selected_data = set()

    def close(self) -> None:
        """Stop listening; the layers stay."""
        self.drop_marks()
        for layer in (self.points, self.shapes):
            if layer is not None:
                layer.events.data.disconnect(self._on_data)
                layer.mouse_drag_callbacks.remove(self._before_click)

    def _points(self) -> Any:
        if not self.points_shown:
            style = point_style()
            self.points = self._make("points", "add_points", style, self._fill_points)
        return self.points

    def _shapes(self) -> Any:
        if not self.shapes_shown:
            style = shape_style()
            self.shapes = self._make("shapes", "add_shapes", style, self._fill_shapes)
        return self.shapes

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
        found.mouse_drag_callbacks.append(self._before_click)
        self.made(found)
        return found

    def _before_click(self, layer: Any, event: Any) -> None:
        """Selecting a point hands its sign to the next one: the panel's sign counts."""
        if layer is self.points and str(layer.mode) == "add":
            self._next_click(layer)
        elif layer is self.shapes and not getattr(layer, "_is_creating", False):
            self._next_figure(layer)

    @property
    def _sign(self) -> Sign:
        if self.tool == "split" or self.tool == "merge":
            return self.tool
        return SIGNS[self.polarity]

    def _next_click(self, layer: Any) -> None:
        layer.selected_data = set()  # the selected points would change with it
        layer.current_symbol = SYMBOLS[self._sign]
        layer.current_face_color = COLORS[self._sign]
        layer.current_border_color = COLORS[self._sign]
        layer.feature_defaults = {"sign": self._sign}

    def _next_figure(self, layer: Any) -> None:
        """Say what napari's mode draws next, also where it was chosen in napari."""
        tool = tool_of(str(layer.mode))
        if tool is None:
            return
        sign = SIGNS[self.polarity if tool in SIGNED else 1]
        layer.selected_data = set()
        layer.current_edge_color = COLORS[sign]
        layer.current_edge_width = self._line_width()
        layer.feature_defaults = {"kind": TOOLS[tool].kind, "sign": sign}

    def _fill_points(self, layer: Any) -> None:
        with self._silent():
            layer.selected_data = set()
            data = [c.coordinates for c in self._clicks]
            layer.data = np.array(data, float).reshape(-1, len(self.shape))
            signs = [c.sign for c in self._clicks]
            layer.features = {"sign": np.array(signs, dtype=object)}
            if data:
                layer.symbol = [SYMBOLS[sign] for sign in signs]
                colors = [COLORS[sign] for sign in signs]
                layer.face_color, layer.border_color = colors, colors
            self._next_click(layer)

    def _fill_shapes(self, layer: Any) -> None:
        with self._silent():
            layer.selected_data = set()
            layer.data = []
            figures = self._figures
            if figures:
                layer.add(
                    [f.shown for f in figures],
                    shape_type=[f.shape_type for f in figures],
                    edge_color=[COLORS[f.sign] for f in figures],
                    face_color="transparent",
                    edge_width=self._line_width(),
                )
            layer.features = {
                "kind": np.array([f.kind for f in figures], dtype=object),
                "sign": np.array([f.sign for f in figures], dtype=object),
            }
            self._next_figure(layer)

    def _read(self) -> None:
        """Take over what the layers hold; prompts of a deleted layer stay."""
        if self.points_shown:
            signs = self.points.features["sign"]
            self._clicks = [
                Click(tuple(float(v) for v in at), sign)
                for at, sign in zip(self.points.data, signs, strict=True)
            ]
        if self.shapes_shown:
            known = {(f.kind, f.stored): f for f in self._figures}
            read = _figures_in(self.shapes)
            self._figures = [known.get((f.kind, f.stored), f) for f in read]

    def _coordinates(
        self, plane: Plane, point: tuple[float, float]
    ) -> tuple[float, ...]:
        """(y, x) on a plane -> n-dimensional data coordinates."""
        shown = iter(point)
        return tuple(
            next(shown) if isinstance(s, slice) else float(s) for s in plane.slicer()
        )

    def on_plane(self, coordinates: np.ndarray) -> Place:
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
        if action == "added" and event.source is self.shapes:
            # napari still draws: the layer must not be filled before it is done.
            self._later(self._on_drawn)
            return
        known = len(self._clicks)
        self._read()
        if action != "added" or not self._marked(known):
            self.edited()

    def _on_drawn(self) -> None:
        known = len(self._figures)
        self._read()
        (self.slipped if self._slipped(known) else self.edited)()

    def _slipped(self, known: int) -> bool:
        """Take away a new figure that means nothing; napari does with some itself."""
        new = self._figures[known:]
        if any(not self._is_slip(f) for f in new):
            return False
        self._figures = self._figures[:known]
        # napari leaves features of what it takes away itself.
        self._fill_shapes(self.shapes)
        return True

    def _marked(self, known: int) -> bool:
        """Tell of clicks that are no prompts; whether the newest one is such."""
        new = self._clicks[known:]
        if not new or new[-1].sign not in MARKING:
            return False
        self.marked(new[-1].sign)
        return True

    @property
    def _zoom(self) -> np.ndarray:
        """Pixels of the screen that one of the image has, for each axis."""
        scene = getattr(self.viewer, "scene", self.viewer)
        scale = np.abs(np.asarray(self.image.scale, float))[-len(self.shape) :]
        return np.asarray(scale * float(scene.camera.zoom))

    def _line_width(self) -> float:
        return max(LINE / float(np.sort(self._zoom)[-2:].mean()), 0.1)

    def _is_slip(self, figure: Figure) -> bool:
        """Whether a figure has no area or length, as far as a hand can tell."""
        sides = np.sort(np.ptp(figure.corners, axis=0) * self._zoom)[-2:]
        small = sides < DRAGGED
        return bool(small.all() if figure.shape_type == "path" else small.any())


def _figures_in(layer: Any) -> Iterator[Figure]:
    """Read a Shapes layer, also what napari's own tools drew in it."""
    rows = zip(
        layer.data, layer.shape_type, layer.features["kind"], layer.features["sign"],
        strict=False,  # a row too many after napari took a figure away
    )  # fmt: skip
    for corners, shape_type, kind, sign in rows:
        if shape_type in ("rectangle", "ellipse"):
            kind = "box"
        elif shape_type == "polygon":
            kind = "outline"
        elif kind not in ("scribble", "path"):
            kind = "scribble"
        yield Figure(kind, sign, np.array(corners, float))
