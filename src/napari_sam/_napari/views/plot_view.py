"""A histogram or scatter plot of the objects in the table; a drag chooses them.

Painted by Qt: no plotting library is among napari's dependencies but vispy, whose
canvas would be a second OpenGL window in the panel, and slower to open than to draw.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QPointF, QRect, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QImage, QPainter
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_sam._napari.views.object_table import told
from napari_sam._napari.views.section import Section, combo, fill

if TYPE_CHECKING:
    from napari_sam._napari.views.object_table import ObjectTable

COUNT = "count"
"""On the second axis: a histogram."""
BINS = 40
_LEFT, _TOP, _RIGHT, _BOTTOM = 6, 6, 6, 18
_TEXTS = ("class", "review", "origin", "note", "likely class")


class PlotView(Section):
    """Two columns to choose from, and their plot."""

    chosen = Signal(object)
    """Ids of the objects that were dragged over."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.x, self.y = combo("Across"), combo("Upwards; “count” for a histogram")
        self.canvas = PlotCanvas()
        self.add("Plot", self.x, self.y)
        self.add("", self.canvas)
        self._table: ObjectTable | None = None
        self._ids = np.zeros(0, np.int64)
        self._held: tuple[Any, ...] = (None, "", "")
        self.x.activated.connect(lambda _: self._draw())
        self.y.activated.connect(lambda _: self._draw())
        self.canvas.dragged.connect(self._on_dragged)

    def show_table(self, table: ObjectTable, chosen: list[int]) -> None:
        """Plot the rows of a table; nothing is drawn while this is folded away."""
        self._table = table
        if not self.isVisible():
            return
        names = [n for n in table.names if n not in _TEXTS]
        self._offer(names)
        self._draw(chosen)

    def showEvent(self, event: Any) -> None:
        """Draw what changed while this was folded away."""
        super().showEvent(event)
        if self._table is not None:
            self.show_table(self._table, [])

    def _offer(self, names: list[str]) -> None:
        first = self.x.currentText() or ("size" if "size" in names else "doubt")
        second = self.y.currentText() or COUNT
        if self.x.currentText() == "doubt" and "size" in names and not self.x.count():
            first = "size"
        fill(self.x, names, names.index(first) if first in names else 0)
        both = [COUNT, *names]
        fill(self.y, both, both.index(second) if second in both else 0)

    def _draw(self, chosen: list[int] | None = None) -> None:
        table = self._table
        if table is None:
            return
        x, y = self.x.currentText(), self.y.currentText()
        rows, (held, *axes) = table.rows, self._held
        if rows is not held or axes != [x, y]:
            self._held = (rows, x, y)
            self._ids = np.array([r.object_id for r in rows], np.int64)
            across = _numbers(table.column(x, rows))
            up = None if y == COUNT else _numbers(table.column(y, rows))
            self.canvas.show_points(across, up)
        if chosen is not None:
            self.canvas.mark(np.isin(self._ids, chosen))

    def _on_dragged(self, inside: np.ndarray) -> None:
        self.canvas.mark(inside)
        self.chosen.emit(self._ids[inside].tolist())


class PlotCanvas(QWidget):  # type: ignore[misc]
    """The plot itself."""

    dragged = Signal(object)
    """(n,) bool: the points that a drag went over; a click is over none."""

    def __init__(self) -> None:
        super().__init__()
        self.setMinimumHeight(90)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setCursor(Qt.CursorShape.CrossCursor)
        self.setToolTip("Drag over points to choose their objects")
        self._x = np.zeros(0)
        self._y: np.ndarray | None = None
        self._marked = np.zeros(0, bool)
        self._x_range, self._y_range = (0.0, 1.0), (0.0, 1.0)
        self._start: QPointF | None = None
        self._end: QPointF | None = None

    def sizeHint(self) -> QSize:
        """Return a low and wide size."""
        return QSize(200, 90)

    def show_points(self, x: np.ndarray, y: np.ndarray | None) -> None:
        """Show other points: a histogram of `x`, or `y` over `x`; NaN is left out."""
        self._x, self._y = x, y
        self._marked = np.zeros(len(x), bool)
        self._x_range = _range_of(x)
        self._y_range = (0.0, 1.0) if y is None else _range_of(y)
        self.update()

    def mark(self, marked: np.ndarray) -> None:
        """Show these points as chosen."""
        if len(marked) == len(self._x):
            self._marked = marked
            self.update()

    # -- mouse -----------------------------------------------------------------------

    def mousePressEvent(self, event: Any) -> None:
        """Begin a drag."""
        self._start = self._end = event.position()
        self.update()

    def mouseMoveEvent(self, event: Any) -> None:
        """Go on with it."""
        if self._start is not None:
            self._end = event.position()
            self.update()

    def mouseReleaseEvent(self, event: Any) -> None:
        """Choose what it went over."""
        if self._start is None:
            return
        box = QRectF(self._start, event.position()).normalized()
        self._start = self._end = None
        self.update()
        self.dragged.emit(self._inside(box))

    def _inside(self, box: QRectF) -> np.ndarray:
        px, py = self._pixels()
        inside = (px >= box.left()) & (px <= box.right())
        if self._y is not None:
            inside &= (py >= box.top()) & (py <= box.bottom())
        clicked = box.width() < 2 and box.height() < 2
        out: np.ndarray = inside & np.isfinite(px) & (not clicked)
        return out

    # -- drawing ---------------------------------------------------------------------

    def paintEvent(self, event: Any) -> None:
        """Draw points, axes and the drag."""
        painter, area, palette = QPainter(self), self._area(), self.palette()
        text = palette.color(palette.ColorRole.WindowText)
        faint = QColor(text)
        faint.setAlpha(70)
        painter.setPen(faint)
        painter.drawRect(area.adjusted(-1, -1, 0, 0))
        if np.isfinite(self._x).any():
            if self._y is None:
                self._paint_bars(painter, area, text)
            else:
                painter.drawImage(area.topLeft(), self._scatter(area, text))
            self._paint_ends(painter, area, text)
        if self._start is not None and self._end is not None:
            tint = QColor(*_MARK, 60)
            painter.setPen(QColor(*_MARK))
            painter.setBrush(tint)
            box = QRectF(self._start, self._end).normalized()
            if self._y is None:
                box.setTop(area.top())
                box.setBottom(area.bottom())
            painter.drawRect(box)
        painter.end()

    def _paint_bars(self, painter: Any, area: QRect, text: QColor) -> None:
        known = np.isfinite(self._x)
        low, high = self._x_range
        edges = np.linspace(low, high, BINS + 1)
        counts, _ = np.histogram(self._x[known], edges)
        marked, _ = np.histogram(self._x[known & self._marked], edges)
        top = max(int(counts.max(initial=0)), 1)
        width = area.width() / BINS
        plain = QColor(text)
        plain.setAlpha(130)
        for n in range(BINS):
            for count, color in ((counts[n], plain), (marked[n], QColor(*_MARK))):
                height = area.height() * int(count) / top
                bar = QRectF(
                    area.left() + n * width, area.bottom() - height,
                    max(width - 1, 1), height,
                )  # fmt: skip
                painter.fillRect(bar, color)

    def _scatter(self, area: QRect, text: QColor) -> QImage:
        """Points as a picture: tens of thousands cost no more than a few."""
        h, w = max(area.height(), 2), max(area.width(), 2)
        px, py = self._pixels()
        known = np.isfinite(px) & np.isfinite(py)
        out = np.zeros((h, w, 4), np.uint8)
        colors = ((known, text.getRgb()[:3], 110), (known & self._marked, _MARK, 230))
        for which, color, opacity in colors:
            xs = (px[which] - area.left()).astype(int).clip(0, w - 2)
            ys = (py[which] - area.top()).astype(int).clip(0, h - 2)
            for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
                out[ys + dy, xs + dx] = (*color, opacity)
        image = QImage(out.tobytes(), w, h, 4 * w, QImage.Format.Format_RGBA8888)
        return image.copy()

    def _paint_ends(self, painter: Any, area: QRect, text: QColor) -> None:
        font = painter.font()
        font.setPointSizeF(max(font.pointSizeF() - 2, 6))
        painter.setFont(font)
        painter.setPen(text)
        low, high = (told("", float(v)) for v in self._x_range)
        below = area.adjusted(0, area.height() + 2, 0, _BOTTOM)
        painter.drawText(below, Qt.AlignmentFlag.AlignLeft, low)
        painter.drawText(below, Qt.AlignmentFlag.AlignRight, high)
        if self._y is not None:
            low, high = (told("", float(v)) for v in self._y_range)
            inside = area.adjusted(3, 1, 0, -1)
            painter.drawText(inside, Qt.AlignmentFlag.AlignTop, high)
            painter.drawText(inside, Qt.AlignmentFlag.AlignBottom, low)

    def _area(self) -> QRect:
        return self.rect().adjusted(_LEFT, _TOP, -_RIGHT, -_BOTTOM)

    def _pixels(self) -> tuple[np.ndarray, np.ndarray]:
        """Place of each point on this widget; NaN where it has none."""
        area = self._area()
        low, high = self._x_range
        px = area.left() + (self._x - low) / (high - low) * area.width()
        if self._y is None:
            return px, np.zeros_like(px)
        low, high = self._y_range
        return px, area.bottom() - (self._y - low) / (high - low) * area.height()


_MARK = 255, 140, 0
"""Colour of what is chosen."""


def _numbers(cells: list[Any]) -> np.ndarray:
    """Cells as numbers to plot; NaN where one is none."""
    return np.array([c if isinstance(c, (int, float)) else np.nan for c in cells])


def _range_of(values: np.ndarray) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    if not len(known):
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)
