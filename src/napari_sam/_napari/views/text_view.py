"""A field for words, and who reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QLineEdit, QSizePolicy, QWidget

from napari_sam._napari.views.section import Section, button

if TYPE_CHECKING:
    from napari_sam._napari.state import PanelState


class TextView(Section):
    """Words to look for."""

    find_wanted = Signal(str)
    """What was typed."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        policy = QSizePolicy.Policy
        self.setSizePolicy(policy.Preferred, policy.Maximum)
        self.words = QLineEdit()
        self.words.setClearButtonEnabled(True)
        self.find = button("Find", "Look for what the words name")
        self.find.setSizePolicy(policy.Fixed, policy.Fixed)
        self.add("", self.words, self.find)
        self.words.returnPressed.connect(self._on_find)
        self.words.textChanged.connect(self._on_text)
        self.find.clicked.connect(self._on_find)
        self._ready = False

    def show_state(self, state: PanelState) -> None:
        """Show who reads words, and whether there is anything to look at."""
        self._ready = state.can_embed and bool(state.words)
        self.words.setEnabled(self._ready)
        by = f", read by {state.words_by}" if state.words_by else ""
        self.words.setPlaceholderText(f"a word{by}")
        self.words.setToolTip(f"A short noun phrase, in English. {state.words}".strip())
        self._on_text()

    def _on_text(self) -> None:
        self.find.setEnabled(self._ready and bool(self.words.text().strip()))

    def _on_find(self) -> None:
        if self._ready and self.words.text().strip():
            self.find_wanted.emit(self.words.text())
