"""All objects as a table: found, chosen, named, reviewed, measured; rows go to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QItemSelection, QItemSelectionModel, QSize, Qt, QTimer, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QHeaderView,
    QLineEdit,
    QScrollArea,
    QTableView,
    QWidget,
)

from napari_sam._napari.views.object_table import ObjectTable
from napari_sam._napari.views.plot_view import PlotView
from napari_sam._napari.views.section import (
    Section,
    button,
    combo,
    fill,
    note,
    silent,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_sam._napari.state import PanelState

_WIDTHS = {
    "object": 64, "class": 74, "review": 78, "origin": 76, "planes": 52, "note": 180,
    "likely class": 84, "class doubt": 76,
}  # fmt: skip
"""Pixels of columns; others are `_NUMBER` wide."""
_NUMBER = 62
_DIGITS = {getattr(Qt.Key, f"Key_{n}"): n for n in range(1, 10)}


class ObjectRows(QTableView):  # type: ignore[misc]
    """The table, with keys of its own while it has the focus."""

    said = Signal(str)
    """"accept", "reject", "guessed", "delete", "undo" or "redo"."""
    class_wanted = Signal(int)
    """Number of a class, from 1."""

    def keyPressEvent(self, event: Any) -> None:
        """Take Y, R, G, Delete, 1 to 9 and undo; arrows and the like go to Qt."""
        key, held = event.key(), event.modifiers()
        control = held & Qt.KeyboardModifier.ControlModifier
        words = {Qt.Key.Key_Y: "accept", Qt.Key.Key_R: "reject"}
        words[Qt.Key.Key_G] = "guessed"
        words |= {Qt.Key.Key_Delete: "delete", Qt.Key.Key_Backspace: "delete"}
        if control and key == Qt.Key.Key_Z:
            again = held & Qt.KeyboardModifier.ShiftModifier
            self.said.emit("redo" if again else "undo")
        elif not control and key in words:
            self.said.emit(words[key])
        elif not control and key in _DIGITS:
            self.class_wanted.emit(_DIGITS[key])
        else:
            super().keyPressEvent(event)

    def sizeHint(self) -> QSize:
        """Ask for a few rows only; what room there is, is taken."""
        return QSize(200, 96)

    def keyboardSearch(self, text: str) -> None:
        """Letters are keys here, not the beginning of a cell."""


class ObjectsView(Section):
    """The table of objects, and what can be done with the rows chosen."""

    row_chosen = Signal(object)
    """Id of an object."""
    accept_wanted = Signal(object)
    """Ids of objects; likewise the next two."""
    reject_wanted = Signal(object)
    delete_wanted = Signal(object)
    class_wanted = Signal(object, object)
    """Ids of objects, and a class: its name, "" for none, or its number from 1."""
    guessed_wanted = Signal(object)
    """Ids of objects that are to have the classes guessed for them."""
    measure_wanted = Signal()
    check_wanted = Signal(str, object)
    """"doubt", "random" or "" to stop, and the ids of the objects in the table."""
    undo_wanted = Signal()
    redo_wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.about = note()
        self.filter = QLineEdit()
        self.filter.setPlaceholderText("find: cell  review=open  size>200")
        self.filter.setClearButtonEnabled(True)
        self.filter.setToolTip(
            "Words, and comparisons with a column: class=cell, doubt>0.3, review=open"
        )
        self.measure = button("Measure", "Area or volume, shape and intensity of all")
        self.measure.setFixedWidth(72)
        self.table = ObjectTable(lambda _: "#888888")
        self.rows = ObjectRows()
        self._set_up_rows()
        self.accept = button("Accept", "The objects chosen are right (Y)")
        self.reject = button("Reject", "The objects chosen are wrong (R)")
        self.delete = button("Delete", "Remove the objects chosen (one undo step)")
        self.kind = combo("Class of the objects chosen; in the table, keys 1 to 9")
        self.kind.setEditable(True)
        self.kind.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.kind.lineEdit().setPlaceholderText("class")
        self.doubtful = button("By doubt", "Review all, the most doubtful first")
        self.random = button(
            "At random", "Review objects drawn by lot: how many are wrong in all?"
        )
        for toggled in (self.doubtful, self.random):
            toggled.setCheckable(True)
        self.rate = note()
        self.plotted = button(
            "Plot", "Plot the rows of the table; a drag chooses their objects",
            checkable=True,
        )  # fmt: skip
        self.plot = PlotView()
        self.plot.hide()
        self.add("", self.filter, self.measure)
        self.add("", self.rows)
        self.add("", self.about)
        self.add("", self.accept, self.reject, self.delete, self.kind)
        self.add("", self.doubtful, self.random, self.plotted)
        self.add("", self.rate)
        self.add("", self.plot)
        self._connect()
        self._object = 0
        self._shown: PanelState | None = None

    @property
    def chosen(self) -> list[int]:
        """Ids of the rows chosen."""
        # Qt's own list of chosen rows takes seconds where there are thousands.
        parts = [(p.top(), p.bottom()) for p in self.rows.selectionModel().selection()]
        rows = sorted({r for top, end in parts for r in range(top, end + 1)})
        return [self.table.rows[r].object_id for r in rows]

    def choose(self, ids: Iterable[int]) -> None:
        """Choose the rows of these objects and no others, without going there."""
        found = QItemSelection()
        rows = sorted(r for i in ids if (r := self.table.row_of(i)) >= 0)
        last = self.table.columnCount() - 1
        start = 0
        for n, row in enumerate(rows):
            if n + 1 == len(rows) or rows[n + 1] != row + 1:
                first = self.table.index(rows[start], 0)
                found.append(_range(first, self.table.index(row, last)))
                start = n + 1
        flag = QItemSelectionModel.SelectionFlag.ClearAndSelect
        self.rows.selectionModel().select(found, flag)

    def show_state(self, state: PanelState) -> None:
        """Show the objects; only when this is what is looked at."""
        if not self.isVisible():
            return
        self._shown = state
        kept, columns = self.chosen, self.table.names
        with silent(self.rows.selectionModel()):
            self.table.show(state.objects, state.measured, state.guessed)
            if self.table.names != columns:
                self._set_widths()
            silent_ones = self.table.silent
            for n, name in enumerate(self.table.names):
                self.rows.setColumnHidden(n, name in silent_ones)
            self._return_to(self._object)
            if state.object_id != self._object or not kept:
                kept = [state.object_id] if state.object_id not in kept else kept
            if kept != self.chosen:
                self.choose(kept)
            if state.object_id != self._object:
                self._object = state.object_id
                self._scroll_to(state.object_id)
        self.rows.viewport().update()
        if not self.kind.lineEdit().hasFocus():
            fill(self.kind, list(state.classes), -1)
            with silent(self.kind, self.kind.lineEdit()):
                self.kind.setEditText("")
        check = state.check
        self.measure.setEnabled(not check.measuring and bool(state.objects))
        with silent(self.doubtful, self.random):
            self.doubtful.setChecked(check.order == "doubt")
            self.random.setChecked(check.order == "random")
        left = f"{check.left:,} to look at. " if check.order else ""
        self.rate.setText(f"{left}{check.error_rate}")
        self.rate.setVisible(bool(self.rate.text()))
        self._tell()
        self.plot.show_table(self.table, self.chosen)

    # -- inside ----------------------------------------------------------------------

    def _set_up_rows(self) -> None:
        rows = self.rows
        rows.setModel(self.table)
        rows.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        rows.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        rows.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        rows.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        rows.setWordWrap(False)
        rows.verticalHeader().setVisible(False)
        rows.verticalHeader().setDefaultSectionSize(22)
        rows.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        header = rows.horizontalHeader()
        header.setMinimumSectionSize(36)
        header.setSortIndicator(0, Qt.SortOrder.AscendingOrder)
        rows.setSortingEnabled(True)
        rows.setMinimumHeight(96)
        self._set_widths()

    def _set_widths(self) -> None:
        for n, name in enumerate(self.table.names):
            self.rows.setColumnWidth(n, _WIDTHS.get(name, _NUMBER))

    def _connect(self) -> None:
        selection = self.rows.selectionModel()
        selection.currentRowChanged.connect(self._on_row)
        selection.selectionChanged.connect(self._on_selection)
        self.rows.clicked.connect(self._on_row)
        self.rows.said.connect(self._on_said)
        self.rows.class_wanted.connect(self._on_number)
        self.filter.textChanged.connect(self._on_filter)
        self.accept.clicked.connect(lambda: self._on_said("accept"))
        self.reject.clicked.connect(lambda: self._on_said("reject"))
        self.delete.clicked.connect(lambda: self._on_said("delete"))
        self.measure.clicked.connect(self.measure_wanted)
        self.kind.lineEdit().returnPressed.connect(self._on_class)
        self.kind.activated.connect(self._on_class)
        self.doubtful.clicked.connect(lambda on: self._on_check("doubt", on))
        self.random.clicked.connect(lambda on: self._on_check("random", on))
        self.plot.chosen.connect(self._on_plot)
        self.plotted.toggled.connect(self._on_plotted)

    def _return_to(self, object_id: int) -> None:
        """Put the row at hand where an object is: arrow keys go on from there."""
        index = self.table.index(self.table.row_of(object_id), 0)
        if index.isValid() and self.rows.currentIndex().row() != index.row():
            flag = QItemSelectionModel.SelectionFlag.NoUpdate
            self.rows.selectionModel().setCurrentIndex(index, flag)

    def _scroll_to(self, object_id: int) -> None:
        self._return_to(object_id)
        index = self.table.index(self.table.row_of(object_id), 0)
        if index.isValid():
            self.rows.scrollTo(index)

    def _tell(self) -> None:
        n, shown, chosen = len(self.table.all), len(self.table.rows), self.chosen
        some = "1 object" if n == 1 else f"{n:,} objects"
        if not n:
            self.about.setText("No object yet.")
            return
        if self.table.filter.unknown:
            told = f"There is no column {self.table.filter.unknown!r}."
        elif shown < n:
            told = f"{shown:,} of {some}."
        else:
            told = f"{some}."
        if len(chosen) > 1:
            told += f" {len(chosen):,} chosen."
        elif self._shown is not None and self._shown.check.outdated:
            told += f" {self._shown.check.outdated:,} changed: measure again."
        elif shown == n:
            told += " Click on a row to go to it."
        self.about.setText(told)

    def _on_row(self, index: Any, _: Any = None) -> None:
        if index.isValid():
            chosen = self.table.rows[index.row()].object_id
            if chosen != self._object:
                self._object = chosen
                self.row_chosen.emit(chosen)

    def _on_selection(self) -> None:
        self._tell()
        self.plot.show_table(self.table, self.chosen)

    def _on_plotted(self, on: bool) -> None:
        self.plot.setVisible(on)
        if on:  # once it has its place
            QTimer.singleShot(0, self._bring_plot)

    def _bring_plot(self) -> None:
        around = self.parentWidget()
        while around is not None and not isinstance(around, QScrollArea):
            around = around.parentWidget()
        if around is not None:
            around.ensureWidgetVisible(self.plot)

    def _on_plot(self, ids: list[int]) -> None:
        self.choose(ids)
        if ids:
            self._scroll_to(min(ids, key=self.table.row_of))

    def _on_filter(self, text: str) -> None:
        kept = self.chosen
        with silent(self.rows.selectionModel()):
            self.table.set_filter(text)
            self.choose(kept)
            self._return_to(self._object)
        self.rows.viewport().update()
        self._tell()
        self.plot.show_table(self.table, self.chosen)

    def _on_said(self, word: str) -> None:
        if word in ("undo", "redo"):
            (self.undo_wanted if word == "undo" else self.redo_wanted).emit()
            return
        wanted = {
            "accept": self.accept_wanted,
            "reject": self.reject_wanted,
            "delete": self.delete_wanted,
            "guessed": self.guessed_wanted,
        }[word]
        wanted.emit(self.chosen)

    def _on_class(self) -> None:
        name = self.kind.currentText().strip()
        self.kind.clearEditText()
        self.class_wanted.emit(self.chosen, name)

    def _on_number(self, number: int) -> None:
        self.class_wanted.emit(self.chosen, number)

    def _on_check(self, order: str, on: bool) -> None:
        ids = [row.object_id for row in self.table.rows]
        self.check_wanted.emit(order if on else "", ids)


def _range(first: Any, last: Any) -> Any:
    from qtpy.QtCore import QItemSelectionRange

    return QItemSelectionRange(first, last)
