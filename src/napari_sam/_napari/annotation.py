"""Work on one image: prompts drawn in its layers become masks in its labels."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from napari_sam._napari import autosave, hints, shortcuts
from napari_sam._napari.camera import go_to
from napari_sam._napari.candidates import Candidates
from napari_sam._napari.clicks import Clicks
from napari_sam._napari.drawn import with_undrawn
from napari_sam._napari.keeping import Keeping
from napari_sam._napari.label_pyramid import is_huge
from napari_sam._napari.label_writer import LabelWriter
from napari_sam._napari.object_list import ObjectList
from napari_sam._napari.painting import Painting
from napari_sam._napari.plane_view import (
    screen_level,
    shown_axis,
    shown_plane,
    shown_view,
)
from napari_sam._napari.prompt_layers import PromptLayers
from napari_sam.errors import NapariSamError, PromptError
from napari_sam.results.label_objects import boxes_of, boxes_on_plane

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_sam._napari.opening import Opened
    from napari_sam._napari.state import Board
    from napari_sam._napari.workers import Jobs
    from napari_sam.core.candidates import PlaneCandidate
    from napari_sam.core.masks import LabelPatch
    from napari_sam.core.planes import Plane
    from napari_sam.core.prompts import Prompts
    from napari_sam.embeddings.scheduler import Viewport
    from napari_sam.results.results import Results
    from napari_sam.session import ObjectState, Result, Session
    from napari_sam.volume.volume import Volume

SMALL = 2**28
"""Pixels up to which labels are a plain array, made without asking anybody."""


class Annotation:
    """Keeps the layers, the session and the panel in step for one image.

    Everything here runs on the main thread; masks and thumbnails are made by `jobs`.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    image : napari.layers.Image
    volume : Volume
        What `open_volume` made of the layer.
    board : Board
    jobs : Jobs
    actions : object
        Has the methods that keys are bound to; see `shortcuts`.
    keep : str, optional
        Folder for its session, other than one among those of the widget.
    """

    session_wanted = Signal()
    """Something was prompted and there is no session to answer it."""

    def __init__(
        self, viewer: Any, image: Any, volume: Volume, board: Board, jobs: Jobs,
        actions: Any, keep: str | None = None,
    ) -> None:  # fmt: skip
        self.viewer = viewer
        self.image = image
        self.volume = volume
        self.board = board
        self.jobs = jobs
        self.session: Session | None = None
        self.layers = PromptLayers(viewer, image, volume.shape, jobs.post)
        self.writer = LabelWriter(viewer, image)
        self._actions = actions
        self._asked: dict[tuple[int, Plane], Prompts] = {}
        self._clicks = Clicks(board, jobs)
        self._candidates = Candidates(board, jobs)
        self._highest = 0
        self.objects = ObjectList(board, jobs)
        self._painting = Painting(board, self.writer)
        self._foreign = self._fresh = False
        self._its_writer: Callable[[LabelPatch], None] | None = None
        shortcuts.bind(image, actions, shortcuts.ANYWHERE)
        self._keeping = Keeping(board, jobs, image.name, keep)
        self.layers.edited.connect(self.on_edited)
        self.layers.slipped.connect(
            lambda: self.board.say(hints.slip(self.board.state))
        )
        self.layers.made.connect(self._on_prompt_layer)
        self.writer.made.connect(self._on_labels_layer)

    @property
    def object_id(self) -> int:
        """The object that prompts are for."""
        return self.board.state.object_id

    @property
    def plane(self) -> Plane | None:
        """Plane that the viewer shows, or None when it shows none of this image."""
        try:
            return shown_plane(self.viewer.dims, self.image, self.volume.shape)
        except NapariSamError:
            return None

    @property
    def level(self) -> int:
        """Pyramid level at which one pixel is about one pixel of the screen."""
        return screen_level(self.viewer, self.image, self.volume.ndim)

    @property
    def view(self) -> Viewport | None:
        """Which part of its plane the canvas shows, or None when it shows none."""
        plane = self.plane
        if plane is None:
            return None
        return shown_view(self.viewer, self.image, plane, self.volume.ndim)

    @property
    def labels(self) -> Any:
        """Labels that are shown already, for the session to write into, or None."""
        return self.writer.data

    def show_labels(self) -> None:
        """Add the Labels layer at once where that is cheap: later it would be felt."""
        found = self.writer.found()
        if found is not None and not is_huge(found.shape):
            self.writer.show(found)
        elif math.prod(self.volume.shape) <= SMALL and not is_huge(self.volume.shape):
            self.writer.show(np.zeros(self.volume.shape, np.uint16))

    def start(self, opened: Opened) -> None:
        """Go on with a session: show its labels and answer what was prompted."""
        session = opened.session
        if self.session is not None:
            self.session.changed.disconnect(self._on_changed)
            self.session.grown.disconnect(self._on_grown)
            autosave.drop_if_empty(self.session, fresh=self._fresh)
        resumed = self.session is not None or bool(session.objects)
        early = self.layers.drawn if self.session is None else ()
        self.session = session
        session.rule = self.board.state.rule
        self._keeping.use(session, opened.unsaved)
        self.objects.use(session)
        self._foreign, self._fresh = opened.foreign, opened.fresh
        self._its_writer = session.writer
        session.writer = self.writer.write
        session.changed.connect(self._on_changed)
        session.grown.connect(self._on_grown)
        self.writer.show(session.labels, opened.pyramid)
        self._painting.use(session)
        self._highest = max(opened.highest, *session.objects, 0)
        self._on_changed()
        if self._highest >= self.object_id and self.object_id not in session.objects:
            self.board.update(object_id=self._highest + 1)
        if resumed:
            self._asked.clear()
            self.show_object()
            self.layers.add(*early)
        self._color()
        self.on_edited()

    def close(self) -> None:
        """Drop what is under way and stop listening; layers and files stay."""
        self._clicks.drop_all()
        self.layers.close()
        self.writer.close()
        shortcuts.unbind(self.image, shortcuts.ANYWHERE)
        for layer in self.layers.layers:
            shortcuts.unbind(layer)
        if self.writer.shown:
            shortcuts.unbind(self.writer.layer, shortcuts.ON_LABELS)
            self.writer.layer.events.selected_label.disconnect(self._on_selected_label)
        if self.session is not None:
            self.session.changed.disconnect(self._on_changed)
            self.session.grown.disconnect(self._on_grown)
            self._keeping.close()
            if self._its_writer is not None:
                self.session.writer = self._its_writer
            if not self._foreign:
                autosave.leave(
                    self.session, self.image, self.object_id, fresh=self._fresh
                )

    def _on_grown(self) -> None:
        """Show labels that became an array of a bigger type."""
        if self.session is not None and self.writer.shown:
            self.writer.show(self.session.labels)

    # -- what the user wishes --------------------------------------------------------

    def select(self, object_id: int) -> None:
        """Go on with an object: its prompts and candidates come back."""
        self.board.update(object_id=object_id, polarity=1)
        self.layers.set_polarity(1)
        self.show_object()
        self.board.say(f"Object {object_id}.")

    def new_object(self) -> None:
        """Start the next object."""
        if self.object_id >= self._unused:
            self.board.say(f"Object {self.object_id} is still empty.")
        else:
            self.select(self._unused)

    @property
    def _unused(self) -> int:
        """Least id above those of all objects."""
        known = () if self.session is None else self.session.objects
        asked = (object_id for object_id, _ in self._asked)
        return max(self._highest, self._painting.highest, *known, *asked) + 1

    def delete_object(self) -> None:
        """Remove the current object with its pixels and prompts."""
        session, object_id = self.session, self.object_id
        if session is None:
            return
        self._clicks.drop_all()

        def found(boxes: Any) -> None:
            if session is not self.session:
                return
            self._clicks.drop_all()
            self._try(lambda: session.delete_object(object_id, boxes=boxes))
            self.show_object()
            self.board.say(f"Object {object_id} was removed (Ctrl-Z: undo).")

        # Labels of huge volumes take seconds to look through.
        self.jobs.submit(
            "delete",
            lambda _: boxes_of(session.labels, object_id),
            found,
            self.board.fail,
        )

    def go_to(self, object_id: int) -> None:
        """Go on with an object, and show where it is."""
        shape = self.volume.shape
        found = self.objects.place(object_id, self.plane)
        if found is not None:
            go_to(self.viewer, self.image, shape, *found)
        self.select(object_id)
        plane = self.objects.plane(object_id, self.plane)
        if found is not None or plane is None:
            return

        def show(boxes: dict[int, tuple[int, int, int, int]]) -> None:
            if object_id in boxes and object_id == self.object_id:
                go_to(self.viewer, self.image, shape, plane, boxes[object_id])

        # Where it was painted or imported only its pixels say.
        labels = self.labels
        self.jobs.submit(
            "place",
            lambda _: boxes_on_plane(labels, plane, [object_id]),
            show,
            self.board.fail,
        )

    def take_in(self, taken: Results) -> None:
        """Show objects that were read from a file; prompts then begin another."""
        if self.object_id in taken.objects:
            self.new_object()
        self.show_object()

    def choose(self, k: int) -> None:
        """Take another candidate for the current object."""
        session, state = self.session, self._state_here()
        if session is None or state is None:
            self.board.update()
            return
        if self._clicks.is_asked(self.object_id, state.plane):
            # Prompts that are being answered are not given up for it.
            self._clicks.then = k
            self.board.update()
            return
        k %= len(state.scores)
        # After an undo or a reload the candidates have to be predicted again, and one
        # that its window cut is looked for in another.
        request = session.set_choice(k, state.object_id, state.plane)
        self._clicks.answer(session, request, self._accept, f"Candidate {k + 1} taken.")

    def undo(self) -> None:
        """Take the last change back; a click still being answered goes first."""
        if self._clicks:
            self._clicks.drop_all()
            self.show_object()
            self.board.say("The last prompt was taken back.")
        elif self.session is not None and self.session.can_undo:
            self._clicks.stop_sharpening()
            self._try(self.session.undo)
            # Of objects that are no more no number stays left out.
            self.board.update(object_id=min(self.object_id, self._unused))
            self.show_object()
            self.board.say("Undone (Ctrl-Shift-Z: redo).")
        else:
            self.board.say("There is nothing to undo.")

    def redo(self) -> None:
        """Do the change that was taken back last again."""
        if self.session is not None and self.session.can_redo:
            self._clicks.drop_all()
            self._try(self.session.redo)
            self.show_object()
            self.board.say("Done again.")

    # -- prompts to masks ------------------------------------------------------------

    def on_edited(self) -> None:
        """Ask for a mask wherever the layers say something else than was asked."""
        if self.session is None:
            self.session_wanted()
            return
        self.layers.drop_older()
        before = {
            plane: asked
            for (object_id, plane), asked in self._asked.items()
            if object_id == self.object_id and self._on_axis(plane)
        }
        said = with_undrawn(self.layers.prompts(), before)
        for plane in {**said, **before}:
            old, new = before.get(plane), said.get(plane)
            if new is None:
                self._forget(plane)
                continue
            new = replace(new, level=self.level if old is None else old.level)
            if old is None or not (new.extends(old) and old.extends(new)):
                self.ask(plane, new)

    def show_object(self) -> None:
        """Show what the session knows about the current object, everywhere."""
        said: dict[Plane, Prompts] = {}
        if self.session is not None:
            states = self.session.states(self.object_id)
            said = {plane: state.prompts for plane, state in states.items()}
            mine = [key for key in self._asked if key[0] == self.object_id]
            for key in mine:
                del self._asked[key]
            self._asked.update({(self.object_id, p): v for p, v in said.items()})
        axis = self.board.state.axis
        self.layers.show({p: v for p, v in said.items() if self._on_axis(p)}, axis)
        self._color()
        self._show_candidates()
        self.objects.show_class()

    def on_view(self) -> None:
        """The viewer shows another plane: follow it."""
        try:
            axis = shown_axis(self.viewer.dims, self.volume.ndim)
            shown_plane(self.viewer.dims, self.image, self.volume.shape)
        except NapariSamError:  # `ToolWatch` tells of it
            return
        self.writer.axis = axis
        if axis != self.layers.axis:
            self.board.update(axis=axis)
            self.show_object()
        else:
            self._show_candidates()

    def ask(self, plane: Plane, prompts: Prompts, *, redraws: bool = False) -> None:
        """Ask for a mask of the current object on a plane, as `set_prompts` does."""
        session, object_id = self.session, self.object_id
        assert session is not None
        try:
            shown_axis(self.viewer.dims, self.volume.ndim)
            request = session.set_prompts(object_id, plane, prompts, redraws=redraws)
        except NapariSamError as error:
            self._refuse(error, plane, prompts)
            return
        self._asked[object_id, plane] = prompts
        self._clicks.answer(session, request, self._accept)

    def _refuse(self, error: Exception, plane: Plane, prompts: Prompts) -> None:
        """Show why prompts cannot be answered; only what may still grow stays drawn."""
        signs = (*prompts.point_labels, *prompts.scribble_labels)
        lone_negatives = bool(signs) and not any(signs) and not prompts.outlined
        if not (lone_negatives and isinstance(error, PromptError)):
            asked = {
                p: v
                for (o, p), v in self._asked.items()
                if o == self.object_id and self._on_axis(p)
            }
            self.layers.show(asked, self.layers.axis)
        self.board.fail(error)

    def _forget(self, plane: Plane) -> None:
        """Remove the object from a plane whose last prompt is gone."""
        session = self.session
        assert session is not None
        self._asked.pop((self.object_id, plane), None)
        self._clicks.drop(self.object_id, plane)
        if session.object(self.object_id, plane) is not None:
            self._try(session.delete_object, self.object_id, plane)
        self._show_candidates()
        self.board.say(f"Object {self.object_id} has no prompt here any more.")

    def _accept(self, result: Result, done: str) -> None:
        session = self.session
        if session is None:
            return
        if not self.writer.shown:
            self.writer.show(session.labels)
        request, chosen = result.request, result.prediction.chosen
        if not self._try(session.accept, result):
            return
        self.layers.deselect()
        self._color()
        self._show_candidates(result.prediction.candidates)
        then = self._clicks.take_then()
        if then is not None and request.choice is None:
            self.choose(then)
        elif not chosen.area and request.redraws:
            self.show_object()
            self.board.say("The model sees nothing there: the object stays as it was.")
        elif not chosen.area:
            self.board.say("Nothing was found there. Try another point, or a box (B).")
        elif not self._clicks:
            hidden = session.left_out(request.object_id, request.plane)
            score = hints.score(request.object_id, chosen.predicted_iou, hidden)
            self.board.say(f"{done} {score}".strip())

    def stop_sharpening(self) -> None:
        """Look for no sharper outline of what was answered."""
        self._clicks.stop_sharpening()

    def take_back_clicks(self) -> None:
        """Drop clicks that are still being answered, and their points."""
        if self._clicks:
            self._clicks.drop_all()
            self.show_object()

    def _on_axis(self, plane: Plane) -> bool:
        return not plane.index or plane.axis == self.board.state.axis

    # -- candidates, layers, session -------------------------------------------------

    def _show_candidates(self, found: Sequence[PlaneCandidate] = ()) -> None:
        self._candidates.show(self.session, self._state_here(), found)

    def _state_here(self) -> ObjectState | None:
        plane = self.plane
        if self.session is None or plane is None:
            return None
        return self.session.object(self.object_id, plane)

    def _color(self) -> None:
        if self.writer.shown:
            if self.writer.layer.selected_label != self.object_id:
                if self.session is not None:
                    self.session.make_room(self.object_id)
                self.writer.layer.selected_label = self.object_id
            self.board.update(color=self.writer.color(self.object_id))

    def _on_changed(self) -> None:
        session = self.session
        assert session is not None
        self.board.update(
            can_undo=session.can_undo,
            can_redo=session.can_redo,
            can_export=session.can_undo or bool(session.objects),
        )
        self._keeping.look()
        self.objects.look()

    def _on_selected_label(self) -> None:
        label = int(self.writer.layer.selected_label)
        if label > 0 and label != self.object_id:
            self.select(label)

    def _on_prompt_layer(self, layer: Any) -> None:
        shortcuts.bind(layer, self._actions)

    def _on_labels_layer(self, layer: Any) -> None:
        shortcuts.bind(layer, self._actions, shortcuts.ON_LABELS)
        layer.events.selected_label.connect(self._on_selected_label)

    def _try(self, call: Callable[..., Any], *args: Any) -> bool:
        """Call the session; an error is shown and nothing is lost."""
        try:
            call(*args)
        except (NapariSamError, OSError) as error:
            self.board.fail(error)
            return False
        return True
