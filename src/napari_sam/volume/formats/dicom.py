"""Open DICOM folders and files: one series, sorted by place, with exact geometry."""

from __future__ import annotations

import logging
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.intensity import CT_PRESETS, IntensityMapping
from napari_sam.errors import SeriesError, VolumeError
from napari_sam.volume.arrays import Layout, assemble
from napari_sam.volume.formats.detect import describe_folder
from napari_sam.volume.formats.dicom_frames import (
    DicomFrames,
    Frame,
    Header,
    read_header,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari_sam.volume.volume import Volume

logger = logging.getLogger(__name__)

SAME_PLACE_MM = 1e-2
"""Slices nearer than this along the normal lie at one place."""
GAP_TOLERANCE = 0.1
"""Share of the usual gap by which a gap may differ: positions are often rounded."""
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
"""Files of these names are tried even without the preamble."""


def open_dicom(
    path: str, *, axes: Any = None, channels: Any = None, series: Any = None
) -> Volume:
    """Open a DICOM folder, of any nesting, or one file with one or many frames.

    Frames are sorted by their position along the slice normal, rescaled one by one
    when they are read, and placed by an affine to the patient's (z, y, x) in mm
    (LPS: x to the left, y to the back, z to the head).

    Parameters
    ----------
    path : str
    axes, channels
        As in `open_volume`.
    series : str, optional
        SeriesInstanceUID, or a series number or description that only one series has.

    Raises
    ------
    SeriesError
        If there are several series and `series` names none of them.
    VolumeError
        If there is no DICOM image, or the slices are not one regular stack.
    """
    where = Path(path)
    headers = _scan(where)
    if not headers:
        raise _nothing_found(where)
    chosen = _choose(headers, series, path)
    first = chosen[0]
    frames = _without_copies([f for h in chosen for f in h.frames])
    _check_alike(chosen)
    stack, layout = _stack(frames, first)
    array = DicomFrames({h.path: h for h in chosen}, stack)
    return assemble(
        [array], layout, axes=axes, channels=channels,
        name=where.stem, source=path,
        mapping=_mapping(first, stack),
        inverted=first.photometric == "MONOCHROME1",
        metadata={
            "modality": first.modality, "description": first.description, **first.uids,
            "coordinates": "LPS",
            "frames": [(f.path, f.number, f.instance_uid) for f in stack.flat],
        },
    )  # fmt: skip


def _scan(where: Path) -> list[Header]:
    files = [where] if where.is_file() else sorted(p for p in where.rglob("*"))
    found = []
    for file in files:
        if file.name.upper() == "DICOMDIR" or not file.is_file():
            continue
        force = file.suffix.lower() in DICOM_SUFFIXES
        header = read_header(str(file), force=force)
        if header is not None:
            found.append(header)
    return found


def _nothing_found(where: Path) -> VolumeError:
    if where.is_file():
        return VolumeError(
            f"{str(where)!r} is no DICOM image: it has no rows and columns of pixels, "
            "or is not whole"
        )
    return VolumeError(
        f"there are no DICOM images in {str(where)!r} ({describe_folder(where)}): "
        "choose the folder that holds the series, or open one of the files"
    )


def _choose(headers: Sequence[Header], series: Any, path: str) -> list[Header]:
    groups: dict[str, list[Header]] = defaultdict(list)
    for header in headers:
        groups[header.series_uid].append(header)
    found = {
        uid: f"{g[0].description}, {sum(len(h.frames) for h in g)} image(s) of "
        f"{g[0].size[0]} x {g[0].size[1]}"
        for uid, g in groups.items()
    }
    if series is None and len(groups) == 1:
        return next(iter(groups.values()))
    if series is not None:
        wanted = [uid for uid, g in groups.items() if _matches(g[0], str(series))]
        if len(wanted) == 1:
            return groups[wanted[0]]
    listing = "".join(f"\n  {uid}  {text}" for uid, text in found.items())
    what = "" if series is None else f", and not one of them is {series!r}"
    raise SeriesError(
        f"{path!r} holds {len(groups)} series{what}; choose one with "
        f"series=<UID>:{listing}",
        found,
    )


def _matches(header: Header, series: str) -> bool:
    if header.series_uid == series:
        return True
    text = header.description
    number = text.rpartition("(number ")[2].rstrip(")") if "(number " in text else None
    words = text.partition(" ")[2].rpartition(" (number ")[0]
    return series in (number, words, text)


def _without_copies(frames: Iterable[Frame]) -> list[Frame]:
    """Drop files that hold the same instance again."""
    kept: dict[tuple[str, int], Frame] = {}
    for frame in frames:
        key = (frame.instance_uid, frame.number)
        if key in kept:
            logger.warning(
                "%s is a copy of %s and is left out", frame.label, kept[key].label
            )
        else:
            kept[key] = frame
    return list(kept.values())


def _check_alike(headers: Sequence[Header]) -> None:
    sizes: dict[Any, list[str]] = defaultdict(list)
    for h in headers:
        sizes[(h.size, h.is_colour)].append(Path(h.path).name)
    if len(sizes) == 1:
        return
    (usual, _), *others = sorted(sizes.items(), key=lambda item: -len(item[1]))
    named = "; ".join(
        f"{_some(names)}: {size[0]} x {size[1]}{' colour' if colour else ''}"
        for (size, colour), names in others
    )
    raise VolumeError(
        f"the slices of this series have different sizes: most are {usual[0][0]} x "
        f"{usual[0][1]}, but {named}. Move these out of the folder, or open them by "
        "themselves."
    )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def _stack(frames: list[Frame], header: Header) -> tuple[np.ndarray, Layout]:
    """Order frames along z (and t) and describe the array that they make."""
    first = frames[0]
    tail = ("y", "x", "c") if header.is_colour else ("y", "x")
    spacing, units = {}, {}
    if first.spacing is not None:
        spacing = {"y": first.spacing[0], "x": first.spacing[1]}
        units = {"y": "millimeter", "x": "millimeter"}
    if len(frames) == 1:
        layout = Layout(tail, spacing, units, rgb=header.is_colour)
        return _grid(frames, ()), layout
    if any(f.position is None or f.orientation is None for f in frames):
        return _unplaced(frames, header, tail, spacing, units)
    places = _by_place(frames)
    n_times = _times(places)
    order = [f for t in range(n_times) for f in (p[t] for p in places)]
    if len(places) == 1:
        layout = Layout(("t", *tail), spacing, units, rgb=header.is_colour)
        return _grid(order, (n_times,)), layout
    step = _check_gaps([p[0] for p in places])
    spacing, units = {**spacing, "z": step}, {**units, "z": "millimeter"}
    lead = ("z",) if n_times == 1 else ("t", "z")
    shape = (len(places),) if n_times == 1 else (n_times, len(places))
    affine = _affine(places[0][0], places[-1][0], len(places), time=n_times > 1)
    layout = Layout((*lead, *tail), spacing, units, affine=affine, rgb=header.is_colour)
    return _grid(order, shape), layout


def _grid(frames: Sequence[Frame], shape: tuple[int, ...]) -> np.ndarray:
    out = np.empty(len(frames), object)
    out[:] = frames
    return out.reshape(shape)


def _unplaced(
    frames: list[Frame],
    header: Header,
    tail: tuple[str, ...],
    spacing: dict[str, float],
    units: dict[str, str],
) -> tuple[np.ndarray, Layout]:
    """Stack frames without positions (ultrasound, screen shots) by their numbers."""
    order = sorted(frames, key=lambda f: f.order)
    lead = "z"
    if len({f.path for f in frames}) == 1:
        lead = "t"
        if header.frame_time_ms:
            spacing = {**spacing, "t": header.frame_time_ms}
            units = {**units, "t": "millisecond"}
    layout = Layout((lead, *tail), spacing, units, rgb=header.is_colour)
    return _grid(order, (len(order),)), layout


def _by_place(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Group frames by their place along the slice normal, in rising order."""
    turned = [f for f in frames if not _parallel(f, frames[0])]
    if turned:
        raise VolumeError(
            "the slices of this series are not parallel, so they are no volume: "
            f"{_some([f.label for f in turned])} lie(s) at another angle than "
            f"{frames[0].label}. Open one file, or move each direction to its own "
            "folder."
        )
    distance = {id(f): _distance(f, frames[0]) for f in frames}
    ordered = sorted(frames, key=lambda f: distance[id(f)])
    places = [[ordered[0]]]
    for frame in ordered[1:]:
        if distance[id(frame)] - distance[id(places[-1][0])] <= SAME_PLACE_MM:
            places[-1].append(frame)
        else:
            places.append([frame])
    return [sorted(p, key=lambda f: f.order) for p in places]


def _parallel(a: Frame, b: Frame) -> bool:
    return bool(np.allclose(a.orientation or 0, b.orientation or 0, atol=1e-3))


def _normal(frame: Frame) -> np.ndarray:
    o = np.asarray(frame.orientation, float)
    return np.cross(o[:3], o[3:])


def _distance(frame: Frame, reference: Frame) -> float:
    return float(_normal(reference) @ np.asarray(frame.position, float))


def _times(places: Sequence[Sequence[Frame]]) -> int:
    """Number of images at every place: time points, echoes or the like."""
    counts = {len(p) for p in places}
    if len(counts) == 1:
        return counts.pop()
    usual = min(counts)
    doubled = [p for p in places if len(p) > usual]
    named = "; ".join(" and ".join(f.label for f in p[:4]) for p in doubled[:5])
    raise VolumeError(
        f"{len(doubled)} of {len(places)} places hold more images than the others, so "
        f"this is no regular stack: {named} lie at the same place. Remove the "
        "duplicates, or move each repetition to its own folder."
    )


def _check_gaps(frames: Sequence[Frame]) -> float:
    """Return the distance of neighbouring slices along their normal, in mm.

    It comes from the positions: SpacingBetweenSlices and SliceThickness are often
    stale copies of another series.
    """
    along = np.array([_distance(f, frames[0]) for f in frames])
    gaps = np.diff(along)
    usual = float(np.median(gaps))
    if len(gaps) == 2 and abs(gaps[0] - gaps[1]) > GAP_TOLERANCE * usual:
        usual = float(gaps.min())
    wrong = np.flatnonzero(np.abs(gaps - usual) > GAP_TOLERANCE * usual)
    if wrong.size:
        named = "; ".join(
            f"{gaps[i]:.3f} mm between {frames[i].label} and {frames[i + 1].label}"
            for i in wrong[:5]
        )
        raise VolumeError(
            f"slices are missing or unevenly spaced: neighbours are {usual:.3f} mm "
            f"apart, but there are {named}{' ...' if wrong.size > 5 else ''}. Add the "
            "missing files, or move each evenly spaced part to its own folder."
        )
    return float(along[-1] - along[0]) / (len(frames) - 1)


def _affine(first: Frame, last: Frame, count: int, *, time: bool) -> np.ndarray:
    """Index (z, y, x) to patient (z, y, x) in mm; a tilted gantry shows as shear."""
    o = np.asarray(first.orientation, float)
    start, stop = (np.asarray(f.position, float) for f in (first, last))
    dy, dx = first.spacing or (1.0, 1.0)
    affine = np.eye(4)
    columns = ((stop - start) / (count - 1), o[3:] * dy, o[:3] * dx, start)
    for i, column in enumerate(columns):
        affine[:3, i] = column[::-1]
    if not time:
        return affine
    out = np.eye(5)
    out[1:, 1:] = affine
    return out


def _mapping(header: Header, frames: np.ndarray) -> IntensityMapping | None:
    if header.is_colour:
        return None
    inverted = header.photometric == "MONOCHROME1"
    windows = [f.window for f in frames.flat if f.window is not None]
    if windows:
        # One window for all slices, though MR writes another for each.
        low, high = np.median(np.asarray(windows), axis=0)
        return IntensityMapping.grey(low, high, invert=inverted)
    if header.modality == "CT":
        return IntensityMapping.grey(*CT_PRESETS["soft tissue"], invert=inverted)
    return None
