"""What an evaluation found: every object's scores, their means, a table, JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

GOALS = (0.8, 0.85, 0.9)
"""IoU for whose reaching the clicks are counted."""
_SHOWN_CLICKS = (1, 3, 5, 8)


@dataclass(frozen=True, slots=True)
class ObjectScore:
    """IoU that one object on one plane got, at full resolution."""

    volume: str
    group: str
    """Data set, "" where there is only one."""
    axis: int
    plane: tuple[int, ...]
    object_id: int
    area: int
    """Pixels."""
    click: tuple[float, ...]
    """Of the mask ranked first, after 1, 2, ... clicks; empty if not asked for."""
    click_best: tuple[float, ...]
    """Of the best of all masks given."""
    box: float | None
    """Of the mask ranked first, from the object's own box."""
    box_best: float | None
    ellipse: float
    """Of the ellipse in the object's box: a baseline that needs no image."""
    rectangle: float
    """Of the box itself."""

    def clicks_to(self, goal: float) -> int:
        """Clicks until an IoU is reached; one more than were made if it never is."""
        reached = (n for n, v in enumerate(self.click, 1) if v >= goal)
        return next(reached, len(self.click) + 1)

    def columns(self) -> dict[str, float]:
        """All figures by their names."""
        out: dict[str, float] = {}
        for n, (first, best) in enumerate(
            zip(self.click, self.click_best, strict=True), 1
        ):
            out[f"click{n}"], out[f"click{n}_best"] = first, best
        if self.box is not None and self.box_best is not None:
            out["box"], out["box_best"] = self.box, self.box_best
        out["ellipse"], out["rectangle"] = self.ellipse, self.rectangle
        if self.click:
            out |= {f"noc{round(100 * g)}": self.clicks_to(g) for g in GOALS}
        return out


@dataclass(frozen=True)
class Evaluation:
    """Scores of a model on labelled images.

    Figures are means over the objects of a data set, and then over data sets. Their
    names: ``click1``, ``click2``, ... and ``box`` are the IoU of the mask ranked first,
    ``..._best`` that of the best of all masks given; ``ellipse`` and ``rectangle``
    need no model; ``noc80`` counts clicks to an IoU of 0.80, one more than were made
    where it is not reached.
    """

    scores: tuple[ObjectScore, ...]
    asked: Mapping[str, Any] = field(default_factory=dict)
    """Model, prompts, clicks, seed and all else that the figures depend on."""
    variants: Mapping[str, tuple[ObjectScore, ...]] = field(default_factory=dict)
    """Scores of the same objects in images changed before they were given."""

    @property
    def rows(self) -> dict[str, dict[str, float]]:
        """Means of each data set; of each volume where there is one data set."""
        return _means(self.scores, self._key())

    @property
    def volumes(self) -> dict[str, dict[str, float]]:
        """Means of each volume."""
        return _means(self.scores, lambda s: s.volume)

    @property
    def mean(self) -> dict[str, float]:
        """Mean over data sets of the mean over their objects."""
        return _mean_of(_means(self.scores, lambda s: s.group))

    @property
    def changes(self) -> dict[str, dict[str, float]]:
        """By variant, what the mean gains or loses on the same objects."""
        out = {}
        for name, scores in self.variants.items():
            here = {_identity(s) for s in scores}
            plain = tuple(s for s in self.scores if _identity(s) in here)
            before, after = (
                _mean_of(_means(part, lambda s: s.group)) for part in (plain, scores)
            )
            kept = [c for c in after if c not in ("objects", "ellipse", "rectangle")]
            out[name] = {c: after[c] - before[c] for c in kept}
            out[name]["objects"] = after.get("objects", 0.0)
        return out

    def table(self) -> str:
        """Markdown: a row a data set (or volume), their mean, and the variants."""
        columns = self._shown()
        lines = [
            "| | objects | " + " | ".join(_title(c) for c in columns) + " |",
            "|---|" + "---:|" * (len(columns) + 1),
        ]
        for name, row in [*self.rows.items(), ("**mean**", self.mean)]:
            cells = " | ".join(_number(c, row[c]) for c in columns)
            lines.append(f"| {name} | {row['objects']:.0f} | {cells} |")
        changes = self.changes
        for name, row in changes.items():
            cells = " | ".join(
                f"{row[c]:+.3f}" if c in row and row["objects"] else "" for c in columns
            )
            lines.append(f"| {name} | {row['objects']:.0f} | {cells} |")
        return "\n".join(lines)

    def to_json(self) -> str:
        """All figures, and every object's."""
        value = {
            **self.asked,
            "mean": self.mean,
            "rows": self.rows,
            "volumes": self.volumes,
            "changes": self.changes,
            "objects": [asdict(s) for s in self.scores],
            "variants": {n: [asdict(s) for s in v] for n, v in self.variants.items()},
        }
        return json.dumps(value, indent=1)

    def _key(self) -> Callable[[ObjectScore], str]:
        several = len({s.group for s in self.scores}) > 1
        return (lambda s: s.group or "-") if several else (lambda s: s.volume)

    def _shown(self) -> list[str]:
        there = self.mean
        clicks = sorted({*_SHOWN_CLICKS, len(self.scores[0].click)})
        wanted = ["click1", "click1_best", *(f"click{n}" for n in clicks[1:])]
        wanted += ["noc80", "noc85", "noc90", "box", "box_best", "ellipse", "rectangle"]
        return [c for c in dict.fromkeys(wanted) if c in there]


def _title(column: str) -> str:
    names = {
        "click1": "1 click", "click1_best": "best of its masks", "box_best": "best",
        "noc80": "NoC 0.80", "noc85": "NoC 0.85", "noc90": "NoC 0.90",
        "rectangle": "box itself",
    }  # fmt: skip
    if column in names or not column.startswith("click"):
        return names.get(column, column)
    return f"{column.removeprefix('click')} clicks"


def _number(column: str, value: float) -> str:
    return f"{value:.1f}" if column.startswith("noc") else f"{value:.3f}"


def _identity(score: ObjectScore) -> tuple[Any, ...]:
    return score.group, score.volume, score.axis, score.plane, score.object_id


def _means(
    scores: Iterable[ObjectScore], key: Callable[[ObjectScore], str]
) -> dict[str, dict[str, float]]:
    parts: dict[str, list[dict[str, float]]] = {}
    for score in scores:
        parts.setdefault(key(score), []).append(score.columns())
    out = {}
    for name, rows in sorted(parts.items()):
        means = {c: float(np.mean([r[c] for r in rows])) for c in rows[0]}
        out[name] = {"objects": float(len(rows)), **means}
    return out


def _mean_of(rows: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Mean over rows; of "objects" the sum."""
    if not rows:
        return {"objects": 0.0}
    columns = next(iter(rows.values()))
    out = {c: float(np.mean([r[c] for r in rows.values()])) for c in columns}
    out["objects"] = float(sum(r["objects"] for r in rows.values()))
    return out
