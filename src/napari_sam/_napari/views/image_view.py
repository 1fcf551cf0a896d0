"""Which image, and along which axis it is cut into planes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal

from napari_sam._napari.state import AXES
from napari_sam._napari.views.section import Section, combo, fill

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget

    from napari_sam._napari.state import PanelState


class ImageView(Section):
    """Image layer and axis."""

    image_chosen = Signal(int)
    axis_chosen = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.images = combo("Layer to segment")
        self.images.activated.connect(self.image_chosen)
        self.axis = combo("Which way the volume is cut into planes")
        self.axis.setFixedWidth(102)
        self.axis.activated.connect(self.axis_chosen)
        self.add("Image", self.images, self.axis)

    def show_state(self, state: PanelState) -> None:
        """Show the images, the one in use and the plane's axis."""
        fill(self.images, list(state.images), state.image)
        self.images.setPlaceholderText("none yet")
        fill(self.axis, [f"along {n}" for n in AXES], state.axis)
        self.axis.setVisible(state.ndim > 2)
