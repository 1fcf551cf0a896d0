"""The look shared by the panel's parts: a small heading and rows of label and field."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import (
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QWidget,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

LABEL_WIDTH = 62
"""Pixels for the labels, so that the fields of all parts line up."""
SPACING = 5


class Section(QWidget):  # type: ignore[misc]
    """A heading with rows of a label and a field below it."""

    def __init__(self, title: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(6)
        self._grid.setVerticalSpacing(SPACING)
        self._grid.setColumnMinimumWidth(0, LABEL_WIDTH)
        self._grid.setColumnStretch(1, 1)
        self._grid.addWidget(_heading(title), 0, 0, 1, 2)
        self._row = 1

    def add(self, label: str, *fields: QWidget) -> QLabel:
        """Add a row, give its label; without one the fields take its whole width."""
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(SPACING)
        for field in fields:
            row.addWidget(field)
        said = QLabel(label)
        if label:
            self._grid.addWidget(said, self._row, 0)
            self._grid.addLayout(row, self._row, 1)
        else:
            self._grid.addLayout(row, self._row, 0, 1, 2)
        self._row += 1
        return said


def button(text: str, tip: str, *, checkable: bool = False) -> QPushButton:
    """Make a button that shrinks with the panel and never takes the canvas's keys."""
    made = QPushButton(text)
    made.setToolTip(tip)
    made.setCheckable(checkable)
    made.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    made.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    made.setMinimumWidth(28)
    return made


def note() -> QLabel:
    """Small text below a field that wraps."""
    made = QLabel()
    made.setWordWrap(True)
    made.setTextFormat(Qt.TextFormat.PlainText)
    made.setObjectName("napari_sam_note")
    made.setStyleSheet("QLabel#napari_sam_note { font-size: 11px; }")
    return made


@contextmanager
def silent(*widgets: QWidget) -> Iterator[None]:
    """Set values without their signals, which stand for the user's wishes."""
    blockers = [QSignalBlocker(w) for w in widgets]
    try:
        yield
    finally:
        for blocker in blockers:
            blocker.unblock()


def _heading(title: str) -> QWidget:
    whole = QWidget()
    row = QHBoxLayout(whole)
    row.setContentsMargins(0, 4, 0, 0)
    text = QLabel(title)
    text.setStyleSheet("font-weight: bold;")
    line = QFrame()
    line.setFrameShape(QFrame.Shape.HLine)
    line.setStyleSheet("color: rgba(128, 128, 128, 110);")
    row.addWidget(text)
    row.addWidget(line, 1)
    return whole
