"""What a session knows of labels and objects, and every change of them."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from napari_sam.core.mask_prompt import MaskPrompt
from napari_sam.core.masks import LabelPatch
from napari_sam.core.objects import ClassList, Key, PlaneRecord, Rule
from napari_sam.core.planes import Plane
from napari_sam.errors import PromptError, SessionError
from napari_sam.session import edits
from napari_sam.session.class_files import checked_classes
from napari_sam.session.entries import Entry, ObjectState
from napari_sam.session.objects import Objects

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_sam.core.intensity import IntensityMapping
    from napari_sam.engine.engine import Engine
    from napari_sam.models.protocol import PromptableModel
    from napari_sam.session.document import Document
    from napari_sam.session.requests import Requests
    from napari_sam.volume.volume import Volume

    Intensity = IntensityMapping | tuple[float, float]


class Annotation:
    """Labels and objects of a volume, with undo; the part of `Session` without models.

    Made by `Session` alone.
    """

    patched = Signal(LabelPatch)
    """Pixels have changed: emitted after the patch was written."""
    grown = Signal()
    """`labels` is another array, of a bigger type: an id did not fit any more."""
    changed = Signal()
    """Objects, candidates or the undo history have changed."""
    write_failed = Signal(SessionError)
    """Changes could not be saved. Emitted in the thread that writes; see
    `write_error`."""

    volume: Volume
    engine: Engine
    document: Document
    """Labels, objects and their history."""
    rule: Rule
    writer: Callable[[LabelPatch], None]
    _requests: Requests

    @property
    def labels(self) -> Any:
        """Array-like of the volume's shape, unsigned integers; 0 is background."""
        return self.document.labels

    @property
    def model(self) -> PromptableModel:
        """The model in use."""
        return self.engine.model

    # -- objects ---------------------------------------------------------------------

    @property
    def objects(self) -> Objects:
        """Objects by id: names, classes, review, and what is known on each plane."""
        return Objects(self)

    @property
    def classes(self) -> ClassList:
        """Classes that objects can have; setting it is an undoable change."""
        return self.document.classes[""]

    @classes.setter
    def classes(self, classes: ClassList) -> None:
        self.change(lambda d: edits.set_classes(d, checked_classes(classes), {}))

    def object(self, object_id: int, plane: Plane) -> ObjectState | None:
        """Return what was said of an object on a plane, or None."""
        return self.document.states.get((object_id, plane))

    def states(self, object_id: int) -> dict[Plane, ObjectState]:
        """Return what was said of an object, by plane."""
        found = self.document.states
        keys = self.document.keys.get(object_id, ())
        return {key[1]: found[key] for key in keys if key in found}

    def masks(self, object_id: int) -> dict[Plane, MaskPrompt]:
        """Return the masks that an object was given, by plane, also where others lie
        above.
        """
        held = self.document.pixels.claims
        keys = [k for k in self.document.keys.get(object_id, ()) if k in held]
        return {k[1]: MaskPrompt(held[k].bbox, held[k].mask) for k in keys}

    def new_object(self) -> int:
        """Return an id that no object has yet."""
        from napari_sam.results.label_arrays import highest_label

        return int(max(highest_label(self.labels), *self.objects, 0)) + 1

    def delete_object(
        self, object_id: int, plane: Plane | None = None, *, boxes: Any = None
    ) -> None:
        """Remove an object with its pixels and prompts on all planes; undoable.

        With a plane, take back only what its prompts made there. `boxes`: where the
        object is, as `boxes_of` found it in another thread.
        """
        from napari_sam.results.label_objects import boxes_of

        if plane is not None:
            self._requests.supersede((object_id, plane))
            self.change(lambda d: edits.withdraw(d, (object_id, plane)))
            return
        self._requests.supersede_object(object_id)
        found = boxes_of(self.labels, object_id) if boxes is None else boxes
        self.change(lambda d: edits.delete(d, {object_id: found}))

    def record_paint(self, patch: LabelPatch, object_id: int | None = None) -> None:
        """Take pixels painted by hand, already in the labels, into the history.

        What was painted belongs to no mask any more: refining, moving or deleting an
        object leaves the painted pixels of others alone.
        """
        self.change(lambda d: edits.paint(d, patch, object_id))
        self.patched.emit(patch)

    def change(self, make: Callable[[Document], None]) -> None:
        """Make a change of the document as one step, and tell of it."""
        with self.document.journal.lock:
            make(self.document)
        self.changed.emit()

    # -- history ---------------------------------------------------------------------

    @property
    def can_undo(self) -> bool:
        """Whether there is a change to take back."""
        return bool(self.document.journal.done)

    @property
    def can_redo(self) -> bool:
        """Whether a change taken back can be done again."""
        return bool(self.document.journal.undone)

    def undo(self) -> bool:
        """Take the last change back: pixels, prompts and choices together."""
        return self._step(back=True)

    def redo(self) -> bool:
        """Do the change that was taken back last again."""
        return self._step(back=False)

    # -- inside ----------------------------------------------------------------------

    def _step(self, *, back: bool) -> bool:
        entry = self.document.step(back=back)
        if entry is None:
            return False
        for key in {**entry.values.get("states", {}), **entry.values.get("claims", {})}:
            self._requests.supersede(key)
            self._requests.predictions.pop(key, None)
        self.changed.emit()
        return True

    def _put(self, patch: LabelPatch) -> None:
        if patch.after.dtype.itemsize > self.labels.dtype.itemsize:
            self.make_room(int(patch.after.max(initial=0)))
        self.writer(patch)
        self.patched.emit(patch)

    def _write(self, patch: LabelPatch) -> None:
        patch.write(self.labels)

    def _key(self, object_id: int | None, plane: Any, axis: int) -> Key:
        """Return an object and a plane: those segmented last, if neither is given."""
        if object_id is None and plane is None:
            if self.document.last is None:
                raise PromptError("nothing is segmented yet: call segment() first")
            return self.document.last
        shape = self.volume.shape
        if plane is None and len(shape) > 2:
            raise PromptError(
                f"plane is needed for a volume of shape {shape}: give its index on "
                "axis 0 (or on another axis=...), or (t, z) and so on"
            )
        where = Plane.of(shape, 0 if plane is None else plane, axis=axis)
        return (1 if object_id is None else whole(object_id), where)

    def _check_id(self, object_id: int) -> int:
        from napari_sam.results.label_arrays import highest_possible

        object_id, top = whole(object_id), highest_possible(self.labels)
        if not 1 <= object_id <= top:
            raise PromptError(
                f"object_id must be 1 to {top} for labels of type {self.labels.dtype} "
                f"(0 is background); got {object_id}"
            )
        self.make_room(object_id)
        return object_id

    def make_room(self, top: int) -> None:
        """Let the labels hold a value; the undo history goes on as it is."""
        from napari_sam.results.label_arrays import grown

        if top > np.iinfo(self.labels.dtype).max:
            self.document.labels = grown(self.labels, top)
            self.grown.emit()


def whole(object_id: Any) -> int:
    """Take an id of any type of whole number."""
    try:
        if isinstance(object_id, (bool, np.bool_)):
            raise TypeError
        if isinstance(object_id, (float, np.floating)) and object_id == int(object_id):
            return int(object_id)
        return operator.index(object_id)
    except (TypeError, ValueError, OverflowError):
        raise PromptError(
            f"object_id is a whole number, the object's value in the labels; got "
            f"{object_id!r}"
        ) from None


def own_labels(labels: Any) -> Any:
    """Copy labels that may not be changed in place."""
    frozen = isinstance(labels, np.ndarray) and not labels.flags.writeable
    return labels.copy() if frozen else labels


_LISTED = 2**26
"""Voxels up to which given labels are looked through for their objects."""


def imported(labels: Any) -> Entry:
    """Records of the objects in labels that were given."""
    entry = Entry("start")
    found = entry.values.setdefault("painted", {})
    if isinstance(labels, np.ndarray) and labels.size <= _LISTED and labels.any():
        for index in np.ndindex(labels.shape[:-2]):
            plane = Plane(tuple(int(i) for i in index))
            pixels = labels[index]
            small = pixels.max(initial=0) < 2**20
            ids = (
                np.flatnonzero(np.bincount(pixels.ravel()))
                if small
                else np.unique(pixels)
            )
            for i in ids[ids > 0]:
                found[int(i), plane] = None, PlaneRecord("imported")
    return entry
