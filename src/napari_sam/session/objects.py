"""The objects of a session, as a person names and sorts them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, get_args

from napari_sam.core.objects import (
    ObjectRecord,
    PlaneRecord,
    Review,
)
from napari_sam.errors import SessionError
from napari_sam.session import edits
from napari_sam.session.class_files import COLOR

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_sam.core.planes import Plane
    from napari_sam.session.document import Document


class Changing(Protocol):
    """What holds a document and makes undoable changes of it: a session."""

    document: Document

    def change(self, make: Callable[[Document], None]) -> None:
        """Make a change as one step, and tell of it."""
        ...


class ObjectHandle:
    """One object: what is set here is an undoable change of its session.

    Examples
    --------
    >>> from napari_sam.session import Session
    >>> from napari_sam.testing import ToyModel, phantom_image
    >>> image = phantom_image()
    >>> session = Session(image.image, ToyModel(), embeddings=False)
    >>> _ = session.segment(object_id=1, points=[image.center(1)])
    >>> session.objects[1].class_name = "nucleus"
    >>> [c.name for c in session.classes.classes], session.undo()
    (['nucleus'], True)
    >>> session.objects[1].class_name is None
    True
    """

    __slots__ = ("_session", "id")

    def __init__(self, session: Changing, object_id: int) -> None:
        self._session = session
        self.id = object_id
        """Value in the labels."""

    @property
    def record(self) -> ObjectRecord:
        """All that is known, as one frozen value."""
        return self._session.document.record(self.id)

    @property
    def planes(self) -> Mapping[Plane, PlaneRecord]:
        """What is known of it on each plane."""
        return self._session.document.planes(self.id)

    @property
    def name(self) -> str:
        """Name; "" for none."""
        return self._about.name

    @name.setter
    def name(self, value: str) -> None:
        self._set(name=value)

    @property
    def class_name(self) -> str | None:
        """Class, or None; a new one joins `Session.classes`."""
        return self._about.class_name

    @class_name.setter
    def class_name(self, value: str | None) -> None:
        self._set(class_name=value)

    @property
    def color(self) -> str | None:
        """``#rrggbb``; None: the class's or the layer's."""
        return self._about.color

    @color.setter
    def color(self, value: str | None) -> None:
        self._set(color=value)

    @property
    def review(self) -> Review:
        """What a person has said of it: open, accepted, rejected or flagged."""
        return self._about.review

    @review.setter
    def review(self, value: Review) -> None:
        self._set(review=value)

    @property
    def note(self) -> str:
        """Free text."""
        return self._about.note

    @note.setter
    def note(self, value: str) -> None:
        self._set(note=value)

    @property
    def parent(self) -> int | None:
        """Object that this one came from, as a daughter cell from its mother."""
        return self._about.parent

    @parent.setter
    def parent(self, value: int | None) -> None:
        about, above = self._session.document.about, value
        while above is not None and above != self.id:
            record = about.get(above)
            above = None if record is None else record.parent
        if above is not None:
            raise SessionError(
                f"object {self.id} cannot come from object {value}, which is itself or "
                "came from it"
            )
        self._set(parent=None if value is None else int(value))

    def set_reviewed(self, plane: Plane, reviewed: bool = True) -> None:
        """Note whether a person has looked at it on a plane.

        Raises
        ------
        SessionError
            If it is not on that plane.
        """
        if plane not in self.planes:
            raise SessionError(
                f"object {self.id} is not on plane {plane.index or 0}: it is on "
                f"{[p.index or 0 for p in self.planes]}"
            )
        self._session.change(lambda d: edits.review(d, (self.id, plane), reviewed))

    def __repr__(self) -> str:
        about = self._about
        named = f" {about.name!r}" if about.name else ""
        kind = f", {about.class_name}" if about.class_name else ""
        return f"<object {self.id}{named}{kind}, {len(self.planes)} plane(s)>"

    @property
    def _about(self) -> ObjectRecord:
        return self._session.document.about.get(self.id) or ObjectRecord(self.id)

    def _set(self, **values: Any) -> None:
        values = checked_values(values)
        (name,) = values
        if getattr(self._about, name) != values[name]:
            self._session.change(lambda d: edits.describe(d, [self.id], **values))


class Objects(Mapping[int, ObjectHandle]):
    """Objects of a session by id: those prompted, painted, imported or described."""

    def __init__(self, session: Changing) -> None:
        self._session = session

    @property
    def _document(self) -> Document:
        return self._session.document

    def __getitem__(self, object_id: int) -> ObjectHandle:
        if object_id not in self:
            raise KeyError(object_id)
        return ObjectHandle(self._session, int(object_id))

    def __contains__(self, object_id: object) -> bool:
        return object_id in self._document.keys or object_id in self._document.about

    def __iter__(self) -> Iterator[int]:
        return iter({**self._document.keys, **self._document.about})

    def __len__(self) -> int:
        return len({**self._document.keys, **self._document.about})

    def __repr__(self) -> str:
        return f"<{len(self)} objects: {', '.join(map(str, sorted(self)))}>"


def checked_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what may be said of an object: name, class, colour, review, note, parent.

    Raises
    ------
    SessionError
        If a value makes no sense.
    """
    out = dict(values)
    for name, value in values.items():
        if name in ("name", "note"):
            out[name] = str(value)
        elif name == "class_name":
            if value is not None and not (isinstance(value, str) and value.strip()):
                raise SessionError(
                    f"a class is named by a text, or None for no class; got {value!r}"
                )
        elif name == "color":
            if value is not None and not COLOR.fullmatch(str(value)):
                raise SessionError(f"a colour is #rrggbb, or None; got {value!r}")
        elif name == "review":
            if value not in get_args(Review):
                raise SessionError(
                    f"review is one of {', '.join(get_args(Review))}; got {value!r}"
                )
        elif name != "parent":
            raise SessionError(
                f"an object has no {name!r}: it has a name, class_name, color, review "
                "and note"
            )
    return out
