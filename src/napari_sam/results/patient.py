"""Labels in a patient's space: frames laid onto an image, from whatever side."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.errors import ExportError, VolumeError
from napari_sam.volume.formats.dicom_files import read_whole
from napari_sam.volume.geometry import is_uneven, lps_affine, plane_origins_lps

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from pathlib import Path

    from napari_sam.core.objects import ObjectClass
    from napari_sam.results.records import RecordReader
    from napari_sam.results.results import Results
    from napari_sam.volume.volume import Volume

SAME_PLACE = 0.1
"""Pixels by which a frame may lie off the image's pixels and still be on them."""
_FIRST_HUE, _NEXT_HUE = 0.02, 0.618034


@dataclass(frozen=True, slots=True)
class PatientFrame:
    """A 2-D picture somewhere in a patient."""

    pixels: np.ndarray
    """(h, w)."""
    affine: np.ndarray
    """(3, 3): (column, row, 1) to LPS millimetres (x, y, z) of the pixel's centre."""


class PatientGrid:
    """The pixels of an image in its patient: finds the place of frames and points.

    Parameters
    ----------
    volume : Volume
        With axes y and x, and z where it is no single picture.

    Raises
    ------
    VolumeError
        If it has other axes.
    """

    def __init__(self, volume: Volume) -> None:
        if not set(volume.axes) <= set("zyx"):
            raise VolumeError(
                f"{volume.name!r} has the axes {volume.axes}: labels of a patient are "
                "read onto volumes (z, y, x). Open one time point of it"
            )
        self.volume = volume
        self.shape = (1, *volume.shape)[-3:]
        self._back = np.linalg.inv(patient_affine(volume))
        origins = plane_origins_lps(volume)
        indices = origins @ self._back[2, :3] + self._back[2, 3]
        self._planes = indices if is_uneven(volume) else None
        """Index along z that the affine gives each of unevenly spaced planes."""

    def index_of(self, points_mm: np.ndarray) -> np.ndarray:
        """(n, 3) indices (x, y, z) of (n, 3) points in LPS millimetres."""
        out = points_mm @ self._back[:3, :3].T + self._back[:3, 3]
        if self._planes is not None:
            p = self._planes
            known = [2 * p[0] - p[1], *p, 2 * p[-1] - p[-2]]
            out[:, 2] = np.interp(out[:, 2], known, np.arange(len(known)) - 1)
        return np.asarray(out)

    def place(self, frame: PatientFrame, name: str) -> tuple[Any, np.ndarray]:
        """Find where a frame lies on the image's pixels.

        Returns
        -------
        index : tuple of slice and int
            Into an array of `shape`; it selects (h, w) pixels.
        pixels : ndarray, (h, w)
            Those of the frame, turned and cut accordingly.

        Raises
        ------
        VolumeError
            If it does not lie on them, or marks something outside of the image.
        """
        h, w = frame.pixels.shape
        corners = np.array(
            [[0, 0, 1], [w - 1, 0, 1], [0, h - 1, 1], [1, 0, 1], [0, 1, 1]]
        )
        at = self.index_of(corners @ frame.affine.T)
        start, across, down = at[0], at[3] - at[0], at[4] - at[0]
        a, b = int(np.abs(across).argmax()), int(np.abs(down).argmax())
        signs = np.sign(across[a]), np.sign(down[b])
        ideal = np.round(start) + np.zeros((3, 3))
        ideal[1, a] += signs[0] * (w - 1)
        ideal[2, b] += signs[1] * (h - 1)
        off = np.abs(at[:3] - ideal).max()
        if a == b or not off <= SAME_PLACE:
            raise VolumeError(
                f"{name} does not lie on the pixels of {self.volume.name!r}: it is "
                f"{off:.3g} pixels off. Resample it onto the image first, or open the "
                "image that it was made on"
            )
        pixels = frame.pixels
        box = []
        for axis, sign, length, along in ((b, signs[1], h, 0), (a, signs[0], w, 1)):
            first = int(ideal[0, axis]) - (length - 1 if sign < 0 else 0)
            if sign < 0:
                pixels = np.flip(pixels, along)
            box.append((axis, first, length))
        if b < a:  # array order is (z, y, x): a larger index of (x, y, z) comes first
            pixels, box = pixels.T, box[::-1]
        index: list[Any] = [int(ideal[0, 2 - i]) for i in range(3)]
        cut = []
        for axis, first, length in box:
            n = self.shape[2 - axis]
            index[2 - axis] = slice(max(first, 0), min(first + length, n))
            cut.append(slice(max(-first, 0), max(min(n - first, length), 0)))
        kept = pixels[tuple(cut)]
        third = next(i for i in range(3) if not isinstance(index[i], slice))
        inside = 0 <= index[third] < self.shape[third]
        if np.count_nonzero(pixels) > (np.count_nonzero(kept) if inside else 0):
            raise VolumeError(
                f"{name} marks pixels outside of {self.volume.name!r}: open the image "
                "that it was made on"
            )
        if not inside:
            return (0, slice(0, 0), slice(0, 0)), pixels[:0, :0]
        return tuple(index), kept


def patient_affine(volume: Volume) -> np.ndarray:
    """(4, 4) affine from (x, y, z) indices to LPS millimetres.

    A single DICOM image has two axes, so its place in the patient is read from its
    header.
    """
    affine = lps_affine(volume)
    frames = volume.metadata.get("frames")
    if "z" in volume.axes or not frames:
        return affine
    path, number, *_ = frames[0]
    found = frame_affine(read_source(path), number)
    if found is None:
        return affine
    out = np.eye(4)
    out[:3, [0, 1, 3]] = found
    out[:3, 2] = np.cross(*(v / np.linalg.norm(v) for v in (found[:, 0], found[:, 1])))
    return out


def read_source(path: str) -> Any:
    """Read the header of a DICOM image that labels belong to.

    Raises
    ------
    VolumeError
        If it is not there any more, or is damaged.
    """
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        with read_whole(path) as file:
            return pydicom.dcmread(file, stop_before_pixels=True, force=True)
    except (OSError, InvalidDicomError, ValueError, KeyError) as error:
        raise VolumeError(
            f"{path!r} cannot be read ({error}): the DICOM images that the labels "
            "belong to must still be where they were opened"
        ) from error


def read_object_file(path: Path) -> Any:
    """Read a DICOM object; files without the preamble of DICOM are taken, too.

    Raises
    ------
    VolumeError
        If it is no DICOM.
    """
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        ds = pydicom.dcmread(path, force=True)
    except (InvalidDicomError, EOFError, KeyError) as error:
        raise VolumeError(f"{str(path)!r} is no DICOM file") from error
    meta = getattr(ds, "file_meta", None)
    if meta is not None and "TransferSyntaxUID" not in meta:
        meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
    return ds


def sop_class(path: str | os.PathLike[str]) -> str | None:
    """Return the SOP class of a file; None where it is no DICOM object."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        ds = pydicom.dcmread(path, specific_tags=["SOPClassUID"], force=True)
    except (OSError, InvalidDicomError, ValueError, KeyError, EOFError):
        return None
    return str(ds.get("SOPClassUID"))


def frame_affine(ds: Any, number: int) -> np.ndarray | None:
    """(3, 3) affine from (column, row, 1) of a frame to LPS millimetres, or None."""
    position, orientation, spacing = (
        frame_value(ds, number, group, name)
        for group, name in (
            ("PlanePositionSequence", "ImagePositionPatient"),
            ("PlaneOrientationSequence", "ImageOrientationPatient"),
            ("PixelMeasuresSequence", "PixelSpacing"),
        )
    )
    if position is None or orientation is None or spacing is None:
        return None
    ways = np.asarray(orientation, float).reshape(2, 3)
    dy, dx = (float(v) for v in spacing)
    return np.stack([ways[0] * dx, ways[1] * dy, np.asarray(position, float)], axis=1)


def frame_value(ds: Any, number: int, group: str, name: str) -> Any:
    """An attribute of a frame: from its own groups, the shared ones, or the file."""
    each = ds.get("PerFrameFunctionalGroupsSequence") or []
    shared = ds.get("SharedFunctionalGroupsSequence") or []
    for groups in (*each[number : number + 1], *shared[:1]):
        items = groups.get(group)
        if items and items[0].get(name) is not None:
            return items[0].get(name)
    return ds.get(name)


def check_patient(results: Results, format_name: str) -> Any:
    """Return labels as (z, y, x), of an image of a patient in DICOM.

    Raises
    ------
    ExportError
        If the image is no DICOM series, or has a time axis.
    """
    volume = results.volume
    frames = volume.metadata.get("frames")
    placed = volume.metadata.get("coordinates") == "LPS" and bool(frames)
    if placed and frames and "z" not in volume.axes:
        path, number, *_ = frames[0]
        placed = frame_affine(read_source(path), number) is not None
    if not placed:
        raise ExportError(
            f"{format_name} refers to DICOM images with a position in their patient, "
            f"and {volume.name!r} is none: write NIfTI or seg.nrrd"
        )
    if not set(volume.axes) <= set("zyx"):
        raise ExportError(
            f"{format_name} has no place for the axes {volume.axes}: write OME-Zarr or "
            "NIfTI"
        )
    count = volume.shape[0] if "z" in volume.axes else 1
    if len(volume.metadata["frames"]) != count:
        raise ExportError(
            f"the slices of {volume.name!r} were resampled, so {format_name} has no "
            "images to refer to: write NIfTI or seg.nrrd, or open the series with "
            "spacing='positions'"
        )
    labels = results.labels
    return labels if "z" in volume.axes else np.asarray(labels[...])[None]


def object_title(results: Results, object_id: int) -> str:
    """Name of an object for people: its own, or its class with its number."""
    record = results.record(object_id)
    return record.name or f"{record.class_name or 'object'} {object_id}"


def object_color(results: Results, object_id: int) -> tuple[int, int, int]:
    """Red, green and blue of an object: its own, its class's, or one by its number."""
    record = results.record(object_id)
    known = results.classes.get(record.class_name)
    text = record.color or (known.color if known else None)
    if text and len(text) == 7:
        return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)
    return _color_by_number(object_id)


def read_object(
    records: RecordReader,
    object_id: int,
    title: str,
    known: ObjectClass | None,
    color: str | None,
) -> None:
    """Take one object; a name and a colour made by its number are left out."""
    name = known.name if known else None
    made = f"{name or 'object'} {object_id}"
    usual = hex_of(_color_by_number(object_id))
    records.add_object(
        object_id,
        {
            "name": "" if title == made else title,
            "class": name,
            "class_color": None if color == usual else color,
            "class_codes": dict(known.codes) if known else None,
        },
    )
    listed = records.classes.get(name)
    if color not in (None, usual, listed and listed.color):
        records.add_object(object_id, {"color": color})


def overlap_note(pixels: int, name: str) -> str:
    """Say that objects lay on top of each other in a file."""
    return f"objects overlap in {pixels} pixels of {name!r}: the later one is kept"


def hex_of(rgb: Sequence[float]) -> str:
    """Return red, green and blue, 0 to 255, as ``#rrggbb``."""
    red, green, blue = (int(np.clip(round(v), 0, 255)) for v in rgb)
    return f"#{red:02x}{green:02x}{blue:02x}"


def _color_by_number(object_id: int) -> tuple[int, int, int]:
    hue = (_FIRST_HUE + object_id * _NEXT_HUE) % 1
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.75, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)
