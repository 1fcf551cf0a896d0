"""The series of a DICOM study: files grouped, odd ones set aside with the reason."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.errors import SeriesError, VolumeError
from napari_sam.volume.formats.dicom_files import (
    MEMBER,
    SUFFIXES,
    FileList,
    Skipped,
    list_files,
    looks_like_dicom,
)
from napari_sam.volume.formats.dicom_read import read_header

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari_sam.volume.formats.dicom_header import Frame, Header

SAME_PLACE_MM = 1e-2
"""Slices nearer than this along the normal lie at one place."""
NO_DICOM = "it is no DICOM file"
"""Reason for leaving a file out that goes without saying."""
LABELS = "it is a segmentation: read it onto its image, as labels"
FEW = 4
"""Frames that are this many times fewer than the others do not make a part."""


@dataclass(slots=True)
class Part:
    """Frames that can make one volume: of one series, size, direction and kind."""

    headers: dict[str, Header]
    """By path."""
    frames: list[Frame]
    key: str = ""
    """What ``series=`` takes: the UID, with ``:n`` where the series has more parts."""
    short: str = ""
    """The series number, with ``:n`` where several have it; "" without a number."""
    skipped: list[Skipped] = field(default_factory=list)
    """Frames of the same series that are left out when it is opened."""
    is_odd: bool = False
    """Whether it is a few frames left out of another part."""

    @property
    def first(self) -> Header:
        """Header of the first frame."""
        return self.headers[self.frames[0].path]

    @property
    def problem(self) -> str:
        """Why its pixels cannot be decoded; "" where they can."""
        return self.first.problem

    @property
    def paths(self) -> list[str]:
        """Files that it comes from."""
        return list(dict.fromkeys(f.path for f in self.frames))

    @property
    def title(self) -> str:
        """Modality, description, number and kind."""
        head = self.first
        words = " ".join(filter(None, (head.modality, head.series_description)))
        split = self.key != head.series_uid
        kinds = (self.frames[0].kind, _plane_name(self.frames[0]) if split else "")
        kind = "".join(f", {k}" for k in kinds if k)
        number = head.series_number
        return (
            f"{words or 'image'}{'' if number is None else f' (number {number})'}{kind}"
        )

    def describe(self) -> str:
        """Say for people what it is."""
        rows, columns = self.first.size
        text = f"{self.title}, {len(self.frames)} image(s) of {rows} x {columns}"
        spacing = self.frames[0].spacing
        if spacing is not None:
            text += f", {spacing[0]:.4g} x {spacing[1]:.4g} mm"
        return f"{text}; not readable: {self.problem}" if self.problem else text


@dataclass(slots=True)
class Study:
    """Every part of every series below a path."""

    parts: list[Part]
    skipped: list[Skipped]

    def listing(self) -> dict[str, str]:
        """Key and description of each part."""
        return {p.key: p.describe() for p in self.parts}

    def name_of(self, part: Part, path: str) -> str:
        """Name a volume after its file or folder, or its series where that has more."""
        if len(self.parts) == 1:
            return Path(path).stem
        kind = part.frames[0].kind
        words = " ".join(filter(None, (part.first.series_description, kind)))
        return words or f"{Path(path).stem} {part.short or part.key}"

    def choose(self, series: Any, path: str) -> Part:
        """Return the part that is asked for, or the only one that there is.

        Raises
        ------
        SeriesError
            If there are several and `series` names none, or more than one, of them.
        """
        real = [p for p in self.parts if not p.is_odd]
        good = [p for p in real if not p.problem] or real
        if series is None:
            if len(good) == 1:
                return good[0]
            raise self._several(path, good, "")
        wanted = self._named(str(series).strip())
        if len(wanted) == 1:
            return wanted[0]
        if wanted:
            raise self._several(
                path, wanted, f" that {str(series)!r} names", of=len(wanted)
            )
        raise self._several(
            path, self.parts, f", and not one of them is {str(series)!r}"
        )

    def _named(self, series: str) -> list[Part]:
        for part in self.parts:
            if series in (part.key, part.short):
                return [part]
        real = [p for p in self.parts if not p.is_odd]
        for parts in (real, self.parts):
            for names in (
                lambda p: (p.first.series_uid,),
                lambda p: (str(p.first.series_number),),
                lambda p: (p.first.series_description, p.title),
            ):
                found = [p for p in parts if series in names(p)]
                if found:
                    return found
        return []

    def _several(
        self, path: str, parts: Sequence[Part], what: str, of: int | None = None
    ) -> SeriesError:
        listing = "".join(
            f"\n  {p.key}{f'  or {p.short}' if p.short else ''}  {p.describe()}"
            for p in parts
        )
        found = {p.key: p.describe() for p in parts}
        return SeriesError(
            f"{path!r} holds {of or len(parts)} series{what}; choose one with "
            f"series=<UID or number>:{listing}",
            found,
        )


def read_study(path: str | Sequence[str]) -> Study:
    """Read the headers of all files below a path, or of a list of files.

    Raises
    ------
    VolumeError
        If there is no DICOM image.
    """
    one = isinstance(path, str)
    files = list_files(Path(path)) if isinstance(path, str) else FileList(list(path))
    headers, skipped = _read(files.paths, forced=one and len(files.paths) == 1)
    skipped = files.skipped + skipped
    if not headers:
        raise _nothing_found(path, skipped)
    headers, copies = _other_copies(headers)
    groups: dict[str, list[Header]] = defaultdict(list)
    for header in headers:
        groups[header.series_uid].append(header)
    parts = [part for group in groups.values() for part in _parts(group)]
    _number(parts)
    _set_labels_aside(parts)
    return Study(parts, skipped + copies)


def _read(paths: Sequence[str], *, forced: bool) -> tuple[list[Header], list[Skipped]]:
    found, skipped = [], []
    for path in paths:
        name = Path(path).name if MEMBER not in path else path.partition(MEMBER)[2]
        named = path.lower().endswith(SUFFIXES)
        if not (named or looks_like_dicom(path)):
            skipped.append((name, NO_DICOM))
            continue
        try:
            found.append(read_header(path, force=True))
        except VolumeError as error:
            skipped.append((name, str(error)))
    return found, skipped


def _nothing_found(path: str | Sequence[str], skipped: list[Skipped]) -> VolumeError:
    from napari_sam.volume.formats.detect import describe_folder

    if not isinstance(path, str):
        return VolumeError(f"not one of these {len(path)} files is a DICOM image")
    where = Path(path)
    if where.is_file() and len(skipped) == 1 and skipped[0][0] == where.name:
        return VolumeError(f"{path!r} is no DICOM image: {skipped[0][1]}")
    telling = [s for s in skipped if s[1] != NO_DICOM] or skipped
    why = "; ".join(f"{name}: {reason}" for name, reason in telling[:3])
    if where.is_file():
        return VolumeError(f"there are no DICOM images in {path!r} ({why})")
    holds = describe_folder(where)
    why = "" if all(r == NO_DICOM for _, r in skipped) else f"; {why}"
    return VolumeError(
        f"there are no DICOM images in {path!r} ({holds}{why}): choose the folder that "
        "holds the series, or open one of the files"
    )


def _other_copies(headers: list[Header]) -> tuple[list[Header], list[Skipped]]:
    """Set files aside that repeat a multi-frame file: those have no single place."""
    kept: dict[Any, Header] = {}
    out, skipped = [], []
    for header in headers:
        if len(header.frames) == 1:
            out.append(header)
            continue
        places = tuple((f.position, f.orientation) for f in header.frames)
        tags = tuple(tuple(sorted(f.tags.items())) for f in header.frames[:1])
        uid = header.frames[0].instance_uid
        key = (header.series_uid, uid, header.size, places, repr(tags))
        if uid and key in kept and _same_bytes(kept[key].path, header.path):
            twin = Path(kept[key].path).name
            skipped.append((Path(header.path).name, f"it is a copy of {twin}"))
        else:
            kept.setdefault(key, header)
            out.append(header)
    return out, skipped


def _same_bytes(a: str, b: str) -> bool:
    from napari_sam.volume.formats.dicom_frames import stored_pixels

    return stored_pixels(a) == stored_pixels(b)


def _parts(headers: Sequence[Header]) -> list[Part]:
    """Split a series by size, colour, direction and kind of value."""
    by_path = {h.path: h for h in headers}
    groups: list[tuple[Any, list[Frame]]] = []
    for header in headers:
        fixed = (header.size, header.is_colour, bool(header.problem))
        for frame in header.frames:
            key = (*fixed, frame.kind, frame.position is None)
            for known, group in groups:
                if known == key and _parallel(frame, group[0]):
                    group.append(frame)
                    break
            else:
                groups.append((key, [frame]))
    stacks = [stack for _, group in groups for stack in _stations(group)]
    parts = [Part({f.path: by_path[f.path] for f in s}, s) for s in stacks]
    good = [p for p in parts if not p.problem]
    main = max(good or parts, key=lambda p: len(p.frames))
    odd = [p for p in parts if p is not main and _is_odd(p, main)]
    if 2 * sum(len(p.frames) for p in odd) > len(main.frames):
        odd = []  # as many as the others: a choice
    odd += [p for p in parts if p.problem and good and p not in odd]
    for part in odd:
        part.is_odd = True
        reason = part.problem or _difference(part, main)
        main.skipped += [(f.label, reason) for f in part.frames]
    return parts


def _plane_name(frame: Frame) -> str:
    if frame.orientation is None or frame.position is None:
        return ""
    o = np.asarray(frame.orientation)
    across = int(np.abs(np.cross(o[:3], o[3:])).argmax())
    return ("sagittal", "coronal", "axial")[across]


def _stations(frames: list[Frame]) -> list[list[Frame]]:
    """Split frames that lie beside each other in one plane, as of a moved table."""
    first = frames[0]
    if first.position is None or first.orientation is None or len(frames) < 2:
        return [frames]
    o = np.asarray(first.orientation).reshape(2, 3)
    places = np.array([f.position for f in frames], float)
    inside, along = places @ o.T, places @ np.cross(*o)
    pixel = max(first.spacing or (1.0, 1.0))
    order = np.argsort(along, kind="stable")
    same = np.diff(along[order]) <= SAME_PLACE_MM
    apart = np.abs(np.diff(inside[order], axis=0)).max(1) > pixel
    if not (same & apart).any():
        return [frames]
    stations: list[tuple[np.ndarray, list[Frame]]] = []
    for frame, here in zip(frames, inside, strict=True):
        for there, group in stations:
            if np.abs(here - there).max() <= pixel:
                group.append(frame)
                break
        else:
            stations.append((here, [frame]))
    if 2 * len(stations) > len(frames):
        return [frames]
    return [group for _, group in stations]


def _parallel(a: Frame, b: Frame) -> bool:
    if a.orientation is None or b.orientation is None:
        return a.orientation is b.orientation
    return bool(np.allclose(a.orientation, b.orientation, atol=1e-3))


def _is_odd(part: Part, main: Part) -> bool:
    few = len(part.frames) * FEW <= len(main.frames)
    return few or (len(part.frames) == 1 < len(main.frames))


def _difference(part: Part, main: Part) -> str:
    ours, theirs = part.first, main.first
    if ours.size != theirs.size:
        (h, w), (rows, columns) = ours.size, theirs.size
        return f"it is {h} x {w}, where the series is {rows} x {columns}"
    if ours.is_colour != theirs.is_colour:
        return "it is colour" if ours.is_colour else "it is not colour like the series"
    if part.frames[0].kind != main.frames[0].kind:
        return f"it is {part.frames[0].kind or 'of another kind'}, unlike the series"
    if part.frames[0].position is None:
        return "it has no place in the patient"
    if _parallel(part.frames[0], main.frames[0]):
        return "it lies beside the series, in the same planes"
    return "it lies at another angle than the series, as scouts do"


def _set_labels_aside(parts: list[Part]) -> None:
    """Leave segmentations out of a study, which are read onto their images."""
    images = [p for p in parts if p.first.modality != "SEG"]
    for part in parts:
        if images and part.first.modality == "SEG":
            part.is_odd = True
            images[0].skipped += [(Path(p).name, LABELS) for p in part.paths]


def _number(parts: list[Part]) -> None:
    """Give every part a key and a short name that are its own."""
    by_uid: dict[str, list[Part]] = defaultdict(list)
    by_number: dict[int, list[Part]] = defaultdict(list)
    for part in parts:
        by_uid[part.first.series_uid].append(part)
        if part.first.series_number is not None:
            by_number[part.first.series_number].append(part)
    for uid, group in by_uid.items():
        group.sort(key=lambda p: p.is_odd)
        for n, part in enumerate(group, 1):
            part.key = uid or "no-uid"
            if len(group) > 1:
                part.key += f":{n}"
    for number, group in by_number.items():
        group.sort(key=lambda p: p.is_odd)
        for n, part in enumerate(group, 1):
            part.short = str(number) if len(group) == 1 else f"{number}:{n}"


def with_frames(part: Part, frames: Iterable[Frame]) -> Part:
    """Return the part with some of its frames only."""
    return replace(part, frames=list(frames))
