"""Label images as Labels layers: our own exports, and labels inside an OME-Zarr."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from napari_sam._napari.layer_data import label_layer, layer_data
from napari_sam.errors import NapariSamError

if TYPE_CHECKING:
    from napari_sam._napari.layer_data import LayerData
    from napari_sam.volume.volume import Volume


def layers_of(volume: Volume) -> list[LayerData]:
    """Turn a volume into layers: image layers, or a Labels layer if it is labels.

    An OME-Zarr image brings its own labels along, each as a Labels layer that lies
    where its metadata say.
    """
    if is_labels(volume):
        return [_labels(volume, volume.name)]
    return [*layer_data(volume), *labels_inside(volume)]


def is_labels(volume: Volume) -> bool:
    """Whether a file says of itself that its values are labels."""
    ome = volume.metadata.get("ome")
    said = isinstance(ome, dict) and "image-label" in ome
    return (said or volume.metadata.get("labels") is True) and not volume.rgb


def labels_inside(volume: Volume) -> list[LayerData]:
    """Labels that lie in the OME-Zarr of an image, as Labels layers."""
    from napari_sam.volume.formats.ome_zarr import label_names
    from napari_sam.volume.opening import open_volume

    path = volume.source
    if path is None or "ome" not in volume.metadata:
        return []
    inside = "" if not (volume.recipe or {}).get("series") else volume.recipe["series"]  # type: ignore[index]
    found = []
    for name in label_names(path, inside):
        series = "/".join(p for p in (inside, "labels", name) if p)
        try:
            labels = open_volume(path, series=series)
        except NapariSamError:  # the image is worth opening without them
            continue
        if labels.dtype.kind in "uib":
            found.append(_labels(labels, f"{volume.name} · {name}"))
    return found


def _labels(volume: Volume, name: str) -> LayerData:
    from napari_sam.results.existing import shown_labels
    from napari_sam.results.label_arrays import MEMORY_BYTES

    size = math.prod(volume.shape) * volume.dtype.itemsize
    small = size <= MEMORY_BYTES
    lazy = not small and volume.dtype.kind in "ui" and volume.channel_axis is None
    data = list(volume.levels) if lazy else shown_labels(volume, volume)
    data, options, kind = label_layer(data, volume, name)
    if lazy:
        options["multiscale"] = True
    ome = volume.metadata.get("ome")
    known = ome.get("image-label") if isinstance(ome, dict) else None
    return data, {**options, **_looks(known if isinstance(known, dict) else {})}, kind


def _looks(known: dict[str, Any]) -> dict[str, Any]:
    """Properties and colours of objects; colours only where every object has one."""
    entries = [e for e in known.get("properties") or [] if isinstance(e, dict)]
    entries = [e for e in entries if isinstance(e.get("label-value"), int)]
    names = ("name", "class", "review", "predicted_iou", "note")
    out: dict[str, Any] = {}
    if entries:
        columns = {n: [e.get(n) for e in entries] for n in names}
        kept = {n: c for n, c in columns.items() if any(v is not None for v in c)}
        out["features"] = {"index": [e["label-value"] for e in entries], **kept}
    colors = {
        c["label-value"]: [v / 255 for v in c["rgba"]]
        for c in known.get("colors") or []
        if isinstance(c, dict) and len(c.get("rgba") or ()) == 4
    }
    if colors and {e["label-value"] for e in entries} <= set(colors):
        out["colormap"] = {None: (0, 0, 0, 0), 0: (0, 0, 0, 0), **colors}
    return out
