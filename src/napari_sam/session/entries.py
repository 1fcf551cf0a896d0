"""Journal entries: one atomic change of everything that a session knows, as a value."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from napari_sam.core.objects import ClassList, ObjectClass, ObjectRecord, PlaneRecord
from napari_sam.core.planes import Plane
from napari_sam.core.thresholds import Thresholds
from napari_sam.core.tracks import Link, Node
from napari_sam.errors import SessionError
from napari_sam.session.blobs import (
    Blobs,
    array_in,
    array_out,
    bbox_in,
    prompts_in,
    prompts_out,
    proposal_in,
    proposal_out,
)
from napari_sam.session.claims import Claim, Meeting
from napari_sam.session.packed import Packed, PackedPatch, merged

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari_sam.core.masks import Bbox, LabelPatch
    from napari_sam.core.objects import Origin
    from napari_sam.core.prompts import Prompts

Values = dict[Any, tuple[Any, Any]]
"""What changes by key: (before, after); None where there is nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class ObjectState:
    """One object on one plane: what was said, and what the model answered."""

    object_id: int
    plane: Plane
    prompts: Prompts
    choices: tuple[int, ...]
    """Candidate taken at each step of the prompts."""
    scores: tuple[float, ...]
    """Predicted IoU of each candidate, best first."""
    origin: Origin = "clicked"
    doubt: float | None = None
    reviewed: bool = False

    @property
    def chosen(self) -> int:
        """Index of the candidate in force."""
        return self.choices[-1]

    @property
    def record(self) -> PlaneRecord:
        """What others need to know of it."""
        score = self.scores[self.chosen] if self.scores else None
        return PlaneRecord(self.origin, self.prompts, score, self.doubt, self.reviewed)


@dataclass(slots=True, eq=False)
class Entry:
    """One undoable change: pixels, base, claims, prompts, records together."""

    kind: str
    patches: tuple[LabelPatch | PackedPatch, ...] = ()
    hidden: tuple[LabelPatch | PackedPatch, ...] = ()
    """Changes of the base beneath claims."""
    values: dict[str, Values] = field(default_factory=dict)
    """By section."""
    time: float = field(default_factory=time.time)

    def pixels(self, *, back: bool = False) -> list[LabelPatch]:
        """Patches to apply, in order; `back`: those that take them back."""
        return _ordered(self.patches, back)

    def changes_on(self, plane: Plane, bbox: Bbox) -> list[LabelPatch]:
        """What changes in all, if anything may in a box on a plane."""
        patches = self.patches
        if not any(Meeting.of(plane, bbox, p.plane, p.bbox) for p in patches):
            return []
        return merged(_ordered(patches, False))

    def base(self, *, back: bool = False) -> list[LabelPatch]:
        """Patches of the hidden base, as `pixels`."""
        return _ordered(self.hidden, back)

    def target(self, section: str, *, back: bool = False) -> dict[Any, Any]:
        """Values of a section after the change, or before it."""
        found = self.values.get(section, {})
        return {key: pair[0 if back else 1] for key, pair in found.items()}

    def followed_by(self, other: Entry) -> Entry:
        """Return both as one change."""
        values = {s: dict(v) for s, v in self.values.items()}
        for section, later in other.values.items():
            mine = values.setdefault(section, {})
            for key, (before, after) in later.items():
                mine[key] = mine[key][0] if key in mine else before, after
        return Entry(
            other.kind, self.patches + other.patches, self.hidden + other.hidden, values
        )

    def pack(self) -> None:
        """Compress everything in place; the writer's thread does."""
        self.patches = _packed(self.patches)
        self.hidden = _packed(self.hidden)
        for pair in self.values.get("claims", {}).values():
            for claim in pair:
                if claim is not None:
                    claim.pixels.pack()


def _ordered(
    patches: tuple[LabelPatch | PackedPatch, ...], back: bool
) -> list[LabelPatch]:
    plain = [p.patch() if isinstance(p, PackedPatch) else p for p in patches]
    return [p.reversed() for p in reversed(plain)] if back else plain


def _packed(
    patches: tuple[LabelPatch | PackedPatch, ...],
) -> tuple[PackedPatch, ...]:
    if all(isinstance(p, PackedPatch) for p in patches):
        return patches  # type: ignore[return-value]
    out = tuple(PackedPatch.of(p) for p in merged(_ordered(patches, False)))
    for patch in out:
        for part in (patch.mask, patch.before, patch.after):
            if isinstance(part, Packed):
                part.pack()
    return out


# -- bytes ---------------------------------------------------------------------------


def encode(step: str, entry: Entry | None = None) -> bytes:
    """Write a step of the journal: a header of JSON, then the arrays.

    Parameters
    ----------
    step : {"commit", "replace", "note", "start", "undo", "redo"}
    entry : Entry, optional
        None for undo and redo.
    """
    blobs: Blobs = []
    head: dict[str, Any] = {"step": step, "time": round(time.time(), 3)}
    if entry is not None:
        head |= {"kind": entry.kind, "time": round(entry.time, 3)}
        head["patches"] = [_patch_out(p, blobs) for p in _packed(entry.patches)]
        head["hidden"] = [_patch_out(p, blobs) for p in _packed(entry.hidden)]
        for name in SECTIONS:
            if name in entry.values:
                kind = _SECTIONS[name]
                head[name] = [
                    [kind.key_out(k), None if v is None else kind.out(v, blobs)]
                    for k, v in entry.target(name).items()
                ]
    head["sizes"] = [len(b) for b in blobs]
    text = json.dumps(head, separators=(",", ":")).encode()
    return b"".join((len(text).to_bytes(4, "little"), text, *blobs))


def decode(payload: bytes, now: Mapping[str, Mapping[Any, Any]]) -> tuple[str, Entry]:
    """Read what `encode` wrote.

    Parameters
    ----------
    payload : bytes
    now : mapping
        Values in force by section: what an entry has as before.

    Returns
    -------
    step : str
    entry : Entry
        An empty one for undo and redo.

    Raises
    ------
    SessionError
        If it is nothing that `encode` writes.
    """
    try:
        size = int.from_bytes(payload[:4], "little")
        head = json.loads(payload[4 : 4 + size])
        blobs: Blobs = []
        at = 4 + size
        for n in head["sizes"]:
            blobs.append(payload[at : at + n])
            at += n
        values: dict[str, Values] = {}
        for name in SECTIONS:
            if name in head:
                held, section = now.get(name, {}), values.setdefault(name, {})
                kind = _SECTIONS[name]
                for raw, value in head[name]:
                    key = kind.key_in(raw)
                    after = None if value is None else kind.into(value, blobs, key)
                    section[key] = held.get(key), after
        entry = Entry(
            head.get("kind", ""),
            tuple(_patch_in(p, blobs) for p in head.get("patches", ())),
            tuple(_patch_in(p, blobs) for p in head.get("hidden", ())),
            values,
            float(head["time"]),
        )
        return str(head["step"]), entry
    except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise SessionError(
            f"the journal holds a step that cannot be read ({error!r}): it was "
            "damaged, or written by another version of napari-sam"
        ) from error


def _patch_out(patch: PackedPatch, blobs: Blobs) -> dict[str, Any]:
    out: dict[str, Any] = {"plane": patch.plane.to_json(), "bbox": list(patch.bbox)}
    out["mask"] = array_out(patch.mask, blobs)
    for name, value in (("before", patch.before), ("after", patch.after)):
        out[name] = value if isinstance(value, int) else array_out(value, blobs)
    return out


def _patch_in(value: dict[str, Any], blobs: Blobs) -> PackedPatch:
    before, after = (
        v if isinstance(v, int) else array_in(v, blobs)
        for v in (value["before"], value["after"])
    )
    mask = array_in(value["mask"], blobs)
    plane = Plane.from_json(value["plane"])
    return PackedPatch(plane, bbox_in(value["bbox"]), mask, before, after)


def _claim_out(claim: Claim, blobs: Blobs) -> dict[str, Any]:
    return {
        "order": claim.order,
        "bbox": [int(v) for v in claim.bbox],
        "pixels": array_out(claim.pixels, blobs),
    }


def _claim_in(value: dict[str, Any], blobs: Blobs, _: Any) -> Claim:
    pixels = array_in(value["pixels"], blobs)
    return Claim(int(value["order"]), bbox_in(value["bbox"]), pixels)


def _state_out(state: ObjectState, blobs: Blobs) -> dict[str, Any]:
    return {
        "prompts": prompts_out(state.prompts, blobs),
        "choices": [int(v) for v in state.choices],
        "scores": [float(v) for v in state.scores],
        "origin": state.origin,
        "doubt": None if state.doubt is None else float(state.doubt),
        "reviewed": bool(state.reviewed),
    }


def _state_in(value: dict[str, Any], blobs: Blobs, key: Any) -> ObjectState:
    prompts = prompts_in(value["prompts"], blobs)
    object_id, plane = key
    return ObjectState(
        object_id, plane, prompts, tuple(value["choices"]), tuple(value["scores"]),
        value["origin"], value["doubt"], value["reviewed"],
    )  # fmt: skip


def _plane_record_out(record: PlaneRecord, _: Blobs) -> list[Any]:
    return [record.origin, record.score, record.doubt, record.reviewed]


def _plane_record_in(value: list[Any], _: Blobs, key: Any) -> PlaneRecord:
    origin, score, doubt, reviewed = value
    return PlaneRecord(origin, None, score, doubt, reviewed)


def _about_out(record: ObjectRecord, _: Blobs) -> dict[str, Any]:
    names = ("name", "class_name", "color", "review", "note", "parent")
    return {n: getattr(record, n) for n in names}


def _about_in(value: dict[str, Any], _: Blobs, key: Any) -> ObjectRecord:
    return ObjectRecord(key, **value)


def _classes_out(classes: ClassList, _: Blobs) -> list[dict[str, Any]]:
    return [asdict(c) for c in classes.classes]


def _classes_in(value: list[dict[str, Any]], _: Blobs, key: Any) -> ClassList:
    return ClassList(tuple(ObjectClass(**v) for v in value))


def _verdict_out(verdict: tuple[int, bool], _: Blobs) -> list[Any]:
    return [int(verdict[0]), bool(verdict[1])]


def _verdict_in(value: list[Any], _: Blobs, key: Any) -> tuple[int, bool]:
    object_id, right = value
    return int(object_id), bool(right)


def _number_out(number: int, _: Blobs) -> int:
    return int(number)


def _number_in(value: Any, _: Blobs, key: Any) -> int:
    return int(value)


def _link_out(link: Link, _: Blobs) -> list[Any]:
    doubt = None if link.doubt is None else float(link.doubt)
    return [link.state, bool(link.merged), doubt]


def _link_in(value: list[Any], _: Blobs, key: Any) -> Link:
    state, merged, doubt = value
    return Link(state, merged, doubt)


def _edge_out(edge: Any) -> Any:
    return [[int(v) for v in node] for node in edge]


def _edge_in(value: Any) -> Any:
    one, two = value
    return Node(*one), Node(*two)


def _thresholds_out(thresholds: Thresholds, _: Blobs) -> dict[str, Any]:
    return asdict(thresholds)


def _thresholds_in(value: dict[str, Any], _: Blobs, key: Any) -> Thresholds:
    return Thresholds(**value)


def _key_out(key: Any) -> Any:
    return [int(key[0]), key[1].to_json()]


def _key_in(value: Any) -> Any:
    return int(value[0]), Plane.from_json(value[1])


def _same(value: Any) -> Any:
    return value


class _Section(NamedTuple):
    """How values of a kind are written and read, with their keys."""

    key_out: Callable[[Any], Any]
    key_in: Callable[[Any], Any]
    out: Callable[[Any, Blobs], Any]
    into: Callable[[Any, Blobs, Any], Any]


_SECTIONS = {
    "claims": _Section(_key_out, _key_in, _claim_out, _claim_in),
    "states": _Section(_key_out, _key_in, _state_out, _state_in),
    "painted": _Section(_key_out, _key_in, _plane_record_out, _plane_record_in),
    "about": _Section(int, int, _about_out, _about_in),
    "classes": _Section(_same, _same, _classes_out, _classes_in),
    "verdicts": _Section(int, int, _verdict_out, _verdict_in),
    "links": _Section(_edge_out, _edge_in, _link_out, _link_in),
    "accepted": _Section(int, int, _number_out, _number_in),
    "rejected": _Section(int, int, proposal_out, proposal_in),
    "proposals": _Section(int, int, proposal_out, proposal_in),
    "thresholds": _Section(_same, _same, _thresholds_out, _thresholds_in),
}
SECTIONS = tuple(_SECTIONS)
"""Kinds of values that an entry changes beside pixels."""
NOTED = "proposals", "thresholds"
"""Those that are noted as they come, and that no undo takes back."""
DECIDED = "proposals", "accepted", "rejected"
"""Those that tell which proposals wait."""
