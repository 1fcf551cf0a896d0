"""A real napari window with the panel open, and a hand on mouse, keys and menus."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QMenu

from napari_sam._napari.widget import DOCK, widget_of


def choose(viewer, *path):
    """Choose an entry of the menu bar, as "Layers", "Segment", "Undo (…)"."""
    menu = viewer.window._qt_window.menuBar()
    for name in path:
        if isinstance(menu, QMenu):
            menu.aboutToShow.emit()
        entries = {a.text().replace("&", ""): a for a in menu.actions()}
        assert name in entries, f"{name!r} is not among {list(entries)}"
        action = entries[name]
        menu = action.menu()
    action.trigger()


class Bench:
    """A viewer with the widget open, and a mouse and keys."""

    def __init__(self, viewer, qtbot):
        self.viewer, self.qtbot = viewer, qtbot
        choose(viewer, "Plugins", DOCK)
        widget = widget_of(viewer)
        assert widget is not None
        self.widget = widget
        self.canvas = viewer.window._qt_viewer.canvas

    @property
    def controller(self):
        return self.widget.controller

    @property
    def state(self):
        return self.controller.board.state

    @property
    def labels(self):
        return np.asarray(self.controller.session.labels)

    def settle(self):
        def quiet():
            assert self.controller.session is not None
            assert self.widget.contents.settled

        self.qtbot.wait(1)  # what was posted is heard first
        self.qtbot.waitUntil(quiet, timeout=60_000)

    def where(self, *data):
        layer = self.controller.annotation.image
        y, x = layer.data_to_world(data)[-2:]
        at = self.canvas.view.scene.transform.map([x, y, 0, 1])
        return QPoint(round(at[0]), round(at[1]))

    def click(self, *data):
        at = self.where(*data)
        QTest.mouseMove(self.canvas.native, at)
        left, none = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
        QTest.mouseClick(self.canvas.native, left, none, at)
        self.settle()

    def drag(self, start, stop):
        left, none = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
        a, b = self.where(*start), self.where(*stop)
        QTest.mousePress(self.canvas.native, left, none, a)
        for part in np.linspace(0, 1, 6)[1:]:
            to = a + QPoint(*(round(part * v) for v in ((b - a).x(), (b - a).y())))
            QTest.mouseMove(self.canvas.native, to)
            self.qtbot.wait(10)
        QTest.mouseRelease(self.canvas.native, left, none, b)
        self.settle()

    def key(self, key, modifiers=Qt.KeyboardModifier.NoModifier):
        QTest.keyClick(self.canvas.native, key, modifiers)
        self.settle()
