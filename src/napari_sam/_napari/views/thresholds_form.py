"""Thresholds as sliders that answer while they are moved."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QLabel
from superqt import QDoubleRangeSlider, QLabeledDoubleSlider

from napari_sam._napari.views.options_form import field_texts
from napari_sam._napari.views.section import Section, silent
from napari_sam.core.thresholds import Thresholds

if TYPE_CHECKING:
    from napari_sam._napari.state import ReviewState

LABELS = {
    "max_doubt": "Doubt to",
    "pred_iou_thresh": "IoU from",
    "stability_score_thresh": "Stability",
    "min_likeness": "Likeness",
}
"""Thresholds from 0 to 1, and their names in the panel."""


class ThresholdsForm(Section):
    """A slider a threshold: doubt here, the others in `more`, to be folded away."""

    changed = Signal(object)
    """`Thresholds`."""

    def __init__(self) -> None:
        super().__init__()
        self._shown = Thresholds()
        self._most = 0.0
        texts = field_texts(Thresholds)
        self.sliders: dict[str, QLabeledDoubleSlider] = {}
        self._labels: dict[str, QLabel] = {}
        self.more = Section()
        for field in fields(Thresholds):
            if field.name not in LABELS:
                continue
            slider = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
            slider.setRange(*field.metadata["range"])
            slider.setDecimals(2)
            slider.setSingleStep(0.01)
            slider.setPageStep(0.1)
            slider.setToolTip(texts[field.name])
            slider.setAccessibleName(LABELS[field.name])
            slider.setFocusPolicy(Qt.FocusPolicy.TabFocus)
            slider.valueChanged.connect(partial(self._on_moved, field.name))
            self.sliders[field.name] = slider
            where = self if field.name == "max_doubt" else self.more
            self._labels[field.name] = where.add(LABELS[field.name], slider)
        self.area = QDoubleRangeSlider(Qt.Orientation.Horizontal)
        self.area.setToolTip("Fewest and most pixels, on a logarithmic scale")
        self.area.valueChanged.connect(self._on_area)
        self.pixels = QLabel()
        self.more.add("Area", self.area)
        self.more.add("", self.pixels)

    def show_review(self, review: ReviewState) -> None:
        """Show the thresholds in force, and what they can tell apart."""
        self._shown = review.thresholds
        for name, slider in self.sliders.items():
            value = getattr(review.thresholds, name)
            if not slider.isSliderDown() and round(slider.value(), 2) != value:
                with silent(slider):
                    slider.setValue(value)
        for made in (self.sliders["min_likeness"], self._labels["min_likeness"]):
            made.setVisible(review.like)
        self._show_area(review)

    def _show_area(self, review: ReviewState) -> None:
        low, high = review.thresholds.min_area, review.thresholds.max_area
        if not self.area.isSliderDown():
            self._most = math.log10(max(review.largest, high or 0, 10))
            with silent(self.area):
                self.area.setRange(0, self._most)
                top = self._most if high is None else math.log10(max(high, 1))
                self.area.setValue((math.log10(max(low, 1)), top))
        most = "any number of" if high is None else f"{high:,.0f}"
        self.pixels.setText(f"{low:,.0f} to {most} pixels")

    def _on_moved(self, name: str, value: float) -> None:
        self._tell(replace(self._shown, **{name: round(value, 2)}))

    def _on_area(self, values: tuple[float, float]) -> None:
        low, high = values
        self._tell(
            replace(
                self._shown,
                min_area=0.0 if low <= 0 else float(math.floor(10**low)),
                max_area=None if high >= self._most else float(math.ceil(10**high)),
            )
        )

    def _tell(self, thresholds: Thresholds) -> None:
        self._shown = thresholds
        self.changed.emit(thresholds)
