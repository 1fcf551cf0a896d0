"""Objects as a whole made anew: refined, divided, joined; the part of `Session`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.mask_prompt import MaskPrompt
from napari_sam.core.masks import crop_mask, union_bbox
from napari_sam.core.prompts import Prompts
from napari_sam.engine.divide import divide
from napari_sam.errors import PromptError
from napari_sam.session import regroup
from napari_sam.session.annotation import whole
from napari_sam.session.prompting import Prompting

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from napari_sam.core.candidates import PlaneCandidate
    from napari_sam.core.masks import Bbox
    from napari_sam.core.planes import Plane
    from napari_sam.engine.engine import Engine
    from napari_sam.session.requests import Request


@dataclass(frozen=True, slots=True, eq=False)
class Division:
    """A split that was asked for: frozen, to be computed in any thread."""

    engine: Engine
    object_id: int
    plane: Plane
    mask: MaskPrompt
    """Pixels of the object on the plane when it was asked."""
    points: tuple[tuple[float, float], ...]
    position: int
    """Steps in the journal then."""

    def run(self) -> tuple[MaskPrompt, ...]:
        """Return the pixels of each point, cut to the object's box."""
        found = divide(self.engine, self.plane, self.mask, self.points)
        box = self.mask.bbox
        return tuple(MaskPrompt(box, found == k) for k in range(len(self.points)))


class Shaping(Prompting):
    """Refine, split and merge; the part of `Session` that takes objects as they are."""

    def refine(
        self,
        object_id: int = 1,
        plane: int | Sequence[int] | Plane | None = None,
        *,
        axis: int = 0,
    ) -> list[PlaneCandidate]:
        """Let the model draw an object again, from the pixels it has; one undo step.

        For what was painted, imported, followed or drawn by another model. The mask is
        the object's prompt from then on, and clicks refine it further.

        Parameters
        ----------
        object_id : int
        plane, axis
            As for `segment`.

        Returns
        -------
        list of PlaneCandidate

        Raises
        ------
        PromptError
            If the object has no pixel on the plane.
        """
        key = self._key(object_id, plane, axis)
        self.accept(self.run(self.set_refine(*key)))
        return self.candidates(*key)

    def set_refine(self, object_id: int, plane: Plane) -> Request:
        """Ask for what `refine` does, to be answered in any thread."""
        return self.set_prompts(
            object_id, plane, Prompts.of(mask=self.shown(object_id, plane))
        )

    def shown(self, object_id: int, plane: Plane) -> MaskPrompt:
        """Return the pixels that show an object on a plane.

        Raises
        ------
        PromptError
            If there are none.
        """
        from napari_sam.results.label_objects import iter_blocks

        box: Bbox = (0, 0, 0, 0)
        for (y, x), block in iter_blocks(self.labels, plane):
            (y0, x0, y1, x1), _ = crop_mask(block == object_id)
            box = union_bbox(box, (y0 + y, x0 + x, y1 + y, x1 + x))
        if box[2] == box[0]:
            raise PromptError(
                f"object {object_id} has no pixel on plane {plane.index or 0}: choose "
                "a plane on which it is shown"
            )
        return MaskPrompt(box, self.document.read(plane, box) == object_id)

    # -- split and merge -------------------------------------------------------------

    def split(
        self,
        object_id: int,
        points: Iterable[Sequence[float]],
        plane: int | Sequence[int] | Plane | None = None,
        *,
        axis: int = 0,
    ) -> list[int]:
        """Divide an object on a plane among clicks, as one undoable change.

        The model draws the border; all parts together are the object's pixels exactly.

        Parameters
        ----------
        object_id : int
        points : iterable of (y, x)
            Two or more, each in the object; the first one's part stays `object_id`.
        plane, axis
            As for `segment`.

        Returns
        -------
        list of int
            Object of each point: `object_id`, then new ones, of its class and origin.

        Raises
        ------
        PromptError
            If there are fewer than two points, or one lies outside the object.

        Examples
        --------
        >>> import numpy as np
        >>> from napari_sam import Session
        >>> from napari_sam.testing import ToyModel
        >>> labels = np.zeros((32, 64), np.uint8)
        >>> labels[8:24, 4:60] = 1
        >>> session = Session(labels * 200, ToyModel(64), labels=labels.copy())
        >>> session.split(1, [(16, 10), (16, 50)])
        [1, 2]
        >>> bool(((session.labels > 0) == (labels > 0)).all())
        True
        """
        key = self._key(whole(object_id), plane, axis)
        division = self.set_split(*key, points)
        return self.accept_split(division, division.run())

    def set_split(
        self, object_id: int, plane: Plane, points: Iterable[Sequence[float]]
    ) -> Division:
        """Ask for what `split` does, to be run in any thread."""
        mask = self.shown(object_id, plane)
        said = Prompts.of(points=points).points
        if len({(round(y), round(x)) for y, x in said}) < max(2, len(said)):
            raise PromptError(
                f"a split takes two points or more, on different pixels; got {said}"
            )
        for y, x in said:
            row, col = round(y) - mask.bbox[0], round(x) - mask.bbox[1]
            h, w = mask.mask.shape
            if not (0 <= row < h and 0 <= col < w and mask.mask[row, col]):
                raise PromptError(
                    f"the point (y={y:g}, x={x:g}) lies outside object {object_id}: "
                    "a split takes points in each of its parts"
                )
        position = self.document.journal.position
        return Division(self.engine, object_id, plane, mask, said, position)

    def accept_split(
        self, division: Division, parts: Sequence[MaskPrompt]
    ) -> list[int]:
        """Apply a split, as one undoable change; return the object of each part.

        Raises
        ------
        PromptError
            If the object has changed since it was asked for.
        """
        object_id, plane = division.object_id, division.plane
        self._check_same(division)
        new = self.new_object()
        ids = [object_id, *range(new, new + len(parts) - 1)]
        self.make_room(max(ids))
        self._requests.supersede_object(object_id)
        found = dict(zip(ids, parts, strict=True))
        self.change(lambda d: regroup.split(d, plane, object_id, found))
        return ids

    def merge(self, object_ids: Iterable[int]) -> int:
        """Make several objects one, on all planes, as one undoable change.

        Parameters
        ----------
        object_ids : iterable of int
            The first one stays, with its name, class and origin.

        Returns
        -------
        int
            The object that stayed.

        Raises
        ------
        PromptError
            If fewer than two objects are given, or one has no pixel at all.
        """
        ids = list(dict.fromkeys(whole(i) for i in object_ids))
        if len(ids) < 2:
            raise PromptError(f"a merge takes two objects or more; got {ids}")
        masks = self._all_masks(ids)
        for i in ids:
            self._requests.supersede_object(i)
        self.change(lambda d: regroup.merge(d, ids[0], ids[1:], masks))
        return ids[0]

    # -- inside ----------------------------------------------------------------------

    def _check_same(self, division: Division) -> None:
        now = self.document.read(division.plane, division.mask.bbox)
        if not np.array_equal(now == division.object_id, division.mask.mask):
            raise PromptError(
                f"object {division.object_id} has changed since the split was asked "
                "for: ask again"
            )

    def _all_masks(self, ids: Sequence[int]) -> Mapping[Plane, MaskPrompt]:
        """Pixels of all of some objects, on the planes of all but the first."""
        into, *others = (self._boxes(i) for i in ids)
        out = {}
        for plane in dict.fromkeys(p for boxes in others for p in boxes):
            box = into.get(plane, (0, 0, 0, 0))
            for boxes in others:
                box = union_bbox(box, boxes.get(plane, (0, 0, 0, 0)))
            mask = np.isin(self.document.read(plane, box), list(ids))
            out[plane] = MaskPrompt(box, mask)
        return out

    def _boxes(self, object_id: int) -> dict[Plane, Bbox]:
        """Where an object is shown, and where its masks lie.

        Raises
        ------
        PromptError
            If it is nowhere.
        """
        from napari_sam.results.label_objects import boxes_of

        boxes = boxes_of(self.labels, object_id)
        for (i, plane), claim in self.document.pixels.claims.items():
            if i == object_id and claim.mask.size:
                held = boxes.get(plane, (0, 0, 0, 0))
                boxes[plane] = union_bbox(held, claim.bbox)
        if not boxes:
            raise PromptError(f"object {object_id} has no pixel: choose another")
        return boxes
