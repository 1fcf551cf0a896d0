"""Objects as ImageJ ROIs in a zip: pixels, (0, 0) at the first pixel's first corner."""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.atomic_files import whole
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

_LONGEST = 60_535
"""Longest side of an image whose ROIs ImageJ can tell from negative coordinates."""
_LARGEST = 2**30
"""Bytes of ROIs that are read at most."""


def write(path: Path, results: Results) -> list[str]:
    """Write the objects; see `napari_sam.results.registry.write`.

    Each object of each plane is a polygon, or a composite where it has holes or parts.
    """
    axes = results.volume.axes[:-2]
    if not set(axes) <= {"z", "t"}:
        raise ExportError(
            f"ImageJ's ROIs have no place for the axes {axes}: choose a plane, or coco"
        )
    if max(results.labels.shape[-2:]) > _LONGEST:
        raise ExportError(
            f"ImageJ's ROIs hold coordinates up to {_LONGEST}: write coco or geojson"
        )
    with whole(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as file:
        for found in find_objects(results.labels):
            name = "-".join(f"{n:05d}" for n in (found.id, *found.plane.index))
            file.writestr(f"{name}.roi", _roi(results, found).tobytes())
    return []


def _roi(results: Results, found: FoundObject) -> Any:
    from roifile import ROI_OPTIONS, ROI_TYPE, ImagejRoi

    known = feature_properties(results, found.id, found.plane)
    known["object_id"] = found.id
    rings = [r for part in outline(found.mask, found.bbox[:2]) for r in part]
    if len(rings) == 1:
        roi = ImagejRoi.frompoints(rings[0][:, ::-1].astype(np.int32))
        roi.roitype = ROI_TYPE.TRACED
    else:
        roi = ImagejRoi()
        roi.roitype = ROI_TYPE.RECT
        roi.top, roi.left, roi.bottom, roi.right = found.bbox
        roi.multi_coordinates = np.concatenate([_path(r) for r in rings])
        roi.shape_roi_size = len(roi.multi_coordinates)
        roi.options = ROI_OPTIONS.OVERLAY_BACKGROUNDS | ROI_OPTIONS.OVERLAY_LABELS
    roi.name = known.get("name") or f"{known.get('class') or 'object'} {found.id}"
    roi.props = f"napari_sam: {json.dumps(known)}\n"
    index = index_by_axes(results.volume, found.plane)
    if len(index) == 1:
        roi.position = next(iter(index.values())) + 1
    elif index:
        roi.z_position, roi.t_position = index["z"] + 1, index["t"] + 1
    return roi


def _path(ring: np.ndarray) -> np.ndarray:
    """ImageJ's path of a ring: move to, line to, ..., close."""
    steps = np.ones((len(ring), 3), np.float32)
    steps[0, 0] = 0
    steps[:, 1:] = ring[:, ::-1]
    return np.append(steps.ravel(), np.float32(4))


def read(path: Path, volume: Volume) -> Results:
    """Read the objects; see `napari_sam.results.registry.read`.

    Polygons, traced and freehand outlines, rectangles, ovals and composites are
    objects; points and lines are left out.
    """
    from roifile import ImagejRoi

    features = []
    with zipfile.ZipFile(path) as file:
        members = [m for m in file.infolist() if m.filename.lower().endswith(".roi")]
        if sum(m.file_size for m in members) > _LARGEST:
            raise VolumeError(f"{path.name!r} unpacks to more than {_LARGEST} bytes")
        for member in members:
            roi = ImagejRoi.frombytes(file.read(member))
            features.append(_feature(roi, volume))
    return paint_features(features, volume, path)


def _feature(roi: Any, volume: Volume) -> Feature:
    from roifile import ROI_TYPE

    written = roi.props.partition("napari_sam:")[2].strip().splitlines()
    known: dict[str, Any] = json.loads(written[0]) if written else {"name": roi.name}
    if not written and roi.group:
        known["class"] = f"group {roi.group}"
    leading = volume.axes[:-2]
    at = {"z": roi.z_position - 1, "t": roi.t_position - 1}
    if max(at.values()) >= 0:
        known["plane"] = index_of_axes(volume, {a: max(0, i) for a, i in at.items()})
    elif roi.position > 0 and len(leading) == 1:
        known["plane"] = [roi.position - 1]
    filled = (
        ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED, ROI_TYPE.RECT,
        ROI_TYPE.OVAL,
    )  # fmt: skip
    if roi.roitype not in filled:
        return Feature((), known)
    rings = [
        np.asarray(r, np.float64)[:, ::-1]
        for r in roi.coordinates(multi=True)
        if len(r)
    ]
    return Feature([rings] if rings else (), known)
