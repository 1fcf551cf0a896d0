"""Slicer's seg.nrrd through slicerio: NRRD labels with names, colours and terms."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.atomic_files import whole
from napari_sam.errors import ExportError
from napari_sam.results.formats.nrrd import label_volume, voxels_of
from napari_sam.results.incoming import incoming_labels
from napari_sam.results.patient import (
    hex_of,
    object_color,
    object_title,
    overlap_note,
    read_object,
)
from napari_sam.results.records import RecordReader
from napari_sam.results.renumbered import object_ids
from napari_sam.results.results import Results
from napari_sam.results.terms import CATEGORY, class_from, term_of

if TYPE_CHECKING:
    from pathlib import Path

    from napari_sam.volume.volume import Volume

_CONTEXT = "Segmentation category and type - 3D Slicer General Anatomy list"
_TABLE = 2**24
"""Highest value that is looked up in a table."""
_OWN_ID = re.compile(r"object_(\d{1,10})")


def write(path: Path, results: Results) -> list[str]:
    """Write the labels as seg.nrrd, as 3D Slicer saves a segmentation.

    Raises
    ------
    ExportError
        If there is no object, an axis has no place in NRRD, the slices are uneven, or
        the file cannot be written.
    """
    import slicerio

    voxels, affine = voxels_of(results)
    ids = object_ids(results.labels)
    if not ids:
        raise ExportError("seg.nrrd holds objects, and these labels have none")
    segmentation = {
        "voxels": voxels,
        "ijkToLPS": affine,
        "encoding": "gzip",
        "containedRepresentationNames": ["Binary labelmap"],
        "segments": [_segment(results, i) for i in ids],
    }
    with whole(path) as part, part.open("wb") as file:
        slicerio.write_segmentation(file, segmentation, compression_level=6)
    return []


def read(path: Path, volume: Volume) -> Results:
    """Read a seg.nrrd, of Slicer or another program, onto its image.

    Where segments overlap, the later one is kept.

    Raises
    ------
    VolumeError
        If the file is damaged, or does not lie on the image.
    """
    import slicerio

    found = slicerio.read_segmentation(str(path))
    segments = found.get("segments") or []
    voxels = np.asarray(found["voxels"])
    layers = voxels if voxels.ndim == 4 else voxels[None]
    ids = _ids(segments)
    tables: dict[int, dict[int, int]] = {}
    records = RecordReader()
    for object_id, segment in zip(ids, segments, strict=True):
        table = tables.setdefault(int(segment.get("layer") or 0), {})
        table[int(segment.get("labelValue", 1))] = object_id
        color = segment.get("color")
        read_object(
            records,
            object_id,
            str(segment.get("name") or ""),
            _class(segment.get("terminology")),
            hex_of([float(v) * 255 for v in color]) if color else None,
        )
    values, hidden = _joined(layers, tables)
    affine = np.asarray(found["ijkToLPS"], float)
    labels = incoming_labels(volume, label_volume(values, affine, path.name))
    told = (overlap_note(hidden, path.name),) * bool(hidden)
    return Results(labels, volume, records.objects, records.classes, notes=told)


def _joined(
    layers: np.ndarray, tables: dict[int, dict[int, int]]
) -> tuple[np.ndarray, int]:
    """Ids of all layers in one array, and how many pixels lie under a later layer."""
    top = max((i for table in tables.values() for i in table.values()), default=0)
    kind = np.dtype(np.uint16 if top < 2**16 else np.uint32)
    values, hidden = np.zeros(layers.shape[1:], kind), 0
    for number, table in sorted(tables.items()):
        layer = _in_ids(layers[number], table, kind)
        hidden += int(np.count_nonzero((layer > 0) & (values > 0)))
        values = np.where(layer > 0, layer, values)
    return values, hidden


def _in_ids(layer: np.ndarray, table: dict[int, int], kind: Any) -> np.ndarray:
    """Ids for the values of a layer."""
    known = {v: i for v, i in table.items() if 0 <= v <= _TABLE}
    if len(known) == len(table) and 0 <= layer.min() and layer.max() <= _TABLE:
        lookup = np.zeros(int(layer.max()) + 1, kind)
        for value, object_id in known.items():
            if value < len(lookup):
                lookup[value] = object_id
        return np.asarray(lookup[layer])
    found, places = np.unique(layer, return_inverse=True)
    ids = np.array([table.get(int(v), 0) for v in found], kind)
    return np.asarray(ids[places].reshape(layer.shape))


def _segment(results: Results, object_id: int) -> dict[str, Any]:
    known = results.classes.get(results.record(object_id).class_name)
    value, scheme, meaning = term_of(known)
    number, vocabulary, category = CATEGORY
    return {
        "id": f"object_{object_id}",
        "name": object_title(results, object_id),
        "labelValue": object_id,
        "layer": 0,
        "color": [round(v / 255, 6) for v in object_color(results, object_id)],
        "terminology": {
            "contextName": _CONTEXT,
            "category": [vocabulary, number, category],
            "type": [scheme, value, meaning],
        },
    }


def _ids(segments: list[dict[str, Any]]) -> list[int]:
    """Ids of our own files, else label values where they differ, else numbers."""
    own = [_OWN_ID.fullmatch(str(s.get("id", ""))) for s in segments]
    named = [int(m[1]) for m in own if m]
    if len(set(named)) == len(segments):
        return named
    values = [int(s.get("labelValue", 0)) for s in segments]
    if len(set(values)) == len(segments) and min(values, default=1) > 0:
        return values
    return list(range(1, len(segments) + 1))


def _class(terminology: Any) -> Any:
    found = (terminology or {}).get("type")
    if not found or len(found) != 3:
        return None
    scheme, value, meaning = (str(v) for v in found)
    return class_from(value, scheme, meaning)
