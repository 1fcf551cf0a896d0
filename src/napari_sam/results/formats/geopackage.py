"""Objects as polygons in a GeoPackage file, in the image's coordinate system."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_sam.results.vectors import read_features, write_features

if TYPE_CHECKING:
    from pathlib import Path

    from napari_sam.results.results import Results
    from napari_sam.volume.volume import Volume


def write(path: Path, results: Results) -> list[str]:
    """Write the objects; see `napari_sam.results.registry.write`."""
    return write_features(path, results, "GPKG")


def read(path: Path, volume: Volume) -> Results:
    """Read the objects; see `napari_sam.results.registry.read`."""
    return read_features(path, volume)
