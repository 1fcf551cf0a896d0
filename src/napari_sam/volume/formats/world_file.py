"""World files (.pgw, .jgw, .tfw ...): six numbers that place a picture on a map."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_sam.errors import VolumeError

_SIX = 6


def find_world_file(path: str) -> Path | None:
    """Return the world file beside a picture, under any of its usual names."""
    place = Path(path)
    suffix = place.suffix.lower()
    if len(suffix) < 3:
        return None
    # .tif -> .tfw, .tifw, .wld: the suffix' first and last letters and a w.
    for ending in (f".{suffix[1]}{suffix[-1]}w", f"{suffix}w", ".wld"):
        for found in (place.with_suffix(ending), place.with_suffix(ending.upper())):
            if found.is_file():
                return found
    return None


def read_world_file(path: str) -> np.ndarray | None:
    """Read where a picture's pixel centres lie.

    Parameters
    ----------
    path : str
        Of the picture.

    Returns
    -------
    ndarray, (3, 3), or None
        Index (y, x) to world (y, x); None where there is no world file.

    Raises
    ------
    VolumeError
        If the world file does not hold six numbers that make a map.
    """
    found = find_world_file(path)
    if found is None:
        return None
    words = found.read_text(encoding="ascii", errors="replace").split()
    try:
        a, d, b, e, c, f = (float(word.replace(",", ".")) for word in words[:_SIX])
    except ValueError:
        raise _refused(found) from None
    affine = np.array([[e, d, f], [b, a, c], [0.0, 0.0, 1.0]])
    if not np.isfinite(affine).all() or np.linalg.det(affine) == 0:
        raise _refused(found)
    return affine


def _refused(path: Path) -> VolumeError:
    return VolumeError(
        f"{str(path)!r} is no world file: expected six numbers, one a line, for the "
        "size, turn and place of a pixel. Mend it or take it away"
    )
