"""The whole panel: what is used all the time, tabs for the rest, and the status."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSettings, Qt
from qtpy.QtWidgets import (
    QFrame,
    QScrollArea,
    QSizePolicy,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_sam._napari.views.classes_view import ClassesView
from napari_sam._napari.views.encoding_view import EncodingBar, EncodingView
from napari_sam._napari.views.image_list_view import ImageListView
from napari_sam._napari.views.image_view import ImageView
from napari_sam._napari.views.intensity_view import IntensityView
from napari_sam._napari.views.model_view import ModelView
from napari_sam._napari.views.object_view import ObjectView
from napari_sam._napari.views.objects_view import ObjectsView
from napari_sam._napari.views.output_view import OutputView
from napari_sam._napari.views.prompt_view import PromptView
from napari_sam._napari.views.review_view import ReviewView
from napari_sam._napari.views.status_view import StatusView
from napari_sam._napari.views.text_view import TextView
from napari_sam._napari.views.time_view import TimeView
from napari_sam._napari.views.training_view import TrainingView
from napari_sam._napari.views.volume_view import VolumeView

if TYPE_CHECKING:
    from napari_sam._napari.state import PanelState

WIDTH = 330
"""Pixels below which something would be cut off."""


class Panel(QWidget):  # type: ignore[misc]
    """A head that stays, tabs below it, and the status at the bottom.

    Parameters
    ----------
    memory : QSettings, optional
        Where the tab shown last, and which folds are open, are kept between windows.
    """

    def __init__(self, memory: QSettings | None = None) -> None:
        super().__init__()
        self._memory = memory
        self.image = ImageView()
        self.model = ModelView()
        self.object = ObjectView()
        self.prompt = PromptView()
        self.volume = VolumeView()
        self.text = TextView()
        self.time = TimeView()
        self.review = ReviewView()
        self.objects = ObjectsView()
        self.classes = ClassesView()
        self.training = TrainingView()
        self.intensity = IntensityView()
        self.image_list = ImageListView()
        self.encoding = EncodingView()
        self.output = OutputView()
        self.encoding_bar = EncodingBar()
        self.status = StatusView()
        head = (self.image, self.model, self.object, self.prompt)
        self.tabs = QTabWidget()
        self.tabs.setDocumentMode(True)
        self.tabs.tabBar().setExpanding(True)
        self.tabs.tabBar().setFocusPolicy(Qt.FocusPolicy.TabFocus)
        pages = {
            "Volume": (self.volume,),
            "Find": (self.text, self.review),
            "Objects": (self.objects, self.classes),
            "Time": (self.time,),
            "Train": (self.training,),
            "Image": (self.intensity, self.encoding),
            "Results": (self.output, self.image_list),
        }
        for title, parts in pages.items():
            self.tabs.addTab(_page(*parts), title)
        self.names = list(pages)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(6, 2, 6, 2)
        whole.setSpacing(4)
        for part in head:
            whole.addWidget(part)
        whole.addWidget(self.tabs, 1)
        whole.addWidget(self.encoding_bar)
        whole.addWidget(self.status)
        self.setMinimumWidth(WIDTH)
        policy = QSizePolicy.Policy
        self.setSizePolicy(policy.Preferred, policy.Expanding)
        self._parts: tuple[Any, ...] = (
            *head, *(part for page in pages.values() for part in page),
            self.encoding_bar, self.status,
        )  # fmt: skip
        self._shown: PanelState | None = None
        self._folds = {
            f"fold/{title}/{fold.text()}": fold
            for i, title in enumerate(self.names)
            for fold in self.tabs.widget(i).findChildren(QCollapsible)
        }
        self._recall()
        for name, fold in self._folds.items():
            fold.toggled.connect(partial(self._on_fold, name))
        self.tabs.currentChanged.connect(self._on_tab)

    def show_state(self, state: PanelState) -> None:
        """Show a snapshot; the same one again costs nothing."""
        if state is self._shown:
            return
        self._shown = state
        for name in ("Volume", "Time"):
            self.tabs.setTabVisible(self.names.index(name), state.ndim > 2)
        for part in self._parts:
            part.show_state(state)

    def _recall(self) -> None:
        last = None if self._memory is None else self._memory.value("tab")
        self.tabs.setCurrentIndex(
            self.names.index(last if last in self.names else "Find")
        )

        for name, fold in self._folds.items():
            if self._memory is not None and self._memory.value(name) == "open":
                fold.expand(animate=False)

    def _on_fold(self, name: str, opened: bool) -> None:
        if self._memory is not None:
            self._memory.setValue(name, "open" if opened else "closed")

    def _on_tab(self, index: int) -> None:
        if self._memory is not None:
            self._memory.setValue("tab", self.tabs.tabText(index))
        if self._shown is not None:
            self.objects.show_state(self._shown)


def _page(*parts: QWidget) -> QScrollArea:
    """Put parts below each other; they scroll where the window is very low."""
    inner = QWidget()
    column = QVBoxLayout(inner)
    column.setContentsMargins(2, 6, 2, 2)
    column.setSpacing(6)
    grow = [isinstance(part, (ReviewView, ObjectsView)) for part in parts]
    for part, grows in zip(parts, grow, strict=True):
        column.addWidget(part, int(grows))
    if not any(grow):
        column.addStretch(1)
    scroll = QScrollArea()
    scroll.setWidget(inner)
    scroll.setWidgetResizable(True)
    scroll.setFrameShape(QFrame.Shape.NoFrame)
    scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    return scroll
