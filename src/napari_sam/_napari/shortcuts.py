"""Keys, bound on our layers and the image only: no other layer or plugin loses one."""

from __future__ import annotations

from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ANYWHERE = {
    "T": "tools.toggle_polarity",
    "P": "tools.point",
    "B": "tools.box",
    "G": "tools.polygon",
    "L": "tools.lasso",
    "S": "tools.scribble",
    "H": "tools.path",
    "W": "tools.split",
    "M": "tools.merge",
    "E": "reshaping.refine",
    "PageDown": "image_list.next",
    "PageUp": "image_list.previous",
}
"""Keys on our layers and on the image: wherever one is, they lead back to prompts, or
on to another image. In a Labels layer P is napari's brush; its key 2 still is."""
ON_ALL = {
    **ANYWHERE,
    "N": "new_object",
    "C": "next_candidate",
    "Control-Z": "undo",
    "Control-Shift-Z": "redo",
    ".": "review.next",
    ",": "review.previous",
    "Y": "reviewing.accept",
    "R": "reviewing.reject",
    "J": "reviewing.next_object",
    "K": "reviewing.previous_object",
    "X": "classes.next_class",
    "D": "following.next_doubtful",
    "O": "following.set_reviewed",
    "U": "time.next_check",
    "A": "time.mark",
    "Q": "time.link",
    "I": "time.cut",
}
"""Keys on our prompt layers, and the controller's methods."""
ON_LABELS = {key: name for key, name in ON_ALL.items() if key not in "ELM"}
"""Keys on our Labels layer: E, L and M stay napari's eraser, picker and new label."""

CLASSES = tuple(f"Alt-{n}" for n in range(1, 10))
"""Keys that give the object at hand the class of that number, on our layers and on the
image. Digits alone are napari's tools there; in the table of objects they are ours."""


def bind(layer: Any, actions: Any, keys: Mapping[str, str] = ON_ALL) -> None:
    """Bind keys on a layer of ours, or on the image, to methods of `actions`."""
    for key, name in keys.items():
        layer.bind_key(key, _call(attrgetter(name)(actions)), overwrite=True)
    for number, key in enumerate(CLASSES, 1):
        call = partial(actions.classes.set_number, number)
        layer.bind_key(key, _call(call), overwrite=True)


def unbind(layer: Any, keys: Mapping[str, str] = ON_ALL) -> None:
    """Take the keys off again."""
    for key in (*keys, *CLASSES):
        layer.bind_key(key, None)


def _call(action: Callable[[], None]) -> Callable[[Any], None]:
    def pressed(layer: Any) -> None:
        action()

    return pressed
