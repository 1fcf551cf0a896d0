"""Fine-tuning: a name, a start, how far it is, and whether it helped."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QLineEdit,
    QProgressBar,
    QSizePolicy,
    QWidget,
)

from napari_sam._napari.encoding import duration
from napari_sam._napari.training import TrainingOptions
from napari_sam._napari.views.options_form import OptionsForm
from napari_sam._napari.views.section import Section, button, fold, note

if TYPE_CHECKING:
    from napari_sam._napari.state import PanelState


class TrainingView(Section):
    """Name and shares, start and cancel, progress, and the scores before and after."""

    start_wanted = Signal(str, object)
    """Name, and `TrainingOptions`."""
    stop_wanted = Signal()
    use_wanted = Signal()
    keep_wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.name = QLineEdit()
        self.name.setToolTip("Name of the trained model in the list of models")
        self.name.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.options = OptionsForm(TrainingOptions)
        self.start = button(
            "Train", "Let the model in use learn from this session's objects"
        )
        self.start.clicked.connect(self._on_start)
        self.bar = QProgressBar()
        self.stage = note()
        self.table = note()
        self.table.setTextFormat(Qt.TextFormat.RichText)
        self.message = note()
        self.use = button("", "Prompts and masks stay as they are")
        self.use.clicked.connect(self.use_wanted)
        self.keep = button(
            "Keep it all the same", "Give it its name although it is no better"
        )
        self.keep.clicked.connect(self.keep_wanted)
        self.add("Name", self.name)
        self.add("", self.start)
        self.add("", fold("How it is trained", self.options))
        self.add("", self.bar)
        self.add("", self.stage)
        self.add("", self.message)
        self.add("", self.table)
        self.add("", self.use, self.keep)
        self._running = False

    def show_state(self, state: PanelState) -> None:
        """Show how far it is, and what came of it."""
        training = state.training
        self._running = training.running
        model = state.model.replace("\\", "/").rsplit("/", 1)[-1]
        self.name.setPlaceholderText(f"{model.removesuffix('_tuned')}_tuned")
        for field in (self.name, self.options):
            field.setEnabled(not training.running)
        self.start.setText("Cancel" if training.running else f"Train {model}")
        self.start.setEnabled(state.can_embed)
        self.bar.setVisible(training.running)
        self.stage.setVisible(training.running)
        if training.running:
            self.bar.setRange(0, 100)
            self.bar.setValue(round(100 * training.done))
            left = training.seconds_left
            self.bar.setFormat("%p %" if left is None else f"{duration(left)} left")
            self.stage.setText(training.stage)
        self.message.setText(training.message)
        self.message.setVisible(bool(training.message))
        self.table.setText(as_html(training.table))
        self.table.setVisible(bool(training.table))
        self.use.setText(f"Use {training.name}")
        self.use.setVisible(training.offer == "use")
        self.keep.setVisible(training.offer == "keep")

    def _on_start(self) -> None:
        if self._running:
            self.stop_wanted.emit()
        else:
            self.start_wanted.emit(self.name.text(), self.options.value())


def as_html(table: str) -> str:
    """Turn a table in plain text, columns two blanks apart, into one that wraps.

    Examples
    --------
    >>> as_html("box      0.91   0.95")
    '<table width="100%"><tr><td>box</td><td align="right">0.91</td>...</table>'
    """
    lines = [re.split(r"\s{2,}", line.strip()) for line in table.splitlines()]
    rows, notes = [], []
    for first, *others in lines:
        if not others:
            notes.append(escape(first))
            continue
        cells = "".join(f'<td align="right">{escape(c)}</td>' for c in others)
        rows.append(f"<tr><td>{escape(first)}</td>{cells}</tr>")
    body = f'<table width="100%">{"".join(rows)}</table>' if rows else ""
    return body + "<br>".join(notes)
