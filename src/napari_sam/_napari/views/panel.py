"""The whole panel, top to bottom."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFrame, QScrollArea, QSizePolicy, QVBoxLayout, QWidget

from napari_sam._napari.views.encoding_view import EncodingBar, EncodingView
from napari_sam._napari.views.image_view import ImageView
from napari_sam._napari.views.model_view import ModelView
from napari_sam._napari.views.object_view import ObjectView
from napari_sam._napari.views.output_view import OutputView
from napari_sam._napari.views.prompt_view import PromptView
from napari_sam._napari.views.review_view import ReviewView
from napari_sam._napari.views.status_view import StatusView
from napari_sam._napari.views.training_view import TrainingView

if TYPE_CHECKING:
    from napari_sam._napari.state import PanelState


class Panel(QWidget):  # type: ignore[misc]
    """All parts from model to results in a scroll area; below them the status."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.model = ModelView()
        self.image = ImageView()
        self.encoding = EncodingView()
        self.encoding_bar = EncodingBar()
        self.object = ObjectView()
        self.prompt = PromptView()
        self.review = ReviewView()
        self.training = TrainingView()
        self.output = OutputView()
        self.status = StatusView()
        self._sections = (
            self.model, self.image, self.object, self.prompt, self.encoding,
            self.review, self.training, self.output, self.encoding_bar, self.status,
        )  # fmt: skip
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(8, 2, 8, 2)
        column.setSpacing(6)
        for section in self._sections[:-2]:
            column.addWidget(section)
        column.addStretch(1)
        scroll = QScrollArea()
        scroll.setWidget(inner)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 4)
        whole.addWidget(scroll, 1)
        whole.addWidget(self.encoding_bar)
        whole.addWidget(self.status)
        self.setMinimumWidth(310)
        policy = QSizePolicy.Policy
        self.setSizePolicy(policy.Preferred, policy.Expanding)
        self._shown: PanelState | None = None

    def show_state(self, state: PanelState) -> None:
        """Show a snapshot; the same one again costs nothing."""
        if state is self._shown:
            return
        self._shown = state
        for section in self._sections:
            section.show_state(state)
