"""Open DICOM: files, folders, zip archives and DICOMDIR, with exact geometry."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.intensity import CT_PRESETS, IntensityMapping
from napari_sam.errors import VolumeError
from napari_sam.volume.arrays import assemble
from napari_sam.volume.formats.dicom_frames import DicomFrames, stored_pixels
from napari_sam.volume.formats.dicom_phases import checksum
from napari_sam.volume.formats.dicom_series import NO_DICOM, Part, read_study
from napari_sam.volume.formats.dicom_stack import Stack, make_stack
from napari_sam.volume.resampled import ResampledPlanes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sam.volume.formats.dicom_files import Skipped
    from napari_sam.volume.volume import Volume

logger = logging.getLogger(__name__)

SPACINGS = ("resample", "positions")
"""What ``spacing=`` takes."""


def open_dicom(
    path: str | Sequence[str],
    *,
    axes: Any = None,
    channels: Any = None,
    series: Any = None,
    spacing: str | None = None,
) -> Volume:
    """Open DICOM: a file, a folder of any nesting, a zip, a DICOMDIR, or some files.

    Frames are sorted by their position along the slice normal and by the tag that
    tells their phases apart, rescaled one by one when they are read, and placed by an
    affine to the patient's (z, y, x) in mm (LPS: x to the left, y to the back, z to
    the head). Files that do not belong are left out and listed with the reason in
    ``metadata["skipped"]``; what was not believed of the headers in
    ``metadata["notes"]``.

    Parameters
    ----------
    path : str or sequence of str
    axes, channels
        As in `open_volume`.
    series : str or int, optional
        SeriesInstanceUID, series number or description; with ``:n`` the n-th of
        several with that UID or number.
    spacing : {"resample", "positions"}, optional
        What becomes of uneven slices, as in `open_volume`.

    Raises
    ------
    SeriesError
        If there are several series and `series` does not name one of them.
    SpacingError
        If the slices are uneven and `spacing` does not say what to do.
    VolumeError
        If there is no DICOM image, or it is not known which slices belong together.
    """
    if spacing is not None and spacing not in SPACINGS:
        raise VolumeError(f'spacing= takes "resample" or "positions"; got {spacing!r}')
    study = read_study(path)
    where = path if isinstance(path, str) else str(Path(path[0]).parent)
    part = study.choose(series, where)
    if part.problem:
        raise VolumeError(f"{part.frames[0].label} cannot be decoded: {part.problem}")
    volume = open_part(
        part, study.name_of(part, where), where,
        axes=axes, channels=channels, spacing=spacing,
    )  # fmt: skip
    others = [
        (f"series {p.key}", p.problem)
        for p in study.parts
        if p.problem and not p.is_odd and p is not part
    ]
    _tell(volume, study.skipped + others)
    return volume


def open_part(
    part: Part, name: str, source: str, *, axes: Any, channels: Any, spacing: str | None
) -> Volume:
    """Open one part of a study.

    Raises
    ------
    SpacingError, VolumeError
        As `open_dicom`.
    """
    first = part.first
    digest = checksum(lambda frame: stored_pixels(frame.path))
    stack = make_stack(part.frames, first, digest, spacing)
    array: Any = DicomFrames(part.headers, stack.frames)
    if stack.planes_mm is not None and stack.positions_mm is not None:
        axis = stack.frames.ndim - 1
        array = ResampledPlanes(array, axis, stack.positions_mm, stack.planes_mm)
    padding = _padding(part)
    placed = stack.layout.affine is not None
    return assemble(
        [array], stack.layout, axes=axes, channels=channels,
        name=name, source=source,
        mapping=_mapping(part, stack, padding),
        inverted=first.photometric == "MONOCHROME1",
        metadata={
            "modality": first.modality, "description": part.title, **first.uids,
            "series": part.key,
            "coordinates": "LPS" if placed or len(part.frames) == 1 else None,
            "frames": [(f.path, f.number, f.instance_uid) for f in stack.frames.flat],
            "skipped": [*part.skipped, *stack.skipped],
            "notes": [*_notes(part), *stack.notes],
            **({} if padding is None else {"nodata": padding}),
            **({"phases": stack.phases} if stack.phases else {}),
            **_slices(stack),
        },
    )  # fmt: skip


def _slices(stack: Stack) -> dict[str, Any]:
    if stack.positions_mm is None:
        return {}
    return {
        "slice_positions_mm": list(stack.positions_mm),
        "slices": "resampled" if stack.planes_mm is not None else "uneven",
    }


def _tell(volume: Volume, more: list[Skipped]) -> None:
    skipped = volume.metadata["skipped"]
    skipped += more
    odd = [s for s in skipped if s[1] != NO_DICOM]
    for name, reason in odd[:20]:
        logger.warning("%s is left out: %s", name, reason)
    if len(odd) > 20:
        logger.warning("and %d more files are left out", len(odd) - 20)
    for note in volume.metadata["notes"]:
        logger.warning("%s: %s", volume.name, note)


def _notes(part: Part) -> list[str]:
    used = (part.headers[path] for path in part.paths)
    return list(dict.fromkeys(note for header in used for note in header.notes))


def _padding(part: Part) -> float | None:
    """Rescaled value of the pixels outside the image, where all frames agree."""
    first = part.first
    if first.padding is None or first.is_colour or first.has_lut:
        return None
    stored = first.padding
    if first.signed and stored >= 1 << (first.bits_allocated - 1):
        stored -= 1 << first.bits_allocated
    values = {
        stored * f.slope + f.intercept
        for f in part.frames
        if part.headers[f.path].padding == first.padding
    }
    return values.pop() if len(values) == 1 else None


def _mapping(
    part: Part, stack: Stack, padding: float | None
) -> IntensityMapping | None:
    first = part.first
    if first.is_colour:
        return None
    options: dict[str, Any] = {
        "invert": first.photometric == "MONOCHROME1",
        "nodata": padding,
    }
    windows = [f.window for f in stack.frames.flat if f.window is not None]
    if windows:
        # One window for all slices, though MR writes another for each.
        low, high = np.median(np.asarray(windows), axis=0)
        if low < high:
            return IntensityMapping.grey(low, high, **options)
    if first.modality == "CT":
        return IntensityMapping.grey(*CT_PRESETS["soft tissue"], **options)
    return None
