"""Two sessions of one image: how far they agree, and one made of both."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import numpy as np

from napari_sam.core.masks import LabelPatch
from napari_sam.core.planes import Plane
from napari_sam.errors import SessionError
from napari_sam.results.label_arrays import iter_blocks_of
from napari_sam.results.renumbered import Renumbered
from napari_sam.results.results import Results
from napari_sam.session import edits
from napari_sam.session.agreement import Agreement, agreement
from napari_sam.session.annotation import Annotation
from napari_sam.session.provenance import results_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_sam.core.objects import ClassList, ObjectRecord

Consensus = Literal["ours", "union", "intersection"]
"""Pixels of an object on which both agree."""


@dataclass(frozen=True, slots=True)
class CombineOptions:
    """How two sessions become one."""

    agree: float = 0.75
    """Least IoU, 0..1, of an object on which both agree."""
    consensus: Consensus = "ours"
    """Pixels of an object on which both agree: ours, those of either, those of both."""
    prefer: Literal["ours", "theirs"] = "ours"
    """Whose shape an object keeps that has two, until a person looks at it."""

    def __post_init__(self) -> None:
        if not 0 < self.agree <= 1:
            raise SessionError(f"agree is above 0 and at most 1; got {self.agree}")
        for name, given in (
            ("consensus", get_args(Consensus)), ("prefer", ("ours", "theirs"))
        ):  # fmt: skip
            if getattr(self, name) not in given:
                raise SessionError(
                    f"{name} is one of {', '.join(given)}; got {getattr(self, name)!r}"
                )


@dataclass(frozen=True, slots=True, eq=False)
class Combination:
    """What combining changes, found by `Session.set_combination`."""

    found: Agreement
    records: dict[int, ObjectRecord]
    patches: tuple[LabelPatch, ...]
    classes: ClassList
    highest: int
    """Highest id that is new."""
    revision: int
    """State of the session that it was found for."""


class Combining(Annotation):
    """What is done with the sessions of others; the part of `Session` for them."""

    def compare(self, other: Any, *, agree: float = 0.75) -> Agreement:
        """Say how far another session or file agrees with this one, object by object.

        Parameters
        ----------
        other : Session, Results or path
            Of the same image: a session, a saved one (.nsam), or a file of any format.
        agree : float
            Least IoU, 0..1, of an object on which both agree. Objects are matched one
            to one from an IoU of 0.1 on.

        Returns
        -------
        Agreement
            Every object: the same, in another shape, of another class, only ours, only
            theirs; figures, and `conflicts` in the order in which to look at them.

        Raises
        ------
        SessionError, VolumeError
            If it cannot be read, or is of another image.

        Examples
        --------
        >>> from napari_sam.session import Session
        >>> from napari_sam.testing import ToyModel, phantom_image
        >>> image = phantom_image()
        >>> one, two = (Session(image.image, ToyModel()) for _ in range(2))
        >>> _ = one.segment(1, points=[image.center(1)])
        >>> _ = two.segment(5, points=[image.center(1)])
        >>> _ = two.segment(6, points=[image.center(2)])
        >>> one.compare(two).counts["same"], one.compare(two).conflicts[0].kind
        (1, 'theirs')
        """
        CombineOptions(agree)
        return agreement(results_of(self), self._theirs(other), agree=agree)

    def combine(self, other: Any, options: CombineOptions | None = None) -> Agreement:
        """Take in the objects of another session or file, as one undoable change.

        Objects on which both agree are one; a class that only they gave is taken.
        Objects that only they have get new ids, on pixels that are free here. Whatever
        they differ in is flagged (``review="flagged"``) and its note says how, so that
        a person goes through it: in the table, ``review=flagged``.

        Parameters
        ----------
        other
            As `compare` takes it.
        options : CombineOptions, optional

        Returns
        -------
        Agreement
            What was compared, before the change.

        Raises
        ------
        SessionError, VolumeError
        """
        return self.accept_combination(self.set_combination(other, options))

    def set_combination(
        self, other: Any, options: CombineOptions | None = None
    ) -> Combination:
        """Find what combining would change, for any thread; nothing is changed.

        Takes and raises what `combine` does.
        """
        options, revision = options or CombineOptions(), self.document.revision
        ours, theirs = results_of(self), self._theirs(other)
        found = agreement(ours, theirs, agree=options.agree)
        joined = _Joined(ours, theirs, found, options)
        return Combination(
            found, joined.records(), tuple(joined.patches()), theirs.classes,
            max(joined.fresh.values(), default=0), revision,
        )  # fmt: skip

    def accept_combination(self, combination: Combination) -> Agreement:
        """Make the change that `set_combination` found.

        Raises
        ------
        SessionError
            If the session has changed since.
        """
        if combination.revision != self.document.revision:
            raise SessionError(
                "the session has changed since it was compared: combine again"
            )
        self.make_room(combination.highest)
        self.change(
            lambda d: edits.read_in(
                d, combination.patches, combination.records, combination.classes, {}
            )
        )
        return combination.found

    def _theirs(self, other: Any) -> Results:
        """Return what others have of this image."""
        from napari_sam.models.unloaded import UnloadedModel
        from napari_sam.results import registry

        if isinstance(other, Results):
            return other
        if isinstance(other, Annotation):
            return results_of(other)
        path = os.fspath(other)
        if not path.rstrip("/\\").endswith(".nsam"):
            return registry.read(path, self.volume)
        opened = cast("Any", type(self)).load(
            path, volume=self.volume, model=UnloadedModel("none", ""),
            embeddings=False, read_only=True,
        )  # fmt: skip
        try:
            return results_of(opened)
        finally:
            opened.close()


class _Joined:
    """The records and pixels of two sets of objects as one."""

    def __init__(
        self, ours: Results, theirs: Results, found: Agreement, options: CombineOptions
    ) -> None:
        self.ours, self.theirs = ours, theirs
        self.found, self.options = found, options
        alone = [m.theirs for m in found.matches if m.theirs and m.ours is None]
        ids = (*(m.ours or 0 for m in found.matches), *ours.objects)
        top = max(ids, default=0)
        self.fresh = {j: top + n for n, j in enumerate(alone, 1)}
        """New id of each object that only they have."""

    def records(self) -> dict[int, ObjectRecord]:
        """Records that change: of conflicts, of what is new, and classes learnt."""
        out: dict[int, ObjectRecord] = {}
        for m in self.found.matches:
            if m.ours is None:
                assert m.theirs is not None
                out[self.fresh[m.theirs]] = self._new(m.theirs, m.told)
                continue
            record = replace(self.ours.record(m.ours), planes={})
            if m.kind != "same":
                said = "; ".join(t for t in (record.note, m.told) if t)
                out[m.ours] = replace(record, review="flagged", note=said)
            elif m.theirs_class and not m.ours_class:
                out[m.ours] = replace(record, class_name=m.theirs_class)
        return out

    def _new(self, theirs: int, told: str) -> ObjectRecord:
        record = self.theirs.record(theirs)
        note = "; ".join(t for t in (record.note, told) if t)
        return replace(
            record, id=self.fresh[theirs], planes={}, review="flagged", note=note,
            parent=self.fresh.get(record.parent or 0),
        )  # fmt: skip

    def patches(self) -> Iterator[LabelPatch]:
        """What changes in our labels, block by block."""
        ids = dict(self.fresh)
        ids |= {m.theirs: m.ours for m in self.found.matches if m.ours and m.theirs}
        theirs = Renumbered(self.theirs.labels, ids)
        for spans in _blocks(self.ours.labels, self.theirs.labels):
            before, there = np.asarray(self.ours.labels[spans]), theirs[spans]
            after = self._joined(before, there)
            if not (after != before).any():
                continue
            y, x = spans[-2:]
            for index in np.ndindex(*before.shape[:-2]):
                at = tuple(s.start + i for s, i in zip(spans, index, strict=False))
                changed = before[index] != after[index]
                if changed.any():
                    yield LabelPatch(
                        Plane(at), (y.start, x.start, y.stop, x.stop),
                        before[index].copy(), after[index].copy(), changed,
                    )  # fmt: skip

    def _joined(self, ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        """Join blocks of labels; theirs have our ids."""
        same, shape = (
            [m.ours for m in self.found.matches if m.kind == kind and m.ours]
            for kind in ("same", "shape")
        )
        kind = np.promote_types(ours.dtype, theirs.dtype)
        out, free = ours.astype(kind), ours == 0
        added = np.isin(theirs, list(self.fresh.values()))
        if self.options.consensus == "union":
            added |= np.isin(theirs, same)
        if self.options.prefer == "theirs":
            added |= np.isin(theirs, shape)
            out[np.isin(ours, shape) & (theirs != ours)] = 0
        if self.options.consensus == "intersection":
            out[np.isin(ours, same) & (theirs != ours)] = 0
        out[free & added] = theirs[free & added]
        return out


def _blocks(a: Any, b: Any) -> Iterator[tuple[slice, ...]]:
    """Blocks that hold every label of two arrays, each pixel once."""
    if isinstance(a, np.ndarray):
        yield from iter_blocks_of(a)
        return
    seen: set[tuple[tuple[int, int], ...]] = set()
    for labels in (a, b):
        for spans in iter_blocks_of(labels):
            key = tuple((s.start, s.stop) for s in spans)
            if key not in seen:
                seen.add(key)
                yield spans
