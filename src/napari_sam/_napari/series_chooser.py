"""A dialog that asks which series of a study, or images of a file, to open."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QSize, Qt, Signal
from qtpy.QtGui import QIcon, QImage, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QDialog,
    QDialogButtonBox,
    QHeaderView,
    QLabel,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_sam.errors import NapariSamError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sam.volume.series import SeriesInfo

SIDE = 64
"""Pixels of a thumbnail's longer side."""
COLUMNS = ("", "No.", "Kind", "Description", "Size", "Spacing", "Files")
JOIN_S = 5.0
"""How long closing waits for the thumbnail that is being made."""


def ask(infos: Sequence[SeriesInfo], parent: QWidget | None = None) -> list[SeriesInfo]:
    """Let a person choose; returns what was chosen, nothing where it was cancelled."""
    dialog = SeriesChooser(infos, parent)
    accepted = dialog.exec() == QDialog.DialogCode.Accepted
    chosen = dialog.chosen() if accepted else []
    dialog.deleteLater()
    return chosen


class SeriesChooser(QDialog):  # type: ignore[misc]
    """A table of series with thumbnails, of which one or more can be chosen."""

    def __init__(
        self, infos: Sequence[SeriesInfo], parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.infos = tuple(infos)
        self.setWindowTitle("Choose a series")
        self.resize(860, min(160 + SIDE * max(len(infos), 3), 640))
        self.table = QTableWidget(len(self.infos), len(COLUMNS), self)
        self._fill()
        buttons = QDialogButtonBox.StandardButton
        self.buttons = QDialogButtonBox(buttons.Open | buttons.Cancel, self)
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.addWidget(QLabel(_summary(self.infos), self))
        layout.addWidget(self.table)
        layout.addWidget(self.buttons)
        self.table.itemSelectionChanged.connect(self._on_selection)
        self.table.itemDoubleClicked.connect(lambda item: self.accept())
        self._select_first()
        self._thumbnails = Thumbnails(self.infos)
        self._thumbnails.made.connect(self.show_thumbnail)
        self.finished.connect(lambda result: self._thumbnails.stop())
        self._thumbnails.start()

    def chosen(self) -> list[SeriesInfo]:
        """Return the selected series, in the order of the table."""
        rows = sorted({i.row() for i in self.table.selectedIndexes()})
        return [self.infos[row] for row in rows if not self.infos[row].problem]

    def show_thumbnail(self, row: int, picture: np.ndarray) -> None:
        """Put a picture, (h, w, 3) uint8, into a row."""
        h, w, _ = picture.shape
        data = np.ascontiguousarray(picture).tobytes()
        image = QImage(data, w, h, 3 * w, QImage.Format.Format_RGB888).copy()
        self.table.item(row, 0).setIcon(QIcon(QPixmap.fromImage(image)))

    def _fill(self) -> None:
        table = self.table
        table.setHorizontalHeaderLabels(COLUMNS)
        table.setIconSize(QSize(SIDE, SIDE))
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.verticalHeader().hide()
        table.verticalHeader().setDefaultSectionSize(SIDE + 6)
        for row, info in enumerate(self.infos):
            for column, text in enumerate(_cells(info)):
                item = QTableWidgetItem(text)
                item.setToolTip(_tip(info))
                if info.problem:
                    item.setFlags(Qt.ItemFlag.NoItemFlags)
                table.setItem(row, column, item)
        header = table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(3, QHeaderView.ResizeMode.Stretch)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Fixed)
        table.setColumnWidth(0, SIDE + 12)

    def _select_first(self) -> None:
        good = [r for r, i in enumerate(self.infos) if not (i.problem or i.is_odd)]
        if good:
            largest = max(good, key=lambda r: self.infos[r].n_files)
            self.table.selectRow(largest)
        self._on_selection()

    def _on_selection(self) -> None:
        button = self.buttons.button(QDialogButtonBox.StandardButton.Open)
        button.setEnabled(bool(self.chosen()))


class Thumbnails(QObject):  # type: ignore[misc]
    """Makes thumbnails in a thread of its own, one after the other."""

    made = Signal(int, object)
    """(row, picture) of each thumbnail."""

    def __init__(self, infos: Sequence[SeriesInfo]) -> None:
        super().__init__()
        self._infos = infos
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin with the first."""
        self._thread.start()

    def stop(self) -> None:
        """Make no more."""
        self._stopped.set()
        self._thread.join(JOIN_S)

    def _run(self) -> None:
        for row, info in enumerate(self._infos):
            if self._stopped.is_set():
                return
            if info.problem:
                continue
            try:
                picture = info.thumbnail(SIDE)
            except NapariSamError:
                continue  # it is shown without one, and told when it is opened
            if not self._stopped.is_set():
                self.made.emit(row, picture)


def _summary(infos: Sequence[SeriesInfo]) -> str:
    bad = sum(bool(i.problem) for i in infos)
    text = f"{len(infos)} series are here. Choose one or more to open."
    return f"{text} {bad} cannot be opened: point at one to see why." if bad else text


def _cells(info: SeriesInfo) -> tuple[str, ...]:
    size = " x ".join(str(n) for n in info.shape)
    axes = ", ".join(info.axes)
    return (
        "",
        info.short or (info.key or ""),
        info.modality,
        f"{info.description}{' (left out of its series)' if info.is_odd else ''}",
        f"{size}  ({axes})" if size else "",
        spacing_text(info),
        str(info.n_files),
    )


def spacing_text(info: SeriesInfo) -> str:
    """Spacing for people; every axis, units once, uneven slices told."""
    if not info.spacing:
        return ""
    pairs = list(zip(info.spacing, info.units, strict=True))
    space = [p for a, p in zip(info.axes, pairs, strict=True) if a in "zyx"]
    units = dict.fromkeys(_SHORT.get(u, u) for _, u in space)
    text = " x ".join(f"{s:.3g}" for s, _ in space) + f" {'/'.join(units)}"
    return f"{text}, uneven" if info.uneven else text


_SHORT = {"millimeter": "mm", "micrometer": "µm", "nanometer": "nm", "pixel": "px"}


def _tip(info: SeriesInfo) -> str:
    lines = [info.uid or "", info.problem or info.uneven]
    lines += [f"left out: {file}: {reason}" for file, reason in info.skipped[:8]]
    return "\n".join(line for line in lines if line)


def can_ask() -> bool:
    """Whether there is a window system's application to show a dialog in."""
    from qtpy.QtWidgets import QApplication

    app: Any = QApplication.instance()
    return app is not None and QApplication.platformName() != "minimal"
