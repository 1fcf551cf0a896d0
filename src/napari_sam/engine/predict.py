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
from napari_sam.core.masks import mask_iou
from napari_sam.embeddings.encode import grid_for
from napari_sam.engine.refine import refine_mask
from napari_sam.engine.windows import choose_window, grow_window
from napari_sam.errors import Cancelled, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_sam.core.embedding import Embedding
    from napari_sam.core.intensity import IntensityMapping
    from napari_sam.core.masks import MaskCandidate
    from napari_sam.core.planes import Plane
    from napari_sam.core.prompts import Prompts, WindowPrompts
    from napari_sam.core.tiles import Tile, Window
    from napari_sam.embeddings.store import EmbeddingStore
    from napari_sam.models.protocol import PromptableModel
    from napari_sam.volume.volume import Volume

logger = logging.getLogger(__name__)

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
    refined: tuple[np.ndarray, Window] | None = None
    """Low-res logits that the last step refined, and their window."""

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

    def choose(self, prediction: Prediction, plane: Plane, k: int) -> Prediction:
        """Put candidate `k` in force, and whole.

        Windows are chosen for the best candidate. Where they cut another one, it is
        looked for again, re-centred or on a coarser level, and all candidates are
        those of the new window.

        Raises
        ------
        IndexError
            If there is no candidate `k`.
        """
        chosen = prediction.choose(k)
        window, raw = chosen.window, list(chosen.coarse)
        if not raw:
            raw = [c.moved(-window.y0, -window.x0) for c in chosen.candidates]
        found = self._whole(chosen.prompts, plane, window, raw, k, chosen.refined)
        if found[0] == window:
            return chosen
        return self._prediction(
            chosen.prompts, plane, *found, chosen.choices, chosen.refined
        )

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
        refined = None
        if before is not None:
            refined = before.chosen.low_res_logits, before.window
        raw = self._decode(prompts, plane, window, refined)
        window, raw = self._whole(prompts, plane, window, raw, 0, refined)
        taken = before.choices if before else ()
        k = choices[len(taken)] if len(taken) < len(choices) else 0
        k = min(k, len(raw) - 1)
        if k:
            window, raw = self._whole(prompts, plane, window, raw, k, refined)
        return self._prediction(prompts, plane, window, raw, (*taken, k), refined)

    def _prediction(
        self,
        prompts: Prompts,
        plane: Plane,
        window: Window,
        raw: list[MaskCandidate],
        choices: tuple[int, ...],
        refined: tuple[np.ndarray, Window] | None,
    ) -> Prediction:
        shape = plane.shape(self.volume.shape)
        return Prediction(
            prompts,
            tuple(to_level_0(c, window, shape) for c in raw),
            window,
            choices,
            tuple(raw) if window.level else (),
            refined,
        )

    def _whole(
        self,
        prompts: Prompts,
        plane: Plane,
        window: Window,
        raw: list[MaskCandidate],
        k: int,
        refined: tuple[np.ndarray, Window] | None,
    ) -> tuple[Window, list[MaskCandidate]]:
        """Look from other windows while the window cuts candidate `k`."""
        grid = grid_for(self.volume, self.model, plane.axis)
        for larger in range(2 * grid.n_levels):
            cut = raw[k]
            if not touches_cut_edge(cut.bbox, window, grid.level_shape(window.level)):
                break
            following = grow_window(window, cut.bbox, grid, may_move=larger % 2 == 0)
            if following == window:
                continue
            raw = self._decode(prompts, plane, following, refined)
            if k:
                now = _most_alike(to_level_0(cut, window, grid.shape), raw, following)
                raw.insert(k, raw.pop(now))
            window = following
        return window, raw

    def _decode(
        self,
        prompts: Prompts,
        plane: Plane,
        window: Window,
        refined: tuple[np.ndarray, Window] | None,
    ) -> list[MaskCandidate]:
        frame = self.frame(window)
        previous = None
        if refined is not None:
            previous, seen = refined
            if seen != window:
                ys, xs = frame.low_res_in_plane()
                old = self.frame(seen)
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


def _most_alike(seen: MaskCandidate, raw: list[MaskCandidate], window: Window) -> int:
    """Which candidate of a new window agrees best where an older one was seen.

    Where the new window shows more of an object, that part counts against no one.
    """
    y0, x0, y1, x1 = seen.bbox
    ys, xs = window.to_window(np.arange(y0, y1), np.arange(x0, x1))
    rows, cols = np.rint(ys).astype(np.intp), np.rint(xs).astype(np.intp)
    inside = (rows >= 0) & (rows < window.h), (cols >= 0) & (cols < window.w)
    old = seen.mask[np.ix_(*inside)]
    at = np.ix_(rows[inside[0]], cols[inside[1]])
    return int(
        np.argmax([mask_iou(c.full((window.h, window.w))[at], old) for c in raw])
    )
