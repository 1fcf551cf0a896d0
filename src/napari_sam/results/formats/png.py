"""Labels of one plane as a grey PNG whose values are the object ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.atomic_files import whole
from napari_sam.errors import ExportError
from napari_sam.results.incoming import incoming_labels
from napari_sam.results.results import Results

if TYPE_CHECKING:
    from pathlib import Path

    from napari_sam.volume.volume import Volume


def write(path: Path, results: Results) -> list[str]:
    """Write the labels; see `napari_sam.results.registry.write`."""
    from PIL import Image

    labels = np.asarray(results.labels[...]).reshape(results.labels.shape[-2:])
    top = int(labels.max(initial=0))
    if top > 65535:
        raise ExportError(
            f"PNG holds ids up to 65535; got {top}: write ome_zarr, ome_tiff or coco"
        )
    with whole(path) as part:
        kind = np.uint8 if top < 256 else np.uint16
        Image.fromarray(labels.astype(kind)).save(part, "PNG")
    return []


def read(path: Path, volume: Volume) -> Results:
    """Read labels; see `napari_sam.results.registry.read`."""
    return Results(incoming_labels(volume, path), volume)
