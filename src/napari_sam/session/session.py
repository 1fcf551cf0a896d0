"""Session: the one object that every front end works with."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from napari_sam.core.intensity import IntensityMapping
from napari_sam.engine.engine import Engine
from napari_sam.session.annotation import imported, own_labels
from napari_sam.session.classing import Classing
from napari_sam.session.combining import Combining
from napari_sam.session.document import Document
from napari_sam.session.finding import Finding
from napari_sam.session.many import Many
from napari_sam.session.requests import Requests
from napari_sam.session.reviewing import Reviewing
from napari_sam.session.saved import Saved
from napari_sam.session.shaping import Shaping
from napari_sam.session.stacked import Stacked
from napari_sam.session.storage import Storage, open_saved_volume
from napari_sam.session.tracking import Tracked

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from napari_sam.core.masks import LabelPatch
    from napari_sam.core.objects import Rule
    from napari_sam.errors import SessionError
    from napari_sam.models.protocol import PromptableModel
    from napari_sam.volume.volume import Volume

    Intensity = IntensityMapping | tuple[float, float]


class Session(
    Shaping, Many, Stacked, Tracked, Finding, Reviewing, Classing, Combining, Saved
):
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
    >>> session = Session(image.image, ToyModel())
    >>> session.segment(points=[image.center(1)])[0].area > 0
    True
    """

    def __init__(
        self,
        volume: Any,
        model: PromptableModel | str | os.PathLike[str] = "nano",
        *,
        embeddings: str | os.PathLike[str] | bool | None = None,
        path: str | os.PathLike[str] | None = None,
        intensity: Intensity | None = None,
        labels: Any = None,
    ) -> None:
        from napari_sam.models.given import as_model
        from napari_sam.results.existing import writable_labels
        from napari_sam.volume.opening import open_volume

        self.volume: Volume = open_volume(volume)
        self.rule: Rule = "keep"
        """What a mask does where another object already is: "keep" or "overwrite"."""
        self.differing: tuple[str, ...] = ()
        """What of the image is not as it was when the saved session was made."""
        self.writer: Callable[[LabelPatch], None] = self._write
        """Writes a patch's pixels into the labels; a GUI puts its own here."""
        self.engine = Engine.of(
            self.volume,
            as_model(model),
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

    # -- files -----------------------------------------------------------------------

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        volume: Any = None,
        model: PromptableModel | str | os.PathLike[str] | None = None,
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
        image, differing = open_saved_volume(head, volume)
        session = cls(
            image,
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
        session.differing = tuple(differing)
        return session

    # -- model and embeddings --------------------------------------------------------

    def use(
        self,
        *,
        model: PromptableModel | str | os.PathLike[str] | None = None,
        intensity: Intensity | None = None,
    ) -> None:
        """Go on with another model or intensity mapping, from the next prompt on.

        Masks, prompts and history stay; answers under way are dropped.
        """
        from napari_sam.models.given import as_model

        mapping = self._mapping(intensity)
        chosen = None if model is None else as_model(model)
        self.engine = self.engine.using(model=chosen, intensity=mapping)
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

    def _mapping(self, given: Intensity | None) -> IntensityMapping | None:
        if given is None or isinstance(given, IntensityMapping):
            return given
        low, high = given
        return self.volume.intensity.with_window(float(low), float(high))


def _emitting(session: Session) -> Callable[[SessionError], None]:
    """Tell a session of an error without keeping it alive."""
    import weakref

    known = weakref.ref(session)

    def emit(error: SessionError) -> None:
        if (found := known()) is not None:
            found.write_failed.emit(error)

    return emit
