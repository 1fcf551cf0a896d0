"""Models of any image encoder with SAM's decoder, from their checkpoints' tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from napari_sam.models.checkpoints import load_strict
from napari_sam.models.sam.decoder import SamNetwork
from napari_sam.models.sam.decoder_config import DecoderConfig
from napari_sam.models.torch_model import TorchModel

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from napari_sam.models.checkpoints import Checkpoint
    from napari_sam.models.protocol import ModelSpec


class EncoderPlan(NamedTuple):
    """An image encoder as a checkpoint's tensors describe it."""

    build: Callable[[], nn.Module]
    side: int
    """Of its frame, in pixels."""
    grid: int
    """Tokens on each axis."""


def build_sam_like(
    checkpoint: Checkpoint,
    spec: ModelSpec,
    device: str,
    encoder: EncoderPlan,
    network: Callable[[nn.Module, DecoderConfig], SamNetwork] = SamNetwork,
) -> TorchModel:
    """Build what a checkpoint with SAM's decoder holds, every tensor in its place.

    Parameters
    ----------
    checkpoint : Checkpoint
        With the official names; the decoder's sizes are read off its tensors.
    spec : ModelSpec
        Name, licence and citation; sizes and hash are filled in.
    device : str
        Where it will run.
    encoder : EncoderPlan
    network : callable
        Joins encoder and decoder, where that is not `SamNetwork`.

    Raises
    ------
    CheckpointError
        If tensors are missing, left over, or of the wrong shape; it names them.
    """
    decoder = DecoderConfig.infer(checkpoint, encoder.side, encoder.grid)
    loaded = load_strict(lambda: network(encoder.build(), decoder), checkpoint)
    return TorchModel.of(loaded, spec, checkpoint.sha256, device)
