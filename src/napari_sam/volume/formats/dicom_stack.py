"""Frames put in order along their normal: the array they make and where it lies."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.errors import SpacingError, VolumeError
from napari_sam.volume.formats.dicom_phases import Phases, split_phases
from napari_sam.volume.formats.dicom_series import SAME_PLACE_MM
from napari_sam.volume.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_sam.volume.formats.dicom_files import Skipped
    from napari_sam.volume.formats.dicom_header import Frame, Header

GAP_TOLERANCE = 0.1
"""Share of the usual gap by which a gap may differ: positions are often rounded."""
MOST_PLANES = 16
"""Times as many planes as there are slices, that regular spacing may give."""


@dataclass(slots=True)
class Stack:
    """An array of frames, (t, z), and what is known of its axes."""

    frames: np.ndarray
    """Object array of Frame, whose shape is that of the leading axes."""
    layout: Layout
    positions_mm: tuple[float, ...] | None = None
    """Place of each slice along the normal from the first, where uneven."""
    planes_mm: tuple[float, ...] | None = None
    """Places at which regular planes are resampled; None: slices are as stored."""
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    phases: dict[str, list[Any]] = field(default_factory=dict)
    """Values that tell phases apart, for each index of t."""


def make_stack(
    frames: list[Frame],
    header: Header,
    digest: Callable[[Frame], bytes],
    spacing: str | None = None,
) -> Stack:
    """Order frames along z (and t) and describe the array that they make.

    Parameters
    ----------
    frames : list of Frame
        Of one size and one orientation.
    header : Header
        Of the first of them.
    digest : callable
        As in `split_phases`.
    spacing : {"resample", "positions"}, optional
        What becomes of uneven slices, as in `open_volume`.

    Raises
    ------
    SpacingError
        If the slices are uneven and `spacing` is None.
    VolumeError
        If it is not known which frames belong together.
    """
    in_plane = _InPlane(frames[0], header)
    if len(frames) == 1:
        return Stack(_grid(frames, ()), in_plane.layout(()))
    if any(f.position is None or f.orientation is None for f in frames):
        return _unplaced(frames, header, in_plane, digest)
    found = split_phases(_by_place(frames), digest)
    phases = {tag: [v[i] for v in found.values] for i, tag in enumerate(found.tags)}
    grid, lead = _ordered(found)
    spacing_of, unit_of = _time_step(found)
    if "z" not in lead:
        layout = in_plane.layout(lead, spacing_of, unit_of)
        return Stack(grid, layout, skipped=found.skipped, phases=phases)
    slices = found.stacks[0]
    along = Along.of(slices, spacing)
    planes = along.planes_mm
    step = along.step_mm if planes is None else planes[1] - planes[0]
    real = slices[0].in_patient
    known = real or slices[0].spacing is not None
    time = spacing_of.get("t", 1.0) if "t" in lead else None
    layout = in_plane.layout(
        lead,
        {**spacing_of, "z": step},
        {**unit_of, "z": "millimeter" if known else "pixel"},
        _affine(slices, along, step, time) if real else None,
    )
    return Stack(
        grid, layout, along.positions_mm if along.problem else None, planes,
        skipped=found.skipped, phases=phases,
        notes=[along.problem] if along.problem else [],
    )  # fmt: skip


def _ordered(phases: Phases) -> tuple[np.ndarray, tuple[str, ...]]:
    """Grid of the frames, and its axes: t and z, where there is more than one."""
    counts = {"t": len(phases.stacks), "z": len(phases.stacks[0])}
    lead = tuple(axis for axis, n in counts.items() if n > 1)
    order = [f for stack in phases.stacks for f in stack]
    return _grid(order, tuple(counts[axis] for axis in lead)), lead


class _InPlane:
    """What is known of y and x, and of channels."""

    def __init__(self, first: Frame, header: Header) -> None:
        self.tail = ("y", "x", "c") if header.is_colour else ("y", "x")
        self.rgb = header.is_colour
        self.spacing: dict[str, float] = {}
        self.units: dict[str, str] = {}
        if first.spacing is not None:
            self.spacing = {"y": first.spacing[0], "x": first.spacing[1]}
            self.units = {"y": "millimeter", "x": "millimeter"}

    def layout(
        self,
        lead: tuple[str, ...],
        spacing: dict[str, float] | None = None,
        units: dict[str, str] | None = None,
        affine: np.ndarray | None = None,
    ) -> Layout:
        return Layout(
            (*lead, *self.tail), {**self.spacing, **(spacing or {})},
            {**self.units, **(units or {})}, affine=affine, rgb=self.rgb,
        )  # fmt: skip


def _grid(frames: Sequence[Frame], shape: tuple[int, ...]) -> np.ndarray:
    out = np.empty(len(frames), object)
    out[:] = frames
    return out.reshape(shape)


def _unplaced(
    frames: list[Frame],
    header: Header,
    in_plane: _InPlane,
    digest: Callable[[Frame], bytes],
) -> Stack:
    """Stack frames without positions (ultrasound, screen shots) by their numbers."""
    order, skipped = _without_twins(sorted(frames, key=lambda f: f.order), digest)
    if len(order) == 1:
        return Stack(_grid(order, ()), in_plane.layout(()), skipped=skipped)
    lead, spacing, units = "z", {}, {}
    if len({f.path for f in order}) == 1:
        lead = "t"
        if header.frame_time_ms:
            spacing, units = {"t": header.frame_time_ms}, {"t": "millisecond"}
    layout = in_plane.layout((lead,), spacing, units)
    return Stack(_grid(order, (len(order),)), layout, skipped=skipped)


def _without_twins(
    frames: Sequence[Frame], digest: Callable[[Frame], bytes]
) -> tuple[list[Frame], list[Skipped]]:
    """Drop files with the number, the tags and the pixels of another one."""
    kept: dict[Any, list[Frame]] = {}
    skipped = []
    for frame in frames:
        same = kept.setdefault((frame.instance_uid, frame.order), [])
        twins = [k for k in same if k.tags == frame.tags and digest(k) == digest(frame)]
        if twins and frame.instance_uid:
            skipped.append((frame.label, f"it is a copy of {twins[0].label}"))
        else:
            same.append(frame)
    return [f for group in kept.values() for f in group], skipped


def _by_place(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Group frames by their place along the slice normal, in rising order."""
    distance = {id(f): _distance(f, frames[0]) for f in frames}
    ordered = sorted(frames, key=lambda f: distance[id(f)])
    places = [[ordered[0]]]
    for frame in ordered[1:]:
        if distance[id(frame)] - distance[id(places[-1][0])] <= SAME_PLACE_MM:
            places[-1].append(frame)
        else:
            places.append([frame])
    return [sorted(p, key=lambda f: f.order) for p in places]


def _distance(frame: Frame, reference: Frame) -> float:
    o = np.asarray(reference.orientation, float)
    return float(np.cross(o[:3], o[3:]) @ np.asarray(frame.position, float))


def _time_step(phases: Phases) -> tuple[dict[str, float], dict[str, str]]:
    """Spacing and unit of t, where the phases follow each other evenly in time."""
    if len(phases.stacks) < 2:
        return {}, {}
    found = phases.times()
    if found is None:
        return {}, {}
    times, unit = found
    gaps = np.diff(times)
    step = float(np.mean(gaps))
    if step <= 0 or np.abs(gaps - step).max() > GAP_TOLERANCE * step:
        return {}, {}
    return {"t": step}, {"t": unit}


@dataclass(slots=True)
class Along:
    """Where slices lie along their normal, and whether evenly.

    Distances come from the positions: SpacingBetweenSlices and SliceThickness are
    often stale copies of another series.
    """

    positions_mm: tuple[float, ...]
    """From the first slice."""
    problem: str = ""
    """What is uneven; "" where nothing is."""
    planes_mm: tuple[float, ...] | None = None
    """Regular places to resample at, where that was asked for."""

    @property
    def step_mm(self) -> float:
        """Mean distance of neighbours."""
        return self.positions_mm[-1] / (len(self.positions_mm) - 1)

    @classmethod
    def of(cls, slices: Sequence[Frame], spacing: str | None) -> Along:
        """Measure slices; uneven ones are refused, resampled, or left where they are.

        Raises
        ------
        SpacingError
        """
        along = np.array([_distance(f, slices[0]) for f in slices])
        along -= along[0]
        found = cls(tuple(float(v) for v in along))
        shifted = _shifted(slices, along)
        found.problem = shifted or _gaps(slices, along)
        if not found.problem:
            return found
        if spacing is None:
            raise _uneven(found.problem, can_resample=not shifted)
        if spacing == "resample":
            if shifted:
                raise VolumeError(
                    f"these slices cannot be resampled, because {shifted}: open them "
                    'with spacing="positions"'
                )
            found.planes_mm = regular_planes(found.positions_mm)
        return found


def _uneven(problem: str, *, can_resample: bool) -> SpacingError:
    ways = [
        'spacing="positions" (the slices as they are stored, their true places in '
        'metadata["slice_positions_mm"])'
    ]
    if can_resample:
        ways.insert(
            0,
            'spacing="resample" (planes at even distances, interpolated between the '
            "slices, each where it truly lies)",
        )
    return SpacingError(
        f"the slices are not evenly spaced: {problem}. Open them with "
        f"{' or '.join(ways)}; on the command line --spacing resample"
    )


def _gaps(slices: Sequence[Frame], along: np.ndarray) -> str:
    gaps = np.diff(along)
    usual = float(np.median(gaps))
    if len(gaps) == 2 and abs(gaps[0] - gaps[1]) > GAP_TOLERANCE * usual:
        usual = float(gaps.min())
    wrong = np.flatnonzero(np.abs(gaps - usual) > GAP_TOLERANCE * usual)
    if not wrong.size:
        return ""
    named = "; ".join(
        f"{gaps[i]:.3f} mm between {slices[i].label} and {slices[i + 1].label}"
        for i in wrong[:5]
    )
    more = f" and {wrong.size - 5} more" if wrong.size > 5 else ""
    return f"neighbours are {usual:.3f} mm apart, but there are {named}{more}"


def _shifted(slices: Sequence[Frame], along: np.ndarray) -> str:
    """Name slices that lie beside the line from the first slice to the last."""
    places = np.array([f.position for f in slices], float)
    line = (places[-1] - places[0]) / along[-1]
    beside = np.linalg.norm(places - places[0] - np.outer(along, line), axis=1)
    pixel = max(slices[0].spacing or (1.0, 1.0))
    worst = int(beside.argmax())
    if beside[worst] <= max(pixel, 0.5):
        return ""
    return (
        f"{slices[worst].label} is shifted by {beside[worst]:.1f} mm within its plane "
        "from the line of the others"
    )


def regular_planes(positions_mm: Sequence[float]) -> tuple[float, ...]:
    """Places at even distances: the smallest distance that slices have more than once.

    A single short gap does not count, so one slice too many adds no planes.
    """
    gaps = np.diff(positions_mm)
    median = float(np.median(gaps))
    alike = Counter(
        next((g for g in gaps if abs(g - gap) <= GAP_TOLERANCE * g), gap)
        for gap in gaps
    )
    common = [gap for gap, count in alike.items() if count > 1]
    step = float(min(common, default=min(median, float(gaps.min()))))
    total = float(positions_mm[-1])
    step = max(step, total / (MOST_PLANES * len(positions_mm)))
    # The mean of the gaps that count, so that rounding does not add up.
    near = gaps[np.abs(gaps - step) <= GAP_TOLERANCE * step]
    step = float(near.mean()) if near.size else step
    count = int(total / step + 1e-2) + 1
    return tuple(i * step for i in range(max(count, 2)))


def _affine(
    slices: Sequence[Frame], along: Along, step: float, time: float | None
) -> np.ndarray:
    """Index (z, y, x) to patient (z, y, x) in mm; a tilted gantry shows as shear."""
    first = slices[0]
    o = np.asarray(first.orientation, float)
    start = np.asarray(first.position, float)
    stop = np.asarray(slices[-1].position, float)
    dy, dx = first.spacing or (1.0, 1.0)
    affine = np.eye(4)
    line = (stop - start) / along.positions_mm[-1]
    columns = (line * step, o[3:] * dy, o[:3] * dx, start)
    for i, column in enumerate(columns):
        affine[:3, i] = column[::-1]
    if time is None:
        return affine
    out = np.eye(5)
    out[1:, 1:] = affine
    out[0, 0] = time
    return out
