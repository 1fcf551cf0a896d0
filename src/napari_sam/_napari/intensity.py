"""Which raw values the model sees as black and white."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psygnal import Signal

from napari_sam.errors import NapariSamError

if TYPE_CHECKING:
    from napari_sam._napari.annotation import Annotation
    from napari_sam._napari.state import Board


class Intensity:
    """Sets the session's intensity mapping by hand, or after the layer's contrast.

    Parameters
    ----------
    board : Board
    """

    changed = Signal()
    """From the next prompt on the model sees other values."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self._annotation: Annotation | None = None

    def use(self, annotation: Annotation | None) -> None:
        """Work on another image, or on none."""
        if self._annotation is not None:
            events = self._annotation.image.events
            events.contrast_limits.disconnect(self._on_contrast)
        self._annotation = annotation
        if annotation is not None:
            annotation.image.events.contrast_limits.connect(self._on_contrast)

    def stop(self) -> None:
        """Nothing here takes time."""

    def set_window(self, low: float, high: float) -> None:
        """Show the model other raw values as black and white."""
        self.board.update(follow=False)
        self._set(low, high)

    def follow_contrast(self, follow: bool) -> None:
        """Take the limits from the layer's contrast limits, or no longer."""
        self.board.update(follow=follow)
        self._on_contrast()

    def _on_contrast(self) -> None:
        if self.board.state.follow and self._annotation is not None:
            low, high = self._annotation.image.contrast_limits
            self._set(float(low), float(high))

    def _set(self, low: float, high: float) -> None:
        session = None if self._annotation is None else self._annotation.session
        if session is None:
            return
        try:
            session.use(intensity=session.engine.intensity.with_window(low, high))
        except NapariSamError as error:
            self.board.fail(error)
            return
        self.board.update(window=(low, high))
        self.changed()
        self.board.say(
            f"The model now sees {low:g} as black and {high:g} as white, from the next "
            "prompt on. Masks made so far stay."
        )
