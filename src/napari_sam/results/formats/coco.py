"""Objects of a session as COCO JSON: run-length masks, one image a plane."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.atomic_files import write_whole
from napari_sam.core.masks import crop_mask
from napari_sam.core.planes import Plane
from napari_sam.errors import VolumeError
from napari_sam.results.label_objects import iter_objects, iter_planes, paint_object

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from napari_sam.core.masks import Bbox
    from napari_sam.session import Session

_LONGEST_RUN = 2**32 - 1
"""Longest run that COCO's compressed form can hold."""


def write_coco(
    path: str | os.PathLike[str],
    session: Session,
    *,
    axis: int | None = None,
    category: str = "object",
) -> None:
    """Write all objects as COCO annotations with run-length encoded masks.

    Each plane that holds an object becomes an image (`file_name` is the volume's name,
    with the plane's index in a volume), each object on it an annotation. The volume's
    spacing and the object's id, plane and predicted IoU are kept in further keys,
    which COCO readers leave alone.

    Parameters
    ----------
    path : path-like
        ``.json`` file; replaced once the new one is whole.
    session : Session
    axis : int, optional
        Cut the labels along this one of the last three axes; the axis that was
        segmented on when left out.
    category : str
        Name of the one category.

    Raises
    ------
    ExportError
        If the file cannot be written.

    Examples
    --------
    >>> write_coco("cells.json", session)  # doctest: +SKIP
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    volume = session.volume
    for plane in iter_planes(volume.shape, _axis(session) if axis is None else axis):
        found = list(
            _annotations(session, plane, len(images) + 1, len(annotations) + 1)
        )
        if found:
            images.append(_image(session, plane, len(images) + 1))
            annotations += found
    spacing = dict(zip(volume.axes, volume.spacing, strict=True))
    units = dict(zip(volume.axes, volume.units, strict=True))
    text = json.dumps(
        {
            "info": {
                "description": f"Objects in {volume.name}, segmented with napari-sam",
                "model": session.model.spec.name,
                "spacing": spacing,
                "units": units,
            },
            "images": images,
            "annotations": annotations,
            "categories": [{"id": 1, "name": category, "supercategory": ""}],
        }
    )
    write_whole(path, text.encode())


def encode_rle(mask: np.ndarray, bbox: Bbox, shape: tuple[int, int]) -> dict[str, Any]:
    """Run-length encode a mask known inside a box, as COCO does.

    Parameters
    ----------
    mask : ndarray, (y1 - y0, x1 - x0), bool
    bbox : (y0, x0, y1, x1)
        Half-open, within the plane.
    shape : tuple of int
        (height, width) of the plane, which may be of any size: only the box is held.

    Returns
    -------
    dict
        ``{"size": [h, w], "counts": ...}``: COCO's compressed text, or a plain list
        of runs where one is too long for that.

    Examples
    --------
    >>> encode_rle(np.ones((1, 2), bool), (0, 1, 1, 3), (2, 4))
    {'size': [2, 4], 'counts': '21102'}
    """
    from pycocotools import mask as coco

    h, w = shape
    runs = _runs(mask, bbox, h)
    edges = np.concatenate([[0], runs.ravel(), [h * w]])
    counts = np.diff(edges).tolist()
    if counts[-1] == 0:
        counts.pop()
    size = [int(h), int(w)]
    if max(counts) > _LONGEST_RUN:
        return {"size": size, "counts": counts}
    packed = coco.frPyObjects({"size": size, "counts": counts}, h, w)
    return {"size": size, "counts": packed["counts"].decode("ascii")}


def _runs(mask: np.ndarray, bbox: Bbox, height: int) -> np.ndarray:
    """(n, 2) int64: start and end of each run of the mask, counted down columns."""
    y0, x0, _, _ = bbox
    columns = np.pad(mask.T, ((0, 0), (1, 1))).astype(np.int8)
    steps = np.diff(columns, axis=1)
    col, start = np.nonzero(steps == 1)
    _, end = np.nonzero(steps == -1)
    at = (col + x0).astype(np.int64) * height + y0
    runs = np.stack([at + start, at + end], axis=1)
    # A run that ends at a column's foot goes on at the head of the next.
    joined = runs[1:, 0] == runs[:-1, 1]
    starts = runs[np.concatenate([[True], ~joined]), 0] if len(runs) else runs[:, 0]
    ends = runs[np.concatenate([~joined, [True]]), 1] if len(runs) else runs[:, 1]
    return np.stack([starts, ends], axis=1)


def _annotations(
    session: Session, plane: Plane, image_id: int, first_id: int
) -> Iterator[dict[str, Any]]:
    shape = plane.shape(session.volume.shape)
    objects = session.objects
    found = iter_objects(session.labels, plane)
    for number, (object_id, bbox, mask) in enumerate(found, first_id):
        y0, x0, y1, x1 = bbox
        annotation = {
            "id": number,
            "image_id": image_id,
            "category_id": 1,
            "segmentation": encode_rle(mask, bbox, shape),
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "area": int(np.count_nonzero(mask)),
            "iscrowd": 0,
            "object_id": object_id,
        }
        state = objects.get(object_id, {}).get(plane)
        if state is not None and state.chosen < len(state.scores):
            annotation["score"] = round(float(state.scores[state.chosen]), 6)
            annotation["prompts"] = state.prompts.to_json()
        yield annotation


def _image(session: Session, plane: Plane, image_id: int) -> dict[str, Any]:
    h, w = plane.shape(session.volume.shape)
    name = session.volume.name
    if plane.index:
        name += "_" + "_".join(str(i) for i in plane.index)
    return {
        "id": image_id,
        "file_name": name,
        "height": h,
        "width": w,
        "plane": plane.to_json(),
        "source": session.volume.source,
    }


def _axis(session: Session) -> int:
    axes = {plane.axis for states in session.objects.values() for plane in states}
    return axes.pop() if len(axes) == 1 else 0


def read_coco(path: str | os.PathLike[str], session: Session) -> list[int]:
    """Paint the annotations of a COCO file into a session; each can be undone.

    Masks may be run-length encoded or polygons. An annotation that brings no
    ``object_id`` becomes a new object, and one whose image brings no ``plane`` goes to
    plane 0. Pixels of other objects are kept or overwritten as `session.rule` says.

    Parameters
    ----------
    path : path-like
        ``.json`` file, of `write_coco` or another program.
    session : Session

    Returns
    -------
    list of int
        Object ids, in the order of the annotations.

    Raises
    ------
    VolumeError
        If the file is no COCO JSON, or its images have another size than the planes.
    """
    images, annotations = load_coco(path)
    ids = []
    for annotation in annotations:
        image = images[annotation["image_id"]]
        plane = _plane(image, session)
        shape = int(image["height"]), int(image["width"])
        bbox, mask = decode_annotation(annotation, shape)
        object_id = int(annotation.get("object_id") or session.new_object())
        ids.append(object_id)
        if mask.any():
            paint_object(session, plane, bbox, mask, object_id)
    return ids


def load_coco(
    path: str | os.PathLike[str],
) -> tuple[dict[Any, dict[str, Any]], list[dict[str, Any]]]:
    """Read a COCO file: its images by their id, and its annotations.

    Raises
    ------
    VolumeError
        If it is no COCO JSON, or an annotation's image is not listed.
    """
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        images = {image["id"]: image for image in content["images"]}
        annotations = list(content["annotations"])
        known = all(a["image_id"] in images for a in annotations)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VolumeError(f"{str(path)!r} is no COCO JSON file: {error!r}") from error
    if not known:
        raise VolumeError(
            f"{str(path)!r} has annotations of images that it does not list: the file "
            "is not complete"
        )
    return images, annotations


def _plane(image: dict[str, Any], session: Session) -> Plane:
    shape = session.volume.shape
    given = image.get("plane")
    plane = Plane.of(shape, 0 if given is None else Plane.from_json(given))
    size = (int(image["height"]), int(image["width"]))
    if size != plane.shape(shape):
        raise VolumeError(
            f"the COCO image {image.get('file_name')!r} has {size[0]} x {size[1]} "
            f"pixels, but planes of this volume have {plane.shape(shape)}: open the "
            "image that the annotations were made on"
        )
    return plane


def decode_annotation(
    annotation: dict[str, Any], shape: tuple[int, int]
) -> tuple[Bbox, np.ndarray]:
    """Return (bbox, mask cropped to it); nothing of the plane's size is held.

    Raises
    ------
    VolumeError
        If the mask was made for an image of another size.
    """
    segmentation = annotation["segmentation"]
    if isinstance(segmentation, list):
        return _fill_polygons(segmentation, shape)
    if [int(n) for n in segmentation["size"]] != list(shape):
        raise VolumeError(
            f"a COCO mask has size {segmentation['size']} on an image of size "
            f"{list(shape)}: the file is damaged"
        )
    counts = segmentation["counts"]
    runs = np.asarray(_unpack(counts) if isinstance(counts, str) else counts, np.int64)
    edges = np.cumsum(runs)
    pairs = zip(edges[0::2].tolist(), edges[1::2].tolist(), strict=False)
    return _from_runs([(a, b) for a, b in pairs if b > a], shape[0])


def _from_runs(runs: list[tuple[int, int]], h: int) -> tuple[Bbox, np.ndarray]:
    if not runs:
        return (0, 0, 0, 0), np.zeros((0, 0), bool)
    x0, x1 = runs[0][0] // h, (runs[-1][1] - 1) // h + 1
    tall = any(a // h != (b - 1) // h for a, b in runs)
    y0 = 0 if tall else min(a % h for a, _ in runs)
    y1 = h if tall else max((b - 1) % h for _, b in runs) + 1
    columns = np.zeros((x1 - x0, y1 - y0), bool)
    for a, b in runs:
        if tall:
            columns.reshape(-1)[a - x0 * h : b - x0 * h] = True
        else:
            columns[a // h - x0, a % h - y0 : (b - 1) % h + 1 - y0] = True
    (cy0, cx0, cy1, cx1), mask = crop_mask(columns.T)
    return (cy0 + y0, cx0 + x0, cy1 + y0, cx1 + x0), mask


def _unpack(text: str) -> list[int]:
    """Read COCO's compressed counts: 5 bits a character, differences from the third."""
    counts: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return counts


def _fill_polygons(
    polygons: list[list[float]], shape: tuple[int, int]
) -> tuple[Bbox, np.ndarray]:
    from pycocotools import mask as coco

    points = np.concatenate([np.reshape(p, (-1, 2)) for p in polygons])
    x0, y0 = (max(0, int(v) - 1) for v in points.min(0))
    x1, y1 = np.minimum(points.max(0).astype(int) + 2, shape[::-1]).tolist()
    local = [(np.reshape(p, (-1, 2)) - (x0, y0)).ravel().tolist() for p in polygons]
    packed = coco.frPyObjects(local, y1 - y0, x1 - x0)
    (cy0, cx0, cy1, cx1), mask = crop_mask(
        np.asarray(coco.decode(coco.merge(packed)), bool)
    )
    return (cy0 + y0, cx0 + x0, cy1 + y0, cx1 + x0), mask
