"""Labelled images from what holds both: COCO files, OME-Zarr images, saved sessions."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.intensity import IntensityMapping
from napari_sam.core.planes import Plane
from napari_sam.errors import SeriesError, SessionError, VolumeError, refused_as
from napari_sam.results.existing import existing_labels
from napari_sam.results.label_arrays import new_labels
from napari_sam.results.painting import id_of
from napari_sam.training.labelled import LabelledVolume, Opening
from napari_sam.volume.lazy_arrays import LazyArray
from napari_sam.volume.listing import stem_of
from napari_sam.volume.opening import open_volume

if TYPE_CHECKING:
    from napari_sam.volume.volume import Volume


def read_ome_zarr(path: str, how: Opening | None = None) -> list[LabelledVolume]:
    """Open an OME-Zarr image with each label image of its ``labels`` group.

    Raises
    ------
    VolumeError
        If it holds none, or their size is not the image's.
    """
    volume = (how or Opening()).volume(path)
    try:
        found = {volume.name: open_volume(path, series="labels")}
    except SeriesError as error:
        found = {}
        for key in error.series:
            # Without a labels group the images beside it are listed instead.
            with suppress(SeriesError):
                one = open_volume(path, series=f"labels/{key}")
                found[f"{volume.name}/{key}"] = one
    if not found:
        raise VolumeError(
            f"{path!r} holds no labels: expected a group labels/ with a label image. "
            "Pass labels that lie elsewhere as labels=..."
        )
    return [
        LabelledVolume(name, volume, existing_labels(volume, one))
        for name, one in found.items()
    ]


def read_session(path: Path, image: Path | None = None) -> LabelledVolume:
    """Open a saved session's image and its labels as they were last; changes nothing.

    Parameters
    ----------
    path : Path
        ``name.nsam`` folder.
    image : Path, optional
        The image, or the folder that it lies in now, where it was moved.

    Raises
    ------
    SessionError
        If the session cannot be read, or its image was an array in memory.
    VolumeError
        If the image cannot be opened or is another one.
    """
    from napari_sam.session.storage import saved_session

    head, document = saved_session(path)
    volume = _session_image(head, path, image)
    volume = replace(volume, mapping=IntensityMapping.from_json(head["intensity"]))
    labels = document.labels
    if tuple(labels.shape) != volume.shape:
        raise VolumeError(
            f"the session {path.name!r} belongs to an image of shape "
            f"{tuple(labels.shape)}; {volume.name!r} has {volume.shape}"
        )
    return LabelledVolume(stem_of(path), volume, labels)


def _session_image(head: dict[str, Any], path: Path, image: Path | None) -> Volume:
    source = head["volume"]["source"]
    if image is None and source is None:
        raise SessionError(
            f"the session {path.name!r} was made from an array in memory: pass the "
            "image too, and the session as its labels"
        )
    recipe = head["volume"].get("recipe") or {}
    if image is not None:
        inside = image / Path(source).name if source else image
        source = inside if inside.exists() else image
    elif isinstance(recipe.get("source"), list):
        source = recipe["source"]  # some files of a folder, not all of it
    return open_volume(**{**recipe, "source": source})


def read_coco_images(
    path: Path, folder: Path | None = None, *, how: Opening | None = None
) -> list[LabelledVolume]:
    """Open the images of a COCO file with its annotations as labels.

    Annotations marked ``iscrowd`` are left out. Where two overlap, the later one lies
    on top.

    Parameters
    ----------
    path : Path
    folder : Path, optional
        Where the images lie; the file's own folder, or ``images`` in it, else.
    how : Opening, optional
        Axes and channels of the images.

    Raises
    ------
    VolumeError
        If the file is no COCO JSON, or an image is missing or of another size.
    """
    from napari_sam.results.formats.coco import load_coco

    images, annotations = load_coco(path)
    by_image: dict[Any, list[dict[str, Any]]] = {}
    for annotation in annotations:
        if not annotation.get("iscrowd"):
            by_image.setdefault(annotation["image_id"], []).append(annotation)
    volumes: dict[Path | str, Volume] = {}
    parts: dict[Path | str, list[_Part]] = {}
    for image_id, found in by_image.items():
        image = images[image_id]
        place = _find_image(image, path, folder)
        volume = volumes.setdefault(place, (how or Opening()).volume(place))
        parts.setdefault(place, []).append(_Part(image, volume, found))
    if not parts:
        raise VolumeError(f"{str(path)!r} marks no object: there are no annotations")
    return [
        LabelledVolume(stem_of(Path(v.source or v.name)), v, CocoLabels(v, parts[p]))
        for p, v in volumes.items()
    ]


def _find_image(image: dict[str, Any], path: Path, folder: Path | None) -> Path | str:
    name, source = str(image.get("file_name", "")), str(image.get("source") or "")
    folders = [path.parent, path.parent / "images"] if folder is None else [folder]
    if folder is not None and not folder.is_dir():
        return folder
    for place in folders:
        for given in (name, source and Path(source).name, Path(name).name):
            if given and (place / given).exists():
                return place / given
    if source and ("://" in source or Path(source).exists()):
        return str(source)
    where = " or ".join(repr(str(f)) for f in folders)
    raise VolumeError(
        f"the COCO image {name!r} of {path.name!r} is not in {where}: pass the folder "
        "that holds the images, and the COCO file as their labels"
    )


class _Part:
    """Annotations of one plane."""

    def __init__(
        self, image: dict[str, Any], volume: Volume, annotations: list[dict[str, Any]]
    ) -> None:
        from napari_sam.results.formats.coco import check_size, named_plane

        what = f"the image {image.get('file_name')!r} of a COCO file cannot be placed"
        with refused_as(VolumeError, what, "check the file"):
            named = named_plane(image, volume)
        self.plane = named or Plane.of(volume.shape, 0)
        self.annotations = annotations
        self.shape = self.plane.shape(volume.shape)
        check_size(image, self.shape)


class CocoLabels(LazyArray):
    """Annotations painted as labels, when they are first looked at."""

    def __init__(self, volume: Volume, parts: list[_Part]) -> None:
        self._parts = parts
        self._pixels: Any = None
        ids = [self._id(a, 0) for p in parts for a in p.annotations]
        # Without ids of their own, objects are numbered through.
        self._numbered = min(ids, default=0) == 0
        top = sum(len(p.annotations) for p in parts) if self._numbered else max(ids)
        super().__init__(volume.shape, np.uint16 if top < 2**16 else np.uint32)

    def read(self, spans: tuple[slice, ...]) -> np.ndarray:
        """Read a block."""
        if self._pixels is None:
            self._pixels = self._painted()
        return np.asarray(self._pixels[spans])

    def __copy__(self) -> CocoLabels:
        out: CocoLabels = CocoLabels.__new__(CocoLabels)
        out.__dict__.update(self.__dict__, _pixels=None)
        return out

    def _painted(self) -> Any:
        from napari_sam.results.formats.coco import decode_annotation

        out, number = new_labels(self.shape, self.dtype), 0
        for part in self._parts:
            for annotation in part.annotations:
                number += 1
                what = f"annotation {annotation.get('id')} of a COCO file is damaged"
                with refused_as(VolumeError, what, "check the file"):
                    bbox, mask = decode_annotation(annotation, part.shape)
                if mask.any():
                    where = part.plane.window(bbox)
                    place = np.asarray(out[where])
                    name = number if self._numbered else self._id(annotation, number)
                    place[mask] = name
                    out[where] = place
        return out

    @staticmethod
    def _id(annotation: dict[str, Any], number: int) -> int:
        return id_of(annotation.get("object_id")) or number
