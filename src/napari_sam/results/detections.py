"""Boxes, points and outlines from files that detectors and napari write.

Read are CSV tables (napari's Shapes and Points among them), COCO JSON (results, or
images with annotations) and YOLO txt.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.prompts import Prompts
from napari_sam.errors import PromptError, VolumeError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    Row = Mapping[str, str]

_Forms = tuple[tuple[str, ...], ...]
_CORNERS: _Forms = (
    ("y0", "x0", "y1", "x1"), ("ymin", "xmin", "ymax", "xmax"),
    ("y_min", "x_min", "y_max", "x_max"), ("y1", "x1", "y2", "x2"),
    ("top", "left", "bottom", "right"),
    ("bbox-0", "bbox-1", "bbox-2", "bbox-3"),
)  # fmt: skip
"""Columns of a box: its edges, half-open."""
_SIZES: _Forms = (("y", "x", "height", "width"), ("y", "x", "h", "w"))
"""Columns of a box: its upper left corner and its size."""
_POINTS: _Forms = (("y", "x"), ("centroid-0", "centroid-1"), ("row", "column"))
_CLASSES = ("class", "class_name", "label", "category", "name")
_SCORES = ("score", "confidence", "conf", "probability")
_PLANES = ("plane", "z", "slice", "frame", "t")


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """One object that somebody or something points at."""

    prompts: Prompts
    plane: tuple[int, ...] | None = None
    """Index of its plane, where the file says one."""
    class_name: str | None = None
    score: float | None = None
    """How sure the detector is, 0..1; None where it does not say."""


def read_detections(
    path: str | os.PathLike[str], shape: Sequence[int]
) -> list[Detection]:
    """Read a file of boxes, points or outlines.

    Parameters
    ----------
    path : path-like
        - ``.csv``, with a header. As napari saves Shapes (rectangles and ellipses are
          boxes, polygons outlines, paths strokes) and Points; or a row a detection with
          columns y0, x0, y1, x1 (also ymin ..., top, left, bottom, right), or y, x,
          height, width, or y, x of points; and, if you like, class or label, score, and
          plane or z.
        - ``.json``, COCO: a list of results, or annotations with categories. The boxes
          alone are used. Image n is plane n, counted from the first id, of a volume.
        - ``.txt``, YOLO: class, centre x, centre y, width, height (and confidence), as
          shares of the image; or class and a polygon.
    shape : sequence of int
        Spatial shape of the image.

    Raises
    ------
    VolumeError
        If the file cannot be read, or holds nothing of that kind.
    """
    path = Path(path)
    readers: dict[str, Callable[[str, Sequence[int]], list[Detection]]] = {
        ".csv": _from_csv, ".json": _from_coco, ".txt": _from_yolo,
    }  # fmt: skip
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise VolumeError(
            f"boxes are read from .csv, .json (COCO) and .txt (YOLO); got {path.name}"
        )
    try:
        found = reader(path.read_text(encoding="utf-8-sig"), shape)
    except (OSError, UnicodeDecodeError) as error:
        raise VolumeError(f"cannot read {path}: {error}") from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise VolumeError(
            f"{path} cannot be understood as boxes, points or outlines: {error}"
        ) from error
    if not found:
        raise VolumeError(f"{path} holds no box, point or outline")
    return found


# -- CSV -----------------------------------------------------------------------------


def _from_csv(text: str, shape: Sequence[int]) -> list[Detection]:
    lines = text.splitlines()
    rows = [
        {k.strip().lower(): v for k, v in row.items() if k is not None}
        for row in csv.DictReader(lines)
    ]
    if not rows:
        return []
    columns = set(rows[0])
    if {"index", "vertex-index"} <= columns:
        return _shapes(rows)
    if {"index", "axis-0"} <= columns:
        return [_detection(Prompts.of(points=[at[-2:]]), at, row)
                for row in rows for at in [_axes(row)]]  # fmt: skip
    for forms, make in ((_CORNERS, _edges), (_SIZES, _sized), (_POINTS, _place)):
        for names in forms:
            if columns.issuperset(names):
                values = ([float(row[n]) for n in names] for row in rows)
                return [
                    _told(make(v), row) for v, row in zip(values, rows, strict=True)
                ]
    raise VolumeError(
        "a table needs columns y0, x0, y1, x1, or y, x, height, width, or y, x, or to "
        f"be saved by napari; got {sorted(columns)}"
    )


def _shapes(rows: Sequence[Row]) -> list[Detection]:
    """One detection a shape of napari's Shapes: a row of the table is a vertex."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["index"]].append(row)
    return [_shape(group) for group in groups.values()]


def _shape(rows: Sequence[Row]) -> Detection:
    at = np.array([_axes(row) for row in rows])
    corners, kind = at[:, -2:], rows[0].get("shape-type", "polygon")
    if kind in ("rectangle", "ellipse"):
        prompts = Prompts.of(box=(*(corners.min(0) + 0.5), *(corners.max(0) + 0.5)))
    elif kind == "polygon":
        prompts = Prompts.of(polygon=corners)
    else:
        prompts = Prompts.of(scribbles=[corners])
    return _detection(prompts, at[0], rows[0])


def _axes(row: Row) -> list[float]:
    names = sorted((n for n in row if n.startswith("axis-")), key=lambda n: int(n[5:]))
    return [float(row[n]) for n in names]


def _detection(prompts: Prompts, at: Sequence[float], row: Row) -> Detection:
    """Take the plane from the axes before the last two."""
    plane = tuple(round(float(v)) for v in at[:-2]) or None
    return _told(prompts, row, plane)


def _edges(values: list[float]) -> Prompts:
    return Prompts.of(box=values)


def _sized(values: list[float]) -> Prompts:
    y, x, h, w = values
    return Prompts.of(box=(y, x, y + h, x + w))


def _place(values: list[float]) -> Prompts:
    return Prompts.of(points=[values])


def _told(
    prompts: Prompts, row: Row, plane: tuple[int, ...] | None = None
) -> Detection:
    kind = _first(row, _CLASSES)
    score = _first(row, _SCORES)
    where = _first(row, _PLANES)
    if plane is None and where:
        plane = (int(float(where)),)
    return Detection(prompts, plane, kind or None, float(score) if score else None)


def _first(row: Row, names: Sequence[str]) -> str:
    return next((row[n].strip() for n in names if row.get(n)), "")


# -- COCO and YOLO -------------------------------------------------------------------


def _from_coco(text: str, shape: Sequence[int]) -> list[Detection]:
    content = json.loads(text)
    names: dict[Any, str] = {}
    annotations = content
    if isinstance(content, dict):
        annotations = content["annotations"]
        names = {c["id"]: str(c["name"]) for c in content.get("categories", ())}
    images = sorted({a["image_id"] for a in annotations if "image_id" in a})
    if isinstance(content, dict) and content.get("images"):
        images = [image["id"] for image in content["images"]]
    many = len(shape) > 2
    out = []
    for a in annotations:
        x, y, w, h = (float(v) for v in a["bbox"])
        plane = (images.index(a["image_id"]),) if many and "image_id" in a else None
        kind = names.get(a.get("category_id"))
        score = a.get("score")
        out.append(
            Detection(
                Prompts.of(box=(y, x, y + h, x + w)), plane, kind,
                None if score is None else float(score),
            )
        )  # fmt: skip
    if not many and len(images) > 1:
        raise VolumeError(
            f"the file has boxes of {len(images)} images and this is one: keep those "
            "of one image_id"
        )
    return out


def _from_yolo(text: str, shape: Sequence[int]) -> list[Detection]:
    h, w = shape[-2:]
    out = []
    for number, line in enumerate(text.splitlines(), 1):
        values = line.split()
        if not values:
            continue
        kind, numbers = values[0], [float(v) for v in values[1:]]
        if min(numbers, default=-1) < 0 or max(numbers) > 1.001:
            raise PromptError(f"line {number} has shares of the image, 0 to 1")
        score = None
        if len(numbers) in (4, 5):
            cx, cy, bw, bh = numbers[:4]
            score = numbers[4] if len(numbers) == 5 else None
            box = ((cy - bh / 2) * h, (cx - bw / 2) * w,
                   (cy + bh / 2) * h, (cx + bw / 2) * w)  # fmt: skip
            prompts = Prompts.of(box=box)
        else:
            at = np.array(numbers).reshape(-1, 2)[:, ::-1] * (h, w) - 0.5
            prompts = Prompts.of(polygon=at)
        out.append(Detection(prompts, None, kind, score))
    return out
