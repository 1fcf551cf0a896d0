"""Simulated prompting: first click or box, then clicks where the mask is wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from napari_sam.core.masks import depth_of
from napari_sam.models.nano.prompt_maps import PaddedPrompts

CELL = 2
"""Masks here lie on a grid of this many pixels, the decoder's finest."""


@dataclass(frozen=True, slots=True)
class PromptMix:
    """How often an object is first prompted in each way; the rest is a box."""

    click: float = 0.5
    box_and_click: float = 0.06
    mask: float = 0.06
    """A distorted copy of the truth as previous mask, as propagation gives."""


def inner_point(
    mask: np.ndarray, rng: np.random.Generator, *, depth: float = 0.6
) -> tuple[float, float]:
    """Return a random cell at `depth` or more of the largest depth."""
    where = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    y0, x0 = int(where[0][0]), int(where[1][0])
    crop = mask[y0 : where[0][-1] + 1, x0 : where[1][-1] + 1]
    d = depth_of(crop)
    ys, xs = np.nonzero(d >= depth * d.max())
    i = rng.integers(len(ys))
    return float(ys[i] + y0), float(xs[i] + x0)


def tight_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """(y0, x0, y1, x1) of a mask's cells, half-open."""
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(ys[0]), int(xs[0]), int(ys[-1]) + 1, int(xs[-1]) + 1


def first_prompts(
    masks: np.ndarray,
    image_of: np.ndarray,
    rng: np.random.Generator,
    *,
    n_clicks: int = 1,
    mix: PromptMix | None = None,
) -> PaddedPrompts:
    """Prompt every object for the first time.

    Parameters
    ----------
    masks : (P, h, w) bool, cells of 2 pixels, none empty
    image_of : (P,) int64
    n_clicks : int
        Room for clicks, K.
    """
    mix = mix or PromptMix()
    p, h, w = masks.shape
    points = np.zeros((p, n_clicks, 2), np.float32)
    labels = np.full((p, n_clicks), -1, np.int64)
    boxes = np.zeros((p, 4), np.float32)
    has_box, has_prev = np.zeros(p, np.float32), np.zeros(p, np.float32)
    prev = np.zeros((p, h // 2, w // 2), np.float32)
    for i, mask in enumerate(masks):
        kind = rng.random()
        click = kind < mix.click + mix.box_and_click
        from_mask = not click and kind < mix.click + mix.box_and_click + mix.mask
        if click:
            depth = rng.choice((0.95, 0.6, 0.05), p=(0.45, 0.4, 0.15))
            points[i, 0] = _to_pixels(inner_point(mask, rng, depth=depth), rng)
            labels[i, 0] = 1
        if from_mask:
            prev[i], has_prev[i] = _distorted(mask, rng), 1
        if (not click or kind >= mix.click) and not (from_mask and rng.random() < 0.5):
            boxes[i], has_box[i] = _jittered(tight_box(mask), rng), 1
    return PaddedPrompts(
        image_of=torch.from_numpy(image_of),
        points=torch.from_numpy(points),
        labels=torch.from_numpy(labels),
        box=torch.from_numpy(boxes),
        has_box=torch.from_numpy(has_box),
        prev=torch.from_numpy(prev),
        has_prev=torch.from_numpy(has_prev),
    )


def next_clicks(
    batch: PaddedPrompts,
    masks: np.ndarray,
    predicted: np.ndarray,
    low_res: torch.Tensor,
    rng: np.random.Generator,
) -> PaddedPrompts:
    """Add one click to each object, in the deepest error, and feed the mask back.

    Parameters
    ----------
    masks, predicted : (P, h, w) bool, cells of 2 pixels
    low_res : (P, h / 2, w / 2) logits of `predicted`
    """
    p = len(masks)
    points = np.zeros((p, 1, 2), np.float32)
    labels = np.zeros((p, 1), np.int64)
    for i in range(p):
        missing, extra = masks[i] & ~predicted[i], predicted[i] & ~masks[i]
        depth_m = depth_of(missing).max() if missing.any() else 0.0
        depth_e = depth_of(extra).max() if extra.any() else 0.0
        labels[i] = int(depth_m >= depth_e)
        region = missing if depth_m >= depth_e else extra
        if not region.any():
            region = masks[i]
        points[i, 0] = _to_pixels(inner_point(region, rng, depth=0.8), rng)
    return PaddedPrompts(
        image_of=batch.image_of,
        points=torch.cat([batch.points, torch.from_numpy(points)], 1),
        labels=torch.cat([batch.labels, torch.from_numpy(labels)], 1),
        box=batch.box,
        has_box=batch.has_box,
        prev=low_res.detach(),
        has_prev=torch.ones_like(batch.has_prev),
    )


def _to_pixels(cell: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """Any pixel of a cell."""
    return np.asarray(np.array(cell) * CELL + rng.integers(0, CELL, 2), np.float32)


def _jittered(box: tuple[int, int, int, int], rng: np.random.Generator) -> np.ndarray:
    """Cells to pixels, and the sides moved as a hand would."""
    out = np.array(box, np.float32) * CELL
    if rng.random() < 0.3:
        return out
    size = np.array([out[2] - out[0], out[3] - out[1]] * 2)
    spread = rng.uniform(0, 0.07) * size + rng.uniform(0, 1.5)
    moved = out + rng.normal(0, 1, 4) * spread
    if moved[2] - moved[0] < 2 or moved[3] - moved[1] < 2:
        return out
    return np.asarray(moved, np.float32)


def _distorted(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Truth moved, grown or shrunk, as logits on cells of 4 pixels."""
    h, w = mask.shape
    y0, x0, y1, x1 = tight_box(mask)
    reach = max(1, int(0.12 * min(y1 - y0, x1 - x0)))
    out = np.roll(mask, rng.integers(-reach, reach + 1, 2), (0, 1))
    grow = int(rng.integers(-reach, reach + 1))
    if grow > 0:
        out = ndimage.binary_dilation(out, iterations=grow)
    elif grow < 0:
        out = ndimage.binary_erosion(out, iterations=-grow)
    p = out.reshape(h // 2, 2, w // 2, 2).mean((1, 3), dtype=np.float32)
    if rng.random() < 0.5:
        p = ndimage.gaussian_filter(p, rng.uniform(0.5, 2.0))
    return np.asarray((2 * p - 1) * rng.uniform(2, 8), np.float32)
