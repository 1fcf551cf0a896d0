"""How the image's values become the grey levels that the model sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QCheckBox, QLabel, QWidget
from superqt import QLabeledDoubleRangeSlider

from napari_sam._napari.views.section import Section, combo, note, silent
from napari_sam.core.intensity import CT_PRESETS

if TYPE_CHECKING:
    from napari_sam._napari.state import PanelState

_NO_PRESET = "CT window…"


class IntensityView(Section):
    """What the image is, and which raw values the model sees as black and white."""

    window_chosen = Signal(float, float)
    """Raw values that become black and white."""
    follow_chosen = Signal(bool)
    """Whether they follow the layer's contrast limits."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.about = note()
        self.limits = QLabeledDoubleRangeSlider(Qt.Orientation.Horizontal)
        self.limits.setToolTip(
            "Raw values that the model sees as black and as white. The numbers can "
            "be edited"
        )
        self.limits.setHandleLabelPosition(
            QLabeledDoubleRangeSlider.LabelPosition.LabelsAbove
        )
        self.limits.setEdgeLabelMode(QLabeledDoubleRangeSlider.EdgeLabelMode.NoLabel)
        self.limits.setMinimumHeight(44)
        # The numbers stand above the handles, also where these are at the ends.
        around = self.limits.layout().contentsMargins()
        self.limits.layout().setContentsMargins(14, max(around.top(), 16), 14, 0)
        # While it is dragged each value would make the embeddings of the one before
        # useless.
        self.limits.setTracking(False)
        self.limits.valueChanged.connect(self._on_limits)
        self.presets = combo("Usual windows for CT, in Hounsfield units")
        self.presets.addItems([_NO_PRESET, *CT_PRESETS])
        self.presets.activated.connect(self._on_preset)
        self.follow = QCheckBox("Follow the layer's contrast limits")
        self.follow.toggled.connect(self.follow_chosen)
        self.add("", self.about)
        self.title = QLabel("Black and white for the model")
        self.add("", self.title)
        self.add("", self.limits)
        self.add("", self.presets)
        self.add("", self.follow)
        self._shown: tuple[float, float] | None = None

    def show_state(self, state: PanelState) -> None:
        """Show the image's facts and the limits."""
        self.about.setText(state.image_note)
        self.about.setVisible(bool(state.image_note))
        grey = state.window is not None and not state.own_colors
        self.title.setText(
            "Colours go to the model as they are"
            if state.own_colors
            else "Black and white for the model"
        )
        for made in (self.limits, self.follow):
            made.setVisible(not state.own_colors)
            made.setEnabled(grey)
        self.presets.setVisible(state.is_ct)
        if grey:
            self._show_limits(state)

    def _show_limits(self, state: PanelState) -> None:
        assert state.window is not None
        low, high = state.window
        least, most = state.values or state.window
        decimals = 0 if high - low >= 50 else 4 if high - low < 1 else 2
        with silent(self.limits, self.presets, self.follow):
            if state.window != self._shown:
                self.limits.setDecimals(decimals)
                self.limits.setRange(min(least, low), max(most, high))
                self.limits.setValue((low, high))
                self._shown = (low, high)
            self.limits.setEnabled(not state.follow)
            named = [k for k, v in CT_PRESETS.items() if v == state.window]
            self.presets.setCurrentText(named[0] if named else _NO_PRESET)
            self.follow.setChecked(state.follow)

    def _on_limits(self, limits: tuple[float, float]) -> None:
        low, high = (float(v) for v in limits)
        if (low, high) != self._shown and low < high:
            self._shown = (low, high)
            self.window_chosen.emit(low, high)

    def _on_preset(self, index: int) -> None:
        if index > 0:
            self.window_chosen.emit(*CT_PRESETS[self.presets.itemText(index)])
