"""What is happening, what to do next, how far the long work is, and its cancel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_sam._napari.views.section import button

if TYPE_CHECKING:
    from napari_sam._napari.state import PanelState

_COLORS = {"info": "#3b9cff", "busy": "#e0a526", "error": "#ff5a52"}


class StatusView(QFrame):  # type: ignore[misc]
    """Status text with a coloured edge, and a progress bar while there is work."""

    cancel_wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("napari_sam_status")
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        self.text = QLabel()
        self.text.setWordWrap(True)
        self.text.setTextFormat(Qt.TextFormat.PlainText)
        self.text.setMinimumHeight(64)
        self.text.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
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
        column = QVBoxLayout(self)
        column.setContentsMargins(8, 4, 4, 4)
        column.setSpacing(4)
        column.addWidget(self.text)
        column.addWidget(self._work)

    def show_state(self, state: PanelState) -> None:
        """Show the status, and progress while there is any."""
        self.text.setText(state.status)
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
