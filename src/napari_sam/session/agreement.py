"""How far two people agree on one image, object by object, and what they differ in."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_sam.results.instances import score_instances
from napari_sam.results.overlaps import matched, overlaps

if TYPE_CHECKING:
    from napari_sam.results.instances import InstanceScores
    from napari_sam.results.results import Results

Kind = Literal["same", "shape", "class", "ours", "theirs"]
"""Both have it alike; in another shape; of another class; only we; only they."""
_TOLD: dict[Kind, str] = {
    "same": "the same", "shape": "another shape", "class": "another class",
    "ours": "only ours", "theirs": "only theirs",
}  # fmt: skip
LEAST = 0.1
"""IoU below which two objects are not taken for one in two shapes."""


@dataclass(frozen=True, slots=True)
class Match:
    """One object of ours, of theirs, or of both."""

    kind: Kind
    ours: int | None
    """Its id in this session."""
    theirs: int | None
    """Its id in the other one."""
    iou: float = 0.0
    ours_class: str | None = None
    theirs_class: str | None = None

    @property
    def told(self) -> str:
        """What a person who looks at it should know of the other session."""
        if self.kind == "ours":
            return "they have no such object"
        if self.kind == "theirs":
            return f"only they have it, as object {self.theirs}"
        there = f"their object {self.theirs}: IoU {self.iou:.2f}"
        if self.kind == "class":
            return f"{there}, class {self.theirs_class or 'none'}"
        return there


@dataclass(frozen=True, slots=True)
class Agreement:
    """What two sessions of one image have in common."""

    matches: tuple[Match, ...]
    """Every object of either, ours first by id, then those that only they have."""
    scores: InstanceScores
    """Theirs scored as if ours were the truth."""
    kappa: float | None
    """Agreement on the classes of objects that both have, beyond chance (Cohen 1960):
    1 is full, 0 is chance; None where no two have a class."""

    @property
    def conflicts(self) -> tuple[Match, ...]:
        """What they differ in, the least alike first."""
        differ = [m for m in self.matches if m.kind != "same"]
        return tuple(sorted(differ, key=lambda m: (m.iou, m.ours or 0, m.theirs or 0)))

    @property
    def mean_iou(self) -> float | None:
        """Mean IoU of the objects that both have; None where there is none."""
        found = [m.iou for m in self.matches if m.ours and m.theirs]
        return float(np.mean(found)) if found else None

    @property
    def counts(self) -> dict[str, int]:
        """Objects of each kind."""
        held = Counter(m.kind for m in self.matches)
        return {kind: held[kind] for kind in _TOLD}

    def table(self) -> str:
        """Markdown: how many objects of each kind, and the figures."""
        lines = ["| | objects |", "|---|---:|"]
        lines += [f"| {_TOLD[k]} | {n} |" for k, n in self.counts.items()]  # type: ignore[index]
        half = self.scores.at(0.5)
        iou = "" if self.mean_iou is None else f", mean IoU {self.mean_iou:.3f}"
        lines.append(f"\nF1 at IoU 0.5: {half.f1:.3f}, PQ {half.pq:.3f}{iou}")
        if self.kappa is not None:
            lines.append(f"classes: Cohen's kappa {self.kappa:.3f}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """All figures and objects as plain values."""
        return {
            **self.counts,
            "mean_iou": self.mean_iou,
            "kappa": self.kappa,
            "conflicts": [asdict(m) for m in self.conflicts],
            "scores": self.scores.to_dict(),
        }


def agreement(ours: Results, theirs: Results, *, agree: float = 0.75) -> Agreement:
    """Compare two sets of objects of one image; see `Session.compare`."""
    common = overlaps(ours.labels, theirs.labels)
    places = [{i: n for n, i in enumerate(held)} for held in (common.a, common.b)]
    pairs = np.array(
        [(places[0][i], places[1][j]) for i, j in common.pairs.tolist()], np.int64
    ).reshape(-1, 2)
    chosen = matched(len(common.a), len(common.b), pairs, common.ious, LEAST)
    both = {int(common.pairs[n, 0]): (int(common.pairs[n, 1]), float(common.ious[n]))
            for n in chosen}  # fmt: skip
    matches = []
    for i in common.a:
        our_class = ours.record(i).class_name
        if i not in both:
            matches.append(Match("ours", i, None, 0.0, our_class))
            continue
        j, iou = both[i]
        their_class = theirs.record(j).class_name
        # A class that only one of them gave is no contradiction.
        differ = our_class and their_class and our_class != their_class
        kind: Kind = "shape" if iou < agree else "class" if differ else "same"
        matches.append(Match(kind, i, j, iou, our_class, their_class))
    taken = {j for j, _ in both.values()}
    matches += [
        Match("theirs", None, j, 0.0, None, theirs.record(j).class_name)
        for j in common.b
        if j not in taken
    ]
    scores = score_instances(ours.labels, theirs.labels)
    return Agreement(tuple(matches), scores, _kappa(matches))


def _kappa(matches: list[Match]) -> float | None:
    named = [
        (m.ours_class, m.theirs_class)
        for m in matches
        if m.ours_class and m.theirs_class
    ]
    if not named:
        return None
    n = len(named)
    alike = sum(a == b for a, b in named) / n
    first, second = (Counter(side) for side in zip(*named, strict=True))
    chance = sum(first[k] * second[k] for k in first) / n**2
    return 1.0 if chance == 1 else (alike - chance) / (1 - chance)
