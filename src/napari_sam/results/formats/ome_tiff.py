"""Labels as OME-TIFF, plane by plane, with axes and pixel sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.atomic_files import whole
from napari_sam.errors import ExportError
from napari_sam.results.incoming import incoming_labels
from napari_sam.results.label_objects import iter_planes
from napari_sam.results.results import Results

if TYPE_CHECKING:
    from pathlib import Path

    from napari_sam.volume.volume import Volume


def write(path: Path, results: Results) -> list[str]:
    """Write the labels; see `napari_sam.results.registry.write`."""
    import tifffile

    labels = results.labels
    planes = (
        np.ascontiguousarray(labels[p.slicer()]) for p in iter_planes(labels.shape)
    )
    with whole(path) as part:
        tifffile.imwrite(
            part,
            planes,
            shape=labels.shape,
            dtype=labels.dtype,
            ome=True,
            photometric="minisblack",
            compression="zlib",
            metadata=_metadata(results.volume),
        )
    return []


def read(path: Path, volume: Volume) -> Results:
    """Read labels; see `napari_sam.results.registry.read`."""
    return Results(incoming_labels(volume, path), volume)


def _metadata(volume: Volume) -> dict[str, Any]:
    axes = "".join(a.upper() for a in volume.axes)
    if not set(axes) <= set("TZYX") or len(axes) != volume.ndim:
        raise ExportError(
            f"OME-TIFF has no place for the axes {volume.axes}: write OME-Zarr instead"
        )
    out: dict[str, Any] = {"axes": axes, "Name": volume.name}
    for name, step, unit in zip(volume.axes, volume.spacing, volume.units, strict=True):
        if unit == "pixel":
            continue
        key = "TimeIncrement" if name == "t" else f"PhysicalSize{name.upper()}"
        out[key] = step
        out[f"{key}Unit"] = _SYMBOLS.get(unit, unit)
    return out


_SYMBOLS = {
    "micrometer": "µm", "nanometer": "nm", "millimeter": "mm", "centimeter": "cm",
    "meter": "m", "angstrom": "Å", "second": "s", "millisecond": "ms", "minute": "min",
    "hour": "h",
}  # fmt: skip
"""Unit symbols that OME-XML uses."""
