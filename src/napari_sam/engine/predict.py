"""Prompts on a plane of any size to mask candidates: windows, embeddings, clicks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.frames import (
    enlarge_mask,
    to_level_0,
    touches_cut_edge,
    window_prompts,
)
from napari_sam.core.masks import mask_iou
from napari_sam.engine.prediction import Prediction
from napari_sam.engine.refine import refine_mask
from napari_sam.engine.windows import choose_window, grow_window
from napari_sam.errors import Cancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_sam.core.masks import MaskCandidate
    from napari_sam.core.planes import Plane
    from napari_sam.core.prompts import Prompts, WindowPrompts
    from napari_sam.core.tiles import Window
    from napari_sam.engine.engine import Engine


def predict(
    engine: Engine,
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
    prompts.check(plane.shape(engine.volume.shape))
    current = previous if previous and prompts.extends(previous.prompts) else None
    for step in prompts.steps():
        if current and current.prompts.n_clicks >= step.n_clicks:
            continue
        if cancel is not None and cancel():
            raise Cancelled("stopped before the mask was predicted")
        current = _step(engine, step, plane, current, choices)
    if current is None or current.prompts.n_clicks != prompts.n_clicks:
        current = _step(engine, prompts, plane, None, choices)
    return current


def choose(engine: Engine, prediction: Prediction, plane: Plane, k: int) -> Prediction:
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
    found = _whole(engine, chosen.prompts, plane, window, raw, k, chosen.refined)
    if found[0] == window:
        return chosen
    return _prediction(
        engine, chosen.prompts, plane, *found, chosen.choices, chosen.refined
    )


def refine(
    engine: Engine,
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
    if raw is None or not raw.mask.size or "mask" not in engine.model.spec.prompts:
        return
    moved = raw.moved(window.y0, window.x0)
    grid = engine.grid(plane.axis)
    shape = plane.shape(engine.volume.shape)

    def decode(tile: Window, prompts: WindowPrompts) -> np.ndarray | None:
        found = engine.model.decode(engine.embedding(plane, tile), prompts)
        return found[0].full((tile.h, tile.w)) if found else None

    for level, bbox, mask in refine_mask(
        moved.bbox, moved.mask, window.level,
        prediction.prompts, grid, engine.frame, decode, cancel,
    ):  # fmt: skip
        box, full = enlarge_mask(bbox, mask, 1 << level, shape)
        sharp = replace(prediction.candidates[k], bbox=box, mask=full)
        candidates = list(prediction.candidates)
        candidates[k] = sharp
        yield replace(prediction, candidates=tuple(candidates))


def _step(
    engine: Engine,
    prompts: Prompts,
    plane: Plane,
    before: Prediction | None,
    choices: tuple[int, ...],
) -> Prediction:
    grid = engine.grid(plane.axis)
    window = choose_window(prompts, grid, before)
    refined = None
    if before is not None:
        refined = before.chosen.low_res_logits, before.window
    raw = _decode(engine, prompts, plane, window, refined)
    window, raw = _whole(engine, prompts, plane, window, raw, 0, refined)
    taken = before.choices if before else ()
    k = choices[len(taken)] if len(taken) < len(choices) else 0
    k = min(k, len(raw) - 1)
    if k:
        window, raw = _whole(engine, prompts, plane, window, raw, k, refined)
    return _prediction(engine, prompts, plane, window, raw, (*taken, k), refined)


def _prediction(
    engine: Engine,
    prompts: Prompts,
    plane: Plane,
    window: Window,
    raw: list[MaskCandidate],
    choices: tuple[int, ...],
    refined: tuple[np.ndarray, Window] | None,
) -> Prediction:
    shape = plane.shape(engine.volume.shape)
    return Prediction(
        prompts,
        tuple(to_level_0(c, window, shape) for c in raw),
        window,
        choices,
        tuple(raw) if window.level else (),
        refined,
    )


def _whole(
    engine: Engine,
    prompts: Prompts,
    plane: Plane,
    window: Window,
    raw: list[MaskCandidate],
    k: int,
    refined: tuple[np.ndarray, Window] | None,
) -> tuple[Window, list[MaskCandidate]]:
    """Look from other windows while the window cuts candidate `k`."""
    grid = engine.grid(plane.axis)
    for larger in range(2 * grid.n_levels):
        cut = raw[k]
        if not touches_cut_edge(cut.bbox, window, grid.level_shape(window.level)):
            break
        following = grow_window(window, cut.bbox, grid, may_move=larger % 2 == 0)
        if following == window:
            continue
        raw = _decode(engine, prompts, plane, following, refined)
        if k:
            now = _most_alike(to_level_0(cut, window, grid.shape), raw, following)
            raw.insert(k, raw.pop(now))
        window = following
    return window, raw


def _decode(
    engine: Engine,
    prompts: Prompts,
    plane: Plane,
    window: Window,
    refined: tuple[np.ndarray, Window] | None,
) -> list[MaskCandidate]:
    frame = engine.frame(window)
    previous = None
    if refined is not None:
        previous, seen = refined
        if seen != window:
            ys, xs = frame.low_res_in_plane()
            old = engine.frame(seen)
            previous = old.resample(previous, ys, xs, float(previous.min()))
    return engine.model.decode(
        engine.embedding(plane, window), window_prompts(prompts, frame, previous)
    )


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
