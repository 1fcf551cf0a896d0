"""Objects as polygon features in the image's own coordinates, written through GDAL."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.atomic_files import whole
from napari_sam.core.planes import Plane
from napari_sam.errors import ExportError, VolumeError
from napari_sam.results.label_objects import find_objects
from napari_sam.results.outlines import fill, outline
from napari_sam.results.painting import Painter, id_of
from napari_sam.results.records import RecordReader, feature_properties
from napari_sam.results.results import Results

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_sam.core.masks import Bbox
    from napari_sam.volume.volume import Volume

WGS84 = "EPSG:4326"


def write_features(
    path: Path, results: Results, driver: str, *, crs: str | None = None
) -> list[str]:
    """Write every object of every plane as one polygon feature.

    Polygons follow the pixels' edges exactly, holes and parts included, so that
    rasterising them gives the labels back. They lie in the image's coordinate system;
    without one, in the world of `Volume.affine`.

    Parameters
    ----------
    path : Path
    results : Results
    driver : str
        GDAL's name of the format.
    crs : str, optional
        Coordinate system that the format demands, where the image has one.

    Raises
    ------
    ExportError
        If there is no object, or the file cannot be written.
    """
    import geopandas

    rows = list(_rows(results))
    if not rows:
        raise ExportError("there is no object to write: segment something first")
    frame = geopandas.GeoDataFrame(rows, geometry="geometry", crs=results.volume.crs)
    if crs is not None and frame.crs is not None:
        frame = frame.to_crs(crs)
    with whole(path) as part:
        # GDAL wants the right suffix, and may write files beside the one it is told.
        folder = part.with_suffix(".folder")
        folder.mkdir()
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "'crs' was not provided", UserWarning)
                frame.to_file(folder / path.name, driver=driver, engine="pyogrio")
            os.replace(folder / path.name, part)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return []


def _rows(results: Results) -> Iterator[dict[str, Any]]:
    for found in find_objects(results.labels):
        properties = feature_properties(results, found.id, found.plane)
        for key in ("prompts", "class_codes"):
            if key in properties:
                properties[key] = json.dumps(properties[key])
        row = {
            "object_id": found.id,
            "area_px": int(found.mask.sum()),
            **properties,
            "geometry": polygon_of(found.mask, found.bbox[:2], results.volume),
        }
        if found.plane.index:
            row["plane"] = ",".join(map(str, found.plane.index))
        yield row


def read_features(path: Path, volume: Volume) -> Results:
    """Read polygons; a pixel belongs to one that holds its centre.

    Polygons are brought into the image's coordinate system where both are known, and
    taken to be in the image's own world otherwise. Points and lines are left out. A
    feature without ``object_id`` becomes a new object, and one without ``plane`` is of
    the only plane.

    Raises
    ------
    VolumeError
        If the file cannot be read, holds no polygon, or does not say of which plane.
    """
    import geopandas

    try:
        frame = geopandas.read_file(path, engine="pyogrio")
    except (OSError, ValueError, RuntimeError) as error:
        raise VolumeError(
            f"{str(path)!r} cannot be read as polygons: {error}"
        ) from error
    if "geometry" not in frame or not len(frame):
        raise VolumeError(f"{str(path)!r} holds no polygon")
    if frame.crs is not None and volume.crs is not None:
        frame = frame.to_crs(volume.crs)
    return paint_features(frame.to_dict("records"), volume, path)


def paint_features(
    rows: list[dict[str, Any]],
    volume: Volume,
    path: Path,
    matrix: np.ndarray | None = None,
) -> Results:
    """Paint features, dicts of ``geometry`` and properties, into labels.

    Parameters
    ----------
    rows : list of dict
    volume : Volume
    path : Path
        Their file, for messages.
    matrix : ndarray, (3, 3), optional
        From (row, column) of corners, 0 at the first pixel's corner, to (y, x) of the
        features; the volume's own when left out.

    Raises
    ------
    VolumeError
        If none is a polygon, or one does not say of which plane it is.
    """
    matrix = corner_matrix(volume) if matrix is None else matrix
    painter, records = Painter(volume), RecordReader()
    painter.reserve({i for row in rows if (i := id_of(row.get("object_id")))})
    polygons = others = outside = 0
    for row in rows:
        parts = _polygon_parts(row["geometry"])
        if not parts:
            others += 1
            continue
        polygons += 1
        plane = _plane_of(row.get("plane"), volume, path)
        given = row.get("object_id")
        object_id = id_of(given) or painter.number()
        known = _without_nan(row)
        if isinstance(given, str) and id_of(given) is None:
            known.setdefault("name", given)
        records.add(object_id, plane, known)
        painted = False
        for rings in parts:
            bbox, mask = fill_polygon(rings, volume, plane, matrix)
            painted |= bool(mask.any())
            painter.paint(plane, bbox, mask, object_id)
        outside += not painted
    if not polygons:
        raise VolumeError(f"{str(path)!r} holds no polygon")
    notes = []
    if others:
        notes.append(f"{others} features are no polygons: left out")
    if outside:
        notes.append(f"{outside} polygons hold no pixel of the image")
    return Results(
        painter.labels, volume, records.objects, records.classes,
        notes=(*notes, *painter.notes()),
    )  # fmt: skip


def _without_nan(row: dict[str, Any]) -> dict[str, Any]:
    return {
        k: v for k, v in row.items() if v is not None and v == v and k != "geometry"
    }


def _polygon_parts(geometry: Any) -> list[list[np.ndarray]]:
    """Rings, (y, x), of each polygon of a geometry; none for points and lines."""
    if geometry is None or geometry.is_empty:
        return []
    if geometry.geom_type == "Polygon":
        rings = (geometry.exterior, *geometry.interiors)
        return [[np.asarray(r.coords, float)[:, 1::-1] for r in rings]]
    if hasattr(geometry, "geoms"):
        return [part for g in geometry.geoms for part in _polygon_parts(g)]
    return []


def _plane_of(given: Any, volume: Volume, path: Path) -> Plane:
    if isinstance(given, str) and given:
        index = [int(v) for v in given.split(",")]
    elif isinstance(given, (int, float)) and given == given:
        index = [int(given)]
    elif int(np.prod(volume.shape[:-2])) == 1:
        return Plane.of(volume.shape, (0,) * (volume.ndim - 2))
    else:
        raise VolumeError(
            f"{path.name!r} does not say of which plane its polygons are, and "
            f"{volume.name!r} has several: give the plane"
        )
    return Plane.of(volume.shape, index)


def fill_polygon(
    rings: list[np.ndarray], volume: Volume, plane: Plane, matrix: np.ndarray
) -> tuple[Bbox, np.ndarray]:
    """Pixels of a plane whose centres a polygon holds.

    Parameters
    ----------
    rings : list of ndarray, (n, 2)
        (y, x), outer ring first.
    volume : Volume
    plane : Plane
    matrix : ndarray, (3, 3)
        From (row, column) of corners to the rings' coordinates.

    Returns
    -------
    bbox, mask
        Where the polygon lies on the plane, and (h, w) bool; empty outside of it.
    """
    inverse = np.linalg.inv(matrix)
    corners = [r @ inverse[:2, :2].T + inverse[:2, 2] for r in rings]
    return fill(corners, plane.shape(volume.shape))


def polygon_of(mask: np.ndarray, corner: tuple[int, int], volume: Volume) -> Any:
    """Polygons along the pixel edges of a mask, in the world of a volume.

    Parameters
    ----------
    mask : ndarray, (h, w), bool
    corner : (y, x)
        Place of the mask's first pixel in the plane.
    volume : Volume

    Returns
    -------
    shapely.MultiPolygon
        World x, then y; parts that touch at a corner only stay apart.
    """
    from shapely.geometry import MultiPolygon, Polygon

    matrix = corner_matrix(volume)
    parts = []
    for rings in outline(mask, corner):
        world = [(r @ matrix[:2, :2].T + matrix[:2, 2])[:, ::-1] for r in rings]
        parts.append(Polygon(world[0], world[1:]))
    return MultiPolygon(parts)


def corner_matrix(volume: Volume) -> np.ndarray:
    """(3, 3) matrix from (row, column) of pixel corners to the world's (y, x)."""
    affine = np.asarray(volume.affine, float)
    matrix = np.eye(3)
    matrix[:2, :2] = affine[-3:-1, -3:-1]
    # Our indices count from the centre of the first pixel, corners from its edge.
    matrix[:2, 2] = affine[-3:-1, -1] - matrix[:2, :2] @ (0.5, 0.5)
    return matrix
