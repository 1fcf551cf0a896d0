"""Tracks as a graph in a zarr: GEFF, the Graph Exchange File Format, with its masks.

Nodes are objects in frames, with their time, centre, area and value in the masks; edges
are links, with what a person said of them. Masks lie inside, as the related object
``segmentation``; graphs of other programs may name masks beside them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.atomic_files import whole
from napari_sam.core.objects import ObjectRecord
from napari_sam.core.tracks import Link, LinkState, Node, Tracks
from napari_sam.errors import VolumeError
from napari_sam.results.incoming import incoming_labels
from napari_sam.results.lineages import NamedFrames, frames_of, tracks_of
from napari_sam.results.results import Results

if TYPE_CHECKING:
    from pathlib import Path

    from napari_sam.core.tracks import Edge
    from napari_sam.volume.volume import Volume

_MASKS = "segmentation"
_STATES: tuple[LinkState, ...] = ("open", "validated", "refused")
"""By the number that an edge has."""


def write(path: Path, results: Results, *, overwrite: bool = False) -> list[str]:
    """Write the graph and the masks; see `napari_sam.results.registry.write`.

    Parameters
    ----------
    path : Path
        ``.geff`` folder.
    results : Results
    overwrite : bool
        Replace a graph that is there.
    """
    import zarr
    from geff.core_io import write_arrays
    from geff.validate.structure import validate_structure

    tracks = tracks_of(results)
    with whole(path, replace_folder=overwrite and replaceable(path)) as part:
        nodes, where = _nodes(results, tracks)
        edges, said = _edges(results, tracks, where)
        write_arrays(
            part, np.arange(len(tracks.nodes), dtype=np.uint64),
            nodes, edges, said, _metadata(results), zarr_format=3,
        )  # fmt: skip
        group = zarr.open_group(part, mode="r+")
        labels = results.labels
        array = group.create_array(
            _MASKS, shape=labels.shape, dtype=labels.dtype,
            chunks=(*(1,) * (len(labels.shape) - 2), *labels.shape[-2:]),
        )  # fmt: skip
        for index in np.ndindex(*labels.shape[:-2]):
            array[index] = np.asarray(labels[index])
        validate_structure(part)
    return []


def read(path: Path, volume: Volume) -> Results:
    """Read a graph and its masks; see `napari_sam.results.registry.read`."""
    import zarr
    from geff.core_io import read_to_memory

    graph = read_to_memory(path)
    meta = graph["metadata"]
    masks = [r for r in meta.related_objects or () if r.type == "labels"]
    if not masks or masks[0].label_prop is None:
        raise VolumeError(
            f"{str(path)!r} has a graph and no masks: read the masks as labels, then "
            "the graph with session.tracks.read"
        )
    array: Any = zarr.open_array((path / masks[0].path).resolve(), mode="r")
    labels = incoming_labels(volume, array)
    props = graph["node_props"]
    time = next((a.name for a in meta.axes or () if a.type == "time"), "t")
    values = np.asarray(props[masks[0].label_prop]["values"]).astype(np.int64)
    frames = np.asarray(props[time]["values"]).astype(np.int64)
    nodes = {
        n: Node(t, i)
        for n, t, i in zip(
            graph["node_ids"].tolist(), frames.tolist(), values.tolist(), strict=True
        )
    }
    pairs = [(nodes[a], nodes[b]) for a, b in graph["edge_ids"].tolist()]
    links = dict(zip(pairs, _links(graph["edge_props"], len(pairs)), strict=True))
    for a, b in ((meta.extra or {}).get("napari_sam") or {}).get("refused", ()):
        links[Node(*a), Node(*b)] = Link("refused")
    tracks = Tracks(
        tuple(sorted(nodes.values())),
        # Of two ways into an object, the one from its parent comes first.
        {e: 2.0 * links[e].merged + (links[e].doubt or 0.0) for e in pairs},
    )
    return _named(labels, volume, tracks, links)


def replaceable(path: Path) -> bool:
    """Whether a folder holds such a graph."""
    from geff.core_io import check_for_geff

    return path.is_dir() and bool(check_for_geff(path, 3))


def _nodes(results: Results, tracks: Tracks) -> tuple[dict[str, Any], dict[Node, int]]:
    """What is known of each object in each frame, and its number."""
    where = {node: n for n, node in enumerate(tracks.nodes)}
    labels = frames_of(results.labels)
    spatial = len(labels.shape) - 1
    centers = np.zeros((len(where), spatial))
    areas = np.zeros(len(where), np.int64)
    for t in range(labels.shape[0]):
        frame = np.asarray(labels[t])
        at = np.nonzero(frame)
        ids, owner, counts = np.unique(
            frame[at], return_inverse=True, return_counts=True
        )
        rows = [where[Node(t, int(i))] for i in ids]
        areas[rows] = counts
        for axis in range(spatial):
            sums = np.bincount(owner, weights=at[axis], minlength=len(ids))
            centers[rows, axis] = sums / np.maximum(counts, 1)
    values = {
        "t": np.array([n.frame for n in tracks.nodes], np.int64),
        **{a: centers[:, k] for k, a in enumerate("zyx"[-spatial:])},
        "label": np.array([n.object_id for n in tracks.nodes], np.uint64),
        "area": areas,
    }
    return {k: {"values": v, "missing": None} for k, v in values.items()}, where


def _edges(
    results: Results, tracks: Tracks, where: dict[Node, int]
) -> tuple[np.ndarray, dict[str, Any]]:
    pairs = sorted(tracks.edges)
    edges = np.array([[where[a], where[b]] for a, b in pairs], np.uint64).reshape(-1, 2)
    links = [results.links.get(e) or Link() for e in pairs]
    values = {
        "state": np.array([_STATES.index(k.state) for k in links], np.uint8),
        "merged": np.array([k.merged for k in links], bool),
        "doubt": np.array(
            [np.nan if k.doubt is None else k.doubt for k in links], np.float64
        ),
    }
    return edges, {k: {"values": v, "missing": None} for k, v in values.items()}


def _metadata(results: Results) -> Any:
    from geff import GeffMetadata

    volume = results.volume
    ndim = max(len(volume.shape), 3)
    names = ["t", *"zyx"[-(ndim - 1) :]]
    axes = [
        {"name": "t", "type": "time", "unit": "frame"},
        *({"name": n, "type": "space", "unit": "pixel"} for n in names[1:]),
    ]
    refused = [
        [[a.frame, a.object_id], [b.frame, b.object_id]]
        for (a, b), link in results.links.items()
        if link.state == "refused"
    ]
    return GeffMetadata(
        directed=True,
        axes=axes,
        node_props_metadata={},
        edge_props_metadata={},
        related_objects=[{"type": "labels", "path": _MASKS, "label_prop": "label"}],
        extra={"napari_sam": {"refused": refused}},
    )


def _links(props: Any, count: int) -> list[Link]:
    """What is known of each edge; graphs of other programs say nothing."""
    if not {"state", "merged", "doubt"} <= set(props):
        return [Link()] * count
    states, merged, doubts = (
        np.asarray(props[k]["values"]).tolist() for k in ("state", "merged", "doubt")
    )
    return [
        Link(_STATES[s], bool(m), None if np.isnan(d) else float(d))
        for s, m, d in zip(states, merged, doubts, strict=True)
    ]


def _named(
    labels: Any, volume: Volume, tracks: Tracks, links: dict[Edge, Link]
) -> Results:
    """Give masks the ids of their tracks: others number each frame anew."""
    ids = tracks.ids()

    def new(node: Node) -> Node:
        return Node(node.frame, ids.get(node, node.object_id))

    names: dict[int, dict[int, int]] = {}
    for node, i in ids.items():
        if i != node.object_id:
            names.setdefault(node.frame, {})[node.object_id] = i
    records = {
        ids[a]: ObjectRecord(ids[a], parent=ids[b]) for a, b in tracks.parents().items()
    }
    known = {(new(a), new(b)): k for (a, b), k in links.items() if k != Link()}
    if names:
        labels = NamedFrames(labels, names)
    return Results(labels, volume, records, links=known)
