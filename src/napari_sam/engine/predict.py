"""Prompts on a plane of any size to mask candidates: windows, embeddings, clicks."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.frames import (
    Frame,
    enlarge_mask,
    to_level_0,
    touches_cut_edge,
    window_prompts,
)
from napari_sam.core.tiles import Window, window_around
from napari_sam.engine.encode import grid_for
from napari_sam.engine.refine import refine_mask
from napari_sam.errors import Cancelled, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_sam.core.embedding import Embedding
    from napari_sam.core.intensity import IntensityMapping
    from napari_sam.core.masks import MaskCandidate
    from napari_sam.core.planes import Plane
    from napari_sam.core.prompts import Prompts, WindowPrompts
    from napari_sam.core.tiles import Box, Tile, TileGrid
    from napari_sam.io.embeddings import EmbeddingStore
    from napari_sam.io.volume import Volume
    from napari_sam.models.base import PromptableModel

logger = logging.getLogger(__name__)

FILL = 0.75
"""Share of a tile's side that an object and its prompts may span."""
CACHE_BYTES = 512 * 2**20
"""Embeddings kept in memory by one `Predictor`, unless it is told otherwise."""


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """Answer to one set of prompts on one plane."""

    prompts: Prompts
    candidates: tuple[MaskCandidate, ...]
    """Best first, in level-0 pixels of the plane."""
    window: Window
    """Where the model looked."""
    choices: tuple[int, ...]
    """Candidate taken at each step of `Prompts.steps`; the last one is in force."""
    coarse: tuple[MaskCandidate, ...] = ()
    """Candidates in the window's own pixels, when that lies on a coarse level."""

    @property
    def chosen(self) -> MaskCandidate:
        """The candidate in force."""
        return self.candidates[self.choices[-1]]

    def choose(self, k: int) -> Prediction:
        """Return the same answer with candidate `k` in force."""
        if not 0 <= k < len(self.candidates):
            raise IndexError(
                f"there are {len(self.candidates)} candidates, 0 to "
                f"{len(self.candidates) - 1}; got {k}"
            )
        return replace(self, choices=(*self.choices[:-1], k))


class Predictor:
    """Predicts masks from prompts on any plane of a volume.

    Holds no user state: the answer depends on the prompts alone. Embeddings are looked
    up in memory, then in the store, and encoded (and stored) when neither has them.

    Parameters
    ----------
    volume : Volume
    model : PromptableModel
    intensity : IntensityMapping, optional
        How raw values become the model's input; the volume's own when left out.
    stores : callable, optional
        Gives the embedding store of an axis, or None; called once an axis is used.
    cache_bytes : int
        Memory for embeddings.
    """

    def __init__(
        self,
        volume: Volume,
        model: PromptableModel,
        *,
        intensity: IntensityMapping | None = None,
        stores: Callable[[int], EmbeddingStore | None] | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.volume = volume
        self.model = model
        self.intensity = intensity or volume.intensity
        self._stores = stores or (lambda axis: None)
        self._cache: OrderedDict[tuple[Plane, Window], Embedding] = OrderedDict()
        self._cache_bytes = cache_bytes
        self._cached = 0
        self._lock = threading.Lock()
        self._full = False

    def predict(
        self,
        prompts: Prompts,
        plane: Plane,
        *,
        previous: Prediction | None = None,
        choices: tuple[int, ...] = (),
        cancel: Callable[[], bool] | None = None,
    ) -> Prediction:
        """Predict masks, click after click.

        Each step of `Prompts.steps` refines the mask of the one before it (its low-res
        logits are the mask input), so clicks that come one at a time and clicks that
        come at once give the same mask.

        Parameters
        ----------
        prompts : Prompts
            In level-0 pixels of the plane.
        plane : Plane
        previous : Prediction, optional
            Answer to an earlier part of these prompts, to continue from.
        choices : tuple of int
            Candidate taken at each earlier step; the best where not given.
        cancel : callable, optional
            Asked between steps; True raises `Cancelled`.

        Raises
        ------
        PromptError
            If the prompts cannot be answered on this plane.
        Cancelled
        """
        prompts.check(plane.shape(self.volume.shape))
        current = previous if previous and prompts.extends(previous.prompts) else None
        for step in prompts.steps():
            if current and current.prompts.n_clicks >= step.n_clicks:
                continue
            if cancel is not None and cancel():
                raise Cancelled("stopped before the mask was predicted")
            current = self._step(step, plane, current, choices)
        if current is None or current.prompts.n_clicks != prompts.n_clicks:
            current = self._step(prompts, plane, None, choices)
        return current

    def refine(
        self,
        prediction: Prediction,
        plane: Plane,
        cancel: Callable[[], bool] | None = None,
    ) -> Iterator[Prediction]:
        """Sharpen the mask in force of a prediction made on a coarse level.

        Yields
        ------
        Prediction
            After each finer level; nothing for a prediction on level 0.

        Raises
        ------
        Cancelled
        """
        window = prediction.window
        k = prediction.choices[-1]
        raw = prediction.coarse[k] if prediction.coarse else None
        if raw is None or not raw.mask.size or "mask" not in self.model.spec.prompts:
            return
        moved = raw.moved(window.y0, window.x0)
        grid = grid_for(self.volume, self.model, plane.axis)
        shape = plane.shape(self.volume.shape)

        def decode(tile: Window, prompts: WindowPrompts) -> np.ndarray | None:
            found = self.model.decode(self.embedding(plane, tile), prompts)
            return found[0].full((tile.h, tile.w)) if found else None

        for level, bbox, mask in refine_mask(
            moved.bbox, moved.mask, window.level,
            prediction.prompts, grid, self.frame, decode, cancel,
        ):  # fmt: skip
            box, full = enlarge_mask(bbox, mask, 1 << level, shape)
            sharp = replace(prediction.candidates[k], bbox=box, mask=full)
            candidates = list(prediction.candidates)
            candidates[k] = sharp
            yield replace(prediction, candidates=tuple(candidates))

    def embedding(self, plane: Plane, window: Window) -> Embedding:
        """Return the embedding of a window: from memory, the store, or encoded now."""
        key = (plane, window)
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        found = self._stored(plane, window)
        if found is None:
            found = self._encode(plane, window)
        with self._lock:
            if key not in self._cache:
                self._cache[key] = found
                self._cached += found.nbytes
            while self._cached > self._cache_bytes and len(self._cache) > 1:
                self._cached -= self._cache.popitem(last=False)[1].nbytes
        return found

    def _step(
        self,
        prompts: Prompts,
        plane: Plane,
        before: Prediction | None,
        choices: tuple[int, ...],
    ) -> Prediction:
        grid = grid_for(self.volume, self.model, plane.axis)
        window = choose_window(prompts, grid, before)
        raw = self._decode(prompts, plane, window, before)
        for larger in range(2 * grid.n_levels):
            shape = grid.level_shape(window.level)
            if not touches_cut_edge(raw[0].bbox, window, shape):
                break
            following = _grow(window, raw[0].bbox, grid, may_move=larger % 2 == 0)
            if following != window:
                window = following
                raw = self._decode(prompts, plane, window, before)
        plane_shape = plane.shape(self.volume.shape)
        candidates = tuple(to_level_0(c, window, plane_shape) for c in raw)
        taken = before.choices if before else ()
        k = choices[len(taken)] if len(taken) < len(choices) else 0
        return Prediction(
            prompts,
            candidates,
            window,
            (*taken, min(k, len(candidates) - 1)),
            tuple(raw) if window.level else (),
        )

    def _decode(
        self, prompts: Prompts, plane: Plane, window: Window, before: Prediction | None
    ) -> list[MaskCandidate]:
        frame = self.frame(window)
        previous = None
        if before is not None:
            previous = before.chosen.low_res_logits
            if before.window != window:
                old = self.frame(before.window)
                ys, xs = frame.low_res_in_plane()
                previous = old.resample(previous, ys, xs, float(previous.min()))
        return self.model.decode(
            self.embedding(plane, window), window_prompts(prompts, frame, previous)
        )

    def frame(self, window: Window) -> Frame:
        """Return a window as this predictor's model sees it."""
        spec = self.model.spec
        return Frame(
            window, spec.input_side, spec.mask_side, spec.enlarges, spec.stretches
        )

    def _encode(self, plane: Plane, window: Window) -> Embedding:
        store = self._stores(plane.axis)
        tile = self._tile(plane, window) if store is not None else None
        if store is None or tile is None:
            return self._encode_now(plane, window)
        with store.claim(plane.linear(self.volume.shape), [tile]) as waited:
            # Background work may just have encoded it.
            found = self._stored(plane, window) if waited else None
            return found or self._encode_now(plane, window)

    def _encode_now(self, plane: Plane, window: Window) -> Embedding:
        pixels = self.intensity.apply(self.volume.read(plane, window))
        found = _as_stored(self.model.encode(pixels[None])[0])
        self._keep(plane, window, found)
        return found

    def _stored(self, plane: Plane, window: Window) -> Embedding | None:
        store = self._stores(plane.axis)
        tile = self._tile(plane, window) if store is not None else None
        if store is None or tile is None:
            return None
        number = plane.linear(self.volume.shape)
        try:
            return store.get(number, tile)
        except StoreError as error:
            logger.warning("encoding again what the store has lost: %s", error)
            if store.writable:
                store.discard(number, tile)
            return None

    def _keep(self, plane: Plane, window: Window, embedding: Embedding) -> None:
        store = self._stores(plane.axis)
        tile = self._tile(plane, window) if store is not None else None
        if store is None or tile is None or not store.writable or self._full:
            return
        try:
            store.put(plane.linear(self.volume.shape), tile, embedding)
        except StoreError as error:
            self._full = True
            logger.warning("further embeddings stay in memory: %s", error)

    def _tile(self, plane: Plane, window: Window) -> Tile | None:
        grid = grid_for(self.volume, self.model, plane.axis)
        center = window.y0 + (window.h - 1) / 2, window.x0 + (window.w - 1) / 2
        tile = grid.owner(window.level, *center)
        return tile if tile.window == window else None


def _as_stored(embedding: Embedding) -> Embedding:
    """Round features as stores do, so that a mask is the same with and without one."""
    top = float(np.finfo(np.float16).max)

    def rounded(values: np.ndarray) -> np.ndarray:
        if values.dtype == np.float16:
            return values
        if values.max() > top or values.min() < -top:
            values = np.clip(values, -top, top)
        return values.astype(np.float16)

    features = {name: rounded(v) for name, v in embedding.features.items()}
    return replace(embedding, features=features)


def choose_window(
    prompts: Prompts, grid: TileGrid, before: Prediction | None = None
) -> Window:
    """Choose where a model looks first for these prompts.

    The window of the click before, while the prompts still lie well inside it. Else
    the finest level at which everything said (and the mask so far) lies inside one
    tile with a margin of an eighth of a tile on each side; a lone point starts at the
    level the user's view shows. A grid tile is taken where it holds all that with the
    margin, so that stored embeddings serve; otherwise a window centred on it.
    """
    extent = prompts.extent()
    if before is not None and _inside(extent, before.window, grid, grid.side / 16):
        return before.window
    if before is not None and before.chosen.mask.size:
        extent = _around(extent, before.chosen.bbox)
    drawn = prompts.box or prompts.polygon_box() or prompts.mask
    level = _level_for(extent, grid, 0 if drawn else prompts.level)
    scale = 1 << level
    y0, x0, y1, x1 = (v / scale for v in extent)
    center = (y0 + y1) / 2 - 0.5, (x0 + x1) / 2 - 0.5
    tile = grid.owner(level, *center).window
    if _inside(extent, tile, grid, grid.side / 8 - 1):
        return tile
    return window_around(center, level, grid.level_shape(level), grid.side)


def _inside(extent: Box, window: Window, grid: TileGrid, margin: float) -> bool:
    """Whether a level-0 box lies `margin` inside the edges that cut the image."""
    h, w = grid.level_shape(window.level)
    y0, x0, y1, x1 = window.box_to_window(extent)
    return (
        (y0 >= margin or window.y0 == 0)
        and (x0 >= margin or window.x0 == 0)
        and (y1 <= window.h - margin or window.y0 + window.h == h)
        and (x1 <= window.w - margin or window.x0 + window.w == w)
    )


def _level_for(extent: Box, grid: TileGrid, start: int) -> int:
    span = max(extent[2] - extent[0], extent[3] - extent[1])
    level = min(max(start, 0), grid.n_levels - 1)
    while level < grid.n_levels - 1 and span / (1 << level) > FILL * grid.side:
        level += 1
    return level


def _grow(
    window: Window, bbox: tuple[int, int, int, int], grid: TileGrid, *, may_move: bool
) -> Window:
    """Return the next window for a mask its window cuts: re-centred, or coarser."""
    y0, x0, y1, x1 = bbox
    center = window.y0 + (y0 + y1 - 1) / 2, window.x0 + (x0 + x1 - 1) / 2
    shape = grid.level_shape(window.level)
    if may_move and max(y1 - y0, x1 - x0) <= FILL * grid.side:
        moved = window_around(center, window.level, shape, grid.side)
        if abs(moved.y0 - window.y0) + abs(moved.x0 - window.x0) > grid.side // 16:
            return moved
    level = window.level + 1
    if level >= grid.n_levels:
        return window
    half = (center[0] + 0.5) / 2 - 0.5, (center[1] + 0.5) / 2 - 0.5
    return window_around(half, level, grid.level_shape(level), grid.side)


def _around(extent: Box, bbox: tuple[int, int, int, int]) -> Box:
    low = np.minimum(extent[:2], bbox[:2])
    high = np.maximum(extent[2:], bbox[2:])
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])
