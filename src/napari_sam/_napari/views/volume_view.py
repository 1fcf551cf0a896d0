"""Volumes: fill from key planes, a strip of what each plane is, what is doubtful."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QColor, QPainter
from qtpy.QtWidgets import QProgressBar, QSizePolicy, QWidget

from napari_sam._napari.views.options_form import OptionsForm
from napari_sam._napari.views.section import Section, button, combo, fold, note
from napari_sam.core.clean import CleanOptions
from napari_sam.engine.propagate import PropagateOptions

if TYPE_CHECKING:
    from qtpy.QtGui import QMouseEvent, QPaintEvent

    from napari_sam._napari.state import PanelState, StripPlane

SCOPES = {"object": "this object", "all": "all objects"}
COLORS = {
    "key": "#3ec45e",
    "propagated": "#4a90d9",
    "interpolated": "#9b7fd1",
    "doubtful": "#e8663c",
}
"""Of planes in the strip."""
_BACK, _HERE, _REVIEWED = "#3a3f47", "#f2f3f5", "#d5f5dd"


class VolumeView(Section):
    """One button that fills, the strip, and the way through what is doubtful."""

    fill_wanted = Signal(str, object)
    """A key of `SCOPES`, and `PropagateOptions`."""
    stop_wanted = Signal()
    doubtful_wanted = Signal()
    reviewed_wanted = Signal()
    plane_chosen = Signal(int)
    tidy_wanted = Signal(bool, object)
    """Whether the whole object, and `CleanOptions`."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.fill = button(
            "", "From the planes made by hand to those between and beyond (undoable)"
        )
        self.fill.clicked.connect(self._on_fill)
        self.scope = combo("Which objects to fill")
        for key, text in SCOPES.items():
            self.scope.addItem(text, key)
        self.bar = QProgressBar()
        self.strip = Strip()
        self.strip.plane_chosen.connect(self.plane_chosen)
        self.legend = note()
        self.doubtful = button("", "Go to the most doubtful plane (D)")
        self.doubtful.clicked.connect(self.doubtful_wanted)
        self.reviewed = button(
            "Reviewed (O)", "The object is right on the plane shown, or no longer"
        )
        self.reviewed.clicked.connect(self.reviewed_wanted)
        self.options = OptionsForm(PropagateOptions)
        self.folded = fold("How to fill", self.options)
        self.tidy = button(
            "Tidy", "Holes, fragments, outline: as said below (undoable)"
        )
        self.tidy.clicked.connect(self._on_tidy)
        self.tidied = combo("What to tidy")
        self.tidied.addItem("whole object", True)
        self.tidied.addItem("on this plane", False)
        self.cleaning = OptionsForm(CleanOptions)
        self.folded_cleaning = fold("How to tidy", self.cleaning)
        self.none = note()
        self.none.setText("This image is one plane. Open a volume to fill it.")
        self.add("", self.fill, self.scope)
        self.add("", self.bar)
        self.add("", self.strip)
        self.add("", self.legend)
        self.add("", self.doubtful, self.reviewed)
        self.add("", self.folded)
        self.add("", self.tidy, self.tidied)
        self.add("", self.folded_cleaning)
        self.add("", self.none)
        self._running = False

    def show_state(self, state: PanelState) -> None:
        """Show the strip and how far the filling is."""
        volume = state.volume
        self._running = volume.running
        there = volume.n_planes > 1
        for made in (
            self.fill, self.strip, self.legend, self.doubtful, self.reviewed,
            self.folded,
        ):  # fmt: skip
            made.setVisible(there)
        self.none.setVisible(not there)
        self.scope.setVisible(there and not volume.running)
        self.fill.setText("Stop" if volume.running else "Fill between and beyond")
        keys = [p for p in volume.strip if p.is_key]
        self.fill.setEnabled(volume.running or bool(keys) or state.can_export)
        for made in (self.tidy, self.tidied):
            made.setEnabled(state.can_export)
        self.bar.setVisible(volume.running)
        if volume.running:
            self.bar.setRange(0, volume.total)
            self.bar.setValue(volume.done)
            self.bar.setFormat(f"{volume.done} planes")
        self.strip.show_planes(volume.n_planes, volume.current, volume.strip)
        said = _legend(volume.strip, state.object_id), volume.conflict
        self.legend.setText("\n".join(filter(None, said)))
        self.doubtful.setText(f"Next doubtful ({volume.doubtful})")
        self.doubtful.setEnabled(volume.doubtful > 0)
        self.reviewed.setEnabled(any(p.number == volume.current for p in volume.strip))

    def _on_tidy(self) -> None:
        self.tidy_wanted.emit(self.tidied.currentData(), self.cleaning.value())

    def _on_fill(self) -> None:
        if self._running:
            self.stop_wanted.emit()
        else:
            self.fill_wanted.emit(self.scope.currentData(), self.options.value())


class Strip(QWidget):  # type: ignore[misc]
    """All planes of a stack side by side, coloured by how the object came there."""

    plane_chosen = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self._n, self._current = 0, -1
        self._planes: tuple[StripPlane, ...] = ()
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setAccessibleName("Planes of this object")

    def sizeHint(self) -> QSize:
        """As wide as the panel, and low."""
        return QSize(200, 20)

    def show_planes(self, n: int, current: int, planes: tuple[StripPlane, ...]) -> None:
        """Show another stack, plane or object."""
        if (n, current, planes) != (self._n, self._current, self._planes):
            self._n, self._current, self._planes = n, current, planes
            self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw a bar a plane, and a mark at the plane shown."""
        painter = QPainter(self)
        w, h = self.width(), self.height()
        painter.fillRect(0, 2, w, h - 4, QColor(_BACK))
        for plane in self._planes:
            x0, x1 = self._span(plane.number)
            kind = "doubtful" if plane.doubtful else _kind(plane)
            painter.fillRect(x0, 2, x1 - x0, h - 4, QColor(COLORS[kind]))
            if plane.reviewed:
                painter.fillRect(x0, h - 6, x1 - x0, 4, QColor(_REVIEWED))
        if 0 <= self._current < self._n:
            x0, x1 = self._span(self._current)
            painter.setPen(QColor(_HERE))
            painter.drawRect(x0, 0, max(x1 - x0 - 1, 2), h - 1)
        painter.end()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Choose the plane under the pointer."""
        if self._n:
            x = event.position().x()
            self.plane_chosen.emit(
                max(0, min(self._n - 1, int(x * self._n / max(self.width(), 1))))
            )

    def _span(self, number: int) -> tuple[int, int]:
        w = self.width()
        x0 = number * w // self._n
        return x0, max((number + 1) * w // self._n, x0 + 2)


def _kind(plane: StripPlane) -> str:
    return "key" if plane.is_key else plane.origin


def _legend(strip: tuple[StripPlane, ...], object_id: int) -> str:
    if not strip:
        return f"Object {object_id} is on no plane yet: click it on one."
    counts = {
        "by hand": sum(p.is_key for p in strip),
        "followed": sum(p.origin == "propagated" for p in strip),
        "interpolated": sum(p.origin == "interpolated" for p in strip),
        "doubtful": sum(p.doubtful for p in strip),
        "reviewed": sum(p.reviewed for p in strip),
    }
    said = ", ".join(f"{n} {what}" for what, n in counts.items() if n)
    return f"Object {object_id}: {said}"
