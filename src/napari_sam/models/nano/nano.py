"""nano, the embedded model: `NanoNetwork` behind the protocol, and its weights.

Images keep their pixel size: a window smaller than the frame is not scaled up.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_sam.core.embedding import Embedding
from napari_sam.core.masks import MaskCandidate, crop_mask, stability_score
from napari_sam.core.scales import ScaleRule
from napari_sam.errors import CheckpointError, ModelError, PromptError
from napari_sam.models.nano.encoder import FEATURES, Features
from napari_sam.models.nano.generation import FIRST, GENERATIONS
from napari_sam.models.nano.network import (
    ALIGN,
    BEST_GUESS,
    NanoNetwork,
    Prepared,
)
from napari_sam.models.nano.prompt_maps import PaddedPrompts
from napari_sam.models.nano.seeds import peaks
from napari_sam.models.protocol import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sam.core.prompts import WindowPrompts

INPUT_SIDE = 512
MASK_SIDE = INPUT_SIDE // 4
_LONE_CLICK_BONUS = 0.03
"""Added to the best guess's predicted IoU for a lone click, where ranking is unsure.

Chosen on training images, five-fold over whole data sets: IoU of the first-ranked mask
0.35 -> 0.38 on data sets that the ranking had not seen, 0.41 -> 0.43 on those it had.
"""
_LOOKS = 3
"""A mask that misses a click is refined until it holds, so many decodes at most.

On whole data sets never trained on, IoU after eight clicks 0.80 -> 0.83.
"""
_SCALES = ScaleRule(enough=0.8, filling_malus=0.3)
"""nano is too sure of masks that fill a small image; see docs/any_size.md."""
_PROPOSAL_THRESHOLDS = 0.4, 0.2
"""Masks of lone points are seldom as stable as SAM's, at whose thresholds nano proposed
nothing. Chosen by eye between recall and precision on three images each of four sets of
the training data's folders, some of which nano was trained on: a stability of 0.3 had
the better F1 at an IoU of 0.5 on each, 0.2 finds up to half as many objects more.
"""
_LARGEST_HALF = 65504.0
_PROMPTS_AT_ONCE = 4
"""More of them fall out of a CPU's cache."""


class Nano:
    """`NanoNetwork` behind the protocol of `napari_sam.models.protocol`.

    Parameters
    ----------
    network : NanoNetwork
    sha256 : str
        Of the weights' file; "" for weights that came from none.
    device : str
    name : str
    """

    def __init__(
        self,
        network: NanoNetwork,
        *,
        sha256: str = "",
        device: str = "cpu",
        name: str = "nano",
        source: str = "",
    ) -> None:
        self.network = network.to(device).eval().requires_grad_(False)
        self._device = device
        self.lone_click_bonus = _LONE_CLICK_BONUS
        self.looks = _LOOKS
        self._prepared: tuple[Embedding, Prepared] | None = None
        self._spec = ModelSpec(
            name=name,
            input_side=INPUT_SIDE,
            feature_shapes={
                k: (c, INPUT_SIDE // s, INPUT_SIDE // s)
                for k, (c, s) in FEATURES.items()
            },
            mask_side=MASK_SIDE,
            sha256=sha256,
            enlarges=False,
            follow_with=frozenset({"mask"}),
            outline_as=frozenset({"box", "mask"}),
            stroke_points=8,
            scale_rule=_SCALES,
            proposal_thresholds=_PROPOSAL_THRESHOLDS,
            license="Apache-2.0",
            citation="napari-sam's own model; see docs/nano.md",
            details={
                "parameters": f"{sum(p.numel() for p in network.parameters()):,}",
                "modality": "microscopy, CT, MRI, OCT, aerial and natural photos",
            },
            source=source,
        )

    @property
    def spec(self) -> ModelSpec:
        """What is known about the model."""
        return self._spec

    @property
    def device(self) -> str:
        """Where it runs."""
        return self._device

    def encode(self, batch: np.ndarray) -> list[Embedding]:
        """Encode windows (B, h, w, 3) uint8 of at most 512 pixels a side."""
        if batch.ndim != 4 or batch.shape[3] != 3 or batch.dtype != np.uint8:
            raise ModelError(
                "nano encodes (B, h, w, 3) uint8 windows; got "
                f"{batch.shape} {batch.dtype}"
            )
        _, h, w, _ = batch.shape
        if not (0 < h <= INPUT_SIDE and 0 < w <= INPUT_SIDE):
            raise ModelError(
                f"nano encodes windows up to {INPUT_SIDE} pixels a side; got {h} x {w}"
            )
        hp, wp = _aligned(h), _aligned(w)
        image = np.zeros((len(batch), 3, hp, wp), np.float32)
        image[:, :, :h, :w] = batch.transpose(0, 3, 1, 2)
        valid = torch.zeros((len(batch), 1, hp, wp), device=self._device)
        valid[:, :, :h, :w] = 1
        with torch.inference_mode():
            features = self.network.encoder(
                torch.from_numpy(image).to(self._device), valid
            )
        maps = {
            k: self._framed(getattr(features, k), s) for k, (_, s) in FEATURES.items()
        }
        return [
            Embedding({k: m[i] for k, m in maps.items()}, (h, w))
            for i in range(len(batch))
        ]

    def decode(
        self, embedding: Embedding, prompts: WindowPrompts
    ) -> list[MaskCandidate]:
        """Predict three masks, best first."""
        return self.decode_many(embedding, [prompts])[0]

    def decode_many(
        self, embedding: Embedding, prompts: Sequence[WindowPrompts]
    ) -> list[list[MaskCandidate]]:
        """`decode` for many prompt sets on one embedding, a few at a time.

        Raises
        ------
        PromptError
            If there is no prompt, or `mask_input` has the wrong shape.
        """
        for each in prompts:
            _check(each)
        out: list[list[MaskCandidate]] = []
        with torch.inference_mode():
            ready = self._prepare(embedding)
            for i in range(0, len(prompts), _PROMPTS_AT_ONCE):
                some = prompts[i : i + _PROMPTS_AT_ONCE]
                out += self._answer(ready, some, embedding.original_size, self.looks)
        return out

    def _answer(
        self,
        ready: Prepared,
        prompts: Sequence[WindowPrompts],
        size: tuple[int, int],
        looks: int,
    ) -> list[list[MaskCandidate]]:
        """Candidates of some prompt sets; those that miss a click are refined."""
        h, w = size
        decoded = self.network.decoder(
            ready, self._batch(prompts, _aligned(h), _aligned(w))
        )
        full = F.interpolate(decoded.logits, scale_factor=2, mode="bilinear")
        logits = full[:, :, :h, :w].cpu().numpy()  # (P, 3, h, w)
        low = decoded.low_res.clamp(-30, 30).cpu().numpy()
        out = []
        for j, iou in enumerate(decoded.iou.cpu().numpy()):
            if _is_lone_click(prompts[j]):
                iou[BEST_GUESS] += self.lone_click_bonus
            out.append(_candidates(logits[j], low[j], iou))
        missed = [j for j, p in enumerate(prompts) if _misses_a_click(out[j][0], p)]
        if looks > 1 and missed:
            asked = [
                replace(prompts[j], mask_input=out[j][0].low_res_logits) for j in missed
            ]
            found = self._answer(ready, asked, size, looks - 1)
            for j, better in zip(missed, found, strict=True):
                out[j] = better
        return out

    def _prepare(self, embedding: Embedding) -> Prepared:
        """Bring an embedding to the device, once for clicks that follow each other."""
        if self._prepared is None or self._prepared[0] is not embedding:
            ready = self.network.decoder.prepare(self._features(embedding))
            self._prepared = (embedding, ready)
        return self._prepared[1]

    def _features(self, embedding: Embedding) -> Features:
        hp, wp = (_aligned(n) for n in embedding.original_size)
        return Features(
            *(
                torch.from_numpy(embedding.features[k])[
                    None, :, : hp // s, : wp // s
                ].to(self._device, torch.float32)
                for k, (_, s) in FEATURES.items()
            )
        )

    def _framed(self, x: Tensor, stride: int) -> np.ndarray:
        """Pad a map to the frame's size; (B, C, h, w) -> (B, C, 512 / s, 512 / s).

        Half precision, as a store keeps it: torch rounds many times faster than numpy.
        """
        side = INPUT_SIDE // stride
        b, c, h, w = x.shape
        out = torch.zeros((b, c, side, side), dtype=torch.float16)
        out[:, :, :h, :w] = x.clamp(-_LARGEST_HALF, _LARGEST_HALF)
        return out.numpy()

    def _batch(
        self, prompts: Sequence[WindowPrompts], hp: int, wp: int
    ) -> PaddedPrompts:
        n = len(prompts)
        k = max(1, *(len(p.points) for p in prompts))
        points, labels = np.zeros((n, k, 2), np.float32), np.full((n, k), -1, np.int64)
        box, has_box = np.zeros((n, 4), np.float32), np.zeros(n, np.float32)
        prev = np.zeros((n, hp // 4, wp // 4), np.float32)
        has_prev = np.zeros(n, np.float32)
        for i, p in enumerate(prompts):
            points[i, : len(p.points)] = p.points
            labels[i, : len(p.points)] = p.point_labels
            if p.box is not None:
                box[i], has_box[i] = p.box, 1
            if p.mask_input is not None:
                prev[i], has_prev[i] = p.mask_input[: hp // 4, : wp // 4], 1
        arrays: dict[str, Any] = {
            "image_of": np.zeros(n, np.int64),
            "points": points,
            "labels": labels,
            "box": box,
            "has_box": has_box,
            "prev": prev,
            "has_prev": has_prev,
        }
        return PaddedPrompts(
            **{k: torch.from_numpy(v).to(self._device) for k, v in arrays.items()}
        )


def _is_lone_click(prompts: WindowPrompts) -> bool:
    return (
        len(prompts.points) == 1 and prompts.box is None and prompts.mask_input is None
    )


def _misses_a_click(best: MaskCandidate, prompts: WindowPrompts) -> bool:
    """Whether a + click lies outside a mask, or a - click in it; not of lone clicks."""
    if _is_lone_click(prompts):
        return False
    y0, x0, y1, x1 = best.bbox
    for (y, x), label in zip(prompts.points, prompts.point_labels, strict=True):
        row, column = round(float(y)), round(float(x))
        within = y0 <= row < y1 and x0 <= column < x1
        if (within and bool(best.mask[row - y0, column - x0])) != bool(label):
            return True
    return False


def _check(prompts: WindowPrompts) -> None:
    mask = prompts.mask_input
    if mask is not None and mask.shape != (MASK_SIDE, MASK_SIDE):
        raise PromptError(
            f"mask_input holds logits of shape ({MASK_SIDE}, {MASK_SIDE}), as "
            f"low_res_logits of nano have; got {mask.shape}"
        )
    if len(prompts.points) == 0 and prompts.box is None and mask is None:
        raise PromptError("no prompt given: add a point, a box or a mask")


def _aligned(n: int) -> int:
    return -(-n // ALIGN) * ALIGN


def _candidates(
    logits: np.ndarray, low: np.ndarray, iou: np.ndarray
) -> list[MaskCandidate]:
    """Logits (3, h, w), low-resolution (3, h / 4, w / 4), IoU (3,) -> best first."""
    out = []
    for i in np.argsort(-iou, kind="stable"):
        bbox, mask = crop_mask(logits[i] > 0)
        frame = np.full((MASK_SIDE, MASK_SIDE), -10.0, np.float32)
        frame[: low.shape[1], : low.shape[2]] = low[i]
        out.append(
            MaskCandidate(bbox, mask, float(iou[i]), stability_score(logits[i]), frame)
        )
    return out


class SeedingNano(Nano):
    """nano with a head for all instances: it knows places in all objects at once."""

    def seeds(self, embedding: Embedding) -> np.ndarray:
        """Find one place in every object of an encoded window.

        Returns
        -------
        ndarray, (n, 3), float
            y, x in pixels of the window and a score in 0..1, best first.
        """
        head = self.network.seeds
        if head is None:
            raise ModelError(
                f"{self.spec.name} has no head for seeds: expected weights of a later "
                "generation; prompt it on a grid of points instead"
            )
        with torch.inference_mode():
            maps = head(self._features(embedding))[0]
        return peaks(maps, embedding.original_size)


def write_weights(network: NanoNetwork, path: Path) -> None:
    """Write weights as half-precision safetensors."""
    from safetensors.torch import save_file

    state = {k: v.half().contiguous() for k, v in network.state_dict().items()}
    revision = network.generation.revision
    save_file(state, path, metadata={"model": "nano", "revision": revision})


def network_of(raw: bytes) -> NanoNetwork:
    """Make the network that a file of weights is of.

    Raises
    ------
    SafetensorError, RuntimeError, ValueError
        If it is none, or not of nano.
    """
    from safetensors.torch import load

    state = {k: v.float() for k, v in load(raw).items()}
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    revision = header.get("__metadata__", {}).get("revision", FIRST.revision)
    if revision not in GENERATIONS:
        raise ValueError(
            f"expected a generation of {', '.join(GENERATIONS)}; got {revision}"
        )
    network = NanoNetwork(GENERATIONS[revision])
    network.load_state_dict(state)
    return network


def load_nano(
    path: str | Path | None = None, *, device: str = "cpu", name: str = "nano"
) -> Nano:
    """Load the weights that ship with the package, or a file of the same kind.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, or does not fit the network.
    """
    from safetensors import SafetensorError

    shipped = resources.files("napari_sam") / "weights" / "nano.safetensors"
    source = shipped if path is None else Path(path)
    try:
        raw = source.read_bytes()
        network = network_of(raw)
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"{source} is no readable checkpoint of nano: {error}"
        ) from error
    kind = Nano if network.seeds is None else SeedingNano
    return kind(
        network,
        sha256=hashlib.sha256(raw).hexdigest(),
        device=device,
        name=name,
        source="" if path is None else f"nano:{Path(path).absolute()}",
    )
