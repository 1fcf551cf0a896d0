"""Many images gone through one after another, each with a session of its own."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sam.errors import NapariSamError, SessionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

RESULTS = "napari-sam"
"""Folder beside the images that sessions and exports go to, unless one is named."""
_HEAD = "worklist.json"


@dataclass(frozen=True, slots=True)
class WorkImage:
    """One image of a list."""

    path: Path
    """What `open_volume` opens."""
    name: str
    """Its name in the list, like no other's."""
    session: Path
    """Folder (.nsam) that its session is kept in."""

    @property
    def begun(self) -> bool:
        """Whether there is a session of it."""
        return (self.session / "session.json").is_file()


class Worklist:
    """Images in an order, where one is, and the sessions and exports of each.

    Nothing is opened or written until it is asked for, but the place that was reached:
    a list of the same results folder goes on there.

    Parameters
    ----------
    images : path-like or iterable of path-like
        A folder, whose images come in the order of their names, or the images.
    results : path-like, optional
        Folder for sessions and exports; ``napari-sam`` beside the images when left out.

    Raises
    ------
    VolumeError
        If a folder holds no image.
    SessionError
        If there are no images, or one is missing.

    Examples
    --------
    >>> work = Worklist("wells/")  # doctest: +SKIP
    >>> work.current.name, f"{work.at + 1} of {len(work)}"  # doctest: +SKIP
    ('A1', '1 of 96')
    """

    def __init__(
        self,
        images: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        results: str | os.PathLike[str] | None = None,
    ) -> None:
        paths = _paths(images)
        self.results = Path(results or paths[0].parent / RESULTS).expanduser()
        """Folder of sessions and exports."""
        self.images = tuple(
            WorkImage(path, name, self.results / f"{name}.nsam")
            for path, name in zip(paths, _names(paths), strict=True)
        )
        self.at = self._reached()
        """Which image is at hand, from 0."""

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return (
            f"<Worklist {self.at + 1} of {len(self)}, {self.begun} begun, "
            f"in {str(self.results)!r}>"
        )

    @property
    def current(self) -> WorkImage:
        """The image at hand."""
        return self.images[self.at]

    @property
    def begun(self) -> int:
        """How many images have a session."""
        return sum(one.begun for one in self.images)

    def go(self, index: int) -> WorkImage:
        """Take an image at hand, and note on the disk that it was reached.

        Raises
        ------
        SessionError
            If there is no such image, or the results folder cannot be written; the
            image at hand stays.
        """
        if not 0 <= index < len(self):
            raise SessionError(
                f"there is no image {index + 1}: the list has {len(self)}"
            )
        self._note(index)
        self.at = index
        return self.current

    def export(
        self,
        format: str,  # noqa: A002
        *,
        reviewed_only: bool = False,
        only: Iterable[WorkImage] | None = None,
    ) -> Iterator[tuple[WorkImage, Path, list[str]]]:
        """Write the objects of every image that is begun to a file of its own.

        Parameters
        ----------
        format : str
            Name of a format, such as "coco" (docs/formats.md).
        reviewed_only : bool
            Leave out objects that nobody has accepted.
        only : iterable of WorkImage, optional
            Of these images alone.

        Yields
        ------
        image : WorkImage
        path : Path
            The file, named after the image, in the results folder.
        told : list of str
            What the file cannot hold.

        Raises
        ------
        ExportError
            If the format is unknown, or cannot hold what there is.
        SessionError, VolumeError
            If a session or its image cannot be read.
        """
        from napari_sam.results.registry import FORMATS, format_for
        from napari_sam.session.looking import look_at

        kind = FORMATS[format_for(self.results, format).name]
        for one in self.images if only is None else only:
            if one.begun:
                path = self.results / f"{one.name}{kind.suffixes[0]}"
                session = look_at(one.session, str(one.path))
                try:
                    told = session.export(
                        path, kind.name, reviewed_only=reviewed_only, overwrite=True
                    )
                finally:
                    session.close()
                yield one, path, told

    def _reached(self) -> int:
        try:
            name = json.loads((self.results / _HEAD).read_text())["at"]
        except (OSError, ValueError, KeyError, TypeError):
            return 0
        names = [one.name for one in self.images]
        return names.index(name) if name in names else 0

    def _note(self, index: int) -> None:
        from napari_sam.core.atomic_files import write_whole

        head = {"at": self.images[index].name, "images": [o.name for o in self.images]}
        try:
            self.results.mkdir(parents=True, exist_ok=True)
            write_whole(self.results / _HEAD, json.dumps(head, indent=1).encode())
        except (OSError, NapariSamError) as error:
            raise SessionError(
                f"sessions cannot be kept in {str(self.results)!r} ({error}): name "
                "another results folder"
            ) from error


def _paths(images: Any) -> list[Path]:
    from napari_sam.volume.listing import images_in

    if isinstance(images, (str, os.PathLike)):
        return images_in(images)
    paths = [Path(path).expanduser() for path in images]
    if not paths:
        raise SessionError("a list of no images: name a folder, or some images")
    missing = [p for p in paths if not p.exists()]
    if missing:
        raise SessionError(f"there is no file or folder {str(missing[0])!r}")
    return paths


def _names(paths: list[Path]) -> list[str]:
    """Name each image by its file; the suffix, then a number, where two are alike."""
    from napari_sam.volume.listing import stem_of

    stems = Counter(stem_of(path) for path in paths)
    names = [stem_of(p) if stems[stem_of(p)] == 1 else p.name for p in paths]
    seen: Counter[str] = Counter()
    for i, name in enumerate(names):
        seen[name] += 1
        if seen[name] > 1:
            names[i] = f"{name} {seen[name]}"
    return names
