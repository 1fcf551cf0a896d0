"""What the prompt layers hold as values: clicks and figures, and how each looks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from napari_sam.core.prompts import Prompts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from napari_sam.core.planes import Plane

Tool = Literal["point", "box", "polygon", "lasso", "scribble", "path", "split", "merge"]
Kind = Literal["box", "outline", "scribble", "path"]
"""What a figure says of the object."""
Sign = Literal["positive", "negative", "split", "merge"]

SIGNS: dict[int, Sign] = {1: "positive", 0: "negative"}
COLORS = {
    "positive": "#2ecc71", "negative": "#ff4d4d",
    "split": "#ffd166", "merge": "#ffd166",
}  # fmt: skip
SYMBOLS = {"positive": "disc", "negative": "x", "split": "diamond", "merge": "diamond"}
"""A sign differs in shape too: red and green alone do not reach everybody."""


@dataclass(frozen=True, slots=True)
class ToolFacts:
    """Where and how the canvas takes what a tool gives."""

    role: Literal["points", "shapes"]
    """Layer of ours that it draws in."""
    mode: str
    """Mode of that layer."""
    kind: Kind | None = None
    """Figure that it draws."""


TOOLS: dict[Tool, ToolFacts] = {
    "point": ToolFacts("points", "add"),
    "box": ToolFacts("shapes", "add_rectangle", "box"),
    "polygon": ToolFacts("shapes", "add_polygon", "outline"),
    "lasso": ToolFacts("shapes", "add_polygon_lasso", "outline"),
    "scribble": ToolFacts("shapes", "add_path", "scribble"),
    "path": ToolFacts("shapes", "add_polyline", "path"),
    "split": ToolFacts("points", "add"),
    "merge": ToolFacts("points", "add"),
}
_DOT = 0.25
"""Pixels that a stroke of one place is drawn long."""
MARKING: tuple[Sign, ...] = ("split", "merge")
"""Signs of clicks that are no prompts: they say what to do with objects."""
SIGNED: tuple[Tool, ...] = ("point", "scribble")
"""Tools that say what is in the object, or what is not."""


def tool_of(mode: str) -> Tool | None:
    """Tool whose figures the Shapes layer draws in a mode; None for no tool's."""
    return next(
        (t for t, f in TOOLS.items() if f.role == "shapes" and f.mode == mode), None
    )


def usable(kinds: frozenset[str]) -> frozenset[Tool]:
    """Tools that a model which understands these kinds of prompt can be told with.

    Outlines, strokes and paths become what the model reads; points do not.

    Examples
    --------
    >>> sorted(set(TOOLS) - usable(frozenset({"box"})))
    ['point']
    """
    out: set[Tool] = {"scribble", "split", "merge"}
    if "points" in kinds:
        out.add("point")
    if kinds & {"box", "mask"}:
        out |= {"box", "polygon", "lasso", "path"}
    return frozenset(out)


@dataclass(frozen=True, slots=True)
class Click:
    """One point of the Points layer."""

    coordinates: tuple[float, ...]
    sign: Sign


@dataclass(frozen=True, slots=True, eq=False)
class Figure:
    """One shape of the Shapes layer."""

    kind: Kind
    sign: Sign
    corners: np.ndarray
    """(N, ndim) float, pixel centres; of a box its four corners."""

    @property
    def shape_type(self) -> str:
        """What napari calls it."""
        return {"box": "rectangle", "outline": "polygon"}.get(self.kind, "path")

    @property
    def shown(self) -> np.ndarray:
        """Corners for the layer, which draws no line from a place to itself."""
        if len(self.corners) > 1 and np.ptp(self.corners, axis=0).any():
            return self.corners
        return np.stack([self.corners[0], self.corners[0] + _DOT])

    @property
    def stored(self) -> bytes:
        """As the layer keeps it, which rounds to single precision."""
        return self.shown.astype(np.float32).tobytes()


Drawn: TypeAlias = Click | Figure


def figures_of(prompts: Prompts) -> Iterator[tuple[Kind, Sign, list[Any]]]:
    """Yield (kind, sign, (y, x) corners) of all that prompts say beside points."""
    if prompts.box is not None:
        yield "box", "positive", _corners(prompts.box)
    if prompts.polygon:
        yield "outline", "positive", list(prompts.polygon)
    for line, label in zip(prompts.scribbles, prompts.scribble_labels, strict=True):
        yield "scribble", SIGNS[label], list(line)
    for line in prompts.paths:
        yield "path", "positive", list(line)


def said_by(
    figures: Iterable[tuple[Plane, Figure, np.ndarray]],
) -> dict[Plane, dict[str, Any]]:
    """What figures say on each plane, as `Prompts.of` takes it.

    Parameters
    ----------
    figures : iterable of (Plane, Figure, ndarray)
        The last is (N, 2): its corners (y, x) on the plane. The newest box and the
        newest outline of a plane count.
    """
    said: dict[Plane, dict[str, Any]] = {}
    for plane, figure, corners in figures:
        entry = said.setdefault(plane, {})
        if figure.kind == "box":
            low, high = corners.min(0) + 0.5, corners.max(0) + 0.5
            entry["box"] = (*low, *high)
        elif figure.kind == "outline":
            entry["polygon"] = corners
        elif figure.kind == "path":
            entry.setdefault("paths", []).append(corners)
        else:
            entry.setdefault("scribbles", []).append(corners)
            sign = int(figure.sign != "negative")
            entry.setdefault("scribble_labels", []).append(sign)
    return said


def with_undrawn(
    drawn: Mapping[Plane, Prompts], asked: Mapping[Plane, Prompts]
) -> dict[Plane, Prompts]:
    """Add to what layers say, by plane, the masks that they do not draw.

    Masks come from the session (a script, a split, a merge, refining); no edit of what
    is drawn takes them back.
    """
    out = dict(drawn)
    for plane, before in asked.items():
        if before.mask is not None:
            out[plane] = replace(out.get(plane, Prompts()), mask=before.mask)
    return out


def point_style() -> dict[str, Any]:
    """How the Points layer begins."""
    return {
        "features": {"sign": np.array([], dtype=object)},
        "feature_defaults": {"sign": SIGNS[1]},
        "border_width": 0,
        "size": 14,
        "canvas_size_limits": (14, 14),  # one size on the screen, whatever the zoom
    }


def shape_style() -> dict[str, Any]:
    """How the Shapes layer begins."""
    empty = np.array([], dtype=object)
    return {
        "features": {"kind": empty, "sign": empty},
        "feature_defaults": {"kind": "box", "sign": SIGNS[1]},
        "edge_color": COLORS["positive"],
        "face_color": "transparent",
        "edge_width": 1,
    }


def _corners(box: tuple[float, float, float, float]) -> list[tuple[float, float]]:
    """Half-open edges -> corners in napari's frame: pixel centres at integers."""
    y0, x0, y1, x1 = (v - 0.5 for v in box)
    return [(y0, x0), (y0, x1), (y1, x1), (y1, x0)]
