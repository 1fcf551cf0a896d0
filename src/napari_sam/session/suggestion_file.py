"""Suggestions in a session's folder, so that a review goes on after a restart."""

from __future__ import annotations

import base64
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sam.core.planes import Plane
from napari_sam.core.prompts import Prompts
from napari_sam.core.proposals import Proposal
from napari_sam.session.packed import Packed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

logger = logging.getLogger(__name__)

NAME = "suggestions.jsonl"


class SuggestionFile:
    """Appends what happens to suggestions, one line each.

    Suggestions can be made again, so a file that cannot be written or read stops
    nothing: the log says so.

    Parameters
    ----------
    folder : callable
        Gives the session's folder, or None while there is none.
    """

    def __init__(self, folder: Callable[[], str | None]) -> None:
        self._folder = folder

    def read(self) -> Iterator[tuple[str, Any]]:
        """Yield what was appended: (kind, suggestions or their numbers)."""
        folder = self._folder()
        if folder is None or not (Path(folder) / NAME).exists():
            return
        file = Path(folder) / NAME
        for number, line in enumerate(file.read_bytes().splitlines(), 1):
            if not line:
                continue
            try:
                kind, value = json.loads(line)
                if kind == "add":
                    value = [from_json(v) for v in value]
            except (ValueError, KeyError, TypeError) as error:
                logger.warning("line %d of %s is left out: %s", number, file, error)
                continue
            yield kind, value

    def append(self, kind: str, value: Any) -> None:
        """Add one line."""
        self._put([(kind, value)], "ab")

    def write(self, lines: Iterable[tuple[str, Any]]) -> None:
        """Replace the file."""
        self._put(lines, "wb")

    def _put(self, lines: Iterable[tuple[str, Any]], mode: str) -> None:
        folder = self._folder()
        if folder is None:
            return
        # The line break comes first, too: a torn last line must not swallow this one.
        text = "".join(f"\n{json.dumps(_plain(*line))}\n" for line in lines)
        try:
            with (Path(folder) / NAME).open(mode) as out:
                out.write(text.encode())
        except OSError as error:
            logger.warning("suggestions are kept in memory only: %s", error)


def to_json(s: Proposal) -> dict[str, Any]:
    """Plain values of a suggestion, for files; its mask is deflated."""
    return {
        "plane": s.plane.to_json(),
        "bbox": [int(v) for v in s.bbox],
        "mask": base64.b64encode(Packed(s.mask).pack()).decode("ascii"),
        "predicted_iou": s.predicted_iou,
        "origin": s.origin,
        "likeness": s.likeness,
        "prompts": s.prompts.to_json(),
        "choice": s.choice,
        "scores": list(s.scores),
        "stability_score": s.stability_score,
        "doubt": s.doubt,
        "object_id": s.object_id,
        "group": s.group,
        "number": s.number,
        "parent": s.parent,
    }


def from_json(value: dict[str, Any]) -> Proposal:
    """Read what `to_json` wrote."""
    y0, x0, y1, x1 = (int(v) for v in value["bbox"])
    bbox = y0, x0, y1, x1
    packed = base64.b64decode(value["mask"])
    return Proposal(
        Plane.from_json(value["plane"]),
        bbox,
        Packed.of_bytes(packed, "|b1", (y1 - y0, x1 - x0)).array,
        float(value["predicted_iou"]),
        float(value["stability_score"]),
        float(value["doubt"]),
        str(value["origin"]),
        float(value["likeness"]),
        Prompts.from_json(value["prompts"]),
        int(value["choice"]),
        tuple(value["scores"]),
        int(value["object_id"]),
        int(value["group"]),
        int(value["number"]),
        int(value["parent"]),
    )


def _plain(kind: str, value: Any) -> list[Any]:
    return [kind, [to_json(s) for s in value] if kind == "add" else value]
