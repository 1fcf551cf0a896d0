"""The list of classes: keys, colours, names, codes; and what colours tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QAbstractItemView,
    QColorDialog,
    QDoubleSpinBox,
    QHeaderView,
    QTableWidget,
    QTableWidgetItem,
    QWidget,
)

from napari_sam._napari.views.section import Section, button, combo, fold, note, silent
from napari_sam.results.views import View

if TYPE_CHECKING:
    from napari_sam._napari.state import ClassRow, GuessedState, PanelState

VIEWS = {
    "instance": "object",
    "semantic": "class",
    "panoptic": "class and object",
}
_KEY, _NAME, _CODES, _COUNT = range(4)


class ClassesView(Section):
    """A row a class; names and codes are typed in place, a click changes a colour."""

    view_chosen = Signal(str)
    """ "instance", "semantic" or "panoptic"."""
    add_wanted = Signal(str)
    """Name of a class; likewise the first value of the following."""
    rename_wanted = Signal(str, str)
    color_wanted = Signal(str, str)
    codes_wanted = Signal(str, str)
    remove_wanted = Signal(str)
    read_wanted = Signal()
    write_wanted = Signal()
    guess_wanted = Signal()
    take_wanted = Signal(float)
    """Greatest doubt of guesses that are taken."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.colored = combo("What the colours of objects in the viewer tell")
        self.colored.addItems([VIEWS[v] for v in get_args(View)])
        self.table = QTableWidget(0, 4)
        self.table.setHorizontalHeaderLabels(["key", "class", "codes", "objects"])
        self._set_up()
        self.new = button("Add", "A new class at the end of the list")
        self.remove = button("Remove", "Its objects have no class then (undoable)")
        self.read = button("Read…", "Add the classes of a file, also COCO's categories")
        self.write = button("Write…", "Write the list to a file, to be shared")
        self.guess = button(
            "Guess the rest", "Look at objects without a class: which are they like?"
        )
        self.doubt = QDoubleSpinBox()
        self.doubt.setRange(0, 1)
        self.doubt.setSingleStep(0.05)
        self.doubt.setValue(0.5)
        self.doubt.setPrefix("doubt ≤ ")
        self.doubt.setToolTip("Guesses that are doubted more are not taken")
        self.take = button("Take", "Give objects the classes guessed (undoable)")
        self.told = note()
        self._guessed: GuessedState | None = None
        self._classless: frozenset[int] = frozenset()
        inside = Section()
        inside.add("Colour", self.colored)
        inside.add("", self.table)
        inside.add("", self.new, self.remove, self.read, self.write)
        inside.add("", self.guess, self.doubt, self.take)
        inside.add("", self.told)
        self.add("", fold("Classes and colours", inside))
        self._rows: tuple[ClassRow, ...] = ()
        self.guess.clicked.connect(self.guess_wanted)
        self.take.clicked.connect(lambda: self.take_wanted.emit(self.doubt.value()))
        self.doubt.valueChanged.connect(self._count)
        self.colored.activated.connect(
            lambda i: self.view_chosen.emit(get_args(View)[i])
        )
        self.table.itemChanged.connect(self._on_typed)
        self.table.cellClicked.connect(self._on_clicked)
        self.new.clicked.connect(self._on_new)
        self.remove.clicked.connect(self._on_remove)
        self.read.clicked.connect(self.read_wanted)
        self.write.clicked.connect(self.write_wanted)

    def show_state(self, state: PanelState) -> None:
        """Show the list, unless a name is being typed."""
        self.colored.setCurrentIndex(get_args(View).index(state.view))
        for made in (self.new, self.read, self.colored):
            made.setEnabled(state.image >= 0)
        self.write.setEnabled(bool(state.class_rows))
        self._show_guesses(state)
        typing = self.table.state() == QAbstractItemView.State.EditingState
        if typing or state.class_rows == self._shown():
            return
        self._rows = state.class_rows
        with silent(self.table):
            self.table.setRowCount(len(self._rows))
            for n, row in enumerate(self._rows):
                self._fill(n, row)
        self.remove.setEnabled(bool(self._rows))

    def _show_guesses(self, state: PanelState) -> None:
        named = any(row.count for row in state.class_rows)
        self.guess.setEnabled(named and not state.guessing)
        self._guessed = state.guessed
        for made in (self.doubt, self.take, self.told):
            made.setVisible(state.guessed is not None)
        if state.guessed is not None:
            self.told.setText(state.guessed.told)
            self._classless = frozenset(
                row.object_id for row in state.objects if not row.class_name
            )
            self._count()

    def _count(self) -> None:
        if self._guessed is not None:
            sure = self._guessed.below(self.doubt.value())
            n = sum(i in self._classless for i in sure)
            self.take.setText(f"Take {n:,}")
            self.take.setEnabled(n > 0)

    # -- inside ----------------------------------------------------------------------

    def _set_up(self) -> None:
        table = self.table
        table.verticalHeader().setVisible(False)
        table.verticalHeader().setDefaultSectionSize(22)
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        table.setFixedHeight(118)
        header = table.horizontalHeader()
        header.setMinimumSectionSize(30)
        header.setSectionResizeMode(_NAME, QHeaderView.ResizeMode.Stretch)
        for column, width in ((_KEY, 46), (_CODES, 92), (_COUNT, 56)):
            table.setColumnWidth(column, width)

    def _shown(self) -> tuple[ClassRow, ...] | None:
        """The rows, if the cells say what they say."""
        for n, row in enumerate(self._rows):
            cells = (self.table.item(n, c) for c in (_NAME, _CODES))
            if [c and c.text() for c in cells] != [row.name, row.codes]:
                return None
        return self._rows

    def _fill(self, n: int, row: ClassRow) -> None:
        fixed = Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable
        texts = (str(n + 1) if n < 9 else "", row.name, row.codes, f"{row.count:,}")
        for column, text in enumerate(texts):
            item = QTableWidgetItem(text)
            if column in (_KEY, _COUNT):
                item.setFlags(fixed)
            self.table.setItem(n, column, item)
        key = self.table.item(n, _KEY)
        key.setData(Qt.ItemDataRole.DecorationRole, QColor(row.color))
        key.setToolTip("Click to choose a colour; Alt and the number give the class")
        self.table.item(n, _CODES).setToolTip("As SCT:84640000, UBERON:0002107")

    def _on_typed(self, item: Any) -> None:
        name = self._rows[item.row()].name
        wanted = {_NAME: self.rename_wanted, _CODES: self.codes_wanted}
        if item.column() in wanted:
            wanted[item.column()].emit(name, item.text())

    def _on_clicked(self, row: int, column: int) -> None:
        if column == _KEY:
            chosen = QColorDialog.getColor(QColor(self._rows[row].color), self)
            if chosen.isValid():
                self.color_wanted.emit(self._rows[row].name, chosen.name())

    def _on_new(self) -> None:
        names = {row.name for row in self._rows}
        n = next(n for n in range(len(names) + 1, 2 * len(names) + 2)
                 if f"class {n}" not in names)  # fmt: skip
        self.add_wanted.emit(f"class {n}")

    def _on_remove(self) -> None:
        row = self.table.currentRow()
        if 0 <= row < len(self._rows):
            self.remove_wanted.emit(self._rows[row].name)
