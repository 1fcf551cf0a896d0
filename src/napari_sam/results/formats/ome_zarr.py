"""Labels as OME-Zarr 0.5 with a pyramid, on their own or inside an image."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.atomic_files import whole
from napari_sam.core.planes import Plane
from napari_sam.errors import ExportError
from napari_sam.results.incoming import incoming_labels
from napari_sam.results.label_arrays import ChunkedLabels, iter_blocks_of, label_chunks
from napari_sam.results.patient import hex_of, object_color
from napari_sam.results.records import (
    RecordReader,
    object_properties,
    plane_properties,
)
from napari_sam.results.results import Results
from napari_sam.volume.geometry import coordinates_of, is_aligned, is_uneven

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from napari_sam.volume.volume import Volume

_TURNED = (
    "OME-Zarr 0.5 knows no rotation or shear: napari-sam reads where the labels lie, "
    "other programs show them along their own axes"
)
_COARSEST = 512
"""The pyramid ends when a plane's longer side is at most this."""


def write(
    path: Path,
    results: Results,
    *,
    name: str = "segmentation",
    overwrite: bool = False,
) -> list[str]:
    """Write the labels; see `napari_sam.results.registry.write`.

    A path that does not exist becomes a label image of its own. A path that is an
    OME-Zarr 0.5 image already gets the labels at ``labels/<name>``, where viewers
    look for them.

    Parameters
    ----------
    path : Path
        ``.zarr`` folder.
    results : Results
    name : str
        Of the labels inside an existing image.
    overwrite : bool
        Replace labels that are there: a label image at the path, or those of that name
        inside the image. An image itself is never replaced, nor is any other folder.
    """
    if is_uneven(results.volume):
        raise ExportError(
            "OME-Zarr 0.5 holds one distance of slices, and these are uneven: write "
            "dicom_seg or rtstruct"
        )
    told = [] if _stated(results.volume) else [_TURNED]
    if not path.exists():
        with whole(path) as part:
            _write_label_image(part, results, source=None)
        return told
    if check_label_target(path, name, overwrite=overwrite):
        with whole(path, replace_folder=True) as part:
            _write_label_image(part, results, source=None)
        return told
    (path / "labels").mkdir(exist_ok=True)
    with whole(path / "labels" / name, replace_folder=overwrite) as part:
        _write_label_image(part, results, source="../../")
    _register(path, name)
    return told


def read(path: Path, volume: Volume, *, name: str | None = None) -> Results:
    """Read labels; see `napari_sam.results.registry.read`.

    Parameters
    ----------
    path : Path
        Of a label image, or of an image with labels inside.
    volume : Volume
    name : str, optional
        Of the labels inside an image that has several.
    """
    import zarr

    from napari_sam.volume.opening import open_volume

    group: Any = zarr.open_group(path, mode="r")
    if "labels" in group:
        series = "labels" if name is None else f"labels/{name}"
        labels = incoming_labels(volume, open_volume(path, series=series))
        names = [name] if name else list(group["labels"].attrs.get("ome", {})["labels"])
        group = group[f"labels/{names[0]}"]
    else:
        labels = incoming_labels(volume, path)
    ome: Any = group.attrs.get("ome", group.attrs)
    records = _records(ome.get("image-label") or {}, volume.ndim)
    return Results(labels, volume, records.objects, records.classes)


def _stated(volume: Volume) -> bool:
    """Whether scale and translation say where the labels lie."""
    return is_aligned(volume.affine)


def _write_label_image(path: Path, results: Results, source: str | None) -> None:
    import zarr
    from yaozarrs.v05 import LabelImage

    volume = results.volume
    group = zarr.create_group(path, overwrite=False)
    below = results.labels
    datasets: list[dict[str, Any]] = []
    while True:
        n = len(datasets)
        array = group.create_array(
            str(n),
            shape=below.shape if n == 0 else _halved(below.shape),
            dtype=below.dtype,
            chunks=label_chunks(below.shape),
            fill_value=0,
            dimension_names=list(volume.axes),
        )
        _fill(array, below, 1 if n == 0 else 2)
        datasets.append(_dataset(volume, n))
        below = ChunkedLabels(array)
        if max(array.shape[-2:]) <= _COARSEST:
            break
    ome: dict[str, Any] = {
        "version": "0.5",
        "multiscales": [
            {"name": volume.name, "axes": _axes(volume), "datasets": datasets}
        ],
        "image-label": _image_label(results, source),
    }
    LabelImage.model_validate(ome)  # what the specification does not know is our fault
    group.attrs["ome"] = ome
    group.attrs["napari_sam"] = {
        "affine": np.asarray(volume.affine).tolist(),
        "crs": volume.crs,
        "coordinates": coordinates_of(volume),
        **results.provenance,
    }


def _fill(array: Any, below: Any, step: int) -> None:
    """Copy every `step`-th pixel in y and x, one chunk of the result at a time."""
    steps = [1] * (array.ndim - 2) + [step] * 2
    for place in _chunks_with_labels(array, below, steps):
        corner = [p * c for p, c in zip(place, array.chunks, strict=True)]
        sizes = zip(corner, array.chunks, array.shape, strict=True)
        put = tuple(slice(a, min(a + c, n)) for a, c, n in sizes)
        pairs = zip(put, steps, below.shape, strict=True)
        take = tuple(slice(p.start * s, min(p.stop * s, n)) for p, s, n in pairs)
        block = np.asarray(below[take])[..., ::step, ::step]
        if block.any():
            array[put] = block


def _chunks_with_labels(
    array: Any, below: Any, steps: Sequence[int]
) -> list[tuple[int, ...]]:
    """Places of the chunks that blocks which may hold labels fall into."""
    found: set[tuple[int, ...]] = set()
    for spans in iter_blocks_of(below):
        wide = [c * s for c, s in zip(array.chunks, steps, strict=True)]
        pairs = zip(spans, wide, strict=True)
        found.update(product(*(range(s.start // w, -(-s.stop // w)) for s, w in pairs)))
    return sorted(found)


def _halved(shape: Sequence[int]) -> tuple[int, ...]:
    return (*shape[:-2], -(-shape[-2] // 2), -(-shape[-1] // 2))


def _axes(volume: Volume) -> list[dict[str, str]]:
    out = []
    for name, unit in zip(volume.axes, volume.units, strict=True):
        kind = "time" if name == "t" else "space" if name in ("x", "y", "z") else ""
        axis = {"name": name, **({"type": kind} if kind else {})}
        if kind and unit != "pixel":
            axis["unit"] = unit
        out.append(axis)
    return out


def _dataset(volume: Volume, level: int) -> dict[str, Any]:
    """Scale and origin of one level: it holds every 2**level-th pixel, so no shift."""
    affine = np.asarray(volume.affine, float)
    # A flipped axis has a negative scale. Version 0.5 knows no turn: what it cannot
    # say lies in the attributes, beside pixel sizes and origin.
    sizes = np.linalg.norm(affine[:-1, :-1], axis=0)
    if is_aligned(affine):
        sizes = np.diag(affine)[:-1]
    factor = [1] * (len(sizes) - 2) + [2**level] * 2
    scale = [float(s) * f for s, f in zip(sizes, factor, strict=True)]
    steps: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
    if (origin := affine[:-1, -1]).any():
        steps.append({"type": "translation", "translation": origin.tolist()})
    return {"path": str(level), "coordinateTransformations": steps}


def _image_label(results: Results, source: str | None) -> dict[str, Any]:
    properties, colors = [], []
    for object_id, record in sorted(results.objects.items()):
        planes = [
            {"plane": plane.to_json(), **plane_properties(known)}
            for plane, known in record.planes.items()
        ]
        scores = [p.score for p in record.planes.values() if p.score is not None]
        entry = {
            "label-value": object_id,
            **object_properties(record, results.classes),
            **({"predicted_iou": round(float(min(scores)), 6)} if scores else {}),
            **({"planes": planes} if planes else {}),
        }
        del entry["object_id"]
        properties.append(entry)
        known_class = results.classes.get(record.class_name)
        if record.color or (known_class and known_class.color):
            rgba = [*object_color(results, object_id), 255]
            colors.append({"label-value": object_id, "rgba": rgba})
    out: dict[str, Any] = {"source": {"image": source}} if source else {}
    if properties:
        out["properties"] = properties
    if colors:
        out["colors"] = colors
    return out


def _records(found: Mapping[str, Any], ndim: int) -> RecordReader:
    """What is known of the objects, also of other programs' files."""
    out = RecordReader()
    colors = {c.get("label-value"): c.get("rgba") for c in found.get("colors") or []}
    for entry in found.get("properties") or []:
        object_id = entry.get("label-value")
        if not isinstance(object_id, int) or object_id < 1:
            continue
        given = {k: v for k, v in entry.items() if k != "predicted_iou"}
        planes = [p for p in entry.get("planes") or [] if isinstance(p, dict)]
        rgba = colors.get(object_id)
        if rgba and not given.get("color") and not given.get("class_color"):
            given["color"] = hex_of(rgba[:3])
        for one in planes:
            plane = Plane.from_json(one["plane"])
            out.add(object_id, plane, {**given, **one})
        if not planes:
            out.add_object(object_id, given)
    return out


def check_label_target(
    target: Path, name: str = "segmentation", *, overwrite: bool = False
) -> bool:
    """Check that labels can go into a folder: an OME-Zarr image, or labels to replace.

    Returns
    -------
    bool
        Whether the folder is a label image itself, to be replaced.

    Raises
    ------
    ExportError
        If it is something else, or has labels of that name already.
    """
    import zarr

    try:
        ome: Any = dict(zarr.open_group(target, mode="r").attrs).get("ome")
    except (OSError, ValueError, KeyError):
        ome = None
    known = isinstance(ome, dict) and "multiscales" in ome
    if known and ome is not None and "image-label" in ome and overwrite:
        return True
    if not known or ome is None or "image-label" in ome:
        raise ExportError(
            f"{str(target)!r} exists and is no OME-Zarr 0.5 image that labels could go "
            "into: choose another name, or remove it first"
        )
    if (target / "labels" / name).exists() and not overwrite:
        raise ExportError(
            f"{str(target)!r} has labels called {name!r} already: choose another name "
            "for the result, or remove them first"
        )
    return False


def _register(target: Path, name: str) -> None:
    import zarr

    group = zarr.open_group(target / "labels", mode="a")
    ome: dict[str, Any] = dict(group.attrs.get("ome", {"version": "0.5"}))  # type: ignore[arg-type]
    ome["labels"] = list(dict.fromkeys([*ome.get("labels", []), name]))
    group.attrs["ome"] = ome
