"""How good each candidate is: what ranks them.

Letters in shape comments: P prompt sets, C channels, h, w cells of stride 4.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sam.models.nano.prompt_maps import weighted_mean

N_CANDIDATES = 3


class IouHead(nn.Module):
    """Estimate each candidate's IoU from the features inside it and on its boundary."""

    def __init__(self, c: int, c_global: int, c_cond: int, hidden: int) -> None:
        super().__init__()
        n = 3 * c + c_global + c_cond + 33 + N_CANDIDATES
        half = 2 * hidden // 3
        self.mlp = nn.Sequential(
            nn.Linear(n, hidden),
            nn.ReLU(),
            nn.Linear(hidden, half),
            nn.ReLU(),
            nn.Linear(half, 1),
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
        inner = weighted_mean(x, p)  # (P, 3, C)
        border = weighted_mean(x, edge)  # (P, 3, C)
        # Rows, then columns: the same as a square of 5, at under half the time.
        rim = F.max_pool2d(F.max_pool2d(p, (5, 1), 1, (2, 0)), (1, 5), 1, (0, 2)) - p
        outer = weighted_mean(x, rim)  # (P, 3, C)
        mean = weighted_mean(colours, p)  # (P, 3, 8)
        spread = weighted_mean(colours.square(), p) - mean.square()
        spread = spread.clamp_min(1e-4).sqrt()
        contrast = (mean - weighted_mean(colours, rim)).abs()
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
