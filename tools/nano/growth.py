"""Begin a wider and deeper network with all that a smaller one knows.

New channels read old and new ones alike, but nothing that was there listens to them
yet, new blocks begin as the identity, and groups of normalisation keep their channels:
the grown network gives the same masks at first (Chen et al. 2016, Net2Net,
https://arxiv.org/abs/1511.05641, for the idea).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from napari_sam.models.nano.generation import SECOND, Generation
from napari_sam.models.nano.network import NanoNetwork

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def grow(small: NanoNetwork, generation: Generation = SECOND) -> NanoNetwork:
    """Return a network of a larger generation that answers as `small` does."""
    large = NanoNetwork(generation)
    state, old = large.state_dict(), small.state_dict()
    parts = _joined_inputs(small, large)
    for name, value in old.items():
        spans = parts.get(name) or [(value.shape[1:2], state[name].shape[1:2])]
        state[name] = _widened(value, state[name], spans)
    if large.decoder.deep and not small.decoder.deep:
        # What the old channels of the refinement hear of the prompts comes later.
        state["decoder.said2.weight"][: small.generation.fine] = 0
    large.load_state_dict(state)
    return large


def _joined_inputs(
    small: NanoNetwork, large: NanoNetwork
) -> dict[str, list[tuple[Sequence[int], Sequence[int]]]]:
    """Widths, before and after, of inputs that are several maps side by side."""
    (a4, _, _, a32), (b4, _, _, b32) = small.generation.widths, large.generation.widths
    n_inputs = int(small.state_dict()["decoder.iou.mlp.0.weight"].shape[1])
    rest = n_inputs - 3 * a4 - a32 - 107
    # Features inside and on the boundary; the deepest ones; prompts, numbers and which
    # candidate it is; features on the rim; colours.
    evidence = [(a4, b4), (a4, b4), (a32, b32), (107, 107), (a4, b4), (rest, rest)]
    return {
        "decoder.block32.1.mlp.0.weight": [((a32,), (b32,))] * 2,
        "decoder.iou.mlp.0.weight": [((a,), (b,)) for a, b in evidence],
    }


def _widened(
    old: Tensor, new: Tensor, spans: Sequence[tuple[Sequence[int], Sequence[int]]]
) -> Tensor:
    """Put old rows into new ones; they do not listen to inputs that are new."""
    if old.shape == new.shape:
        return old.clone()
    out = new.clone()
    n = old.shape[0]
    if old.ndim == 1:
        out[:n] = old
        return out
    out[:n] = torch.zeros_like(out[:n])
    i = j = 0
    for (a,), (b,) in spans:
        out[:n, j : j + a] = old[:, i : i + a]
        i, j = i + a, j + b
    return out
