"""Write objects as polygons: GeoPackage and GeoJSON, in the image's own coordinates."""

from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.errors import ExportError
from napari_sam.io.label_objects import iter_objects, iter_planes
from napari_sam.io.whole_files import whole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_sam.core.planes import Plane
    from napari_sam.io.volume import Volume
    from napari_sam.session import Session

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


def _frame(session: Session) -> Any:
    try:
        import geopandas
        import rasterio.features  # noqa: F401
    except ImportError as error:
        raise ExportError(
            f'polygons need further packages ({error}): pip install "napari-sam[geo]"'
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
