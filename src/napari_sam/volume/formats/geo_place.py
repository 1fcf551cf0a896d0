"""Where a raster lies: its transform, its control points, or nowhere, said in words."""

from __future__ import annotations

from typing import Any

import numpy as np

_MOST_PIXELS_OFF = 1.0
"""How far control points may lie from the affine that fits them best, in pixels."""


def find_place(dataset: Any, notes: list[str]) -> tuple[Any, Any]:
    """Find the transform from corners of pixels to the world, and the world's CRS.

    Parameters
    ----------
    dataset : rasterio dataset
        Open.
    notes : list of str
        What was said of the place and cannot be held by an affine is told here.

    Returns
    -------
    transform : affine.Affine or None
        None where the place is not known: coordinates are pixels then.
    crs : rasterio CRS or None
    """
    if not dataset.transform.is_identity:
        return dataset.transform, dataset.crs
    points, crs = dataset.gcps
    if points:
        found = _fitted(points)
        if found is not None:
            return found, crs
        notes.append(
            f"its {len(points)} ground control points bend the image in a way that "
            "no affine holds, so it has no place here: warp it first (gdalwarp)"
        )
    elif dataset.rpcs is not None:
        notes.append(
            "its place is given by rational polynomials (RPC), which no affine holds, "
            "so it has no place here: orthorectify it first (gdalwarp -rpc)"
        )
    # A world of that identity is one whose unit is the pixel.
    return None, None


def _fitted(points: Any) -> Any:
    """Return the affine that control points agree on, or None."""
    from affine import Affine

    pixels = np.array([(p.col, p.row) for p in points], float)
    world = np.array([(p.x, p.y) for p in points], float)
    if len(points) < 3 or not np.isfinite(world).all():
        return None
    centre = world.mean(axis=0)
    design = np.column_stack([pixels, np.ones(len(pixels))])
    solved, _, rank, _ = np.linalg.lstsq(design, world - centre, rcond=None)
    if rank < 3:
        return None
    affine = Affine(
        solved[0, 0], solved[1, 0], solved[2, 0] + centre[0],
        solved[0, 1], solved[1, 1], solved[2, 1] + centre[1],
    )  # fmt: skip
    if not affine.determinant:
        return None
    back = np.array([~affine * tuple(p) for p in world])
    off = np.linalg.norm(back - pixels, axis=1).max()
    return affine if off <= _MOST_PIXELS_OFF else None
