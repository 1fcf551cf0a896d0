"""Objects of one image as labelme JSON: polygons, and masks where there are holes."""

from __future__ import annotations

import base64
import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.atomic_files import write_whole
from napari_sam.core.masks import crop_mask
from napari_sam.errors import VolumeError
from napari_sam.results.features import Feature, paint_features
from napari_sam.results.label_objects import FoundObject, find_objects
from napari_sam.results.outlines import outline
from napari_sam.results.records import feature_properties

if TYPE_CHECKING:
    from pathlib import Path

    from napari_sam.core.masks import Bbox
    from napari_sam.results.results import Results
    from napari_sam.volume.volume import Volume

_UNCLASSIFIED = "object"
"""Label of objects without a class."""


def recognises(content: Any) -> bool:
    """Whether parsed JSON is of this format."""
    return isinstance(content, dict) and "shapes" in content


def write(path: Path, results: Results) -> list[str]:
    """Write the objects as shapes; see `napari_sam.results.registry.write`.

    Parts of an object share a group. What is known of objects is kept in a further key
    of each shape, which labelme keeps.
    """
    h, w = results.labels.shape[-2:]
    shapes = [
        shape
        for found in find_objects(results.labels)
        for shape in _shapes(results, found)
    ]
    content: dict[str, Any] = {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": (results.volume.source or results.volume.name).split("/")[-1],
        "imageData": None,
        "imageHeight": int(h),
        "imageWidth": int(w),
    }
    write_whole(path, json.dumps(content).encode())
    return []


def _shapes(results: Results, found: FoundObject) -> list[dict[str, Any]]:
    known = feature_properties(results, found.id, found.plane)
    common = {
        "label": known.get("class") or _UNCLASSIFIED,
        "group_id": found.id,
        "description": known.get("note", ""),
        "flags": {},
        "napari_sam": {**known, "object_id": found.id},
    }
    parts = outline(found.mask, found.bbox[:2])
    if any(len(part) > 1 for part in parts):
        y0, x0, y1, x1 = found.bbox
        corners = [[x0, y0], [x1 - 1, y1 - 1]]
        picture = _png(found.mask)
        return [{**common, "points": corners, "shape_type": "mask", "mask": picture}]
    return [
        {**common, "points": part[0][:, ::-1].tolist(), "shape_type": "polygon"}
        for part in parts
    ]


def _png(mask: np.ndarray) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def read(path: Path, volume: Volume) -> Results:
    """Read the objects; see `napari_sam.results.registry.read`.

    Polygons, rectangles, circles and masks are objects; those of one group are one.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    if not recognises(content) or not isinstance(content["shapes"], list):
        raise VolumeError(f"{path.name!r} is no labelme file: it has no list of shapes")
    shape = volume.shape[-2:]
    size = content.get("imageHeight"), content.get("imageWidth")
    if None not in size and size != shape:
        raise VolumeError(
            f"{path.name!r} is of an image of {size[0]} x {size[1]} pixels, but "
            f"{volume.name!r} has {shape[0]} x {shape[1]}"
        )
    groups: dict[Any, int] = {}
    features = [_feature(s, shape, groups) for s in content["shapes"]]
    return paint_features(features, volume, path)


def _feature(
    given: dict[str, Any], shape: tuple[int, ...], groups: dict[Any, int]
) -> Feature:
    label = str(given.get("label") or _UNCLASSIFIED)
    written = given.get("napari_sam")
    if isinstance(written, dict):
        known = dict(written)
        if label != _UNCLASSIFIED:
            known["class"] = label
    else:
        known = {"class": label, "note": given.get("description") or ""}
        group = given.get("group_id")
        if group is not None:
            # Groups count within a label, and may start at 0.
            known["object_id"] = groups.setdefault((label, group), len(groups) + 1)
    kind, points = given.get("shape_type", "polygon"), given.get("points") or []
    corners = np.array(points, np.float64).reshape(-1, 2)[:, ::-1]
    if kind == "mask":
        return Feature((), known, _mask(given["mask"], corners, shape))
    if kind == "rectangle" and len(corners) == 2:
        (y0, x0), (y1, x1) = corners
        corners = np.array([(y0, x0), (y0, x1), (y1, x1), (y1, x0)])
    elif kind == "circle" and len(corners) == 2:
        turn = np.linspace(0, 2 * np.pi, 360, endpoint=False)
        radius = np.hypot(*(corners[1] - corners[0]))
        corners = corners[0] + radius * np.stack([np.sin(turn), np.cos(turn)], 1)
    elif kind != "polygon":
        return Feature((), known)
    return Feature([[corners]], known)


def _mask(
    given: str, corners: np.ndarray, shape: tuple[int, ...]
) -> tuple[Bbox, np.ndarray]:
    from PIL import Image

    y0, x0 = corners[0].astype(int).tolist()
    with Image.open(io.BytesIO(base64.b64decode(given))) as picture:
        size = picture.size
        if y0 < 0 or x0 < 0 or y0 + size[1] > shape[0] or x0 + size[0] > shape[1]:
            raise VolumeError("a labelme mask leaves the image: the file is damaged")
        mask = np.asarray(picture) > 0
    (a, b, c, d), cropped = crop_mask(mask)
    return (y0 + a, x0 + b, y0 + c, x0 + d), cropped
