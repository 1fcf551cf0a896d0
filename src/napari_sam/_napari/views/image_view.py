"""Which image, and along which axis it is cut into planes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QLabel, QSizePolicy

from napari_sam._napari.state import AXES
from napari_sam._napari.views.section import Section, button, combo, fill

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget

    from napari_sam._napari.state import PanelState


class ImageView(Section):
    """Image layer and axis."""

    image_chosen = Signal(int)
    axis_chosen = Signal(int)
    previous_wanted = Signal()
    next_wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.images = combo("Layer to segment")
        self.images.activated.connect(self.image_chosen)
        self.axis = combo("Which way the volume is cut into planes")
        self.axis.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToContents)
        self.axis.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.axis.activated.connect(self.axis_chosen)
        self.previous = button("‹", "Go to the image before (PageUp)")
        self.next = button("›", "Go to the next image (PageDown)")
        for made in (self.previous, self.next):
            made.setFixedWidth(26)
        self.previous.clicked.connect(self.previous_wanted)
        self.next.clicked.connect(self.next_wanted)
        self.place = QLabel()
        self.place.setToolTip("Which image this is, and how many there are")
        self.add("Image", self.images, self.axis, self.previous, self.place, self.next)

    def show_state(self, state: PanelState) -> None:
        """Show the images, the one in use and the plane's axis."""
        fill(self.images, list(state.images), state.image)
        self.images.setPlaceholderText("none yet")
        fill(self.axis, [f"along {n}" for n in AXES], state.axis)
        self.axis.setVisible(state.ndim > 2)
        listed = state.image_list
        several = listed.total > 1
        for made in (self.previous, self.place, self.next):
            made.setVisible(several)
        self.place.setText(f"{listed.at + 1} of {listed.total}")
        self.previous.setEnabled(listed.at > 0)
        self.next.setEnabled(listed.at + 1 < listed.total)
