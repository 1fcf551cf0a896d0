"""Objects, their classes, and what is known of them on each plane: values alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_sam.core.planes import Plane
    from napari_sam.core.prompts import Prompts

Rule = Literal["keep", "overwrite"]
"""What a mask does where another object already is."""
Key = tuple[int, "Plane"]
"""An object on a plane."""
Origin = Literal[
    "clicked", "drawn", "painted", "propagated", "interpolated", "suggested", "imported"
]
"""How pixels came to be an object's."""
FOLLOWED: frozenset[Origin] = frozenset({"propagated", "interpolated"})
"""Origins of pixels that no person made: such planes are no key planes."""
DOUBTFUL = 0.3
"""From this doubt on, a plane is shown as doubtful."""
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
