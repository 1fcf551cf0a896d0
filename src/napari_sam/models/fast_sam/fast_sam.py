"""FastSAM behind the model protocol: one pass finds all, prompts choose among it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from napari_sam.models.checkpoints import Checkpoint, load_strict
from napari_sam.models.fast_sam.instances import CONFIDENT, MOST, Instances, pack
from napari_sam.models.fast_sam.network import FastSamConfig, FastSamNetwork
from napari_sam.models.input_frame import resize_image
from napari_sam.models.torch_model import TorchModel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from napari_sam.core.embedding import Embedding
    from napari_sam.core.masks import MaskCandidate
    from napari_sam.core.preprocess import ResizeTransform
    from napari_sam.core.prompts import WindowPrompts
    from napari_sam.models.protocol import ModelSpec
    from napari_sam.models.sam.decoder import PromptBatch

_log = logging.getLogger(__name__)

SIDE = 1024
LICENSE = "AGPL-3.0-only"
"""Of the published weights; assumed of any file of this layout."""
CITATION = "Zhao et al., Fast Segment Anything, 2023, arXiv:2306.12156"
_MASK_SIDE = SIDE // 4
_GRAY = 114 / 255
"""What surrounds an image that does not fill the frame."""
_EMPTY = -10.0


@dataclass(frozen=True, slots=True)
class FrameConfig:
    """Sizes that `TorchModel` asks for."""

    side: int = SIDE
    grid: int = SIDE // 16


class PromptedInstances(nn.Module):
    """The network with choosing for a decoder: what a `TorchModel` runs."""

    def __init__(self, network: FastSamNetwork) -> None:
        super().__init__()
        self.network = network
        self.config = FrameConfig()

    @property
    def feature_shapes(self) -> Mapping[str, tuple[int, int, int]]:
        """(C, h, w) of each feature."""
        k = self.network.config.coefficients
        return {
            "instances": (1, MOST, 9 + k),
            "prototypes": (k, _MASK_SIDE, _MASK_SIDE),
        }

    def encode(self, frames: Tensor) -> dict[str, Tensor]:
        """Frames (B, 3, side, side) in 0..1 -> features, as `instances.pack` makes."""
        return pack(self.network(frames.contiguous(memory_format=torch.channels_last)))

    def prepare(self, features: Mapping[str, Tensor]) -> Any:
        """Features of one image, as they are: its size is not known here."""
        return features

    def decode(
        self, image: Instances, prompts: PromptBatch, *, multimask_output: bool
    ) -> tuple[Tensor, Tensor]:
        """Choose among the instances.

        Returns
        -------
        logits : Tensor, (P, K, m, m)
            K = 3 alternatives or 1; -10 everywhere where there are fewer.
        scores : Tensor, (P, K)
            Confidence, times the IoU with the box or mask that was asked for.
        """
        fits = fit(image, prompts)
        n = 3 if multimask_output else 1
        k = min(n, fits.shape[1])
        m = _MASK_SIDE
        logits = image.prototypes.new_full((len(fits), n, m, m), _EMPTY)
        scores = image.prototypes.new_zeros(len(fits), n)
        best, which = fits.topk(k, 1)
        for i in range(len(fits)):
            found = int((best[i] > 0).sum())
            logits[i, :found] = image.logits(which[i, :found])
            scores[i, :found] = best[i, :found]
            if (
                not found
                and prompts.points_xy is not None
                and prompts.point_labels is not None
            ):
                logits[i, 0], scores[i, 0] = joined(
                    image, prompts.points_xy[i], prompts.point_labels[i] == 1
                )
        return logits, scores


class FastSam(TorchModel):
    """FastSAM: its embedding is all instances of a window; prompts choose among them.

    Several instances that share no mask are joined for several + points, without those
    that - points lie on, as the authors' `point_prompt` does.
    """

    def instances(
        self, embedding: Embedding, min_score: float = CONFIDENT
    ) -> list[MaskCandidate]:
        """All masks of a window, the surest first.

        Parameters
        ----------
        embedding : Embedding
        min_score : float
            Least confidence; nothing below 0.1 is known.
        """
        image = self._prepare(embedding)
        resize = self._resize(embedding.original_size)
        sure = torch.nonzero(image.scores >= min_score).flatten()
        found = []
        for some in torch.split(sure, 32):
            logits = image.logits(some).float().cpu()
            scores = image.scores[some].tolist()
            found += [
                self._candidate(one, score, resize)
                for one, score in zip(logits, scores, strict=True)
            ]
        return [c for c in found if c.area]

    def decode_many(
        self, embedding: Embedding, prompts: Sequence[WindowPrompts]
    ) -> list[list[MaskCandidate]]:
        """As `TorchModel.decode_many`; alternatives that do not exist are left out."""
        found = super().decode_many(embedding, prompts)
        return [[*c[:1], *(other for other in c[1:] if other.area)] for c in found]

    def _frame(self, image: np.ndarray, resize: ResizeTransform) -> Tensor:
        h, w = resize.input_size
        pixels = torch.from_numpy(resize_image(image, (h, w)).astype(np.float32) / 255)
        frame = torch.full((3, resize.side, resize.side), _GRAY)
        frame[:, :h, :w] = pixels.permute(2, 0, 1)
        return frame

    def _prepare(self, embedding: Embedding) -> Instances:
        features = super()._prepare(embedding)
        if not isinstance(features, Instances):
            size = self._resize(embedding.original_size).input_size
            features = Instances.of(features, size, SIDE)
            self._prepared = embedding, features
        return features


def from_checkpoint(
    checkpoint: Checkpoint, spec: ModelSpec, device: str = "cpu"
) -> FastSam:
    """Build the FastSAM (of any size) that a checkpoint holds."""
    _log.warning(
        "FastSAM's published weights are under AGPL-3.0: what you build on them may "
        "have to be published under it, too. Please cite %s.", CITATION,
    )  # fmt: skip
    config = FastSamConfig.infer(checkpoint)
    network = load_strict(lambda: FastSamNetwork(config), checkpoint).fold()
    spec = replace(
        spec, proposal_thresholds=(CONFIDENT, 0.0), license=spec.license or LICENSE
    )
    model = FastSam.of(PromptedInstances(network), spec, checkpoint.sha256, device)
    assert isinstance(model, FastSam)
    return model


def fit(image: Instances, prompts: PromptBatch) -> Tensor:
    """How well each instance answers each prompt, (P, N): 0 where it does not.

    The confidence of instances that hold all + points and no - point, times their IoU
    with the box and the mask of the prompt, where it has any.
    """
    fits = image.scores[None]
    if prompts.points_xy is not None and prompts.point_labels is not None:
        held = holding(image, prompts.points_xy)
        wanted = (prompts.point_labels == 1)[..., None]
        fits = fits * (held == wanted).all(1)
    if prompts.boxes_xyxy is not None:
        overlaps = [box_overlap(image, box) for box in prompts.boxes_xyxy]
        fits = fits * torch.stack(overlaps)
    if prompts.masks is not None and prompts.points_xy is None:
        fits = fits * mask_overlap(image.inside, prompts.masks > 0)
    return fits


def holding(image: Instances, points: Tensor) -> Tensor:
    """Whether instances hold points (P, n, 2) as x, y of the frame: (P, n, N)."""
    m = image.prototypes.shape[-1]
    at = (points * (m / image.side)).long().clamp(0, m - 1)
    return image.inside[:, at[..., 1], at[..., 0]].permute(1, 2, 0)


def box_overlap(image: Instances, box: Tensor) -> Tensor:
    """IoU of every instance's mask with the area of a box x0, y0, x1, y1: (N,)."""
    m = image.prototypes.shape[-1]
    x0, y0, x1, y1 = (box * (m / image.side)).round().long().clamp(0, m).tolist()
    x1, y1 = max(x1, x0 + 1), max(y1, y0 + 1)
    shared = image.inside[:, y0:y1, x0:x1].sum((1, 2))
    union = image.inside.sum((1, 2)) + (y1 - y0) * (x1 - x0) - shared
    overlap: Tensor = shared / union
    return overlap


def mask_overlap(inside: Tensor, wanted: Tensor) -> Tensor:
    """IoU of masks (N, m, m) with masks (P, m, m): (P, N)."""
    a, b = inside.flatten(1).float(), wanted.flatten(1).float()
    shared = b @ a.T
    union = a.sum(1)[None] + b.sum(1)[:, None] - shared
    overlap: Tensor = shared / union.clamp(min=1)
    return overlap


def joined(image: Instances, points: Tensor, wanted: Tensor) -> tuple[Tensor, float]:
    """One mask of all instances that hold + points, without those on - points.

    Parameters
    ----------
    points : Tensor, (n, 2)
        x, y in pixels of the frame.
    wanted : Tensor, (n,), bool
        True for + points.

    Returns
    -------
    logits : Tensor, (m, m)
    score : float
        Mean confidence, times the share of + points that the mask holds.
    """
    held = holding(image, points[None])[0]
    on, off = held[wanted].any(0), held[~wanted].any(0)
    take = torch.nonzero(on & ~off).flatten()
    if not len(take):
        empty = torch.full_like(image.prototypes[0], _EMPTY)
        return empty, 0.0
    logits = image.logits(take).amax(0)
    against = torch.nonzero(off & ~on).flatten()
    if len(against):
        logits = torch.minimum(logits, -image.logits(against).amax(0))
    covered = held[wanted][:, take].any(1).float().mean()
    return logits, float(image.scores[take].mean() * covered)
