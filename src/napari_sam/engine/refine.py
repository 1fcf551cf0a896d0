"""From a coarse mask to a sharp one: only where its outline runs and is unsure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.candidates import PlaneCandidate
from napari_sam.core.frames import mask_logits
from napari_sam.core.masks import crop_mask, deepest_point, mask_iou
from napari_sam.core.prompts import WindowPrompts, cut_box
from napari_sam.core.sampling import draw, drawn_bbox
from napari_sam.core.tiles import Window
from napari_sam.engine.windows import is_cut
from napari_sam.errors import Cancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_sam.core.masks import Bbox, MaskCandidate
    from napari_sam.core.planes import Plane
    from napari_sam.core.prompts import Prompts
    from napari_sam.core.tiles import Box, Tile, TileGrid
    from napari_sam.engine.engine import Engine
    from napari_sam.engine.prediction import Prediction

JUMP = 2
"""Levels that are skipped at most: what is decoded next is up to four times finer."""
TRUST = 0.7
"""IoU with the coarser mask below which a tile's own answer is not believed."""
REACH = 32
"""Part of a tile's side by which an outline may move per level, at least 4 pixels.

A coarser level shows whatever is larger, so a tile that finds it is wrong.
"""
STEEP = 0.9
"""Share of the usual step between two logits, across the outline, that makes it sure.
"""
UNSURE_SHARE = 0.3
"""Share of a tile's outline that has to be unsure for the tile to be looked at."""
FEW_TILES = 24
"""Tiles that are looked at whether or not the outline is unsure in them, at a time."""
MOST_PIXELS = 1 << 26
"""Pixels of a mask's box beyond which it is not sharpened further."""


def refine(
    engine: Engine,
    prediction: Prediction,
    plane: Plane,
    cancel: Callable[[], bool] | None = None,
) -> Iterator[Prediction]:
    """Sharpen the mask in force of a prediction made on a coarse level.

    Goes up to `JUMP` levels finer at a time. There the tiles that the outline crosses
    are decoded with the coarser mask as mask prompt; where tiles overlap, each counts
    the more the farther a pixel lies from its edge. A tile whose answer departs from
    the coarser mask altogether is not believed, and none moves the outline further
    than `REACH`. After the first time, where there are more than `FEW_TILES`, only
    those are decoded in which the outline is still unsure: where logits rise more
    slowly across it than elsewhere, or tiles were not believed.

    Yields
    ------
    Prediction
        After each finer level; nothing for a prediction on level 0 or below, or for a
        mask that its window cuts because no larger one may be read.

    Raises
    ------
    Cancelled
    """
    chosen = prediction.chosen
    if chosen.is_empty or "mask" not in engine.model.spec.prompts:
        return
    grid = engine.grid(plane.axis)
    if is_cut(chosen.seen, chosen.window, grid):
        return
    known: Outline | None = None
    coarsest = grid.n_levels - 1
    while chosen.window.level > 0:
        level = min(_next_level(chosen.window.level), coarsest)
        sharpening = _Sharpening(engine, plane, prediction.prompts, chosen, level)
        if not sharpening.fits:
            return
        chosen, known = sharpening.run(known, cancel)
        prediction = prediction.with_chosen(chosen)
        yield prediction


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """Where a mask's outline was seen, and how steeply logits rise across it there."""

    places: np.ndarray
    """(N, 2) float, (y, x) in level-0 pixels."""
    steps: np.ndarray
    """(N,) float: difference of the two logits on either side; 0: not believed."""

    @classmethod
    def join(cls, parts: list[Outline]) -> Outline:
        """Return all of them as one."""
        if not parts:
            return cls(np.zeros((0, 2)), np.zeros(0))
        return cls(
            np.concatenate([p.places for p in parts]),
            np.concatenate([p.steps for p in parts]),
        )

    @classmethod
    def of(
        cls, logits: np.ndarray, ys: np.ndarray, xs: np.ndarray, *, believed: bool
    ) -> Outline:
        """Find the zero crossings of (h, w) logits at rows `ys` and columns `xs`."""
        parts = []
        for axis in (0, 1):
            a = logits[:-1] if axis == 0 else logits[:, :-1]
            b = logits[1:] if axis == 0 else logits[:, 1:]
            i, j = np.nonzero((a > 0) != (b > 0))
            steps = np.abs(a[i, j] - b[i, j]) * believed
            parts.append(cls(np.stack([ys[i], xs[j]], 1), steps))
        return cls.join(parts)

    def unsure_share(self, box: Box) -> float:
        """Return the share of the outline in a level-0 box that is unsure."""
        y, x = self.places.T
        inside = (y >= box[0]) & (y < box[2]) & (x >= box[1]) & (x < box[3])
        if not inside.any():
            return 0.0
        return float(np.mean(self.steps[inside] < STEEP * np.median(self.steps)))

    def most_unsure(self, tiles: list[Tile]) -> list[Tile]:
        """Return the tiles to look at: all if they are few, else the most unsure."""
        if len(tiles) <= FEW_TILES:
            return tiles
        shares = {t: self.unsure_share(_on_plane(t.core)) for t in tiles}
        unsure = [t for t in tiles if shares[t] > UNSURE_SHARE]
        return sorted(unsure, key=lambda t: -shares[t])[:FEW_TILES]


class _Sharpening:
    """One mask, sharpened on one finer level."""

    def __init__(
        self,
        engine: Engine,
        plane: Plane,
        prompts: Prompts,
        chosen: PlaneCandidate,
        level: int,
    ) -> None:
        self.engine, self.plane, self.prompts = engine, plane, prompts
        self.chosen, self.plane_shape = chosen, chosen.plane_shape
        self.grid: TileGrid = engine.grid(plane.axis)
        h, w = self.grid.level_shape(level)
        self.frame = Window(level, 0, 0, h, w, self.grid.zoom)
        """All of the level: the mask is kept in its pixels."""
        self.jump = chosen.window.level - level
        source = chosen.seen.bbox, chosen.seen.mask, chosen.window, self.frame
        self.reach = max(self.grid.side // REACH, 4) * self.jump
        self.bbox = _padded(drawn_bbox(*source), 2 * self.reach, (h, w))
        self._source = source

    @property
    def fits(self) -> bool:
        """Whether the mask is small enough to be drawn on this level."""
        y0, x0, y1, x1 = self.bbox
        return (y1 - y0) * (x1 - x0) <= MOST_PIXELS

    def run(
        self, known: Outline | None, cancel: Callable[[], bool] | None
    ) -> tuple[PlaneCandidate, Outline]:
        """Decode the tiles that need it; all on the outline where none is `known`."""
        mask = draw(*self._source, self.bbox)
        votes = np.zeros(mask.shape, np.float32)
        outlines = []
        tiles = list(self._crossed(mask))
        for tile in tiles if known is None else known.most_unsure(tiles):
            if cancel is not None and cancel():
                raise Cancelled("stopped while the mask was being sharpened")
            outlines.append(self._vote(tile.window, mask, votes))
        self._decide(mask, votes)
        (y0, x0, y1, x1), mask = crop_mask(mask)
        top, left = self.bbox[:2]
        bbox = (top + y0, left + x0, top + y1, left + x1)
        seen = replace(self.chosen.seen, bbox=bbox, mask=mask)
        sharp = PlaneCandidate(seen, self.frame, self.plane_shape)
        return sharp, Outline.join(outlines)

    def _crossed(self, mask: np.ndarray) -> Iterator[Tile]:
        """Tiles that own a part of the outline."""
        y0, x0, y1, x1 = self.bbox
        level = self.frame.level
        first = self.grid.owner(level, y0, x0)
        last = self.grid.owner(level, y1 - 1, x1 - 1)
        for row in range(first.row, last.row + 1):
            for col in range(first.col, last.col + 1):
                tile = self.grid.tile(level, row, col)
                part, _ = _shared(self.bbox, tile.core)
                seen = mask[part]
                whole = seen.size == tile.core.h * tile.core.w
                if seen.any() and not (whole and seen.all()):
                    yield tile

    def _vote(self, window: Window, mask: np.ndarray, votes: np.ndarray) -> Outline:
        """Decode a tile; add what it says, the less the nearer its edge."""
        part, inside = _shared(self.bbox, window)
        coarse = np.zeros((window.h, window.w), bool)
        coarse[inside] = mask[part]
        given = self._tile_prompts(coarse, window, mask)
        found = self._decode(window, given)
        answer = coarse if found is None else found.full(coarse.shape)
        believed = found is not None and mask_iou(answer, coarse) >= TRUST
        if not believed:
            answer = coarse
        weight = _tent(window.h)[:, None] * _tent(window.w)[None]
        votes[part] += np.where(answer, weight, -weight)[inside]
        frame = self.engine.frame(window)
        logits = found.low_res_logits if found is not None else given.mask_input
        assert logits is not None
        h, w = (int(np.ceil(n)) for n in frame.low_res_size())
        ys, xs = frame.low_res_in_plane()
        return Outline.of(logits[:h, :w], ys[:h], xs[:w], believed=believed)

    def _decode(self, window: Window, given: WindowPrompts) -> MaskCandidate | None:
        found = self.engine.model.decode(
            self.engine.embedding(self.plane, window), given
        )
        return found[0] if found else None

    def _decide(self, mask: np.ndarray, votes: np.ndarray) -> None:
        """Set the pixels near the outline to what most tiles say, in place."""
        for box in _blocks(mask.shape):
            y0, x0, y1, x1 = _padded(box, self.reach, mask.shape)
            if not votes[box[0] : box[2], box[1] : box[3]].any():
                continue
            near = _near_outline(mask[y0:y1, x0:x1], self.reach)
            inner = near[box[0] - y0 : box[2] - y0, box[1] - x0 : box[3] - x0]
            part = votes[box[0] : box[2], box[1] : box[3]]
            part[~inner] = 0
        np.copyto(mask, votes > 0, where=votes != 0)

    def _tile_prompts(
        self, coarse: np.ndarray, window: Window, mask: np.ndarray
    ) -> WindowPrompts:
        deepest, _ = deepest_point(coarse)
        points, labels = [deepest], [1]
        said = zip(self.prompts.points, self.prompts.point_labels, strict=True)
        for (y, x), label in said:
            wy, wx = window.to_window(y, x)
            if -0.5 <= wy <= window.h - 0.5 and -0.5 <= wx <= window.w - 0.5:
                points.append((float(wy), float(wx)))
                labels.append(label)
        y0, x0, y1, x1 = crop_mask(coarse)[0]
        slack = max(2.0, 0.02 * max(y1 - y0, x1 - x0))
        box = (y0 - slack, x0 - slack, y1 + slack, x1 + slack)
        return WindowPrompts(
            points=np.array(points, np.float64),
            point_labels=np.array(labels, np.int64),
            box=cut_box(box, (window.h, window.w)),
            mask_input=mask_logits(self.engine.frame(window), self.bbox, mask),
            multimask_output=False,
        )


def _next_level(level: int) -> int:
    """Return the level to sharpen on; the last step, which costs most, is small."""
    return max(level - JUMP, 1) if level > 1 else 0


def _on_plane(window: Window) -> Box:
    return window.box_to_plane((0.0, 0.0, float(window.h), float(window.w)))


def _near_outline(mask: np.ndarray, reach: int) -> np.ndarray:
    """Pixels within `reach` rows and columns of both the mask and what it is not."""
    from scipy.ndimage import maximum_filter, minimum_filter

    # Beyond the crop lies nothing of the mask, and beyond the image nothing at all.
    size = 2 * reach + 1
    inner = minimum_filter(mask, size, mode="nearest")
    return np.asarray(maximum_filter(mask, size, mode="nearest") & ~inner)


def _blocks(shape: tuple[int, ...], side: int = 512) -> Iterator[Bbox]:
    for y in range(0, shape[0], side):
        for x in range(0, shape[1], side):
            yield y, x, min(y + side, shape[0]), min(x + side, shape[1])


def _padded(bbox: Bbox, by: int, shape: tuple[int, ...]) -> Bbox:
    y0, x0, y1, x1 = bbox
    return (
        max(y0 - by, 0), max(x0 - by, 0),
        min(y1 + by, shape[0]), min(x1 + by, shape[1]),
    )  # fmt: skip


def _shared(
    bbox: Bbox, window: Window
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return a window's part of a crop, and the crop's part of the window."""
    y0, x0 = max(bbox[0], window.y0), max(bbox[1], window.x0)
    y1 = max(min(bbox[2], window.y0 + window.h), y0)
    x1 = max(min(bbox[3], window.x0 + window.w), x0)
    crop = slice(y0 - bbox[0], y1 - bbox[0]), slice(x0 - bbox[1], x1 - bbox[1])
    tile = slice(y0 - window.y0, y1 - window.y0), slice(x0 - window.x0, x1 - window.x0)
    return crop, tile


def _tent(n: int) -> np.ndarray:
    """Weights that fall from the middle of a tile to almost nothing at its edges."""
    ramp = np.minimum(np.arange(n), np.arange(n)[::-1]).astype(np.float32)
    return (ramp + 1) / (n / 2)
