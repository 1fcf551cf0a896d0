"""Prompts to masks: the part of `Session` for one object on one plane."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.prompts import Prompts
from napari_sam.errors import PromptError
from napari_sam.session import edits
from napari_sam.session.annotation import Annotation
from napari_sam.session.entries import ObjectState
from napari_sam.session.requests import Request, Result, answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from napari_sam.core.candidates import PlaneCandidate
    from napari_sam.core.masks import LabelPatch
    from napari_sam.core.objects import Key, Origin
    from napari_sam.core.planes import Plane


class Prompting(Annotation):
    """Points, boxes, outlines and masks as prompts, and the choice of a candidate."""

    def segment(
        self,
        object_id: int = 1,
        plane: int | Sequence[int] | Plane | None = None,
        *,
        points: Iterable[Sequence[float]] | None = None,
        point_labels: Iterable[int] | None = None,
        box: Sequence[float] | None = None,
        mask: np.ndarray | None = None,
        polygon: Iterable[Sequence[float]] | None = None,
        scribbles: Any = None,
        scribble_labels: Iterable[int] | None = None,
        paths: Any = None,
        axis: int = 0,
        level: int = 0,
    ) -> list[PlaneCandidate]:
        """Segment one object on one plane and apply the best mask.

        Prompts replace those the object had on this plane; where they only add points
        to them, its mask is refined.

        Parameters
        ----------
        object_id : int
            Value in the labels, 1 or more.
        plane, axis
            Plane, as `Plane.of` takes it; may be left out for 2-D images alone.
        points : iterable of (y, x)
            Pixel centres of the plane, level 0.
        point_labels : iterable of int
            1 = object, 0 = background; all 1 when left out.
        box : (y0, x0, y1, x1)
            Half-open.
        mask : ndarray, bool
            Of the plane's shape: a mask to start from.
        polygon : iterable of (y, x)
            Corners of a rough outline.
        scribbles : iterable of iterable of (y, x)
            Strokes of a free hand through the object, or through what is not it.
        scribble_labels : iterable of int
            1 = object, 0 = background, a stroke; all 1 when left out.
        paths : iterable of iterable of (y, x)
            Places along a thin object (a vessel, a neurite, a crack), from end to end;
            a path for each branch.
        level : int
            Pyramid level at which a lone point is looked at first.

        Returns
        -------
        list of PlaneCandidate
            Best first, in the plane's pixels.

        Raises
        ------
        PromptError
            If the prompts make no sense on this plane; nothing is changed.
        """
        key = self._key(object_id, plane, axis)
        prompts = Prompts.of(
            points=points,
            point_labels=point_labels,
            box=box,
            polygon=polygon,
            mask=mask,
            scribbles=scribbles,
            scribble_labels=scribble_labels,
            paths=paths,
            level=level,
        )
        self.accept(self.run(self.set_prompts(*key, prompts)))
        return self.candidates(*key)

    def set_prompts(
        self, object_id: int, plane: Plane, prompts: Prompts, *, redraws: bool = False
    ) -> Request:
        """Take new prompts for an object on a plane; an older request is superseded.

        Parameters
        ----------
        redraws : bool
            Whether the mask prompt is the object itself, all of whose pixels on the
            plane give way to the answer, as `refine` does.

        Raises
        ------
        PromptError
            If the prompts make no sense on this plane, or the id is no label value.
        """
        key = self._check_id(object_id), plane
        prompts.check(plane.shape(self.volume.shape))
        state = self.document.states.get(key)
        known = state if state is not None and prompts.extends(state.prompts) else None
        return self._request(key, prompts, known, redraws=redraws)

    def run(self, request: Request, cancel: Callable[[], bool] | None = None) -> Result:
        """Answer a request in full. Changes nothing here; call it from any thread.

        Raises
        ------
        Cancelled
            If `cancel` returned True before the answer was there.
        """
        *_, last = self.iter_run(request, cancel)
        return last

    def iter_run(
        self, request: Request, cancel: Callable[[], bool] | None = None
    ) -> Iterator[Result]:
        """Answer a request as soon as can be, then sharper while there is detail left.

        The first answer comes after one look at one window; for objects larger than a
        model's tile each further one has a finer outline. Each may be accepted.

        Raises
        ------
        Cancelled
        """
        return answer(request, cancel)

    def accept(self, result: Result) -> LabelPatch | None:
        """Apply an answer to the labels, as one undoable change.

        A sharper answer to the request answered last takes that one's place.

        Returns
        -------
        LabelPatch or None
            None when the answer is stale, or no pixel changed.
        """
        request, found = result.request, result.prediction
        key = request.object_id, request.plane
        if not self._requests.is_current(key, request.generation):
            return None
        if request.redraws and not found.chosen.area:
            return None  # what was there is better than nothing
        scores = tuple(c.predicted_iou for c in found.candidates)
        origin: Origin = "drawn" if found.prompts.outlined else "clicked"
        state = ObjectState(*key, found.prompts, found.choices, scores, origin)
        with self.document.journal.lock:
            patches = edits.accept(
                self.document, state, found,
                request.order, request.position, request.rule,
                (key, request.generation),
                "segment" if request.choice is None else "choose",
                redraws=request.redraws,
            )  # fmt: skip
        if patches is None:
            return None
        self._requests.predictions[key] = found
        self.changed.emit()
        return patches[-1] if patches else None

    def left_out(self, object_id: int, plane: Plane) -> float:
        """Return the share of the mask answered last that the labels do not show.

        With the rule "keep" that is what lies where other objects already were.

        Returns
        -------
        float
            0 (all of it is shown) to 1; 0 where nothing was answered.
        """
        found = self._requests.predictions.get((object_id, plane))
        if found is None or not found.chosen.area or len(self.objects) < 2:
            return 0.0
        claim = self.document.pixels.claims.get((object_id, plane))
        if claim is None:
            return 1.0
        seen = self.document.read(plane, claim.bbox) == object_id
        shown = np.count_nonzero(claim.mask & seen)
        return max(0.0, 1 - shown / found.chosen.area)

    def choose(
        self,
        k: int,
        object_id: int | None = None,
        plane: int | Sequence[int] | Plane | None = None,
        *,
        axis: int = 0,
    ) -> LabelPatch | None:
        """Apply another candidate of an object; of the one segmented last by default.

        Raises
        ------
        PromptError
            If nothing was segmented there, or there is no candidate `k`.
        """
        return self.accept(self.run(self.set_choice(k, object_id, plane, axis=axis)))

    def set_choice(
        self,
        k: int,
        object_id: int | None = None,
        plane: int | Sequence[int] | Plane | None = None,
        *,
        axis: int = 0,
    ) -> Request:
        """Ask for another candidate as `choose` does, to be answered in any thread.

        Raises
        ------
        PromptError
            If nothing was segmented there, or there is no candidate `k`.
        """
        key = self._key(object_id, plane, axis)
        state = self.document.state(key)
        if isinstance(k, bool) or not 0 <= k < len(state.scores):
            raise PromptError(
                f"object {key[0]} has {len(state.scores)} candidate(s), "
                f"numbered from 0; got {k}"
            )
        return self._request(key, state.prompts, state, operator.index(k))

    def candidates(
        self,
        object_id: int | None = None,
        plane: int | Sequence[int] | Plane | None = None,
        *,
        axis: int = 0,
    ) -> list[PlaneCandidate]:
        """Masks proposed for an object on a plane, best first.

        After a reload they are predicted again from its prompts.
        """
        key = self._key(object_id, plane, axis)
        state = self.document.state(key)
        found = self._requests.predicted(key, state, self.engine)
        return list(found.candidates)

    # -- inside ----------------------------------------------------------------------

    def _request(
        self, key: Key, prompts: Prompts, known: ObjectState | None,
        choice: int | None = None, *, redraws: bool = False,
    ) -> Request:  # fmt: skip
        document = self.document
        document.order += 1
        return Request(
            self.engine, *key, prompts,
            self._requests.supersede(key),
            self._requests.predictions.get(key) if known is not None else None,
            () if known is None else known.choices,
            self.rule, choice, document.order, document.journal.position,
            redraws,
        )  # fmt: skip
