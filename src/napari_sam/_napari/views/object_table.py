"""All objects as the model of a table: sorted, filtered, with what was measured."""

from __future__ import annotations

from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt
from qtpy.QtGui import QColor

from napari_sam._napari.views.row_filter import RowFilter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from napari_sam._napari.state import GuessedState, MeasuredState, ObjectRow

KNOWN = {
    "object": attrgetter("object_id"),
    "class": attrgetter("class_name"),
    "review": attrgetter("review"),
    "doubt": attrgetter("doubt"),
    "score": attrgetter("score"),
    "planes": attrgetter("planes"),
    "origin": attrgetter("how"),
    "note": attrgetter("note"),
}
"""What the session knows of each object; measurements follow."""
GUESSED = ("likely class", "class doubt")
"""What is guessed of objects without a class."""
_MARKS = {"accepted": "✓ accepted", "rejected": "✗ rejected", "flagged": "⚑ flagged"}
_ANY = QModelIndex()


class ObjectTable(QAbstractTableModel):  # type: ignore[misc]
    """Rows are made as they are looked at: there may be tens of thousands.

    Parameters
    ----------
    color_of : callable
        Gives the colour of an object, as #rrggbb.
    """

    def __init__(self, color_of: Callable[[int], str]) -> None:
        super().__init__()
        self.color_of = color_of
        self.all: tuple[ObjectRow, ...] = ()
        """Every object, by id."""
        self.rows: list[ObjectRow] = []
        """Those shown, in the order of the table."""
        self.names: tuple[str, ...] = tuple(KNOWN)
        """Columns."""
        self.filter = RowFilter("", [])
        self._filter_text = ""
        self._order: tuple[str, bool] = ("object", False)
        self._measured: MeasuredState | None = None
        self._guessed: GuessedState | None = None
        self._place: dict[int, int] = {}

    # -- what is shown ---------------------------------------------------------------

    def show(
        self,
        rows: tuple[ObjectRow, ...],
        measured: MeasuredState | None,
        guessed: GuessedState | None = None,
    ) -> None:
        """Show other objects, or other measurements or guesses of them."""
        held = (self.all, self._measured, self._guessed)
        if all(a is b for a, b in zip(held, (rows, measured, guessed), strict=True)):
            return
        more = () if measured is None else tuple(measured.columns)
        may = () if guessed is None else GUESSED
        self.all, self._measured, self._guessed = rows, measured, guessed
        if self.names != (names := (*KNOWN, *may, *more)):
            self.beginResetModel()
            self.names = names
            self.filter = RowFilter(self._filter_text, list(names))
            self._arrange()
            self.endResetModel()
        else:
            self._rearrange()

    def set_filter(self, text: str) -> None:
        """Show only what is asked for; see `RowFilter`."""
        self._filter_text = text
        self.filter = RowFilter(text, list(self.names))
        self._rearrange()

    def sort(
        self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder
    ) -> None:
        """Order the rows by a column; what is unknown comes last."""
        if not 0 <= column < len(self.names):
            return
        self._order = self.names[column], order == Qt.SortOrder.DescendingOrder
        self._rearrange()

    def row_of(self, object_id: int) -> int:
        """Return the row of an object; -1 where it is not shown."""
        return self._place.get(object_id, -1)

    def value(self, name: str, row: ObjectRow) -> Any:
        """Return a cell as a value; None where nothing is known."""
        return self.column(name, (row,))[0]

    def column(self, name: str, rows: Sequence[ObjectRow]) -> list[Any]:
        """Return the cells of a column as values; None where nothing is known."""
        if name in KNOWN:
            cells = map(KNOWN[name], rows)
            return [None if cell == "" else cell for cell in cells]
        if name in GUESSED and self._guessed is not None:
            names, doubts = self._guessed.names, self._guessed.doubts
            likely: Mapping[int, Any] = names if name == GUESSED[0] else doubts
            return [None if r.class_name else likely.get(r.object_id) for r in rows]
        if self._measured is None:
            return [None] * len(rows)
        of = self._measured.of
        return [of(name, row.object_id) for row in rows]

    @property
    def silent(self) -> set[str]:
        """Columns that say nothing of any object, and only take room."""
        plain = {"review": "open", "planes": 1}
        told = ("review", "doubt", "score", "planes", "origin", "note")
        return {
            name
            for name in told
            if {None, plain.get(name)}.issuperset(self.column(name, self.all))
        }

    # -- Qt --------------------------------------------------------------------------

    def rowCount(self, parent: QModelIndex = _ANY) -> int:
        """Return how many objects are shown."""
        return 0 if parent.isValid() else len(self.rows)

    def columnCount(self, parent: QModelIndex = _ANY) -> int:
        """Return how many facts of each are shown."""
        return 0 if parent.isValid() else len(self.names)

    def headerData(
        self, section: int, orientation: Any, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        """Name a column."""
        across = orientation == Qt.Orientation.Horizontal
        if across and section < len(self.names):
            name = self.names[section]
            if role == Qt.ItemDataRole.DisplayRole:
                return name.replace("_", " ").replace("intensity ", "")
            if role == Qt.ItemDataRole.ToolTipRole:
                unit = "" if self._measured is None else self._measured.size_unit
                return f"{name} in {unit}" if name == "size" and unit else name
        return None

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Tell one fact."""
        row, name = self.rows[index.row()], self.names[index.column()]
        if role == Qt.ItemDataRole.DisplayRole:
            return told(name, self.value(name, row))
        if role == Qt.ItemDataRole.DecorationRole and index.column() == 0:
            return QColor(row.color or self.color_of(row.object_id))
        if role == Qt.ItemDataRole.TextAlignmentRole and name not in (
            "class", "review", "origin", "note", "likely class",
        ):  # fmt: skip
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        return None

    def _rearrange(self) -> None:
        """Arrange the rows anew, and tell Qt no more than what changed."""
        before, place = self.rows, self._place
        self._arrange()
        after = self.rows
        if list(place) == list(self._place):
            if after:
                last = self.index(len(after) - 1, len(self.names) - 1)
                self.dataChanged.emit(self.index(0, 0), last)
            return
        self.rows = before
        if len(before) != len(after):
            self.beginResetModel()
            self.rows = after
            self.endResetModel()
            return
        self.layoutAboutToBeChanged.emit()
        kept = self.persistentIndexList()
        ids = [before[i.row()].object_id for i in kept]
        self.rows = after
        pairs = zip(ids, kept, strict=True)
        moved = [self.index(self.row_of(i), k.column()) for i, k in pairs]
        self.changePersistentIndexList(kept, moved)
        self.layoutChanged.emit()

    def _arrange(self) -> None:
        rows = list(self.all)
        if self._filter_text.strip():
            asked = self.filter.rows(partial(self.column, rows=rows), len(rows))
            rows = [rows[n] for n in asked]
        name, backwards = self._order
        values = self.column(name, rows)
        known = [n for n, v in enumerate(values) if v is not None]
        unknown = [n for n, v in enumerate(values) if v is None]
        known.sort(key=values.__getitem__, reverse=backwards)
        self.rows = [rows[n] for n in (*known, *unknown)]
        self._place = {r.object_id: n for n, r in enumerate(self.rows)}


def told(name: str, value: Any) -> str:
    """Return a cell as text.

    Examples
    --------
    >>> told("doubt", 0.25), told("size", 12345.6), told("review", "open")
    ('0.25', '12346', '')
    """
    if value is None or value == "open":
        return ""
    if name == "review":
        return _MARKS[value]
    if isinstance(value, float):
        if name in ("doubt", "score", "class doubt"):
            return f"{value:.2f}"
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)
