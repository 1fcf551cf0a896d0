"""Which model: a name from the list, or a checkpoint file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal

from napari_sam._napari.views.section import Section, button, combo, note, silent

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget

    from napari_sam._napari.state import PanelState


class ModelView(Section):
    """Model list, checkpoint file, device and licence."""

    model_chosen = Signal(str)
    """Name of a model."""
    file_wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.names = combo("The model that answers prompts")
        self.names.activated.connect(self._on_activated)
        self.file = button("File…", "Use a checkpoint file")
        self.file.setFixedWidth(54)
        self.file.clicked.connect(self.file_wanted)
        self.about = note()
        self.add("Model", self.names, self.file)
        self.add("", self.about)

    def show_state(self, state: PanelState) -> None:
        """Show the models, the one in use and what is known about it."""
        lines = [(m.name, m.name if m.where == "here" else f"{m.name}  ({m.where})")
                 for m in state.models]  # fmt: skip
        if state.model not in [name for name, _ in lines]:
            short = state.model.replace("\\", "/").rsplit("/", 1)[-1]
            lines.append((state.model, short))
        shown = [
            (self.names.itemData(i), self.names.itemText(i))
            for i in range(self.names.count())
        ]
        with silent(self.names):
            if shown != lines:
                self.names.clear()
                for name, text in lines:
                    self.names.addItem(text, name)
            self.names.setCurrentIndex(self.names.findData(state.model))
        self.about.setText(state.model_note)
        self.about.setVisible(bool(state.model_note))

    def _on_activated(self, index: int) -> None:
        self.model_chosen.emit(self.names.itemData(index))
