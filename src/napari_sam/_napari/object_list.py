"""The objects of a session: the table of all, and the class of the one at hand."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING

from napari_sam._napari.state import ObjectRow

if TYPE_CHECKING:
    from napari_sam._napari.state import Board
    from napari_sam._napari.workers import Jobs
    from napari_sam.core.masks import Bbox
    from napari_sam.core.planes import Plane
    from napari_sam.session import Session


AT_ONCE = 2000
"""Objects looked at in one go; clicks come in between."""


class ObjectList:
    """Shows what the session knows of its objects.

    Only objects that changed are looked at again: there may be tens of thousands.

    Parameters
    ----------
    board : Board
    jobs : Jobs
    """

    def __init__(self, board: Board, jobs: Jobs) -> None:
        self.board = board
        self.jobs = jobs
        self._session: Session | None = None
        self._rows: dict[int, ObjectRow] = {}
        self._seen = 0
        self._due = False
        self._todo: dict[int, None] = {}

    def use(self, session: Session) -> None:
        """Follow a session."""
        self._session = session
        self._rows, self._seen, self._todo = {}, 0, {}
        self.look()

    def look(self) -> None:
        """List the objects, once for all changes made in one go."""
        if not self._due:
            self._due = True
            self.jobs.post(self._list)

    def show_class(self) -> None:
        """Show the class that the object at hand has, or will have."""
        session, object_id = self._session, self.board.state.object_id
        if session is None:
            return
        there = object_id in session.objects
        named = session.objects[object_id].class_name if there else session.class_of_new
        self.board.update(class_name=named or "")

    def place(self, object_id: int, here: Plane | None) -> tuple[Plane, Bbox] | None:
        """Where an object is: on a plane if it is there, else on its first one."""
        masks = {} if self._session is None else self._session.masks(object_id)
        plane = here if here in masks else next(iter(masks), None)
        return None if plane is None else (plane, masks[plane].bbox)

    def plane(self, object_id: int, here: Plane | None) -> Plane | None:
        """A plane that an object is on: this one if it is there, else its first."""
        session = self._session
        planes = {} if session is None else session.document.planes(object_id)
        return here if here in planes else next(iter(planes), None)

    def _list(self) -> None:
        self._due = False
        session = self._session
        if session is None:
            return
        document = session.document
        self._todo |= dict.fromkeys(document.changed_since(self._seen))
        self._seen = document.revision
        now = list(islice(self._todo, AT_ONCE))
        for object_id in now:
            del self._todo[object_id]
            if object_id in session.objects:
                self._rows[object_id] = row_of(session, object_id)
            else:
                self._rows.pop(object_id, None)
        if self._todo:
            self.look()
        elif now or len(self._rows) != len(self.board.state.objects):
            if list(self._rows) != sorted(self._rows):
                self._rows = dict(sorted(self._rows.items()))
            self.board.update(objects=tuple(self._rows.values()))
        self.show_class()


def row_of(session: Session, object_id: int) -> ObjectRow:
    """Say in a row what is known of an object."""
    document = session.document
    planes = document.planes(object_id).values()
    about = document.about.get(object_id)
    how = Counter(str(p.origin) for p in planes).most_common(1)
    return ObjectRow(
        object_id,
        (about and about.color) or "",
        (about and about.class_name) or "",
        about.review if about else "open",
        max((p.doubt for p in planes if p.doubt is not None), default=None),
        len(planes),
        max((p.score for p in planes if p.score is not None), default=None),
        how[0][0] if how else "",
        (about and about.note) or "",
    )
