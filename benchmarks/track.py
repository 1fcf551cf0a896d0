"""How well objects are linked through time, and how fast.

::

    python benchmarks/track.py                          # made sequences alone
    python benchmarks/track.py --data tracks/           # sequences with known lineage

`--data` is a folder of sequences as the Cell Tracking Challenge has them in one file:
``<name>/masks.tif`` (t, y, x), in which an id is a track, and ``<name>/man_track.txt``
(``id first last mother``). Every frame is numbered anew before it is linked, with the
same options for all. Printed for each: F1 of the edges, divisions found and reported in
the frame of the truth or one beside it, and seconds. ``--leave-out c2c12_phase:7,9,14``
does not score ids of a sequence.
"""

from __future__ import annotations

import argparse
import time
from itertools import pairwise
from pathlib import Path

import numpy as np

from napari_sam.core.tracks import Node, Tracks
from napari_sam.engine.motion import Frame
from napari_sam.engine.track import TrackOptions, track
from napari_sam.session import Session
from napari_sam.testing import ToyModel


def numbered(labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """Give the objects of each frame random ids from 1 on."""
    rng = np.random.default_rng(seed)
    out = np.zeros(labels.shape, np.uint16)
    for t, frame in enumerate(labels):
        ids = np.unique(frame)
        ids = ids[ids > 0]
        table = np.zeros(int(labels.max()) + 1, np.uint16)
        table[ids] = rng.permutation(len(ids)) + 1
        out[t] = table[frame]
    return out


def truth(masks: np.ndarray, rows: np.ndarray) -> Tracks:
    """Graph of a sequence: an id is a track, `rows` say where it came from."""
    at: dict[int, list[int]] = {}
    for t, frame in enumerate(masks):
        for i in np.unique(frame[frame > 0]).tolist():
            at.setdefault(i, []).append(t)
    edges = {
        (Node(a, i), Node(b, i)): 0.0
        for i, frames in at.items()
        for a, b in pairwise(frames)
    }
    for i, _, _, mother in rows.tolist():
        if mother in at and i in at:
            edges[Node(at[mother][-1], mother), Node(at[i][0], i)] = 0.0
    nodes = sorted(Node(t, i) for i, frames in at.items() for t in frames)
    return Tracks(tuple(nodes), edges)


def named(tracks: Tracks, labels: np.ndarray, masks: np.ndarray) -> Tracks:
    """Return a graph by the true ids of its nodes."""
    table = []
    for frame, true in zip(labels, masks, strict=True):
        ids, first = np.unique(frame, return_index=True)
        table.append(dict(zip(ids.tolist(), true.reshape(-1)[first].tolist(),
                              strict=True)))  # fmt: skip

    def new(node: Node) -> Node:
        return Node(node.frame, table[node.frame][node.object_id])

    nodes = sorted(map(new, tracks.nodes))
    return Tracks(
        tuple(nodes), {(new(a), new(b)): d for (a, b), d in tracks.edges.items()}
    )


def score(found: Tracks, true: Tracks, left_out: set[int]) -> str:
    def kept(tracks: Tracks) -> set:
        return {
            (a, b) for a, b in tracks.edges if not {a.object_id, b.object_id} & left_out
        }

    one, two = kept(found), kept(true)
    hits = len(one & two)
    f1 = 2 * hits / max(len(one) + len(two), 1)
    mothers = {n for n in true.divisions if n.object_id not in left_out}
    told = {n for n in found.divisions if n.object_id not in left_out}
    close = sum(
        any(n.object_id == m.object_id and abs(n.frame - m.frame) <= 1 for n in told)
        for m in mothers
    )
    return (
        f"edges F1 {f1:.3f} (wrong {len(one - two)}, missed {len(two - one)}), "
        f"divisions {close} of {len(mothers)} found, {len(told)} reported"
    )


def made(n_frames: int, n_objects: int, side: int) -> np.ndarray:
    """Discs that wander in a square frame, without touching for most of the time."""
    rng = np.random.default_rng(0)
    cells = int(np.ceil(np.sqrt(n_objects)))
    step = side / cells
    places = np.indices((cells, cells)).reshape(2, -1).T[:n_objects] * step + step / 2
    radius = max(2, int(step / 3.2))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = np.stack([y, x], -1)[y**2 + x**2 <= radius**2]
    out = np.zeros((n_frames, side, side), np.uint16)
    drift = np.zeros(2)
    for t in range(n_frames):
        drift += rng.normal(0, 1, 2)
        here = places + drift + rng.normal(0, step / 16, places.shape)
        for i in range(n_objects):
            at = np.rint(disc + here[i]).astype(int) % side
            out[t, at[:, 0], at[:, 1]] = i + 1
    return out


def speed(n_frames: int, n_objects: int, side: int) -> None:
    masks = made(n_frames, n_objects, side)
    labels = numbered(masks)
    start = time.perf_counter()
    *_, found = track(Frame.of(f, t) for t, f in enumerate(labels))
    linked = time.perf_counter() - start
    session = Session(labels, ToyModel(64), embeddings=False, labels=labels.copy())
    task = session.set_tracking()
    start = time.perf_counter()
    session.accept_tracking(task, session.plan_tracking(task, found))
    accepted = time.perf_counter() - start
    true = truth(masks, np.zeros((0, 4), int))
    print(f"made, {n_frames} frames x {n_objects} objects of {side}^2:")
    print(f"  {score(named(found, labels, masks), true, set())}")
    print(f"  linked in {linked:.1f} s, written in {accepted:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument("--leave-out", action="append", default=[])
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--objects", type=int, default=500)
    parser.add_argument("--side", type=int, default=768)
    given = parser.parse_args()
    left_out = {
        name: {int(i) for i in ids.split(",")}
        for name, _, ids in (text.partition(":") for text in given.leave_out)
    }
    for folder in sorted(given.data.iterdir()) if given.data else []:
        if not (folder / "masks.tif").exists():
            continue
        import tifffile

        masks = tifffile.imread(folder / "masks.tif")
        rows = np.loadtxt(folder / "man_track.txt", int, ndmin=2)
        labels = numbered(masks)
        start = time.perf_counter()
        frames = (Frame.of(f, t) for t, f in enumerate(labels))
        *_, found = track(frames, TrackOptions())
        took = time.perf_counter() - start
        out = left_out.get(folder.name, set())
        line = score(named(found, labels, masks), truth(masks, rows), out)
        print(f"{folder.name}: {line}, {took:.1f} s")
    speed(given.frames, given.objects, given.side)


if __name__ == "__main__":
    main()
