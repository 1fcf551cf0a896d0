"""The look shared by the panel's parts: rows of label and field, buttons, notes."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import (
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QWidget,
)
from superqt import QCollapsible

if TYPE_CHECKING:
    from collections.abc import Iterator

LABEL_WIDTH = 54
"""Pixels for the labels, so that the fields of all parts line up."""
SPACING = 4


class Section(QWidget):  # type: ignore[misc]
    """Rows of a label and a field."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(6)
        self._grid.setVerticalSpacing(SPACING)
        self._grid.setColumnMinimumWidth(0, LABEL_WIDTH)
        self._grid.setColumnStretch(1, 1)
        self._row = 0

    def add(self, label: str, *fields: QWidget) -> QLabel:
        """Add a row, give its label; without one the fields take its whole width."""
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(SPACING)
        for field in fields:
            row.addWidget(field)
        said = QLabel(label)
        if label:
            said.setBuddy(fields[-1])
            self._grid.addWidget(said, self._row, 0)
            self._grid.addLayout(row, self._row, 1)
        else:
            self._grid.addLayout(row, self._row, 0, 1, 2)
        self._row += 1
        return said


def button(text: str, tip: str, *, checkable: bool = False) -> QPushButton:
    """Make a button that shrinks with the panel.

    A click on it leaves the keys with the canvas; Tab reaches it.
    """
    made = QPushButton(text)
    made.setToolTip(tip)
    made.setCheckable(checkable)
    made.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    made.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    made.setMinimumWidth(28)
    return made


def combo(tip: str) -> QComboBox:
    """Make a list to choose from that shrinks with the panel."""
    made = QComboBox()
    made.setToolTip(tip)
    made.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    made.setSizeAdjustPolicy(
        QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
    )
    made.setMinimumContentsLength(4)
    return made


def fill(box: QComboBox, texts: list[str], index: int) -> None:
    """Show these entries and choose one, without telling anybody."""
    shown = [box.itemText(i) for i in range(box.count())]
    with silent(box):
        if shown != texts:
            box.clear()
            box.addItems(texts)
        box.setCurrentIndex(index)


def note() -> QLabel:
    """Small text below a field that wraps and can be selected."""
    made = QLabel()
    made.setWordWrap(True)
    made.setTextFormat(Qt.TextFormat.PlainText)
    made.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    made.setObjectName("napari_sam_note")
    made.setStyleSheet("QLabel#napari_sam_note { font-size: 11px; }")
    return made


def fold(title: str, inside: QWidget, *, collapsed: bool = True) -> QCollapsible:
    """Make a part that opens with a click on its title."""
    made = QCollapsible(title)
    made.setDuration(0)
    made.setCollapsedIcon("▸")
    made.setExpandedIcon("▾")
    made.layout().setContentsMargins(0, 0, 0, 0)
    made.addWidget(inside)
    made.content().layout().setContentsMargins(6, 0, 0, 0)
    if not collapsed:
        made.expand(animate=False)
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
