"""Proposals: ask for them, go through them, take or leave them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QDoubleSpinBox,
    QListWidget,
    QListWidgetItem,
    QProgressBar,
    QSizePolicy,
    QWidget,
)

from napari_sam._napari.preview import COLORS, STEPS
from napari_sam._napari.views.options_form import OptionsForm
from napari_sam._napari.views.section import Section, button, fold, silent
from napari_sam.engine.suggest import SuggestRules

if TYPE_CHECKING:
    from napari_sam._napari.state import PanelState, ReviewRow

SCOPES = {"plane": "on this plane", "view": "in this view", "all": "on all planes"}
"""Where to look, and its name in the panel."""
MOST_ROWS = 500
"""Rows of the list: nobody goes through more by scrolling."""


class ReviewView(Section):
    """The search, the list of proposals, and what to do with the one at hand."""

    suggest_wanted = Signal(str, object)
    """A key of `SCOPES`, and `SuggestRules`."""
    stop_wanted = Signal()
    row_chosen = Signal(int)
    """Number of a proposal."""
    previous_wanted = Signal()
    next_wanted = Signal()
    accept_wanted = Signal()
    reject_wanted = Signal()
    correct_wanted = Signal()
    restore_wanted = Signal()
    accept_below_wanted = Signal(float)
    order_chosen = Signal(bool)
    """Whether the most doubtful come first."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.suggest = button("", "Masks made so far stay as they are")
        self.suggest.clicked.connect(self._on_suggest)
        self.scope = QComboBox()
        self.scope.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        for key, text in SCOPES.items():
            self.scope.addItem(text, key)
        self.bar = QProgressBar()
        self.order = QComboBox()
        self.order.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        for text, first in (("most doubtful first", True), ("surest first", False)):
            self.order.addItem(text, first)
        self.order.activated.connect(
            lambda i: self.order_chosen.emit(self.order.itemData(i))
        )
        self.rows = QListWidget()
        self.rows.setUniformItemSizes(True)
        self.rows.setMinimumHeight(66)
        self.rows.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.rows.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.rows.setToolTip("Doubt of each proposal: 0 is as good as yours")
        self.rows.currentItemChanged.connect(self._on_row)
        self.previous = button("‹ ,", "Go to the proposal before")
        self.next = button(". ›", "Go to the next proposal")
        self.accept = button("Accept (Y)", "Make it an object (undoable)")
        self.reject = button("Reject (R)", "Take it away, and do not suggest it again")
        for made in (self.previous, self.next):
            made.setMaximumWidth(44)
        self.correct = button(
            "Correct", "Accept it and take it up: points then add and take away"
        )
        self.restore = button("", "Bring back the one rejected last")
        self.below = button("", "Accept all with at most this doubt, as one change")
        self.doubt = QDoubleSpinBox()
        self.doubt.setRange(0, 1)
        self.doubt.setFixedWidth(92)
        self.doubt.setSingleStep(0.05)
        self.doubt.setValue(0.3)
        self.doubt.valueChanged.connect(self._count)
        self.previous.clicked.connect(self.previous_wanted)
        self.next.clicked.connect(self.next_wanted)
        self.accept.clicked.connect(self.accept_wanted)
        self.reject.clicked.connect(self.reject_wanted)
        self.correct.clicked.connect(self.correct_wanted)
        self.restore.clicked.connect(self.restore_wanted)
        self.below.clicked.connect(
            lambda: self.accept_below_wanted.emit(self.doubt.value())
        )
        self.rules = OptionsForm(SuggestRules, leave_out=("points_per_batch",))
        self.add("", self.suggest, self.scope)
        self.folded = fold("What to look for", self.rules)
        self.add("", self.folded)
        self.add("", self.bar)
        self.add("", self.order)
        self.add("", self.rows)
        self._grid.setRowStretch(self._row - 1, 1)  # the rest stays at the top
        self.add("", self.previous, self.next, self.accept, self.reject)
        self.add("", self.correct, self.restore)
        self.up_to = self.add("Doubt to", self.doubt, self.below)
        self._running = False
        self._rows: tuple[ReviewRow, ...] = ()
        self._icons = [_icon(color) for color in COLORS]

    def show_state(self, state: PanelState) -> None:
        """Show the search and the list."""
        review = state.review
        self._running = review.running
        start = "Suggest the rest" if state.can_export else "All objects"
        self.suggest.setText("Stop" if review.running else start)
        self.suggest.setEnabled(state.can_embed)
        self.scope.setVisible(not review.running)
        self.bar.setVisible(review.running)
        if review.running:
            self.bar.setRange(0, review.total)
            self.bar.setValue(review.done)
            steps = f"{review.done} of {review.total}" if review.total else "looking…"
            self.bar.setFormat(f"{steps} · {len(review.rows)} found")
        with silent(self.order):
            self.order.setCurrentIndex(0 if review.doubtful_first else 1)
        if review.rows != self._rows:
            self._fill(review.rows)
        self._choose(review.current)
        some = bool(review.rows)
        for made in (
            self.order, self.rows, self.previous, self.next, self.accept, self.reject,
            self.correct, self.up_to, self.doubt, self.below,
        ):  # fmt: skip
            made.setVisible(some)
        chosen = any(row.number == review.current for row in review.rows)
        for made in (self.accept, self.reject, self.correct):
            made.setEnabled(chosen)
        self.restore.setText(f"Bring back ({review.rejected})")
        self.restore.setVisible(review.rejected > 0)

    def _fill(self, rows: tuple[ReviewRow, ...]) -> None:
        self._rows = rows
        blocker = QSignalBlocker(self.rows)
        self.rows.clear()
        for row in rows[:MOST_ROWS]:
            item = QListWidgetItem(f"{row.doubt:.2f}   {row.text}")
            item.setIcon(self._icons[sum(row.doubt >= step for step in STEPS)])
            item.setData(Qt.ItemDataRole.UserRole, row.number)
            self.rows.addItem(item)
        blocker.unblock()
        self._count()

    def _choose(self, number: int) -> None:
        numbers = [row.number for row in self._rows[:MOST_ROWS]]
        blocker = QSignalBlocker(self.rows)
        self.rows.setCurrentRow(numbers.index(number) if number in numbers else -1)
        blocker.unblock()

    def _count(self) -> None:
        n = sum(row.doubt <= self.doubt.value() for row in self._rows)
        self.below.setText(f"Accept {n}")
        self.below.setEnabled(n > 0)

    def _on_suggest(self) -> None:
        if self._running:
            self.stop_wanted.emit()
        else:
            self.suggest_wanted.emit(self.scope.currentData(), self.rules.value())

    def _on_row(self, item: QListWidgetItem | None) -> None:
        if item is not None:
            self.row_chosen.emit(item.data(Qt.ItemDataRole.UserRole))


def _icon(color: str) -> QIcon:
    square = QPixmap(10, 10)
    square.fill(QColor(color))
    return QIcon(square)
