"""What the head for all instances learns: foreground, boundary and distance."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor


def seed_targets(labels: np.ndarray) -> np.ndarray:
    """Maps of one crop.

    Parameters
    ----------
    labels : (h, w) int
        0 is background.

    Returns
    -------
    (3, h, w) float32
        Foreground; cells of objects beside another label; distance from the boundary,
        1 at the innermost cell of each object.
    """
    inside = labels > 0
    edge = np.zeros_like(inside)
    across, down = labels[:, 1:] != labels[:, :-1], labels[1:] != labels[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    edge &= inside
    depth = ndimage.distance_transform_edt(inside & ~edge).astype(np.float32) + inside
    ids = np.arange(int(labels.max()) + 1)
    deepest = np.maximum(np.asarray(ndimage.maximum(depth, labels, ids)), 1)
    return np.stack([inside, edge, depth / deepest[labels]]).astype(np.float32)


def seed_loss(maps: Tensor, labels: np.ndarray, complete: np.ndarray) -> Tensor:
    """Loss of the crops whose every object is labelled; 0 where there is none.

    Parameters
    ----------
    maps : (B, 3, h, w)
        Of `napari_sam.models.nano.seeds.SeedHead`.
    labels : (B, h, w) int
    complete : (B,) bool
    """
    if not complete.any():
        return maps.sum() * 0
    targets = np.stack([seed_targets(one) for one in labels[complete]])
    truth = torch.from_numpy(targets).to(maps.device)
    found = maps[torch.from_numpy(complete).to(maps.device)]
    two = F.binary_cross_entropy_with_logits(found[:, :2], truth[:, :2])
    inside = truth[:, :1]
    far = ((found[:, 2:] - truth[:, 2:]).abs() * (0.2 + inside)).mean()
    return two + 2 * far
