"""The frames of a DICOM file: place, rescaling, window and tags of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.volume.formats.dicom_header import Frame
from napari_sam.volume.formats.dicom_values import (
    first,
    get,
    number,
    numbers,
    orientation,
    seconds,
    spacing,
    vector,
    whole,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

TRANSFORM = "PixelValueTransformationSequence"
FLAT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
"""Orientation of stacks that say how far apart their slices are, but not where."""

NUMBER_TAGS = {
    "TemporalPositionIdentifier": "",
    "TemporalPositionIndex": "FrameContentSequence",
    "DiffusionBValue": "MRDiffusionSequence",
    "EchoNumbers": "",
    "EchoTime": "",
    "EffectiveEchoTime": "MREchoSequence",
    "InversionTime": "",
    "FlipAngle": "",
    "RepetitionTime": "",
    "TriggerTime": "",
    "NominalCardiacTriggerDelayTime": "CardiacSynchronizationSequence",
    "NominalPercentageOfCardiacPhase": "CardiacSynchronizationSequence",
    "FrameReferenceTime": "",
    "AcquisitionNumber": "",
    "FrameAcquisitionNumber": "FrameContentSequence",
    "PhaseNumber": "",
}
"""Tags with numbers that may tell phases apart, and their functional groups."""
CLOCK_TAGS = {
    "FrameReferenceDateTime": ("FrameContentSequence", ""),
    "FrameAcquisitionDateTime": ("FrameContentSequence", ""),
    "AcquisitionDateTime": ("", ""),
    "AcquisitionTime": ("", "AcquisitionDate"),
    "ContentTime": ("", "ContentDate"),
}
"""Tags with times of day, their functional groups and dates."""
VECTORS = (
    "EnergyWindowVector", "DetectorVector", "PhaseVector", "RotationVector",
    "RRIntervalVector", "TimeSlotVector", "TimeSliceVector", "AngularViewVector",
)  # fmt: skip
"""Vectors of nuclear medicine that number a file's frames, SliceVector apart."""

CINE = ("US", "IVUS", "XA", "RF", "ES", "XC", "GM", "SM", "ECG")
"""Modalities whose plain multi-frame files are films."""
STACKS = ("CT", "MR", "PT", "NM", "OPT", "RTDOSE")
"""Modalities whose plain multi-frame files are stacks of slices."""


class Finder:
    """Look an attribute up in a frame's own groups, the shared ones, then the file."""

    def __init__(self, own: Any, shared: Any, ds: Any) -> None:
        self.own, self.shared, self.ds = own, shared, ds

    def __call__(self, group: str, name: str) -> Any:
        """Return the value of an attribute of a functional group; "" for none."""
        for groups in (self.own, self.shared):
            if not group or groups is None:
                continue
            item = first(get(groups, group))
            if item is not None and get(item, name) is not None:
                return get(item, name)
        return get(self.ds, name)


def read_frames(
    path: str, ds: Any, count: int
) -> tuple[tuple[Frame, ...], tuple[str, ...]]:
    """Read what a header says of each frame, and notes on what was not believed."""
    shared = first(get(ds, "SharedFunctionalGroupsSequence"))
    groups = get(ds, "PerFrameFunctionalGroupsSequence")
    each: list[Any] = list(groups) if groups else [None] * count
    finders = [
        Finder(each[n] if n < len(each) else None, shared, ds) for n in range(count)
    ]
    places, in_patient = _places(ds, finders, framed=bool(groups))
    regions, notes = _calibration(ds)
    vectors = {name: numbers(get(ds, name)) for name in VECTORS}
    frames = tuple(
        Frame(
            path=path,
            number=n,
            instance_uid=str(get(ds, "SOPInstanceUID") or ""),
            position=places[n][0],
            orientation=places[n][1],
            spacing=_spacing(find) or regions,
            slope=number(find(TRANSFORM, "RescaleSlope")) or 1.0,
            intercept=number(find(TRANSFORM, "RescaleIntercept")) or 0.0,
            window=_window(find),
            order=(
                number(get(ds, "AcquisitionNumber")) or 0.0,
                number(get(ds, "InstanceNumber")) or 0.0,
                float(n),
            ),
            kind=_kind(find),
            tags=_tags(find, {k: v[n] for k, v in vectors.items() if n < len(v)}),
            in_patient=in_patient,
        )
        for n, find in enumerate(finders)
    )
    return frames, notes


Place = tuple["tuple[float, ...] | None", "tuple[float, ...] | None"]


def _places(
    ds: Any, finders: Sequence[Finder], *, framed: bool
) -> tuple[list[Place], bool]:
    """Position and orientation of every frame, and whether they are the patient's."""
    found = [(_position(find), _orientation(find)) for find in finders]
    if len(found) == 1 or (framed and None not in (p for p, _ in found)):
        return found, True
    offsets, apart = _offsets(ds, len(finders))
    if offsets is None:
        return ([(None, None)] * len(found) if len(found) > 1 else found), True
    position, turned = found[0]
    detector = first(get(ds, "DetectorInformationSequence"))
    if detector is not None and (position is None or turned is None):
        position = vector(get(detector, "ImagePositionPatient"), 3)
        turned = orientation(get(detector, "ImageOrientationPatient"))
    in_patient = position is not None and turned is not None and apart
    if not in_patient:
        position, turned = (0.0, 0.0, 0.0), FLAT
    assert position is not None and turned is not None
    normal = np.cross(turned[:3], turned[3:])
    out: list[Place] = []
    for offset in offsets:
        place = np.asarray(position) + offset * normal
        out.append((tuple(float(v) for v in place), turned))
    return out, in_patient


def _offsets(ds: Any, count: int) -> tuple[list[float] | None, bool]:
    """Millimetres of each frame from the first along the normal, and if they are known.

    None where the frames of a plain multi-frame file follow each other in time.
    """
    for name in ("GridFrameOffsetVector", "SliceLocationVector"):
        vector_ = numbers(get(ds, name))
        if len(vector_) == count and len(set(vector_)) > 1:
            return [v - vector_[0] for v in vector_], True
    gap = number(get(ds, "SpacingBetweenSlices")) or number(get(ds, "SliceThickness"))
    slices = numbers(get(ds, "SliceVector"))
    if len(slices) == count and len(set(slices)) > 1:
        return [(s - slices[0]) * (gap or 1.0) for s in slices], gap is not None
    modality = str(get(ds, "Modality") or "")
    timed = any(get(ds, n) for n in ("FrameTime", "FrameTimeVector", "CineRate"))
    numbered = any(numbers(get(ds, name)) for name in VECTORS)
    if modality in CINE or timed or numbered:
        return None, False
    placed = get(ds, "ImagePositionPatient") and get(ds, "ImageOrientationPatient")
    if modality in STACKS or (gap is not None and (placed or gap != 0)):
        return [n * (gap or 1.0) for n in range(count)], gap is not None
    return None, False


def _position(find: Finder) -> tuple[float, ...] | None:
    found = vector(find("PlanePositionSequence", "ImagePositionPatient"), 3)
    if found is None:
        found = vector(find("PlanePositionVolumeSequence", "ImagePositionVolume"), 3)
    return found


def _orientation(find: Finder) -> tuple[float, ...] | None:
    found = orientation(find("PlaneOrientationSequence", "ImageOrientationPatient"))
    if found is None:
        found = orientation(
            find("PlaneOrientationVolumeSequence", "ImageOrientationVolume")
        )
    return found


def _spacing(find: Finder) -> tuple[float, float] | None:
    names = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
    for name in names:
        found = spacing(find("PixelMeasuresSequence", name))
        if found is not None:
            return found
    return None


def _calibration(ds: Any) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
    """Millimetres between pixels of the largest ultrasound region of a 2-D image."""
    sizes: dict[tuple[float, float], float] = {}
    for region in get(ds, "SequenceOfUltrasoundRegions") or []:
        centimetres = all(
            whole(get(region, f"PhysicalUnits{a}Direction")) == 3 for a in "YX"
        )
        deltas = [number(get(region, f"PhysicalDelta{a}")) for a in "YX"]
        flat = whole(get(region, "RegionSpatialFormat")) in (None, 1)
        if not (flat and centimetres) or None in deltas:
            continue
        found = spacing([abs(d) * 10 for d in deltas if d is not None])
        if found is None:
            continue
        corners = [
            number(get(region, f"RegionLocation{c}")) or 0.0
            for c in ("MinX0", "MaxX1", "MinY0", "MaxY1")
        ]
        area = (corners[1] - corners[0] + 1) * (corners[3] - corners[2] + 1)
        sizes[found] = sizes.get(found, 0.0) + area
    if not sizes:
        return None, ()
    best = max(sizes, key=lambda s: sizes[s])
    if len(sizes) == 1:
        return best, ()
    return best, (
        f"{len(sizes)} ultrasound regions have different scales: the largest one's is "
        "taken",
    )


_KINDS = {
    "M": "magnitude", "MAGNITUDE": "magnitude", "P": "phase", "PHASE": "phase",
    "PHASE MAP": "phase", "PHASE_MAP": "phase", "R": "real", "REAL": "real",
    "I": "imaginary", "IMAGINARY": "imaginary",
}  # fmt: skip


def _kind(find: Finder) -> str:
    """Part of a complex value that an MR frame shows."""
    for group in ("MRImageFrameTypeSequence", ""):
        value = str(find(group, "ComplexImageComponent") or "").upper()
        if value in _KINDS:
            return _KINDS[value]
    if str(get(find.ds, "Modality") or "") != "MR":
        return ""
    types = find("MRImageFrameTypeSequence", "FrameType") or find("", "ImageType")
    for value in [types] if isinstance(types, str) else list(types or [])[2:]:
        if str(value).upper() in _KINDS:
            return _KINDS[str(value).upper()]
    return ""


def _tags(find: Finder, vectors: dict[str, float]) -> dict[str, Any]:
    """Every value that may tell phases apart, under the names that are tried."""
    out: dict[str, Any] = {}
    for name, group in NUMBER_TAGS.items():
        found = number(find(group, name))
        if found is not None:
            out[name] = found
    for name, (group, date) in CLOCK_TAGS.items():
        clock = seconds(find(group, name), find("", date) if date else None)
        if clock is not None:
            out[name] = clock
    direction = find("MRDiffusionSequence", "DiffusionGradientOrientation")
    item = first(find("MRDiffusionSequence", "DiffusionGradientDirectionSequence"))
    if item is not None:
        direction = get(item, "DiffusionGradientOrientation")
    gradient = vector(direction, 3)
    if gradient is not None:
        out["DiffusionGradientOrientation"] = tuple(round(v, 5) for v in gradient)
    stack = find("FrameContentSequence", "StackID")
    if stack:
        out["StackID"] = str(stack)
    for k, index in enumerate(
        numbers(find("FrameContentSequence", "DimensionIndexValues"))
    ):
        out[f"DimensionIndexValues {k + 1}"] = index
    out.update(vectors)
    types = find("", "ImageType")
    if types:
        out["ImageType"] = types if isinstance(types, str) else "\\".join(types)
    return out


def _window(find: Finder) -> tuple[float, float] | None:
    """(low, high) of the first usable window, else of a VOI table."""
    group = "FrameVOILUTSequence"
    centers = numbers(find(group, "WindowCenter"))
    widths = numbers(find(group, "WindowWidth"))
    function = str(find(group, "VOILUTFunction") or "LINEAR").upper()
    for center, width in zip(centers, widths, strict=False):
        found = window_ends(center, width, function)
        if found is not None:
            return found
    table = first(find(group, "VOILUTSequence"))
    return None if table is None else table_ends(table)


def window_ends(
    center: float, width: float, function: str
) -> tuple[float, float] | None:
    """Values shown black and white by a window; None where it shows nothing.

    PS3.3 C.11.2.1.2: the plain function is shifted by half a value and its ends are
    one value less apart; of width 1 it is a step.
    """
    if not 0 < width <= 1e9 or abs(center) > 1e9:
        return None
    if function != "LINEAR" or width < 1:
        return center - width / 2, center + width / 2
    low, high = center - width / 2, center + width / 2 - 1
    return (low, high) if high > low else (center - 1, center)


def table_ends(item: Any) -> tuple[float, float] | None:
    """Values between which a VOI table rises from dark to bright."""
    descriptor = numbers(get(item, "LUTDescriptor"))
    data = get(item, "LUTData")
    if len(descriptor) != 3 or data is None:
        return None
    entries, lowest, bits = (int(v) for v in descriptor)
    entries = entries or 65536
    if isinstance(data, bytes):
        table = np.frombuffer(data, "<u2" if len(data) >= 2 * entries else "u1")
    else:
        table = np.asarray(data, float).reshape(-1)
    table = table[:entries].astype(float)
    if table.size < 2 or table.min() == table.max() or bits > 16:
        return None
    unit = (table - table.min()) / (table.max() - table.min())
    if unit[0] > unit[-1]:  # a falling table is not a window: MONOCHROME1 says that
        return None
    dark = int(np.flatnonzero(unit <= 0.01).max(initial=0))
    bright = np.flatnonzero(unit >= 0.99)
    low, high = lowest + dark, lowest + int(bright[bright > dark].min(initial=entries))
    return (float(low), float(high)) if high > low else None
