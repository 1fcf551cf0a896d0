"""Time: link objects from frame to frame, check what is doubtful, correct tracks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QProgressBar

from napari_sam._napari.views.options_form import OptionsForm
from napari_sam._napari.views.section import Section, button, fold, note
from napari_sam.engine.track import TrackOptions

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget

    from napari_sam._napari.state import PanelState

EDITS = {
    "cut": ("Cut here", "From this frame on it is another object (I)"),
    "mark": ("Mark", "Remember this object in this frame, to link it (A)"),
    "link": ("Link", "The marked object goes on as this one (Q)"),
    "divide": ("Division", "The marked one divides: what it goes on as, and this one"),
    "merge": ("Merge", "The marked one and what leads here go on as this one"),
    "swap": ("Swap", "Exchange the marked one and this one from this frame on"),
    "fill_gap": ("Fill gap", "Ask the model where this object should be in this frame"),
    "right": ("Link is right", "Freeze it: tracking again keeps it"),
}
"""Text and tip of each correction, by the method that makes it."""
_NEED_A_MARK = ("link", "divide", "merge", "swap")


class TimeView(Section):
    """One button that tracks, what is to be checked, and corrections."""

    track_wanted = Signal(object)
    """`TrackOptions`."""
    stop_wanted = Signal()
    check_wanted = Signal()
    shown_chosen = Signal(bool)
    edit_wanted = Signal(str)
    """A key of `EDITS`."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.track = button("", "Give an object one id in all frames (undoable)")
        self.track.clicked.connect(self._on_track)
        self.shown = QCheckBox("Show tracks")
        self.shown.setToolTip("Draw them in a layer of their own, a colour a lineage")
        self.shown.clicked.connect(self.shown_chosen)
        self.bar = QProgressBar()
        self.summary = note()
        self.check = button("", "Go to the next gap or doubtful link (U)")
        self.check.clicked.connect(self.check_wanted)
        self.marked = note()
        self.edits = {}
        for name, (text, tip) in EDITS.items():
            made = self.edits[name] = button(text, tip)
            made.clicked.connect(lambda _=False, n=name: self.edit_wanted.emit(n))
        self.options = OptionsForm(TrackOptions)
        self.folded = fold("How to link", self.options)
        edits = self.edits
        self.add("", self.track, self.shown)
        self.add("", self.bar)
        self.add("", self.summary)
        self.add("", self.check, edits["right"])
        self.add("", edits["cut"], edits["fill_gap"], edits["mark"])
        self.add("", self.marked)
        self.add("", *(edits[name] for name in _NEED_A_MARK))
        self.add("", self.folded)
        self._running = False

    def show_state(self, state: PanelState) -> None:
        """Show what tracks there are and how far the linking is."""
        time = state.time
        self._running = time.running
        self.track.setText("Stop" if time.running else "Track")
        self.track.setEnabled(time.running or (time.n_frames > 1 and state.can_export))
        self.shown.setChecked(time.shown)
        self.shown.setEnabled(time.n_frames > 1)
        self.bar.setVisible(time.running)
        if time.running:
            self.bar.setRange(0, time.total)
            self.bar.setValue(time.done)
            self.bar.setFormat(f"{time.done} frames")
        self.summary.setText(
            time.summary
            or "Segment the objects of each frame, or read labels; then track them."
        )
        self.check.setText(f"Next to check ({time.to_check})")
        self.check.setEnabled(time.to_check > 0)
        for name, made in self.edits.items():
            there = time.frame >= 0 and state.can_export and not time.running
            made.setEnabled(there and (name not in _NEED_A_MARK or bool(time.marked)))
        self.marked.setText(
            f"{time.marked} is marked; this one is object {state.object_id}."
            if time.marked
            else "Link, divide, merge and swap begin at a marked object."
        )

    def _on_track(self) -> None:
        if self._running:
            self.stop_wanted.emit()
        else:
            self.track_wanted.emit(self.options.value())
