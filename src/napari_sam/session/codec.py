"""Changes as compact JSON: one form for the undo history in memory and on disk."""

from __future__ import annotations

import base64
import json
import zlib
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from napari_sam.core.masks import Bbox, LabelPatch
from napari_sam.core.objects import Applied, Change, ObjectState
from napari_sam.core.planes import Plane
from napari_sam.core.prompts import Prompts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def encode_change(change: Change) -> bytes:
    """Write a change as one line of JSON; pixels are deflated."""
    value = {
        "kind": change.kind,
        "patches": [_patch_to_json(p) for p in change.patches],
        "before": [_state_to_json(s) for s in change.before.values()],
        "after": [_state_to_json(s) for s in change.after.values()],
    }
    return json.dumps(value, separators=(",", ":")).encode()


def decode_change(line: bytes) -> Change:
    """Read what `encode_change` wrote."""
    value = json.loads(line)
    return Change(
        value["kind"],
        tuple(_patch_from_json(p) for p in value["patches"]),
        _states(value["before"]),
        _states(value["after"]),
    )


def _states(values: Iterable[dict[str, Any]]) -> dict[tuple[int, Plane], ObjectState]:
    states = map(_state_from_json, values)
    return {(s.object_id, s.plane): s for s in states}


def pack_array(array: np.ndarray) -> str:
    """Write an array as text: deflated, and booleans as bits."""
    data = np.packbits(array) if array.dtype == bool else array
    packed = base64.b64encode(zlib.compress(data.tobytes(), 1)).decode("ascii")
    return f"{array.dtype.str}:{packed}"


def unpack_array(text: str, bbox: Bbox) -> np.ndarray:
    """Read what `pack_array` made of an array of a box's shape."""
    name, packed = text.split(":", 1)
    raw = zlib.decompress(base64.b64decode(packed))
    h, w = bbox[2] - bbox[0], bbox[3] - bbox[1]
    if name == "|b1":
        bits = np.unpackbits(np.frombuffer(raw, np.uint8), count=h * w)
        return bits.reshape(h, w).astype(bool)
    return np.frombuffer(raw, name).reshape(h, w)


def _bbox(value: Iterable[Any]) -> Bbox:
    return cast("Bbox", tuple(int(v) for v in value))


def _patch_to_json(patch: LabelPatch) -> dict[str, Any]:
    return {
        "plane": patch.plane.to_json(),
        "bbox": list(patch.bbox),
        "before": pack_array(patch.before),
        "after": pack_array(patch.after),
    }


def _patch_from_json(value: dict[str, Any]) -> LabelPatch:
    bbox = _bbox(value["bbox"])
    return LabelPatch(
        Plane.from_json(value["plane"]),
        bbox,
        unpack_array(value["before"], bbox),
        unpack_array(value["after"], bbox),
    )


def _state_to_json(state: ObjectState) -> dict[str, Any]:
    return {
        "object_id": state.object_id,
        "plane": state.plane.to_json(),
        "prompts": state.prompts.to_json(),
        "choices": list(state.choices),
        "scores": list(state.scores),
        "bbox": list(state.applied.bbox),
        "written": pack_array(state.applied.written),
        "beneath": pack_array(state.applied.beneath),
    }


def _state_from_json(value: dict[str, Any]) -> ObjectState:
    bbox = _bbox(value["bbox"])
    return ObjectState(
        int(value["object_id"]),
        Plane.from_json(value["plane"]),
        Prompts.from_json(value["prompts"]),
        tuple(value["choices"]),
        tuple(value["scores"]),
        Applied(
            bbox,
            unpack_array(value["written"], bbox),
            unpack_array(value["beneath"], bbox),
        ),
    )


class History:
    """Changes done, and changes taken back that can be done again; kept encoded."""

    def __init__(self) -> None:
        self._done: list[bytes] = []
        self._undone: list[bytes] = []

    @property
    def can_undo(self) -> bool:
        """Whether there is a change to take back."""
        return bool(self._done)

    @property
    def can_redo(self) -> bool:
        """Whether a change taken back can be done again."""
        return bool(self._undone)

    def push(self, line: bytes) -> None:
        """Add a new encoded change; what was taken back is forgotten."""
        self._done.append(line)
        self._undone.clear()

    def undo(self) -> Change | None:
        """Step back; return the change to apply, or None at the beginning."""
        if not self._done:
            return None
        self._undone.append(self._done.pop())
        return decode_change(self._undone[-1]).reversed()

    def redo(self) -> Change | None:
        """Step forward again; return the change to apply, or None at the end."""
        if not self._undone:
            return None
        self._done.append(self._undone.pop())
        return decode_change(self._done[-1])

    def lines(self) -> tuple[bytes, ...]:
        """Encoded changes in force, oldest first."""
        return tuple(self._done)

    def __iter__(self) -> Iterator[Change]:
        """Changes in force, oldest first."""
        return map(decode_change, tuple(self._done))
