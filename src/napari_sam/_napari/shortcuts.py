"""Keys, bound on our own layers only, so that no other layer or plugin loses one."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ON_ALL = {
    "N": "new_object",
    "C": "next_candidate",
    "Control-Z": "undo",
    "Control-Shift-Z": "redo",
    ".": "review.next",
    ",": "review.previous",
    "Y": "review.accept",
    "R": "review.reject",
}
"""Keys on our prompt layers and our Labels layer, and the controller's methods."""
ON_PROMPTS = {"T": "toggle_polarity", "P": "arm_point", "B": "arm_box"}
"""Keys on our prompt layers; in a Labels layer P and B are napari's own tools."""


def bind(layer: Any, actions: Any, *, prompts: bool) -> None:
    """Bind the keys of one of our layers to methods of `actions`."""
    for key, name in _keys(prompts=prompts).items():
        layer.bind_key(key, _call(attrgetter(name)(actions)), overwrite=True)


def unbind(layer: Any, *, prompts: bool) -> None:
    """Take the keys off again."""
    for key in _keys(prompts=prompts):
        layer.bind_key(key, None)


def _keys(*, prompts: bool) -> Mapping[str, str]:
    return {**ON_ALL, **ON_PROMPTS} if prompts else ON_ALL


def _call(action: Callable[[], None]) -> Callable[[Any], None]:
    def pressed(layer: Any) -> None:
        action()

    return pressed
