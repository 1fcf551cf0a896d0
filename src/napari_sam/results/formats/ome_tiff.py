"""Labels as OME-TIFF, plane by plane, with axes and pixel sizes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.atomic_files import whole
from napari_sam.errors import ExportError
from napari_sam.results.incoming import incoming_labels
from napari_sam.results.label_objects import iter_planes
from napari_sam.results.results import Results
from napari_sam.volume.formats.ome_xml import LABELS
from napari_sam.volume.geometry import is_uneven

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
    if is_uneven(volume):
        raise ExportError(
            "OME-TIFF holds one distance of slices, and these are uneven: write "
            "dicom_seg or rtstruct"
        )
    out: dict[str, Any] = {
        "axes": axes,
        "Name": volume.name,
        "Description": LABELS,
    }
    for name, step, unit in zip(volume.axes, volume.spacing, volume.units, strict=True):
        known = _TIMES if name == "t" else _LENGTHS
        if unit not in known and (name != "t" or unit != "pixel"):
            raise ExportError(
                f"OME-TIFF has no unit {unit!r}: expected one of {', '.join(known)}. "
                "Write OME-Zarr instead"
            )
        if unit == "pixel" and step == 1:
            continue
        key = "TimeIncrement" if name == "t" else f"PhysicalSize{name.upper()}"
        out[key] = float(step)
        if unit in known:
            out[f"{key}Unit"] = known[unit]
    if places := _places(volume):
        out["Plane"] = places
    return out


def _places(volume: Volume) -> dict[str, Any]:
    """Position of the first pixel of every plane, where that is not the origin."""
    origin = np.asarray(volume.affine, float)[:-1, -1]
    at = {a: i for i, a in enumerate(volume.axes) if a in "zyx"}
    if not origin[list(at.values())].any():
        return {}
    count = math.prod(volume.shape[:-2])
    out: dict[str, Any] = {}
    for name, i in at.items():
        values = np.full(count, origin[i])
        if name == "z":
            depth = volume.shape[i]
            values += volume.spacing[i] * (np.arange(count) % depth)
        out[f"Position{name.upper()}"] = values.tolist()
        out[f"Position{name.upper()}Unit"] = [_LENGTHS[volume.units[i]]] * count
    return out


_LENGTHS = {
    "pixel": "pixel", "picometer": "pm", "angstrom": "Å", "nanometer": "nm",
    "micrometer": "µm", "millimeter": "mm", "centimeter": "cm", "decimeter": "dm",
    "meter": "m", "kilometer": "km", "inch": "in", "foot": "ft", "yard": "yd",
    "mile": "mi",
}  # fmt: skip
"""Units of length in OME-XML."""
_TIMES = {
    "nanosecond": "ns", "microsecond": "µs", "millisecond": "ms", "second": "s",
    "minute": "min", "hour": "h", "day": "d",
}  # fmt: skip
"""Units of time in OME-XML."""
