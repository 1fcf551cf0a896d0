"""What is known of objects, as the plain properties that files give a feature."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast, get_args

from napari_sam.core.objects import (
    ClassList,
    ObjectClass,
    ObjectRecord,
    Origin,
    PlaneRecord,
    Review,
)
from napari_sam.core.prompts import Prompts
from napari_sam.errors import NapariSamError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_sam.core.planes import Plane
    from napari_sam.results.results import Results


def object_properties(record: ObjectRecord, classes: ClassList) -> dict[str, Any]:
    """Return what is known of an object as a whole; what is not known is left out.

    Examples
    --------
    >>> object_properties(ObjectRecord(3, class_name="cell"), ClassList())
    {'object_id': 3, 'class': 'cell'}
    """
    known = classes.get(record.class_name)
    found: dict[str, Any] = {
        "object_id": record.id,
        "name": record.name,
        "class": record.class_name,
        "class_color": known and known.color,
        "class_codes": dict(known.codes) if known else None,
        "color": record.color,
        "review": None if record.review == "open" else record.review,
        "note": record.note,
        "parent": record.parent,
    }
    return {k: v for k, v in found.items() if v not in (None, "", {})}


def plane_properties(record: PlaneRecord | None) -> dict[str, Any]:
    """Return what is known of an object on one plane; what is not known is left out."""
    if record is None:
        return {}
    found: dict[str, Any] = {
        "origin": record.origin,
        "predicted_iou": None if record.score is None else round(record.score, 6),
        "doubt": None if record.doubt is None else round(record.doubt, 6),
        "reviewed": record.reviewed or None,
        "prompts": record.prompts and record.prompts.to_json(),
    }
    return {k: v for k, v in found.items() if v is not None}


def feature_properties(
    results: Results, object_id: int, plane: Plane
) -> dict[str, Any]:
    """Return the properties of one object on one plane."""
    record = results.record(object_id)
    return {
        **object_properties(record, results.classes),
        **plane_properties(record.planes.get(plane)),
    }


class RecordReader:
    """Records of objects, put together from the properties of the features read."""

    def __init__(self) -> None:
        self.objects: dict[int, ObjectRecord] = {}
        self._classes: dict[str, ObjectClass] = {}

    @property
    def classes(self) -> ClassList:
        """Classes in the order in which they were met."""
        return ClassList(tuple(self._classes.values()))

    def add_class(self, name: str, color: Any = None, codes: Any = None) -> None:
        """Note a class; what is known of one of that name already stays."""
        old = self._classes.get(name) or ObjectClass(name)
        self._classes[name] = ObjectClass(
            name,
            old.color or _color(color),
            old.codes or _codes(codes),
        )

    def add(self, object_id: int, plane: Plane, given: Mapping[str, Any]) -> None:
        """Take the properties of one object on one plane; unknown ones are left out."""
        self.add_object(object_id, given)
        record = self.objects[object_id]
        planes = {**record.planes, plane: _plane_record(given)}
        self.objects[object_id] = replace(record, planes=planes)

    def add_object(self, object_id: int, given: Mapping[str, Any]) -> None:
        """Take the properties of one object as a whole; unknown ones are left out."""
        record = self.objects.get(object_id) or ObjectRecord(object_id)
        name = _text(given.get("class"))
        if name:
            self.add_class(name, given.get("class_color"), given.get("class_codes"))
        review = given.get("review")
        parent = given.get("parent")
        whole = isinstance(parent, (int, float)) and parent == parent and parent > 0
        self.objects[object_id] = replace(
            record,
            name=_text(given.get("name")) or record.name,
            class_name=name or record.class_name,
            color=_color(given.get("color")) or record.color,
            review=cast("Review", review)
            if review in get_args(Review)
            else record.review,
            note=_text(given.get("note")) or record.note,
            parent=int(cast("float", parent)) if whole else record.parent,
        )


def _plane_record(given: Mapping[str, Any]) -> PlaneRecord:
    origin = given.get("origin")
    return PlaneRecord(
        cast("Origin", origin) if origin in get_args(Origin) else "imported",
        _prompts(given.get("prompts")),
        _share(given.get("predicted_iou")),
        _share(given.get("doubt")),
        given.get("reviewed") is True or given.get("reviewed") == 1,
    )


def _prompts(given: Any) -> Prompts | None:
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            return None
    if not isinstance(given, dict):
        return None
    try:
        return Prompts.from_json(given)
    except (NapariSamError, ValueError, TypeError, LookupError, AttributeError):
        return None  # another program's; the mask is what counts


def _share(given: Any) -> float | None:
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        return None
    return float(given) if abs(given) < 1e9 else None


def _text(given: Any) -> str:
    return given if isinstance(given, str) else ""


def _color(given: Any) -> str | None:
    if isinstance(given, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", given):
        return given
    if isinstance(given, (list, tuple)) and len(given) >= 3:
        if all(isinstance(v, int) and 0 <= v <= 255 for v in given[:3]):
            return "#{:02x}{:02x}{:02x}".format(*given[:3])
    return None


def _codes(given: Any) -> dict[str, str]:
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            return {}
    if not isinstance(given, dict):
        return {}
    return {str(k): str(v) for k, v in given.items()}
