"""The armed tool: chosen here or in napari, and what a click on the canvas reaches."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from napari_sam._napari.drawn import SIGNED, TOOLS, tool_of, usable
from napari_sam._napari.plane_view import shown_plane
from napari_sam._napari.state import as_sentence
from napari_sam.errors import NapariSamError

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
        self._was_out_of_view = ""
        self.box = partial(self.arm, "box")
        self.polygon = partial(self.arm, "polygon")
        self.lasso = partial(self.arm, "lasso")
        self.scribble = partial(self.arm, "scribble")
        self.path = partial(self.arm, "path")
        self.split = partial(self.arm, "split")
        self.merge = partial(self.arm, "merge")
        viewer.layers.selection.events.changed.connect(self.look)

    def arm(self, tool: Tool, polarity: int = 1) -> None:
        """Choose what a click on the canvas means; the view becomes 2-D for it.

        A tool that the model knows nothing of gives way to the box.

        Parameters
        ----------
        tool : Tool
        polarity : int
            Of points and scribbles: 1 = in the object, 0 = not in it.
        """
        self.viewer.dims.ndisplay = 2
        self._arm(tool, polarity)

    def start(self) -> None:
        """Arm the tool that was armed, whatever the view shows."""
        self._arm(self.board.state.tool, self.board.state.polarity)

    def _arm(self, tool: Tool, polarity: int) -> None:
        kinds = self.board.state.kinds
        if tool not in usable(kinds) or (not polarity and "points" not in kinds):
            self.board.say("This model takes no points: drag a box or an outline.")
            tool, polarity = "box", 1
        self.board.update(tool=tool, polarity=polarity)
        if self._annotation is not None:
            self._annotation.layers.arm(tool)
            self._annotation.layers.set_polarity(polarity)
            self.look()  # a layer that is selected already tells of nothing

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
            self.start()

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
        before, out_of_view = self._was_out_of_view, self._out_of_view()
        self._was_out_of_view = out_of_view
        if before and not out_of_view and state.status_kind == "error":
            self.board.say("")  # a click that could not be answered there
        elsewhere = out_of_view or elsewhere
        stuck = bool(out_of_view) and self.viewer.dims.ndisplay == 2
        shown = {"tool": tool or state.tool, "elsewhere": elsewhere, "stuck": stuck}
        if any(getattr(state, name) != value for name, value in shown.items()):
            self.board.update(**shown)

    def _out_of_view(self) -> str:
        """Why no plane of the image is shown; "" where one is."""
        annotation = self._annotation
        if annotation is None or annotation.image not in self.viewer.layers:
            return ""
        try:
            shape = annotation.volume.shape
            shown_plane(self.viewer.dims, annotation.image, shape)
        except NapariSamError as error:
            return f"{as_sentence(str(error))}."
        return ""

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
