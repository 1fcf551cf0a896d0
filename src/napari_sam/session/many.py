"""One object for each of many prompts: boxes of a layer, points, a detector's file."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_sam.core.objects import ClassList, ObjectClass, ObjectRecord
from napari_sam.core.planes import Plane
from napari_sam.core.prompts import Prompts
from napari_sam.engine.predict import predict_many
from napari_sam.engine.refine import refine
from napari_sam.errors import PromptError
from napari_sam.results.detections import Detection, read_detections
from napari_sam.results.label_arrays import highest_label
from napari_sam.session.deciding import claim_free
from napari_sam.session.entries import ObjectState
from napari_sam.session.prompting import Prompting
from napari_sam.session.strokes import less_strokes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import numpy as np

    from napari_sam.core.masks import Bbox
    from napari_sam.core.objects import Key, Origin, Rule
    from napari_sam.engine.engine import Engine
    from napari_sam.engine.prediction import Prediction
    from napari_sam.session.claims import Claim
    from napari_sam.session.composition import Changes
    from napari_sam.session.document import Document
    from napari_sam.session.entries import Entry


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """The mask of one of many prompts, without the logits it came from."""

    number: int
    """Of the prompts."""
    bbox: Bbox
    mask: np.ndarray
    choices: tuple[int, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ManyRequest:
    """Many prompts that were asked for: frozen, to be answered in any thread."""

    engine: Engine
    labels: Any
    asked: tuple[Detection, ...]
    planes: tuple[Plane, ...]
    rule: Rule
    order: int
    """Place of the first one among all requests."""
    position: int
    """Steps in the journal when it was sent."""

    def run(self, cancel: Callable[[], bool] | None = None) -> Iterator[Answer]:
        """Answer each, as `segment` would alone.

        Raises
        ------
        Cancelled
        """
        by_plane: dict[Plane, list[int]] = defaultdict(list)
        for k, plane in enumerate(self.planes):
            by_plane[plane].append(k)
        for plane, ks in by_plane.items():
            asked = [self.asked[k].prompts for k in ks]
            for n, found in predict_many(self.engine, asked, plane, cancel=cancel):
                *_, last = (found, *refine(self.engine, found, plane, cancel))
                yield _answer(ks[n], last)

    def highest(self) -> int:
        """Return the highest id in the labels, for new ones to follow."""
        return highest_label(self.labels)


class Many(Prompting):
    """Many prompts at once; the part of `Session` for layers and detectors."""

    def segment_many(
        self,
        prompts: str | os.PathLike[str] | Iterable[Prompts] | None = None,
        plane: int | Sequence[int] | Plane | None = None,
        *,
        boxes: Any = None,
        points: Any = None,
        class_name: str | None = None,
        axis: int = 0,
        cancel: Callable[[], bool] | None = None,
    ) -> list[int]:
        """Segment one new object for each of many prompts, as one undoable change.

        The masks are those that `segment` gives for each prompt alone; prompts that lie
        in the same tile are decoded together.

        Parameters
        ----------
        prompts : path or iterable of Prompts, optional
            A file of boxes, points or outlines, as `read_detections` reads it: a CSV
            table, napari's Shapes or Points, COCO JSON, YOLO txt.
        plane, axis
            As for `segment`; the plane a file names counts more.
        boxes : array-like, (N, 4), optional
            (y0, x0, y1, x1), half-open.
        points : array-like, (N, 2), optional
            (y, x).
        class_name : str, optional
            Class of those that the file gives none.
        cancel : callable, optional
            Asked between tiles; True raises `Cancelled`, and nothing is changed.

        Returns
        -------
        list of int
            The object of each prompt, 0 where nothing was found or all was taken.

        Raises
        ------
        PromptError
            If a prompt makes no sense on its plane.
        VolumeError
            If the file cannot be read.
        Cancelled

        Examples
        --------
        >>> from napari_sam import Session
        >>> from napari_sam.testing import ToyModel, phantom_image
        >>> image = phantom_image()
        >>> session = Session(image.image, ToyModel())
        >>> session.segment_many(points=[image.center(1), image.center(2)])
        [1, 2]
        """
        given: list[Detection] = []
        if prompts is not None:
            given += self._detections(prompts)
        for box in () if boxes is None else boxes:
            given.append(Detection(Prompts.of(box=box)))
        for point in () if points is None else points:
            given.append(Detection(Prompts.of(points=[point])))
        task = self.set_many(given, plane, axis=axis)
        return self.accept_many(task, list(task.run(cancel)), class_name=class_name)

    def set_many(
        self,
        asked: Sequence[Detection],
        plane: int | Sequence[int] | Plane | None = None,
        *,
        axis: int = 0,
    ) -> ManyRequest:
        """Ask for what `segment_many` does, to be answered in any thread."""
        if not asked:
            raise PromptError("no prompt given: give boxes, points or a file of them")
        here: Plane | None = None
        planes = []
        for number, one in enumerate(asked, 1):
            if one.plane is not None:
                where = Plane.of(self.volume.shape, one.plane, axis=axis)
            else:
                where = here = here or self._key(1, plane, axis)[1]
            try:
                one.prompts.check(where.shape(self.volume.shape))
            except PromptError as error:
                raise PromptError(f"prompt {number} of {len(asked)}: {error}") from None
            planes.append(where)
        document = self.document
        first = document.order + 1
        document.order += len(asked)
        return ManyRequest(
            self.engine, self.labels, tuple(asked), tuple(planes), self.rule, first,
            document.journal.position,
        )  # fmt: skip

    def accept_many(
        self,
        task: ManyRequest,
        answers: Sequence[Answer],
        *,
        class_name: str | None = None,
        highest: int | None = None,
    ) -> list[int]:
        """Make the answers objects, as one undoable change; see `segment_many`.

        `highest`: what `ManyRequest.highest` said in another thread.

        Raises
        ------
        PromptError
            If too much has changed since they were asked for.
        """
        top = task.highest() if highest is None else highest
        first = max(top, *self.objects, 0) + 1
        steps = self.document.journal.since(task.position)
        if steps is None:
            raise PromptError("too much has changed since the prompts: ask again")
        found = sorted((a for a in answers if a.mask.any()), key=lambda a: a.number)
        ids = {a.number: first + n for n, a in enumerate(found)}
        if ids:
            self.make_room(max(ids.values()))
        made: set[int] = set()
        kind = class_name or self.document.class_of_new
        self.change(lambda d: made.update(_put(d, task, found, ids, steps, kind)))
        numbers = range(len(task.asked))
        return [ids[k] if ids.get(k) in made else 0 for k in numbers]

    def _detections(
        self, given: str | os.PathLike[str] | Iterable[Prompts]
    ) -> list[Detection]:
        if isinstance(given, (str, os.PathLike)):
            return read_detections(given, self.volume.shape)
        return [Detection(p) for p in given]


def _answer(number: int, found: Prediction) -> Answer:
    chosen = found.chosen
    scores = tuple(c.predicted_iou for c in found.candidates)
    return Answer(number, chosen.bbox, chosen.mask, found.choices, scores)


def _put(
    document: Document,
    task: ManyRequest,
    found: Sequence[Answer],
    ids: dict[int, int],
    steps: list[tuple[str, Entry]],
    class_name: str | None,
) -> list[int]:
    """Make answers objects; return those of which some pixel is theirs."""
    claims: dict[Key, Claim] = {}
    by_plane: dict[Plane, list[tuple[int, Bbox, np.ndarray]]] = defaultdict(list)
    for a in found:
        plane = task.planes[a.number]
        mask = less_strokes(a.mask, plane, a.bbox, steps)
        by_plane[plane].append((ids[a.number], a.bbox, mask))
    with document.changing() as changes:
        for plane, masks in by_plane.items():
            if task.rule == "keep":
                claims |= claim_free(document, changes, plane, masks, task.order)
            else:
                claims |= _over(document, changes, plane, masks, task.order)
    states: dict[Key, ObjectState] = {}
    about: dict[int, ObjectRecord] = {}
    for a in found:
        key = ids[a.number], task.planes[a.number]
        if key in claims:
            asked = task.asked[a.number]
            origin: Origin = "drawn" if asked.prompts.outlined else "clicked"
            states[key] = ObjectState(*key, asked.prompts, a.choices, a.scores, origin)
            kind = asked.class_name or class_name
            if kind:
                about[key[0]] = ObjectRecord(key[0], class_name=kind)
    after: dict[str, dict[Any, Any]] = {"states": states, "about": about}
    classes = document.classes[""]
    for name in dict.fromkeys(r.class_name for r in about.values()):
        if name and classes.get(name) is None:
            classes = ClassList((*classes.classes, ObjectClass(name)))
    if classes is not document.classes[""]:
        after["classes"] = {"": classes}
    if states:
        document.commit(document.entry("segment", changes, after))
    return [key[0] for key in states]


def _over(
    document: Document,
    changes: Changes,
    plane: Plane,
    masks: Sequence[tuple[int, Bbox, np.ndarray]],
    order: int,
) -> dict[Key, Claim]:
    """Put new objects on top of all others, and later ones on top of earlier ones."""
    out: dict[Key, Claim] = {}
    for n, (object_id, bbox, mask) in enumerate(masks):
        key = object_id, plane
        out[key] = document.pixels.claim(
            changes, key, bbox, mask, order + n, "overwrite"
        )
    return out
