"""Embedding ahead of clicks: start, pause, how far it is, and on which workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QGridLayout,
    QLineEdit,
    QProgressBar,
    QSizePolicy,
    QWidget,
)

from napari_sam._napari.encoding import duration
from napari_sam._napari.views.section import Section, button, fold, note, silent

if TYPE_CHECKING:
    from napari_sam._napari.state import EncodingState, PanelState


class EncodingView(Section):
    """What is embedded without being asked, the start of all of it, and who does it."""

    ahead_chosen = Signal(bool)
    """Whether what the view shows is embedded by itself."""
    start_wanted = Signal()
    scheduler_chosen = Signal(str)
    """Address of a dask scheduler; "" for this computer."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.ahead = QCheckBox("Embed what the view shows")
        self.ahead.setToolTip(
            "In the background, so that clicks there are answered at once. Off at "
            "first for images on a server, where reading may cost money"
        )
        self.ahead.toggled.connect(self.ahead_chosen)
        self.start = button("", "Prepare all of it: what you look at first")
        self.start.clicked.connect(self.start_wanted)
        self.scheduler = QLineEdit()
        self.scheduler.setPlaceholderText("this computer, or tcp://host:8786")
        self.scheduler.setToolTip(
            "Address of a dask scheduler whose workers embed all of it. They must see "
            "the image and the embeddings under the same paths"
        )
        policy = QSizePolicy.Policy
        self.scheduler.setSizePolicy(policy.Ignored, policy.Fixed)
        self.scheduler.editingFinished.connect(self._on_scheduler)
        self.workers = note()
        self.place = note()
        inside = Section()
        inside.add("Address", self.scheduler)
        inside.add("", self.workers)
        self.add("", self.ahead)
        self.add("", self.start)
        self.add("", self.place)
        self.add("", fold("Workers of a cluster", inside))
        self._address = ""

    def show_state(self, state: PanelState) -> None:
        """Show what can be started, and who does it."""
        encoding = state.encoding
        self.start.setText(
            "Embed whole volume" if state.ndim > 2 else "Embed whole image"
        )
        self.start.setEnabled(state.can_embed and encoding.phase == "idle")
        with silent(self.ahead, self.scheduler):
            self.ahead.setChecked(encoding.ahead)
            if encoding.scheduler != self._address:
                self._address = encoding.scheduler
                self.scheduler.setText(encoding.scheduler)
        self.place.setText(encoding.place)
        self.place.setVisible(bool(encoding.place))
        self.workers.setText(encoding.workers)
        self.workers.setVisible(bool(encoding.workers))

    def _on_scheduler(self) -> None:
        address = self.scheduler.text().strip()
        if address != self._address:
            self._address = address
            self.scheduler_chosen.emit(address)


class EncodingBar(QWidget):  # type: ignore[misc]
    """How far the embedding is, with pause and cancel; there only while it goes on."""

    pause_wanted = Signal()
    resume_wanted = Signal()
    stop_wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.bar = QProgressBar()
        self.bar.setTextVisible(True)
        self.pause = button("Pause", "Stop for now, and go on from here later")
        self.pause.clicked.connect(self._on_pause)
        self.stop = button("Cancel", "Stop; what is embedded is kept")
        self.stop.clicked.connect(self.stop_wanted)
        grid = QGridLayout(self)
        grid.setContentsMargins(8, 2, 8, 2)
        grid.addWidget(self.bar, 0, 0, 1, 2)
        grid.addWidget(self.pause, 1, 0)
        grid.addWidget(self.stop, 1, 1)
        self._paused = False

    def show_state(self, state: PanelState) -> None:
        """Show how far it is."""
        encoding = state.encoding
        self.setVisible(encoding.phase != "idle")
        if encoding.phase == "idle":
            return
        self._paused = encoding.phase == "paused"
        self.pause.setText("Resume" if self._paused else "Pause")
        self.bar.setRange(0, encoding.total)
        self.bar.setValue(encoding.done)
        self.bar.setFormat(progress_text(encoding))

    def _on_pause(self) -> None:
        (self.resume_wanted if self._paused else self.pause_wanted).emit()


def progress_text(state: EncodingState) -> str:
    """What stands on the progress bar."""
    if not state.total:
        return "counting tiles…"
    text = f"{state.done:,} of {state.total:,} tiles"
    if state.phase == "paused":
        return f"{text}, paused"
    if state.seconds_left is None:
        return text
    return f"{text}, {duration(state.seconds_left)} left"
