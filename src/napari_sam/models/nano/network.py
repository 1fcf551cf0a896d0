"""Network of nano: dense prompts and a U-shaped decoder behind a small encoder.

Unlike SAM, prompts do not become tokens but maps on the stride-4 grid: bumps at the
clicks, the box and its inscribed ellipse, the previous mask, and how alike every
place is to the clicked ones. A convolutional decoder reads them beside the embedding.
This learns from a few hundred thousand simulated prompts where token attention needs
far more.

Letters in shape comments: B windows, P prompt sets, K clicks of one set, C channels,
H, W pixels of the padded window (multiples of 32), h, w cells of the grid at hand.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sam.models.nano.encoder import (
    ConvNorm,
    Encoder,
    Features,
    GlobalContext,
    Residual,
    up,
)

N_CANDIDATES = 3
BEST_GUESS = 1
"""The candidate that learns from every object, as SAM's single mask does.

The others go to whoever is nearest, and end as one for small and one for large objects;
without one that answers for all, ranking them is guessing a size.
"""
ALIGN = 32
"""Windows are padded to a multiple of this, the deepest stride."""

_CLICK_SIGMAS = (3.0, 10.0, 40.0)
_HEADS, _HEAD_DIM = 4, 8
_COLOUR_MAPS = 10
_N_MAPS = 17 + 4 * _HEADS + _COLOUR_MAPS
_LOGIT_LIMIT = 8.0


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


class Decoded(NamedTuple):
    """What the decoder answers."""

    logits: Tensor  # (P, 3, H/2, W/2)
    low_res: Tensor  # (P, 3, H/4, W/4)
    iou: Tensor  # (P, 3), 0..1


# -------------------------------------------------------------------------- decoder


def _cell_centres(n: int, stride: int, like: Tensor) -> Tensor:
    """Pixel coordinates of the centres of n cells."""
    return (torch.arange(n, device=like.device, dtype=like.dtype) + 0.5) * stride - 0.5


def _nearest_click(batch: PaddedPrompts, ys: Tensor, xs: Tensor, label: int) -> Tensor:
    """Squared distance of every cell to the nearest click of one label, (P, h, w)."""
    py, px = batch.points[..., 0, None], batch.points[..., 1, None]  # (P, K, 1)
    off = (batch.labels != label).to(py.dtype)[..., None] * 1e7  # (P, K, 1)
    dy2, dx2 = (ys - py).square() + off, (xs - px).square()  # (P, K, h), (P, K, w)
    return (dy2[..., :, None] + dx2[..., None, :]).amin(1)


class _BoxMaps(NamedTuple):
    """Where every cell lies with respect to the box, (P, h, w) each."""

    inside: Tensor  # 0..1
    prior: Tensor  # logits of the inscribed ellipse
    rel_y: Tensor  # -1 at the upper side, 1 at the lower, clipped at 2
    rel_x: Tensor
    depth: Tensor  # signed distance to the nearest side / 16 px, clipped
    ring: Tensor  # around the box, not in it


def _in_box(
    batch: PaddedPrompts, ys: Tensor, xs: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Half sides (P, 1) and coordinates relative to them, (P, h, 1) and (P, 1, w)."""
    y0, x0, y1, x1 = (batch.box[:, i, None] - 0.5 for i in range(4))  # (P, 1), edges
    hh, hw = ((y1 - y0) / 2).clamp_min(0.5), ((x1 - x0) / 2).clamp_min(0.5)
    ry = ((ys - (y0 + y1) / 2) / hh)[:, :, None]  # (P, h, 1)
    rx = ((xs - (x0 + x1) / 2) / hw)[:, None, :]  # (P, 1, w)
    return hh, hw, ry, rx


def _ellipse_logits(r: Tensor) -> Tensor:
    return (4 * (1 - r)).clamp(-4, 4)


def _box_maps(batch: PaddedPrompts, ys: Tensor, xs: Tensor) -> _BoxMaps:
    hh, hw, ry, rx = _in_box(batch, ys, xs)
    r = (ry.square() + rx.square() + 1e-6).sqrt()  # (P, h, w)
    dy, dx = (1 - ry.abs()) * hh[:, :, None], (1 - rx.abs()) * hw[:, :, None]
    depth = torch.minimum(dy, dx)  # px to the nearest side, negative outside
    inside = (depth / 4 + 0.5).clamp(0, 1)
    margin = 0.35 * torch.minimum(hh, hw)[:, :, None] + 4
    ring = ((depth + margin) / 4 + 0.5).clamp(0, 1) * (1 - inside)
    on = batch.has_box[:, None, None]
    return _BoxMaps(
        inside * on,
        _ellipse_logits(r) * on,
        (ry.clamp(-2, 2) * on).expand_as(r),
        (rx.clamp(-2, 2) * on).expand_as(r),
        (depth / 16).clamp(-2, 2) * on,
        ring * on,
    )


def _weighted_mean(x: Tensor, weight: Tensor) -> Tensor:
    """Mean of x (P, C, h, w) under each of weight (P, M, h, w) -> (P, M, C)."""
    total = torch.einsum("pmhw,pchw->pmc", weight, x)
    return total / (weight.sum((2, 3))[..., None] + 1e-4)


def _at_clicks(x: Tensor, batch: PaddedPrompts) -> Tensor:
    """Values of x (P, C, h, w) in the cells of the clicks, (P, C, K)."""
    h, w = x.shape[-2:]
    cell = ((batch.points + 0.5) / 4).floor().long()  # (P, K, 2)
    at = cell[..., 0].clamp(0, h - 1) * w + cell[..., 1].clamp(0, w - 1)  # (P, K)
    return x.flatten(2).gather(2, at[:, None, :].expand(-1, x.shape[1], -1))


def _colour_maps(colours: Tensor, batch: PaddedPrompts, regions: Tensor) -> Tensor:
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
    clicked = _at_clicks(colours, batch).view(p, 2, 4, -1)  # (P, 2, 4, K)
    d = (
        views.square().sum(2)[..., None, :]
        + clicked.square().sum(2)[..., None]
        - 2 * torch.einsum("pvck,pvcn->pvkn", clicked, views)
    )  # (P, 2, K, h * w), squared distance
    out = []
    for label, tolerance in ((1, 0.25), (1, 0.8), (0, 0.5)):
        off = (batch.labels != label).to(d.dtype)[:, None, :, None] * 1e4
        out.append(torch.exp(-(d + off).amin(2) / (2 * tolerance**2)))  # (P, 2, h * w)
    mean = _weighted_mean(colours, regions)  # (P, 2, 8)
    variance = _weighted_mean(colours.square(), regions) - mean.square()
    variance = variance.clamp_min(0) + 0.05
    centred = colours[:, None] - mean[..., None, None]  # (P, 2, 8, h, w)
    z = centred.square() / variance[..., None, None]
    z = z.view(p, 2, 2, 4, h * w).mean(3)  # (P, 2 regions, 2 views, h * w)
    spread = variance.log().view(p, 2, 2, 4).mean(3)[..., None]  # (P, 2, 2, 1)
    ratio = (z[:, 1] + spread[:, 1]) - (z[:, 0] + spread[:, 0])
    out += [torch.exp(-z[:, 0] / 2), (ratio / 4).clamp(-1, 1)]
    return torch.cat(out, 1).view(p, _COLOUR_MAPS, h, w)


class IouHead(nn.Module):
    """Estimate each candidate's IoU from the features inside it and on its boundary."""

    def __init__(self, c: int, c_global: int, c_cond: int) -> None:
        super().__init__()
        n = 3 * c + c_global + c_cond + 33 + N_CANDIDATES
        self.mlp = nn.Sequential(
            nn.Linear(n, 96), nn.ReLU(), nn.Linear(96, 64), nn.ReLU(), nn.Linear(64, 1)
        )

    def forward(
        self,
        x: Tensor,
        logits: Tensor,
        context: Tensor,
        maps: Tensor,
        colours: Tensor,
    ) -> Tensor:
        """Features x (P, C, h, w), logits (P, 3, h, w), context (P, G) -> (P, 3).

        `maps` (P, 3, h, w) are the box, its ellipse and the bumps at positive clicks;
        `colours` (P, 8, h, w) tell how even a mask is and how it differs from its rim.
        """
        logits = logits.detach()
        p = logits.sigmoid()  # (P, 3, h, w)
        edge = 4 * p * (1 - p)
        inner = _weighted_mean(x, p)  # (P, 3, C)
        border = _weighted_mean(x, edge)  # (P, 3, C)
        # Rows, then columns: the same as a square of 5, at under half the time.
        rim = F.max_pool2d(F.max_pool2d(p, (5, 1), 1, (2, 0)), (1, 5), 1, (0, 2)) - p
        outer = _weighted_mean(x, rim)  # (P, 3, C)
        mean = _weighted_mean(colours, p)  # (P, 3, 8)
        spread = _weighted_mean(colours.square(), p) - mean.square()
        spread = spread.clamp_min(1e-4).sqrt()
        contrast = (mean - _weighted_mean(colours, rim)).abs()
        area = p.sum((2, 3))  # (P, 3)
        both = torch.einsum("pmhw,pnhw->pmn", p, p)  # (P, 3, 3)
        agree = both / (area[:, :, None] + area[:, None, :] - both + 1e-4)
        said = torch.einsum("pmhw,pnhw->pmn", p, maps)  # (P, 3, 3)
        stats = torch.cat(
            [
                torch.log1p(area)[..., None] / 4,
                (edge.sum((2, 3)) / (area + 1))[..., None],
                ((logits > 1).sum((2, 3)) / ((logits > -1).sum((2, 3)) + 1))[..., None],
                (agree.sum(2, keepdim=True) - 1) / 2,
                agree.amin(2, keepdim=True),
                said[..., :2] / (area[..., None] + 1),
                said[..., 2:] / (maps[:, 2].sum((1, 2)) + 1e-2)[:, None, None],
            ],
            2,
        )  # (P, 3, 8)
        frame = p[..., 0].sum(2) + p[..., -1].sum(2)
        frame = frame + p[:, :, 0].sum(2) + p[:, :, -1].sum(2)  # (P, 3)
        which = torch.eye(N_CANDIDATES, device=x.device, dtype=x.dtype)
        evidence = torch.cat(
            [
                inner,
                border,
                context[:, None].expand(-1, N_CANDIDATES, -1),
                stats,
                which.expand(len(x), -1, -1),
                outer,
                contrast,
                spread,
                contrast / (spread + 0.2),
                (frame / (area + 1).sqrt())[..., None],
            ],
            2,
        )
        out: Tensor = self.mlp(evidence)  # (P, 3, 1)
        return out.squeeze(2).sigmoid()


class Queries(NamedTuple):
    """Vectors that every place is compared with."""

    clicked: Tensor  # (P, 32, K)
    labels: Tensor  # (P, K)
    mean: Tensor  # (P, 32), over positive clicks
    region: Tensor  # (P, 32), in the previous mask or the box
    surround: Tensor  # (P, 32), around the box

    @property
    def vectors(self) -> Tensor:
        """All that has a fixed size, (P, 96)."""
        return torch.cat([self.mean, self.region, self.surround], 1)


class Prepared(NamedTuple):
    """What the decoder computes once for all prompts of a window."""

    base4: Tensor  # (B, 32, H/4, W/4)
    keys: Tensor  # (B, 4 * 8, H/4, W/4), unit vectors of 8
    base16: Tensor  # (B, 64, H/16, W/16)
    fine2: Tensor  # (B, 8, H/2, W/2)
    colours: Tensor  # (B, 2 * 4, H/4, W/4), as they are and blurred over 20 pixels


class Decoder(nn.Module):
    """Prompt maps and embedding -> three masks and their predicted IoU."""

    def __init__(self) -> None:
        super().__init__()
        self.to_base4 = nn.Conv2d(52, 32, 1)
        self.to_keys = nn.Conv2d(52, _HEADS * _HEAD_DIM, 1)
        self.to_base16 = nn.Conv2d(64, 64, 1)
        self.to_fine2 = nn.Conv2d(12, 8, 1)
        self.read = nn.Conv2d(_N_MAPS, 32, 3, padding=1, bias=False)
        self.read_norm = nn.GroupNorm(8, 32)
        self.cond = nn.Sequential(nn.Linear(3 * 32 + 6, 96), nn.ReLU())
        self.cond4, self.cond8 = nn.Linear(96, 32), nn.Linear(96, 48)
        self.cond16, self.cond32 = nn.Linear(96, 64), nn.Linear(96, 96)
        self.down8 = ConvNorm(32, 48, 2, 2)
        self.block8 = Residual(48)
        self.down16 = ConvNorm(48, 64, 2, 2)
        self.block16 = Residual(64)
        self.down32 = ConvNorm(64, 96, 2, 2)
        self.block32 = nn.Sequential(Residual(96), GlobalContext(96))
        self.up16, self.merge16 = nn.Conv2d(96, 64, 1), ConvNorm(64, 64)
        self.up8, self.merge8 = nn.Conv2d(64, 48, 1), ConvNorm(48, 48)
        self.up4, self.merge4 = nn.Conv2d(48, 32, 1), ConvNorm(32, 32)
        self.masks4 = nn.Conv2d(32, N_CANDIDATES, 1)
        self.up2 = nn.Conv2d(32, 8, 1)
        self.refine = nn.Conv2d(8, 8, 3, padding=1)
        self.masks2 = nn.Conv2d(8, N_CANDIDATES, 3, padding=1)
        self.keep_prev = nn.Parameter(torch.full((N_CANDIDATES,), 0.7))
        self.keep_box = nn.Parameter(torch.full((N_CANDIDATES,), 1.0))
        self.iou = IouHead(32, 96, 96)
        nn.init.normal_(self.masks4.weight, std=0.05)
        nn.init.zeros_(self.masks2.weight)

    def prepare(self, f: Features) -> Prepared:
        """Compute what does not depend on the prompts."""
        k = self.to_keys(f.s4)  # (B, heads * dim, H/4, W/4)
        b, _, h, w = k.shape
        k = F.normalize(k.view(b, _HEADS, _HEAD_DIM, h, w), dim=2).view(b, -1, h, w)
        return Prepared(
            self.to_base4(f.s4),
            k,
            self.to_base16(f.s16),
            self.to_fine2(f.s2),
            torch.cat([f.s4[:, 48:], F.avg_pool2d(f.s4[:, 48:], 5, 1, 2)], 1),
        )

    def forward(self, ready: Prepared, batch: PaddedPrompts) -> Decoded:
        """Answer P prompt sets."""
        h, w = ready.base4.shape[-2:]
        ys, xs = _cell_centres(h, 4, ready.base4), _cell_centres(w, 4, ready.base4)
        keys = _take(ready.keys, batch.image_of)  # (P, 32, h, w)
        box = _box_maps(batch, ys, xs)
        d2 = [_nearest_click(batch, ys, xs, label) for label in (1, 0)]
        bumps = [torch.exp(-d / (2 * s * s)) for d in d2 for s in _CLICK_SIGMAS]
        has_box, has_prev = batch.has_box[:, None, None], batch.has_prev[:, None, None]
        prev = batch.prev.clamp(-_LOGIT_LIMIT, _LOGIT_LIMIT) * has_prev
        prev_p = prev.sigmoid() * has_prev
        n_pos = (batch.labels == 1).sum(1).to(keys.dtype)  # (P,)
        n_neg = (batch.labels == 0).sum(1).to(keys.dtype)
        one = torch.ones_like(prev)
        maps = [
            *bumps,
            box.inside,
            box.prior / 4,
            box.rel_y,
            box.rel_x,
            box.depth,
            prev / 4,
            prev_p,
            one * has_box,
            one * has_prev,
            one * (n_pos / 4).clamp(max=1)[:, None, None],
            one * (n_neg / 4).clamp(max=1)[:, None, None],
        ]
        said = (box.prior.sigmoid() * has_box * (1 - has_prev)) + prev_p
        # Without a box the region is the click's surroundings, against the window.
        around = box.ring + (1 - has_box)
        regions = torch.stack([said + 1e-3 * bumps[1], around], 1)  # (P, 2, h, w)
        vectors = self._query_vectors(keys, batch, regions)
        alike = self._similarities(keys, vectors)  # (P, 4 * heads, h, w)
        colours = _take(ready.colours, batch.image_of)  # (P, 8, h, w)
        alike_colours = _colour_maps(colours, batch, regions)  # (P, 10, h, w)
        x = torch.cat([torch.stack(maps, 1), alike, alike_colours], 1)  # (P, 43, h, w)

        size = ((said.sum((1, 2)) + 1).log() / 8)[:, None]  # (P, 1)
        flags = [batch.has_box, batch.has_prev, n_pos / 4, n_neg / 4]
        rest = torch.stack([*flags, batch.has_box * batch.has_prev], 1)  # (P, 5)
        cond = self.cond(torch.cat([vectors.vectors, rest, size], 1))  # (P, 96)
        y4, bottom = self._unet(ready, batch.image_of, x, cond)

        keep_box = self.keep_box[:, None, None] * (1 - has_prev)[:, None]
        low = self.masks4(y4) + self.keep_prev[:, None, None] * prev[:, None]
        # At stride 4 the ellipse of a small box would be a few cells: add it at 2.
        logits = F.interpolate(low, scale_factor=2, mode="bilinear")
        logits = logits + keep_box * self._ellipse_at_2(batch, h, w)[:, None]
        low = low + keep_box * box.prior[:, None]  # (P, 3, h, w)
        fine = F.interpolate(self.up2(y4), scale_factor=2, mode="bilinear")
        fine = fine.add_(_take(ready.fine2, batch.image_of)).relu_()
        fine = self.refine(fine).relu_()
        logits = logits + self.masks2(fine)
        evidence = torch.stack([box.inside, box.prior.sigmoid() * has_box, bumps[0]], 1)
        iou = self.iou(y4, low, torch.cat([bottom, cond], 1), evidence, colours)
        return Decoded(logits, low, iou)

    @staticmethod
    def _ellipse_at_2(batch: PaddedPrompts, h: int, w: int) -> Tensor:
        """Logits of the box's ellipse on the finest grid, (P, 2 h, 2 w)."""
        ys = _cell_centres(2 * h, 2, batch.box)
        _, _, ry, rx = _in_box(batch, ys, _cell_centres(2 * w, 2, batch.box))
        r = (ry.square() + rx.square() + 1e-6).sqrt()
        return _ellipse_logits(r) * batch.has_box[:, None, None]

    def _unet(
        self, ready: Prepared, image_of: Tensor, maps: Tensor, cond: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Prompt maps (P, 43, h, w) -> features (P, 32, h, w), summary (P, 96)."""
        x4 = self.read_norm(self.read(maps)) + self.cond4(cond)[:, :, None, None]
        x4 = F.relu(x4 + _take(ready.base4, image_of))  # (P, 32, H/4, W/4)
        x8 = self.block8(self.down8(x4) + self.cond8(cond)[:, :, None, None])
        x16 = self.down16(x8) + self.cond16(cond)[:, :, None, None]
        x16 = self.block16(x16 + _take(ready.base16, image_of))  # (P, 64, H/16, W/16)
        x32 = self.block32(self.down32(x16) + self.cond32(cond)[:, :, None, None])
        y16 = self.merge16(x16 + up(self.up16(x32), x16))
        y8 = self.merge8(x8 + up(self.up8(y16), x8))
        y4 = self.merge4(x4 + up(self.up4(y8), x4))
        return y4, x32.mean((2, 3))

    def _query_vectors(
        self, keys: Tensor, batch: PaddedPrompts, regions: Tensor
    ) -> Queries:
        clicked = _at_clicks(keys, batch)  # (P, 32, K)
        positive = (batch.labels == 1).to(keys.dtype)[:, None]  # (P, 1, K)
        mean = (clicked * positive).sum(2) / positive.sum(2).clamp_min(1)  # (P, 32)
        both = _weighted_mean(keys, regions)  # (P, 2, 32)
        return Queries(clicked, batch.labels, mean, both[:, 0], both[:, 1])

    @staticmethod
    def _similarities(keys: Tensor, q: Queries) -> Tensor:
        """Cosine per head to the clicks (best of + and -), region, surroundings."""
        p, _, h, w = keys.shape
        k = keys.view(p, _HEADS, _HEAD_DIM, h * w)
        clicked = q.clicked.view(p, _HEADS, _HEAD_DIM, -1)  # (P, heads, dim, K)
        each = torch.einsum("pgdk,pgdn->pkgn", clicked, k)  # (P, K, heads, h * w)
        out = []
        for label in (1, 0):
            off = (q.labels != label).to(k.dtype)[:, :, None, None] * 4.0
            out.append((each - off).amax(1).clamp_min(-1.0))  # -1: there is none
        for vector in (q.region, q.surround):
            out.append(
                torch.einsum("pgd,pgdn->pgn", vector.view(p, _HEADS, _HEAD_DIM), k)
            )
        return torch.cat(out, 1).view(p, 4 * _HEADS, h, w)


def _take(x: Tensor, image_of: Tensor) -> Tensor:
    """Rows of x for each prompt; a view where there is only one window."""
    if len(x) == 1:
        return x.expand(len(image_of), -1, -1, -1)
    return x[image_of]


class NanoNetwork(nn.Module):
    """Encoder and decoder; 4.3 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.decoder = Decoder()
