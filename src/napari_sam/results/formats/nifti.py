"""Labels as NIfTI, plane by plane, with the affine of the image."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.atomic_files import whole
from napari_sam.errors import ExportError
from napari_sam.results.incoming import incoming_labels
from napari_sam.results.label_objects import iter_planes
from napari_sam.results.patient import patient_affine
from napari_sam.results.results import Results
from napari_sam.volume.geometry import is_uneven

if TYPE_CHECKING:
    from pathlib import Path

    from napari_sam.volume.volume import Volume

_SECONDS = {"millisecond": 1e-3, "second": 1.0, "minute": 60.0, "hour": 3600.0}
_PLACE = (
    "sform_code", "qform_code", "srow_x", "srow_y", "srow_z", "quatern_b", "quatern_c",
    "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z", "xyzt_units", "toffset",
)  # fmt: skip
_SHEARED = "the affine is sheared (a tilted gantry): ITK and its kin cannot open it"
_LOST = 0.05
"""Pixels by which rounding may move labels."""
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
    return [] if header["qform_code"] else [_SHEARED]


def read(path: Path, volume: Volume) -> Results:
    """Read labels; see `napari_sam.results.registry.read`."""
    return Results(incoming_labels(volume, path), volume)


def nifti_header(volume: Volume, dtype: Any) -> Any:
    """Header of an array of the volume's shape, reversed to (x, y, z, t).

    Of an image that is NIfTI itself, the place is its own: both affines with their
    codes, units and pixel sizes. Nothing else of its header goes along, such as
    descriptions, which may name a patient.
    """
    import nibabel

    sizes = dict(zip(volume.axes, volume.shape, strict=True))
    if not set(sizes) <= set("tzyx"):
        raise ExportError(
            f"NIfTI has no place for the axes {volume.axes}: write OME-Zarr instead"
        )
    if is_uneven(volume):
        raise ExportError(
            "NIfTI holds one distance of slices, and these are uneven: write dicom_seg "
            "or rtstruct"
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
    header.set_intent("label")
    header.set_data_offset(352 if kind is nibabel.Nifti1Header else 544)
    header["magic"] = b"n+1" if kind is nibabel.Nifti1Header else header["magic"]
    if not _copy_place(_source_header(volume), header):
        _set_place(header, volume, len(shape))
    return header


def _set_place(header: Any, volume: Volume, ndim: int) -> None:
    header.set_xyzt_units("mm", "sec")
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ patient_affine(volume)
    header.set_sform(affine, 1)
    used = ["xyz".index(a) for a in volume.axes if a in "xyz"]
    lost = np.abs(header.get_sform() - affine).max()
    if lost > _LOST * np.linalg.norm(affine[:3, used], axis=0).min():
        raise ExportError(
            f"NIfTI's 32-bit numbers would place these labels up to {lost:.3g} mm off: "
            "write ome_zarr"
        )
    header.set_qform(affine, 1)
    if not np.allclose(header.get_qform(), affine, rtol=1e-5, atol=1e-4):
        header.set_qform(None, 0)  # a quaternion cannot hold the shear of a tilt
    zooms = [*np.linalg.norm(affine[:3, :3], axis=0)[: min(3, ndim)]]
    if "t" in volume.axes:
        at = volume.axes.index("t")
        zooms.append(volume.spacing[at] * _SECONDS.get(volume.units[at], 1.0))
    header.set_zooms(zooms)


def _source_header(volume: Volume) -> Any:
    """Header of the NIfTI file that an image was opened from, where it still is."""
    import nibabel
    from nibabel.filebasedimages import ImageFileError

    if volume.source is None or "nifti_affine" not in volume.metadata:
        return None
    try:
        image: Any = nibabel.load(volume.source)
    except (OSError, ImageFileError, ValueError):
        return None
    same = np.array_equal(image.affine, volume.metadata["nifti_affine"])
    return image.header if same and "sform_code" in image.header else None


def _copy_place(source: Any, header: Any) -> bool:
    """Copy where an image lies from its header; False where that says nothing."""
    if source is None or not (source["sform_code"] or source["qform_code"]):
        return False
    for name in _PLACE:
        header[name] = source[name]
    count = 1 + int(header["dim"][0])
    header["pixdim"][:count] = source["pixdim"][:count]
    return True
