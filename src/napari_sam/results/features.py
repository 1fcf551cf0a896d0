"""Features, polygons with properties, as readers of drawn outlines find them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.planes import Plane
from napari_sam.errors import VolumeError
from napari_sam.results.outlines import Ring, fill
from napari_sam.results.painting import Painter, id_of
from napari_sam.results.records import RecordReader

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_sam.core.masks import Bbox
    from napari_sam.results.results import Results
    from napari_sam.volume.volume import Volume


@dataclass(frozen=True, slots=True, eq=False)
class Feature:
    """One object on one plane, as a file draws it."""

    parts: Sequence[Sequence[Ring]]
    """Rings, (y, x), of each polygon, the outer one first; none: it is no polygon."""
    properties: dict[str, Any] = field(default_factory=dict)
    """As `napari_sam.results.records` names them; also ``object_id`` and ``plane``."""
    mask: tuple[Bbox, np.ndarray] | None = None
    """Box and pixels, where the file holds pixels rather than a polygon."""


def paint_features(
    features: Sequence[Feature],
    volume: Volume,
    path: Path,
    matrix: np.ndarray | None = None,
) -> Results:
    """Paint features into labels; a pixel belongs to a polygon that holds its centre.

    A feature without ``object_id`` becomes a new object, and one without ``plane`` is
    of the only plane.

    Parameters
    ----------
    features : sequence of Feature
    volume : Volume
    path : Path
        Their file, for messages.
    matrix : ndarray, (3, 3), optional
        From (row, column) of pixel corners, 0 at the first pixel's first corner, to
        (y, x) of the features; the same when left out.

    Raises
    ------
    VolumeError
        If there are features and none is a polygon, or one lacks its plane.
    """
    inverse = None if matrix is None else np.linalg.inv(matrix)
    painter, records = Painter(volume), RecordReader()
    painter.reserve(
        {i for f in features if (i := id_of(f.properties.get("object_id")))}
    )
    drawn = [f for f in features if f.parts or f.mask is not None]
    if features and not drawn:
        raise VolumeError(f"{path.name!r} holds no polygon")
    outside = 0
    for feature in drawn:
        known = dict(feature.properties)
        plane = _plane_of(known.get("plane"), volume, path)
        given = known.get("object_id")
        masks = _masks(feature, plane.shape(volume.shape), inverse)
        masks = [(bbox, mask) for bbox, mask in masks if mask.any()]
        if not masks:
            outside += 1
            continue
        object_id = id_of(given) or painter.number()
        if isinstance(given, str) and id_of(given) is None:
            known.setdefault("name", given)
        records.add(object_id, plane, known)
        for bbox, mask in masks:
            painter.paint(plane, bbox, mask, object_id)
    notes = []
    if others := len(features) - len(drawn):
        notes.append(f"{others} features are no polygons: left out")
    if outside:
        notes.append(f"{outside} polygons hold no pixel of the image: left out")
    return painter.results(volume, records, notes)


def _masks(
    feature: Feature, shape: tuple[int, int], inverse: np.ndarray | None
) -> list[tuple[Bbox, np.ndarray]]:
    found = [] if feature.mask is None else [feature.mask]
    for rings in feature.parts:
        corners = [np.asarray(r, np.float64) for r in rings]
        if inverse is not None:
            corners = [r @ inverse[:2, :2].T + inverse[:2, 2] for r in corners]
        found.append(fill(corners, shape))
    return found


def _plane_of(given: Any, volume: Volume, path: Path) -> Plane:
    if isinstance(given, str) and given:
        index = [int(v) for v in given.split(",")]
    elif isinstance(given, (list, tuple)):
        index = [int(v) for v in given]
    elif isinstance(given, (int, float)) and given == given:
        index = [int(given)]
    elif math.prod(volume.shape[:-2]) == 1:
        index = [0] * (volume.ndim - 2)
    else:
        raise VolumeError(
            f"{path.name!r} does not say of which plane its objects are, and "
            f"{volume.name!r} has several: give the plane"
        )
    if volume.ndim == 2:
        index = [i for i in index if i]  # the one plane, also counted as 0 or 0,0
    return Plane.of(volume.shape, index or 0)


def index_by_axes(volume: Volume, plane: Plane) -> dict[str, int]:
    """Return the index of a plane on each of its leading axes, by the axes' names."""
    return dict(zip(volume.axes, plane.index, strict=False))


def index_of_axes(volume: Volume, given: dict[str, int]) -> list[int]:
    """Return the index of a plane from what a file says of ``z`` and ``t``."""
    return [given.get(axis, 0) for axis in volume.axes[:-2]]
