"""What a path holds before it is opened: one value for each series or image in it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.planes import count_planes, plane_at
from napari_sam.core.tiles import Window
from napari_sam.errors import NapariSamError, SeriesError, SpacingError, VolumeError
from napari_sam.volume.opening import open_volume, reopen

if TYPE_CHECKING:
    from napari_sam.volume.formats.dicom_series import Part, Study
    from napari_sam.volume.volume import Volume


@dataclass(frozen=True, slots=True)
class SeriesInfo:
    """One series of a study, or one image of a file, that `open_volume` can open.

    Examples
    --------
    >>> import tempfile, tifffile
    >>> path = tempfile.mkdtemp() + "/cells.tif"
    >>> tifffile.imwrite(path, np.zeros((64, 48), np.uint8))
    >>> [info] = list_series(path)
    >>> info.shape, info.thumbnail(32).shape
    ((64, 48), (32, 24, 3))
    """

    source: Any
    """What `list_series` was given."""
    key: str | None
    """What ``open_volume(series=...)`` takes; None where there is only one image."""
    short: str = ""
    """A shorter key, such as a DICOM series number; "" where there is none."""
    description: str = ""
    number: int | None = None
    """DICOM's SeriesNumber."""
    uid: str | None = None
    """DICOM's SeriesInstanceUID."""
    modality: str = ""
    axes: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    spacing: tuple[float, ...] = ()
    units: tuple[str, ...] = ()
    n_files: int = 1
    problem: str = ""
    """Why it cannot be opened; "" where it can."""
    uneven: str = ""
    """What is uneven about its slices, for which `open_volume` wants ``spacing=``."""
    is_odd: bool = False
    """Whether it is a scout or the like, left out when its series is opened."""
    skipped: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """(file, reason) of what is left out of it."""
    volume: Volume | None = field(default=None, repr=False, compare=False)
    """The opened volume, of which no pixels were read; None where it has a problem."""

    def open(self, **options: Any) -> Volume:
        """Open it; uneven slices are resampled unless `spacing` says otherwise.

        Parameters
        ----------
        **options
            As for `open_volume`.

        Raises
        ------
        VolumeError
        """
        if self.volume is not None and not options:
            return self.volume
        if self.uneven:
            options.setdefault("spacing", "resample")
        if self.key is not None:
            options["series"] = self.key
        return open_volume(self.source, **options)

    def thumbnail(self, side: int = 128) -> np.ndarray:
        """Return its middle plane as the model sees it, small.

        Parameters
        ----------
        side : int
            Pixels of the longer side, at most.

        Returns
        -------
        ndarray, (h, w, 3), uint8

        Raises
        ------
        VolumeError
            If it cannot be opened or decoded.
        """
        return thumbnail(self.open(), side)


@dataclass(frozen=True, slots=True)
class Contents:
    """All that a path holds."""

    series: tuple[SeriesInfo, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    """(file, reason) of what belongs to none of them."""
    kind: str = ""
    """Name of the format's reader."""


def list_series(source: Any) -> list[SeriesInfo]:
    """List the series or images of a path, a URL, or a list of DICOM files.

    Headers are read, no pixels. What cannot be opened is listed with its `problem`.

    Raises
    ------
    VolumeError
        If there is no image at all.
    """
    return list(read_contents(source).series)


def read_contents(source: Any) -> Contents:
    """List the series of a source, and what belongs to none of them.

    Raises
    ------
    VolumeError
        If there is no image at all.
    """
    if _is_dicom(source):
        return _read_dicom(source)
    try:
        return Contents((describe(open_volume(source), source, None),))
    except SeriesError as error:
        if not error.series:
            raise
        found = (_listed(source, key, text) for key, text in error.series.items())
        return Contents(tuple(found))


def _is_dicom(source: Any) -> bool:
    if isinstance(source, (list, tuple)):
        return len(source) > 1
    if "://" in os.fspath(source) or not Path(source).expanduser().exists():
        return False
    from napari_sam.volume.formats.detect import opener_for

    opener = opener_for(Path(source).expanduser().absolute())
    return opener.__name__ == "open_dicom"


def _read_dicom(source: Any) -> Contents:
    from napari_sam.volume.formats.dicom_series import read_study

    path = _paths(source)
    study = read_study(path)
    found = tuple(_list_part(part, study, path) for part in study.parts)
    return Contents(found, tuple(study.skipped), "DICOM")


def _paths(source: Any) -> str | list[str]:
    if isinstance(source, (list, tuple)):
        return [os.fspath(Path(p).expanduser().absolute()) for p in source]
    return os.fspath(Path(source).expanduser().absolute())


def _list_part(part: Part, study: Study, path: str | list[str]) -> SeriesInfo:
    first = part.first
    known: dict[str, Any] = {
        "short": part.short, "number": first.series_number, "uid": first.series_uid,
        "modality": first.modality, "n_files": len(part.paths), "is_odd": part.is_odd,
    }  # fmt: skip
    volume, uneven, problem = _open_part(part, study, path)
    if volume is None:
        return SeriesInfo(
            path, part.key, description=part.title, problem=problem,
            shape=(len(part.frames), *first.size), axes=("z", "y", "x"), **known,
        )  # fmt: skip
    own = tuple(volume.metadata["skipped"])
    volume.metadata["skipped"] += study.skipped
    info = describe(volume, path, part.key, part.title, uneven=uneven, **known)
    return replace(info, skipped=own)


def _open_part(
    part: Part, study: Study, path: str | list[str]
) -> tuple[Volume | None, str, str]:
    """Open a part: (volume, what is uneven about it, why it cannot be opened)."""
    from napari_sam.volume.formats.dicom import open_part

    if part.problem:
        return None, "", part.problem
    where = path if isinstance(path, str) else str(Path(path[0]).parent)
    uneven = problem = ""
    for spacing in (None, "resample", "positions"):
        try:
            opened = open_part(
                part, study.name_of(part, where), where,
                axes=None, channels=None, spacing=spacing,
            )  # fmt: skip
        except SpacingError as error:
            uneven = str(error)
        except VolumeError as error:
            problem = str(error)
        else:
            recipe = {
                "source": path, "axes": None, "channels": None, "series": part.key,
                **({} if spacing is None else {"spacing": spacing}),
            }  # fmt: skip
            return replace(opened, recipe=recipe, reopen=reopen), uneven, ""
        if not uneven:
            break
    return None, uneven, problem


def _listed(source: Any, key: str, text: str) -> SeriesInfo:
    try:
        return describe(open_volume(source, series=key), source, key, text)
    except NapariSamError as error:
        return SeriesInfo(source, key, description=text, problem=str(error))


def describe(
    volume: Volume, source: Any, key: str | None, text: str = "", **fields: Any
) -> SeriesInfo:
    """Return what is known of an opened volume as a `SeriesInfo`."""
    return SeriesInfo(
        source=source, key=key, description=text or volume.name,
        axes=volume.axes, shape=volume.shape, spacing=volume.spacing,
        units=volume.units,
        skipped=tuple(volume.metadata.get("skipped", ())),
        volume=volume, **fields,
    )  # fmt: skip


def thumbnail(volume: Volume, side: int) -> np.ndarray:
    """Return the middle plane of a volume as the model sees it, (h, w, 3) uint8."""
    plane = plane_at(volume.shape, count_planes(volume.shape) // 2)
    size = plane.shape(volume.shape)
    level = max(0, int(np.log2(max(max(size) / side, 1))))
    scale = 2**level
    h, w = (-(-n // scale) for n in size)
    pixels = volume.read(plane, Window(level, 0, 0, h, w))
    small = volume.intensity.apply(pixels)
    spacing = volume.spacing[-2:]
    tall, wide = h * spacing[0], w * spacing[1]
    zoom = side / max(tall, wide)
    rows, columns = (max(1, round(n * zoom)) for n in (tall, wide))
    at_y = np.minimum((np.arange(rows) + 0.5) * h / rows, h - 1).astype(int)
    at_x = np.minimum((np.arange(columns) + 0.5) * w / columns, w - 1).astype(int)
    return np.asarray(small[at_y][:, at_x])
