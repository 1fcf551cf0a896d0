"""Labelled images from wherever they lie: folders, COCO, OME-Zarr, saved sessions."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sam.errors import VolumeError
from napari_sam.results.existing import existing_labels
from napari_sam.training import label_sources
from napari_sam.training.labelled import LabelledVolume, Opening
from napari_sam.volume.formats.detect import SUFFIXES, ZARR_FILES
from napari_sam.volume.listing import stem_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sam.volume.volume import Volume

logger = logging.getLogger(__name__)

FOLDER_PAIRS = (
    ("images", "labels"),
    ("images", "masks"),
    ("image", "label"),
    ("imagesTr", "labelsTr"),
)
"""Names of the two folders that one data set often has."""
LABEL_ENDINGS = (
    "_masks", "_mask", "_labels", "_label", "_seg", "_segmentation", "_gt",
)  # fmt: skip
"""What the name of a label image may have after that of its image."""
IMAGE_ENDINGS = ("_0000", "_img", "_image")
"""What the name of an image may have after that of its labels."""


def read_labelled(
    images: Any,
    labels: Any = None,
    *,
    axes: str | Sequence[str] | None = None,
    channels: int | Sequence[int] | None = None,
) -> list[LabelledVolume]:
    """Open labelled images; nothing of image size is read.

    Parameters
    ----------
    images : path, URL, array-like, Volume, Session, or a list of these
        With `labels`: a folder of images, one image, an array or a list of these.
        Without: a COCO ``.json``, an OME-Zarr that holds labels, a saved session
        ``.nsam`` (or an open one), a folder with the two folders ``images`` and
        ``labels``, or a folder of any of these, which are the data sets then.
    labels : same kinds, optional
        Of two folders, files are paired by their names; ``a_mask.png`` and
        ``a_labels.tif`` are labels of ``a.png`` too. A COCO ``.json`` or a session
        fits images in a folder.
    axes, channels : optional
        Of every image, as `open_volume` takes them.

    Returns
    -------
    list of LabelledVolume
        At least one, in the order of the names.

    Raises
    ------
    VolumeError
        If something is missing, cannot be opened, or sizes differ.

    Examples
    --------
    >>> from napari_sam.testing import phantom_image
    >>> cells = phantom_image((64, 96), n_objects=2)
    >>> (found,) = read_labelled(cells.image, cells.labels)
    >>> [len(found.objects(plane)) for plane, _ in found.planes()]
    [2]
    """
    return _read(images, labels, Opening(axes, channels))


def _read(images: Any, labels: Any, how: Opening) -> list[LabelledVolume]:
    if isinstance(images, LabelledVolume):
        how.refuse(f"the opened image {images.name!r}")
        return [images]
    if isinstance(images, (list, tuple)):
        return _read_list(images, labels, how)
    if isinstance(images, (str, os.PathLike)) and not _is_url(images):
        found = _read_path(Path(images).expanduser(), labels, how)
    elif labels is None:
        found = _read_whole(images, how)
    else:
        found = [_pair(how.volume(images), labels)]
    return found


def those_named(
    volumes: Sequence[LabelledVolume], patterns: Sequence[str]
) -> list[LabelledVolume]:
    """Keep the volumes whose data set or name fits one of the patterns.

    Parameters
    ----------
    volumes : sequence of LabelledVolume
    patterns : sequence of str
        As on a command line, such as "ct" or "mr/case_1*"; none: all volumes.

    Raises
    ------
    VolumeError
        If a pattern fits nothing.
    """
    if not patterns:
        return list(volumes)
    for pattern in patterns:
        if not any(_fits(one, pattern) for one in volumes):
            names = sorted({one.group or one.name for one in volumes})
            more = ", ..." if len(names) > 12 else ""
            raise VolumeError(
                f"no image or data set is named {pattern!r}; there are "
                f"{', '.join(names[:12])}{more}"
            )
    return [one for one in volumes if any(_fits(one, p) for p in patterns)]


def _fits(one: LabelledVolume, pattern: str) -> bool:
    return fnmatchcase(one.name, pattern) or fnmatchcase(one.group, pattern)


def _read_list(
    images: Sequence[Any], labels: Any, how: Opening
) -> list[LabelledVolume]:
    if labels is None:
        out = [one for item in images for one in _read(item, None, how)]
    else:
        if not isinstance(labels, (list, tuple)) or len(labels) != len(images):
            count = len(labels) if isinstance(labels, (list, tuple)) else 1
            raise VolumeError(
                f"a list of {len(images)} images needs a list of as many labels; got "
                f"{count}"
            )
        pairs = zip(images, labels, strict=True)
        out = [one for pair in pairs for one in _read(*pair, how)]
    if not out:
        raise VolumeError("the list of images is empty: give at least one")
    names = [one.name for one in out]
    return [
        replace(one, name=f"{one.name} {i}") if names.count(one.name) > 1 else one
        for i, one in enumerate(out)
    ]


def _read_path(path: Path, labels: Any, how: Opening) -> list[LabelledVolume]:
    if not path.exists():
        raise VolumeError(f"there is no file or folder {str(path)!r}: check the path")
    if labels is None:
        return _read_whole(path, how)
    if not isinstance(labels, (str, os.PathLike)) or _is_url(labels):
        return [_pair(how.volume(path), labels)]
    beside = Path(labels).expanduser()
    if not beside.exists():
        raise VolumeError(f"there is no file or folder {str(beside)!r} of labels")
    if beside.suffix.lower() == ".json":
        return label_sources.read_coco_images(beside, path, how=how)
    if (beside / "session.json").is_file():
        how.refuse(f"the session {beside.name!r}")
        return [label_sources.read_session(beside, path)]
    if _is_folder_of_images(path) and _is_folder_of_images(beside):
        return _pair_folders(path, beside, how)
    return [_pair(how.volume(path), beside)]


def _read_whole(source: Any, how: Opening) -> list[LabelledVolume]:
    """Read what brings its labels along."""
    if hasattr(source, "volume") and hasattr(source, "labels"):
        how.refuse("a session")
        return [LabelledVolume(source.volume.name, source.volume, source.labels)]
    if _is_url(source):
        return label_sources.read_ome_zarr(str(source), how)
    if not isinstance(source, Path):
        raise VolumeError(
            "these images bring no labels: pass the labels too. Without them, "
            "read_labelled takes a COCO .json, an OME-Zarr with labels, a session, or "
            f"a folder with images/ and labels/; got {type(source).__name__}"
        )
    if source.suffix.lower() == ".json":
        return label_sources.read_coco_images(source, how=how)
    if (source / "session.json").is_file():
        how.refuse(f"the session {source.name!r}")
        return [label_sources.read_session(source)]
    if _is_zarr(source) or source.suffix.lower() == ".zip":
        return label_sources.read_ome_zarr(str(source), how)
    if source.is_dir():
        return _read_folder(source, how)
    raise VolumeError(
        f"{str(source)!r} brings no labels: pass its label image too (labels=...)"
    )


def _read_folder(folder: Path, how: Opening) -> list[LabelledVolume]:
    """Read a folder of both, a data set in two folders, or a folder of data sets."""
    for images, labels in FOLDER_PAIRS:
        if (folder / images).is_dir() and (folder / labels).is_dir():
            return _pair_folders(folder / images, folder / labels, how)
    out: list[LabelledVolume] = []
    for entry in sorted(folder.iterdir()):
        if _brings_labels(entry):
            for one in _read_whole(entry, how):
                name = one.name if _is_one(entry) else f"{entry.name}/{one.name}"
                group = one.group if _is_one(entry) else entry.name
                out.append(replace(one, name=name, group=group))
    if not out:
        out = _pair_folders(folder, folder, how)
    return out


def _brings_labels(entry: Path) -> bool:
    if entry.name.startswith("."):
        return False
    if (entry / "session.json").is_file() or (_is_zarr(entry) and _has_labels(entry)):
        return True
    return any(all((entry / n).is_dir() for n in names) for names in FOLDER_PAIRS)


def _is_one(entry: Path) -> bool:
    return (entry / "session.json").is_file() or _is_zarr(entry)


def _has_labels(entry: Path) -> bool:
    return (entry / "labels").is_dir()


def _pair_folders(images: Path, labels: Path, how: Opening) -> list[LabelledVolume]:
    masks = {stem_of(p): p for p in _entries(labels)}
    out: list[LabelledVolume] = []
    alone = []
    for path in _entries(images):
        match = _labels_of(stem_of(path), masks)
        if match is None or match == path:
            alone.append(path)
            continue
        found = replace(_pair(how.volume(path), match), name=stem_of(path))
        out.append(found)
    if alone and not out and images == labels:
        raise VolumeError(
            f"there are no labels in {str(images)!r}: say where they are with labels=, "
            f"or give images a_masks beside them; there are {_examples(alone)}"
        )
    if not out:
        raise VolumeError(
            f"no image in {str(images)!r} has labels of the same name in "
            f"{str(labels)!r}: there are {_examples(_entries(images))} and "
            f"{_examples(_entries(labels))}"
        )
    if alone and images != labels:
        logger.warning(
            "%d image(s) have no labels and are left out: %s",
            len(alone), _examples(alone),
        )  # fmt: skip
    return out


def _labels_of(stem: str, masks: dict[str, Path]) -> Path | None:
    bare = [stem.removesuffix(e) for e in IMAGE_ENDINGS if stem.endswith(e)]
    for name in (stem, *bare):
        for ending in (*LABEL_ENDINGS, ""):
            if name + ending in masks:
                return masks[name + ending]
    return None


def _entries(folder: Path) -> list[Path]:
    """Images in a folder: files of a known format, zarrs and DICOM folders."""
    out = []
    for path in sorted(folder.iterdir()):
        known = path.name.lower().endswith(tuple(SUFFIXES))
        if path.is_dir():
            known = path.suffix not in (".nsam", ".nsam-emb")
        if known and not path.name.startswith("."):
            out.append(path)
    return out


def _is_folder_of_images(path: Path) -> bool:
    return path.is_dir() and not _is_zarr(path)


def _is_zarr(path: Path) -> bool:
    return path.is_dir() and any((path / name).exists() for name in ZARR_FILES)


def _is_url(source: Any) -> bool:
    return isinstance(source, (str, os.PathLike)) and "://" in os.fspath(source)


def _pair(volume: Volume, labels: Any) -> LabelledVolume:
    if isinstance(labels, os.PathLike):
        labels = os.fspath(labels)
    return LabelledVolume(volume.name, volume, existing_labels(volume, labels))


def _examples(paths: Sequence[Path]) -> str:
    names = [p.name for p in paths]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more if names else "no images"
