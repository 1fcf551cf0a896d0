"""Labels as NIfTI, plane by plane, with the affine of the image."""

from __future__ import annotations

import gzip
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

_MILLIMETERS = {
    "nanometer": 1e-6, "micrometer": 1e-3, "millimeter": 1.0, "centimeter": 10.0,
    "meter": 1e3, "pixel": 1.0,
}  # fmt: skip
_SECONDS = {"millisecond": 1e-3, "second": 1.0, "minute": 60.0, "hour": 3600.0}
_LONGEST = 32767
"""Longest axis of NIfTI-1; longer ones take NIfTI-2."""


def write(path: Path, results: Results) -> list[str]:
    """Write the labels; see `napari_sam.results.registry.write`.

    The world of DICOM images (LPS) is turned to NIfTI's (RAS), that of others is kept.
    """
    labels = results.labels
    header = nifti_header(results.volume, labels.dtype)
    packed_wanted = path.name.lower().endswith(".gz")
    with whole(path) as part, part.open("wb") as raw:
        # Without a name or time inside, the same labels give the same bytes.
        packed = gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if packed_wanted else raw
        header.write_to(packed)
        packed.write(bytes(header.get_data_offset() - packed.tell()))
        for plane in iter_planes(labels.shape):
            pixels = np.asarray(labels[plane.slicer()])
            packed.write(np.ascontiguousarray(pixels).tobytes())
        if packed is not raw:
            packed.close()
    return []


def read(path: Path, volume: Volume) -> Results:
    """Read labels; see `napari_sam.results.registry.read`."""
    return Results(incoming_labels(volume, path), volume)


def nifti_header(volume: Volume, dtype: Any) -> Any:
    """Header of an array of the volume's shape, reversed to (x, y, z, t)."""
    try:
        import nibabel
    except ImportError as error:
        raise ExportError("NIfTI needs nibabel: pip install nibabel") from error
    sizes = dict(zip(volume.axes, volume.shape, strict=True))
    if not set(sizes) <= set("tzyx"):
        raise ExportError(
            f"NIfTI has no place for the axes {volume.axes}: write OME-Zarr instead"
        )
    shape = [sizes["x"], sizes["y"]]
    if set(sizes) & {"z", "t"}:
        shape += [sizes.get("z", 1)]
    if "t" in sizes:
        shape += [sizes["t"]]
    kind = nibabel.Nifti1Header if max(shape) <= _LONGEST else nibabel.Nifti2Header
    header = kind()
    header.set_data_dtype(np.dtype(dtype))
    header.set_data_shape(shape)
    header.set_xyzt_units("mm", "sec")
    header.set_data_offset(352 if kind is nibabel.Nifti1Header else 544)
    header["magic"] = b"n+1" if kind is nibabel.Nifti1Header else header["magic"]
    affine = ras_affine(volume)
    header.set_sform(affine, 1)
    header.set_qform(affine, 1)
    if not np.allclose(header.get_qform(), affine, rtol=1e-5, atol=1e-4):
        header.set_qform(None, 0)  # a quaternion cannot hold the shear of a tilt
    zooms = [*np.linalg.norm(affine[:3, :3], axis=0)[: min(3, len(shape))]]
    if "t" in sizes:
        at = volume.axes.index("t")
        zooms.append(volume.spacing[at] * _SECONDS.get(volume.units[at], 1.0))
    header.set_zooms(zooms)
    return header


def ras_affine(volume: Volume) -> np.ndarray:
    """(4, 4) affine from (x, y, z) indices to RAS millimetres."""
    affine = np.eye(4)
    for i, a in enumerate("xyz"):
        if a not in volume.axes:
            continue
        scale = _MILLIMETERS.get(volume.units[volume.axes.index(a)], 1.0)
        for j, b in enumerate("xyz"):
            if b in volume.axes:
                at = volume.axes.index(a), volume.axes.index(b)
                affine[i, j] = volume.affine[at] * scale
        affine[i, 3] = volume.affine[volume.axes.index(a), -1] * scale
    if volume.metadata.get("coordinates") == "LPS":
        affine[:2] *= -1
    return affine
