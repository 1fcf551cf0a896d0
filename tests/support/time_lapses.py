"""Made time-lapses: discs that drift, divide, merge, go missing; and the truth."""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

SHAPE = (64, 96)


@dataclass
class Lapse:
    """Discs by track: {track: {frame: (y, x, radius)}}, and parents."""

    discs: dict[int, dict[int, tuple[float, float, float]]]
    parents: dict[int, tuple[int, ...]] = field(default_factory=dict)
    shape: tuple[int, int] = SHAPE

    @property
    def n_frames(self):
        return 1 + max(t for at in self.discs.values() for t in at)

    def labels(self, seed=None):
        """Ids are tracks; with a seed, each frame is numbered at random."""
        out = np.zeros((self.n_frames, *self.shape), np.uint16)
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[: self.shape[0], : self.shape[1]]
        for t in range(self.n_frames):
            here = [i for i, at in self.discs.items() if t in at]
            ids = here if seed is None else rng.permutation(len(here)) + 1
            for i, value in zip(here, ids, strict=True):
                cy, cx, r = self.discs[i][t]
                out[t][(y - cy) ** 2 + (x - cx) ** 2 <= r**2] = value
        return out

    def edges(self):
        """True edges as ((frame, y, x), (frame, y, x)), by rounded centres."""
        found = set()
        for i, at in self.discs.items():
            frames = sorted(at)
            for a, b in pairwise(frames):
                found.add((self.place(i, a), self.place(i, b)))
            for parent in self.parents.get(i, ()):
                found.add((self.place(parent, max(self.discs[parent])),
                           self.place(i, frames[0])))  # fmt: skip
        return found

    def place(self, i, t):
        y, x, _ = self.discs[i][t]
        return t, round(y), round(x)


def found_edges(labels, tracks):
    """Edges of a graph as `Lapse.edges` has them, by the labels that it was made of."""

    def place(node):
        pixels = np.argwhere(labels[node.frame] == node.object_id)
        return node.frame, *(int(v) for v in np.rint(pixels.mean(0)))

    return {(place(a), place(b)) for a, b in tracks.edges}


def drifting(n=4, frames=6, step=(1.0, 4.0), skip=()):
    """A row of discs that all move; `skip`: (track, frame) where one is missing."""
    return Lapse({
        i + 1: {
            t: (12 + 13 * i + step[0] * t, 14 + step[1] * t + 3 * i, 5)
            for t in range(frames)
            if (i + 1, t) not in skip
        }
        for i in range(n)
    })  # fmt: skip


def dividing():
    """One that divides at frame 3, beside one that does not."""
    return Lapse(
        {
            1: {t: (20, 30 + 2 * t, 7) for t in range(3)},
            2: {t: (15 - 2 * (t - 3), 36 + 2 * (t - 3), 4.9) for t in range(3, 6)},
            3: {t: (25 + 2 * (t - 3), 36 + 2 * (t - 3), 4.9) for t in range(3, 6)},
            4: {t: (45, 40 + 2 * t, 7) for t in range(6)},
        },
        {2: (1,), 3: (1,)},
    )


def merging():
    """Two that become one at frame 3."""
    return Lapse(
        {
            1: {t: (15 + 2 * t, 40, 4.9) for t in range(3)},
            2: {t: (34 - 2 * t, 40, 4.9) for t in range(3)},
            3: dict.fromkeys(range(3, 6), (24.5, 40, 7)),
        },
        {3: (1, 2)},
    )
