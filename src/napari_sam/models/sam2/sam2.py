"""SAM 2 and 2.1 (Ravi et al. 2024) and MedSAM2 (Ma et al. 2025), run by transformers.

The network is transformers' `Sam2VideoModel`, an extra; what is ours is the way in and
out: official files (`napari_sam.models.sam2.keys`), embeddings that a store can hold,
and prompts as every model here takes them. Windows are stretched to the square frame.

An embedding is three feature maps. Position encodings, five times as large, are the
same for every image: they are made again when decoding, and never while encoding.

Shapes: B images, P prompts, K masks, C = 256 channels, side s (1024, MedSAM2 512).
"""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_sam.errors import ModelError
from napari_sam.models.checkpoints import load_strict
from napari_sam.models.input_frame import IMAGE_MEAN, IMAGE_STD
from napari_sam.models.sam2 import keys as sam2_keys
from napari_sam.models.torch_model import TorchModel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from napari_sam.core.embedding import Embedding
    from napari_sam.core.masks import MaskCandidate
    from napari_sam.core.preprocess import ResizeTransform
    from napari_sam.core.prompts import WindowPrompts
    from napari_sam.models.checkpoints import Checkpoint
    from napari_sam.models.protocol import ModelSpec
    from napari_sam.models.sam.decoder import PromptBatch
    from napari_sam.models.sam2.memory import MemoryTracker

SIDE = 1024
"""Side of the frame of every SAM 2 and 2.1."""
MEDSAM2_SIDE = 512

_LOGIT_LIMIT = 32.0
"""Low-resolution logits are cut to this range, as the authors' predictor returns them;
masks are made of the uncut ones."""
_BOX_LABELS = (2, 3)
"""Labels of a box's two corners among the points."""


def check_installed() -> None:
    """Make sure that transformers can be imported, without importing it.

    Raises
    ------
    ModelError
        If it is not installed.
    """
    if importlib.util.find_spec("transformers") is None:
        raise ModelError(
            "SAM 2 runs on the package transformers, which is not installed here: "
            "pip install transformers"
        )


class Sam2Image(NamedTuple):
    """An embedding as the mask decoder takes it."""

    tokens: Tensor
    """(1, C, s / 16, s / 16), marked as an image without a past."""
    fine: tuple[Tensor, Tensor]
    """(1, C / 8, s / 4, s / 4) and (1, C / 4, s / 8, s / 8)."""
    position: Tensor
    """(1, C, s / 16, s / 16)."""


class Sam2Network:
    """transformers' network behind the calls that `TorchModel` makes.

    Parameters
    ----------
    model : transformers.Sam2VideoModel
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.config = model.config
        neck = model.vision_encoder.neck
        self.positions = neck.position_encoding
        """Position encoding of feature maps; only memory attention reads it."""
        neck.position_encoding = _NoPositions()
        # What a key plane's mask leaves in memory is read off the single-mask token, as
        # the authors do; transformers says nothing there and gets the best of three.
        model._single_frame_forward = partial(
            model._single_frame_forward, multimask_output=False
        )
        model._use_mask_as_output = partial(_as_remembered, model._use_mask_as_output)

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

    def prepare(self, features: Mapping[str, Tensor]) -> Sam2Image:
        """Bring the features (C, h, w) of one image to the decoder."""
        no_memory = self.model.no_memory_embedding.view(-1, 1, 1)
        return Sam2Image(
            (features["image_embedding"] + no_memory)[None],
            (features["fine_4"][None], features["fine_8"][None]),
            self.model.get_image_wide_positional_embeddings(),
        )

    def decode(
        self, image: Sam2Image, prompts: PromptBatch, *, multimask_output: bool
    ) -> tuple[Tensor, Tensor]:
        """Logits (P, K, s / 4, s / 4) and predicted IoU (P, K); K is 3 or 1."""
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


class _NoPositions(nn.Module):
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


class Sam2(TorchModel):
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

    def tracker(
        self,
        embedding: Callable[[int], Embedding],
        n_planes: int,
        window_size: tuple[int, int],
    ) -> MemoryTracker:
        """Return what follows one object through a window of consecutive planes.

        Parameters
        ----------
        embedding : callable
            Gives the embedding of that window of a plane, by number.
        n_planes : int
            Planes there are, numbered from 0.
        window_size : tuple of int
            (height, width) of the window in its own pixels.
        """
        from napari_sam.models.sam2.memory import MemoryTracker

        resize = self._resize(window_size)
        return MemoryTracker(self.network, embedding, n_planes, resize, self._device)

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
