"""Which image, along which axis, and how its values become the model's grey levels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QSizePolicy,
    QWidget,
)

from napari_sam._napari.state import AXES
from napari_sam._napari.views.section import Section, note, silent
from napari_sam.core.intensity import CT_PRESETS

if TYPE_CHECKING:
    from napari_sam._napari.state import PanelState

_NO_PRESET = "CT window…"


class ImageView(Section):
    """Image layer, axis and intensity window."""

    image_chosen = Signal(int)
    axis_chosen = Signal(int)
    window_chosen = Signal(float, float)
    """Raw values that become black and white."""
    follow_chosen = Signal(bool)
    """Whether the window follows the layer's contrast limits."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Image", parent)
        self.images = _combo("Layer to segment")
        self.images.activated.connect(self.image_chosen)
        self.axis = _combo("Which way the volume is cut into planes")
        self.axis.activated.connect(self.axis_chosen)
        self.low = _number("Raw value that the model sees as black")
        self.high = _number("Raw value that the model sees as white")
        for number in (self.low, self.high):
            number.editingFinished.connect(self._on_window)
        self.presets = _combo("Usual windows for CT, in Hounsfield units")
        self.presets.addItems([_NO_PRESET, *CT_PRESETS])
        self.presets.activated.connect(self._on_preset)
        self.follow = QCheckBox("Follow the layer's contrast limits")
        self.follow.toggled.connect(self.follow_chosen)
        self.about = note()
        self.add("Layer", self.images)
        self.add("", self.about)
        self.add("Planes", self.axis)
        self.add("Intensity", self.low, self.high)
        self.add("Preset", self.presets)
        self.add("", self.follow)
        self._shown_window: tuple[float, float] | None = None

    def show_state(self, state: PanelState) -> None:
        """Show the images, the plane's axis and the intensity window."""
        self._show_images(state)
        self._show_axis(state)
        self._show_window(state)
        self.about.setText(state.image_note)
        self.about.setVisible(bool(state.image_note))

    def _show_images(self, state: PanelState) -> None:
        shown = [self.images.itemText(i) for i in range(self.images.count())]
        with silent(self.images):
            if shown != list(state.images):
                self.images.clear()
                self.images.addItems(state.images)
            self.images.setCurrentIndex(state.image)

    def _show_axis(self, state: PanelState) -> None:
        names = [f"along {n}" for n in AXES] if state.ndim > 2 else ["the whole image"]
        shown = [self.axis.itemText(i) for i in range(self.axis.count())]
        with silent(self.axis):
            if shown != names:
                self.axis.clear()
                self.axis.addItems(names)
            self.axis.setCurrentIndex(state.axis)
        self.axis.setEnabled(state.ndim > 2)

    def _show_window(self, state: PanelState) -> None:
        for widget in (self.low, self.high, self.follow):
            widget.setEnabled(state.window is not None and not state.own_colors)
        for number in (self.low, self.high):
            number.setReadOnly(state.follow)
        set_row_visible(self, self.presets, state.is_ct)
        with silent(self.low, self.high, self.presets, self.follow):
            if state.window is not None:
                low, high = state.window
                decimals = 0 if high - low >= 50 else 4 if high - low < 1 else 2
                for number, value in ((self.low, low), (self.high, high)):
                    number.setDecimals(decimals)
                    number.setValue(value)
                self._shown_window = (self.low.value(), self.high.value())
            named = [k for k, v in CT_PRESETS.items() if v == state.window]
            self.presets.setCurrentText(named[0] if named else _NO_PRESET)
            self.follow.setChecked(state.follow)

    def _on_window(self) -> None:
        window = self.low.value(), self.high.value()
        if window != self._shown_window:
            self.window_chosen.emit(*window)

    def _on_preset(self, index: int) -> None:
        if index > 0:
            self.window_chosen.emit(*CT_PRESETS[self.presets.itemText(index)])


def set_row_visible(section: Section, field: QWidget, visible: bool) -> None:
    """Show or hide a field together with the label before it."""
    grid = section.layout()
    for row in range(grid.rowCount()):
        item = grid.itemAtPosition(row, 1)
        if item is not None and item.layout() and item.layout().indexOf(field) >= 0:
            label = grid.itemAtPosition(row, 0).widget()
            if label is not None:
                label.setVisible(visible)
    field.setVisible(visible)


def _combo(tip: str) -> QComboBox:
    combo = QComboBox()
    combo.setToolTip(tip)
    combo.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    return combo


def _number(tip: str) -> QDoubleSpinBox:
    number = QDoubleSpinBox()
    number.setRange(-1e12, 1e12)
    number.setButtonSymbols(QAbstractSpinBox.ButtonSymbols.NoButtons)
    number.setKeyboardTracking(False)
    number.setToolTip(tip)
    number.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    return number
