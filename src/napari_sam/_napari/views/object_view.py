"""Which object is worked on, of which class it is, new and delete."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QAbstractSpinBox, QComboBox, QFrame, QSizePolicy, QWidget
from superqt import QLargeIntSpinBox

from napari_sam._napari.views.section import Section, button, combo, fill, silent

if TYPE_CHECKING:
    from napari_sam._napari.state import PanelState

MOST = 2**32 - 1
"""Largest value that labels can hold here; napari draws no more than 32 bits."""


class ObjectView(Section):
    """Object number with its colour and class, new and delete."""

    object_chosen = Signal(object)
    """Id of an object: an int of any size."""
    class_chosen = Signal(str)
    """Name of a class; "" for none."""
    new_wanted = Signal()
    delete_wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.color = QFrame()
        self.color.setFixedSize(18, 18)
        self.color.setToolTip("Colour of this object in the labels")
        self.number = QLargeIntSpinBox()
        self.number.setRange(1, MOST)
        self.number.setToolTip("Value in the labels; choose a number to go on with it")
        self.number.setButtonSymbols(QAbstractSpinBox.ButtonSymbols.NoButtons)
        self.number.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.number.editingFinished.connect(self._on_number)
        self.kind = combo("Class of this object, or of new ones where it has no mask")
        self.kind.setEditable(True)
        self.kind.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.kind.lineEdit().setPlaceholderText("class")
        self.kind.lineEdit().editingFinished.connect(self._on_class)
        self.kind.activated.connect(self._on_class)
        self.new = button("New (N)", "Start the next object")
        self.new.clicked.connect(self.new_wanted)
        self.delete = button("Delete", "Remove this object and its prompts (undoable)")
        self.delete.clicked.connect(self.delete_wanted)
        for made, width in ((self.new, 62), (self.delete, 54)):
            made.setFixedWidth(width)
        self.add("Object", self.color, self.number, self.new, self.delete)
        self.add("Class", self.kind)
        self._number, self._class = 1, ""

    def show_state(self, state: PanelState) -> None:
        """Show the current object."""
        kind = self.kind.lineEdit()
        if state.class_name != self._class or not kind.hasFocus():
            fill(self.kind, list(state.classes), -1)
            with silent(self.kind, kind):
                self.kind.setEditText(state.class_name)
        self._class = state.class_name
        self.kind.setEnabled(state.image >= 0)
        with silent(self.number):
            if state.object_id != self._number or not self.number.hasFocus():
                self.number.setValue(state.object_id)
        self._number = state.object_id
        style = (
            f"background-color: {state.color}; border-radius: 3px; "
            "border: 1px solid rgba(128, 128, 128, 160);"
        )
        if style != self.color.styleSheet():  # setting one costs milliseconds
            self.color.setStyleSheet(style)

    def _on_number(self) -> None:
        number = int(self.number.value())
        if number != self._number:
            self._number = number
            self.object_chosen.emit(number)

    def _on_class(self) -> None:
        name = self.kind.currentText().strip()
        if name != self._class:
            self._class = name
            self.class_chosen.emit(name)
