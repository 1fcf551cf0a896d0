"""One set of objects, seen as instances, as classes, or as both."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal, cast, get_args

from napari_sam.core.objects import ClassList, ObjectClass, ObjectRecord
from napari_sam.errors import ExportError
from napari_sam.results.renumbered import Renumbered, object_ids

if TYPE_CHECKING:
    from napari_sam.results.results import Results

View = Literal["instance", "semantic", "panoptic"]
"""What a value in labels says: which object, of which class, or both."""
NO_CLASS = "object"
"""Class of objects that have none, where each must have one."""
DIVISOR = 1000
"""Panoptic values are class number x divisor + number within the class (Kirillov et
al., "Panoptic Segmentation", CVPR 2019); ten times as large where a class has more."""


def seen_as(results: Results, view: View) -> Results:
    """Return results whose labels say something else of the same objects.

    Parameters
    ----------
    results : Results
    view : {"instance", "semantic", "panoptic"}
        "instance": as they are, a value an object. "semantic": a value is the number
        of a class in the list, from 1; objects without a class get the number after
        the last, as class "object". "panoptic": class number x 1000 + number of the
        object within its class (x 10 000 where a class has more than 999, and so on).

    Returns
    -------
    Results
        Its records are those of the new values, its notes say what a number means.

    Raises
    ------
    ExportError
        If there is no such view, or a value would not fit into 32 bits.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_sam.results.results import Results
    >>> from napari_sam.volume.opening import open_volume
    >>> labels = np.array([[0, 5, 7, 9]], np.uint16)
    >>> cells = ClassList((ObjectClass("cell"), ObjectClass("debris")))
    >>> kinds = {5: "debris", 7: "cell", 9: "debris"}
    >>> records = {i: ObjectRecord(i, class_name=k) for i, k in kinds.items()}
    >>> results = Results(labels, open_volume(labels), records, cells)
    >>> np.asarray(seen_as(results, "semantic").labels).tolist()
    [[0, 2, 1, 2]]
    >>> np.asarray(seen_as(results, "panoptic").labels).tolist()
    [[0, 2001, 1001, 2002]]
    """
    if view_of(view) == "instance":
        return results
    ids = object_ids(results.labels)
    classes = _classes(results, ids)
    number = {c.name: n for n, c in enumerate(classes.classes, 1)}
    kinds = {i: results.record(i).class_name or NO_CLASS for i in ids}
    if view == "semantic":
        new = {i: number[kind] for i, kind in kinds.items()}
        objects = {
            number[c.name]: ObjectRecord(
                number[c.name], c.name, class_name=c.name, color=c.color
            )
            for c in classes.classes
        }
        told = ", ".join(f"{n} {name}" for name, n in number.items())
        note = f"values are classes: {told}"
    else:
        new, divisor = _panoptic(kinds, number)
        objects = {
            new[i]: replace(
                results.record(i), id=new[i], class_name=kind,
                parent=new.get(results.record(i).parent or 0),
            )
            for i, kind in kinds.items()
        }  # fmt: skip
        told = ", ".join(f"{n} {name}" for name, n in number.items())
        note = f"values are class x {divisor} + object; classes: {told}"
    notes = (*results.notes, note) if ids else results.notes
    labels = Renumbered(results.labels, new)
    return replace(
        results, labels=labels, objects=objects, classes=classes, notes=notes
    )


def view_of(name: str) -> View:
    """Return the view of a name.

    Raises
    ------
    ExportError
        If there is none.
    """
    if name not in get_args(View):
        raise ExportError(f"view is one of {', '.join(get_args(View))}; got {name!r}")
    return cast("View", name)


def _classes(results: Results, ids: list[int]) -> ClassList:
    """Classes of the list, and those that objects have and it lacks."""
    known = {c.name: c for c in results.classes.classes}
    for i in ids:
        name = results.record(i).class_name or NO_CLASS
        known.setdefault(name, ObjectClass(name))
    return ClassList(tuple(known.values()))


def _panoptic(
    kinds: dict[int, str], number: dict[str, int]
) -> tuple[dict[int, int], int]:
    within: dict[str, int] = dict.fromkeys(number, 0)
    place = {}
    for i, kind in kinds.items():
        within[kind] += 1
        place[i] = within[kind]
    divisor = DIVISOR
    while max(within.values(), default=0) >= divisor:
        divisor *= 10
    new = {i: number[kind] * divisor + place[i] for i, kind in kinds.items()}
    if max(new.values(), default=0) >= 2**32:
        raise ExportError(
            f"{len(number)} classes of up to {max(within.values())} objects do not fit "
            'into 32 bits: write the view "instance" or "semantic"'
        )
    return new, divisor
