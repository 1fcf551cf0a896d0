"""SAM 3 (Carion et al. 2025), run by transformers: words, example boxes, and clicks.

The network is transformers' `Sam3VideoModel`, an extra; what is ours is the way in and
out. Its image processor wants torchvision, so windows are made into frames here, and
the one function of torchvision that the network calls is supplied where it is missing.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F

from napari_sam.errors import CheckpointError, PromptError, reason
from napari_sam.models.checkpoints import load_strict
from napari_sam.models.sam2.memory import Remembers
from napari_sam.models.sam2.network import check_installed
from napari_sam.models.sam3.network import Sam3Network, compute_constants
from napari_sam.models.sam3.roi_align import supply
from napari_sam.models.tokens import Tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from napari_sam.core.embedding import Embedding
    from napari_sam.core.masks import MaskCandidate
    from napari_sam.core.preprocess import ResizeTransform
    from napari_sam.models.checkpoints import Checkpoint
    from napari_sam.models.protocol import ModelSpec

SURE = 0.5
"""Score from which the authors show an instance."""
_BOXES_ALONE = "visual"
"""What the authors write in place of a word where boxes alone say what is meant."""
_TEXTS = 64
"""Texts whose features are kept."""


class Sam3(Remembers):
    """SAM 3 behind the protocol: windows are stretched, not padded.

    Parameters
    ----------
    network : Sam3Network
    spec : ModelSpec
    device : str
    folder : Path
        Where its ``tokenizer.json`` is; only words need it.
    """

    network: Sam3Network

    def __init__(
        self, network: Sam3Network, spec: ModelSpec, device: str, folder: Path
    ) -> None:
        super().__init__(network, spec, device)
        self._folder = folder
        self._tokenizer: Tokenizer | None = None
        self._texts: dict[str, tuple[Any, Tensor]] = {}

    def instances_of(
        self,
        embedding: Embedding,
        text: str = "",
        *,
        boxes: Any = (),
        box_labels: Any = None,
        min_score: float = SURE,
    ) -> list[MaskCandidate]:
        """Find all instances of what a word names, or boxes show, the surest first.

        Parameters
        ----------
        embedding : Embedding
        text : str
            A short noun phrase, in English. May be left out where there are boxes.
        boxes : array-like, (n, 4)
            y0, x0, y1, x1 in pixels of the window, half-open: boxes of examples.
        box_labels : array-like, (n,), optional
            1 for examples of what is wanted, 0 for what is not; all 1 when left out.
        min_score : float
            Least score, 0..1.

        Raises
        ------
        PromptError
            If there is neither a text nor a box that is wanted, or a box is empty.
        ModelError
            If the file that says how words are read is missing.
        """
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        labels = np.ones(len(boxes)) if box_labels is None else np.asarray(box_labels)
        _check(text, boxes, labels)
        resize = self._resize(embedding.original_size)
        given = text.strip() or _BOXES_ALONE

        def run(_: Any) -> list[tuple[Tensor, Tensor]]:
            return [self._find(embedding, given, boxes, labels, min_score)]

        ((logits, scores),) = self._in_batches([None], 1, run)
        found = [
            self._candidate(one, score, resize)
            for one, score in zip(logits, scores.tolist(), strict=True)
        ]
        return [c for c in found if c.area]

    @torch.inference_mode()
    def _find(
        self,
        embedding: Embedding,
        text: str,
        boxes: np.ndarray,
        labels: np.ndarray,
        min_score: float,
    ) -> tuple[Tensor, Tensor]:
        """Logits (n, m, m) and scores (n,) on the CPU, the surest first."""
        shown = None
        if len(boxes):
            h, w = embedding.original_size
            shown = (
                self._on_device(as_centres(boxes / (h, w, h, w))),
                torch.from_numpy(labels.astype(np.int64))[None].to(self._device),
            )
        logits, scores = self.network.find(
            self._prepare(embedding), self._read(text), shown
        )
        order = scores.argsort(descending=True, stable=True)
        order = order[scores[order] >= min_score]
        return logits[order].float().cpu(), scores[order].float().cpu()

    def _read(self, text: str) -> tuple[Any, Tensor]:
        """Features of a text and which pieces are words, kept for the next time."""
        if text not in self._texts:
            if self._tokenizer is None:
                config = self.network.detector.config.text_config
                self._tokenizer = Tokenizer(
                    self._folder, config.max_position_embeddings
                )
            ids, mask = (t.to(self._device) for t in self._tokenizer(text))
            if len(self._texts) >= _TEXTS:
                self._texts.pop(next(iter(self._texts)))
            self._texts[text] = self.network.read(ids, mask), mask
        return self._texts[text]

    def _on_device(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values.astype(np.float32))[None].to(self._device)

    def _move_to_cpu(self) -> None:
        self._texts.clear()
        super()._move_to_cpu()

    def _frame(self, image: np.ndarray, resize: ResizeTransform) -> Tensor:
        return stretched_frame(image, resize.side)


def stretched_frame(image: np.ndarray, side: int) -> Tensor:
    """RGB window -> normalised square frame, as the authors' processor does it.

    Bytes are averaged and rounded to bytes, then brought to -1..1.

    Parameters
    ----------
    image : ndarray, (h, w, 3), uint8
    side : int

    Returns
    -------
    Tensor, (3, side, side), float32, on the CPU
    """
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
    if pixels.shape[1:] != (side, side):
        pixels = F.interpolate(
            pixels[None], (side, side), mode="bilinear", antialias=True
        )[0]
    return ((pixels.float() / 255 - 0.5) / 0.5).contiguous()


def as_centres(boxes: np.ndarray) -> np.ndarray:
    """Boxes (n, 4) as y0, x0, y1, x1 -> centre x, centre y, width, height."""
    y0, x0, y1, x1 = boxes.T
    return np.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], 1)


def from_checkpoint(
    checkpoint: Checkpoint, spec: ModelSpec, device: str = "cpu"
) -> Sam3:
    """Build the SAM 3 that a checkpoint of transformers' layout holds.

    Its sizes are those of the ``config.json`` beside it, or the published ones.

    Raises
    ------
    ModelError
        If transformers is not installed.
    CheckpointError
        If tensors are missing, left over, or of the wrong shape.
    """
    check_installed("SAM 3")
    from transformers import Sam3VideoModel
    from transformers.models.sam3 import modeling_sam3

    supply(modeling_sam3)
    config = _config(checkpoint.path.parent / "config.json")
    model = load_strict(lambda: Sam3VideoModel(config), checkpoint)
    compute_constants(model)
    network = Sam3Network(model)
    grid = network.grid
    backbone = config.detector_config.vision_config.backbone_config
    spec = replace(
        spec,
        input_side=backbone.image_size,
        mask_side=4 * grid,
        stretches=True,
        feature_shapes={"backbone": (backbone.hidden_size, grid, grid)},
        prompts=frozenset({"points", "box", "mask", "text"}),
        sha256=checkpoint.sha256,
    )
    return Sam3(network, spec, device, checkpoint.path.parent)


def _config(path: Path) -> Any:
    from transformers import Sam3VideoConfig

    if not path.is_file():
        return Sam3VideoConfig()
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
        if given.get("model_type") != Sam3VideoConfig.model_type:
            return Sam3VideoConfig()
        return Sam3VideoConfig(**given)
    except Exception as error:  # whatever transformers makes of odd values
        raise CheckpointError(
            f"{path} does not describe a SAM 3 ({reason(error)}): get it again from "
            "where the weights are from, or take it away"
        ) from error


def _check(text: str, boxes: np.ndarray, labels: np.ndarray) -> None:
    if labels.shape != (len(boxes),) or not np.isin(labels, (0, 1)).all():
        raise PromptError(
            "each box has the label 1 (wanted) or 0 (not); got "
            f"{len(boxes)} boxes and the labels {labels.tolist()}"
        )
    if not text.strip() and not labels.any():
        raise PromptError(
            "nothing to look for: give a text such as 'nucleus', or the box of an "
            "example that is wanted"
        )
    if not (boxes[:, :2] < boxes[:, 2:]).all():
        raise PromptError(
            f"boxes are (y0, x0, y1, x1) with y0 < y1 and x0 < x1; got {boxes.tolist()}"
        )
