"""How far tracks are from true ones: the scores of the Cell Tracking Challenge, edges.

DET and TRA are the normalised cost of turning the graph that was found into the true
one (Matula et al., "Cell tracking accuracy measurement based on comparison of acyclic
oriented graphs", PLoS ONE 2015), SEG is the mean Jaccard index (Maska et al.,
Bioinformatics 2014), as at celltrackingchallenge.net.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.tracks import Node
from napari_sam.errors import VolumeError
from napari_sam.results.lineages import Stretches, frames_of, stretches_of, tracks_of

if TYPE_CHECKING:
    from napari_sam.core.tracks import Edge
    from napari_sam.results.results import Results

_SPLIT, _MISSED, _EXTRA = 5.0, 10.0, 1.0
_REMOVED, _ADDED, _CHANGED = 1.0, 1.5, 1.0
"""Costs of corrections, as the challenge weighs them."""


@dataclass(frozen=True, slots=True)
class TrackScores:
    """How good tracks are, and what would have to be corrected."""

    tra: float
    """Tracking: 1 - cost of all corrections / cost of making the truth from nothing."""
    det: float
    """Detection: the same of objects alone."""
    seg: float
    """Segmentation: mean Jaccard index of the true objects, 0 for those not found."""
    edge_f1: float
    edge_precision: float
    edge_recall: float
    """Of links between objects that were matched."""
    divisions: int
    """True ones."""
    divisions_found: int
    """True ones that were found in their frame or one beside it."""
    divisions_reported: int
    splits: int
    """Objects that should be several (k objects in one count k - 1)."""
    missed: int
    extra: int
    links_removed: int
    links_added: int
    links_changed: int
    """Parents that should be the same track, or the other way round."""


@dataclass(frozen=True, slots=True, eq=False)
class _Graph:
    """Nodes, and edges with whether they are from a parent."""

    nodes: frozenset[Node]
    edges: dict[Edge, bool]
    divisions: dict[Node, list[Node]]


def track_scores(found: Results, truth: Results) -> TrackScores:
    """Compare tracks with true ones.

    An object that was found is a true one where it covers more than half of that.

    Parameters
    ----------
    found, truth : Results
        Of the same shape; the first axis is time.

    Returns
    -------
    TrackScores

    Raises
    ------
    VolumeError
        If the shapes differ, or there is no true object.
    """
    if tuple(found.labels.shape) != tuple(truth.labels.shape):
        raise VolumeError(
            f"tracks of shape {tuple(found.labels.shape)} cannot be compared with true "
            f"ones of shape {tuple(truth.labels.shape)}"
        )
    mine, true = _graph(found), _graph(truth)
    if not true.nodes:
        raise VolumeError("there is no object in the truth: nothing can be scored")
    match, jaccard = _matched(found, truth)
    of: dict[Node, list[Node]] = {}
    for t, m in match.items():
        of.setdefault(m, []).append(t)
    splits = sum(len(t) - 1 for t in of.values())
    missed, extra = len(true.nodes) - len(match), len(mine.nodes - of.keys())
    alone = {m: t[0] for m, t in of.items() if len(t) == 1}
    back = {t: m for m, t in alone.items()}
    removed = sum(
        a in alone and b in alone and (alone[a], alone[b]) not in true.edges
        for a, b in mine.edges
    )
    hits = {
        (a, b): mine.edges[back[a], back[b]]
        for a, b in true.edges
        if a in back and b in back and (back[a], back[b]) in mine.edges
    }
    added = len(true.edges) - len(hits)
    changed = sum(true.edges[e] != kind for e, kind in hits.items())
    objects = _SPLIT * splits + _MISSED * missed + _EXTRA * extra
    links = _REMOVED * removed + _ADDED * added + _CHANGED * changed
    blank = _MISSED * len(true.nodes)
    all_blank = blank + _ADDED * len(true.edges)
    precision = len(hits) / len(mine.edges) if mine.edges else 1.0
    recall = len(hits) / len(true.edges) if true.edges else 1.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return TrackScores(
        1 - min(objects + links, all_blank) / all_blank,
        1 - min(objects, blank) / blank,
        sum(jaccard.values()) / len(true.nodes),
        f1,
        precision, recall,
        len(true.divisions), _divisions_found(true, mine, match), len(mine.divisions),
        splits, missed, extra, removed, added, changed,
    )  # fmt: skip


def _graph(results: Results) -> _Graph:
    """Cut at gaps, as the challenge wants it: beyond one lies a child."""
    tracks = tracks_of(results)
    found = stretches_of(tracks)
    at: dict[int, list[Node]] = {}
    for node in tracks.nodes:
        at.setdefault(_stretch(found, node), []).append(node)
    edges: dict[Edge, bool] = {}
    children: dict[Node, list[Node]] = {}
    for row in found.rows:
        edges |= dict.fromkeys(pairwise(sorted(at[row.id])), False)
        if row.parent:
            edge = max(at[row.parent]), min(at[row.id])
            edges[edge] = True
            children.setdefault(edge[0], []).append(edge[1])
    divisions = {a: b for a, b in children.items() if len(b) > 1}
    return _Graph(frozenset(tracks.nodes), edges, divisions)


def _stretch(found: Stretches, node: Node) -> int:
    return found.names.get(node.frame, {}).get(node.object_id, node.object_id)


def _matched(
    found: Results, truth: Results
) -> tuple[dict[Node, Node], dict[Node, float]]:
    """Object that each true one was found as, and their Jaccard index."""
    match: dict[Node, Node] = {}
    jaccard: dict[Node, float] = {}
    mine, true = frames_of(found.labels), frames_of(truth.labels)
    for t in range(true.shape[0]):
        a, b = (np.asarray(x[t]).astype(np.int64).ravel() for x in (true, mine))
        area_a, area_b = (dict(zip(*_counts(x), strict=True)) for x in (a, b))
        both = (a > 0) & (b > 0)
        span = int(b.max(initial=0)) + 1
        pairs, counts = _counts(a[both] * span + b[both])
        for pair, shared in zip(pairs, counts, strict=True):
            i, j = divmod(pair, span)
            if 2 * shared > area_a[i]:
                match[Node(t, i)] = Node(t, j)
                whole = area_a[i] + area_b[j] - shared
                jaccard[Node(t, i)] = shared / whole
    return match, jaccard


def _counts(values: np.ndarray) -> tuple[list[int], list[int]]:
    found, counts = np.unique(values, return_counts=True)
    return found.tolist(), counts.tolist()


def _divisions_found(true: _Graph, mine: _Graph, match: dict[Node, Node]) -> int:
    """True divisions that were found in their frame or one beside it."""
    before = {b: a for a, b in true.edges}
    after = {a: b for a, b in true.edges if a not in true.divisions}
    found = 0
    for mother, daughters in true.divisions.items():
        near = [mother, *daughters]
        near += [before[mother]] if mother in before else []
        near += [after[d] for d in daughters if d in after]
        near = [n for n in near if abs(n.frame - mother.frame) <= 1]
        found += any(match.get(n) in mine.divisions for n in near)
    return found
