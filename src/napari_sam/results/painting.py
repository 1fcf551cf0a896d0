"""Paint masks that a reader finds into labels, numbering the objects on the way."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.errors import SessionError, VolumeError
from napari_sam.results.label_arrays import grown, new_labels
from napari_sam.results.results import Results

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_sam.core.masks import Bbox
    from napari_sam.core.planes import Plane
    from napari_sam.results.records import RecordReader
    from napari_sam.volume.volume import Volume

HIGHEST = 2**32 - 1
"""Largest value of a label."""


class Painter:
    """Labels of a volume's shape that masks are painted into; they grow as ids need.

    Parameters
    ----------
    volume : Volume
    """

    def __init__(self, volume: Volume) -> None:
        self.labels: Any = new_labels(volume.shape)
        self.overlapping = 0
        """Pixels that a later object took from an earlier one."""
        self.numbered: set[int] = set()
        """Ids that `number` gave."""
        self._used: set[int] = set()
        self._next = 1

    def reserve(self, ids: set[int]) -> None:
        """Keep ids that the file names from being given to objects without one."""
        self._used |= ids

    def number(self) -> int:
        """Return an id that no object of the file has."""
        while self._next in self._used:
            self._next += 1
        self._used.add(self._next)
        self.numbered.add(self._next)
        return self._next

    def paint(self, plane: Plane, bbox: Bbox, mask: np.ndarray, object_id: int) -> None:
        """Paint a mask that is cropped to a box on a plane; the later one lies on top.

        Raises
        ------
        VolumeError
            If no label can have that value.
        """
        if not mask.any():
            return
        if object_id > np.iinfo(self.labels.dtype).max:
            try:
                self.labels = grown(self.labels, object_id)
            except SessionError as error:
                raise VolumeError(
                    f"object ids can be 1 to {HIGHEST}; got {object_id}"
                ) from error
        where = plane.window(bbox)
        there = np.array(self.labels[where])
        self.overlapping += int(np.count_nonzero(mask & (there > 0)))
        there[mask] = object_id
        self.labels[where] = there

    def results(
        self, volume: Volume, records: RecordReader, notes: Iterable[str]
    ) -> Results:
        """Return what was painted, with what is known of it."""
        return Results(
            self.labels, volume, records.objects, records.classes,
            notes=(*notes, *self._notes()), numbered=frozenset(self.numbered),
        )  # fmt: skip

    def _notes(self) -> tuple[str, ...]:
        """Say what labels cannot hold."""
        if not self.overlapping:
            return ()
        n = self.overlapping
        return (f"{n} pixels belong to several objects: labels hold the last",)


def id_of(given: Any) -> int | None:
    """Return the label value that a file gives an object, or None where it is none.

    Whole numbers count, also as text or float.

    Raises
    ------
    VolumeError
        If it is a whole number that no label can have.

    Examples
    --------
    >>> id_of("70000"), id_of(3.0), id_of("cell-7"), id_of(None), id_of(0)
    (70000, 3, None, None, None)
    """
    if isinstance(given, str) and given.strip().isascii() and given.strip().isdecimal():
        number = int(given) if len(given) < 20 else HIGHEST + 1
    elif isinstance(given, bool) or not isinstance(given, (int, float, np.number)):
        return None
    elif not math.isfinite(given) or given != int(given):
        return None
    else:
        number = int(given)
    if number > HIGHEST:
        raise VolumeError(f"object ids can be 1 to {HIGHEST}; got {number}")
    return number if number > 0 else None
