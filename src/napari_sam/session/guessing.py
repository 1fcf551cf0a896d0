"""Classes of objects, guessed from those that a person named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.mask_prompt import MaskPrompt
from napari_sam.engine.classify import NEIGHBOURS, ClassGuesses, guess_classes
from napari_sam.engine.pooled import pooled, tile_of
from napari_sam.errors import Cancelled, SessionError
from napari_sam.results.label_objects import boxes_of_each
from napari_sam.session import edits
from napari_sam.session.annotation import Annotation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


MOST_KNOWN = 200
"""Objects of a class that are looked at to learn it; more teach little."""


class Guessing(Annotation):
    """What is guessed of objects' classes; the part of `Session` for it."""

    def guess_classes(
        self,
        object_id: Iterable[int] | None = None,
        *,
        neighbours: int = NEIGHBOURS,
        progress: Callable[[int, int], None] | None = None,
        cancel: Callable[[], bool] | None = None,
    ) -> ClassGuesses:
        """Guess the classes of objects from those that have one; nothing is changed.

        Each object is compared by the model's features, averaged over its mask and set
        against what lies around it, with the objects whose class is known. The more
        its nearest ones disagree, and the less it is like any of them, the more the
        guess is doubted. May run in any thread.

        Parameters
        ----------
        object_id : iterable of int, optional
            Objects to guess; all without a class when left out.
        neighbours : int
            How many known objects have a say in each.
        progress : callable, optional
            Called with the objects looked at and those in all.
        cancel : callable, optional
            Asked before each; True raises `Cancelled`.

        Returns
        -------
        ClassGuesses
            With the share of the known objects that would be guessed right.

        Raises
        ------
        SessionError
            If no object has a class.
        Cancelled

        Examples
        --------
        >>> from napari_sam.session import Session
        >>> from napari_sam.testing import ToyModel, phantom_image
        >>> image = phantom_image()
        >>> session = Session(image.image, ToyModel(), labels=image.labels)
        >>> session.objects[1].class_name = "cell"
        >>> session.guess_classes([2]).guesses[2].name
        'cell'
        """
        objects = dict(self.document.about)
        names = {i: o.class_name for i, o in objects.items() if o.class_name}
        if not names:
            raise SessionError(
                "no object has a class: give some objects of each class theirs first"
            )
        wanted = set(self.objects) - set(names) if object_id is None else set(object_id)
        taught = _some_of_each({i: n for i, n in names.items() if i not in wanted})
        found = self._features({*taught, *wanted}, progress, cancel)
        return guess_classes(
            {i: v for i, v in found.items() if i in taught},
            names,
            {i: v for i, v in found.items() if i in wanted},
            neighbours=neighbours,
        )

    def accept_classes(self, classes: Mapping[int, str]) -> int:
        """Give objects a class each, as one undoable change; count them.

        Parameters
        ----------
        classes : mapping of int to str
            As `ClassGuesses.below` gives them. Objects that are no more are left out.
        """
        there = self.objects
        kinds = {i: name for i, name in classes.items() if i in there}
        if kinds:
            self.change(lambda d: edits.classify(d, kinds))
        return len(kinds)

    def _features(
        self,
        ids: set[int],
        progress: Callable[[int, int], None] | None,
        cancel: Callable[[], bool] | None,
    ) -> dict[int, np.ndarray]:
        """Features of objects, tile by tile, so that each is encoded once."""
        engine = self.engine
        places = []
        for i, boxes in boxes_of_each(self.labels, ids).items():
            plane = max(boxes, key=lambda p: _area(boxes[p]))
            seen = np.asarray(self.labels[plane.window(boxes[plane])]) == i
            mask = MaskPrompt(boxes[plane], seen)
            window = tile_of(engine, plane, mask)
            at = (window.level, window.y0, window.x0)
            places.append(((plane.index, at), i, plane, mask))
        out: dict[int, np.ndarray] = {}
        for n, (_, i, plane, mask) in enumerate(sorted(places, key=lambda p: p[:2])):
            if cancel is not None and cancel():
                raise Cancelled("guessing classes was stopped")
            out[i] = pooled(engine, plane, mask)
            if progress is not None:
                progress(n + 1, len(places))
        return out


def _area(box: tuple[int, int, int, int]) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def _some_of_each(names: Mapping[int, str]) -> dict[int, str]:
    """Objects of each class, evenly among all by id, `MOST_KNOWN` at most."""
    by_class: dict[str, list[int]] = {}
    for i in sorted(names):
        by_class.setdefault(names[i], []).append(i)
    out: dict[int, str] = {}
    for name, ids in by_class.items():
        step = -(-len(ids) // MOST_KNOWN)
        out |= dict.fromkeys(ids[::step], name)
    return out
