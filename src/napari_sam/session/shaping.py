"""Objects as a whole made anew: refined, divided, joined; the part of `Session`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_sam.core.prompts import Prompts
from napari_sam.errors import PromptError
from napari_sam.session import regroup, reshape
from napari_sam.session.annotation import whole
from napari_sam.session.prompting import Prompting
from napari_sam.session.reshape import Division, Union

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from napari_sam.core.candidates import PlaneCandidate
    from napari_sam.core.mask_prompt import MaskPrompt
    from napari_sam.core.planes import Plane
    from napari_sam.session.reshape import Parts


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
            If the object has no pixel on the plane, or the model sees nothing there.
        """
        key = self._key(object_id, plane, axis)
        prompts = Prompts.of(mask=self.shown(*key))
        result = self.run(self.set_prompts(*key, prompts, redraws=True))
        if not result.prediction.chosen.area:
            raise PromptError(
                f"the model sees nothing where object {key[0]} is: it stays as it was"
            )
        self.accept(result)
        return self.candidates(*key)

    def shown(
        self,
        object_id: int,
        plane: Plane,
        cancel: Callable[[], bool] | None = None,
    ) -> MaskPrompt:
        """Return the pixels that show an object on a plane; call it from any thread.

        Raises
        ------
        PromptError
            If there are none.
        Cancelled
        """
        return reshape.shown(self.labels, object_id, plane, cancel)

    def object_at(
        self,
        point: Sequence[float],
        plane: int | Sequence[int] | Plane | None = None,
        *,
        axis: int = 0,
    ) -> int:
        """Return the object that a place shows, 0 for none.

        Parameters
        ----------
        point : (y, x)
            In level-0 pixels of the plane.
        plane, axis
            As for `segment`.
        """
        _, where = self._key(1, plane, axis)
        [(y, x)] = Prompts.of(points=[point]).points
        row, col = round(y), round(x)
        here = self.document.read(where, (max(row, 0), max(col, 0), row + 1, col + 1))
        return int(here[0, 0]) if here.size else 0

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
        said = Prompts.of(points=points).points
        if len({(round(y), round(x)) for y, x in said}) < max(2, len(said)):
            raise PromptError(
                f"a split takes two points or more, on different pixels; got {said}"
            )
        position = self.document.journal.position
        return Division(self.engine, self.labels, object_id, plane, said, position)

    def accept_split(self, division: Division, parts: Parts) -> list[int]:
        """Apply a split, as one undoable change; return the object of each part.

        Raises
        ------
        PromptError
            If the object has changed since it was asked for.
        """
        object_id, plane = division.object_id, division.plane
        self._check_same([object_id], division.position)
        new = max(parts.highest, *self.objects, 0) + 1
        ids = [object_id, *range(new, new + len(parts.masks) - 1)]
        self.make_room(max(ids))
        self._requests.supersede_object(object_id)
        found = dict(zip(ids, parts.masks, strict=True))
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
        union = self.set_merge(object_ids)
        return self.accept_merge(union, union.run())

    def set_merge(self, object_ids: Iterable[int]) -> Union:
        """Ask for what `merge` does, to be run in any thread."""
        ids = tuple(dict.fromkeys(whole(i) for i in object_ids))
        if len(ids) < 2:
            raise PromptError(f"a merge takes two objects or more; got {list(ids)}")
        claims = self.document.pixels.claims
        hidden = {k: c.bbox for k, c in claims.items() if k[0] in ids and c.mask.size}
        return Union(self.labels, ids, hidden, self.document.journal.position)

    def accept_merge(self, union: Union, masks: Mapping[Plane, MaskPrompt]) -> int:
        """Apply a merge, as one undoable change; return the object that stayed.

        Raises
        ------
        PromptError
            If one of the objects has changed since it was asked for.
        """
        into, *others = union.ids
        self._check_same(union.ids, union.position)
        for i in union.ids:
            self._requests.supersede_object(i)
        self.change(lambda d: regroup.merge(d, into, others, masks))
        return into

    # -- inside ----------------------------------------------------------------------

    def _check_same(self, ids: Sequence[int], position: int) -> None:
        steps = self.document.journal.since(position)
        if steps is None or reshape.touches(steps, ids):
            named = " or ".join(str(i) for i in ids)
            raise PromptError(f"object {named} has changed since: ask again")
