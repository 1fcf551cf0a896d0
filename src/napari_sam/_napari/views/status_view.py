"""What is happening, what to do next, how far the long work is, and its cancel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_sam._napari.views.section import button

if TYPE_CHECKING:
    from napari_sam._napari.state import PanelState

_COLORS = {"info": "#3b9cff", "busy": "#e0a526", "error": "#ff5a52"}
HEIGHT = 68
"""Pixels for the text; a longer one scrolls."""


class StatusView(QFrame):  # type: ignore[misc]
    """Status text with a coloured edge, and a progress bar while there is work.

    What is not kept on disk stands above it in red for as long as that is so.
    """

    cancel_wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("napari_sam_status")
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        self.unsaved = _text()
        self.unsaved.setObjectName("napari_sam_unsaved")
        self.unsaved.setStyleSheet(
            "QLabel#napari_sam_unsaved { background: #b3261e; color: white; "
            "padding: 3px; }"
        )
        self.text = _text()
        self.text.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
        scroll = QScrollArea()
        scroll.setWidget(self.text)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setFixedHeight(HEIGHT)
        self.copy = button("Copy", "Copy the whole message, to send it to somebody")
        self.copy.setMaximumWidth(54)
        self.copy.clicked.connect(
            lambda: QGuiApplication.clipboard().setText(self.text.text())
        )
        self.bar = QProgressBar()
        self.bar.setTextVisible(True)
        self.cancel = button("Cancel", "Stop; what is finished is kept")
        self.cancel.setMaximumWidth(70)
        self.cancel.clicked.connect(self.cancel_wanted)
        self._work = QWidget()
        row = QHBoxLayout(self._work)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.bar, 1)
        row.addWidget(self.cancel)
        said = QHBoxLayout()
        said.addWidget(scroll, 1)
        said.addWidget(self.copy, 0, Qt.AlignmentFlag.AlignTop)
        column = QVBoxLayout(self)
        column.setContentsMargins(8, 2, 4, 2)
        column.setSpacing(3)
        column.addWidget(self.unsaved)
        column.addLayout(said)
        column.addWidget(self._work)

    def show_state(self, state: PanelState) -> None:
        """Show the status, and progress while there is any."""
        self.unsaved.setText(state.unsaved)
        self.unsaved.setVisible(bool(state.unsaved))
        if self.text.text() != state.status:  # what is selected stays so
            self.text.setText(state.status)
        self.copy.setVisible(state.status_kind == "error")
        color = _COLORS[state.status_kind]
        style = f"QFrame#napari_sam_status {{ border-left: 3px solid {color}; }}"
        if style != self.styleSheet():  # setting one costs milliseconds
            self.setStyleSheet(style)
        self._work.setVisible(state.progress is not None)
        if state.progress is not None:
            done, total = state.progress
            self.bar.setRange(0, total)
            self.bar.setValue(done)
            self.bar.setFormat(f"{state.progress_text} %v / %m".strip())


def _text() -> QLabel:
    made = QLabel()
    made.setWordWrap(True)
    made.setTextFormat(Qt.TextFormat.PlainText)
    made.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return made
