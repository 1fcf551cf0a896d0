"""How far walks and shapes can be believed on a plane: doubt, and weights."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.engine.follow import overlap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sam.core.mask_prompt import MaskPrompt

_SHAPE_WEIGHT = 0.5
"""Most weight of the interpolated shape where both walks came from key to key; they
share 1 by their distance."""
_SHAPE_WEIGHT_LOST = 1.0
"""The same where one of them ended on the way."""


def doubt_between(
    mask: MaskPrompt, votes: Sequence[MaskPrompt], keys_alike: float
) -> float:
    """How likely a plane between keys is bad (Dice below 0.7), 0 to 1.

    Fitted by logistic regression to brain structures of the MNI152 template, a phantom,
    nuclei, cells and chloroplasts, each kind counting the same; docs/volumes.md says
    how well it does on others.

    Parameters
    ----------
    mask : MaskPrompt
        What was made of the votes.
    votes : sequence of MaskPrompt
        Up to two walks, and the interpolated shape; a walk that ended has none.
    keys_alike : float
        IoU of the two keys.
    """
    agreed = [overlap(mask, vote) for vote in votes]
    agreed += [0.5] * (3 - len(agreed))
    pairs = [overlap(a, b) for a, b in combinations(votes, 2)]
    pairs += [0.3] * (3 - len(pairs))
    off = 3.85 * (1 - float(np.mean(pairs))) + 3.6 * (1 - float(np.mean(agreed)))
    return _share(off + 3.7 * (1 - keys_alike) - 7.8)


def doubt_beyond(
    overlap_before: float, kept: float, stability: float, growth: float
) -> float:
    """How likely a plane beyond the keys is bad, as `doubt_between` says it.

    Parameters
    ----------
    overlap_before : float
        IoU with the mask of the plane before.
    kept : float
        Product of these from the key to here.
    stability : float
        Of the mask, as `MaskCandidate.stability_score`.
    growth : float
        Area as a multiple of the key's.
    """
    off = 1.4 * (1 - overlap_before) + 1.9 * (1 - kept) + 5.8 * (1 - stability)
    return _share(off + 4.0 * max(0.0, float(np.log(growth))) - 6.4)


def shape_weight(walks: Sequence[MaskPrompt], *, arrived: bool) -> float:
    """How much the interpolated shape counts beside the walks on a plane.

    Parameters
    ----------
    walks : sequence of MaskPrompt
        Those that came to this plane: the more two agree, the less it counts.
    arrived : bool
        Whether both walks came all the way from one key to the other.
    """
    if not arrived:
        return _SHAPE_WEIGHT_LOST
    return min(_SHAPE_WEIGHT, 2 * (1 - overlap(walks[0], walks[1])))


def _share(value: float) -> float:
    return float(1 / (1 + np.exp(-value)))
