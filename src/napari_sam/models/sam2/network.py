"""SAM 2's network as `TorchModel` calls it: transformers' `Sam2VideoModel` inside.

SAM 3 answers clicks and follows objects by the same decoder and memory, on features of
another encoder: what both share is `TrackingNetwork`.

Shapes: B images, P prompts, K masks, C = 256 channels, side s (1024, MedSAM2 512,
SAM 3 1008), g = s / 16 cells a side (SAM 3: s / 14).
"""

from __future__ import annotations

import importlib.util
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_sam.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from napari_sam.models.sam.decoder import PromptBatch

_BOX_LABELS = (2, 3)
"""Labels of a box's two corners among the points."""


def check_installed(what: str = "SAM 2") -> None:
    """Make sure that transformers can be imported, without importing it.

    Raises
    ------
    ModelError
        If it is not installed.
    """
    if importlib.util.find_spec("transformers") is None:
        raise ModelError(
            f"{what} runs on the package transformers, which is not installed here: "
            "pip install transformers"
        )


class Sam2Image(NamedTuple):
    """An embedding as the mask decoder takes it."""

    tokens: Tensor
    """(1, C, g, g), marked as an image without a past."""
    fine: tuple[Tensor, Tensor]
    """(1, C / 8, 4 g, 4 g) and (1, C / 4, 2 g, 2 g)."""
    position: Tensor
    """(1, C, g, g)."""


class TrackingNetwork:
    """Prompts and memory of SAM 2 and SAM 3 behind the calls that `TorchModel` makes.

    Parameters
    ----------
    model : transformers.Sam2VideoModel or transformers.Sam3TrackerVideoModel
    positions : torch.nn.Module
        Makes position encodings of feature maps; only memory attention reads them.
    """

    def __init__(self, model: Any, positions: Any) -> None:
        self.model = model
        self.config = model.config
        self.positions = positions
        # What a key plane's mask leaves in memory is read off the single-mask token, as
        # the authors do; transformers says nothing there and gets the best of three.
        model._single_frame_forward = partial(
            model._single_frame_forward, multimask_output=False
        )
        model._use_mask_as_output = partial(_as_remembered, model._use_mask_as_output)

    def maps(self, features: Mapping[str, Tensor]) -> Sequence[Tensor]:
        """Features of one image -> maps (C', h, w) for decoder and memory, fine first.

        C' is C / 8 at 4 g, C / 4 at 2 g and C at g cells a side.
        """
        raise NotImplementedError

    def prepare(self, features: Mapping[str, Tensor]) -> Any:
        """Bring the features (C, h, w) of one image to the decoder."""
        fine_4, fine_8, coarse = self.maps(features)
        no_memory = self.model.no_memory_embedding.view(-1, 1, 1)
        return Sam2Image(
            (coarse + no_memory)[None],
            (fine_4[None], fine_8[None]),
            self.model.get_image_wide_positional_embeddings(),
        )

    def decode(
        self, image: Any, prompts: PromptBatch, *, multimask_output: bool
    ) -> tuple[Tensor, Tensor]:
        """Logits (P, K, 4 g, 4 g) and predicted IoU (P, K); K is 3 or 1."""
        sparse, dense = self._prompts(prompts)
        n = len(sparse)
        logits, iou, _, _ = self.model.mask_decoder(
            image_embeddings=image.tokens.expand(n, -1, -1, -1),
            image_positional_embeddings=image.position.expand(n, -1, -1, -1),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask_output,
            high_resolution_features=[f.expand(n, -1, -1, -1) for f in image.fine],
        )
        return logits[:, 0], iou[:, 0]

    def _prompts(self, prompts: PromptBatch) -> tuple[Tensor, Tensor]:
        """Embed prompts: (P, 1, T, C) of points and boxes, (P, C, g, g) of masks.

        As the authors' image predictor does it: a box's corners are points before the
        others; a mask alone has no points, where transformers gives it an empty one.
        """
        coordinates, labels = _as_points(prompts)
        masks = prompts.masks
        if masks is not None:
            masks = masks[:, None]
        sparse, dense = self.model.prompt_encoder(
            input_points=coordinates,
            input_labels=labels,
            input_boxes=None,
            input_masks=masks,
        )
        if sparse is None:
            sparse = dense.new_zeros(len(dense), 1, 0, dense.shape[1])
        return sparse, dense


class Sam2Network(TrackingNetwork):
    """transformers' network of SAM 2.

    Parameters
    ----------
    model : transformers.Sam2VideoModel
    """

    def __init__(self, model: Any) -> None:
        neck = model.vision_encoder.neck
        super().__init__(model, neck.position_encoding)
        neck.position_encoding = NoPositions()

    def to(self, device: torch.device) -> Sam2Network:
        """Move all parameters."""
        self.model.to(device)
        return self

    def encode(self, frames: Tensor) -> dict[str, Tensor]:
        """Normalised frames (B, 3, s, s) -> the three feature maps, finest first."""
        maps = self.model.vision_encoder(frames, return_dict=True).fpn_hidden_states
        decoder = self.model.mask_decoder
        return {
            "fine_4": decoder.conv_s0(maps[0]),  # (B, C / 8, s / 4, s / 4)
            "fine_8": decoder.conv_s1(maps[1]),  # (B, C / 4, s / 8, s / 8)
            "image_embedding": maps[2],  # (B, C, s / 16, s / 16)
        }

    def maps(self, features: Mapping[str, Tensor]) -> Sequence[Tensor]:
        """Features as they are."""
        return [features[k] for k in ("fine_4", "fine_8", "image_embedding")]


def _as_remembered(use_mask: Callable[..., Any], *given: Any) -> Any:
    """Let memory keep a key plane's mask as the authors do: through low resolution.

    transformers remembers it whole; the authors keep its logits at a quarter of the
    side and enlarge them when the plane goes into memory.
    """
    output = use_mask(*given)
    output.high_res_masks = F.interpolate(
        output.pred_masks,
        size=output.high_res_masks.shape[-2:],
        mode="bilinear",
        align_corners=False,
    )
    return output


class NoPositions(nn.Module):
    """Stands where the neck makes position encodings, 88 MB that nobody reads."""

    def forward(self, shape: Any, device: Any, dtype: Any, mask: Any = None) -> Tensor:
        """Return nothing, quickly."""
        return torch.empty(0, device=device, dtype=dtype)


def _as_points(prompts: PromptBatch) -> tuple[Tensor | None, Tensor | None]:
    """Corners of boxes, then points: (P, 1, T, 2) and labels (P, 1, T)."""
    coordinates, labels = [], []
    if prompts.boxes_xyxy is not None:
        corners = prompts.boxes_xyxy.reshape(-1, 2, 2)
        coordinates.append(corners)
        of_box = torch.tensor(_BOX_LABELS, device=corners.device)
        labels.append(of_box.expand(len(corners), -1))
    if prompts.points_xy is not None and prompts.point_labels is not None:
        coordinates.append(prompts.points_xy)
        labels.append(prompts.point_labels.long())
    if not coordinates:
        return None, None
    return torch.cat(coordinates, 1)[:, None], torch.cat(labels, 1)[:, None]
