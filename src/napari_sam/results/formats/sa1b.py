"""Objects of one image as the JSON of SA-1B, the data set of Segment Anything."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.atomic_files import write_whole
from napari_sam.errors import VolumeError
from napari_sam.results import rle
from napari_sam.results.features import Feature, paint_features
from napari_sam.results.label_objects import FoundObject, find_objects
from napari_sam.results.records import feature_properties

if TYPE_CHECKING:
    from pathlib import Path

    from napari_sam.results.results import Results
    from napari_sam.volume.volume import Volume


def recognises(content: Any) -> bool:
    """Whether parsed JSON is of this format."""
    return isinstance(content, dict) and {"image", "annotations"} <= set(content)


def write(path: Path, results: Results) -> list[str]:
    """Write the objects as annotations; see `napari_sam.results.registry.write`.

    What is known of objects beyond SA-1B's own keys is kept in a further one.
    """
    h, w = (int(n) for n in results.labels.shape[-2:])
    name = (results.volume.source or results.volume.name).split("/")[-1]
    content = {
        "image": {"image_id": 1, "width": w, "height": h, "file_name": name},
        "annotations": [
            _annotation(results, found, (h, w))
            for found in find_objects(results.labels)
        ],
    }
    write_whole(path, json.dumps(content).encode())
    return []


def _annotation(
    results: Results, found: FoundObject, shape: tuple[int, int]
) -> dict[str, Any]:
    known = feature_properties(results, found.id, found.plane)
    y0, x0, y1, x1 = found.bbox
    points = (known.get("prompts") or {}).get("points", [])
    return {
        "id": found.id,
        "segmentation": rle.encode(found.mask, found.bbox, shape),
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": int(np.count_nonzero(found.mask)),
        "crop_box": [0, 0, shape[1], shape[0]],
        "point_coords": [[x, y] for y, x in points],
        **{k: known[k] for k in ("predicted_iou",) if k in known},
        "napari_sam": known,
    }


def read(path: Path, volume: Volume) -> Results:
    """Read the objects; see `napari_sam.results.registry.read`.

    Ids of other programs, which are often far beyond what labels hold, become new ones.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    if not recognises(content) or not isinstance(content["annotations"], list):
        raise VolumeError(f"{path.name!r} is no SA-1B file: it has no annotations")
    shape = (int(volume.shape[-2]), int(volume.shape[-1]))
    image = content["image"]
    size = image.get("height"), image.get("width")
    if size != shape:
        raise VolumeError(
            f"{path.name!r} is of an image of {size[0]} x {size[1]} pixels, but "
            f"{volume.name!r} has {shape[0]} x {shape[1]}"
        )
    features = []
    for given in content["annotations"]:
        own = given.get("napari_sam")
        known = {"predicted_iou": given.get("predicted_iou")}
        if isinstance(own, dict):
            known = {**known, **own, "object_id": given.get("id")}
        mask = rle.decode(given["segmentation"], shape)
        features.append(Feature((), known, mask))
    return paint_features(features, volume, path)
