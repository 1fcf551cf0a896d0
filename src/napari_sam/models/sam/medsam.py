"""MedSAM (Ma et al. 2024): SAM ViT-B trained on medical images, prompted by boxes.

Network and tensor names are ViT-B's, so nothing in a file tells MedSAM from SAM; what
differs is how pixels go in and masks come out. Windows of any shape are stretched to
the square frame with a cubic filter and scaled to 0..1 by their own least and greatest
value. Probabilities, not logits, are enlarged to the window and cut at one half.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_sam.core.masks import stability_score
from napari_sam.errors import PromptError
from napari_sam.models.input_frame import to_candidate
from napari_sam.models.sam import sam
from napari_sam.models.torch_model import TorchModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_sam.core.embedding import Embedding
    from napari_sam.core.masks import MaskCandidate
    from napari_sam.core.preprocess import ResizeTransform
    from napari_sam.core.prompts import WindowPrompts
    from napari_sam.models.checkpoints import Checkpoint
    from napari_sam.models.protocol import ModelSpec


class MedSam(TorchModel):
    """SAM's network with MedSAM's pixels and masks, for boxes."""

    def decode_many(
        self, embedding: Embedding, prompts: Sequence[WindowPrompts]
    ) -> list[list[MaskCandidate]]:
        """Predict one mask for each box; a mask that comes with a box is left out.

        Raises
        ------
        PromptError
            For points, or without a box.
        """
        for p in prompts:
            if len(p.points) or p.box is None:
                got = f"{len(p.points)} points" if len(p.points) else "no box"
                raise PromptError(
                    f"{self.spec.name} was trained on boxes alone; got {got}. Draw a "
                    "box around the object, or choose a model that takes points, such "
                    "as 'sam_vit_b'"
                )
        boxes = [replace(p, mask_input=None, multimask_output=False) for p in prompts]
        return super().decode_many(embedding, boxes)

    def _frame(self, image: np.ndarray, resize: ResizeTransform) -> Tensor:
        return to_frame(image, resize.side)

    def _candidate(
        self, logits: Tensor, predicted_iou: float, resize: ResizeTransform
    ) -> MaskCandidate:
        """Enlarge probabilities instead of logits (m, m), as the authors do."""
        found = to_candidate(torch.sigmoid(logits) - 0.5, predicted_iou, resize)
        values = logits.numpy().copy()
        stability = stability_score(values, 1.0) if found.mask.size else 0.0
        return replace(found, low_res_logits=values, stability_score=stability)


def to_frame(image: np.ndarray, side: int) -> Tensor:
    """RGB window -> the frame that MedSAM was trained on.

    Parameters
    ----------
    image : ndarray, (h, w, 3), uint8
    side : int

    Returns
    -------
    Tensor, (3, side, side), float32, in 0..1
    """
    from skimage.transform import resize

    pixels = resize(
        image, (side, side), order=3, preserve_range=True, anti_aliasing=True
    )
    pixels = pixels.astype(np.uint8)  # the authors cut fractions off here, too
    low, high = int(pixels.min()), int(pixels.max())
    scaled = (pixels - np.float64(low)) / max(high - low, 1e-8)
    return torch.from_numpy(scaled.astype(np.float32)).permute(2, 0, 1)


def from_checkpoint(
    checkpoint: Checkpoint, spec: ModelSpec, device: str = "cpu"
) -> MedSam:
    """Build the MedSAM that a checkpoint with SAM's tensor names holds.

    Raises
    ------
    CheckpointError
        If tensors are missing, left over, or of the wrong shape.
    """
    spec = replace(
        spec,
        stretches=True,
        prompts=frozenset({"box"}),
        encoder_revision="medsam1",  # the same file read as SAM encodes otherwise
    )
    built = sam.from_checkpoint(checkpoint, spec, "cpu")
    return MedSam(built.network, built.spec, device)
