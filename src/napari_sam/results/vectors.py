"""Objects as polygon features in the image's own coordinates, written through GDAL."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.atomic_files import whole
from napari_sam.errors import ExportError, VolumeError
from napari_sam.results.features import Feature, paint_features
from napari_sam.results.label_objects import find_objects
from napari_sam.results.outlines import outline
from napari_sam.results.records import feature_properties

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_sam.results.results import Results
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

    _check_affine(results.volume)
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


def _check_affine(volume: Volume) -> None:
    linear = np.asarray(volume.affine, float)[:-1, :-1]
    if np.any(linear[-2:, :-2]) or np.any(linear[:-2, -2:]):
        raise ExportError(
            f"polygons are in x and y, and the planes of {volume.name!r} are tilted "
            "against them: choose ome_zarr or nifti"
        )


def _rows(results: Results) -> Iterator[dict[str, Any]]:
    for found in find_objects(results.labels):
        properties = feature_properties(results, found.id, found.plane)
        for key in ("prompts", "class_codes"):
            if key in properties:
                properties[key] = json.dumps(properties[key])
        if "reviewed" in properties:
            properties["reviewed"] = 1  # columns of booleans have no empty cells
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
    rows = frame.to_dict("records")
    found = (Feature(_polygon_parts(r.pop("geometry")), _known(r)) for r in rows)
    return paint_features(list(found), volume, path, corner_matrix(volume))


def _known(row: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in row.items() if v is not None and v == v}


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
