"""What every torch model shares: devices, batches, memory, pixels in and masks out."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import torch

from napari_sam.core.embedding import Embedding
from napari_sam.core.preprocess import ResizeTransform
from napari_sam.errors import ModelError, PromptError
from napari_sam.models.devices import is_out_of_memory, resolve_device
from napari_sam.models.input_frame import to_candidate, to_frame
from napari_sam.models.sam.decoder import UPSCALE, PromptBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from torch import Tensor

    from napari_sam.core.masks import MaskCandidate
    from napari_sam.core.prompts import WindowPrompts
    from napari_sam.models.protocol import ModelSpec

_log = logging.getLogger(__name__)
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_BATCH = {"cpu": (1, 1)}
"""Device type -> images encoded, prompts decoded at a time; a CPU gains from caches."""
_GPU_BATCH = (4, 32)
PRECISIONS = ("float32", "bfloat16", "float16", "int8")
"""Number formats that an encoder can multiply in; sums and norms stay in float32."""


class Network(Protocol):
    """What a `TorchModel` asks of the module it runs."""

    config: Any

    def encode(self, frames: Tensor) -> dict[str, Tensor]:
        """Frames (B, 3, side, side) -> named features (B, C, h, w)."""
        ...

    def prepare(self, features: Mapping[str, Tensor]) -> Any:
        """Features (C, h, w) of one image -> what `decode` takes."""
        ...

    def decode(
        self, image: Any, prompts: PromptBatch, *, multimask_output: bool
    ) -> tuple[Tensor, Tensor]:
        """Logits (P, K, m, m) and predicted IoU (P, K)."""
        ...

    def to(self, device: torch.device) -> Any:
        """Move all parameters."""
        ...


class TorchModel:
    """A `PromptableModel` around a torch network with SAM's frame.

    Parameters
    ----------
    network : Network
    spec : ModelSpec
    device : str
        "auto", "cpu", "cuda", "cuda:1" or "mps".
    """

    def __init__(self, network: Network, spec: ModelSpec, device: str = "auto") -> None:
        self.network = network
        self._spec = spec
        self._device = resolve_device(device)
        self._autocast: torch.dtype | None = None
        self._int8: Callable[[Tensor], Mapping[str, Tensor]] | None = None
        self._prepared: tuple[Embedding, Any] | None = None
        network.to(self._device)

    @classmethod
    def of(cls, network: Any, spec: ModelSpec, sha256: str, device: str) -> TorchModel:
        """Build from a loaded SAM-like network, filling the sizes into `spec`."""
        config = network.config
        spec = replace(
            spec,
            input_side=config.side,
            feature_shapes=network.feature_shapes,
            mask_side=UPSCALE * config.grid,
            sha256=sha256,
        )
        return cls(network, spec, device)

    def encode_in(self, precision: str, image: np.ndarray | None = None) -> None:
        """Choose the number format that the encoder multiplies in.

        Half the width is about twice as fast on recent CUDA devices, and slower on most
        CPUs. "int8" is for CPUs, needs the extra ``[openvino]``, and takes about a
        minute to prepare. Embeddings differ, so stores keep them apart from others.

        Parameters
        ----------
        precision : str
            "float32", "bfloat16", "float16" or "int8".
        image : ndarray, (h, w, 3), uint8, optional
            On which "int8" has to give the masks of float32 (a mean IoU of 0.98);
            by default a photograph.

        Raises
        ------
        ModelError
            If it is another, or if "int8" cannot be had or loses too much; the model
            then goes on in float32.
        """
        if precision not in PRECISIONS:
            raise ModelError(f"precision is one of {PRECISIONS}; got {precision!r}")
        revision = self._spec.encoder_revision.partition("-")[0]
        self._autocast = self._int8 = None
        self._spec = replace(self._spec, encoder_revision=revision)
        if precision == "int8":
            from napari_sam.models.int8_encoder import make_encoder

            self._int8 = make_encoder(self, image)[0]
        elif precision != "float32":
            self._autocast = getattr(torch, precision)
        if precision != "float32":
            revision = f"{revision}-{precision}"
            self._spec = replace(self._spec, encoder_revision=revision)

    @property
    def spec(self) -> ModelSpec:
        """What is known about the model."""
        return self._spec

    @property
    def device(self) -> str:
        """Where it runs now; "cpu" after a device ran out of memory."""
        return str(self._device)

    def encode(self, batch: np.ndarray) -> list[Embedding]:
        """Encode windows of one size.

        Parameters
        ----------
        batch : ndarray, (B, h, w, 3), uint8

        Raises
        ------
        ModelError
            If the batch has another shape or dtype.
        """
        batch = np.asarray(batch)
        if batch.ndim != 4 or batch.shape[-1] != 3 or batch.dtype != np.uint8:
            raise ModelError(
                "encode takes RGB windows as (B, h, w, 3) uint8; got "
                f"{batch.shape} {batch.dtype}. Map intensities to uint8 first"
            )
        resize = self._resize(batch.shape[1:3])
        size = _BATCH.get(self._device.type, _GPU_BATCH)[0]
        return self._in_batches(
            list(batch), size, lambda some: self._encode(some, resize)
        )

    def encode_with(
        self, encode: Callable[[Tensor], Mapping[str, Tensor]], image: np.ndarray
    ) -> Embedding:
        """Encode one window (h, w, 3) by another encoder, to compare it with this."""
        return self._encode([image], self._resize(image.shape[:2]), encode)[0]

    def decode(
        self, embedding: Embedding, prompts: WindowPrompts
    ) -> list[MaskCandidate]:
        """Predict masks in the window's pixels, best `predicted_iou` first.

        Raises
        ------
        PromptError
            If there is no prompt, or `mask_input` has the wrong shape.
        """
        return self.decode_many(embedding, [prompts])[0]

    def decode_many(
        self, embedding: Embedding, prompts: Sequence[WindowPrompts]
    ) -> list[list[MaskCandidate]]:
        """`decode` for many prompt sets on one embedding, in micro-batches."""
        for each in prompts:
            self._check(each)
        resize = self._resize(embedding.original_size)
        size = _BATCH.get(self._device.type, _GPU_BATCH)[1]
        out: list[list[MaskCandidate]] = [[] for _ in prompts]
        for indices in _alike(prompts):
            group = [prompts[i] for i in indices]
            found = self._in_batches(
                group, size, lambda some: self._decode(embedding, some, resize)
            )
            for i, candidates in zip(indices, found, strict=True):
                out[i] = candidates
        return out

    def _resize(self, size: tuple[int, ...]) -> ResizeTransform:
        h, w = size
        spec = self.spec
        return ResizeTransform((h, w), spec.input_side, spec.enlarges, spec.stretches)

    def _frame(self, image: np.ndarray, resize: ResizeTransform) -> Tensor:
        """RGB window (h, w, 3) uint8 -> normalised frame (3, side, side) float32.

        Another for models whose pixels differ from SAM's.
        """
        return to_frame(image, resize)

    def _in_precision(self) -> AbstractContextManager[Any]:
        if self._autocast is None:
            return nullcontext()
        return torch.autocast(self._device.type, self._autocast)

    def _candidate(
        self, logits: Tensor, predicted_iou: float, resize: ResizeTransform
    ) -> MaskCandidate:
        """Logits over the frame, (m, m) float32 on the CPU -> mask of the window."""
        return to_candidate(logits, predicted_iou, resize)

    def _check(self, prompts: WindowPrompts) -> None:
        m = self.spec.mask_side
        mask = prompts.mask_input
        if mask is not None and mask.shape != (m, m):
            raise PromptError(
                f"mask_input holds logits of shape ({m}, {m}), as low_res_logits of "
                f"{self.spec.name} have; got {mask.shape}"
            )
        labels = np.asarray(prompts.point_labels)
        if len(labels) != len(prompts.points) or not np.isin(labels, (0, 1)).all():
            raise PromptError(
                "each point has the label 1 (object) or 0 (background); got "
                f"{len(prompts.points)} points and the labels {labels.tolist()}. The "
                "padding that SAM marks with -1 is added where it is needed"
            )
        if len(prompts.points) == 0 and prompts.box is None and mask is None:
            raise PromptError("no prompt given: add a point, a box or a mask")

    @torch.inference_mode()
    def _encode(
        self,
        images: Sequence[np.ndarray],
        resize: ResizeTransform,
        encode: Callable[[Tensor], Mapping[str, Tensor]] | None = None,
    ) -> list[Embedding]:
        """Encode windows of one size, each (h, w, 3) uint8, in one batch."""
        frames = torch.stack([self._frame(image, resize) for image in images])
        encode = encode or self._int8 or self.network.encode
        with self._in_precision():
            features = encode(frames.to(self._device))
        on_host = {k: v.float().cpu().numpy() for k, v in features.items()}
        return [
            Embedding({k: v[i] for k, v in on_host.items()}, resize.original_size)
            for i in range(len(images))
        ]

    @torch.inference_mode()
    def _decode(
        self,
        embedding: Embedding,
        prompts: Sequence[WindowPrompts],
        resize: ResizeTransform,
    ) -> list[list[MaskCandidate]]:
        """Decode prompts of one form in one batch; each one's best candidate first."""
        batch = self._batch(prompts, resize)
        logits, iou = self.network.decode(
            self._prepare(embedding),
            batch,
            multimask_output=prompts[0].multimask_output,
        )
        logits, iou = logits.float().cpu(), iou.float().cpu()
        found = []
        for masks, scores in zip(logits, iou.tolist(), strict=True):
            order = sorted(range(len(scores)), key=lambda k: -scores[k])
            found.append([self._candidate(masks[k], scores[k], resize) for k in order])
        return found

    def _prepare(self, embedding: Embedding) -> Any:
        """Bring an embedding to the device, once for clicks that follow each other."""
        prepared = self._prepared  # another thread that encodes may let go of it
        if prepared is None or prepared[0] is not embedding:
            self._prepared = None
            features = {
                k: torch.from_numpy(np.asarray(v, np.float32)).to(self._device)
                for k, v in embedding.features.items()
            }
            self._prepared = prepared = (embedding, self.network.prepare(features))
        return prepared[1]

    def _batch(
        self, prompts: Sequence[WindowPrompts], resize: ResizeTransform
    ) -> PromptBatch:
        """Prompts of one form, in the window's pixels -> P prompts in the frame's."""
        first = prompts[0]
        points = labels = boxes = masks = None
        if len(first.points):
            points = np.stack([resize.points_xy(p.points) for p in prompts])
            labels = np.stack([p.point_labels for p in prompts])
        if first.box is not None:
            boxes = np.stack(
                [resize.box_xyxy(p.box) for p in prompts if p.box is not None]
            )
        if first.mask_input is not None:
            masks = np.stack([p.mask_input for p in prompts])  # type: ignore[misc]
        return PromptBatch(
            self._tensor(points),
            self._tensor(labels),
            self._tensor(boxes),
            self._tensor(masks),
        )

    def _tensor(self, values: np.ndarray | None) -> Tensor | None:
        """Any array -> float32 on the model's device."""
        if values is None:
            return None
        return torch.from_numpy(values.astype(np.float32)).to(self._device)

    def _in_batches(
        self,
        items: Sequence[_Item],
        size: int,
        run: Callable[[Sequence[_Item]], list[_Result]],
    ) -> list[_Result]:
        """Run in batches; where memory runs out, in halves, at last on the CPU."""
        done: list[_Result] = []
        while len(done) < len(items):
            try:
                done += run(items[len(done) : len(done) + size])
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._prepared = None
                if size > 1:
                    size = max(1, size // 2)
                    _log.warning(
                        "%s is out of memory: batches of %d", self.device, size
                    )
                elif self._device.type != "cpu":
                    self._move_to_cpu()
                else:
                    raise ModelError(
                        f"{self.spec.name} does not fit this machine's memory; close "
                        "other programs, or choose a smaller model such as 'nano'"
                    ) from error
        return done

    def _move_to_cpu(self) -> None:
        _log.warning(
            "%s is out of memory: %s goes on on the CPU, more slowly; load it again "
            "with device=%r once memory is free",
            self.device, self.spec.name, self.device,
        )  # fmt: skip
        self._device = torch.device("cpu")
        self.network.to(self._device)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _alike(prompts: Sequence[WindowPrompts]) -> list[list[int]]:
    """Indices of prompts of one form, which can be decoded in one batch."""
    groups: dict[tuple[int, bool, bool, bool], list[int]] = {}
    for i, p in enumerate(prompts):
        form = (
            len(p.points), p.box is None, p.mask_input is None, p.multimask_output,
        )  # fmt: skip
        groups.setdefault(form, []).append(i)
    return list(groups.values())
