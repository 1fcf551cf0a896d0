"""Open a folder of pictures or TIFF slices as one stack."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.errors import NapariSamError, SeriesError, VolumeError, refused_as
from napari_sam.volume.arrays import assemble
from napari_sam.volume.formats.detect import describe_folder, opener_for
from napari_sam.volume.formats.slices import slices_in
from napari_sam.volume.layout import Layout
from napari_sam.volume.lazy_arrays import LazyArray

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_sam.volume.volume import Volume

_KEPT = 8
"""Slices that are kept open."""
_LISTED = 5


def open_stack(
    path: str,
    *,
    axes: Any = None,
    channels: Any = None,
    series: Any = None,
    as_labels: bool = False,
) -> Volume:
    """Open the pictures of a folder as planes of one volume, in their natural order.

    Only the headers are read. Pictures of another size or type than most are left out
    and told.

    Parameters
    ----------
    path : str
        Folder.
    axes, channels
        As in `open_volume`; the stack comes first.
    series : str, optional
        Name of one file to open alone.
    as_labels : bool

    Raises
    ------
    SeriesError
        If the files are no slices of one stack and none was chosen.
    """
    folder = Path(path)
    files = slices_in(folder)
    if series is not None:
        if str(series) not in [f.name for f in files]:
            raise _choice(path, files, f"there is no image {series!r} in {path!r}")
        one = str(folder / str(series))
        return _open(one, axes=axes, channels=channels, as_labels=as_labels)
    if companion := next(folder.glob("*.companion.ome"), None):
        return _open(str(companion), axes=axes, channels=channels)
    if len(files) == 1:
        return _open(str(files[0]), axes=axes, channels=channels, as_labels=as_labels)
    kinds, skipped = _kinds(files)
    if not kinds:
        raise VolumeError(
            f"{path!r} holds no DICOM images and no picture that can be read: "
            f"{describe_folder(folder)}"
        )
    most = max(kinds, key=lambda kind: len(kinds[kind]))
    if len(kinds[most]) < max(2, len(files) / 2):
        raise _choice(path, files, f"{path!r} holds {len(files)} images of many sizes")
    for kind, others in kinds.items():
        if kind != most:
            size = " x ".join(map(str, kind[0]))
            skipped += [f"{f.name} ({size} {kind[1]})" for f in others]
    return _stacked(path, kinds[most], skipped, axes, channels, as_labels)


def _stacked(
    path: str,
    files: list[Path],
    skipped: list[str],
    axes: Any,
    channels: Any,
    as_labels: bool,
) -> Volume:
    first = _open(str(files[0]), as_labels=as_labels)
    if first.metadata.get("tiff_kind") == "ome" and len(first.shape) > 2:
        # One image in several files, which any of them describes.
        return _open(str(files[0]), axes=axes, channels=channels, as_labels=as_labels)
    if len(first.shape) != 2:
        raise _choice(path, files, f"{path!r} holds {len(files)} stacks")
    array = StackArray([str(f) for f in files], first, as_labels)
    names = ["y", "x"]
    if first.channel_axis is not None:
        names.insert(first.channel_axis, "c")
    notes = list(first.metadata.get("notes", ()))
    if skipped:
        more = f" and {len(skipped) - _LISTED} more" if len(skipped) > _LISTED else ""
        notes.append(
            f"{len(skipped)} of its images are no slices like most and were left out: "
            f"{', '.join(skipped[:_LISTED])}{more}"
        )
    layout = Layout(
        axes=("z", *names),
        spacing=dict(zip("yx", first.spacing, strict=True)),
        units=dict(zip("yx", first.units, strict=True)),
        rgb=first.rgb, channel_names=first.channel_names,
    )  # fmt: skip
    kept = {k: v for k, v in first.metadata.items() if k == "nodata"}
    return assemble(
        [array], layout, axes=axes, channels=channels, notes=notes,
        name=Path(path).name, source=path, inverted=first.inverted,
        metadata={**kept, "files": len(files)},
    )  # fmt: skip


def _open(path: str, **options: Any) -> Volume:
    opener: Callable[..., Any] = opener_for(Path(path))
    if opener.__name__ not in ("open_tiff", "open_picture"):
        options.pop("as_labels", None)
    volume: Volume = opener(path, **options)
    return volume


Kind = tuple[tuple[int, ...], str]
"""Size and type of a picture."""


def _kinds(
    files: Sequence[Path],
) -> tuple[dict[Kind, list[Path]], list[str]]:
    """Sort files by size and type, and list those that cannot be read."""
    kinds: dict[Kind, list[Path]] = {}
    broken: list[str] = []
    for file in files:
        try:
            with refused_as(VolumeError, str(file), "copy it again"):
                kind = _kind(file)
        except NapariSamError:
            broken.append(f"{file.name} (cannot be read)")
            continue
        kinds.setdefault(kind, []).append(file)
    return kinds, broken


def _kind(file: Path) -> Kind:
    if file.suffix.lower() in (".tif", ".tiff", ".btf"):
        import tifffile

        with tifffile.TiffFile(file) as tif:
            page = tif.pages[0]
            return tuple(page.shape), f"{page.dtype} {page.photometric.name}"
    from PIL import Image

    with Image.open(file) as image:
        return (image.height, image.width), image.mode


def _choice(path: str, files: Sequence[Path], what: str) -> SeriesError:
    names = {f.name: f"{f.suffix[1:].upper()} file" for f in files}
    listing = "".join(f"\n  {name}" for name in list(names)[:30])
    return SeriesError(f"{what}; choose one with series=...:{listing}", names)


class StackArray(LazyArray):
    """Files of equal size as planes of one array, each opened when it is looked at.

    Parameters
    ----------
    files : list of str
    first : Volume
        The first of them.
    as_labels : bool
    """

    def __init__(self, files: list[str], first: Volume, as_labels: bool) -> None:
        plane = first.levels[0]
        super().__init__((len(files), *plane.shape), plane.dtype)
        self.files, self.as_labels = files, as_labels
        chunks = getattr(plane, "chunks", None) or plane.shape
        self.chunks = (1, *chunks)
        self._open: OrderedDict[int, Any] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, spans: tuple[slice, ...]) -> np.ndarray:
        """Read a block from the files that it meets."""
        numbers = range(*spans[0].indices(self.shape[0]))
        if not numbers:
            return np.empty((0, *(s.stop - s.start for s in spans[1:])), self.dtype)
        return np.stack([np.asarray(self._plane(n)[spans[1:]]) for n in numbers])

    def _plane(self, number: int) -> Any:
        with self._lock:
            if number in self._open:
                self._open.move_to_end(number)
                return self._open[number]
        plane = _open(self.files[number], as_labels=self.as_labels).levels[0]
        if tuple(plane.shape) != self.shape[1:] or plane.dtype != self.dtype:
            raise VolumeError(
                f"{self.files[number]!r} holds {tuple(plane.shape)} {plane.dtype}, "
                f"unlike the other slices with {self.shape[1:]} {self.dtype}: take it "
                "out of the folder"
            )
        with self._lock:
            self._open[number] = plane
            while len(self._open) > _KEPT:
                self._open.popitem(last=False)
        return plane

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict(), "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())
