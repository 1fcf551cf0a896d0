"""Session: the one object that every front end works with."""

from __future__ import annotations

import operator
from dataclasses import replace
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from psygnal import Signal

from napari_sam.core.clean import CleanOptions
from napari_sam.core.intensity import IntensityMapping
from napari_sam.core.masks import LabelPatch
from napari_sam.core.objects import ClassList, Key, Origin, PlaneRecord, Rule
from napari_sam.core.planes import Plane
from napari_sam.core.prompts import MaskPrompt, Prompts
from napari_sam.engine.engine import Engine
from napari_sam.engine.propagate import PropagateOptions
from napari_sam.errors import PromptError, SessionError, VolumeError
from napari_sam.session import propagation
from napari_sam.session.cleaning import cleaned
from napari_sam.session.document import Document
from napari_sam.session.entries import Entry, ObjectState
from napari_sam.session.objects import Objects, checked_classes
from napari_sam.session.requests import Request, Requests, Result, answer
from napari_sam.session.storage import Storage, head_of, open_saved_volume

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from napari_sam.core.candidates import PlaneCandidate
    from napari_sam.engine.propagate import PlaneMask
    from napari_sam.engine.suggest import Suggestion
    from napari_sam.models.protocol import PromptableModel
    from napari_sam.results.results import Results
    from napari_sam.session.propagation import Propagation
    from napari_sam.session.suggestions import Suggestions
    from napari_sam.volume.volume import Volume

    Intensity = IntensityMapping | tuple[float, float]


class Session:
    """Prompts, masks and labels of one volume, with undo and autosave.

    Parameters
    ----------
    volume : Volume or anything `open_volume` takes
    model : PromptableModel or str
        A model, or what `load_model` takes.
    embeddings : path, False or None
        Folder of the embedding store; None: the user's cache, or memory for an array
        that has no path; True: beside the data; False: memory only.
    path : path-like, optional
        ``name.nsam`` folder where every change is kept as it is made. `save` names one
        later.
    intensity : IntensityMapping or (low, high), optional
        How raw values become the model's input: a mapping, or the values that become
        black and white; the volume's own when left out.
    labels : path or array-like, optional
        Existing labels to continue: a file of any format, or whole numbers of the
        volume's shape. A file must lie where the image lies; flipped or permuted axes
        are turned. Unsigned integers are changed in place, until an id needs a bigger
        type than numpy labels have; everything else is copied.

    Raises
    ------
    VolumeError, ModelError, SessionError

    Examples
    --------
    >>> from napari_sam.testing import ToyModel, phantom_image
    >>> image = phantom_image()
    >>> session = Session(image.pixels, ToyModel())
    >>> session.segment(points=[image.centers[1]])[0].area > 0
    True
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

    def __init__(
        self,
        volume: Any,
        model: PromptableModel | str = "nano",
        *,
        embeddings: str | os.PathLike[str] | bool | None = None,
        path: str | os.PathLike[str] | None = None,
        intensity: Intensity | None = None,
        labels: Any = None,
    ) -> None:
        from napari_sam.results.existing import writable_labels
        from napari_sam.volume.opening import open_volume

        self.volume: Volume = open_volume(volume)
        self.rule: Rule = "keep"
        """What a mask does where another object already is: "keep" or "overwrite"."""
        self.writer: Callable[[LabelPatch], None] = self._write
        """Writes a patch's pixels into the labels; a GUI puts its own here."""
        self.engine = Engine.of(
            self.volume,
            _as_model(model),
            intensity=self._mapping(intensity),
            embeddings=embeddings,
        )
        """What answers prompts, replaced as a whole by `use`."""
        self.document = Document(_own(writable_labels(self.volume, labels)), self._put)
        """Labels, objects and their history."""
        if labels is not None:
            self.document.begin(_imported(self.labels))
        self._requests = Requests()
        self._storage = Storage(self.document)
        self.document.journal.writer.on_error = _emitting(self)
        if path is not None:
            self.save(path)

    @property
    def labels(self) -> Any:
        """Array-like of the volume's shape, unsigned integers; 0 is background."""
        return self.document.labels

    # -- prompts to masks ------------------------------------------------------------

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
            level=level,
        )
        self.accept(self.run(self.set_prompts(*key, prompts)))
        return self.candidates(*key)

    def set_prompts(self, object_id: int, plane: Plane, prompts: Prompts) -> Request:
        """Take new prompts for an object on a plane; an older request is superseded.

        Raises
        ------
        PromptError
            If the prompts make no sense on this plane, or the id is no label value.
        """
        key = self._check_id(object_id), plane
        prompts.check(plane.shape(self.volume.shape))
        state = self.document.states.get(key)
        known = state if state is not None and prompts.extends(state.prompts) else None
        return self._request(key, prompts, known)

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
        scores = tuple(c.predicted_iou for c in found.candidates)
        origin: Origin = "drawn" if found.prompts.outlined else "clicked"
        state = ObjectState(*key, found.prompts, found.choices, scores, origin)
        with self.document.journal.lock:
            patches = self.document.accept(
                state, found, request.order, request.position, request.rule,
                (key, request.generation),
                "segment" if request.choice is None else "choose",
            )  # fmt: skip
        if patches is None:
            return None
        self._requests.predictions[key] = found
        self.changed.emit()
        return patches[-1] if patches else None

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
        self.change(lambda d: d.set_classes(checked_classes(classes)))

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
            self.change(lambda d: d.withdraw((object_id, plane)))
            return
        self._requests.supersede_object(object_id)
        found = boxes_of(self.labels, object_id) if boxes is None else boxes
        self.change(lambda d: d.delete(object_id, found))

    def results(self, *, reviewed_only: bool = False) -> Results:
        """Return labels, objects and provenance, as every writer takes them.

        Parameters
        ----------
        reviewed_only : bool
            Leave out objects that nobody has accepted.
        """
        from napari_sam.session.provenance import results_of

        return results_of(self, reviewed_only=reviewed_only)

    def record_paint(self, patch: LabelPatch, object_id: int | None = None) -> None:
        """Take pixels painted by hand, already in the labels, into the history.

        What was painted belongs to no mask any more: refining, moving or deleting an
        object leaves the painted pixels of others alone.
        """
        self.change(lambda d: d.paint(patch, object_id))
        self.patched.emit(patch)

    def change(self, make: Callable[[Document], None]) -> None:
        """Make a change of the document as one step, and tell of it."""
        with self.document.journal.lock:
            make(self.document)
        self.changed.emit()

    # -- suggestions -----------------------------------------------------------------

    @cached_property
    def suggestions(self) -> Suggestions:
        """What a model proposes for the rest, apart from the labels until accepted."""
        from napari_sam.session.suggestions import Suggestions

        return Suggestions(self)

    def suggest(self, planes: Any = None, **options: Any) -> list[Suggestion]:
        """Look for further objects; return all that wait, most doubtful first.

        Takes what `Suggestions.find` does; accept or reject them in `suggestions`.
        """
        for _ in self.suggestions.find(planes, **options):
            pass
        return self.suggestions.pending

    def accept_suggestions(self, chosen: Sequence[tuple[int, Suggestion]]) -> int:
        """Make suggestions the objects of those ids, as one change; count them."""
        document = self.document
        document.order += 1
        with document.journal.lock:
            made = document.accept_suggestions(chosen, document.order)
        self.changed.emit()
        return made

    # -- volumes ---------------------------------------------------------------------

    def propagate(
        self,
        object_id: int | Sequence[int] = 1,
        *,
        planes: tuple[int, int] | None = None,
        plane: int | Sequence[int] | Plane | None = None,
        axis: int = 0,
        method: str = "auto",
        options: PropagateOptions | None = None,
        anew: bool = True,
        cancel: Callable[[], bool] | None = None,
    ) -> list[PlaneMask]:
        """Carry objects from the planes they were made on to those between and beyond.

        One undoable change. Planes that a person prompted or painted are never changed.

        Parameters
        ----------
        object_id : int or sequence of int
            Several objects do not take each other's pixels: the surer one has them.
        planes : (first, last), optional
            Planes to fill, both included; as far as the object goes when left out.
        plane, axis
            A plane of the stack, as `Plane.of` takes it: only needed to name the axis,
            or the time point.
        method : {"auto", "memory", "projection", "interpolate"}
            As `PropagateOptions` says; `options` holds the rest.
        anew : bool
            False: only stretches next to a plane that has changed since.

        Returns
        -------
        list of PlaneMask
            What was found, with its doubt.

        Raises
        ------
        PromptError
            If an object was made on no plane of this stack.
        ModelError, VolumeError, Cancelled
        """
        chosen = replace(options or PropagateOptions(), method=method)  # type: ignore[arg-type]
        task = self.set_propagation(
            object_id, plane, axis=axis, planes=planes, options=chosen, anew=anew
        )
        found = list(task.run(cancel))
        self.accept_propagation(task, found)
        return [one for _, one in found]

    def interpolate(
        self, object_id: int | Sequence[int] = 1, **options: Any
    ) -> list[PlaneMask]:
        """Fill the planes between key planes from their shapes alone: `propagate`."""
        return self.propagate(object_id, method="interpolate", **options)

    def set_propagation(
        self,
        object_id: int | Sequence[int],
        plane: int | Sequence[int] | Plane | None = None,
        *,
        axis: int = 0,
        planes: tuple[int, int] | None = None,
        options: PropagateOptions | None = None,
        anew: bool = True,
    ) -> Propagation:
        """Ask for what `propagate` does, to be run in any thread."""
        ids = np.atleast_1d(np.asarray(object_id, object)).tolist()
        n_leading = max(len(self.volume.shape) - 3, 0)
        stack = (0,) * (n_leading + 1) if plane is None else plane
        if len(self.volume.shape) < 3:
            raise VolumeError("a 2-D image is one plane: there is none to propagate to")
        return propagation.prepare(
            self, [self._check_id(i) for i in ids],
            Plane.of(self.volume.shape, stack, axis=axis),
            planes, options or PropagateOptions(), anew=anew,
        )  # fmt: skip

    def accept_propagation(
        self, task: Propagation, found: Iterable[tuple[int, PlaneMask]]
    ) -> int | None:
        """Apply what a propagation found, as one undoable change; count the planes.

        Returns
        -------
        int or None
            None when too much has changed since it was asked for.
        """
        document = self.document
        masks = propagation.settled(found)
        with document.journal.lock:
            filled = document.fill(
                masks, task.replaced, task.order, task.position, task.rule
            )
        self.changed.emit()
        return filled

    def clean(
        self,
        object_id: int = 1,
        options: CleanOptions | None = None,
        *,
        plane: int | Sequence[int] | Plane | None = None,
        axis: int = 0,
    ) -> int:
        """Tidy an object: holes, fragments, outline, largest part; one undo step.

        Parameters
        ----------
        object_id : int
        options : CleanOptions, optional
        plane, axis
            Only on this plane; the whole object, in 3-D, where left out.

        Returns
        -------
        int
            Planes on which something changed.
        """
        where = None
        if plane is not None:
            where = Plane.of(self.volume.shape, plane, axis=axis)
        masks = cleaned(
            self.labels, self.volume, _whole(object_id),
            options or CleanOptions(), where,
        )  # fmt: skip
        self.change(lambda d: d.reshape(_whole(object_id), masks))
        return len(masks)

    def doubtful(
        self, object_id: int | None = None, least: float = propagation.DOUBTFUL
    ) -> list[tuple[int, Plane, float]]:
        """Doubtful planes not reviewed: (object, plane, doubt), worst first.

        Parameters
        ----------
        object_id : int, optional
            Of one object; of all when left out.
        least : float
            Doubt from which on a plane counts, 0..1.
        """
        ids = self.objects if object_id is None else [_whole(object_id)]
        return propagation.doubtful(self, ids, least)

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

    # -- files -----------------------------------------------------------------------

    @property
    def path(self) -> str | None:
        """Folder of this session, or None while it has none."""
        files = self._storage.files
        return None if files is None else str(files.path)

    @property
    def write_error(self) -> SessionError | None:
        """Why changes could not be saved; None once they are."""
        return self.document.journal.writer.error

    def flush(self) -> None:
        """Wait until every change is on the disk, as it is within a second anyway.

        Raises
        ------
        SessionError
            If it cannot be written; the next change tries again.
        """
        self.document.journal.writer.flush()

    def save(self, path: str | os.PathLike[str] | None = None) -> None:
        """Write a checkpoint of the labels; with a path, keep the session there.

        Raises
        ------
        SessionError
            If it cannot be written, the folder holds another session, or no path was
            ever given. The session in memory stays as it is.
        """
        self._storage.save(path, self._head())
        if "suggestions" in vars(self):
            self.suggestions.save()

    def export(
        self,
        path: str | os.PathLike[str],
        format: str | None = None,  # noqa: A002
        *,
        plane: int | Sequence[int] | Plane | None = None,
        reviewed_only: bool = False,
        overwrite: bool = False,
        **options: Any,
    ) -> list[str]:
        """Write the objects to a file; it is there whole or not at all.

        Parameters
        ----------
        path : path-like
            Its suffix names the format: see docs/formats.md.
        format : str, optional
            Name of a format, such as "coco", where the suffix does not say.
        plane : int, sequence of int or Plane, optional
            Only this plane, as a 2-D image.
        reviewed_only : bool
            Leave out objects that nobody has accepted.
        overwrite : bool
            Replace labels that are there as a folder. Files are replaced in any case.
        **options
            Of the format.

        Returns
        -------
        list of str
            What the file cannot hold, one sentence each. It is logged, too.

        Raises
        ------
        ExportError
            If there is no such format, it needs a package that is missing or cannot
            hold these labels, or the path cannot be written.

        Examples
        --------
        >>> session.export("cells.json")  # doctest: +SKIP
        >>> session.export("cells.geojson", format="qupath")  # doctest: +SKIP
        """
        from napari_sam.session.exchange import export

        return export(
            self.results(), path, format, plane=plane,
            reviewed_only=reviewed_only, overwrite=overwrite, **options,
        )  # fmt: skip

    def read(
        self,
        path: str | os.PathLike[str],
        format: str | None = None,  # noqa: A002
        *,
        plane: int | Sequence[int] | Plane | None = None,
        taken: Literal["new", "refuse"] = "new",
        **options: Any,
    ) -> Results:
        """Take in the objects of a file, as one change that can be undone.

        Pixels of other objects are kept or overwritten as `rule` says.

        Parameters
        ----------
        path : path-like
            Labels or annotations of this image.
        format : str, optional
            Name of a format, where neither the suffix nor the content says.
        plane : int, sequence of int or Plane, optional
            Where a file of a 2-D image belongs.
        taken : {"new", "refuse"}
            Objects whose id the session has already get new ids, or the file is
            refused.
        **options
            Of the format.

        Returns
        -------
        Results
            What was read, with the ids it has here; `Results.notes` says what was
            left out. It is logged, too.

        Raises
        ------
        VolumeError
            If the file is damaged, or belongs to another image.
        SessionError
            If ids are taken and may not be changed.
        ExportError
            If there is no such format, or it needs a package that is missing.
        """
        from napari_sam.session.exchange import read

        return read(self, path, format, plane=plane, taken=taken, **options)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        volume: Any = None,
        model: PromptableModel | str | None = None,
        embeddings: str | os.PathLike[str] | bool | None = None,
        read_only: bool = False,
    ) -> Session:
        """Open a saved session and continue where it was, also after a crash.

        Parameters
        ----------
        path : path-like
            ``name.nsam`` folder.
        volume, model : optional
            Instead of those the session names: for data that moved or had no path.
        embeddings
            As for `Session`.
        read_only : bool
            Look only: works while another process has the session open; further
            changes stay in memory.

        Raises
        ------
        SessionError, SessionLockedError, VolumeError, ModelError
        """
        from napari_sam.session.files import read_head

        head = read_head(path)
        session = cls(
            open_saved_volume(head, volume),
            head["model"] if model is None else model,
            embeddings=embeddings,
            intensity=IntensityMapping.from_json(head["intensity"]),
        )
        storage = session._storage
        records = storage.look(path) if read_only else storage.open(path)
        try:
            storage.replay(path, records)
        except BaseException:
            session.close()
            raise
        session.rule = head["rule"]
        return session

    def close(self) -> None:
        """Finish writing and let go of the session's folder.

        Raises
        ------
        SessionError
            If the last changes could not be written; the folder is let go of.
        """
        self._storage.close()

    # -- model and embeddings --------------------------------------------------------

    @property
    def model(self) -> PromptableModel:
        """The model in use."""
        return self.engine.model

    def use(
        self,
        *,
        model: PromptableModel | None = None,
        intensity: Intensity | None = None,
    ) -> None:
        """Go on with another model or intensity mapping, from the next prompt on.

        Masks, prompts and history stay; answers under way are dropped.
        """
        mapping = self._mapping(intensity)
        self.engine = self.engine.using(model=model, intensity=mapping)
        self._requests.supersede_all()
        self._storage.note(self._head())

    # -- in a notebook ---------------------------------------------------------------

    def view(self, viewer: Any = None) -> Any:
        """Open napari with the panel at work on this very session.

        What is clicked there happens here, and what is done here shows there; closing
        the window leaves the session open. In a notebook, run ``%gui qt`` first.

        Parameters
        ----------
        viewer : napari.Viewer, optional
            A window to show it in; a new one when left out.

        Returns
        -------
        napari.Viewer

        Raises
        ------
        NapariSamError
            If napari is not installed, or there is no screen.
        """
        # By name: nothing below the windows imports them.
        viewing = import_module("napari_sam._napari.viewing")
        return viewing.view_session(self, viewer)

    def _repr_html_(self) -> str:
        from napari_sam.session.notebook import session_html

        return session_html(self)

    def _repr_png_(self) -> bytes:
        from napari_sam.session.notebook import session_png

        return session_png(self)

    # -- inside ----------------------------------------------------------------------

    def _request(
        self, key: Key, prompts: Prompts, known: ObjectState | None,
        choice: int | None = None,
    ) -> Request:  # fmt: skip
        document = self.document
        document.order += 1
        return Request(
            self.engine, *key, prompts,
            self._requests.supersede(key),
            self._requests.predictions.get(key) if known is not None else None,
            () if known is None else known.choices,
            self.rule, choice, document.order, document.journal.position,
        )  # fmt: skip

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
        return (1 if object_id is None else _whole(object_id), where)

    def _check_id(self, object_id: int) -> int:
        from napari_sam.results.label_arrays import highest_possible

        object_id, top = _whole(object_id), highest_possible(self.labels)
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

    def _mapping(self, given: Intensity | None) -> IntensityMapping | None:
        if given is None or isinstance(given, IntensityMapping):
            return given
        low, high = given
        return self.volume.intensity.with_window(float(low), float(high))

    def _head(self) -> dict[str, Any]:
        return head_of(self.volume, self.model, self.engine.intensity, self.rule)


def _as_model(model: PromptableModel | str) -> PromptableModel:
    if isinstance(model, str):
        from napari_sam.models.registry import load_model

        return load_model(model)
    return model


def _whole(object_id: Any) -> int:
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


def _own(labels: Any) -> Any:
    """Copy labels that may not be changed in place."""
    frozen = isinstance(labels, np.ndarray) and not labels.flags.writeable
    return labels.copy() if frozen else labels


_LISTED = 2**26
"""Voxels up to which given labels are looked through for their objects."""


def _imported(labels: Any) -> Entry:
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


def _emitting(session: Session) -> Callable[[SessionError], None]:
    """Tell a session of an error without keeping it alive."""
    import weakref

    known = weakref.ref(session)

    def emit(error: SessionError) -> None:
        if (found := known()) is not None:
            found.write_failed.emit(error)

    return emit
