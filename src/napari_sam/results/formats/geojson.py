"""Objects as polygons in GeoJSON: longitude and latitude, as its standard demands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_sam.results.formats import qupath
from napari_sam.results.vectors import WGS84, read_features, write_features

if TYPE_CHECKING:
    from pathlib import Path

    from napari_sam.results.results import Results
    from napari_sam.volume.volume import Volume


def recognises(content: Any) -> bool:
    """Whether parsed JSON is of this format."""
    kinds = ("FeatureCollection", "Feature")
    known = isinstance(content, dict) and content.get("type") in kinds
    return known and not qupath.recognises(content)


def write(path: Path, results: Results) -> list[str]:
    """Write the objects; see `napari_sam.results.registry.write`.

    Images without a coordinate system have their polygons in the world of their affine.
    """
    return write_features(path, results, "GeoJSON", crs=WGS84)


def read(path: Path, volume: Volume) -> Results:
    """Read the objects; see `napari_sam.results.registry.read`."""
    return read_features(path, volume)
