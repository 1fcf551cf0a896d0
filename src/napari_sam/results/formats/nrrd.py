"""NRRD: labels with their affine in a patient's space; seg.nrrd also with segments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.atomic_files import whole
from napari_sam.errors import ExportError, VolumeError
from napari_sam.results.incoming import incoming_labels
from napari_sam.results.patient import patient_affine
from napari_sam.results.results import Results
from napari_sam.volume.arrays import assemble
from napari_sam.volume.geometry import is_uneven
from napari_sam.volume.layout import Layout

if TYPE_CHECKING:
    from pathlib import Path

    from napari_sam.volume.volume import Volume

_TO_LPS = {
    "left-posterior-superior": (1, 1, 1), "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1), "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1), "las": (1, -1, 1),
}  # fmt: skip
"""Signs that lead from each of NRRD's spaces of a patient to LPS."""


def write(path: Path, results: Results) -> list[str]:
    """Write the labels as NRRD, (x, y, z), placed in LPS millimetres, gzip-compressed.

    Raises
    ------
    ExportError
        If an axis has no place in NRRD, the slices are uneven, or the file cannot be
        written.
    """
    import nrrd

    voxels, affine = voxels_of(results)
    header = {
        "space": "left-posterior-superior",
        "space directions": affine[:3, :3].T,
        "space origin": affine[:3, 3],
        "kinds": ["domain"] * 3,
        "encoding": "gzip",
    }
    with whole(path) as part, part.open("wb") as file:
        nrrd.write(file, voxels, header)
    return []


def read(path: Path, volume: Volume) -> Results:
    """Read labels stored as NRRD onto their image.

    Raises
    ------
    VolumeError
        If the file is damaged, is no label map, or does not lie on the image.
    """
    import nrrd

    values, header = nrrd.read(str(path))
    labels = label_volume(values, affine_of(header), path.name, header)
    return Results(incoming_labels(volume, labels), volume)


def voxels_of(results: Results) -> tuple[np.ndarray, np.ndarray]:
    """Labels as (x, y, z) and their (4, 4) affine to LPS millimetres.

    Raises
    ------
    ExportError
        If there are further axes, or the slices are uneven.
    """
    volume = results.volume
    if not set(volume.axes) <= set("zyx"):
        raise ExportError(
            f"NRRD labels are volumes (z, y, x), and these have {volume.axes}: write "
            "OME-Zarr or NIfTI"
        )
    if is_uneven(volume):
        raise ExportError(
            "NRRD holds one distance of slices, and these are uneven: write dicom_seg "
            "or rtstruct"
        )
    values = np.asarray(results.labels[...])
    return values.reshape((1, *values.shape)[-3:]).T, patient_affine(volume)


def affine_of(header: Any) -> np.ndarray | None:
    """(4, 4) affine from (x, y, z) indices to LPS millimetres, where a header has one.

    Raises
    ------
    VolumeError
        If it is in a space that is not of a patient's.
    """
    space = header.get("space")
    directions, origin = header.get("space directions"), header.get("space origin")
    if space is None or directions is None:
        return None
    signs = _TO_LPS.get(str(space).lower())
    if signs is None:
        raise VolumeError(
            f"its space is {space!r}: expected one of {', '.join(_TO_LPS)}"
        )
    rows = [r for r in np.asarray(directions, float) if np.isfinite(r).all()]
    out = np.eye(4)
    out[:3, : len(rows)] = np.array(rows).T[:, :3] * np.array(signs)[:, None]
    out[:3, 3] = np.multiply(signs, np.zeros(3) if origin is None else origin)
    return out


def label_volume(
    values: np.ndarray, affine: np.ndarray | None, name: str, header: Any = None
) -> Volume:
    """Return labels stored as (x, y, z) as a volume in LPS millimetres.

    Raises
    ------
    VolumeError
        If they have other axes.
    """
    if not 2 <= values.ndim <= 3 or values.dtype.kind not in "uifb":
        raise VolumeError(
            f"{name!r} holds {values.dtype} of shape {values.shape}: expected a label "
            "map of two or three axes"
        )
    axes = tuple("xyz"[: values.ndim])
    n = values.ndim
    sizes = np.ones(3)
    layout_affine = None
    if affine is not None:
        sizes = np.linalg.norm(affine[:3, :3], axis=0)
        layout_affine = affine[np.ix_([*range(n), 3], [*range(n), 3])]
    elif header is not None and header.get("spacings") is not None:
        known = np.asarray(header["spacings"], float)[:n]
        sizes[:n] = np.where(np.isfinite(known) & (known > 0), known, 1.0)
    stated = affine is not None
    return assemble(
        [values],
        Layout(
            axes=axes,
            spacing=dict(zip(axes, sizes.tolist(), strict=False)),
            units=dict.fromkeys(axes, "millimeter") if stated else {},
            affine=layout_affine,
        ),
        name=name,
        metadata={"coordinates": "LPS"} if stated else {},
    )
