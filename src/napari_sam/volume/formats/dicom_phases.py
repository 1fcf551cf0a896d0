"""Which images at one place belong together: time points, echoes, b-values, phases."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.errors import VolumeError
from napari_sam.volume.formats.dicom_groups import CLOCK_TAGS, NUMBER_TAGS, VECTORS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_sam.volume.formats.dicom_files import Skipped
    from napari_sam.volume.formats.dicom_header import Frame

Places = list[list["Frame"]]
"""Frames at each place along the normal, in rising order."""

TIME_UNITS = {
    "TriggerTime": "millisecond", "NominalCardiacTriggerDelayTime": "millisecond",
    "FrameReferenceTime": "millisecond",
    **dict.fromkeys(CLOCK_TAGS, "second"),
}  # fmt: skip
"""Tags whose values are times, and the unit of these."""
RANKED = (*TIME_UNITS, "NominalPercentageOfCardiacPhase")
"""Tags that may differ a little from slice to slice, so that their order counts."""
IN_TIME = (*RANKED, "TemporalPositionIdentifier", "TemporalPositionIndex")
"""Tags that split a series in time."""
TRIED = (
    *NUMBER_TAGS, "DiffusionGradientOrientation", *CLOCK_TAGS, "StackID", *VECTORS,
    "ImageType",
)  # fmt: skip
"""Tags in the order in which they are tried; indices of dimensions come last."""


@dataclass(slots=True)
class Phases:
    """Complete stacks, in order, and what tells them apart."""

    stacks: list[list[Frame]]
    """For each phase one frame for each place."""
    tags: tuple[str, ...] = ()
    values: list[tuple[Any, ...]] = field(default_factory=list)
    """Values of `tags` for each phase."""
    skipped: list[Skipped] = field(default_factory=list)

    def times(self) -> tuple[list[float], str] | None:
        """Time of each phase and its unit; None where the split is not in time."""
        if len(self.tags) != 1 or self.tags[0] not in IN_TIME:
            return None
        for name in dict.fromkeys((*self.tags, *TIME_UNITS)):
            if name not in TIME_UNITS:
                continue
            each = [[f.tags.get(name) for f in stack] for stack in self.stacks]
            if any(v is None for values in each for v in values):
                continue
            means = [float(np.mean(_unwrapped(values))) for values in each]
            means = _unwrapped(means) if name in CLOCK_TAGS else means
            if all(b > a for a, b in pairwise(means)):
                return means, TIME_UNITS[name]
        return None


def split_phases(places: Places, digest: Callable[[Frame], bytes]) -> Phases:
    """Split the frames at each place into complete stacks.

    Parameters
    ----------
    places : list of list of Frame
    digest : callable
        Checksum of a frame's stored pixels, for telling true copies.

    Raises
    ------
    VolumeError
        If no tag, and no pair of tags, tells which frames belong together.
    """
    if all(len(p) == 1 for p in places):
        return Phases([[p[0] for p in places]])
    places, skipped = _without_copies(places, digest, alike=_same_tags)
    found = _whole(places)
    if found is None:
        # Copies that were sent twice have the pixels, but not the times, of the first.
        fewer, copies = _without_copies(places, digest, alike=lambda a, b: True)
        found = _whole(fewer)
        if found is not None:
            skipped += copies
    if found is None:
        found = _most_of(places)
    if found is None:
        raise _no_tag(places)
    found.skipped = skipped + found.skipped
    return found


def _whole(places: Places) -> Phases | None:
    """Split into stacks all of which are complete."""
    if all(len(p) == 1 for p in places):
        return Phases([[p[0] for p in places]])
    if len({len(p) for p in places}) > 1:
        return None
    names = _varying(places)
    for tags in _one_or_two(names):
        found = _exact(places, tags)
        if found is not None:
            return found
    ranked = [n for n in names if n in RANKED and n != "ContentTime"]
    tried = [partial(_ranked, places, name) for name in ranked]
    numeric = [n for n in names if n in NUMBER_TAGS and n not in RANKED]
    tried += [partial(_ranked, places, name, apart=True) for name in numeric]
    # Content may have been made in any order, long after it was acquired.
    tried += [partial(_numbered, places), partial(_ranked, places, "ContentTime")]
    return next((found for split in tried if (found := split()) is not None), None)


def _most_of(places: Places) -> Phases | None:
    """Split so that as few frames as possible are left without a complete stack."""
    tried = (_partial(places, tags) for tags in _one_or_two(_varying(places)))
    found = [phases for phases in tried if phases is not None]
    return min(found, key=lambda p: len(p.skipped), default=None)


def _one_or_two(names: Sequence[str]) -> list[tuple[str, ...]]:
    return [(n,) for n in names] + list(combinations(names, 2))


def _varying(places: Places) -> list[str]:
    """Tags that differ between frames, in the order in which they are tried."""
    frames = [f for p in places for f in p]
    known = list(dict.fromkeys(name for f in frames for name in f.tags))
    ordered = [n for n in TRIED if n in known] + [n for n in known if n not in TRIED]
    return [n for n in ordered if len({f.tags.get(n) for f in frames}) > 1]


def _groups(places: Places, tags: Sequence[str]) -> dict[Any, list[list[Frame]]]:
    """Frames of each value of the tags, by place."""
    out: dict[Any, list[list[Frame]]] = {}
    for i, place in enumerate(places):
        for frame in place:
            key = tuple(frame.tags.get(tag) for tag in tags)
            out.setdefault(key, [[] for _ in places])[i].append(frame)
    return out


def _exact(places: Places, tags: Sequence[str]) -> Phases | None:
    groups = _groups(places, tags)
    if not all(len(p) == 1 for stack in groups.values() for p in stack):
        return None
    return _phases(groups, tags)


def _partial(places: Places, tags: Sequence[str]) -> Phases | None:
    """Split where some stacks are whole and others have only a few of their slices."""
    groups = _groups(places, tags)
    if any(len(p) > 1 for stack in groups.values() for p in stack):
        return None
    whole = {k: s for k, s in groups.items() if all(s)}
    kept = sum(len(places) for _ in whole)
    if not whole or 2 * kept < sum(len(p) for p in places):
        return None
    found = _phases(whole, tags)
    for key, stack in groups.items():
        if key not in whole:
            lacking = sum(not p for p in stack)
            said = ", ".join(f"{t} {v}" for t, v in zip(tags, key, strict=True))
            reason = f"its phase ({said}) lacks {lacking} of {len(places)} slices"
            found.skipped += [(f.label, reason) for p in stack for f in p]
    return found


def _phases(groups: dict[Any, list[list[Frame]]], tags: Sequence[str]) -> Phases:
    keys = sorted(groups, key=lambda k: tuple(_sortable(v) for v in k))
    if len(tags) == 1 and tags[0] in CLOCK_TAGS and None not in {k[0] for k in keys}:
        times = _unwrapped([k[0] for k in keys])
        keys = [k for _, k in sorted(zip(times, keys, strict=True))]
    stacks = [[p[0] for p in groups[k]] for k in keys]
    return Phases(stacks, tuple(tags), list(keys))


def _sortable(value: Any) -> tuple[int, Any]:
    if value is None:
        return 0, 0
    return (2, value) if isinstance(value, str) else (1, _tuple(value))


def _tuple(value: Any) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value,)


def _ranked(places: Places, name: str, *, apart: bool = False) -> Phases | None:
    """Split by the order of values that differ a little from slice to slice.

    With `apart`, only where all values of a phase lie below all of the next one.
    """
    columns = []
    for place in places:
        values = [f.tags.get(name) for f in place]
        if None in values or len(set(values)) < len(values):
            return None
        times = _unwrapped([float(v) for v in values if v is not None])
        pairs = sorted(zip(times, range(len(place)), strict=True))
        columns.append([place[i] for _, i in pairs])
    stacks = [list(stack) for stack in zip(*columns, strict=True)]
    spans = [[float(f.tags[name]) for f in s] for s in stacks]
    if apart and any(max(a) >= min(b) for a, b in pairwise(spans)):
        return None
    means = [(float(np.mean(values)),) for values in spans]
    return Phases(stacks, (name,), list(means))


def _numbered(places: Places) -> Phases | None:
    """Split by InstanceNumber where it counts slice by slice or phase by phase."""
    columns = [sorted(p, key=lambda f: f.order[1:]) for p in places]
    numbers = np.array([[f.order[1:] for f in c] for c in columns])
    flat = [tuple(v) for v in numbers.reshape(-1, numbers.shape[-1])]
    if len(set(flat)) < len(flat):
        return None
    rank = {v: i for i, v in enumerate(sorted(flat))}
    ranks = np.array([rank[v] for v in flat]).reshape(len(places), -1)
    by_phase = (ranks.max(0)[:-1] < ranks.min(0)[1:]).all()
    order = np.argsort(ranks[:, 0])
    by_slice = (ranks[order].max(1)[:-1] < ranks[order].min(1)[1:]).all()
    if not (by_phase or by_slice):
        return None
    stacks = [list(stack) for stack in zip(*columns, strict=True)]
    return Phases(stacks, ("InstanceNumber",), [(i + 1,) for i in range(len(stacks))])


def _unwrapped(times: Sequence[float | None]) -> list[float]:
    """Times of day in a row that runs over midnight."""
    known = [float(t) for t in times if t is not None]
    day = 86400.0
    if known and max(known) < day and max(known) - min(known) > day / 2:
        return [t + day if t < day / 2 else t for t in known]
    return known


def _same_tags(a: Frame, b: Frame) -> bool:
    return a.tags == b.tags


def _without_copies(
    places: Places,
    digest: Callable[[Frame], bytes],
    alike: Callable[[Frame, Frame], bool],
) -> tuple[Places, list[Skipped]]:
    """Drop frames of the same place and the same pixels as another one."""
    out, skipped = [], []
    for place in places:
        kept: list[Frame] = []
        for frame in place:
            same = [k for k in kept if k.path != frame.path and alike(k, frame)]
            twin = next((k for k in same if digest(k) == digest(frame)), None)
            if twin is None:
                kept.append(frame)
            else:
                skipped.append((frame.label, f"it is a copy of {twin.label}"))
        out.append(kept)
    return out, skipped


def checksum(read: Callable[[Frame], bytes]) -> Callable[[Frame], bytes]:
    """Return a digest of frames that reads each one once."""
    known: dict[tuple[str, int], bytes] = {}

    def digest(frame: Frame) -> bytes:
        key = frame.path, frame.number
        if key not in known:
            known[key] = hashlib.sha256(read(frame)).digest()
        return known[key]

    return digest


def _no_tag(places: Places) -> VolumeError:
    counts = sorted({len(p) for p in places})
    doubled = [p for p in places if len(p) > 1]
    named = " and ".join(f.label for f in doubled[0][:4])
    many = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return VolumeError(
        f"no tag tells which images belong together: each of {len(places)} places "
        f"holds {many} images ({named} lie at the same place, with other pixels), and "
        "neither a time, echo, b-value, phase or number, nor a pair of these, splits "
        "them into complete stacks. Move each repetition to its own folder, remove "
        "what is doubled, or open the files of one stack as a list."
    )
