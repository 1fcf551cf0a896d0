"""Results: export to files and read them, save and open the session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QMenu, QWidget

from napari_sam._napari.views.section import Section, button, note
from napari_sam.results.registry import FORMATS

if TYPE_CHECKING:
    from napari_sam._napari.state import PanelState


class OutputView(Section):
    """Export menu, read, save and open."""

    export_wanted = Signal(str)
    """Name of a format."""
    save_wanted = Signal()
    open_wanted = Signal()
    read_wanted = Signal()
    combine_wanted = Signal()
    report_wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.export = button("Export", "Write the masks to a file")
        menu = QMenu(self.export)
        for key, kind in FORMATS.items():
            action = menu.addAction(
                f"{kind.title}…", lambda k=key: self.export_wanted.emit(k)
            )
            if kind.missing:
                action.setEnabled(False)
                action.setToolTip(f"needs {' and '.join(kind.missing)}")
        menu.setToolTipsVisible(True)
        self.export.setMenu(menu)
        self.save = button("Save…", "Save prompts, masks and history to continue later")
        self.save.clicked.connect(self.save_wanted)
        self.open = button("Open…", "Continue a saved session")
        self.open.clicked.connect(self.open_wanted)
        self.read = button(
            "Read…",
            "Take in the objects of a file: labels or annotations of this image",
        )
        self.read.clicked.connect(self.read_wanted)
        self.combine = button(
            "Combine…",
            "Join somebody else's session of the same image to this one",
        )
        self.combine.clicked.connect(self.combine_wanted)
        self.kept = note()
        self.report = button("Copy a report", "What to send along with a question")
        self.report.clicked.connect(self.report_wanted)
        self.add("", self.export, self.read)
        self.add("", self.save, self.open, self.combine)
        self.add("", self.kept)
        self.add("", self.report)

    def show_state(self, state: PanelState) -> None:
        """Offer what there is to write."""
        self.export.setEnabled(state.can_export)
        self.save.setEnabled(state.can_export)
        self.combine.setEnabled(state.can_embed)
        self.read.setEnabled(state.can_embed)
        self.kept.setText(f"Every change is kept in {state.kept_in}")
        self.kept.setVisible(bool(state.kept_in))
