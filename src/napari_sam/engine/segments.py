"""Pieces of tracks joined: over gaps, as daughters, as merged; by laptrack."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.errors import NapariSamError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_sam.core.tracks import Edge, Node


@dataclass(slots=True)
class Loose:
    """Links that may be made between pieces, and what each costs."""

    gaps: dict[Edge, float] = field(default_factory=dict)
    """From where a piece ends to where another begins."""
    splits: dict[Edge, float] = field(default_factory=dict)
    """From a node that goes on already to where a piece begins."""
    merges: dict[Edge, float] = field(default_factory=dict)
    """From where a piece ends to a node that came from another already."""


def join(
    pieces: Mapping[Node, Node], loose: Loose, max_cost: float, max_gap: int
) -> dict[Edge, float]:
    """Choose among loose links so that the sum of all costs is least.

    Solved by laptrack (Jaqaman et al., Nature Methods 2008) on the nodes that matter:
    the ends of pieces, and where they may be joined to others.

    Parameters
    ----------
    pieces : mapping of Node to Node
        First node of the piece that each is part of.
    loose : Loose
    max_cost : float
        What it costs to leave a piece as it is.
    max_gap : int

    Returns
    -------
    dict of Edge to float

    Raises
    ------
    NapariSamError
        If laptrack is not installed.
    """
    costs = {**loose.gaps, **loose.splits, **loose.merges}
    if not costs:
        return {}
    try:
        from laptrack import LapTrack
    except ImportError as error:
        raise NapariSamError(
            "tracking needs laptrack, which is not installed: pip install laptrack"
        ) from error
    known = sorted({n for edge in costs for n in edge})
    lines: dict[Node, list[Node]] = {}
    for node in known:
        lines.setdefault(pieces[node], []).append(node)
    first = known[0].frame
    by_frame: list[list[Node]] = [[] for _ in range(known[-1].frame - first + 1)]
    place = {}
    for node in known:
        found = by_frame[node.frame - first]
        place[node] = node.frame - first, len(found)
        found.append(node)
    number = {n: i for i, n in enumerate(known)}
    coords = [
        np.array([[number[n]] for n in found], float).reshape(-1, 1)
        for found in by_frame
    ]

    def metric(of: Mapping[Edge, float], *, back: bool = False) -> Any:
        table = {(number[a], number[b]): c for (a, b), c in of.items()}

        def cost(u: np.ndarray, v: np.ndarray) -> float:
            pair = (int(v[0]), int(u[0])) if back else (int(u[0]), int(v[0]))
            return table.get(pair, np.inf)

        return cost

    linked = LapTrack(
        cutoff=0.0,  # nothing more from frame to frame
        gap_closing_metric=metric(loose.gaps),
        gap_closing_cutoff=max_cost if loose.gaps else False,
        gap_closing_max_frame_count=max_gap + 1,
        splitting_metric=metric(loose.splits, back=True),
        splitting_cutoff=max_cost if loose.splits else False,
        merging_metric=metric(loose.merges),
        merging_cutoff=max_cost if loose.merges else False,
        segment_start_cost=max_cost,
        segment_end_cost=max_cost,
        no_splitting_cost=max_cost,
        no_merging_cost=max_cost,
    ).predict(
        coords,
        [(place[a], place[b]) for line in lines.values() for a, b in pairwise(line)],
    )
    out = {}
    for u, v in linked.edges:
        edge = by_frame[u[0]][int(u[1])], by_frame[v[0]][int(v[1])]
        if edge in costs:
            out[edge] = costs[edge]
    return out
