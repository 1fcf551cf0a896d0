"""Next image: a folder or list of images, or the layers, one after another."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from napari_sam._napari.own_layers import TAG
from napari_sam._napari.workers import PREPARE
from napari_sam.errors import NapariSamError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_sam._napari.annotation import Annotation
    from napari_sam._napari.layer_data import LayerData
    from napari_sam._napari.state import Board, ImageListState
    from napari_sam._napari.workers import Jobs
    from napari_sam.session.worklist import WorkImage, Worklist

KEY = "next image"


class Desk(Protocol):
    """What uses one image of the viewer at a time: the controller."""

    viewer: Any
    board: Board
    jobs: Jobs
    annotation: Annotation | None

    @property
    def images(self) -> list[Any]:
        """Image layers of the viewer, in their order."""
        ...

    def use_image(self, layer: Any, *, keep: str | None = None) -> None:
        """Go on with an image layer, its session kept in a folder."""
        ...

    def leave_image(self) -> None:
        """Close the session of the image in use; its layers stay."""
        ...


class ImageList:
    """Shows one image of a list at a time, with the session that belongs to it.

    Without a list, the image layers of the viewer are gone through, and the one that
    is left is hidden unless it is a channel drawn over others.

    Parameters
    ----------
    controller : Desk
    """

    def __init__(self, controller: Desk) -> None:
        self._controller = controller
        self.board, self.jobs = controller.board, controller.jobs
        self._work: Worklist | None = None
        self._tried = -1
        """The image that was to be opened last: one that cannot be is passed over."""
        self._shown: list[Any] = []
        """Layers of the image at hand."""

    def open(
        self, images: str | Path | Sequence[str | Path], results: str | None = None
    ) -> None:
        """Go through the images of a folder, or of a list, from where one was."""
        self.board.say("Looking for images…", "busy")

        def work(_: Any) -> Worklist:
            from napari_sam.session.worklist import Worklist

            return Worklist(images, results)

        self.jobs.submit(KEY, work, self.use, self.board.fail, priority=PREPARE)

    def use(self, work: Worklist) -> None:
        """Go through a list from where one was."""
        self._work, self._tried = work, -1
        self._go(work.at)

    def next(self) -> None:
        """Go to the next image."""
        self._step(1)

    def previous(self) -> None:
        """Go to the image before."""
        self._step(-1)

    def set_format(self, name: str) -> None:
        """Export each image that is left in a format; "" for none."""
        self._update(format=name)

    def look(self) -> None:
        """The layers have changed: tell which of them is at hand."""
        if self._work is None:
            images = self._controller.images
            self._update(at=self.board.state.image, total=len(images))
        elif not any(x in self._controller.viewer.layers for x in self._shown):
            self._shown = []

    def _step(self, step: int) -> None:
        if self._work is None:
            self._step_layer(step)
            return
        at = self._tried if self._tried >= 0 else self._work.at
        if not 0 <= at + step < len(self._work):
            self._end(step)
        else:
            self._go(at + step)

    def _end(self, step: int) -> None:
        which = "last" if step > 0 else "first"
        self.board.say(f"This is the {which} image.")

    def _step_layer(self, step: int) -> None:
        images, controller = self._controller.images, self._controller
        if not images:
            self.board.say("There is no image yet.")
            return
        at = self.board.state.image + step
        if not 0 <= at < len(images):
            self._end(step)
            return
        former = controller.annotation
        if former is not None and former.image.blending != "additive":
            for layer in self._belonging(former.image):
                layer.visible = False
        for layer in self._belonging(images[at]):
            layer.visible = True
        controller.use_image(images[at])
        self.look()

    def _belonging(self, image: Any) -> list[Any]:
        """An image layer, and ours that were made for it."""
        mine = (image, *self._controller.viewer.layers)
        return [
            x for x in dict.fromkeys(mine)
            if x is image or x.metadata.get(TAG, {}).get("image") == image.unique_id
        ]  # fmt: skip

    def _go(self, index: int) -> None:
        work = self._work
        assert work is not None
        one, left, self._tried = work.images[index], self._left, index
        self.board.say(f"Opening {one.name}…", "busy")

        def opened(_: Any) -> tuple[list[LayerData], int]:
            from napari_sam._napari.label_images import layers_of
            from napari_sam.volume.opening import open_volume

            layers = layers_of(open_volume(str(one.path)))
            work.go(index)
            rest = (other for other in work.images if other not in (one, left))
            return layers, sum(other.begun for other in rest)

        self.jobs.submit(
            KEY, opened, lambda found: self._show(one, *found), self._on_failed,
            priority=PREPARE,
        )  # fmt: skip

    def _on_failed(self, error: Exception) -> None:
        self.board.fail(error)
        if self._work is not None and len(self._work) > 1:
            said = f"{self.board.state.said} Next image passes it over."
            self.board.say(said, "error")

    def _show(self, one: WorkImage, layers: list[LayerData], begun: int) -> None:
        """Put an image in the place of the one that was shown.

        `begun` counts the sessions of all images but these two.
        """
        controller, work = self._controller, self._work
        if work is None or work.current is not one:
            return
        if self._left not in (None, one):
            begun += self.board.state.can_export
        self._leave()
        viewer = controller.viewer
        before = [x for image in controller.images for x in self._belonging(image)]
        for layer in before:  # what was there before the list, with its masks
            layer.visible = False
        kinds = {"image": viewer.add_image, "labels": viewer.add_labels}
        added = [kinds[kind](data, **options) for data, options, kind in layers]
        viewer.reset_view()
        self._shown = added
        images = [layer for layer in added if layer in controller.images]
        if not images:
            self._on_failed(NapariSamError(f"{one.name} holds labels, and no image."))
            return
        controller.use_image(images[-1], keep=str(one.session))
        self._update(begun=begun)

    def _leave(self) -> None:
        """Close the session of the image shown, take it away, and export it."""
        work, controller = self._work, self._controller
        shown, self._shown = self._shown, []
        gone = [x for image in shown for x in self._belonging(image)]
        controller.leave_image()
        for layer in dict.fromkeys(gone):
            if layer in controller.viewer.layers:
                controller.viewer.layers.remove(layer)
        format_, left = self._state.format, self._left
        if work is not None and left is not None and format_ and left.begun:
            self.jobs.submit(
                (KEY, left.name),
                lambda _: list(work.export(format_, only=[left])),
                lambda _: None,
                self.board.fail,
                priority=PREPARE,
            )

    @property
    def _state(self) -> ImageListState:
        return self.board.state.image_list

    @property
    def _left(self) -> WorkImage | None:
        work, state = self._work, self._state
        if work is None or not state.name:
            return None
        return next((one for one in work.images if one.name == state.name), None)

    def _update(self, **fields: Any) -> None:
        work = self._work
        if work is not None:
            fields |= {
                "at": work.at,
                "total": len(work),
                "name": work.current.name,
                "place": str(work.results),
            }
        self.board.update(image_list=replace(self._state, **fields))
