"""Lists of classes as files, to be shared; and what a list of classes must be."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sam.core.atomic_files import write_whole
from napari_sam.core.objects import ClassList, ObjectClass
from napari_sam.errors import SessionError

if TYPE_CHECKING:
    import os

COLOR = re.compile(r"#[0-9a-fA-F]{6}")


def write_classes(path: str | os.PathLike[str], classes: ClassList) -> None:
    """Write a list of classes as JSON, to be shared.

    Raises
    ------
    ExportError
        If it cannot be written.
    """
    data = {"napari_sam_classes": 1, "classes": [asdict(c) for c in classes.classes]}
    write_whole(path, json.dumps(data, indent=1, ensure_ascii=False).encode())


def read_classes(path: str | os.PathLike[str]) -> ClassList:
    """Read what `write_classes` wrote, or the categories of a COCO file.

    COCO's categories keep their order by id, and ``color`` where they have one, as
    "#rrggbb" or [r, g, b].

    Raises
    ------
    SessionError
        If it is no list of classes, or one of them makes no sense.
    """
    try:
        data = json.loads(Path(path).expanduser().read_text("utf-8"))
        given = data["categories"] if "categories" in data else data["classes"]
        ours = "categories" not in data
        if not isinstance(given, list) or (ours and data["napari_sam_classes"] != 1):
            raise ValueError("another version")
        if not ours:
            kinds = (c for c in given if not c.get("unclassified"))
            given = [_category(c) for c in sorted(kinds, key=lambda c: int(c["id"]))]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise SessionError(
            f"{str(path)!r} is no list of classes ({error!r}): expected a JSON file "
            "that napari-sam wrote, or one with COCO's categories"
        ) from error
    return checked_classes(ClassList(tuple(_class(c, path) for c in given)))


def checked_classes(classes: ClassList) -> ClassList:
    """Return a list of classes that makes sense.

    Raises
    ------
    SessionError
        If a name is empty or there twice, or a colour is not #rrggbb.
    """
    names = [c.name for c in classes.classes]
    for c in classes.classes:
        if not isinstance(c.name, str) or not c.name.strip() or names.count(c.name) > 1:
            raise SessionError(f"classes have names of their own; got {names}")
        if c.color is not None and not COLOR.fullmatch(str(c.color)):
            raise SessionError(
                f"the colour of class {c.name!r} is #rrggbb or null; got {c.color!r}"
            )
    return classes


def _category(value: Any) -> dict[str, Any]:
    color = value.get("color")
    if isinstance(color, list) and len(color) == 3:
        color = "#{:02x}{:02x}{:02x}".format(*color)
    codes = value.get("codes") or {}
    return {"name": value["name"], "color": color, "codes": codes}


def _class(value: Any, path: object) -> ObjectClass:
    codes = value.get("codes", {}) if isinstance(value, dict) else None
    if not isinstance(codes, dict) or not set(value) <= {"name", "color", "codes"}:
        raise SessionError(
            f"a class in {str(path)!r} has a name, a color and codes; got {value!r}"
        )
    return ObjectClass(
        value.get("name", ""),
        value.get("color"),
        {str(k): str(v) for k, v in codes.items()},
    )
