"""The objects of a session: their states, the requests under way, and the history."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_sam.errors import PromptError
from napari_sam.session.codec import History, decode_change, encode_change

if TYPE_CHECKING:
    from napari_sam.core.objects import Change, Key, ObjectState
    from napari_sam.core.planes import Plane
    from napari_sam.engine.prediction import Prediction


class Ledger:
    """What is known of every object, and how it came about; holds no pixels."""

    def __init__(self) -> None:
        self.states: dict[Key, ObjectState] = {}
        self.predictions: dict[Key, Prediction] = {}
        """Candidates and logits of states, where they are in memory."""
        self.planes: dict[int, set[Plane]] = {}
        """Planes on which each object was ever touched."""
        self.history = History()
        self.last: Key | None = None
        """Object and plane segmented last."""
        self.sharpening: tuple[Key, int] | None = None
        """Request whose answer was the last change: a sharper one may replace it."""
        self._generations: dict[Key, int] = {}

    def state(self, key: Key) -> ObjectState:
        """Return what is known of an object on a plane.

        Raises
        ------
        PromptError
            If nothing was said of it there.
        """
        if key not in self.states:
            raise PromptError(
                f"object {key[0]} has no prompts on plane {key[1].index or 0}: "
                "segment it there first"
            )
        return self.states[key]

    def supersede(self, key: Key) -> int:
        """Make every request under way for an object and plane stale; count it."""
        self._generations[key] = self._generations.get(key, 0) + 1
        return self._generations[key]

    def supersede_all(self) -> None:
        """Make every request under way stale, and forget candidates and logits."""
        for key in self._generations:
            self._generations[key] += 1
        self.predictions.clear()

    def is_current(self, key: Key, generation: int) -> bool:
        """Whether a request is the latest for its object and plane."""
        return self._generations.get(key) == generation

    def touch(self, object_id: int, plane: Plane) -> None:
        """Note that an object has pixels on a plane."""
        self.planes.setdefault(object_id, set()).add(plane)

    def commit(self, change: Change) -> bytes:
        """Take a new change into the states and the history; return it encoded."""
        line = encode_change(change)
        self._take(change)
        self.history.push(line)
        self.sharpening = None
        return line

    def step(self, kind: str) -> Change | None:
        """Undo or redo in the states; return the change whose patches to apply."""
        change = self.history.undo() if kind == "undo" else self.history.redo()
        self.sharpening = None
        if change is not None:
            self._take(change)
            for key in change.keys:
                self.supersede(key)
                self.predictions.pop(key, None)
        return change

    def take_back(self) -> Change:
        """Undo the last change to put a better one there; requests stay valid."""
        change = self.history.undo()
        assert change is not None
        self._take(change)
        return change

    def replay(self, kind: str, line: bytes | None) -> Change | None:
        """Take one saved line; return the change whose patches to apply."""
        if line is None:
            return self.step(kind)
        change = decode_change(line)
        self._take(change)
        self.history.push(line)
        return change

    def _take(self, change: Change) -> None:
        for key in change.before:
            self.states.pop(key, None)
        self.states.update(change.after)
        for key in change.after:
            self.touch(*key)
            self.last = key
