"""Which object is worked on, and what happens where it meets another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFrame, QSizePolicy, QSpinBox, QWidget

from napari_sam._napari.views.section import Section, button, silent

if TYPE_CHECKING:
    from napari_sam._napari.state import PanelState

RULES = {"keep": "keeps other objects", "overwrite": "overwrites other objects"}
"""The rule where a mask meets another object, in words."""


class ObjectView(Section):
    """Object number with its colour, new and delete, and the rule at overlaps."""

    object_chosen = Signal(int)
    new_wanted = Signal()
    delete_wanted = Signal()
    rule_chosen = Signal(str)
    """"keep" or "overwrite"."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Object", parent)
        self.color = QFrame()
        self.color.setFixedSize(18, 18)
        self.color.setToolTip("Colour of this object in the labels")
        self.number = QSpinBox()
        self.number.setRange(1, 65535)
        self.number.setToolTip("Value in the labels; choose a number to go on with it")
        self.number.setKeyboardTracking(False)
        self.number.valueChanged.connect(self.object_chosen)
        self.new = button("New (N)", "Start the next object")
        self.new.clicked.connect(self.new_wanted)
        self.delete = button("Delete", "Remove this object and its prompts (undoable)")
        self.delete.clicked.connect(self.delete_wanted)
        self.rule = QComboBox()
        self.rule.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        for rule, text in RULES.items():
            self.rule.addItem(text, rule)
        self.rule.setToolTip("What a mask does where another object already is")
        self.rule.activated.connect(
            lambda i: self.rule_chosen.emit(self.rule.itemData(i))
        )
        self.add("Number", self.color, self.number)
        self.add("", self.new, self.delete)
        self.add("A mask", self.rule)

    def show_state(self, state: PanelState) -> None:
        """Show the current object and the rule."""
        with silent(self.number, self.rule):
            self.number.setValue(state.object_id)
            self.rule.setCurrentIndex(self.rule.findData(state.rule))
        style = (
            f"background-color: {state.color}; border-radius: 3px; "
            "border: 1px solid rgba(128, 128, 128, 160);"
        )
        if style != self.color.styleSheet():  # setting one costs milliseconds
            self.color.setStyleSheet(style)
