"""Labels that an image has already: opened from any format, to go on with."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.results import registry
from napari_sam.results.incoming import IncomingLabels, incoming_labels
from napari_sam.results.label_arrays import (
    MEMORY_BYTES,
    copy_labels,
    highest_label,
    new_labels,
)
from napari_sam.volume.formats.ome_zarr import label_names

if TYPE_CHECKING:
    from napari_sam.volume.volume import Volume

_BY_FORMAT = frozenset({"nrrd", "seg_nrrd", "dicom_seg", "rtstruct"})
"""Formats that hold labels only, so that they are no image to be opened."""


def existing_labels(volume: Volume, source: Any) -> Any:
    """Return labels that belong to an image, as `incoming_labels`, of any format.

    Raises
    ------
    VolumeError, ExportError
    """
    if isinstance(source, (str, os.PathLike)) and "://" not in os.fspath(source):
        found = {f.name for f in registry.formats_of(source)}
        if found & _BY_FORMAT or ("ome_zarr" in found and label_names(str(source))):
            return registry.read(source, volume).labels
    if isinstance(source, (list, tuple)):
        source = np.asarray(source)
    return incoming_labels(volume, source)


def writable_labels(volume: Volume, source: Any = None) -> Any:
    """Return labels of a volume that can be changed: new ones, or those that come in.

    Arrays of unsigned integers are changed in place; everything else is copied.

    Raises
    ------
    VolumeError
        As `existing_labels`.
    """
    if source is None:
        return new_labels(volume.shape)
    found = existing_labels(volume, source)
    if not isinstance(found, IncomingLabels):
        return found
    return _copied(found)


def shown_labels(volume: Volume, source: Any) -> Any:
    """Return labels to look at: writable as `writable_labels`, unless they are huge."""
    found = existing_labels(volume, source)
    if isinstance(found, IncomingLabels) and found.nbytes <= MEMORY_BYTES:
        return _copied(found)
    return found


def _copied(labels: IncomingLabels) -> Any:
    small = highest_label(labels) <= np.iinfo(np.uint16).max
    out = new_labels(labels.shape, np.uint16 if small else np.uint32)
    copy_labels(labels, out)
    return out
