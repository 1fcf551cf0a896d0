"""Object states and the undo history: every change of labels and prompts, as values."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_sam.core.masks import Bbox, LabelPatch, union_bbox

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_sam.core.planes import Plane
    from napari_sam.core.prompts import Prompts

Kind = Literal["segment", "choose", "paint", "delete"]
"""What made a change."""
Rule = Literal["keep", "overwrite"]
"""What a mask does where another object already is."""


@dataclass(frozen=True, slots=True, eq=False)
class Applied:
    """Pixels that an object's mask took, and what lay beneath them."""

    bbox: Bbox
    written: np.ndarray
    """(h, w) bool: pixels the mask turned into the object."""
    beneath: np.ndarray
    """(h, w) unsigned: labels before, in the whole bbox."""


@dataclass(frozen=True, slots=True, eq=False)
class ObjectState:
    """One object on one plane: what was said, and what came of it."""

    object_id: int
    plane: Plane
    prompts: Prompts
    choices: tuple[int, ...]
    """Candidate taken at each step of the prompts."""
    scores: tuple[float, ...]
    """Predicted IoU of each candidate, best first."""
    applied: Applied

    @property
    def chosen(self) -> int:
        """Index of the candidate in force."""
        return self.choices[-1]


Key = tuple[int, "Plane"]
"""An object on a plane."""


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """One undoable step."""

    kind: Kind
    patches: tuple[LabelPatch, ...]
    before: dict[Key, ObjectState] = field(default_factory=dict)
    """States of the touched objects before; a missing key had none."""
    after: dict[Key, ObjectState] = field(default_factory=dict)
    """States after; a missing key has none."""

    @property
    def keys(self) -> set[Key]:
        """Objects and planes whose state this changes."""
        return set(self.before) | set(self.after)

    def reversed(self) -> Change:
        """Return the change that takes this one back."""
        patches = tuple(p.reversed() for p in reversed(self.patches))
        return replace(self, patches=patches, before=self.after, after=self.before)


def lay_mask(
    labels: np.ndarray,
    origin: tuple[int, int],
    mask: np.ndarray | None,
    bbox: Bbox,
    object_id: int,
    old: Applied | None,
    rule: Rule,
) -> tuple[np.ndarray, Applied]:
    """Replace an object's former mask by a new one in a crop of the labels.

    The former mask's pixels get back what lay beneath them, except where they have
    been painted since. The new mask then takes free pixels, and with the rule
    "overwrite" also those of other objects.

    Parameters
    ----------
    labels : ndarray, (H, W), unsigned
        Labels of the crop, which holds the old and the new bbox; not changed.
    origin : tuple of int
        (y, x) of the crop's first pixel on the plane.
    mask : ndarray, (h, w), bool, optional
        New mask; None to only remove.
    bbox : tuple of int
        Where it lies on the plane, half-open.
    object_id : int
    old : Applied, optional
    rule : {"keep", "overwrite"}

    Returns
    -------
    after : ndarray, (H, W)
        New labels of the crop.
    applied : Applied
    """
    after = labels.copy()
    if old is not None:
        there = _view(after, origin, old.bbox)
        restore = old.written & (there == object_id)
        there[restore] = old.beneath[restore]
    if mask is None or not mask.size:
        nothing = np.zeros((0, 0), bool)
        return after, Applied((0, 0, 0, 0), nothing, nothing.astype(labels.dtype))
    place = _view(after, origin, bbox)
    beneath = place.copy()
    written = mask & (beneath != object_id)
    if rule == "keep":
        written &= beneath == 0
    place[written] = object_id
    return after, Applied(bbox, written, beneath)


def differing_patch(
    plane: Plane, origin: tuple[int, int], before: np.ndarray, after: np.ndarray
) -> LabelPatch | None:
    """Return the smallest patch from one crop at `origin` to another, or None."""
    differs = before != after
    rows, cols = np.flatnonzero(differs.any(1)), np.flatnonzero(differs.any(0))
    if not rows.size:
        return None
    y0, y1, x0, x1 = int(rows[0]), int(rows[-1]) + 1, int(cols[0]), int(cols[-1]) + 1
    bbox: Bbox = (origin[0] + y0, origin[1] + x0, origin[0] + y1, origin[1] + x1)
    part = np.s_[y0:y1, x0:x1]
    return LabelPatch(plane, bbox, before[part].copy(), after[part].copy())


def touched(old: Applied | None, bbox: Bbox) -> Bbox:
    """Box that holds a former mask and a new one."""
    return bbox if old is None else union_bbox(old.bbox, bbox)


def _view(crop: np.ndarray, origin: tuple[int, int], bbox: Bbox) -> np.ndarray:
    y0, x0, y1, x1 = bbox
    return crop[y0 - origin[0] : y1 - origin[0], x0 - origin[1] : x1 - origin[1]]


Origin = Literal[
    "clicked", "drawn", "painted", "propagated", "interpolated", "suggested", "imported"
]
"""How pixels came to be an object's."""
Review = Literal["open", "accepted", "rejected", "flagged"]
"""What a person has said of an object."""


@dataclass(frozen=True, slots=True)
class ObjectClass:
    """One class that objects can have."""

    name: str
    color: str | None = None
    """``#rrggbb``; None: any."""
    codes: Mapping[str, str] = field(default_factory=dict)
    """Codes by scheme, as {"SCT": "10200004", "UBERON": "0002107"}; may be empty."""


@dataclass(frozen=True, slots=True)
class ClassList:
    """The classes of a piece of work, in the order of their keys 1 to 9."""

    classes: tuple[ObjectClass, ...] = ()

    def get(self, name: str | None) -> ObjectClass | None:
        """Return the class of a name, or None."""
        return next((c for c in self.classes if c.name == name), None)


@dataclass(frozen=True, slots=True, eq=False)
class PlaneRecord:
    """One object on one plane: what was said, and how its pixels came."""

    origin: Origin
    prompts: Prompts | None = None
    """None where nothing was prompted: painted, imported, interpolated."""
    score: float | None = None
    """Predicted IoU of the mask in force, about 0..1."""
    doubt: float | None = None
    """0 (sure) to 1."""
    reviewed: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class ObjectRecord:
    """One object: who it is, and what is known of it on each plane."""

    id: int
    """Value in the labels, 1 or more."""
    name: str = ""
    class_name: str | None = None
    color: str | None = None
    """``#rrggbb``; None: the class's or the layer's."""
    review: Review = "open"
    note: str = ""
    parent: int | None = None
    """Id of the object this one came from, as a daughter cell from its mother."""
    planes: Mapping[Plane, PlaneRecord] = field(default_factory=dict)
