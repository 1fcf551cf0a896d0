"""Tracks as the Cell Tracking Challenge has them: a mask a frame and a list of tracks.

Ulman et al., "An objective comparison of cell-tracking algorithms", Nature Methods
2017; names and columns as at celltrackingchallenge.net. A line of the list is
``id first last parent``, and an object is in every frame of its line. So one that is
missing for some frames is written as two, the second with the first as its only parent,
and made one again when it is read.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.atomic_files import whole
from napari_sam.errors import ExportError, VolumeError
from napari_sam.results.incoming import incoming_labels
from napari_sam.results.lineages import (
    Stretch,
    frames_of,
    joined,
    named,
    stretches_of,
    tracks_of,
)
from napari_sam.results.renumbered import Renumbered
from napari_sam.results.results import Results
from napari_sam.volume.lazy_arrays import LazyArray

if TYPE_CHECKING:
    from pathlib import Path

    from napari_sam.volume.volume import Volume

_LISTS = {"res_track.txt": "mask", "man_track.txt": "man_track"}
"""Lists of tracks, of results and of truths, and what their masks' names begin with."""


def write(
    path: Path, results: Results, *, truth: bool = False, overwrite: bool = False
) -> list[str]:
    """Write masks and tracks; see `napari_sam.results.registry.write`.

    Parameters
    ----------
    path : Path
        Folder, such as ``01_RES``.
    results : Results
    truth : bool
        Name the files as those of a truth (``man_track.txt``), not of a result.
    overwrite : bool
        Replace a folder that holds such tracks.
    """
    import tifffile

    tracks = tracks_of(results)
    found = stretches_of(tracks)
    top = max((row.id for row in found.rows), default=0)
    if top > 65535:
        raise ExportError(
            f"Cell Tracking Challenge masks hold ids up to 65535; got {top}: write "
            "ome_zarr, ome_tiff or geff"
        )
    listed, start = list(_LISTS.items())[1 if truth else 0]
    labels = frames_of(results.labels)
    digits = 3 if labels.shape[0] <= 1000 else 4
    with whole(path, replace_folder=overwrite and replaceable(path)) as part:
        part.mkdir()
        for t in range(labels.shape[0]):
            frame = named(np.asarray(labels[t]), found.names.get(t, {}))
            tifffile.imwrite(
                part / f"{start}{t:0{digits}d}.tif", frame.astype(np.uint16),
                compression="zlib", photometric="minisblack",
            )  # fmt: skip
        lines = [f"{r.id} {r.first} {r.last} {r.parent}\n" for r in found.rows]
        (part / listed).write_text("".join(lines), encoding="ascii")
    if tracks.merges:
        return [
            f"Cell Tracking Challenge tracks have one parent: {len(tracks.merges)} "
            "merges are not in it"
        ]
    return []


def read(path: Path, volume: Volume) -> Results:
    """Read masks and tracks; see `napari_sam.results.registry.read`."""
    listed = next((n for n in _LISTS if (path / n).is_file()), None)
    if listed is None:
        raise VolumeError(
            f"{str(path)!r} holds no tracks: expected a folder with one of "
            f"{', '.join(_LISTS)}"
        )
    rows = _rows(path / listed)
    masks = _masks(path, _LISTS[listed])
    flat = len(volume.shape) == 2
    count = 1 if flat else volume.shape[0]
    if sorted(masks) != list(range(count)):
        raise VolumeError(
            f"{str(path)!r} has masks of {len(masks)} frames, and the image has "
            f"{count}: expected {_LISTS[listed]}000.tif and so on, one a frame"
        )
    stack = _Masks([masks[t] for t in range(count)])
    labels = incoming_labels(volume, stack.read_frame(0) if flat else stack)
    ids, records = joined(rows)
    if any(new != old for old, new in ids.items()):
        there = {int(i) for t in range(count) for i in np.unique(stack.read_frame(t))}
        labels = Renumbered(labels, {**{i: i for i in there if i}, **ids})
    return Results(labels, volume, records)


def replaceable(path: Path) -> bool:
    """Whether a folder holds nothing but such tracks."""
    ours = re.compile(r"(mask|man_track)(\d+\.tif|\.txt)|res_track\.txt")
    return path.is_dir() and all(ours.fullmatch(p.name) for p in path.iterdir())


def _rows(path: Path) -> list[Stretch]:
    rows = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            i, first, last, parent = (int(v) for v in line.split())
        except ValueError:
            raise VolumeError(
                f"line {number} of {str(path)!r} is {line[:40]!r}: expected id, first "
                "frame, last frame and parent"
            ) from None
        rows.append(Stretch(i, first, last, parent))
    return rows


def _masks(path: Path, start: str) -> dict[int, Path]:
    named = re.compile(rf"{start}_?(\d+)\.tiff?", re.IGNORECASE)
    found = ((named.fullmatch(p.name), p) for p in path.iterdir())
    return {int(match[1]): p for match, p in found if match}


class _Masks(LazyArray):
    """Masks of all frames, read where they are looked at."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths
        first = self.read_frame(0)
        super().__init__((len(paths), *first.shape), first.dtype)

    def read_frame(self, t: int) -> np.ndarray:
        """Read the mask of a frame."""
        import tifffile

        frame: Any = tifffile.imread(self._paths[t])
        return np.asarray(frame)

    def read(self, spans: tuple[slice, ...]) -> np.ndarray:
        """Read a block."""
        frames = []
        for t in range(*spans[0].indices(self.shape[0])):
            frame = self.read_frame(t)
            if frame.shape != self.shape[1:]:
                raise VolumeError(
                    f"{str(self._paths[t])!r} is of shape {frame.shape}, those before "
                    f"of {self.shape[1:]}"
                )
            frames.append(frame[spans[1:]])
        return np.stack(frames)
