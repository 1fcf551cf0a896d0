"""Read the backbone of nano from a checkpoint of EfficientNet-Lite0.

The checkpoint is the one of the ``efficientnet_lite_pytorch`` project (Apache-2.0),
converted there from the weights that Google published with TensorFlow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from napari_sam.errors import CheckpointError
from napari_sam.models.nano.encoder import STAGES, Backbone

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

_BATCH_NORM_EPSILON = 1e-3


def load_backbone(path: Path) -> Backbone:
    """Load EfficientNet-Lite0, its batch norms folded into the convolutions.

    Parameters
    ----------
    path : Path
        ``efficientnet-lite0-*.pth``, a dictionary of tensors.

    Raises
    ------
    CheckpointError
        If a tensor is missing or of another shape.
    """
    state = torch.load(path, map_location="cpu", weights_only=True)
    backbone = Backbone()
    try:
        backbone.load_state_dict(_folded(state))
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path} is no EfficientNet-Lite0: {error}") from error
    return backbone


def _folded(state: dict[str, Tensor]) -> dict[str, Tensor]:
    out = _fold(state, "_conv_stem", "_bn0", "stem")
    i = 0
    for stage, (_, n, _, _, grow) in enumerate(STAGES):
        for block in range(n):
            theirs, ours = f"_blocks.{i}.", f"stages.{stage}.{block}."
            if grow > 1:
                out |= _fold(
                    state, theirs + "_expand_conv", theirs + "_bn0", ours + "expand"
                )
            out |= _fold(
                state, theirs + "_depthwise_conv", theirs + "_bn1", ours + "depthwise"
            )
            out |= _fold(
                state, theirs + "_project_conv", theirs + "_bn2", ours + "project"
            )
            i += 1
    return out


def _fold(
    state: dict[str, Tensor], conv: str, norm: str, ours: str
) -> dict[str, Tensor]:
    """Weight and bias of one convolution that does what both did."""
    weight, mean = state[f"{conv}.weight"], state[f"{norm}.running_mean"]
    std = (state[f"{norm}.running_var"] + _BATCH_NORM_EPSILON).sqrt()
    gain = state[f"{norm}.weight"] / std  # (C,)
    return {
        f"{ours}.weight": weight * gain[:, None, None, None],
        f"{ours}.bias": state[f"{norm}.bias"] - mean * gain,
    }
