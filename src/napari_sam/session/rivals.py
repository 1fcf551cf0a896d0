"""What other objects hold on planes that a person made: nobody is followed onto it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.mask_prompt import MaskPrompt
from napari_sam.core.masks import boxes_meet, crop_mask
from napari_sam.core.objects import FOLLOWED
from napari_sam.session.packed import Packed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from napari_sam.core.masks import Bbox
    from napari_sam.core.planes import Plane
    from napari_sam.session.annotation import Annotation

_MOST_LOST = 0.5
"""Share of a mask that another object may hold; a mask with more of it is its."""
_NOTHING = MaskPrompt((0, 0, 0, 0), np.zeros((0, 0), bool))


@dataclass(frozen=True, slots=True, eq=False)
class Rival:
    """An object as a person made it on a plane."""

    object_id: int
    bbox: Bbox
    pixels: Packed
    """(h, w) bool."""


@dataclass(frozen=True, slots=True, eq=False)
class Rivals:
    """Objects as they were made by hand on the planes of a stack."""

    by_plane: Mapping[Plane, Sequence[Rival]] = field(default_factory=dict)
    met: dict[tuple[int, int], int] = field(default_factory=dict)
    """Objects that ran into others, and the first plane on which they did."""
    along: int = -1
    """Which index of a plane counts those of the stack, as `Plane.at` takes it."""

    @classmethod
    def of(
        cls, session: Annotation, in_stack: Callable[[Plane], bool], along: int = -1
    ) -> Rivals:
        """Take a snapshot of what was made; masks stay packed.

        Parameters
        ----------
        session : Annotation
        in_stack : callable
            Whether a plane is one of those to be walked through.
        along : int
        """
        document = session.document
        found: dict[Plane, list[Rival]] = {}
        for keys in document.keys.values():
            for key in keys:
                object_id, plane = key
                claim = document.pixels.claims.get(key)
                record = document.painted.get(key)
                if not in_stack(plane) or (record and record.origin in FOLLOWED):
                    continue
                if record is not None:  # painted pixels lie in no claim
                    box = (0, 0, *plane.shape(session.volume.shape))
                    box, mask = crop_mask(document.read(plane, box) == object_id)
                    rival = Rival(object_id, box, Packed(mask))
                elif claim is not None:
                    rival = Rival(object_id, claim.bbox, claim.pixels)
                else:
                    continue
                found.setdefault(plane, []).append(rival)
        return cls(found, along=along)

    def guard(self, object_id: int) -> Callable[[Plane, MaskPrompt], MaskPrompt]:
        """Return what leaves of an object's mask that which is no other's."""

        def free(plane: Plane, mask: MaskPrompt) -> MaskPrompt:
            left, size = mask, np.count_nonzero(mask.mask)
            for rival in self.by_plane.get(plane, ()):
                if rival.object_id == object_id or not rival.pixels.array.any():
                    continue
                if boxes_meet(mask.bbox, rival.bbox):
                    theirs = MaskPrompt(rival.bbox, rival.pixels.array)
                    if size - np.count_nonzero(mask.without(theirs).mask) > (
                        _MOST_LOST * size
                    ):
                        pair = object_id, rival.object_id
                        self.met.setdefault(pair, plane.index[self.along])
                        return _NOTHING
                    left = left.without(theirs)
            return left

        return free

    def notes(self) -> list[str]:
        """Say which objects ran into others."""
        return [
            f"object {one} runs into object {other} on plane {number}, and was not "
            "followed onto it: is it wrong before?"
            for (one, other), number in self.met.items()
        ]
