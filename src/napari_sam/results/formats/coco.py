"""Objects as COCO JSON: run-length masks or polygons, one image a plane."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.atomic_files import write_whole
from napari_sam.core.planes import Plane, count_planes, plane_at
from napari_sam.errors import VolumeError, refused_as
from napari_sam.results import rle
from napari_sam.results.label_objects import FoundObject, find_objects
from napari_sam.results.outlines import outline
from napari_sam.results.painting import Painter, id_of
from napari_sam.results.records import (
    RecordReader,
    object_properties,
    plane_properties,
)

if TYPE_CHECKING:
    import os

    from napari_sam.core.masks import Bbox
    from napari_sam.results.results import Results
    from napari_sam.volume.volume import Volume

_UNCLASSIFIED = "object"
"""Name of the category of objects without a class."""


def recognises(content: Any) -> bool:
    """Whether parsed JSON is of this format."""
    return isinstance(content, dict) and {"images", "annotations"} <= set(content)


def write(path: Path, results: Results, *, polygons: bool = False) -> list[str]:
    """Write the objects; see `napari_sam.results.registry.write`.

    Each plane that holds an object becomes an image, each object on it an annotation,
    each class a category. What is known of objects, planes and pixel sizes is kept in
    further keys, which other readers leave alone.

    Parameters
    ----------
    path : Path
    results : Results
    polygons : bool
        Write polygons rather than run lengths, where they hold the same pixels: COCO
        has no polygons with holes.
    """
    planes: dict[Plane, int] = {}
    annotations: list[dict[str, Any]] = []
    categories = _categories(results)
    seen: dict[int, None] = {}
    for found in find_objects(results.labels, _axis(results)):
        image_id = planes.setdefault(found.plane, len(planes) + 1)
        seen[found.id] = None
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": image_id,
                "category_id": categories[results.record(found.id).class_name]["id"],
                **_annotation(results, found, polygons=polygons),
            }
        )
    volume = results.volume
    content = {
        "info": {
            "description": f"Objects in {volume.name}, segmented with napari-sam",
            "spacing": dict(zip(volume.axes, volume.spacing, strict=True)),
            "units": dict(zip(volume.axes, volume.units, strict=True)),
            **results.provenance,
        },
        "images": [_image(results, plane, i) for plane, i in planes.items()],
        "annotations": annotations,
        "categories": list(categories.values()),
        "objects": [
            object_properties(results.record(i), results.classes) for i in sorted(seen)
        ],
    }
    write_whole(path, json.dumps(content).encode())
    return []


def _categories(results: Results) -> dict[str | None, dict[str, Any]]:
    """Category of each class, and of objects without one."""
    named = [c.name for c in results.classes.classes]
    used = {o.class_name for o in results.objects.values() if o.class_name}
    out: dict[str | None, dict[str, Any]] = {}
    for name in [*named, *sorted(used - set(named))]:
        known = results.classes.get(name)
        out[name] = {"id": len(out) + 1, "name": name, "supercategory": ""}
        if known and known.color:
            out[name]["color"] = known.color
        if known and known.codes:
            out[name]["codes"] = dict(known.codes)
    out[None] = {
        "id": len(out) + 1, "name": _UNCLASSIFIED, "supercategory": "",
        "unclassified": True,
    }  # fmt: skip
    return out


def _annotation(
    results: Results, found: FoundObject, *, polygons: bool
) -> dict[str, Any]:
    shape = found.plane.shape(results.volume.shape)
    y0, x0, y1, x1 = found.bbox
    properties = plane_properties(results.record(found.id).planes.get(found.plane))
    score = properties.pop("predicted_iou", None)
    return {
        "segmentation": (_polygons(found, shape) if polygons else None)
        or rle.encode(found.mask, found.bbox, shape),
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": int(np.count_nonzero(found.mask)),
        "iscrowd": 0,
        "object_id": found.id,
        **({} if score is None else {"score": score}),
        **properties,
    }


def _polygons(found: FoundObject, shape: tuple[int, int]) -> list[list[float]] | None:
    """Polygons that give exactly this mask, or None where none do."""
    parts = outline(found.mask, found.bbox[:2])
    if any(len(part) > 1 for part in parts):
        return None
    flat = [part[0][:, ::-1].ravel().tolist() for part in parts]
    bbox, mask = rle.fill_polygons(flat, shape)
    same = bbox == found.bbox and np.array_equal(mask, found.mask)
    return flat if same else None


def _image(results: Results, plane: Plane, image_id: int) -> dict[str, Any]:
    volume = results.volume
    h, w = plane.shape(volume.shape)
    name = volume.name
    if plane.index:
        name += "_" + "_".join(str(i) for i in plane.index)
    elif volume.source:
        name = _last_part(volume.source)
    return {
        "id": image_id,
        "file_name": name,
        "height": h,
        "width": w,
        "plane": plane.to_json(),
        "source": volume.source,
    }


def _last_part(source: str) -> str:
    return source.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1]


def _axis(results: Results) -> int:
    """Axis that the objects were segmented on, where it is one; z otherwise."""
    axes = {plane.axis for r in results.objects.values() for plane in r.planes}
    return axes.pop() if len(axes) == 1 else 0


def read(path: Path, volume: Volume, *, boxes: bool = False) -> Results:
    """Read the objects; see `napari_sam.results.registry.read`.

    An image is the plane that it names, the one whose file name is the volume's, or,
    where there are as many images as planes, the one of the same number. Annotations
    without ``object_id`` are numbered through.

    Parameters
    ----------
    path : Path
    volume : Volume
    boxes : bool
        Take the box of an annotation that has no mask as its mask, rather than refuse
        the file.
    """
    images, annotations, categories, objects = _load(path)
    planes, notes = _planes(path, images, volume)
    painter, records = Painter(volume), RecordReader()
    for category in categories.values():
        _add_class(records, category)
    painter.reserve({i for a in annotations if (i := id_of(a.get("object_id")))})
    outside = crowds = 0
    for annotation in annotations:
        plane = planes.get(annotation["image_id"])
        if plane is None:
            continue
        if annotation.get("iscrowd"):
            crowds += 1
            continue
        bbox, mask = decode_annotation(
            annotation, plane.shape(volume.shape), boxes=boxes
        )
        if not mask.any():
            outside += 1
            continue
        given = annotation.get("object_id")
        object_id = id_of(given) or painter.number()
        painter.paint(plane, bbox, mask, object_id)
        whole = objects.get(object_id, {})
        named = (
            {"name": given} if isinstance(given, str) and id_of(given) is None else {}
        )
        category = categories.get(annotation.get("category_id"), {})
        records.add(object_id, plane, {
            **named, **whole, **_known(annotation), "class": _class_of(category),
        })  # fmt: skip
    if crowds:
        notes.append(f"{crowds} annotations are crowds, not objects: left out")
    if outside:
        notes.append(f"{outside} annotations hold no pixel of the image: left out")
    return painter.results(volume, records, notes)


def _known(annotation: dict[str, Any]) -> dict[str, Any]:
    kept = ("origin", "doubt", "reviewed", "prompts")
    found = {k: annotation[k] for k in kept if k in annotation}
    return {**found, "predicted_iou": annotation.get("score")}


def _class_of(category: dict[str, Any]) -> str | None:
    name = category.get("name")
    return None if category.get("unclassified") or name is None else str(name)


def _add_class(records: RecordReader, category: dict[str, Any]) -> None:
    if name := _class_of(category):
        records.add_class(name, category.get("color"), category.get("codes"))


def _load(
    path: Path,
) -> tuple[
    dict[Any, dict[str, Any]],
    list[dict[str, Any]],
    dict[Any, dict[str, Any]],
    dict[int, dict[str, Any]],
]:
    """Images, annotations, categories and records of a file, by their ids."""
    content = _json(path)
    images = _by_id(path, content, "images")
    annotations = content["annotations"]
    if not all(
        isinstance(a, dict) and a.get("image_id") in images for a in annotations
    ):
        raise VolumeError(
            f"{str(path)!r} has annotations of images that it does not list: the file "
            "is not complete"
        )
    categories = _by_id(path, content, "categories")
    records = content.get("objects")
    objects = {
        i: r
        for r in (records if isinstance(records, list) else [])
        if isinstance(r, dict) and (i := id_of(r.get("object_id")))
    }
    return images, annotations, categories, objects


def _json(path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise VolumeError(f"{str(path)!r} is no COCO JSON file: {error}") from error
    if not recognises(content) or not isinstance(content["annotations"], list):
        raise VolumeError(
            f"{str(path)!r} is no COCO JSON file: it has no lists of images and "
            "annotations"
        )
    return dict(content)


def _by_id(path: Path, content: dict[str, Any], key: str) -> dict[Any, dict[str, Any]]:
    entries = content.get(key) or []
    if not isinstance(entries, list) or not all(
        isinstance(e, dict) and isinstance(e.get("id"), (int, str)) for e in entries
    ):
        raise VolumeError(f"{str(path)!r} is no COCO JSON file: some {key} have no id")
    return {e["id"]: e for e in entries}


def load_coco(
    path: str | os.PathLike[str],
) -> tuple[dict[Any, dict[str, Any]], list[dict[str, Any]]]:
    """Read a COCO file: its images by their id, and its annotations.

    Raises
    ------
    VolumeError
        If it is no COCO JSON, or an annotation's image is not listed.
    """
    what = f"{str(path)!r} cannot be read as COCO JSON"
    with refused_as(VolumeError, what, "check that it is whole"):
        return _load(Path(path))[:2]


def _planes(
    path: Path, images: dict[Any, dict[str, Any]], volume: Volume
) -> tuple[dict[Any, Plane], list[str]]:
    """Plane of each image that is one of the volume's, and what was left out."""
    total = count_planes(volume.shape)
    named = {i: p for i, e in images.items() if (p := named_plane(e, volume))}
    if named:
        planes = named
    elif len(images) == 1 and total == 1:
        planes = {i: Plane.of(volume.shape) for i in images}
    elif total == 1:
        own = {_stem(volume.name), *([_stem(volume.source)] if volume.source else [])}
        planes = {
            i: Plane.of(volume.shape)
            for i, e in images.items()
            if _stem(str(e.get("file_name"))) in own
        }
    elif len(images) == total:
        planes = {i: plane_at(volume.shape, n) for n, i in enumerate(images)}
    else:
        planes = {}
    if (images and not planes) or (total == 1 and len(planes) > 1):
        raise VolumeError(
            f"{path.name!r} holds annotations of {len(images)} images, and which of "
            f"them {volume.name!r} with {total} plane(s) is, it does not say: give "
            "the plane of a single image, or name the image as the file does"
        )
    for image_id, plane in planes.items():
        check_size(images[image_id], plane.shape(volume.shape))
    others = len(images) - len(planes)
    return planes, [f"{others} images of the file are others"] if others else []


def named_plane(image: dict[str, Any], volume: Volume) -> Plane | None:
    """Return the plane of a volume that an image says it is, if it says so."""
    given = image.get("plane")
    if not isinstance(given, dict):
        return None
    if volume.ndim == 2:
        # A plane of a volume that is read onto a single plane is told by the caller.
        return Plane(()) if not given.get("index") else None
    return Plane.of(volume.shape, Plane.from_json(given))


def _stem(name: str) -> str:
    return Path(_last_part(name)).stem.lower()


def check_size(image: dict[str, Any], shape: tuple[int, int]) -> None:
    """Check that an image, where it says its size, has a plane's (height, width).

    Raises
    ------
    VolumeError
    """
    size = image.get("height"), image.get("width")
    if None in size:
        return  # masks are checked one by one
    if tuple(size) != shape:
        raise VolumeError(
            f"the COCO image {image.get('file_name')!r} has {size[0]} x {size[1]} "
            f"pixels, but the plane has {shape[0]} x {shape[1]}: open the image that "
            "the annotations were made on"
        )


def decode_annotation(
    annotation: dict[str, Any], shape: tuple[int, int], *, boxes: bool = False
) -> tuple[Bbox, np.ndarray]:
    """Return (bbox, mask cropped to it); nothing of the plane's size is held.

    Raises
    ------
    VolumeError
        If there is no mask, it makes no sense, or it is of an image of another size.
    """
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict):
        return rle.decode(segmentation, shape)
    if isinstance(segmentation, list) and segmentation:
        return rle.fill_polygons(segmentation, shape)
    if boxes and annotation.get("bbox") is not None:
        return _box_mask(annotation["bbox"], shape)
    raise VolumeError(
        f"annotation {annotation.get('id')} has no mask, only a box: such files are of "
        "detections. Read them with boxes=True to take each box as a mask"
    )


def _box_mask(given: Any, shape: tuple[int, int]) -> tuple[Bbox, np.ndarray]:
    x, y, w, h = (float(v) for v in given)
    if not np.isfinite([x, y, w, h]).all():
        raise VolumeError(f"a COCO box is four finite numbers x, y, w, h; got {given}")
    y0, y1 = np.clip(np.round([y, y + h]), 0, shape[0]).astype(int).tolist()
    x0, x1 = np.clip(np.round([x, x + w]), 0, shape[1]).astype(int).tolist()
    return (y0, x0, y1, x1), np.ones((max(0, y1 - y0), max(0, x1 - x0)), bool)
