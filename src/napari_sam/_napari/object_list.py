"""The objects of a session: the table of all, and the class of the one at hand."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from napari_sam._napari.state import ObjectRow
from napari_sam.errors import NapariSamError

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_sam._napari.state import Board
    from napari_sam._napari.workers import Jobs
    from napari_sam.core.masks import Bbox
    from napari_sam.core.planes import Plane
    from napari_sam.session import Session


class ObjectList:
    """Shows what the session knows of its objects.

    Parameters
    ----------
    board : Board
    jobs : Jobs
    color : callable
        Gives the colour of an object in the labels, as #rrggbb.
    """

    def __init__(self, board: Board, jobs: Jobs, color: Callable[[int], str]) -> None:
        self.board = board
        self.jobs = jobs
        self._color = color
        self._session: Session | None = None
        self._due = False

    def use(self, session: Session) -> None:
        """Follow a session."""
        self._session = session
        self.look()

    def look(self) -> None:
        """List the objects, once for all changes made in one go."""
        if not self._due:
            self._due = True
            self.jobs.post(self._list)

    def show_class(self) -> None:
        """Show the class of the object at hand."""
        session, object_id = self._session, self.board.state.object_id
        if session is None:
            return
        there = object_id in session.objects
        name = session.objects[object_id].class_name if there else None
        classes = tuple(c.name for c in session.classes.classes)
        self.board.update(class_name=name or "", classes=classes, has_object=there)

    def set_class(self, name: str) -> None:
        """Say of which class the object at hand is; "" for none."""
        session, object_id = self._session, self.board.state.object_id
        if session is None or object_id not in session.objects:
            self.board.say("Segment the object first; then it can have a class.")
            return
        try:
            session.objects[object_id].class_name = name.strip() or None
        except NapariSamError as error:
            self.board.fail(error)
            return
        what = f"is {name.strip()}" if name.strip() else "has no class"
        self.board.say(f"Object {object_id} {what} (Ctrl-Z: undo).")

    def place(self, object_id: int, here: Plane | None) -> tuple[Plane, Bbox] | None:
        """Where an object is: on a plane if it is there, else on its first one."""
        masks = {} if self._session is None else self._session.masks(object_id)
        plane = here if here in masks else next(iter(masks), None)
        return None if plane is None else (plane, masks[plane].bbox)

    def _list(self) -> None:
        self._due = False
        if self._session is not None:
            self.board.update(objects=object_rows(self._session, self._color))
            self.show_class()


def object_rows(session: Session, color: Callable[[int], str]) -> tuple[ObjectRow, ...]:
    """List the objects that something is known of, by id."""
    rows = []
    for object_id, one in sorted(session.objects.items()):
        planes = one.planes.values()
        scores = [r.score for r in planes if r.score is not None]
        how = Counter(str(r.origin) for r in planes).most_common(1)
        rows.append(
            ObjectRow(
                object_id,
                one.color or color(object_id),
                one.class_name or "",
                len(planes),
                max(scores, default=None),
                how[0][0] if how else "",
            )
        )
    return tuple(rows)
