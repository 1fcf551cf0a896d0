"""The one object that sees the viewer and the session, and joins them. No Qt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sam._napari import autosave, opening
from napari_sam._napari.annotation import Annotation
from napari_sam._napari.classes import Classes
from napari_sam._napari.encoding import Encoding
from napari_sam._napari.files import Files
from napari_sam._napari.following import Following
from napari_sam._napari.image_facts import (
    covering,
    describe,
    modality,
    values_of,
    volume_of,
)
from napari_sam._napari.image_list import ImageList
from napari_sam._napari.intensity import Intensity
from napari_sam._napari.loading import Loading
from napari_sam._napari.many import ManyPrompts
from napari_sam._napari.plane_view import order_for_axis
from napari_sam._napari.reshaping import Reshaping
from napari_sam._napari.review import Review
from napari_sam._napari.reviewing import Reviewing
from napari_sam._napari.state import Board, PanelState
from napari_sam._napari.time_lapse import TimeLapse
from napari_sam._napari.tools import Tools
from napari_sam._napari.training import Training
from napari_sam._napari.words import Words
from napari_sam.errors import NapariSamError
from napari_sam.results.registry import formats_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_sam._napari.workers import Jobs
    from napari_sam.core.objects import Rule
    from napari_sam.core.planes import Plane
    from napari_sam.models.protocol import PromptableModel
    from napari_sam.results.results import Results
    from napari_sam.session import Session


class Controller:
    """Chooses image and model, and passes what the user wishes to the annotation.

    Everything here runs on the main thread; what takes long is handed to `jobs`.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    jobs : Jobs
    load_model : callable, optional
        Gives a model for a name or path; runs in the worker.
    model : str
        Name or path of the model to begin with.
    """

    def __init__(
        self,
        viewer: Any,
        jobs: Jobs,
        *,
        load_model: Callable[[str], PromptableModel] = opening.load_model,
        model: str = "nano",
    ) -> None:
        self.viewer = viewer
        self.jobs = jobs
        state = PanelState(models=opening.model_choices(), model=model)
        self.board = Board(state)
        self.annotation: Annotation | None = None
        self.encoding = Encoding(self.board, jobs)
        self.review = Review(self.board, jobs)
        self.words = Words(self.board, self.review.finding)
        self.following = Following(self.board, jobs)
        self.time = TimeLapse(self.board, jobs)
        self.reviewing = Reviewing(self.board, jobs, self.go_to_object, self.review)
        self.classes = Classes(self.board, jobs)
        self.training = Training(self.board, jobs)
        self.reshaping = Reshaping(self.board, jobs)
        self.many = ManyPrompts(self.board, jobs)
        self.intensity = Intensity(self.board)
        self.files = Files(self.board, jobs, lambda: self.session)
        self.parts = (
            self.intensity,
            self.encoding,
            self.review,
            self.following,
            self.time,
            self.reviewing,
            self.classes,
            self.training,
            self.reshaping,
            self.many,
        )
        """What works on the image in use beside clicks, one a tab."""
        self.intensity.changed.connect(self.encoding.renew)
        self.training.model_wanted.connect(self.use_model)
        self._load_model = load_model
        self.loading = Loading(self.board, jobs)
        self.download_wanted = self.loading.download_wanted
        self.tools = Tools(viewer, self.board)
        self.review.box_wanted.connect(lambda: self.tools.arm("box"))
        self.image_list = ImageList(self)
        self._answering: tuple[str, PromptableModel] | None = None
        """The model that answers, for the next image, and what it was asked for as."""
        self.closed = False
        """Whether `close` was called."""
        self._camera_moved = False
        layers, dims = viewer.layers.events, viewer.dims.events
        camera = getattr(viewer, "scene", viewer).camera.events
        self._connections = [
            *((event, self._on_camera) for event in (camera.center, camera.zoom)),
            *((event, self._on_layers) for event in (layers.inserted, layers.removed)),
            *((event, self._on_view) for event in (dims.order, dims.ndisplay)),
            (dims.point, self._on_view),
        ]
        for event, callback in self._connections:
            event.connect(callback)
        self._on_layers()
        self._take_up()

    @property
    def session(self) -> Session | None:
        """The session in use, or None while there is none yet."""
        return None if self.annotation is None else self.annotation.session

    @property
    def images(self) -> list[Any]:
        """Image layers of the viewer, in their order."""
        from napari.layers import Image

        return [layer for layer in self.viewer.layers if isinstance(layer, Image)]

    # -- image and model -------------------------------------------------------------

    def use_image(
        self,
        layer: Any,
        session: Session | None = None,
        *,
        saved: str | None = None,
        keep: str | None = None,
    ) -> None:
        """Segment another image layer; clicks on the canvas count from now on.

        Work on an image that was left for another one goes on where it was.

        Parameters
        ----------
        layer : napari.layers.Image
        session : Session, optional
            Somebody's session of this image to work in; it is not closed here.
        saved : str, optional
            Folder of a session of this image to open.
        keep : str, optional
            Folder to keep its session in; what is there already is gone on with.
        """
        name = self.loading.name
        if keep is not None and (Path(keep) / "session.json").exists():
            saved = saved or keep
        self._let_go()
        try:
            volume = volume_of(layer) if session is None else session.volume
        except NapariSamError as error:
            self.board.fail(error)
            return
        self.annotation = Annotation(
            self.viewer, layer, volume, self.board, self.jobs, self, keep
        )
        self.annotation.session_wanted.connect(self._on_session_wanted)
        self.tools.use(self.annotation)
        self.annotation.layers.made.connect(self.tools.watch)
        self.annotation.writer.made.connect(self.tools.watch)
        left = autosave.left(layer)
        returning = left is not None and self.annotation.writer.found() is not None
        self.board.update(
            image=self.images.index(layer),
            ndim=volume.ndim,
            image_note=describe(volume),
            own_colors=volume.rgb,
            values=values_of(layer),
            is_ct=modality(volume) == "CT",
            object_id=1 if left is None else left[1],
        )
        self.annotation.show_labels()
        self.tools.start()
        self._use(self.annotation)
        self._on_view()
        if saved is not None:
            self.open_saved(saved)
            return
        if session is None:
            path = None if left is None else left[0]
            self._prepare(path, model=name, returning=returning, keep=keep)
            return
        spec = session.model.spec
        known = {m.name for m in self.board.state.models}
        self.board.update(model=spec.name if spec.name in known else spec.source)
        highest = opening.highest_label(session.labels)
        self._on_opened(opening.Opened(session, highest, foreign=True))

    def leave_image(self) -> None:
        """Close the session of the image in use; its layers stay."""
        self._let_go()
        self.board.update(image=-1, can_embed=False, image_note="")

    def use_checkpoint(self, path: str, name: str = "") -> None:
        """Go on with a checkpoint file; once loaded, the list has it as `name`."""
        if self.loading.name_file(path, name):
            self.use_model(path)

    def use_model(self, name: str, *, agreed: bool = False) -> None:
        """Go on with another model; masks made so far stay as they are.

        Weights that are not on this machine are only fetched once the user agreed.
        """
        if not self.loading.is_agreed(name, agreed=agreed):
            return
        if self.annotation is None:
            self.board.update(model=name)
        else:
            self._prepare(model=name)

    def use_axis(self, axis: int) -> None:
        """Cut the volume along another axis, in the view too."""
        if self.annotation is not None:
            dims = self.viewer.dims
            dims.order = order_for_axis(dims, self.annotation.volume.ndim, axis)

    # -- objects and prompts ---------------------------------------------------------

    def select_object(self, object_id: int) -> None:
        """Go on with an object: its prompts and candidates come back."""
        self.board.update(object_id=object_id)
        if self.annotation is not None:
            self.annotation.select(object_id)

    def go_to_object(self, object_id: int) -> None:
        """Go on with an object, and show where it is."""
        if self.annotation is not None:
            self.annotation.go_to(object_id)

    def set_rule(self, rule: Rule) -> None:
        """Set what a mask does where another object already is."""
        self.board.update(rule=rule)
        if self.session is not None:
            self.session.rule = rule

    def new_object(self) -> None:
        """Start the next object."""
        if self.annotation is not None:
            self.annotation.new_object()

    def delete_object(self) -> None:
        """Remove the current object with its pixels and prompts."""
        if self.annotation is not None:
            self.annotation.delete_object()

    def choose(self, k: int) -> None:
        """Take candidate `k` for the current object."""
        if self.annotation is not None:
            self.annotation.choose(k)

    def next_candidate(self) -> None:
        """Take the next candidate."""
        if self.board.state.thumbnails:
            self.choose(self.board.state.chosen + 1)

    def undo(self) -> None:
        """Take the last change back."""
        if self.annotation is not None:
            self.annotation.undo()

    def redo(self) -> None:
        """Do the change that was taken back last again."""
        if self.annotation is not None:
            self.annotation.redo()

    # -- long work and files ---------------------------------------------------------

    def embed(self, *, agreed: bool = False) -> None:
        """Encode every plane along the shown axis, what is looked at first.

        Images on a server are only read whole once the user agreed.
        """
        self.encoding.start(agreed=agreed)

    def cancel(self) -> None:
        """Stop all work; what is finished is kept."""
        self.jobs.cancel()
        for part in (*self.parts, self.loading):
            part.stop()
        if self.annotation is not None:
            self.annotation.take_back_clicks()
        self.board.say("Stopped; what was finished is kept.")

    def read_objects(self, path: str) -> None:
        """Take in the objects of a file of labels or annotations, as one change."""
        flat = all("volume" not in kind.holds for kind in formats_of(path))
        annotation = self.annotation

        def done(taken: Results) -> None:
            if annotation is not None:
                annotation.take_in(taken)

        self.files.read(path, self.shown_plane if flat else None, done)

    @property
    def shown_plane(self) -> Plane | None:
        """Plane that the viewer shows, where an image is in use."""
        return None if self.annotation is None else self.annotation.plane

    def open_saved(self, path: str) -> None:
        """Continue a saved session on the image in use."""
        if self.annotation is None:
            self.board.say("First open the image this session belongs to.")
        elif self.session is not None and self.session.path == path:
            self.board.say("This session is the one at work.")
        else:
            name, missing = opening.saved_model(path)
            self._prepare(path, model=name)
            if missing:
                self.board.say(
                    f"This session was made with {missing}, which is not on this "
                    f"computer: {self.loading.name} goes on with it.",
                    "busy",
                )

    def close(self) -> None:
        """Stop work and let go of everything; layers stay in the viewer."""
        if self.closed:
            return
        self.closed = True
        self.jobs.close()
        for event, callback in self._connections:
            event.disconnect(callback)
        self._let_go()
        self.tools.close()

    # -- inside ----------------------------------------------------------------------

    def _prepare(
        self,
        path: str | None = None,
        *,
        model: str | None = None,
        returning: bool = False,
        keep: str | None = None,
    ) -> None:
        """Get the model and make the session, or give the session another model."""
        annotation, name = self.annotation, model or self.loading.name
        assert annotation is not None
        session = annotation.session if path is None else None
        text = "Opening the session" if path else f"Loading {opening.short(name)}"
        self.board.say(f"{text}… you can click already.", "busy")

        def swapped(model: PromptableModel) -> None:
            assert session is not None
            session.use(model=model)
            self._on_model(session)
            self.encoding.renew()
            annotation.show_object()

        if session is not None:
            self.loading.run(name, lambda _: self._load_model(name), swapped)
            return
        wanted = opening.Wanted(
            annotation.volume, name, annotation.labels, annotation.image.name, path,
            returning, keep,
        )  # fmt: skip

        def work(cancelled: Callable[[], bool]) -> opening.Opened:
            made = opening.open_session(wanted, self._same_model)
            if cancelled():
                autosave.drop_if_empty(made.session, fresh=made.fresh)
            return made

        self.loading.run(name, work, self._on_opened)

    def _same_model(self, name: str) -> PromptableModel:
        """Give the model that answered for the image before, or load one."""
        kept = self._answering
        return kept[1] if kept and kept[0] == name else self._load_model(name)

    def _on_opened(self, made: opening.Opened) -> None:
        annotation, session = self.annotation, made.session
        assert annotation is not None
        self._on_model(session)
        annotation.start(made)
        self.encoding.renew()
        self.review.renew()
        self.following.renew()
        self.time.renew()
        self.reviewing.renew()
        self.classes.renew()
        if self.review.state.pending and not (session.differing or made.copied):
            self.review.tell()
        elif told := opening.told(made, annotation.image.name):
            over = covering(self.viewer, annotation.image)
            self.board.say(f"{told[0]} {over}".strip(), told[1])

    def _on_session_wanted(self) -> None:
        if self.loading.going_on:
            self.board.say("The model is loading; your click is kept.", "busy")
        else:
            self._prepare()

    def _on_model(self, session: Session) -> None:
        self._answering = self.board.state.model, session.model
        name = self.loading.show(session)
        self.board.update(window=session.engine.intensity.windows[0])
        self.tools.set_kinds(session.model.spec.prompts)
        self.words.use(session)
        assert self.annotation is not None
        over = covering(self.viewer, self.annotation.image)
        self.board.say(f"{name} is ready. {over}".strip())

    def _on_layers(self) -> None:
        images = self.images
        self.board.update(images=tuple(layer.name for layer in images))
        self.image_list.look()
        used = None if self.annotation is None else self.annotation.image
        if used is not None and used in images:
            self.board.update(image=images.index(used))
        elif used is not None:
            self.jobs.cancel()
            self.leave_image()
            self.board.say(f"{used.name!r} was removed; its masks stay.")
        elif images:
            # The viewer selects a new layer after it has told of it.
            self.jobs.post(self._take_up)

    def _take_up(self) -> None:
        """Use the selected image, or the last one, while there is none in use."""
        images = self.images
        if self.annotation is None and images and not self.closed:
            active = self.viewer.layers.selection.active
            self.use_image(active if active in images else images[-1])

    def _on_view(self) -> None:
        # A layer that is being removed leaves the viewer's axes first.
        annotation = self.annotation
        if annotation is not None and annotation.image in self.viewer.layers:
            annotation.on_view()
            self.tools.look()
            self.following.look()
            self.time.look()
            self.reviewing.on_view()
            self.review.look()
            self._on_camera()

    def _on_camera(self) -> None:
        # What is drawn is known once the canvas has been drawn.
        if not self._camera_moved:
            self._camera_moved = True
            self.jobs.post(self._look)

    def _look(self) -> None:
        self._camera_moved = False
        if not self.closed:
            self.encoding.look()

    def _use(self, annotation: Annotation | None) -> None:
        self.words.use(None)
        for part in self.parts:
            part.use(annotation)

    def _let_go(self) -> None:
        if self.annotation is None:
            return
        self.loading.stop()
        self.tools.use(None)
        self._use(None)
        annotation, self.annotation = self.annotation, None
        annotation.session_wanted.disconnect()
        annotation.close()
        self.board.update(
            thumbnails=(), can_undo=False, can_redo=False, can_export=False,
            window=None, objects=(), unsaved="", kept_in="", class_name="",
        )  # fmt: skip
