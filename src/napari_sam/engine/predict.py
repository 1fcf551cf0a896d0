"""Prompts on a plane of any size to mask candidates: windows, embeddings, clicks."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.candidates import Decoded
from napari_sam.core.masks import mask_iou
from napari_sam.core.prompts import cut_box
from napari_sam.engine.look_again import look_again, needs_another_look
from napari_sam.engine.prediction import Prediction
from napari_sam.engine.trace import trace
from napari_sam.engine.windows import (
    choose_window,
    coarsest_level,
    grow_window,
    is_cut,
)
from napari_sam.errors import Cancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from napari_sam.core.mask_prompt import MaskPrompt
    from napari_sam.core.masks import MaskCandidate
    from napari_sam.core.planes import Plane
    from napari_sam.core.prompts import Prompts
    from napari_sam.core.tiles import Window
    from napari_sam.engine.engine import Engine
    from napari_sam.engine.prediction import Refined


_TOGETHER = 64
"""Sets of prompts that are decoded at a time."""


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
        Asked between looks; True raises `Cancelled`.

    Raises
    ------
    PromptError
        If the prompts cannot be answered on this plane.
    Cancelled
    """
    *_, last = iter_predict(
        engine, prompts, plane, previous=previous, choices=choices, cancel=cancel
    )
    return last


def iter_predict(
    engine: Engine,
    prompts: Prompts,
    plane: Plane,
    *,
    previous: Prediction | None = None,
    choices: tuple[int, ...] = (),
    cancel: Callable[[], bool] | None = None,
) -> Iterator[Prediction]:
    """Predict as `predict` does; yield the first answer before a better one is sought.

    Yields
    ------
    Prediction
        Twice for a lone click whose first answer is poor, else once.

    Raises
    ------
    PromptError
    Cancelled
    """
    prompts.check(plane.shape(engine.volume.shape))
    current = previous if previous and prompts.extends(previous.prompts) else None
    asked = prompts
    if prompts.paths:
        # Followed once: all steps go on from the same thin object.
        asked = replace(prompts, paths=(), mask=_followed(engine, plane, prompts))
        if current is not None:
            said = replace(current.prompts, paths=(), mask=asked.mask)
            current = replace(current, prompts=said)
    for found in _iter_steps(engine, asked, plane, current, choices, cancel):
        yield replace(found, prompts=prompts)


def _followed(engine: Engine, plane: Plane, prompts: Prompts) -> MaskPrompt:
    tube = trace(engine, plane, prompts.paths)
    return tube if prompts.mask is None else prompts.mask.joined(tube)


def _iter_steps(
    engine: Engine,
    prompts: Prompts,
    plane: Plane,
    current: Prediction | None,
    choices: tuple[int, ...],
    cancel: Callable[[], bool] | None,
) -> Iterator[Prediction]:
    for step in prompts.steps():
        if current and current.prompts.length >= step.length:
            continue
        if cancel is not None and cancel():
            raise Cancelled("stopped before the mask was predicted")
        if current is not None and not current.settled:
            current = _settle(engine, current, plane, choices, cancel)
        if current is not None:
            current = current.fitting(step)
        current = _step(engine, step, plane, current, choices)
    if current is None or current.prompts.length != prompts.length:
        current = _step(engine, prompts, plane, None, choices)
    yield current
    if not current.settled:
        yield _settle(engine, current, plane, choices, cancel)


def predict_many(
    engine: Engine,
    asked: Sequence[Prompts],
    plane: Plane,
    *,
    cancel: Callable[[], bool] | None = None,
) -> Iterator[tuple[int, Prediction]]:
    """Predict one mask for each of many sets of prompts, window by window.

    Each answer is what `predict` gives for these prompts alone. Those that are looked
    at in the same window are decoded together.

    Yields
    ------
    (int, Prediction)
        Number of the prompts among `asked`, and the answer; in no order.

    Raises
    ------
    PromptError
        Before anything is computed, if some of them cannot be answered on this plane.
    Cancelled
    """
    shape, grid = plane.shape(engine.volume.shape), engine.grid(plane.axis)
    groups: dict[Window, list[int]] = defaultdict(list)
    alone = []
    for k, prompts in enumerate(asked):
        prompts.check(shape)
        if prompts.paths or len(prompts.steps()) > 1:
            alone.append(k)
        else:
            groups[choose_window(prompts, grid)].append(k)
    for window in sorted(groups, key=lambda w: (w.level, w.y0, w.x0)):
        for ks in _slices(groups[window], _TOGETHER):
            if cancel is not None and cancel():
                raise Cancelled("stopped")
            seen = engine.decode_many(plane, window, [asked[k] for k in ks])
            for k, one in zip(ks, seen, strict=True):
                found = _answer(engine, asked[k], plane, one)
                if not found.settled:
                    found = _settle(engine, found, plane, (), cancel)
                yield k, found
    for k in alone:
        yield k, predict(engine, asked[k], plane, cancel=cancel)


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
    if chosen.chosen.window != chosen.window:  # sharpened: it was whole before
        return chosen
    seen = Decoded(chosen.window, [c.seen for c in chosen.candidates])
    found = _whole(engine, chosen.prompts, plane, seen, k, chosen.refined)
    if found.window == chosen.window:
        return chosen
    return Prediction.of(
        chosen.prompts, found.raw, found.window, chosen.chosen.plane_shape,
        chosen.choices, chosen.refined,
    )  # fmt: skip


def _step(
    engine: Engine,
    prompts: Prompts,
    plane: Plane,
    before: Prediction | None,
    choices: tuple[int, ...],
) -> Prediction:
    """Answer one step: of a lone click the first answer, not settled where poor."""
    grid = engine.grid(plane.axis)
    refined = None
    if before is not None:
        refined = before.chosen.low_res_logits, before.window
    window = choose_window(prompts, grid, before)
    seen = engine.decode(plane, window, prompts, refined)
    taken = before.choices if before else ()
    return _answer(engine, prompts, plane, seen, taken, choices, refined)


def _answer(
    engine: Engine,
    prompts: Prompts,
    plane: Plane,
    seen: Decoded,
    taken: tuple[int, ...] = (),
    choices: tuple[int, ...] = (),
    refined: Refined | None = None,
) -> Prediction:
    """Make the best candidate seen, and the one that is taken, whole."""
    k = choices[len(taken)] if len(taken) < len(choices) else 0
    found = _in_force(engine, prompts, plane, seen, k, refined)
    shape = engine.grid(plane.axis).shape
    out = _prediction(prompts, found, shape, taken, k, refined)
    lone = refined is None and prompts.is_lone_click
    if lone and needs_another_look(engine, plane, found):
        out = replace(out, settled=False)
    return out


def _settle(
    engine: Engine,
    first: Prediction,
    plane: Plane,
    choices: tuple[int, ...],
    cancel: Callable[[], bool] | None,
) -> Prediction:
    """Look at other scales, and answer with the best."""
    prompts = first.prompts
    best = look_again(engine, first, plane, cancel)
    k = choices[0] if choices else 0
    found = _in_force(engine, prompts, plane, best, k, None)
    out = _prediction(prompts, found, first.chosen.plane_shape, (), k, None)
    if k or found.window == first.window:
        return out
    return replace(out, first=replace(first, settled=True))


def _prediction(
    prompts: Prompts,
    found: Decoded,
    plane_shape: tuple[int, int],
    taken: tuple[int, ...],
    k: int,
    refined: Refined | None,
) -> Prediction:
    choices = (*taken, min(k, len(found.raw) - 1))
    return Prediction.of(
        prompts, found.raw, found.window, plane_shape, choices, refined
    )


def _in_force(
    engine: Engine,
    prompts: Prompts,
    plane: Plane,
    seen: Decoded,
    k: int,
    refined: Refined | None,
) -> Decoded:
    """Make the best candidate whole, then the one that is taken."""
    found = _whole(engine, prompts, plane, seen, 0, refined)
    k = min(k, len(found.raw) - 1)
    return _whole(engine, prompts, plane, found, k, refined) if k else found


def _whole(
    engine: Engine,
    prompts: Prompts,
    plane: Plane,
    seen: Decoded,
    k: int,
    refined: Refined | None,
) -> Decoded:
    """Look from other windows while the window cuts candidate `k`.

    What no window holds that may be read for a lone click, such as the background of a
    huge image, is left as it was first seen.
    """
    grid = engine.grid(plane.axis)
    extent = cut_box(prompts.extent(), grid.shape)
    last = None
    if prompts.is_lone_click:
        last = coarsest_level(engine, plane, seen.window)
    found = seen
    for larger in range(2 * grid.n_levels):
        window, cut = found.window, found.raw[k]
        if not is_cut(cut, window, grid):
            return found
        following = grow_window(
            window, cut.bbox, grid, extent, may_move=larger % 2 == 0, coarsest=last
        )
        if following == window:
            continue
        raw = list(engine.decode(plane, following, prompts, refined).raw)
        if k:
            raw.insert(k, raw.pop(_most_alike(cut, window, raw, following)))
        found = Decoded(following, raw)
    gave_up = prompts.is_lone_click and is_cut(found.raw[k], found.window, grid)
    return seen if gave_up else found


def _most_alike(
    seen: MaskCandidate, window: Window, raw: list[MaskCandidate], following: Window
) -> int:
    """Which candidate of a new window agrees best where an older one was seen.

    Where the new window shows more of an object, that part counts against no one.
    """
    y0, x0, y1, x1 = seen.bbox
    py, px = window.to_plane(np.arange(y0, y1), np.arange(x0, x1))
    ys, xs = following.to_window(py, px)
    rows, cols = np.rint(ys).astype(np.intp), np.rint(xs).astype(np.intp)
    h, w = following.h, following.w
    inside = (rows >= 0) & (rows < h), (cols >= 0) & (cols < w)
    old = seen.mask[np.ix_(*inside)]
    at = np.ix_(rows[inside[0]], cols[inside[1]])
    return int(np.argmax([mask_iou(c.full((h, w))[at], old) for c in raw]))


def _slices(values: list[int], n: int) -> Iterator[list[int]]:
    for start in range(0, len(values), n):
        yield values[start : start + n]
