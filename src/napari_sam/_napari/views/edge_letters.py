"""Letters at the edges of the canvas, as viewers of medical images have them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import QLabel, QWidget

if TYPE_CHECKING:
    from collections.abc import Sequence

MARGIN = 6
"""Pixels between a letter and its edge."""
STYLE = (
    "color: white; font-weight: bold; font-size: 16px;"
    "background: rgba(0, 0, 0, 110); border-radius: 3px; padding: 1px 5px;"
)


class EdgeLetters(QObject):  # type: ignore[misc]
    """Four labels on a canvas that stay at its edges; clicks pass through them."""

    def __init__(self, canvas: QWidget) -> None:
        super().__init__(canvas)
        self._canvas = canvas
        self.labels = [QLabel(canvas) for _ in range(4)]
        for label, name in zip(
            self.labels, ("top", "left", "bottom", "right"), strict=True
        ):
            label.setObjectName(f"napari_sam_{name}")
            label.setStyleSheet(STYLE)
            label.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
            label.hide()
        canvas.installEventFilter(self)
        self._gone: list[bool] = []
        canvas.destroyed.connect(partial(self._gone.append, True))

    @classmethod
    def over(cls, window: Any) -> EdgeLetters:
        """Put letters over the canvas of a napari window."""
        return cls(window._qt_viewer.canvas.native)

    def show_letters(self, letters: Sequence[str] | None) -> None:
        """Show letters at the top, left, bottom and right; None hides them."""
        if self._gone:  # the viewer outlives its window
            return
        for label, letter in zip(self.labels, letters or [""] * 4, strict=True):
            label.setText(letter)
            label.adjustSize()
            label.setVisible(bool(letter))
            label.raise_()
        self._place()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Follow the size of the canvas."""
        if event.type() in (QEvent.Type.Resize, QEvent.Type.Show):
            self._place()
        return False

    def _place(self) -> None:
        w, h = self._canvas.width(), self._canvas.height()
        top, left, bottom, right = self.labels
        top.move((w - top.width()) // 2, MARGIN)
        bottom.move((w - bottom.width()) // 2, h - bottom.height() - MARGIN)
        left.move(MARGIN, (h - left.height()) // 2)
        right.move(w - right.width() - MARGIN, (h - right.height()) // 2)
