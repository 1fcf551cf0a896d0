"""Objects as polygons: GeoPackage and GeoJSON, in the image's own coordinates."""

from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.atomic_files import whole
from napari_sam.core.planes import Plane
from napari_sam.errors import ExportError, VolumeError
from napari_sam.results.label_objects import iter_objects, iter_planes, paint_object

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_sam.core.masks import Bbox
    from napari_sam.session import Session
    from napari_sam.volume.volume import Volume

_DRIVERS = {
    ".gpkg": "GPKG", ".geojson": "GeoJSON", ".json": "GeoJSON", ".fgb": "FlatGeobuf"
}  # fmt: skip
_WGS84 = "EPSG:4326"


def write_vectors(path: str | os.PathLike[str], session: Session) -> None:
    """Write every object of every plane as one polygon feature.

    Polygons follow the pixels' edges exactly, holes and parts included, so that
    rasterising them gives the labels back. They lie in the image's coordinate system;
    GeoJSON is in longitude and latitude, as its standard demands. Without a coordinate
    system they are in the world of `Volume.affine`.

    Features carry ``object_id``, ``area_px``, ``predicted_iou`` where it is known and,
    for volumes of several planes, ``plane``.

    Parameters
    ----------
    path : path-like
        ``.gpkg``, ``.geojson`` or ``.fgb``; replaced once the new one is whole.
    session : Session

    Raises
    ------
    ExportError
        If the packages for it are not installed, the suffix is another one, there is
        no object, or the file cannot be written.

    Examples
    --------
    >>> write_vectors("fields.gpkg", session)  # doctest: +SKIP
    """
    target = Path(path).expanduser()
    driver = _DRIVERS.get(target.suffix.lower())
    if driver is None:
        raise ExportError(
            f"polygons are written as {', '.join(_DRIVERS)}; got {target.name!r}"
        )
    frame = _frame(session)
    if driver == "GeoJSON" and frame.crs is not None:
        frame = frame.to_crs(_WGS84)
    with whole(target) as part:
        # GDAL wants the right suffix, and may write files beside the one it is told.
        folder = part.with_suffix(".folder")
        folder.mkdir()
        try:
            _write(frame, folder / target.name, driver)
            os.replace(folder / target.name, part)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def read_vectors(path: str | os.PathLike[str], session: Session) -> list[int]:
    """Paint the polygons of a file into a session; each can be undone.

    A pixel belongs to a polygon that holds its centre. Polygons are brought into the
    image's coordinate system where both are known, and taken to be in the image's own
    world otherwise. A feature without ``object_id`` becomes a new object, and one
    without ``plane`` goes to plane 0. Pixels of other objects are kept or overwritten
    as `session.rule` says.

    Parameters
    ----------
    path : path-like
        GeoPackage, GeoJSON or another format that GDAL reads, of `write_vectors` or
        another program.
    session : Session

    Returns
    -------
    list of int
        Object ids, in the order of the features.

    Raises
    ------
    VolumeError
        If the packages for it are not installed, or the file cannot be read or holds
        no polygon.

    Examples
    --------
    >>> read_vectors("fields.gpkg", session)  # doctest: +SKIP
    [1, 2, 3]
    """
    try:
        import geopandas
        import rasterio.features  # noqa: F401
    except ImportError as error:
        raise VolumeError(
            f"polygons need further packages ({error}): pip install geopandas "
            "pyogrio rasterio"
        ) from error
    try:
        frame = geopandas.read_file(path, engine="pyogrio")
    except (OSError, ValueError, RuntimeError) as error:
        raise VolumeError(
            f"{str(path)!r} cannot be read as polygons: {error}"
        ) from error
    if "geometry" not in frame or not len(frame):
        raise VolumeError(f"{str(path)!r} holds no polygon")
    if frame.crs is not None and session.volume.crs is not None:
        frame = frame.to_crs(session.volume.crs)
    ids = []
    for row in frame.to_dict("records"):
        if row["geometry"] is None or row["geometry"].is_empty:
            continue
        plane = _plane_of(row.get("plane"), session.volume)
        given = row.get("object_id")
        known = given is not None and given == given and int(given) > 0  # not NaN
        object_id = int(given) if known else session.new_object()
        ids.append(object_id)
        bbox, mask = fill(row["geometry"], session.volume, plane)
        if mask.any():
            paint_object(session, plane, bbox, mask, object_id)
    return ids


def _plane_of(written: Any, volume: Volume) -> Plane:
    if not isinstance(written, str):
        return Plane.of(volume.shape, 0)
    return Plane.of(volume.shape, tuple(int(v) for v in written.split(",")))


def fill(geometry: Any, volume: Volume, plane: Plane) -> tuple[Bbox, np.ndarray]:
    """Pixels of a plane whose centres a polygon in the world of its volume holds.

    Returns
    -------
    bbox, mask
        Where the polygon lies on the plane, and (h, w) bool; empty outside of it.
    """
    import shapely
    from rasterio.features import rasterize

    inverse = ~pixel_transform(volume)
    x, y = shapely.get_coordinates(geometry).T
    columns = inverse.a * x + inverse.b * y + inverse.c
    rows = inverse.d * x + inverse.e * y + inverse.f
    h, w = plane.shape(volume.shape)
    y0, y1 = (int(np.clip(v, 0, h)) for v in (np.floor(rows.min()), rows.max() + 1))
    x0, x1 = (
        int(np.clip(v, 0, w)) for v in (np.floor(columns.min()), columns.max() + 1)
    )
    if y1 <= y0 or x1 <= x0:
        return (0, 0, 0, 0), np.zeros((0, 0), bool)
    filled = rasterize(
        [geometry],
        out_shape=(y1 - y0, x1 - x0),
        transform=pixel_transform(volume, (y0, x0)),
        dtype="uint8",
    )
    return (y0, x0, y1, x1), filled.astype(bool)


def _frame(session: Session) -> Any:
    try:
        import geopandas
        import rasterio.features  # noqa: F401
    except ImportError as error:
        raise ExportError(
            f"polygons need further packages ({error}): pip install geopandas "
            "pyogrio rasterio"
        ) from error
    rows = list(_rows(session))
    if not rows:
        raise ExportError("there is no object to write: segment something first")
    return geopandas.GeoDataFrame(rows, geometry="geometry", crs=session.volume.crs)


def _write(frame: Any, path: Path, driver: str) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'crs' was not provided", UserWarning)
        frame.to_file(path, driver=driver, engine="pyogrio")


def _rows(session: Session) -> Iterator[dict[str, Any]]:
    volume, scores = session.volume, _scores(session)
    for plane in iter_planes(volume.shape):
        for object_id, bbox, mask in iter_objects(session.labels, plane):
            row: dict[str, Any] = {
                "object_id": object_id,
                "area_px": int(mask.sum()),
                "predicted_iou": scores.get((object_id, plane)),
                "geometry": outline(mask, bbox[:2], volume),
            }
            if plane.index:
                row["plane"] = ",".join(map(str, plane.index))
            yield row


def outline(mask: np.ndarray, corner: tuple[int, int], volume: Volume) -> Any:
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
    from rasterio.features import shapes
    from shapely.geometry import MultiPolygon, shape

    found = shapes(
        mask.astype(np.uint8),
        mask=mask,
        connectivity=4,
        transform=pixel_transform(volume, corner),
    )
    return MultiPolygon([shape(polygon) for polygon, _ in found])


def pixel_transform(volume: Volume, corner: tuple[int, int] = (0, 0)) -> Any:
    """GDAL's transform, from (column, row) edges to world (x, y), of a plane's part."""
    from rasterio.transform import Affine

    a = np.asarray(volume.affine, float)
    (yy, yx), (xy, xx) = a[-3:-1, -3:-1]
    # Our indices count from the centre of the first pixel, GDAL's from its edge.
    i, j = corner[0] - 0.5, corner[1] - 0.5
    north = yy * i + yx * j + a[-3, -1]
    east = xy * i + xx * j + a[-2, -1]
    return Affine(xx, xy, east, yx, yy, north)


def _scores(session: Session) -> dict[tuple[int, Plane], float]:
    return {
        (object_id, plane): float(state.scores[state.chosen])
        for object_id, states in session.objects.items()
        for plane, state in states.items()
        if state.chosen < len(state.scores)
    }
