"""Objects as QuPath's GeoJSON: pixels, (0, 0) at the first pixel's first corner."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.atomic_files import write_whole
from napari_sam.errors import ExportError, VolumeError
from napari_sam.results.features import (
    Feature,
    index_by_axes,
    index_of_axes,
    paint_features,
)
from napari_sam.results.label_objects import FoundObject, find_objects
from napari_sam.results.outlines import outline
from napari_sam.results.records import feature_properties

if TYPE_CHECKING:
    from pathlib import Path

    from napari_sam.results.results import Results
    from napari_sam.volume.volume import Volume


def recognises(content: Any) -> bool:
    """Whether parsed JSON is of this format."""
    features = _features(content)
    return any(
        isinstance(f, dict)
        and (
            str(f.get("id")).startswith("Path")
            or not {"objectType", "classification"}.isdisjoint(
                f.get("properties") or {}
            )
        )
        for f in features
    )


def _features(content: Any) -> list[Any]:
    if isinstance(content, dict) and content.get("type") == "Feature":
        return [content]
    found = content.get("features") if isinstance(content, dict) else content
    return found if isinstance(found, list) else []


def write(path: Path, results: Results) -> list[str]:
    """Write the objects as annotations; see `napari_sam.results.registry.write`.

    Classes become classifications. What else is known of objects is kept as metadata.
    """
    axes = results.volume.axes[:-2]
    if not set(axes) <= {"z", "t"}:
        raise ExportError(
            f"QuPath has no place for the axes {axes}: choose a plane, or write coco"
        )
    features = [_feature(results, found) for found in find_objects(results.labels)]
    content = {"type": "FeatureCollection", "features": features}
    write_whole(path, json.dumps(content).encode())
    return []


def _feature(results: Results, found: FoundObject) -> dict[str, Any]:
    known = feature_properties(results, found.id, found.plane)
    known["object_id"] = found.id
    name, color = known.get("class"), known.get("class_color")
    index = index_by_axes(results.volume, found.plane)
    parts = [
        [[*ring[:, ::-1].tolist(), ring[0, ::-1].tolist()] for ring in part]
        for part in outline(found.mask, found.bbox[:2])
    ]
    one = len(parts) == 1
    properties: dict[str, Any] = {
        "objectType": "annotation",
        "name": known.get("name") or str(found.id),
        "metadata": {"napari_sam": json.dumps(known)},
    }
    if name:
        rgb = [int(color[i : i + 2], 16) for i in (1, 3, 5)] if color else None
        properties["classification"] = {"name": name, **({"color": rgb} if rgb else {})}
    key = f"{results.volume.name}/{found.id}/{found.plane.index}"
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(uuid.NAMESPACE_OID, key)),
        "geometry": {
            "type": "Polygon" if one else "MultiPolygon",
            "coordinates": parts[0] if one else parts,
            "plane": {"c": -1, "z": index.get("z", 0), "t": index.get("t", 0)},
        },
        "properties": properties,
    }


def read(path: Path, volume: Volume) -> Results:
    """Read the objects; see `napari_sam.results.registry.read`.

    Coordinates are pixels whatever the pixel size. Points and lines are left out.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    features = _features(content)
    if not features and not (isinstance(content, dict) and "features" in content):
        raise VolumeError(f"{path.name!r} is no GeoJSON: it has no features")
    return paint_features([_read_feature(f, volume) for f in features], volume, path)


def _read_feature(given: dict[str, Any], volume: Volume) -> Feature:
    properties, geometry = given.get("properties") or {}, given.get("geometry") or {}
    metadata = properties.get("metadata")
    written = metadata.get("napari_sam") if isinstance(metadata, dict) else None
    known = json.loads(written) if isinstance(written, str) else {}
    if not known and properties.get("name"):
        known["name"] = str(properties["name"])
    classified = properties.get("classification")
    if isinstance(classified, dict):
        names = classified.get("names") or [classified.get("name")]
        known["class"] = ": ".join(str(n) for n in names if n)
        known.setdefault("class_color", classified.get("color"))
    plane = geometry.get("plane")
    if isinstance(plane, dict):
        at = {k: int(plane[k]) for k in ("z", "t") if plane.get(k) is not None}
        known["plane"] = index_of_axes(volume, at)
    return Feature(_parts(geometry), known)


def _parts(geometry: dict[str, Any]) -> list[list[np.ndarray]]:
    kind = geometry.get("type")
    if kind == "GeometryCollection":
        return [part for g in geometry["geometries"] for part in _parts(g)]
    if kind not in ("Polygon", "MultiPolygon"):
        return []
    polygons = (
        [geometry["coordinates"]] if kind == "Polygon" else geometry["coordinates"]
    )
    return [
        [np.array([[y, x] for x, y, *_ in ring], np.float64) for ring in polygon]
        for polygon in polygons
    ]
