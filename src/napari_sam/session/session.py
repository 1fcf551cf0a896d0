"""Session: the one object that every front end works with."""

from __future__ import annotations

from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from psygnal import Signal

from napari_sam.core.intensity import IntensityMapping
from napari_sam.core.masks import LabelPatch
from napari_sam.core.objects import Change, Key, Kind, ObjectState, Rule
from napari_sam.core.planes import Plane
from napari_sam.core.prompts import Prompts
from napari_sam.engine.engine import Engine
from napari_sam.engine.predict import predict, refine
from napari_sam.errors import PromptError, SessionError
from napari_sam.session import laying, saving
from napari_sam.session.ledger import Ledger
from napari_sam.session.requests import Request, Result, answer

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from napari_sam.core.masks import MaskCandidate
    from napari_sam.engine.prediction import Prediction
    from napari_sam.engine.suggest import Suggestion
    from napari_sam.models.protocol import PromptableModel
    from napari_sam.results.results import Results
    from napari_sam.session.suggestions import Suggestions
    from napari_sam.volume.volume import Volume


class Session:
    """Prompts, masks and labels of one volume, with undo and autosave.

    Parameters
    ----------
    volume : Volume or anything `open_volume` takes
    model : PromptableModel or str
        A model, or what `load_model` takes.
    embeddings : path, False or None
        Folder of the embedding store; None puts it next to the data, or in the user's
        cache where that cannot be written; False keeps embeddings in memory only.
    path : path-like, optional
        ``name.nsam`` folder where every change is kept as it is made. `save` names one
        later.
    intensity : IntensityMapping, optional
        How raw values become the model's input; the volume's own when left out.
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

    def __init__(
        self,
        volume: Any,
        model: PromptableModel | str = "nano",
        *,
        embeddings: str | os.PathLike[str] | bool | None = None,
        path: str | os.PathLike[str] | None = None,
        intensity: IntensityMapping | None = None,
        labels: Any = None,
    ) -> None:
        from napari_sam.results.existing import writable_labels
        from napari_sam.volume.opening import open_volume

        self.volume: Volume = open_volume(volume)
        self.rule: Rule = "keep"
        """What a mask does where another object already is: "keep" or "overwrite"."""
        self.writer: Callable[[LabelPatch], None] = self._write
        """Writes a patch's pixels into the labels; a GUI puts its own here."""
        self._ledger = Ledger()
        self._recorder = saving.Recorder()
        self.engine = Engine.of(
            self.volume, _as_model(model), intensity=intensity, embeddings=embeddings
        )
        """What answers prompts, replaced as a whole by `use`."""
        self.labels: Any = writable_labels(self.volume, labels)
        """Array-like of the volume's shape, unsigned integers; 0 is background."""
        if path is not None:
            self.save(path)

    # -- prompts to masks ------------------------------------------------------------

    def segment(
        self,
        object_id: int = 1,
        plane: int | Sequence[int] | Plane = 0,
        *,
        points: Iterable[Sequence[float]] | None = None,
        point_labels: Iterable[int] | None = None,
        box: Sequence[float] | None = None,
        mask: np.ndarray | None = None,
        polygon: Iterable[Sequence[float]] | None = None,
        axis: int = 0,
        level: int = 0,
    ) -> list[MaskCandidate]:
        """Segment one object on one plane and apply the best mask.

        Prompts replace those the object had on this plane; where they only add points
        to them, its mask is refined.

        Parameters
        ----------
        object_id : int
            Value in the labels, 1 or more.
        plane, axis
            Plane, as `Plane.of` takes it.
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
        list of MaskCandidate
            Best first, in the plane's pixels.

        Raises
        ------
        PromptError
            If the prompts make no sense on this plane; nothing is changed.
        """
        prompts = Prompts.of(
            points=points,
            point_labels=point_labels,
            box=box,
            polygon=polygon,
            mask=mask,
            level=level,
        )
        where = Plane.of(self.volume.shape, plane, axis=axis)
        self.accept(self.run(self.set_prompts(object_id, where, prompts)))
        return self.candidates(object_id, where)

    def set_prompts(self, object_id: int, plane: Plane, prompts: Prompts) -> Request:
        """Take new prompts for an object on a plane; an older request is superseded.

        Raises
        ------
        PromptError
            If the prompts make no sense on this plane, or the id is no label value.
        """
        self._check_id(object_id)
        prompts.check(plane.shape(self.volume.shape))
        key = (object_id, plane)
        state = self._ledger.states.get(key)
        extends = state is not None and prompts.extends(state.prompts)
        return Request(
            self.engine,
            object_id,
            plane,
            prompts,
            self._ledger.supersede(key),
            self._ledger.predictions.get(key) if extends else None,
            state.choices if state is not None and extends else (),
            self.rule,
        )

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
        request = result.request
        key = (request.object_id, request.plane)
        if not self._ledger.is_current(key, request.generation):
            return None
        if self._ledger.sharpening == (key, request.generation):
            with self._recorder.lock:
                self._put(self._ledger.take_back().patches)
                self._recorder.record("undo")
        kind: Kind = "segment" if request.choice is None else "choose"
        patch = self._apply(kind, key, result.prediction, request.rule)
        self._ledger.sharpening = (key, request.generation)
        return patch

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
        state = self._ledger.state(key)
        if not 0 <= k < len(state.scores):
            raise PromptError(
                f"object {key[0]} has {len(state.scores)} candidate(s), "
                f"numbered from 0; got {k}"
            )
        count, known = self._ledger.supersede(key), self._ledger.predictions.get(key)
        return Request(
            self.engine, *key, state.prompts, count, known, state.choices, self.rule, k
        )

    def candidates(
        self,
        object_id: int | None = None,
        plane: int | Sequence[int] | Plane | None = None,
        *,
        axis: int = 0,
    ) -> list[MaskCandidate]:
        """Masks proposed for an object on a plane, best first.

        After a reload they are predicted again from its prompts.
        """
        return list(self._prediction(self._key(object_id, plane, axis)).candidates)

    # -- objects ---------------------------------------------------------------------

    @property
    def objects(self) -> dict[int, dict[Plane, ObjectState]]:
        """What was said and done for each object, by plane."""
        out: dict[int, dict[Plane, ObjectState]] = {}
        for (object_id, plane), state in self._ledger.states.items():
            out.setdefault(object_id, {})[plane] = state
        return out

    def object(self, object_id: int, plane: Plane) -> ObjectState | None:
        """Return the state of an object on a plane, or None."""
        return self._ledger.states.get((object_id, plane))

    def new_object(self) -> int:
        """Return an id that no object has yet."""
        from napari_sam.results.label_arrays import highest_label

        return max(highest_label(self.labels), *self._ledger.planes, 0) + 1

    def delete_object(
        self, object_id: int, plane: Plane | None = None, *, boxes: Any = None
    ) -> None:
        """Remove an object with its pixels and prompts on all planes; undoable.

        With a plane, take back only what its prompts made there. `boxes`: where the
        object is, as `boxes_of` found it in another thread.
        """
        if plane is not None:
            self._withdraw((object_id, plane))
            return
        states = {k: s for k, s in self._ledger.states.items() if k[0] == object_id}
        patches = tuple(laying.erase(self.labels, object_id, states, boxes))
        if patches or states:
            self._commit(Change("delete", patches, states, {}))

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
        """Take pixels painted by hand, already in the labels, into the history."""
        if object_id:
            self._ledger.touch(object_id, patch.plane)
        self._commit(Change("paint", (patch,)), write=False)

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

    # -- history ---------------------------------------------------------------------

    @property
    def can_undo(self) -> bool:
        """Whether there is a change to take back."""
        return self._ledger.history.can_undo

    @property
    def can_redo(self) -> bool:
        """Whether a change taken back can be done again."""
        return self._ledger.history.can_redo

    def undo(self) -> bool:
        """Take the last change back: pixels, prompts and choices together."""
        return self._step("undo")

    def redo(self) -> bool:
        """Do the change that was taken back last again."""
        return self._step("redo")

    # -- files -----------------------------------------------------------------------

    @property
    def path(self) -> str | None:
        """Folder of this session, or None while it has none."""
        files = self._recorder.files
        return None if files is None else str(files.path)

    def save(self, path: str | os.PathLike[str] | None = None) -> None:
        """Write a checkpoint of the labels; with a path, keep the session there.

        Raises
        ------
        SessionError
            If it cannot be written, the folder holds another session, or no path was
            ever given. The session in memory stays as it is.
        """
        files = self._recorder.files
        if path is not None and str(path) != self.path:
            self._recorder.start(path, self._head(), self._ledger, self.labels)
        elif files is None:
            raise SessionError("this session has no folder yet: give save() a path")
        else:
            files.write_head(self._head())
            files.write_labels(self.labels)
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
            Replace a folder that is there already. Files are replaced in any case.
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
        with saving.opened(path, read_only=read_only) as (head, files):
            labels, done = saving.labels_of(path, read_only=read_only)
            session = cls(
                saving.open_saved_volume(head, volume),
                head["model"] if model is None else model,
                embeddings=embeddings,
                intensity=IntensityMapping.from_json(head["intensity"]),
                labels=labels,
            )
            for patches in saving.replay(path, files, session._ledger, done):
                session._put(patches)
            session.rule = head["rule"]
            session._recorder.files = files
        return session

    def close(self) -> None:
        """Finish writing and let go of the session's folder."""
        self._recorder.close()

    # -- model and embeddings --------------------------------------------------------

    @property
    def model(self) -> PromptableModel:
        """The model in use."""
        return self.engine.model

    def use(
        self,
        *,
        model: PromptableModel | None = None,
        intensity: IntensityMapping | None = None,
    ) -> None:
        """Go on with another model or intensity mapping, from the next prompt on.

        Masks, prompts and history stay; answers under way are dropped.
        """
        self.engine = self.engine.using(model=model, intensity=intensity)
        self._ledger.supersede_all()
        if self._recorder.files is not None:
            self._recorder.files.write_head(self._head())

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

    def _withdraw(self, key: Key) -> None:
        """Remove an object's prompts from one plane, and the mask they made."""
        state = self._ledger.states.get(key)
        self._ledger.supersede(key)
        if state is None:
            return
        patch = laying.withdraw(self.labels, state)
        self._ledger.predictions.pop(key, None)
        self._commit(
            Change("delete", () if patch is None else (patch,), {key: state}, {})
        )

    def _apply(
        self, kind: Any, key: Key, prediction: Prediction, rule: Rule
    ) -> LabelPatch | None:
        state = self._ledger.states.get(key)
        patch, new = laying.lay(self.labels, key, state, prediction, rule)
        self._ledger.predictions[key] = prediction
        self._commit(
            Change(
                kind,
                () if patch is None else (patch,),
                {} if state is None else {key: state},
                {key: new},
            )
        )
        return patch

    def _commit(self, change: Change, *, write: bool = True) -> None:
        with self._recorder.lock:
            line = self._ledger.commit(change)
            # First the line: pixels that are on disk already could not be undone else.
            try:
                self._recorder.record(change.kind, line)
            finally:
                self._put(change.patches if write else ())
                self.changed.emit()

    def _step(self, kind: str) -> bool:
        with self._recorder.lock:
            change = self._ledger.step(kind)
            if change is None:
                return False
            self._put(change.patches)
            self.changed.emit()
            self._recorder.record(kind)
        return True

    def _put(self, patches: Iterable[LabelPatch]) -> None:
        for patch in patches:
            if patch.after.dtype.itemsize > self.labels.dtype.itemsize:
                self.make_room(int(patch.after.max(initial=0)))
            self.writer(patch)
            self.patched.emit(patch)

    def _write(self, patch: LabelPatch) -> None:
        self.labels[patch.plane.window(patch.bbox)] = patch.after

    def _prediction(self, key: Key) -> Prediction:
        state = self._ledger.state(key)
        if key not in self._ledger.predictions:
            engine = self.engine
            found = predict(engine, state.prompts, state.plane, choices=state.choices)
            *_, found = (found, *refine(engine, found, state.plane))
            self._ledger.predictions[key] = found
        return self._ledger.predictions[key]

    def _key(self, object_id: int | None, plane: Any, axis: int) -> Key:
        if object_id is None and plane is None:
            if self._ledger.last is None:
                raise PromptError("nothing is segmented yet: call segment() first")
            return self._ledger.last
        where = Plane.of(self.volume.shape, 0 if plane is None else plane, axis=axis)
        return (1 if object_id is None else object_id, where)

    def _check_id(self, object_id: int) -> None:
        from napari_sam.results.label_arrays import highest_possible

        top = highest_possible(self.labels)
        if not 1 <= object_id <= top:
            raise PromptError(
                f"object_id must be 1 to {top} for labels of type {self.labels.dtype} "
                f"(0 is background); got {object_id}"
            )
        self.make_room(object_id)

    def make_room(self, top: int) -> None:
        """Let the labels hold a value; the undo history goes on as it is."""
        from napari_sam.results.label_arrays import grown

        if top > np.iinfo(self.labels.dtype).max:
            self.labels = grown(self.labels, top)
            self.grown.emit()

    def _head(self) -> dict[str, Any]:
        return saving.head(self.volume, self.model, self.engine.intensity, self.rule)


def _as_model(model: PromptableModel | str) -> PromptableModel:
    if isinstance(model, str):
        from napari_sam.models.registry import load_model

        return load_model(model)
    return model
