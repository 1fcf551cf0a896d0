"""CLIP (Radford et al. 2021) and SigLIP (Zhai et al. 2023), run by transformers.

SAM's paper finds what a word names by scoring masked crops of proposals; this is the
scoring. Neither torchvision nor open_clip is needed: crops are squares already, and
words are cut by the ``tokenizer.json`` beside the weights.

Shapes: n crops, side s (224), T word pieces, D features.
"""

from __future__ import annotations

import json
import string
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_sam.errors import CheckpointError, ModelError, reason
from napari_sam.models import checkpoints
from napari_sam.models.clip.catalogue import WEIGHTS, folder_of, weights_in
from napari_sam.models.devices import resolve_device
from napari_sam.models.sam2.network import check_installed
from napari_sam.models.tokens import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

OTHERS = ("background", "something else")
"""What a crop may be as well: CLIP only ever says which of several texts fits best."""
_USUAL = {"clip": 0.5, "siglip": 0.1}
"""A CLIP's text fits better than all others together; a SigLIP is rarely as sure."""
_BATCH = 16
_TEXTS = 64
"""Texts whose features are kept."""
_MEANS = {
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "siglip": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""Mean and deviation of red, green and blue in 0..1, where no file says others."""


class ClipScorer:
    """Says how well words fit pictures; a `napari_sam.models.protocol.TextScorer`.

    Parameters
    ----------
    model : transformers.CLIPModel or transformers.SiglipModel
    kind : {"clip", "siglip"}
    folder : Path
        Where its files are.
    device : str
    """

    def __init__(self, model: Any, kind: str, folder: Path, device: str) -> None:
        self._model, self._kind = model, kind
        self._device = resolve_device(device)
        model.to(self._device)
        text = model.config.text_config
        self._tokenizer = Tokenizer(folder, text.max_position_embeddings)
        self._texts: dict[str, Tensor] = {}
        self._mean, self._std = _statistics(folder, kind)
        self.name = folder.name
        """What it is called: the name of its folder."""
        self.crop_side: int = model.config.vision_config.image_size
        """Side of the crops it takes, in pixels."""
        self.usual_score = _USUAL[kind]
        """Score from which words usually fit."""

    @property
    def fill(self) -> tuple[int, int, int]:
        """Colour that tells it nothing, for what lies around an object."""
        r, g, b = (round(255 * v) for v in self._mean)
        return r, g, b

    def score(
        self, text: str, crops: np.ndarray, others: Sequence[str] = OTHERS
    ) -> np.ndarray:
        """Say how well a text fits pictures.

        Parameters
        ----------
        text : str
            In English: what these models were trained on.
        crops : ndarray, (n, h, w, 3), uint8
            RGB, square; resized to `crop_side` where they have another side.
        others : sequence of str
            What else the pictures may show. A CLIP says how much better the text fits
            than these; a SigLIP judges the text by itself.

        Returns
        -------
        ndarray, (n,), float64
            0..1. Comparable between pictures, hardly between texts.

        Raises
        ------
        PromptError
            If there are no words, or more than the model reads.
        ModelError
            If crops have another shape or dtype.
        """
        crops = np.asarray(crops)
        if crops.ndim != 4 or crops.shape[-1] != 3 or crops.dtype != np.uint8:
            raise ModelError(
                "score takes RGB crops as (n, h, w, 3) uint8; got "
                f"{crops.shape} {crops.dtype}"
            )
        given = [text, *others] if self._kind == "clip" else [text]
        words = torch.cat([self._read(one) for one in given])
        parts = [
            self._fit(crops[i : i + _BATCH], words)
            for i in range(0, len(crops), _BATCH)
        ]
        return np.concatenate([np.zeros(0), *parts])

    @torch.inference_mode()
    def _fit(self, crops: np.ndarray, words: Tensor) -> np.ndarray:
        pixels = torch.stack([self._frame(c) for c in crops]).to(self._device)
        seen = self._model.get_image_features(pixels, return_dict=True).pooler_output
        cosines = _unit(seen) @ words.T
        logits = cosines * self._model.logit_scale.exp()
        if self._kind == "clip":
            fits = logits.softmax(1)[:, 0]
        else:
            fits = (logits + self._model.logit_bias).sigmoid()[:, 0]
        return np.asarray(fits.double().cpu())

    @torch.inference_mode()
    def _read(self, text: str) -> Tensor:
        """Features (1, D) of a text, kept for the next time."""
        if text not in self._texts:
            if len(self._texts) >= _TEXTS:
                self._texts.pop(next(iter(self._texts)))
            if self._kind == "clip":
                ids, mask = self._tokenizer(text)
                given = {"input_ids": ids, "attention_mask": mask}
            else:  # trained on plain small letters, and on what fills texts up
                plain = text.translate(str.maketrans("", "", string.punctuation))
                given = {"input_ids": self._tokenizer(plain.lower())[0]}
            given = {k: v.to(self._device) for k, v in given.items()}
            read = self._model.get_text_features(**given, return_dict=True)
            self._texts[text] = _unit(read.pooler_output)
        return self._texts[text]

    def _frame(self, crop: np.ndarray) -> Tensor:
        """(h, w, 3) uint8 -> (3, s, s) float32."""
        from PIL import Image

        size = self.crop_side, self.crop_side
        if crop.shape[:2] != size:
            resized = Image.fromarray(crop).resize(size, Image.Resampling.BICUBIC)
            crop = np.asarray(resized)
        pixels = torch.from_numpy(crop.astype(np.float32) / 255)
        mean, std = torch.tensor(self._mean), torch.tensor(self._std)
        return ((pixels - mean) / std).permute(2, 0, 1)


def load_scorer(
    name_or_folder: str | Path = "clip_vit_b32", *, device: str = "auto"
) -> ClipScorer:
    """Load a scorer of words by name, downloading it the first time, or from a folder.

    Parameters
    ----------
    name_or_folder : str or Path
        "clip_vit_b32", "siglip_b16", or a folder with any CLIP or SigLIP as
        transformers saves it: ``config.json``, ``tokenizer.json`` and
        ``model.safetensors`` (or ``pytorch_model.bin``, which is read without running
        anything in it).
    device : str
        As `load_model` takes it.

    Raises
    ------
    ModelError
        If there is no such scorer or folder, or transformers is not installed.
    DownloadError
        If the weights are not here and cannot be fetched.
    CheckpointError
        If files are missing, damaged, or of another kind of model.

    Examples
    --------
    >>> scorer = load_scorer("clip_vit_b32")  # doctest: +SKIP
    >>> scorer.score("a cell", crops)  # doctest: +SKIP
    """
    check_installed("scoring words")
    folder = folder_of(name_or_folder)
    path = weights_in(folder)
    if path is None:
        raise CheckpointError(
            f"{folder} holds no weights: expected one of {', '.join(WEIGHTS)}"
        )
    kind, config, build = _kind(folder / "config.json")
    checkpoint = checkpoints.read(path)
    state = {k: v for k, v in checkpoint.state.items() if not _is_counting(k)}
    checkpoint = checkpoints.Checkpoint(path, state, checkpoint.sha256)
    model = checkpoints.load_strict(lambda: build(config), checkpoint)
    for name, buffer in model.named_buffers():
        if _is_counting(name):
            buffer.copy_(torch.arange(buffer.shape[-1]).expand(buffer.shape))
    return ClipScorer(model, kind, folder, device)


def _kind(path: Path) -> tuple[str, Any, Any]:
    """Return "clip" or "siglip", its configuration and what builds it."""
    from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

    kinds = {"clip": (CLIPConfig, CLIPModel), "siglip": (SiglipConfig, SiglipModel)}
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
        kind = given["model_type"]
        config_type, build = kinds[kind]
        return kind, config_type(**given), build
    except Exception as error:  # whatever transformers makes of odd values
        raise CheckpointError(
            f"{path} does not describe a CLIP or SigLIP ({reason(error)}): give a "
            "folder as transformers saves them"
        ) from error


def _statistics(folder: Path, kind: str) -> tuple[list[float], list[float]]:
    path = folder / "preprocessor_config.json"
    mean, std = _MEANS[kind]
    if not path.is_file():
        return list(mean), list(std)
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
        found = [
            [float(v) for v in given.get(key, values)]
            for key, values in (("image_mean", mean), ("image_std", std))
        ]
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} does not say how pixels are read ({reason(error)}): get it again "
            "from where the weights are from, or take it away"
        ) from error
    return found[0], found[1]


def _is_counting(name: str) -> bool:
    """Whether a tensor only counts positions; some files hold it, others do not."""
    return name.endswith("position_ids")


def _unit(values: Tensor) -> Tensor:
    unit: Tensor = values / values.norm(dim=-1, keepdim=True)
    return unit
