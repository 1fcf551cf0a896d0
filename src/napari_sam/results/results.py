"""Results: labels, objects and their place in the world, as one read-only value."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.objects import ClassList, ObjectRecord
from napari_sam.core.planes import Plane
from napari_sam.core.tiles import Window
from napari_sam.results.label_arrays import OnlyLabels, new_labels
from napari_sam.volume.lazy_arrays import LazyArray

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from napari_sam.core.tracks import Edge, Link
    from napari_sam.volume.volume import Volume


@dataclass(frozen=True, slots=True, eq=False)
class Results:
    """What leaves a session: every writer takes this, every reader gives it.

    Made by `Session.results`; nothing in it changes while it is written.
    """

    labels: Any
    """Array-like of the volume's shape, unsigned integers; 0 is background."""
    volume: Volume
    """The image they belong to: shape, axes, spacing, affine, CRS, source."""
    objects: Mapping[int, ObjectRecord] = field(default_factory=dict)
    """By id; objects that are only pixels may be missing."""
    classes: ClassList = field(default_factory=ClassList)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Model, checkpoint hash, intensity mapping and version, as plain values."""
    notes: tuple[str, ...] = ()
    """What a reader left out or changed, one sentence each."""
    links: Mapping[Edge, Link] = field(default_factory=dict)
    """What is known of links through time beside ids and parents."""
    numbered: frozenset[int] = frozenset()
    """Ids that a reader gave to objects that have none in their file."""

    def record(self, object_id: int) -> ObjectRecord:
        """Return what is known of an object; an empty record where nothing is."""
        return self.objects.get(object_id) or ObjectRecord(object_id)

    def only(self, ids: Collection[int]) -> Results:
        """Return the results of some objects; pixels of all others are background."""
        kept = {i: r for i, r in self.objects.items() if i in ids}
        links = {
            edge: link
            for edge, link in self.links.items()
            if all(node.object_id in ids for node in edge)
        }
        labels = OnlyLabels(self.labels, ids)
        return replace(self, labels=labels, objects=kept, links=links)

    def reviewed(self) -> Results:
        """Return the results of the objects that a person has accepted."""
        accepted = {i for i, r in self.objects.items() if r.review == "accepted"}
        return self.only(accepted)

    def on_plane(self, plane: int | Sequence[int] | Plane) -> Results:
        """Return one plane as the results of a 2-D image, for formats that hold one."""
        where = Plane.of(self.volume.shape, plane)
        objects = {
            i: _on_planes(r, {where: Plane(())}) for i, r in self.objects.items()
        }
        labels = np.asarray(self.labels[where.slicer()])
        volume = plane_volume(self.volume, where)
        return replace(self, labels=labels, volume=volume, objects=objects, links={})

    def lifted(self, volume: Volume, plane: Plane) -> Results:
        """Return results of a 2-D image as those of a volume that it is a plane of."""
        labels = new_labels(volume.shape, self.labels.dtype)
        labels[plane.slicer()] = np.asarray(self.labels[...])
        objects = {
            i: _on_planes(r, {Plane(()): plane}) for i, r in self.objects.items()
        }
        return replace(self, labels=labels, volume=volume, objects=objects)


def plane_volume(volume: Volume, plane: Plane) -> Volume:
    """Return a plane as a 2-D volume, which reads its pixels where it is looked at."""
    shown = list(plane.shown_axes())
    last = volume.ndim
    affine = np.asarray(volume.affine, float)[np.ix_([*shown, last], [*shown, last])]
    pixels = _PlanePixels(volume, plane)
    return replace(
        volume,
        levels=(pixels,),
        axes=tuple(volume.axes[a] for a in shown),
        spacing=tuple(volume.spacing[a] for a in shown),
        units=tuple(volume.units[a] for a in shown),
        affine=affine,
        channel_axis=2 if pixels.ndim == 3 else None,
        recipe=None,
        reopen=None,
    )


class _PlanePixels(LazyArray):
    """Raw values of one plane of a volume, (h, w) or (h, w, C)."""

    def __init__(self, volume: Volume, plane: Plane) -> None:
        self._volume, self._plane = volume, plane
        channels = () if volume.channel_axis is None else (volume.n_channels,)
        super().__init__((*plane.shape(volume.shape), *channels), volume.dtype)

    def read(self, spans: tuple[slice, ...]) -> np.ndarray:
        """Read a block of the plane."""
        y, x, *channels = spans
        window = Window(0, y.start, x.start, y.stop - y.start, x.stop - x.start)
        steps = (slice(None, None, y.step), slice(None, None, x.step), *channels)
        return self._volume.read(self._plane, window)[steps]


def _on_planes(record: ObjectRecord, moved: Mapping[Plane, Plane]) -> ObjectRecord:
    planes = {
        new: record.planes[old] for old, new in moved.items() if old in record.planes
    }
    return replace(record, planes=planes)
