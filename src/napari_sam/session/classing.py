"""The list of classes: what becomes of objects when it changes."""

from __future__ import annotations

from dataclasses import replace

from napari_sam.core.objects import ClassList, ObjectClass
from napari_sam.errors import SessionError
from napari_sam.session import edits
from napari_sam.session.class_files import checked_classes
from napari_sam.session.guessing import Guessing


class Classing(Guessing):
    """What is done with classes; the part of `Session` for them.

    `classes` is the list; `objects[1].class_name` and `describe` give objects a class.
    """

    @property
    def class_of_new(self) -> str | None:
        """Class that objects get with their first mask, in the same undo step; or None.

        Setting one that the list lacks adds it. It is a choice of the person at work,
        not kept with the session.
        """
        return self.document.class_of_new

    @class_of_new.setter
    def class_of_new(self, name: str | None) -> None:
        if name is not None and self.classes.get(name) is None:
            self.classes = ClassList((*self.classes.classes, ObjectClass(name)))
        self.document.class_of_new = name

    def change_class(self, name: str, new: ObjectClass | None) -> int:
        """Replace a class of the list, or remove it, as one undoable change.

        Parameters
        ----------
        name : str
            A class of the list.
        new : ObjectClass or None
            Name, colour and codes from now on; objects of the class go along. None
            removes it: its objects have no class then.

        Returns
        -------
        int
            How many objects were of the class.

        Raises
        ------
        SessionError
            If there is no such class, or one of the new name is there already.

        Examples
        --------
        >>> from napari_sam.core.objects import ObjectClass
        >>> from napari_sam.session import Session
        >>> from napari_sam.testing import ToyModel, phantom_image
        >>> image = phantom_image()
        >>> session = Session(image.image, ToyModel(), embeddings=False)
        >>> session.class_of_new = "nucleus"
        >>> _ = session.segment(1, points=[image.center(1)])
        >>> session.change_class("nucleus", ObjectClass("lymphocyte", "#ff8800"))
        1
        >>> session.objects[1].class_name
        'lymphocyte'
        """
        found = self.classes.get(name)
        if found is None:
            names = ", ".join(c.name for c in self.classes.classes) or "none"
            raise SessionError(f"there is no class {name!r}; there are: {names}")
        held = self.classes.classes
        if new is None:
            classes = ClassList(tuple(c for c in held if c is not found))
        else:
            new = replace(new, name=new.name.strip())
            classes = ClassList(tuple(new if c is found else c for c in held))
        checked_classes(classes)
        to = None if new is None else new.name
        renamed = {} if to == name else {name: to}
        about = self.document.about.values()
        count = sum(record.class_name == name for record in about)
        self.change(lambda d: edits.set_classes(d, classes, renamed))
        if self.class_of_new == name:
            self.document.class_of_new = to
        return count
