"""The armed tool, the candidates that the last click gave, undo and redo."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QIcon, QImage, QPixmap
from qtpy.QtWidgets import (
    QButtonGroup,
    QLabel,
    QMenu,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QWidget,
)

from napari_sam._napari.drawn import SIGNED, usable
from napari_sam._napari.views.section import Section, button, combo, silent

if TYPE_CHECKING:
    import numpy as np

    from napari_sam._napari.drawn import Tool
    from napari_sam._napari.state import PanelState, Thumbnail

RULES = {"keep": "keeps others", "overwrite": "overwrites others"}
"""What a mask does where it meets another object, in words."""
N_CANDIDATES = 3
THUMBNAIL_SIDE = 52
"""Pixels of a candidate's picture."""


SCRIBBLE = "Scribble"
TOOLS: dict[tuple[Tool, int], tuple[str, str]] = {
    ("point", 1): ("+ Point (P)", "Left click: this belongs to the object"),
    ("point", 0): (
        "− Point (T)",
        "Left click: this is not in the object. T switches between + and −",
    ),
    ("box", 1): ("Box (B)", "Drag a box around the object"),
    ("path", 1): (
        "Path (H)",
        "Click along a thin object, a vessel or a neurite; a double click ends it",
    ),
    ("polygon", 1): (
        "Polygon",
        "Click corners around the object, roughly; a double click ends it (G)",
    ),
    ("lasso", 1): ("Lasso", "Drag around the object, roughly (L)"),
    ("scribble", 1): (
        SCRIBBLE,
        "Drag a stroke through the object (S); T: through what is not in it",
    ),
    ("split", 1): (
        "Split",
        "Click in both parts of an object: the border is drawn between them (W)",
    ),
    ("merge", 1): (
        "Merge",
        "Click on an object: it becomes a part of the one at hand (M)",
    ),
}
"""Button and tip of each tool, and sign of what it draws."""


class PromptView(Section):
    """All tools as one switch, candidates, undo and redo."""

    tool_chosen = Signal(str, int)
    """`Tool`, and the sign of what it draws (1 or 0)."""
    refine_wanted = Signal()
    layers_wanted = Signal()
    """The menu of many prompts opens: `offer_layers` fills it."""
    layer_chosen = Signal(int)
    """Number of the layer among those offered."""
    file_wanted = Signal()
    candidate_chosen = Signal(int)
    rule_chosen = Signal(str)
    """"keep" or "overwrite"."""
    undo_wanted = Signal()
    redo_wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.tools = {key: _tool(*said) for key, said in TOOLS.items()}
        self.refine = button(
            "Refine", "Draw this object again, from the pixels it has here (E)"
        )
        for made in (*self.tools.values(), self.refine):
            made.setObjectName("napari_sam_tool")
            made.setStyleSheet(
                "QPushButton#napari_sam_tool { padding: 3px 1px; font-size: 11px; }"
            )
        self.elsewhere = QLabel()
        self.elsewhere.setWordWrap(True)
        self.elsewhere.setObjectName("napari_sam_elsewhere")
        self.elsewhere.setStyleSheet(
            "QLabel#napari_sam_elsewhere { border-left: 3px solid #e0a526; "
            "padding: 2px 6px; }"
        )
        self._group = QButtonGroup(self)
        for (tool, sign), made in self.tools.items():
            self._group.addButton(made)
            made.clicked.connect(
                lambda _=False, t=tool, s=sign: self.tool_chosen.emit(t, s)
            )
        self.refine.clicked.connect(self.refine_wanted)
        self.candidates = [self._candidate(k) for k in range(N_CANDIDATES)]
        self.undo = button("Undo", "Take the last change back (Ctrl-Z)")
        self.redo = button("Redo", "Do it again (Ctrl-Shift-Z)")
        for made in (self.undo, self.redo):
            made.setFixedWidth(62)
        self.many = button("Many", "An object for each box or point, all at once")
        self.many.setFixedWidth(62)
        self.many.setMenu(QMenu(self.many))
        self.many.menu().aboutToShow.connect(self.layers_wanted)
        self.rule = combo("What a mask does where another object already is")
        for rule, text in RULES.items():
            self.rule.addItem(text, rule)
        self.rule.activated.connect(
            lambda i: self.rule_chosen.emit(self.rule.itemData(i))
        )
        self.undo.clicked.connect(self.undo_wanted)
        self.redo.clicked.connect(self.redo_wanted)
        at = list(self.tools.values())
        self.add("", *at[:4])
        self.add("", *at[4:], self.refine)
        self.add("", self.elsewhere)
        self.add("", *self.candidates)
        self.add("", self.undo, self.redo, self.many, self.rule)
        self._drawn: tuple[Thumbnail, ...] | None = None

    def show_state(self, state: PanelState) -> None:
        """Show the armed tool, the candidates and what can be undone."""
        usable_now = usable(state.kinds)
        signed = state.polarity if state.tool in SIGNED else 1
        armed = self.tools.get((state.tool, signed))
        if state.tool == "scribble":
            armed = self.tools["scribble", 1]
        minus = state.tool == "scribble" and not state.polarity
        self.tools["scribble", 1].setText(f"− {SCRIBBLE}" if minus else SCRIBBLE)
        with silent(*self.tools.values(), self.rule):
            # A button of an exclusive group cannot be unchecked.
            self._group.setExclusive(not state.elsewhere)
            for (tool, _), made in self.tools.items():
                made.setChecked(made is armed and not state.elsewhere)
                made.setVisible(tool in usable_now)
            self.rule.setCurrentIndex(self.rule.findData(state.rule))
        self.elsewhere.setText(state.elsewhere)
        self.elsewhere.setVisible(bool(state.elsewhere))
        self.undo.setEnabled(state.can_undo)
        self.redo.setEnabled(state.can_redo)
        if state.thumbnails is not self._drawn:
            self._drawn = state.thumbnails
            for k, made in enumerate(self.candidates):
                given = state.thumbnails[k : k + 1]
                _draw(made, given[0] if given else None)
        for k, made in enumerate(self.candidates):
            made.setChecked(k == state.chosen and k < len(state.thumbnails))

    def offer_layers(self, names: list[str]) -> None:
        """Fill the menu of many prompts: layers, and a file."""
        menu = self.many.menu()
        menu.clear()
        for number, name in enumerate(names):
            entry = menu.addAction(f"Each of “{name}”")
            entry.triggered.connect(lambda _=False, n=number: self.layer_chosen.emit(n))
        if not names:
            menu.addAction("No Points or Shapes layer of your own").setEnabled(False)
        menu.addSeparator()
        menu.addAction("Each of a file…").triggered.connect(self.file_wanted)

    def _candidate(self, k: int) -> QToolButton:
        made = QToolButton()
        made.setCheckable(True)
        made.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        made.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        made.setIconSize(QSize(THUMBNAIL_SIDE, THUMBNAIL_SIDE))
        made.setFixedHeight(THUMBNAIL_SIDE + 6)
        made.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        made.setToolTip("Take this mask instead (C goes to the next one)")
        made.setStyleSheet(
            "QToolButton { border: 2px solid transparent; border-radius: 4px; }"
            "QToolButton:checked { border-color: #3b9cff; }"
            "QToolButton:hover:!checked { border-color: rgba(128, 128, 128, 150); }"
        )
        made.clicked.connect(lambda _=False: self.candidate_chosen.emit(k))
        return made


def _tool(text: str, tip: str) -> QPushButton:
    return button(text, tip, checkable=True)


def _draw(made: QToolButton, thumbnail: Thumbnail | None) -> None:
    made.setEnabled(thumbnail is not None)
    made.setText("–" if thumbnail is None else f"{thumbnail.score:.2f}")
    picture = thumbnail.picture if thumbnail is not None else None
    made.setIcon(QIcon(_pixmap(picture)))


def _pixmap(picture: np.ndarray | None) -> QPixmap:
    """(h, w, 3) uint8 -> a square pixmap; an empty frame for None."""
    square = QPixmap(THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    square.fill(Qt.GlobalColor.transparent)
    if picture is None:
        return square
    h, w = picture.shape[:2]
    image = QImage(picture.tobytes(), w, h, 3 * w, QImage.Format.Format_RGB888)
    return QPixmap.fromImage(image).scaled(
        square.size(),
        Qt.AspectRatioMode.KeepAspectRatio,
        Qt.TransformationMode.SmoothTransformation,
    )
