"""Proposals: ask for them, go through them, take or leave them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QListWidget,
    QListWidgetItem,
    QProgressBar,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_sam._napari.preview import COLORS, STEPS
from napari_sam._napari.views.options_form import OptionsForm
from napari_sam._napari.views.section import Section, button, fold, note, silent
from napari_sam._napari.views.thresholds_form import ThresholdsForm
from napari_sam.engine.propose_options import ProposeOptions
from napari_sam.engine.suggest import SuggestRules

if TYPE_CHECKING:
    from napari_sam._napari.state import PanelState, ReviewRow

SCOPES = {"plane": "on this plane", "view": "in this view", "all": "on all planes"}
"""Where to look, and its name in the panel."""


class ReviewView(Section):
    """The search, the list of proposals, and what to do with the one at hand."""

    everything_wanted = Signal(str, object)
    """A key of `SCOPES`, and `ProposeOptions`."""
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
    redraw_wanted = Signal()
    restore_wanted = Signal()
    accept_all_wanted = Signal()
    reject_all_wanted = Signal()
    thresholds_chosen = Signal(object)
    """`Thresholds`."""
    order_chosen = Signal(bool)
    """Whether the most doubtful come first."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.everything = button(
            "All objects", "Propose everything there is; masks made so far stay"
        )
        self.everything.clicked.connect(self._on_everything)
        self.suggest = button(
            "Like these", "Propose what is like the objects made so far, which stay"
        )
        self.suggest.clicked.connect(self._on_suggest)
        self.stop = button("Stop", "Keep what was found so far")
        self.stop.clicked.connect(self.stop_wanted)
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
        self.rows.setMinimumHeight(52)
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
        self.redraw = button(
            "Redraw", "Drag a box instead: its mask takes the place of this one"
        )
        self.redraw.clicked.connect(self.redraw_wanted)
        self.restore = button("", "Bring back the one rejected last")
        self.accept_all = button("", "Accept all that are shown, as one change")
        self.reject_all = button("", "Take all that are shown away, as one change")
        self.thresholds = ThresholdsForm()
        self.thresholds.changed.connect(self.thresholds_chosen)
        self.previous.clicked.connect(self.previous_wanted)
        self.next.clicked.connect(self.next_wanted)
        self.accept.clicked.connect(self.accept_wanted)
        self.reject.clicked.connect(self.reject_wanted)
        self.correct.clicked.connect(self.correct_wanted)
        self.restore.clicked.connect(self.restore_wanted)
        self.accept_all.clicked.connect(self.accept_all_wanted)
        self.reject_all.clicked.connect(self.reject_all_wanted)
        self.rules = OptionsForm(SuggestRules, leave_out=("points_per_batch",))
        self.asking = OptionsForm(ProposeOptions, leave_out=("points_per_batch",))
        self.folded = fold("More thresholds, how to look", _more(self))
        self.add("", self.everything, self.suggest, self.stop, self.scope)
        self.add("", self.bar)
        self.add("", self.thresholds)
        self.add("", self.folded)
        self.add("", self.rows)
        self._grid.setRowStretch(self._row - 1, 1)  # the rest stays at the top
        self.add("", self.previous, self.next, self.order)
        self.add("", self.accept, self.reject, self.correct, self.redraw)
        self.add("", self.accept_all, self.reject_all, self.restore)
        self._rows: tuple[ReviewRow, ...] = ()
        self._icons = [_icon(color) for color in COLORS]

    def show_state(self, state: PanelState) -> None:
        """Show the search and the list."""
        review = state.review
        self.everything.setEnabled(state.can_embed)
        self.suggest.setEnabled(state.can_embed and state.can_export)
        for made in (self.everything, self.suggest, self.scope):
            made.setVisible(not review.running)
        self.stop.setVisible(review.running)
        self.bar.setVisible(review.running)
        if review.running:
            self.bar.setRange(0, review.total)
            self.bar.setValue(review.done)
            steps = f"{review.done} of {review.total}" if review.total else "looking…"
            self.bar.setFormat(f"{steps} · {review.pending} found")
        with silent(self.order):
            self.order.setCurrentIndex(0 if review.doubtful_first else 1)
        if review.rows != self._rows:
            self._fill(review.rows)
        self._choose(review.current)
        some = review.pending > 0
        for made in (
            self.order, self.rows, self.previous, self.next, self.accept, self.reject,
            self.correct, self.redraw, self.accept_all, self.reject_all,
        ):  # fmt: skip
            made.setVisible(some)
        self.thresholds.setVisible(some or review.hidden > 0)
        self.thresholds.show_review(review)
        self.accept_all.setText(f"Accept all {review.pending:,}")
        self.reject_all.setText(f"Reject all {review.pending:,}")
        chosen = any(row.number == review.current for row in review.rows)
        for made in (self.accept, self.reject, self.correct, self.redraw):
            made.setEnabled(chosen)
        self.restore.setText(f"Bring back ({review.rejected})")
        self.restore.setVisible(review.rejected > 0)

    def _fill(self, rows: tuple[ReviewRow, ...]) -> None:
        self._rows = rows
        blocker = QSignalBlocker(self.rows)
        self.rows.clear()
        for row in rows:
            item = QListWidgetItem(f"{row.doubt:.2f}   {row.text}")
            item.setIcon(self._icons[sum(row.doubt >= step for step in STEPS)])
            item.setData(Qt.ItemDataRole.UserRole, row.number)
            self.rows.addItem(item)
        blocker.unblock()

    def _choose(self, number: int) -> None:
        numbers = [row.number for row in self._rows]
        blocker = QSignalBlocker(self.rows)
        self.rows.setCurrentRow(numbers.index(number) if number in numbers else -1)
        blocker.unblock()

    def _on_everything(self) -> None:
        self.everything_wanted.emit(self.scope.currentData(), self.asking.value())

    def _on_suggest(self) -> None:
        self.suggest_wanted.emit(self.scope.currentData(), self.rules.value())

    def _on_row(self, item: QListWidgetItem | None) -> None:
        if item is not None:
            self.row_chosen.emit(item.data(Qt.ItemDataRole.UserRole))


def _more(view: ReviewView) -> QWidget:
    """What is folded away: the other thresholds, and how to search."""
    whole = QWidget()
    column = QVBoxLayout(whole)
    column.setContentsMargins(0, 0, 0, 0)
    for title, form in (
        ("", view.thresholds.more),
        ("All objects", view.asking),
        ("Like these", view.rules),
    ):
        if title:
            said = note()
            said.setText(title)
            column.addWidget(said)
        column.addWidget(form)
    return whole


def _icon(color: str) -> QIcon:
    square = QPixmap(10, 10)
    square.fill(QColor(color))
    return QIcon(square)
