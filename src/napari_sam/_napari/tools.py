"""The armed tool: chosen here or in napari, and what a click on the canvas reaches."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from napari_sam._napari.drawn import SIGNED, TOOLS, tool_of, usable

if TYPE_CHECKING:
    from napari_sam._napari.annotation import Annotation
    from napari_sam._napari.drawn import Tool
    from napari_sam._napari.state import Board


class Tools:
    """Arms tools, and keeps the one that the panel shows the one that the canvas has.

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
        self.box = partial(self.arm, "box")
        self.polygon = partial(self.arm, "polygon")
        self.lasso = partial(self.arm, "lasso")
        self.scribble = partial(self.arm, "scribble")
        self.path = partial(self.arm, "path")
        self.split = partial(self.arm, "split")
        self.merge = partial(self.arm, "merge")
        viewer.layers.selection.events.changed.connect(self.look)

    def arm(self, tool: Tool, polarity: int = 1) -> None:
        """Choose what a click on the canvas means.

        A tool that the model knows nothing of gives way to the box.

        Parameters
        ----------
        tool : Tool
        polarity : int
            Of points and scribbles: 1 = in the object, 0 = not in it.
        """
        kinds = self.board.state.kinds
        if tool not in usable(kinds) or (not polarity and "points" not in kinds):
            self.board.say("This model takes no points: drag a box or an outline.")
            tool, polarity = "box", 1
        self.board.update(tool=tool, polarity=polarity)
        if self._annotation is not None:
            self._annotation.layers.arm(tool)
            self._annotation.layers.set_polarity(polarity)

    def point(self) -> None:
        """Arm the point tool, with + points."""
        self.arm("point")

    def toggle_polarity(self) -> None:
        """Switch between + and -, of points or of scribbles."""
        state = self.board.state
        if state.tool in SIGNED:
            self.arm(state.tool, 1 - state.polarity)
        else:
            self.arm("point", 0)

    def set_kinds(self, kinds: frozenset[str]) -> None:
        """Offer the tools that a model can be told with."""
        state = self.board.state
        self.board.update(kinds=kinds)
        if state.tool not in usable(kinds) or not state.polarity:
            self.arm(state.tool, state.polarity)

    # -- what the canvas has ---------------------------------------------------------

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
        if tool is not None and self._annotation is not None:
            self._annotation.layers.tool = tool
        if (tool or state.tool, elsewhere) != (state.tool, state.elsewhere):
            self.board.update(tool=tool or state.tool, elsewhere=elsewhere)

    def _found(self) -> tuple[Tool | None, str]:
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
        how = f"The layer tool “{mode}” is on: clicks give no new prompts."
        if layer is layers.points:
            kept = TOOLS[layers.tool].role == "points"
            tool: Tool = layers.tool if kept else "point"
            return tool, "" if mode == TOOLS[tool].mode else how
        if layer is layers.shapes:
            drawing = tool_of(mode)
            kept = TOOLS[layers.tool].role == "shapes"
            return drawing or (layers.tool if kept else "box"), "" if drawing else how
        if layer is annotation.writer.layer and mode in ("paint", "erase", "fill"):
            return None, f"You {mode} by hand in “{layer.name}”."
        return None, f"“{layer.name}” is selected: clicks give no prompts there."
