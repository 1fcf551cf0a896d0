"""Many images: which folder or files, where their sessions go, what is exported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal

from napari_sam._napari.views.section import Section, button, combo, note, silent
from napari_sam.results.registry import FORMATS

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget

    from napari_sam._napari.state import PanelState


class ImageListView(Section):
    """Opens a list of images, and says how far one is."""

    folder_wanted = Signal()
    files_wanted = Signal()
    format_chosen = Signal(str)
    """Name of a format to export each image in; "" for none."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.folder = button(
            "Folder…", "Go through all images of a folder, each with its own session"
        )
        self.folder.clicked.connect(self.folder_wanted)
        self.files = button("Files…", "Go through some images, each with its session")
        self.files.clicked.connect(self.files_wanted)
        self.format = combo("File written for each image when you go to the next one")
        self.format.addItem("nothing", "")
        for key, kind in FORMATS.items():
            if not kind.missing:
                self.format.addItem(kind.title, key)
        self.format.activated.connect(
            lambda i: self.format_chosen.emit(self.format.itemData(i))
        )
        self.progress = note()
        self.add("Many", self.folder, self.files)
        self.add("Write", self.format)
        self.add("", self.progress)

    def show_state(self, state: PanelState) -> None:
        """Show where in the list one is."""
        listed = state.image_list
        with silent(self.format):
            self.format.setCurrentIndex(self.format.findData(listed.format))
        self.progress.setVisible(bool(listed.name))
        self.progress.setText(
            f"{listed.name} is {listed.at + 1} of {listed.total}; "
            f"{listed.begun + state.can_export} have a session in {listed.place}"
        )
