"""Labels as OME-Zarr 0.5 with a pyramid, on their own or inside an image."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.atomic_files import whole
from napari_sam.errors import ExportError
from napari_sam.results.incoming import incoming_labels
from napari_sam.results.label_arrays import ChunkedLabels, iter_blocks_of, label_chunks
from napari_sam.results.results import Results

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_sam.volume.volume import Volume

_COARSEST = 512
"""The pyramid ends when a plane's longer side is at most this."""


def write(path: Path, results: Results, *, name: str = "segmentation") -> list[str]:
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
    """
    if not path.exists():
        with whole(path) as part:
            _write_label_image(part, results, source=None)
        return []
    check_label_target(path, name)
    (path / "labels").mkdir(exist_ok=True)
    with whole(path / "labels" / name) as part:
        _write_label_image(part, results, source="../../")
    _register(path, name)
    return []


def read(path: Path, volume: Volume) -> Results:
    """Read labels; see `napari_sam.results.registry.read`."""
    return Results(incoming_labels(volume, path), volume)


def _write_label_image(path: Path, results: Results, source: str | None) -> None:
    import zarr

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
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [
            {"name": volume.name, "axes": _axes(volume), "datasets": datasets}
        ],
        "image-label": _image_label(results, source),
    }
    group.attrs["napari_sam"] = {
        "affine": np.asarray(volume.affine).tolist(),
        "crs": volume.crs,
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
    factor = [1] * (len(volume.spacing) - 2) + [2**level] * 2
    scale = [s * f for s, f in zip(volume.spacing, factor, strict=True)]
    steps: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
    origin = np.asarray(volume.affine)[:-1, -1]
    if origin.any():
        steps.append({"type": "translation", "translation": origin.tolist()})
    return {"path": str(level), "coordinateTransformations": steps}


def _image_label(results: Results, source: str | None) -> dict[str, Any]:
    properties = []
    for object_id, record in sorted(results.objects.items()):
        scores = [p.score for p in record.planes.values() if p.score is not None]
        entry: dict[str, Any] = {"label-value": object_id}
        if scores:
            entry["predicted_iou"] = round(float(min(scores)), 6)
        properties.append(entry)
    out: dict[str, Any] = {"source": {"image": source}} if source else {}
    if properties:
        out["properties"] = properties
    return out


def check_label_target(target: Path, name: str = "segmentation") -> None:
    """Check that a folder is an OME-Zarr image that labels can go into.

    Raises
    ------
    ExportError
        If it is something else, or has labels of that name already.
    """
    import zarr

    try:
        ome = dict(zarr.open_group(target, mode="r").attrs).get("ome")
    except (OSError, ValueError, KeyError):
        ome = None
    if not isinstance(ome, dict) or "multiscales" not in ome or "image-label" in ome:
        raise ExportError(
            f"{str(target)!r} exists and is no OME-Zarr 0.5 image that labels could go "
            "into: choose another name, or remove it first"
        )
    if (target / "labels" / name).exists():
        raise ExportError(
            f"{str(target)!r} has labels called {name!r} already: choose another name "
            "for the result, or remove them first"
        )


def _register(target: Path, name: str) -> None:
    import zarr

    group = zarr.open_group(target / "labels", mode="a")
    ome: dict[str, Any] = dict(group.attrs.get("ome", {"version": "0.5"}))  # type: ignore[arg-type]
    ome["labels"] = [*ome.get("labels", []), name]
    group.attrs["ome"] = ome
