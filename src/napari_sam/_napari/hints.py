"""What to do next: it follows from the tool, the layer selected and the last answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

_TOOLS = {
    "box": "Drag a box around an object. P: points, N: next object.",
    "polygon": "Click corners around an object; a double click ends it. P: points.",
    "lasso": "Drag around an object. P: points, N: next object.",
    "path": "Click along a thin object; a double click ends it. P: points.",
    "split": "Click in one part of an object, then in its other part. P: points.",
    "merge": "Click on what is to be part of the object at hand. P: points.",
}
"""What a click does, by tool."""
_SLIPS = {
    "box": "Hold the mouse button and drag: a box has corners.",
    "polygon": "An outline needs three corners; a double click ends it.",
    "lasso": "Hold the mouse button and drag around the object.",
    "path": "A path needs two places; a double click ends it.",
    "scribble": "Hold the mouse button and drag through the object.",
}
TOLD = 0.005
"""Share of a mask left out that is worth a word."""
POOR, FAIR = 0.5, 0.8
"""Predicted IoU below which a mask is probably wrong, and below which it may be."""


class Situation(Protocol):
    """What a hint follows from; `PanelState` is one."""

    @property
    def image(self) -> int:
        """Index of the image in use; -1 for none."""

    @property
    def elsewhere(self) -> str:
        """Where clicks go when they give no prompts; "" when they do."""

    @property
    def stuck(self) -> bool:
        """Whether no tool leads back to prompts."""

    @property
    def tool(self) -> str:
        """The armed tool."""

    @property
    def polarity(self) -> int:
        """1 for points that add, 0 for those that take away."""

    @property
    def thumbnails(self) -> Sequence[Any]:
        """Candidates on show."""


def hint(state: Situation) -> str:
    """Say what a click does now, or how to get to where it does something.

    Examples
    --------
    >>> from napari_sam._napari.state import PanelState
    >>> hint(PanelState(image=0))
    'Click on an object. B: box, T: − points, N: next object.'
    >>> hint(PanelState(image=0, elsewhere="masks"))
    '+ Point (P) goes back to prompts.'
    """
    if state.image < 0:
        return (
            "Open an image: File › Open, or File › Open Sample › napari-sam. The "
            "panel goes to work on it by itself."
        )
    if state.stuck:
        return ""
    if state.elsewhere:
        return "+ Point (P) goes back to prompts."
    if state.tool in _TOOLS:
        return _TOOLS[state.tool]
    if state.tool == "scribble":
        if not state.polarity:
            return "Drag through what does not belong to it. S: + scribbles again."
        return "Drag a stroke through an object. T: − scribbles, P: points."
    if not state.polarity:
        return "Click on what does not belong to the object. T: + points again."
    if state.thumbnails:
        another = "C: another mask, " if len(state.thumbnails) > 1 else ""
        return (
            "Click to add a part, T and click to take one away. "
            f"{another}N: next object."
        )
    return "Click on an object. B: box, T: − points, N: next object."


def slip(state: Situation) -> str:
    """Say how to use a tool with which nothing was drawn.

    Examples
    --------
    >>> from napari_sam._napari.state import PanelState
    >>> slip(PanelState(tool="path"))
    'A path needs two places; a double click ends it.'
    """
    return _SLIPS.get(state.tool, "Nothing was drawn.")


def score(object_id: int, predicted_iou: float, left_out: float = 0.0) -> str:
    """Say how good the model thinks its mask is, and how much of it is not shown.

    Parameters
    ----------
    object_id : int
    predicted_iou : float
        Of the whole mask.
    left_out : float
        Share of the mask where another object is kept.

    Examples
    --------
    >>> score(3, 0.24)
    'Object 3: score 0.24: probably wrong, add a point.'
    >>> score(2, 0.9, 0.31)
    'Object 2: score 0.90; 31 % of it is left out, where other objects are.'
    """
    said = f"Object {object_id}: score {predicted_iou:.2f}"
    if left_out >= TOLD:
        said += f"; {100 * left_out:.0f} % of it is left out, where other objects are"
    if predicted_iou < POOR:
        return f"{said}: probably wrong, add a point."
    return f"{said}: look closely." if predicted_iou < FAIR else f"{said}."
