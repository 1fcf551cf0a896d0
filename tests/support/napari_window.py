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


PLUS = ("point", 1)


class Newcomer(Bench):
    """A hand in a window whose panel is opened by the path itself.

    After each step, what the panel says is compared with what is so.
    """

    def __init__(self, viewer, qtbot):
        self.viewer, self.qtbot = viewer, qtbot
        self.canvas = viewer.window._qt_viewer.canvas

    @property
    def widget(self):
        return widget_of(self.viewer)

    @property
    def panel(self):
        return self.widget.panel

    @property
    def session(self):
        return self.controller.session

    @property
    def status(self):
        return self.panel.status.text.text()

    @property
    def annotation(self):
        return self.controller.annotation

    def layer(self, role):
        return next(
            (x for x in self.viewer.layers if x.name.endswith(f" · {role}")), None
        )

    def menu(self, *path):
        choose(self.viewer, *path)
        self.settle()

    def command(self, title):
        self.menu("Layers", "Segment", f"{title} (napari-sam)")

    def plugins(self):
        self.menu("Plugins", DOCK)

    def press(self, button):
        assert button.isVisible() and button.isEnabled(), button.text()
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)
        self.settle()

    def pick(self, combo, text):
        """Choose an entry of a list as a hand does."""
        at = combo.findText(text)
        assert at >= 0, [combo.itemText(i) for i in range(combo.count())]
        combo.setCurrentIndex(at)
        combo.activated.emit(at)
        self.settle()

    def tab(self, name):
        tabs = self.panel.tabs
        at = self.panel.names.index(name)
        assert tabs.isTabVisible(at)
        QTest.mouseClick(
            tabs.tabBar(),
            Qt.MouseButton.LeftButton,
            pos=tabs.tabBar().tabRect(at).center(),
        )
        self.settle()

    def select(self, *layers):
        self.viewer.layers.selection = set(layers)
        self.settle()

    def lit(self):
        tools = self.panel.prompt.tools
        return [key for key, made in tools.items() if made.isChecked()]

    def tool(self, name, sign=1):
        """Button of a tool."""
        return self.panel.prompt.tools[name, sign]

    def settle(self):
        self.qtbot.wait(1)  # what was posted is heard first
        widget = self.widget
        if widget is None:
            return
        self.qtbot.waitUntil(lambda: widget.contents.settled, timeout=60_000)
        self.check()

    def check(self):
        """What the panel says is so."""
        panel, state, viewer = self.panel, self.state, self.viewer
        docked = [
            w for w in viewer.window.dock_widgets.values()
            if type(w).__name__ == "SegmentWidget"
        ]  # fmt: skip
        assert docked == [self.widget]
        assert state.status_kind != "busy", self.status
        assert not panel.status.bar.isVisible()
        assert self.status == state.status
        annotation = self.annotation
        if annotation is None:
            assert "Open an image" in self.status or state.status_kind == "error"
            return
        assert panel.image.images.currentText() == annotation.image.name
        self._check_tool(annotation)
        session = annotation.session
        if session is None:
            assert "no model answers" in state.model_note, self.status
            return
        assert panel.prompt.undo.isEnabled() == session.can_undo
        assert panel.prompt.redo.isEnabled() == session.can_redo
        red = panel.status.unsaved
        kept = session.path is not None and session.write_error is None
        assert red.isVisible() == (not kept), red.text()
        assert annotation.writer.data is session.labels
        masks = annotation.writer.layer
        if masks in viewer.layers and not masks.multiscale:
            np.testing.assert_array_equal(masks.data, session.labels)
        assert panel.object.number.value() == state.object_id
        known = session.objects
        assert [row.object_id for row in state.objects] == sorted(known)
        answering = panel.model.names.currentData()
        assert state.loading == "" and answering == state.model

    def _check_tool(self, annotation):
        """The lit tool is the one that the canvas has."""
        selected = set(self.viewer.layers.selection)
        layers, armed = annotation.layers, []
        if layers.points_shown and selected == {layers.points}:
            if str(layers.points.mode) == "add":
                armed = [("point", layers.polarity)]
        elif layers.shapes_shown and selected == {layers.shapes}:
            if str(layers.shapes.mode) == "add_rectangle":
                armed = [("box", 1)]
        if self.viewer.dims.ndisplay != 2:
            armed = []
        assert self.lit() == armed
        elsewhere = self.panel.prompt.elsewhere
        assert elsewhere.isVisible() == (not armed)
        for words, tools in (
            ("Click on an object", [PLUS]),
            ("Click to add", [PLUS]),
            ("Drag a box", [("box", 1)]),
            ("does not belong", [("point", 0)]),
            ("goes back to prompts", []),
        ):
            if words in self.status:
                assert armed == tools, self.status
