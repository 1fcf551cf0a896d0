"""SAM 2 and 2.1 (Ravi et al. 2024) and MedSAM2 (Ma et al. 2025), run by transformers.

The network is transformers' `Sam2VideoModel`, an extra; what is ours is the way in and
out: official files (`napari_sam.models.sam2.keys`), embeddings that a store can hold,
and prompts as every model here takes them. Windows are stretched to the square frame.

An embedding is three feature maps. Position encodings, five times as large, are the
same for every image: they are made again when decoding, and never while encoding.

Shapes: B images, P prompts, K masks, C = 256 channels, side s (1024, MedSAM2 512).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from napari_sam.errors import ModelError
from napari_sam.models.checkpoints import load_strict
from napari_sam.models.input_frame import IMAGE_MEAN, IMAGE_STD
from napari_sam.models.sam2 import keys as sam2_keys
from napari_sam.models.sam2.memory import Remembers
from napari_sam.models.sam2.network import Sam2Network, check_installed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sam.core.embedding import Embedding
    from napari_sam.core.masks import MaskCandidate
    from napari_sam.core.preprocess import ResizeTransform
    from napari_sam.core.prompts import WindowPrompts
    from napari_sam.models.checkpoints import Checkpoint
    from napari_sam.models.protocol import ModelSpec

SIDE = 1024
"""Side of the frame of every SAM 2 and 2.1."""
MEDSAM2_SIDE = 512

_LOGIT_LIMIT = 32.0
"""Low-resolution logits are cut to this range, as the authors' predictor returns them;
masks are made of the uncut ones."""


class Sam2(Remembers):
    """SAM 2 behind the protocol: windows are stretched, not padded.

    Parameters
    ----------
    network : Sam2Network
    spec : ModelSpec
    device : str
    bicubic : bool
        Whether windows are resized as MedSAM2's authors do (Pillow's bicubic filter on
        bytes) and not as SAM 2's do (bilinear with averaging, unrounded).
    """

    network: Sam2Network

    def __init__(
        self,
        network: Sam2Network,
        spec: ModelSpec,
        device: str = "auto",
        *,
        bicubic: bool = False,
    ) -> None:
        super().__init__(network, spec, device)
        self._bicubic = bicubic

    def _frame(self, image: np.ndarray, resize: ResizeTransform) -> Tensor:
        return stretched_frame(image, resize.side, bicubic=self._bicubic)

    def _decode(
        self,
        embedding: Embedding,
        prompts: Sequence[WindowPrompts],
        resize: ResizeTransform,
    ) -> list[list[MaskCandidate]]:
        found = super()._decode(embedding, prompts, resize)
        return [[_with_cut_logits(c) for c in candidates] for candidates in found]


def _with_cut_logits(candidate: MaskCandidate) -> MaskCandidate:
    cut = np.clip(candidate.low_res_logits, -_LOGIT_LIMIT, _LOGIT_LIMIT)
    return replace(candidate, low_res_logits=cut)


def stretched_frame(image: np.ndarray, side: int, *, bicubic: bool = False) -> Tensor:
    """RGB window -> normalised square frame.

    Parameters
    ----------
    image : ndarray, (h, w, 3), uint8
    side : int
    bicubic : bool
        As `Sam2` takes it.

    Returns
    -------
    Tensor, (3, side, side), float32, on the CPU
    """
    if bicubic and image.shape[:2] != (side, side):
        from PIL import Image

        resized = Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)
        image = np.asarray(resized)
    pixels = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)
    if pixels.shape[1:] != (side, side):
        pixels = F.interpolate(
            pixels[None], (side, side), mode="bilinear", antialias=True
        )[0]
    mean, std = torch.tensor(IMAGE_MEAN), torch.tensor(IMAGE_STD)
    return ((pixels - mean[:, None, None]) / std[:, None, None]).contiguous()


def from_checkpoint(
    checkpoint: Checkpoint,
    spec: ModelSpec,
    device: str = "cpu",
    *,
    side: int = SIDE,
    hiera: sam2_keys.Hiera | None = None,
) -> Sam2:
    """Build the SAM 2 that a checkpoint holds.

    Parameters
    ----------
    checkpoint : Checkpoint
        With the authors' names or those of transformers.
    spec : ModelSpec
        Name, licence and citation; sizes and hash are filled in.
    device : str
        Where it will run.
    side : int
        Side of the frame, which no tensor tells: 1024, or 512 for MedSAM2.
    hiera : Hiera, optional
        For an encoder that is none of the four published ones.

    Raises
    ------
    ModelError
        If transformers is not installed.
    CheckpointError
        If tensors are missing, left over, or of the wrong shape.
    """
    check_installed()
    from transformers import Sam2VideoModel

    checkpoint = sam2_keys.to_transformers(checkpoint)
    config = sam2_keys.config_for(checkpoint, side, hiera)
    model = load_strict(lambda: Sam2VideoModel(config), checkpoint)
    _compute_buffers(model)
    channels = config.vision_config.fpn_hidden_size
    spec = replace(
        spec,
        input_side=side,
        mask_side=side // 4,
        stretches=True,
        feature_shapes={
            "fine_4": (channels // 8, side // 4, side // 4),
            "fine_8": (channels // 4, side // 8, side // 8),
            "image_embedding": (channels, side // 16, side // 16),
        },
        sha256=checkpoint.sha256,
    )
    network = Sam2Network(model)
    return Sam2(network, spec, device, bicubic=side == MEDSAM2_SIDE)


def _compute_buffers(model: Any) -> None:
    """Fill what is neither in a file nor set by `load_strict`: constants of attention.

    Raises
    ------
    ModelError
        If transformers keeps others than those known here.
    """
    attention = model.memory_attention
    fresh = dict(type(attention)(model.config).named_buffers())
    stored = model.state_dict().keys()
    for name, buffer in model.named_buffers():
        if name in stored:
            continue
        value = fresh.get(name.removeprefix("memory_attention."))
        if value is None or value.shape != buffer.shape:
            raise ModelError(
                f"this version of transformers keeps a constant {name!r} in SAM 2 that "
                "is unknown here: pip install 'transformers>=5.23'"
            )
        buffer.copy_(value)
