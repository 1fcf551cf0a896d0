"""One object for each box or point of a layer, or of a detector's file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam._napari.own_layers import TAG
from napari_sam._napari.workers import PREPARE
from napari_sam.core.prompts import Prompts
from napari_sam.errors import NapariSamError, VolumeError
from napari_sam.results.detections import Detection, read_detections

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_sam._napari.annotation import Annotation
    from napari_sam._napari.state import Board
    from napari_sam._napari.workers import Cancel, Jobs
    from napari_sam.session import Session
    from napari_sam.session.many import Answer, ManyRequest

KEY = "many"


class ManyPrompts:
    """Asks for many objects at once in the worker, and applies them as one change.

    Parameters
    ----------
    board : Board
    jobs : Jobs
    """

    def __init__(self, board: Board, jobs: Jobs) -> None:
        self.board = board
        self.jobs = jobs
        self._annotation: Annotation | None = None

    def use(self, annotation: Annotation | None) -> None:
        """Work on another image or none."""
        self.stop()
        self._annotation = annotation

    def stop(self) -> None:
        """Give up what is under way; nothing is changed."""
        if KEY in self.jobs.keys:
            self.jobs.cancel(KEY)
            self.board.update(progress=None, progress_text="")

    @property
    def layers(self) -> list[Any]:
        """Points and Shapes layers of the viewer that are not ours."""
        from napari.layers import Points, Shapes

        if self._annotation is None:
            return []
        found = self._annotation.viewer.layers
        kinds = (Points, Shapes)
        return [x for x in found if isinstance(x, kinds) and TAG not in x.metadata]

    def from_selected_layer(self) -> None:
        """Make an object of each shape or point of the layer that is selected."""
        if self._annotation is None:
            self.board.say("Open an image first.")
            return
        layer = self._annotation.viewer.layers.selection.active
        if layer in self.layers:
            self.from_layer(layer)
        else:
            self.board.say(
                "Select a Points or Shapes layer of your own: each point or shape "
                "of it becomes an object.",
                guide=False,
            )

    def from_layer(self, layer: Any) -> None:
        """Make an object of each shape or point of a layer."""
        annotation = self._annotation
        if annotation is not None:
            self._run(lambda: _of_layer(layer, annotation))

    def from_file(self, path: str) -> None:
        """Make an object of each box, point or outline of a file."""
        annotation = self._annotation
        if annotation is not None:
            self._run(lambda: read_detections(path, annotation.volume.shape))

    def _run(self, read: Any) -> None:
        annotation = self._annotation
        session = None if annotation is None else annotation.session
        if annotation is None or session is None:
            self.board.say("The model is loading; ask again once it is ready.")
            return
        try:
            task = session.set_many(
                read(), annotation.plane, axis=annotation.layers.axis
            )
        except (NapariSamError, OSError) as error:
            self.board.fail(error)
            return
        total = len(task.asked)
        self.board.say(f"Looking for {total} objects…", "busy")
        self.board.update(progress=(0, total), progress_text="objects")
        answers: list[Answer] = []
        highest: list[int] = []
        self.jobs.submit(
            KEY,
            lambda cancel: _answered(task, answers, highest, cancel),
            lambda _: self._on_done(session, task, answers, highest[0]),
            self._on_failed,
            progress=lambda n: self.board.update(progress=(n, total)),
            priority=PREPARE,
        )

    def _on_done(
        self,
        session: Session,
        task: ManyRequest,
        answers: Sequence[Answer],
        highest: int,
    ) -> None:
        self.board.update(progress=None, progress_text="")
        annotation = self._annotation
        if annotation is None or session is not annotation.session:
            return
        try:
            ids = session.accept_many(task, answers, highest=highest)
        except (NapariSamError, OSError) as error:
            self.board.fail(error)
            return
        made = [i for i in ids if i]
        if made:
            annotation.select(made[0])
        left = len(ids) - len(made)
        nothing = f"; nothing was free or found for {left}" if left else ""
        self.board.say(
            f"{len(made)} objects of {len(ids)} prompts{nothing} (one Ctrl-Z takes "
            "them all back).",
            guide=False,
        )

    def _on_failed(self, error: Exception) -> None:
        self.board.update(progress=None, progress_text="")
        self.board.fail(error)


def _answered(
    task: ManyRequest, answers: list[Answer], highest: list[int], cancel: Cancel
) -> Iterator[int]:
    for answer in task.run(cancel):
        answers.append(answer)
        yield len(answers)
    highest.append(task.highest())


def _of_layer(layer: Any, annotation: Annotation) -> list[Detection]:
    """Read a Points or Shapes layer, in the data coordinates of the image at work.

    Raises
    ------
    VolumeError
        If it is empty.
    """
    image, ndim = annotation.image, len(annotation.volume.shape)
    kinds = getattr(layer, "shape_type", None) or ["point"] * len(layer.data)
    if not len(layer.data):
        raise VolumeError(f"{layer.name!r} is empty: draw boxes or points in it")
    out = []
    for data, kind in zip(layer.data, kinds, strict=True):
        corners = np.atleast_2d(np.asarray(data, float))
        world = np.array([layer.data_to_world(c) for c in corners])[:, -ndim:]
        missing = ndim - world.shape[1]
        world = np.pad(world, ((0, 0), (missing, 0)))
        at = [np.asarray(image.world_to_data(w), float) for w in world]
        if missing:  # a flat layer says nothing of the plane: that in view
            plane, place = None, np.array(at)[:, -2:]
        else:
            found = [annotation.layers.on_plane(c) for c in at]
            plane, place = found[0][0].index or None, np.array([p for _, p in found])
        out.append(Detection(_prompts(kind, place), plane))
    return out


def _prompts(kind: str, place: np.ndarray) -> Prompts:
    """What a point or shape of napari says, at (N, 2) places."""
    if kind == "point":
        return Prompts.of(points=place)
    if kind in ("rectangle", "ellipse"):
        return Prompts.of(box=(*(place.min(0) + 0.5), *(place.max(0) + 0.5)))
    if kind == "polygon":
        return Prompts.of(polygon=place)
    return Prompts.of(scribbles=[place])
