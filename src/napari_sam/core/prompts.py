"""What a user says about one object on one plane, in plane and in window pixels."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core import prompt_values as values
from napari_sam.core.mask_prompt import MaskPrompt, same_mask
from napari_sam.errors import PromptError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from napari_sam.core.prompt_values import Line
    from napari_sam.core.tiles import Box


@dataclass(frozen=True, slots=True, eq=False)
class Prompts:
    """Everything said about one object on one plane. Immutable; level-0 pixels.

    Points count as clicks in the order given: each one after the first refines the
    mask that those before it made. Box, outline, mask, paths and + scribbles say
    together what the object is, before the first click; - scribbles take away from
    it, one after the other, when all clicks are made.

    Examples
    --------
    >>> Prompts.of(points=[(10, 20), (12, 40)], point_labels=[1, 0]).n_clicks
    2
    """

    points: tuple[tuple[float, float], ...] = ()
    """(y, x) pixel centres."""
    point_labels: tuple[int, ...] = ()
    """1 = in the object, 0 = not in it."""
    box: Box | None = None
    """(y0, x0, y1, x1), half-open."""
    polygon: tuple[tuple[float, float], ...] = ()
    """(y, x) corners of a rough outline."""
    mask: MaskPrompt | None = None
    scribbles: tuple[Line, ...] = ()
    """Strokes of a free hand, each (y, x) places in a row."""
    scribble_labels: tuple[int, ...] = ()
    """1 = drawn in the object, 0 = drawn where it is not."""
    paths: tuple[Line, ...] = ()
    """Places along a thin object, each path from one end to the other."""
    level: int = 0
    """Pyramid level a lone point is looked at first: the one the user's view shows."""

    @classmethod
    def of(
        cls,
        *,
        points: Iterable[Sequence[float]] | None = None,
        point_labels: Iterable[int] | None = None,
        box: Sequence[float] | None = None,
        polygon: Iterable[Sequence[float]] | None = None,
        mask: Any = None,
        scribbles: Any = None,
        scribble_labels: Iterable[int] | None = None,
        paths: Any = None,
        level: int = 0,
    ) -> Prompts:
        """Build prompts from plain Python and numpy values.

        Parameters
        ----------
        points : iterable of (y, x), optional
        point_labels : iterable of int, optional
            1 or 0 for each point; all 1 when left out.
        box : (y0, x0, y1, x1), optional
        polygon : iterable of (y, x), optional
            At least three corners.
        mask : array-like of bool, (h, w) of the plane, or MaskPrompt, optional
        scribbles : iterable of iterable of (y, x), optional
            Strokes; one alone need not be in a list.
        scribble_labels : iterable of int, optional
            1 or 0 for each stroke; all 1 when left out.
        paths : iterable of iterable of (y, x), optional
            At least two places each; one alone need not be in a list.
        level : int
            Pyramid level a lone point is looked at first.

        Raises
        ------
        PromptError
            If lengths, labels or shapes do not make sense.
        """
        pts = values.pairs(points, "point")
        strokes = values.lines(scribbles, "scribble", 1)
        corners = values.pairs(polygon, "polygon corner")
        if corners and len(corners) < 3:
            raise PromptError(f"a polygon needs 3 corners or more; got {len(corners)}")
        if mask is not None and not isinstance(mask, MaskPrompt):
            mask = MaskPrompt.of(mask)
        return cls(
            points=pts,
            point_labels=_labels_of(pts, point_labels, "point"),
            box=None if box is None else values.box(box),
            polygon=corners,
            mask=mask,
            scribbles=strokes,
            scribble_labels=_labels_of(strokes, scribble_labels, "scribble"),
            paths=values.lines(paths, "path", 2),
            level=int(level),
        )

    @property
    def n_clicks(self) -> int:
        """Number of points."""
        return len(self.points)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is said at all."""
        return not (self.points or self.scribbles or self.outlined)

    @property
    def outlined(self) -> bool:
        """Whether a box, a polygon, a mask or a path is among them."""
        return bool(self.box or self.polygon or self.paths) or self.mask is not None

    @property
    def length(self) -> int:
        """Clicks and - scribbles: what comes one after the other."""
        return self.n_clicks + self.scribble_labels.count(0)

    def check(self, plane_shape: tuple[int, int]) -> None:
        """Refuse prompts that cannot be answered on a plane of that (height, width).

        Raises
        ------
        PromptError
            For no prompt at all, only negative points, a point outside the plane, a
            box or polygon that holds no pixel of it, or a mask of another shape.
        """
        h, w = plane_shape
        if self.is_empty:
            raise PromptError(
                "no prompt given: add a point, a box, a polygon, a scribble or a mask"
            )
        if not (any(self.point_labels) or self._is_anchored()):
            raise PromptError(
                "only negative points or scribbles given: they take away from an "
                "object, so first add a positive one, a box or a mask"
            )
        for y, x in self.points:
            if not (-0.5 <= y <= h - 0.5 and -0.5 <= x <= w - 0.5):
                raise PromptError(
                    f"point (y={y:g}, x={x:g}) lies outside the plane of {h} x {w} px"
                )
        for what, line in self._lines():
            if not any(-0.5 <= y <= h - 0.5 and -0.5 <= x <= w - 0.5 for y, x in line):
                raise PromptError(f"a {what} lies outside the plane of {h} x {w} px")
        for what, box in (("box", self.box), ("polygon", self.polygon_box())):
            if box is None:
                continue
            y0, x0, y1, x1 = box
            given = f"the {what} (y0={y0:g}, x0={x0:g}, y1={y1:g}, x1={x1:g})"
            if y1 - y0 <= 0 or x1 - x0 <= 0:
                raise PromptError(f"{given} is empty: it needs y0 < y1 and x0 < x1")
            if y1 <= 0 or x1 <= 0 or y0 >= h or x0 >= w:
                raise PromptError(f"{given} lies outside the plane of {h} x {w} px")
        if self.mask is not None:
            self.mask.check(plane_shape)

    def steps(self) -> tuple[Prompts, ...]:
        """Break down into what a user said one after the other.

        First the box, polygon, mask, paths and + scribbles, or, without any, the
        points up to the first positive one. Then one more point each time, and at
        last one more - scribble each time. The last step is the whole.
        """
        first = 0 if self._is_anchored() else self.point_labels.index(1) + 1
        added = [k for k, label in enumerate(self.scribble_labels) if label]
        taken = [k for k, label in enumerate(self.scribble_labels) if not label]
        clicks = [self._part(n, added) for n in range(first, self.n_clicks + 1)]
        rest = [
            self._part(self.n_clicks, sorted((*added, *taken[:n])))
            for n in range(1, len(taken) + 1)
        ]
        return (*clicks, *rest)

    def extends(self, other: Prompts) -> bool:
        """Whether these are `other` with more clicks, or - scribbles, at the end."""
        n, taken = other.n_clicks, other._strokes(0)
        return (
            n <= self.n_clicks
            and (n == self.n_clicks or not taken)
            and self.points[:n] == other.points
            and self.point_labels[:n] == other.point_labels
            and self._strokes(1) == other._strokes(1)
            and self._strokes(0)[: len(taken)] == taken
            and self.box == other.box
            and self.polygon == other.polygon
            and self.paths == other.paths
            and same_mask(self.mask, other.mask)
            and self.level == other.level
        )

    @property
    def is_lone_click(self) -> bool:
        """Whether one positive point is all that is said: the ambiguous case."""
        alone = self.point_labels == (1,) and not self.scribbles
        return alone and not self.outlined

    def outer_box(self) -> Box | None:
        """Return the box given, else that around the polygon or the mask, else None."""
        if self.box is not None:
            return self.box
        if self.polygon or self.mask is None:
            return self.polygon_box()
        y0, x0, y1, x1 = self.mask.bbox
        return float(y0), float(x0), float(y1), float(x1)

    def extent(self) -> Box:
        """Smallest half-open level-0 box around everything said."""
        boxes = [(y - 0.5, x - 0.5, y + 0.5, x + 0.5) for y, x in self.points]
        boxes += [b for b in (self.box, self.polygon_box()) if b is not None]
        boxes += [line_box(line) for _, line in self._lines()]
        if self.mask is not None:
            y0, x0, y1, x1 = self.mask.bbox
            boxes.append((float(y0), float(x0), float(y1), float(x1)))
        low, high = np.min(boxes, axis=0), np.max(boxes, axis=0)
        return float(low[0]), float(low[1]), float(high[2]), float(high[3])

    def to_json(self) -> dict[str, Any]:
        """Plain values, for files and the command line; without what is not said."""
        out: dict[str, Any] = {}
        if self.points:
            out["points"] = [list(p) for p in self.points]
            out["point_labels"] = list(self.point_labels)
        if self.box is not None:
            out["box"] = list(self.box)
        if self.polygon:
            out["polygon"] = [list(p) for p in self.polygon]
        if self.mask is not None:
            out["mask"] = self.mask.to_json()
        if self.scribbles:
            out["scribbles"] = [[list(p) for p in line] for line in self.scribbles]
            out["scribble_labels"] = list(self.scribble_labels)
        if self.paths:
            out["paths"] = [[list(p) for p in line] for line in self.paths]
        if self.level:
            out["level"] = self.level
        return out

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Prompts:
        """Read what `to_json` wrote.

        Raises
        ------
        PromptError
            If a key is unknown or a value does not make sense.
        """
        known = set(cls.__dataclass_fields__)
        if unknown := set(value) - known:
            raise PromptError(
                f"unknown prompt key(s) {sorted(unknown)}; expected {sorted(known)}"
            )
        given = value.get("mask")
        return cls.of(
            points=value.get("points"),
            point_labels=value.get("point_labels"),
            box=value.get("box"),
            polygon=value.get("polygon"),
            mask=MaskPrompt.from_json(given) if given else None,
            scribbles=value.get("scribbles"),
            scribble_labels=value.get("scribble_labels"),
            paths=value.get("paths"),
            level=value.get("level", 0),
        )

    def _is_anchored(self) -> bool:
        """Whether anything but clicks says what the object is."""
        return self.outlined or any(self.scribble_labels)

    def _part(self, n_clicks: int, strokes: list[int]) -> Prompts:
        return replace(
            self,
            points=self.points[:n_clicks],
            point_labels=self.point_labels[:n_clicks],
            scribbles=tuple(self.scribbles[k] for k in strokes),
            scribble_labels=tuple(self.scribble_labels[k] for k in strokes),
        )

    def _strokes(self, label: int) -> tuple[Line, ...]:
        both = zip(self.scribbles, self.scribble_labels, strict=True)
        return tuple(line for line, sign in both if sign == label)

    def _lines(self) -> Iterator[tuple[str, Line]]:
        yield from (("scribble", line) for line in self.scribbles)
        yield from (("path", line) for line in self.paths)

    def polygon_box(self) -> Box | None:
        """Box around the polygon, or None without one."""
        if not self.polygon:
            return None
        ys, xs = np.array(self.polygon).T
        return float(ys.min()), float(xs.min()), float(ys.max()), float(xs.max())


@dataclass(frozen=True, slots=True, eq=False)
class WindowPrompts:
    """Prompts in the pixels of one window: what a model decodes.

    Examples
    --------
    >>> WindowPrompts(points=np.array([[4.0, 7.0]]), point_labels=np.array([1]))
    WindowPrompts(points=array([[4., 7.]]), point_labels=array([1]), ...)
    """

    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    """(N, 2) float, (y, x) pixel centres in the window."""
    point_labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    """(N,) int, 1 = object, 0 = background."""
    box: Box | None = None
    """(y0, x0, y1, x1) in the window's pixels, half-open."""
    mask_input: np.ndarray | None = None
    """(m, m) float32 logits over the model's padded frame, as `low_res_logits` are."""
    multimask_output: bool = True
    """Ask for alternatives, as fits a lone, ambiguous point."""


def cut_box(box: Box, size: tuple[int, int]) -> Box:
    """Cut a half-open box to an image of (height, width)."""
    h, w = size
    y0, x0, y1, x1 = box
    return max(y0, 0.0), max(x0, 0.0), min(y1, float(h)), min(x1, float(w))


def line_box(line: Line) -> Box:
    """Smallest half-open box around the pixels that a line's places lie on."""
    ys, xs = np.array(line).T
    return (
        float(ys.min()) - 0.5, float(xs.min()) - 0.5,
        float(ys.max()) + 0.5, float(xs.max()) + 0.5,
    )  # fmt: skip


def _labels_of(
    given: tuple[Any, ...], labels: Iterable[int] | None, what: str
) -> tuple[int, ...]:
    """Return one label for each; all 1 where none are said."""
    name = f"{what}_labels"
    found = (1,) * len(given) if labels is None else values.signs(labels, name)
    if len(found) != len(given):
        raise PromptError(
            f"each {what} needs one label; got {len(given)} {what}s and "
            f"{len(found)} {name}"
        )
    return found
