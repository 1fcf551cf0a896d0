"""Prompts as maps: clicks, boxes and colours on the grids that the decoder works on.

Letters in shape comments: P prompt sets, K clicks of one set, C channels, H, W pixels
of the padded window (multiples of 32), h, w cells of the grid at hand.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor

COLOUR_MAPS = 10


@dataclass(slots=True)
class PaddedPrompts:
    """Prompts of P objects, padded to K clicks each; pixels of the window."""

    image_of: Tensor  # (P,) int64: the window each belongs to
    points: Tensor  # (P, K, 2) float, (y, x)
    labels: Tensor  # (P, K) int64: 1, 0, or -1 for padding
    box: Tensor  # (P, 4) float, (y0, x0, y1, x1); ignored where has_box is 0
    has_box: Tensor  # (P,) float 0 | 1
    prev: Tensor  # (P, H/4, W/4) float logits; ignored where has_prev is 0
    has_prev: Tensor  # (P,) float 0 | 1

    def to(self, device: str) -> PaddedPrompts:
        """Return the same on another device."""
        values = {f.name: getattr(self, f.name).to(device) for f in fields(self)}
        return PaddedPrompts(**values)


def cell_centres(n: int, stride: int, like: Tensor) -> Tensor:
    """Pixel coordinates of the centres of n cells."""
    return (torch.arange(n, device=like.device, dtype=like.dtype) + 0.5) * stride - 0.5


def nearest_click(batch: PaddedPrompts, ys: Tensor, xs: Tensor, label: int) -> Tensor:
    """Squared distance of every cell to the nearest click of one label, (P, h, w)."""
    py, px = batch.points[..., 0, None], batch.points[..., 1, None]  # (P, K, 1)
    off = (batch.labels != label).to(py.dtype)[..., None] * 1e7  # (P, K, 1)
    dy2, dx2 = (ys - py).square() + off, (xs - px).square()  # (P, K, h), (P, K, w)
    return (dy2[..., :, None] + dx2[..., None, :]).amin(1)


class BoxMaps(NamedTuple):
    """Where every cell lies with respect to the box, (P, h, w) each."""

    inside: Tensor  # 0..1
    prior: Tensor  # logits of the inscribed ellipse
    rel_y: Tensor  # -1 at the upper side, 1 at the lower, clipped at 2
    rel_x: Tensor
    depth: Tensor  # signed distance to the nearest side / 16 px, clipped
    ring: Tensor  # around the box, not in it


def in_box(
    batch: PaddedPrompts, ys: Tensor, xs: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Half sides (P, 1) and coordinates relative to them, (P, h, 1) and (P, 1, w)."""
    y0, x0, y1, x1 = (batch.box[:, i, None] - 0.5 for i in range(4))  # (P, 1), edges
    hh, hw = ((y1 - y0) / 2).clamp_min(0.5), ((x1 - x0) / 2).clamp_min(0.5)
    ry = ((ys - (y0 + y1) / 2) / hh)[:, :, None]  # (P, h, 1)
    rx = ((xs - (x0 + x1) / 2) / hw)[:, None, :]  # (P, 1, w)
    return hh, hw, ry, rx


def ellipse_logits(r: Tensor) -> Tensor:
    """Logits at r half axes from the centre."""
    return (4 * (1 - r)).clamp(-4, 4)


def box_maps(batch: PaddedPrompts, ys: Tensor, xs: Tensor) -> BoxMaps:
    """Maps of the boxes on the grid of rows ys (h,) and columns xs (w,)."""
    hh, hw, ry, rx = in_box(batch, ys, xs)
    r = (ry.square() + rx.square() + 1e-6).sqrt()  # (P, h, w)
    dy, dx = (1 - ry.abs()) * hh[:, :, None], (1 - rx.abs()) * hw[:, :, None]
    depth = torch.minimum(dy, dx)  # px to the nearest side, negative outside
    inside = (depth / 4 + 0.5).clamp(0, 1)
    margin = 0.35 * torch.minimum(hh, hw)[:, :, None] + 4
    ring = ((depth + margin) / 4 + 0.5).clamp(0, 1) * (1 - inside)
    on = batch.has_box[:, None, None]
    return BoxMaps(
        inside * on,
        ellipse_logits(r) * on,
        (ry.clamp(-2, 2) * on).expand_as(r),
        (rx.clamp(-2, 2) * on).expand_as(r),
        (depth / 16).clamp(-2, 2) * on,
        ring * on,
    )


def weighted_mean(x: Tensor, weight: Tensor) -> Tensor:
    """Mean of x (P, C, h, w) under each of weight (P, M, h, w) -> (P, M, C)."""
    total = torch.einsum("pmhw,pchw->pmc", weight, x)
    return total / (weight.sum((2, 3))[..., None] + 1e-4)


def at_clicks(x: Tensor, batch: PaddedPrompts) -> Tensor:
    """Values of x (P, C, h, w) in the cells of the clicks, (P, C, K)."""
    h, w = x.shape[-2:]
    cell = ((batch.points + 0.5) / 4).floor().long()  # (P, K, 2)
    at = cell[..., 0].clamp(0, h - 1) * w + cell[..., 1].clamp(0, w - 1)  # (P, K)
    return x.flatten(2).gather(2, at[:, None, :].expand(-1, x.shape[1], -1))


def colour_maps(colours: Tensor, batch: PaddedPrompts, regions: Tensor) -> Tensor:
    """How alike colours are to those prompted, before anything is learned.

    Parameters
    ----------
    colours : (P, 8, h, w)
        Two views of four channels.
    regions : (P, 2, h, w)
        Weights of what is meant and of what surrounds it.

    Returns
    -------
    (P, 10, h, w): both views' likeness to + clicks at two tolerances and to - clicks,
    likeness to the region, and its log likelihood ratio to the surroundings.
    """
    p, _, h, w = colours.shape
    views = colours.view(p, 2, 4, h * w)
    clicked = at_clicks(colours, batch).view(p, 2, 4, -1)  # (P, 2, 4, K)
    d = (
        views.square().sum(2)[..., None, :]
        + clicked.square().sum(2)[..., None]
        - 2 * torch.einsum("pvck,pvcn->pvkn", clicked, views)
    )  # (P, 2, K, h * w), squared distance
    out = []
    for label, tolerance in ((1, 0.25), (1, 0.8), (0, 0.5)):
        off = (batch.labels != label).to(d.dtype)[:, None, :, None] * 1e4
        out.append(torch.exp(-(d + off).amin(2) / (2 * tolerance**2)))  # (P, 2, h * w)
    mean = weighted_mean(colours, regions)  # (P, 2, 8)
    variance = weighted_mean(colours.square(), regions) - mean.square()
    variance = variance.clamp_min(0) + 0.05
    centred = colours[:, None] - mean[..., None, None]  # (P, 2, 8, h, w)
    z = centred.square() / variance[..., None, None]
    z = z.view(p, 2, 2, 4, h * w).mean(3)  # (P, 2 regions, 2 views, h * w)
    spread = variance.log().view(p, 2, 2, 4).mean(3)[..., None]  # (P, 2, 2, 1)
    ratio = (z[:, 1] + spread[:, 1]) - (z[:, 0] + spread[:, 0])
    out += [torch.exp(-z[:, 0] / 2), (ratio / 4).clamp(-1, 1)]
    return torch.cat(out, 1).view(p, COLOUR_MAPS, h, w)
