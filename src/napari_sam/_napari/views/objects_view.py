"""All objects as a table: a row goes to its object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableView, QWidget

from napari_sam._napari.views.section import Section, note

if TYPE_CHECKING:
    from napari_sam._napari.state import ObjectRow, PanelState

COLUMNS = ("Object", "Class", "Planes", "Score", "How")
"""Headings."""
_ANY = QModelIndex()


class ObjectTable(QAbstractTableModel):  # type: ignore[misc]
    """Rows of the table, made as they are looked at: there may be thousands."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: tuple[ObjectRow, ...] = ()

    def show(self, rows: tuple[ObjectRow, ...]) -> None:
        """Replace all rows."""
        self.beginResetModel()
        self.rows = rows
        self.endResetModel()

    def rowCount(self, parent: QModelIndex = _ANY) -> int:
        """Return how many objects there are."""
        return 0 if parent.isValid() else len(self.rows)

    def columnCount(self, parent: QModelIndex = _ANY) -> int:
        """Return how many facts of each are shown."""
        return 0 if parent.isValid() else len(COLUMNS)

    def headerData(self, section: int, orientation: Any, role: int) -> Any:
        """Name a column."""
        across = orientation == Qt.Orientation.Horizontal
        if role == Qt.ItemDataRole.DisplayRole and across:
            return COLUMNS[section]
        return None

    def data(self, index: QModelIndex, role: int) -> Any:
        """Tell one fact."""
        row = self.rows[index.row()]
        if role == Qt.ItemDataRole.DisplayRole:
            score = "" if row.score is None else f"{row.score:.2f}"
            told = (str(row.object_id), row.class_name, str(row.planes), score, row.how)
            return told[index.column()]
        if role == Qt.ItemDataRole.DecorationRole and index.column() == 0:
            return QColor(row.color)
        return None


class ObjectsView(Section):
    """The table of objects."""

    row_chosen = Signal(object)
    """Id of an object."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.about = note()
        self.table = ObjectTable()
        self.rows = QTableView()
        self.rows.setModel(self.table)
        self.rows.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.rows.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.rows.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.rows.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.rows.verticalHeader().setVisible(False)
        self.rows.verticalHeader().setDefaultSectionSize(22)
        self.rows.horizontalHeader().setSectionResizeMode(
            QHeaderView.ResizeMode.Stretch
        )
        self.rows.setMinimumHeight(110)
        self.rows.clicked.connect(self._on_row)
        self.rows.activated.connect(self._on_row)
        self.add("", self.about)
        self.add("", self.rows)

    def show_state(self, state: PanelState) -> None:
        """Show the objects; only when this is what is looked at."""
        if not self.isVisible():
            return
        if state.objects is not self.table.rows:
            self.table.show(state.objects)
        n = len(state.objects)
        some = "1 object" if n == 1 else f"{n:,} objects"
        self.about.setText(
            f"{some}. Click on a row to go to it." if n else "No object yet."
        )
        chosen = [r.object_id for r in state.objects]
        if state.object_id in chosen:
            row = chosen.index(state.object_id)
            if self.rows.currentIndex().row() != row:
                self.rows.selectRow(row)
        else:
            self.rows.clearSelection()

    def _on_row(self, index: QModelIndex) -> None:
        self.row_chosen.emit(self.table.rows[index.row()].object_id)
