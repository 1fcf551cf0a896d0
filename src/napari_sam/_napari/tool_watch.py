"""Which layer a click on the canvas reaches, and what it does there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_sam._napari.annotation import Annotation
    from napari_sam._napari.state import Board

DRAWING = {"points": "add", "boxes": "add_rectangle"}
"""Mode of our layers in which a click gives a prompt."""


class ToolWatch:
    """Keeps the tool that the panel shows the one that the canvas has.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    board : Board
    """

    def __init__(self, viewer: Any, board: Board) -> None:
        self.viewer = viewer
        self.board = board
        self._annotation: Annotation | None = None
        self._watched: list[Any] = []
        viewer.layers.selection.events.changed.connect(self.look)

    def use(self, annotation: Annotation | None) -> None:
        """Follow the layers of another image, or of none."""
        for layer in self._watched:
            layer.events.mode.disconnect(self.look)
        self._watched = []
        self._annotation = annotation
        self.look()

    def watch(self, layer: Any) -> None:
        """Follow the mode of a layer of ours."""
        layer.events.mode.connect(self.look)
        self._watched.append(layer)

    def close(self) -> None:
        """Stop listening."""
        self.use(None)
        self.viewer.layers.selection.events.changed.disconnect(self.look)

    def look(self, event: Any = None) -> None:
        """Show the tool that is armed, or where clicks go instead."""
        state = self.board.state
        tool, elsewhere = self._found()
        if (tool or state.tool, elsewhere) != (state.tool, state.elsewhere):
            self.board.update(tool=tool or state.tool, elsewhere=elsewhere)

    def _found(self) -> tuple[Any, str]:
        annotation = self._annotation
        if annotation is None:
            return None, ""
        selected = list(self.viewer.layers.selection)
        layers = annotation.layers
        if len(selected) != 1:
            how = "Several layers are" if selected else "No layer is"
            return None, f"{how} selected: clicks give no prompts."
        [layer] = selected
        mode = str(layer.mode)
        for tool, role, ours in (
            ("point", "points", layers.points),
            ("box", "boxes", layers.boxes),
        ):
            if layer is ours:
                drawing = mode == DRAWING[role]
                how = f"The layer tool “{mode}” is on: clicks give no new prompts."
                return tool, "" if drawing else how
        if layer is annotation.writer.layer and mode in ("paint", "erase", "fill"):
            return None, f"You {mode} by hand in “{layer.name}”."
        return None, f"“{layer.name}” is selected: clicks give no prompts there."
