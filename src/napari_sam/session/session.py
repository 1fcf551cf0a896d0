"""Session: the one object that every front end works with."""

from __future__ import annotations

import operator
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

from napari_sam.core.intensity import IntensityMapping
from napari_sam.core.prompts import Prompts
from napari_sam.engine.engine import Engine
from napari_sam.errors import PromptError, SessionError
from napari_sam.session.annotation import imported, own_labels
from napari_sam.session.document import Document
from napari_sam.session.entries import ObjectState
from napari_sam.session.requests import Request, Requests, Result, answer
from napari_sam.session.saved import Saved
from napari_sam.session.storage import Storage, open_saved_volume

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import numpy as np

    from napari_sam.core.candidates import PlaneCandidate
    from napari_sam.core.masks import LabelPatch
    from napari_sam.core.objects import Key, Origin, Rule
    from napari_sam.core.planes import Plane
    from napari_sam.engine.suggest import Suggestion
    from napari_sam.models.protocol import PromptableModel
    from napari_sam.session.suggestions import Suggestions
    from napari_sam.volume.volume import Volume

    Intensity = IntensityMapping | tuple[float, float]


class Session(Saved):
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
        self.document = Document(
            own_labels(writable_labels(self.volume, labels)), self._put
        )
        """Labels, objects and their history."""
        if labels is not None:
            self.document.begin(imported(self.labels))
        self._requests = Requests()
        self._storage = Storage(self.document)
        self.document.journal.writer.on_error = _emitting(self)
        if path is not None:
            self.save(path)

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

    # -- files -----------------------------------------------------------------------

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

    # -- model and embeddings --------------------------------------------------------

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

    def __repr__(self) -> str:
        n = len(self.objects)
        objects = "1 object" if n == 1 else f"{n} objects"
        kept = f", kept in {self.path!r}" if self.path else ""
        return (
            f"<Session of {self.volume!r} with {self.model.spec.name}: {objects}{kept}>"
        )

    def _repr_html_(self) -> str:
        from napari_sam.session.notebook import session_html

        return session_html(self)

    def _repr_png_(self) -> bytes:
        from napari_sam.session.notebook import session_png

        return session_png(self)

    # -- inside ----------------------------------------------------------------------

    def _save_more(self) -> None:
        if "suggestions" in vars(self):
            self.suggestions.save()

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

    def _mapping(self, given: Intensity | None) -> IntensityMapping | None:
        if given is None or isinstance(given, IntensityMapping):
            return given
        low, high = given
        return self.volume.intensity.with_window(float(low), float(high))


def _as_model(model: PromptableModel | str) -> PromptableModel:
    if isinstance(model, str):
        from napari_sam.models.registry import load_model

        return load_model(model)
    return model


def _emitting(session: Session) -> Callable[[SessionError], None]:
    """Tell a session of an error without keeping it alive."""
    import weakref

    known = weakref.ref(session)

    def emit(error: SessionError) -> None:
        if (found := known()) is not None:
            found.write_failed.emit(error)

    return emit
