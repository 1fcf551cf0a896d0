"""Everything on a plane: a model is asked at points all over it, or at its own seeds.

What comes out are candidates, far more than there are objects: `join` tells which of
them are one object seen in several tiles, and `select` which are proposed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.mask_prompt import MaskPrompt
from napari_sam.core.prompts import WindowPrompts
from napari_sam.engine.candidates import Candidates
from napari_sam.engine.follow import innermost
from napari_sam.engine.gathering import Gathering
from napari_sam.engine.looks import Look, plan_looks
from napari_sam.engine.propose_options import ProposeOptions, SelectOptions
from napari_sam.errors import Cancelled, ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from napari_sam.core.embedding import Embedding
    from napari_sam.core.masks import Bbox, MaskCandidate
    from napari_sam.core.planes import Plane
    from napari_sam.engine.engine import Engine
    from napari_sam.engine.exemplars import Exemplars
    from napari_sam.engine.looks import Taken

    Cancel = Callable[[], bool]


@dataclass(frozen=True, slots=True, eq=False)
class Proposed:
    """What one window gave."""

    done: int
    total: int
    """Windows looked at, and to look at."""
    found: Candidates


def propose(
    engine: Engine,
    plane: Plane,
    options: ProposeOptions | None = None,
    *,
    region: Bbox | None = None,
    taken: Taken | None = None,
    like: Exemplars | None = None,
    cancel: Cancel | None = None,
) -> Candidates:
    """Look for everything on a plane; parameters are those of `Proposer`.

    Raises
    ------
    ModelError
    Cancelled

    Examples
    --------
    >>> from napari_sam.core.planes import Plane
    >>> from napari_sam.engine.engine import Engine
    >>> from napari_sam.engine.propose_options import SelectOptions
    >>> from napari_sam.engine.select import select
    >>> from napari_sam.testing import ToyModel, phantom_image
    >>> from napari_sam.volume.opening import open_volume
    >>> cells = phantom_image((64, 96), n_objects=4, noise=0)
    >>> engine = Engine.of(open_volume(cells.image), ToyModel(96))
    >>> found = propose(engine, Plane(()), ProposeOptions(points_per_side=12))
    >>> chosen = select(found, SelectOptions(pred_iou_thresh=0.7, max_area=1000))
    >>> len(chosen)
    4
    """
    proposer = Proposer(
        engine, plane, options or ProposeOptions(), region, taken, like,
        cancel,
    )  # fmt: skip
    return proposer.candidates([step.found for step in proposer.run()])


@dataclass
class Proposer:
    """Looks for everything on one plane, window by window.

    Parameters
    ----------
    engine : Engine
    plane : Plane
    options : ProposeOptions
    region : tuple of int, optional
        (y0, x0, y1, x1), level-0 pixels: ask only in here.
    taken : callable, optional
        (bbox, step) -> (h, w) bool: every `step`-th pixel of a level-0 box, whether it
        is annotated. Nothing is asked there.
    like : Exemplars, optional
        Known objects: they decide on level, points and thresholds, and candidates are
        compared with them.
    cancel : callable, optional
        Asked before each batch of prompts; True raises `Cancelled`.
    masks : callable, optional
        Gives all masks of an encoded window at once, in place of asking at points; a
        model's own ``instances`` where it has them.
    thresholds : tuple of float, optional
        Least predicted IoU and stability score that suit those masks; the model's own
        when left out.

    Raises
    ------
    ModelError
        If the model cannot be asked this way.
    """

    engine: Engine
    plane: Plane
    options: ProposeOptions = field(default_factory=ProposeOptions)
    region: Bbox | None = None
    taken: Taken | None = None
    like: Exemplars | None = None
    cancel: Cancel | None = None
    masks: Callable[[Embedding], Sequence[MaskCandidate]] | None = None
    thresholds: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        spec = self.engine.model.spec
        self.shape = self.plane.shape(self.engine.volume.shape)
        self._seeds = getattr(self.engine.model, "seeds", None)
        instances = getattr(self.engine.model, "instances", None)
        if self.masks is None and instances and self.options.ask_at == "auto":
            least = self.options.least_predicted_iou
            self.masks = partial(instances, min_score=least)
        if self.masks is None and "points" not in spec.prompts:
            raise ModelError(
                f"{spec.name} takes no points, so it cannot be asked for objects all "
                "over a plane: use another model"
            )
        self.looks: list[Look] = self._plan()
        """Windows, in the order they are looked at."""

    @property
    def lowest(self) -> SelectOptions:
        """The least thresholds at which all that is kept may be chosen."""
        iou, stability = self._gathering().floors
        return SelectOptions(max(iou, 0.0), max(stability, 0.0))

    def run(self) -> Iterator[Proposed]:
        """Look at one window after the other.

        Yields
        ------
        Proposed
            After each window.

        Raises
        ------
        Cancelled
        """
        n = len(self.looks)
        for i, look in enumerate(self.looks):
            yield Proposed(i + 1, n, self.look(look))

    def candidates(self, parts: Sequence[Candidates]) -> Candidates:
        """Put what several windows gave together, also nothing."""
        return Candidates.together(parts) if parts else self._gathering().result()

    def look(self, look: Look) -> Candidates:
        """Look at one window.

        Raises
        ------
        Cancelled
        """
        found = self._gathering(look)
        if self._stopped():
            raise Cancelled("stopped; what was proposed so far is kept")
        embedding = self.engine.embedding(self.plane, look.window)
        if self.masks is not None:
            self._take(look, self.masks(embedding), found)
            return found.result()
        size = self.options.points_per_batch
        for turn in self._turns(look, embedding):
            waiting = turn
            while waiting := self._open(waiting, found):
                if self._stopped():
                    raise Cancelled("stopped; what was proposed so far is kept")
                batch, waiting = waiting[:size], waiting[size:]
                answers = self.engine.model.decode_many(embedding, batch)
                for asked, raw in zip(batch, answers, strict=True):
                    found.add(asked, raw)
        return found.result()

    def _take(
        self, look: Look, masks: Sequence[MaskCandidate], found: Gathering
    ) -> None:
        """Take masks as if each were the only answer to a click on its middle."""
        filled = [c for c in masks if c.area]
        middles = [innermost(MaskPrompt(c.bbox, c.mask)) for c in filled]
        points = np.array(middles, np.float64).reshape(-1, 2)
        wanted = self._wanted(look, points)
        for c, asked, take in zip(filled, _clicks(points), wanted, strict=True):
            if take:
                found.add(asked, [c])

    def _stopped(self) -> bool:
        return self.cancel is not None and self.cancel()

    def _open(
        self, prompts: list[WindowPrompts], found: Gathering
    ) -> list[WindowPrompts]:
        if self.options.thorough:
            return prompts
        return [p for p in prompts if not found.settles(p)]

    def _turns(self, look: Look, embedding: Embedding) -> Iterator[list[WindowPrompts]]:
        """Prompts of a window: what is to be asked first, and what after that."""
        ask_at, seeds = self.options.ask_at, self._seeds
        if seeds is not None and ask_at != "grid" and look.points.size:
            found = np.asarray(seeds(embedding), np.float64).reshape(-1, 3)
            best = found[np.argsort(-found[:, 2], kind="stable"), :2]
            yield _clicks(best[look.owns(best) & self._wanted(look, best)])
        if ask_at in ("grid", "both") or seeds is None:
            for points in look.coarse_to_fine(self.options.thorough):
                yield _clicks(points[self._wanted(look, points)])

    def _wanted(self, look: Look, points: np.ndarray) -> np.ndarray:
        """(N,) bool: which points, (N, 2) in the window, lie where to look."""
        ys, xs = look.window.to_plane(points[:, 0], points[:, 1])
        out = np.ones(len(points), bool)
        if self.region is not None:
            y0, x0, y1, x1 = self.region
            out &= (ys >= y0) & (ys < y1) & (xs >= x0) & (xs < x1)
        if self.taken is None or not len(points):
            return out
        h, w = self.shape
        rows = np.clip(np.floor(ys + 0.5).astype(int), 0, h - 1)
        cols = np.clip(np.floor(xs + 0.5).astype(int), 0, w - 1)
        top, left, step = rows.min(), cols.min(), 1 << max(look.window.level, 0)
        box = int(top), int(left), int(rows.max()) + 1, int(cols.max()) + 1
        annotated = self.taken(box, step)
        seen = annotated[(rows - top) // step, (cols - left) // step]
        return np.asarray(out & ~seen)

    def _gathering(self, look: Look | None = None) -> Gathering:
        return Gathering(
            self.engine, self.plane, self.options, look, self.taken, self.like,
            self.thresholds,
        )  # fmt: skip

    def _plan(self) -> list[Look]:
        grid = self.engine.grid(self.plane.axis)
        enlarges = self.engine.model.spec.enlarges
        return plan_looks(
            grid, self.options, enlarges=enlarges, like=self.like, region=self.region
        )


def _clicks(points: np.ndarray) -> list[WindowPrompts]:
    one = np.ones(1, np.int64)
    return [WindowPrompts(points=p[None], point_labels=one) for p in points]
