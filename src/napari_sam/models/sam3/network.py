"""SAM 3's network: transformers' `Sam3VideoModel` as `TorchModel` and words call it.

One encoder serves two halves: a detector that finds all instances of what a word names
or boxes show, and SAM 2's decoder and memory for clicks. What is kept of an image is
the encoder's last map, from which each half makes the finer maps it reads by a neck of
its own: a fourth of what either would have to keep.

Shapes: B images, n boxes, Q = 200 queries, C = 256 channels, side s = 1008, g = s / 14.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from napari_sam.errors import ModelError
from napari_sam.models.sam2.network import NoPositions, TrackingNetwork

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from napari_sam.models.sam.decoder import PromptBatch
    from napari_sam.models.sam2.network import Sam2Image


class Sam3Image:
    """An embedding, brought to whichever half is asked, and kept there."""

    def __init__(self, network: Sam3Network, features: Mapping[str, Tensor]) -> None:
        self._network, self._features = network, features

    @cached_property
    def for_clicks(self) -> Sam2Image:
        """What the decoder of clicks takes."""
        image: Sam2Image = TrackingNetwork.prepare(self._network, self._features)
        return image

    @cached_property
    def for_words(self) -> Any:
        """What the detector takes: a `Sam3VisionEncoderOutput`."""
        from transformers.models.sam3.modeling_sam3 import Sam3VisionEncoderOutput

        maps, positions = self._network.detector.vision_encoder.neck(
            backbone_map(self._features)
        )
        return Sam3VisionEncoderOutput(
            fpn_hidden_states=maps, fpn_position_encoding=positions
        )


class Sam3Network(TrackingNetwork):
    """transformers' network of SAM 3.

    Parameters
    ----------
    model : transformers.Sam3VideoModel
    """

    def __init__(self, model: Any) -> None:
        neck = model.tracker_neck
        super().__init__(model.tracker_model, neck.position_encoding)
        neck.position_encoding = NoPositions()
        self._neck, self._whole = neck, model
        self.detector = model.detector_model
        self.grid = model.tracker_model.prompt_encoder.image_embedding_size[0]

    def to(self, device: torch.device) -> Sam3Network:
        """Move all parameters."""
        self._whole.to(device)
        return self

    def encode(self, frames: Tensor) -> dict[str, Tensor]:
        """Normalised frames (B, 3, s, s) -> the encoder's last map (B, C', g, g)."""
        rows = self.detector.vision_encoder.backbone(frames).last_hidden_state
        return {"backbone": rows.transpose(1, 2).unflatten(2, (self.grid, self.grid))}

    def maps(self, features: Mapping[str, Tensor]) -> Sequence[Tensor]:
        """See `TrackingNetwork.maps`."""
        decoder = self.model.mask_decoder
        fine_4, fine_8, coarse = self._neck(backbone_map(features))[0][:3]
        return decoder.conv_s0(fine_4)[0], decoder.conv_s1(fine_8)[0], coarse[0]

    def prepare(self, features: Mapping[str, Tensor]) -> Sam3Image:
        """Let the features of one image wait until a half is asked."""
        return Sam3Image(self, features)

    def decode(
        self, image: Sam3Image, prompts: PromptBatch, *, multimask_output: bool
    ) -> tuple[Tensor, Tensor]:
        """Logits (P, K, 4 g, 4 g) and predicted IoU (P, K); K is 3 or 1."""
        return super().decode(
            image.for_clicks, prompts, multimask_output=multimask_output
        )

    def read(self, ids: Tensor, mask: Tensor) -> Any:
        """Pieces of words (1, T) -> features, a `BaseModelOutputWithPooling`."""
        return self.detector.get_text_features(
            input_ids=ids, attention_mask=mask, return_dict=True
        )

    def find(
        self,
        image: Sam3Image,
        text: tuple[Any, Tensor],
        boxes: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Find all instances.

        Parameters
        ----------
        image : Sam3Image
        text : (features, mask)
            What `read` made of the words, and (1, T), 1 where there are words.
        boxes : (boxes, labels), optional
            (1, n, 4) as centre x, y, width, height in 0..1 of the frame, and (1, n), 1
            for what is wanted and 0 for what is not.

        Returns
        -------
        logits : Tensor, (Q, 4 g, 4 g)
        scores : Tensor, (Q,)
            0..1: how sure that there is any such thing in the image, times how sure
            that this is one.
        """
        given = {}
        if boxes is not None:
            given = {"input_boxes": boxes[0], "input_boxes_labels": boxes[1]}
        features, mask = text
        found = self.detector(
            vision_embeds=image.for_words,
            text_embeds=features,
            attention_mask=mask,
            **given,
        )
        scores = found.pred_logits.sigmoid() * found.presence_logits.sigmoid()
        return found.pred_masks[0], scores[0]


def backbone_map(features: Mapping[str, Tensor]) -> Tensor:
    """(1, C', g, g), laid out in memory as transformers hands it to the neck."""
    rows = features["backbone"].permute(1, 2, 0).contiguous()
    return rows[None].permute(0, 3, 1, 2)


def compute_constants(model: Any) -> None:
    """Fill what is neither in a file nor set by `load_strict`: positions and rotations.

    Raises
    ------
    ModelError
        If transformers keeps others than those known here.
    """
    for path, module in model.named_modules():
        for name in module._non_persistent_buffers_set:
            buffer = module._buffers[name]
            value = _constant(module, name, buffer)
            if value is None or value.shape != buffer.shape:
                raise ModelError(
                    f"this version of transformers keeps a constant '{path}.{name}' in "
                    "SAM 3 that is unknown here: pip install 'transformers==5.23.*'"
                )
            buffer.copy_(value)


def _constant(module: Any, name: str, buffer: Tensor) -> Tensor | None:
    value: Tensor | None = None
    if name in ("inv_freq", "original_inv_freq"):
        value = module.compute_axial_rope_parameters(module.config)[0]
    elif name == "position_ids" and hasattr(module, "window_size"):
        value = module.precompute_positions(module.config, module.window_size)
    elif name == "position_ids" and hasattr(module, "precompute_positions"):
        value = module.precompute_positions(module.config)
    elif name == "position_ids" and buffer.ndim == 2:
        value = torch.arange(buffer.shape[1])[None].expand(buffer.shape)
    return value
