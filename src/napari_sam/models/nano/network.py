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

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sam.models.nano.blocks import (
    Attention,
    ConvNorm,
    GlobalContext,
    LargeKernel,
    Residual,
    norm,
    up,
)
from napari_sam.models.nano.encoder import Encoder, Features
from napari_sam.models.nano.generation import FIRST, Generation
from napari_sam.models.nano.iou_head import N_CANDIDATES, IouHead
from napari_sam.models.nano.prompt_maps import (
    COLOUR_MAPS,
    PaddedPrompts,
    at_clicks,
    box_maps,
    cell_centres,
    colour_maps,
    ellipse_logits,
    in_box,
    nearest_click,
    weighted_mean,
)
from napari_sam.models.nano.seeds import SeedHead

BEST_GUESS = 1
"""The candidate that learns from every object, as SAM's single mask does.

The others go to whoever is nearest, and end as one for small and one for large objects;
without one that answers for all, ranking them is guessing a size.
"""
ALIGN = 32
"""Windows are padded to a multiple of this, the deepest stride."""

_CLICK_SIGMAS = (3.0, 10.0, 40.0)
_HEADS, _HEAD_DIM = 4, 8
_N_MAPS = 17 + 4 * _HEADS + COLOUR_MAPS
_LOGIT_LIMIT = 8.0
_FINE_MAPS = 5
_FINE_SIGMA = 3.0
_GROUPS = (4, 6, 8, 12)
"""Channels of a normalisation group at strides 4, 8, 16 and 32."""


class Decoded(NamedTuple):
    """What the decoder answers."""

    logits: Tensor  # (P, 3, H/2, W/2)
    low_res: Tensor  # (P, 3, H/4, W/4)
    iou: Tensor  # (P, 3), 0..1


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

    def __init__(self, generation: Generation = FIRST) -> None:
        super().__init__()
        self.in_bfloat16 = False
        """Convolve in bfloat16; for training on a CPU with matrix instructions."""
        self.deep, fine = generation.deep, generation.fine
        c4, c8, c16, c32 = generation.widths
        self.to_base4 = nn.Conv2d(52, c4, 1)
        self.to_keys = nn.Conv2d(52, _HEADS * _HEAD_DIM, 1)
        self.to_base16 = nn.Conv2d(64, c16, 1)
        self.to_fine2 = nn.Conv2d(12, fine, 1)
        self.read = nn.Conv2d(_N_MAPS, c4, 3, padding=1, bias=False)
        self.read_norm = norm(c4, _GROUPS[0])
        self.cond = nn.Sequential(nn.Linear(3 * 32 + 6, 96), nn.ReLU())
        self.cond4, self.cond8 = nn.Linear(96, c4), nn.Linear(96, c8)
        self.cond16, self.cond32 = nn.Linear(96, c16), nn.Linear(96, c32)
        g4, g8, g16, g32 = _GROUPS
        self.down8 = ConvNorm(c4, c8, 2, 2, group=g8)
        self.block8 = Residual(c8, group=g8)
        self.down16 = ConvNorm(c8, c16, 2, 2, group=g16)
        self.block16 = Residual(c16, group=g16)
        self.down32 = ConvNorm(c16, c32, 2, 2, group=g32)
        self.block32 = nn.Sequential(Residual(c32, group=g32), GlobalContext(c32))
        self.up16, self.merge16 = nn.Conv2d(c32, c16, 1), ConvNorm(c16, c16, group=g16)
        self.up8, self.merge8 = nn.Conv2d(c16, c8, 1), ConvNorm(c8, c8, group=g8)
        self.up4, self.merge4 = nn.Conv2d(c8, c4, 1), ConvNorm(c4, c4, group=g4)
        self.masks4 = nn.Conv2d(c4, N_CANDIDATES, 1)
        self.up2 = nn.Conv2d(c4, fine, 1)
        self.refine = nn.Conv2d(fine, fine, 3, padding=1)
        self.masks2 = nn.Conv2d(fine, N_CANDIDATES, 3, padding=1)
        self.keep_prev = nn.Parameter(torch.full((N_CANDIDATES,), 0.7))
        self.keep_box = nn.Parameter(torch.full((N_CANDIDATES,), 1.0))
        self.iou = IouHead(c4, c32, 96, generation.ranker)
        if self.deep:
            self.deep32 = Attention(c32, group=g32)
            self.deep16 = LargeKernel(c16, group=g16)
            self.said2 = nn.Conv2d(_FINE_MAPS, fine, 3, padding=1, bias=False)
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
        ys, xs = cell_centres(h, 4, ready.base4), cell_centres(w, 4, ready.base4)
        keys = _take(ready.keys, batch.image_of)  # (P, 32, h, w)
        box = box_maps(batch, ys, xs)
        d2 = [nearest_click(batch, ys, xs, label) for label in (1, 0)]
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
        alike_colours = colour_maps(colours, batch, regions)  # (P, 10, h, w)
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
        fine = self._fine_maps(batch, prev_p, h, w)  # (P, 5, 2 h, 2 w)
        logits = logits + keep_box * fine[:, :1] * 4
        low = low + keep_box * box.prior[:, None]  # (P, 3, h, w)
        logits = logits + self._refined(ready, batch.image_of, y4, fine)
        evidence = torch.stack([box.inside, box.prior.sigmoid() * has_box, bumps[0]], 1)
        iou = self.iou(y4, low, torch.cat([bottom, cond], 1), evidence, colours)
        return Decoded(logits, low, iou)

    def _refined(
        self, ready: Prepared, image_of: Tensor, y4: Tensor, maps: Tensor
    ) -> Tensor:
        """What is added to the logits at stride 2, (P, 3, 2 h, 2 w)."""
        kind, on = y4.device.type, self.in_bfloat16
        with torch.autocast(kind, torch.bfloat16, enabled=on):
            fine = F.interpolate(self.up2(y4), scale_factor=2, mode="bilinear")
            fine = fine + _take(ready.fine2, image_of)
            if self.deep:
                fine = fine + self.said2(maps)
            fine = self.refine(fine.relu_()).relu_()
            added: Tensor = self.masks2(fine)
        return added.float()

    def _fine_maps(
        self, batch: PaddedPrompts, prev_p: Tensor, h: int, w: int
    ) -> Tensor:
        """Prompts on the finest grid, (P, 5, 2 h, 2 w).

        Logits of the box's ellipse / 4; where the refinement sees more than that, the
        inside of the box, + and - clicks and the previous mask, too.
        """
        ys, xs = cell_centres(2 * h, 2, batch.box), cell_centres(2 * w, 2, batch.box)
        on = batch.has_box[:, None, None]
        hh, hw, ry, rx = in_box(batch, ys, xs)
        r = (ry.square() + rx.square() + 1e-6).sqrt()
        ellipse = ellipse_logits(r) * on / 4
        if not self.deep:
            return ellipse[:, None]
        dy, dx = (1 - ry.abs()) * hh[:, :, None], (1 - rx.abs()) * hw[:, :, None]
        inside = (torch.minimum(dy, dx) / 2 + 0.5).clamp(0, 1) * on
        d2 = [nearest_click(batch, ys, xs, label) for label in (1, 0)]
        bumps = [torch.exp(-d / (2 * _FINE_SIGMA**2)) for d in d2]
        before = F.interpolate(prev_p[:, None], scale_factor=2, mode="bilinear")[:, 0]
        return torch.stack([ellipse, inside, *bumps, before], 1)

    def _unet(
        self, ready: Prepared, image_of: Tensor, maps: Tensor, cond: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Prompt maps (P, 43, h, w) -> features (P, 32, h, w), summary (P, 96)."""
        with torch.autocast(maps.device.type, torch.bfloat16, enabled=self.in_bfloat16):
            x4 = self.read_norm(self.read(maps)) + self.cond4(cond)[:, :, None, None]
            x4 = F.relu(x4 + _take(ready.base4, image_of))  # (P, 32, H/4, W/4)
            x8 = self.block8(self.down8(x4) + self.cond8(cond)[:, :, None, None])
            x16 = self.down16(x8) + self.cond16(cond)[:, :, None, None]
            x16 = self.block16(x16 + _take(ready.base16, image_of))  # at H/16, W/16
            x32 = self.block32(self.down32(x16) + self.cond32(cond)[:, :, None, None])
            if self.deep:
                x32, x16 = self.deep32(x32), self.deep16(x16)
            y16 = self.merge16(x16 + up(self.up16(x32), x16))
            y8 = self.merge8(x8 + up(self.up8(y16), x8))
            y4 = self.merge4(x4 + up(self.up4(y8), x4))
        return y4.float(), x32.float().mean((2, 3))

    def _query_vectors(
        self, keys: Tensor, batch: PaddedPrompts, regions: Tensor
    ) -> Queries:
        clicked = at_clicks(keys, batch)  # (P, 32, K)
        positive = (batch.labels == 1).to(keys.dtype)[:, None]  # (P, 1, K)
        mean = (clicked * positive).sum(2) / positive.sum(2).clamp_min(1)  # (P, 32)
        both = weighted_mean(keys, regions)  # (P, 2, 32)
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
    """Encoder and decoder, and a head for all instances where there is one.

    Parameters
    ----------
    generation : Generation
        3.7 M parameters in the first, 5.5 M in the second.
    """

    def __init__(self, generation: Generation = FIRST) -> None:
        super().__init__()
        self.generation = generation
        self.encoder = Encoder(generation)
        self.decoder = Decoder(generation)
        self.seeds = SeedHead() if generation.seeds else None

    def convolve_in_bfloat16(self) -> None:
        """Train convolutions in bfloat16; all else stays in single precision."""
        self.encoder.in_bfloat16 = self.decoder.in_bfloat16 = True
