"""Models that can be trained: their parameters, and a decoder that keeps gradients.

All work in the pixels of a model's frame, as `napari_sam.training.prompts` draws them:
prompts in pixels, masks on cells of 2 pixels, the previous mask on cells of 4. SAM's
frame and that of `nano` are alike in this: both have logits of a quarter of the side.
"""

from __future__ import annotations

import copy
import hashlib
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_sam.core.preprocess import ResizeTransform
from napari_sam.errors import ModelError
from napari_sam.models.nano.encoder import FEATURES, Features
from napari_sam.models.nano.nano import Nano, write_weights
from napari_sam.models.nano.network import ALIGN
from napari_sam.models.registry import FAMILIES
from napari_sam.models.sam import decoder as sam_decoder
from napari_sam.models.sam.decoder import SamNetwork
from napari_sam.models.sam.hq_sam import HqNetwork
from napari_sam.models.sam.mobile_sam import TinySamNetwork
from napari_sam.models.torch_model import TorchModel
from napari_sam.training import lora
from napari_sam.training.prompts import PromptMix

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from torch import nn

    from napari_sam.core.embedding import Embedding
    from napari_sam.core.masks import Bbox
    from napari_sam.models.nano.prompt_maps import PaddedPrompts
    from napari_sam.models.protocol import PromptableModel

TRAINABLE = "nano, SAM (sam_vit_b, sam_vit_l, sam_vit_h), MobileSAM, TinySAM and MedSAM"
"""What can be trained, for messages."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a decoder proposes for some rows of a batch of prompts."""

    rows: Tensor
    """(p,) int64: which rows."""
    logits: Tensor
    """(p, K, H / 2, W / 2) of the K masks that a user would be shown."""
    low_res: Tensor
    """(p, K, H / 4, W / 4): what is fed back."""
    iou: Tensor
    """(p, K) predicted IoU."""


class Trainable(Protocol):
    """A model in training."""

    @property
    def model(self) -> PromptableModel:
        """Encodes as ever; masks are predicted by `decode`."""
        ...

    learning_rate: float
    objects_at_once: int
    """Objects of a window that one step prompts."""
    mix: PromptMix | None
    """How objects are first prompted, where the model does not take all prompts."""
    part_of: int
    """Pixels that the sides of a part of the frame are multiples of; 0 where the
    decoder needs all of it."""

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return what is trained, by name."""
        ...

    def frame_shape(self, size: tuple[int, int]) -> tuple[int, int]:
        """Pixels (H, W) of the frame that `decode` covers, of a window (h, w)."""
        ...

    def features(self, embedding: Embedding) -> dict[str, Tensor]:
        """Bring one window's stored features to the device."""
        ...

    def cut(self, features: Mapping[str, Tensor], part: Bbox) -> dict[str, Tensor]:
        """Cut a part of the frame out, a box in pixels."""
        ...

    def prepare(self, features: Mapping[str, Tensor]) -> Any:
        """Do what the decoder does once for all prompts; keeps gradients."""
        ...

    def decode(self, ready: Any, prompts: PaddedPrompts) -> Iterator[Answer]:
        """Answer all prompts, rows of one kind together."""
        ...

    def write(self, path: Path) -> None:
        """Write a checkpoint that `load_model` reads."""
        ...


class TrainableNano:
    """nano's decoder; its prompts have no parameters of their own."""

    learning_rate = 3e-4
    objects_at_once = 4
    mix: PromptMix | None = None
    part_of = ALIGN

    def __init__(self, model: Nano) -> None:
        self.model = model
        self._network = model.network
        self._network.requires_grad_(False)
        self._network.decoder.requires_grad_(True)

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return the decoder's parameters."""
        return _trained(self._network)

    def frame_shape(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the window's size in multiples of the deepest stride."""
        h, w = (-(-n // ALIGN) * ALIGN for n in size)
        return h, w

    def features(self, embedding: Embedding) -> dict[str, Tensor]:
        """Cut the stored maps to the window, (1, C, h, w) each."""
        h, w = self.frame_shape(embedding.original_size)
        maps = {
            name: embedding.features[name][None, :, : h // stride, : w // stride]
            for name, (_, stride) in FEATURES.items()
        }
        return {k: _tensor(m, self.model.device) for k, m in maps.items()}

    def cut(self, features: Mapping[str, Tensor], part: Bbox) -> dict[str, Tensor]:
        """Cut all maps, whose strides divide `part_of`."""
        y0, x0, y1, x1 = part
        return {
            name: features[name][..., y0 // s : y1 // s, x0 // s : x1 // s]
            for name, (_, s) in FEATURES.items()
        }

    def prepare(self, features: Mapping[str, Tensor]) -> Any:
        """Let the decoder read the maps."""
        return self._network.decoder.prepare(Features(**features))

    def decode(self, ready: Any, prompts: PaddedPrompts) -> Iterator[Answer]:
        """Answer with all candidates at once."""
        with _mixed_precision(self.model.device):
            found = self._network.decoder(ready, prompts)
        rows = torch.arange(len(prompts.points), device=prompts.points.device)
        low_res = found.low_res.float()
        yield Answer(rows, found.logits.float(), low_res, found.iou.float())

    def write(self, path: Path) -> None:
        """Write all weights at half precision, as those that ship."""
        write_weights(self._network, path)


class TrainableSam:
    """Prompt encoder and mask decoder of the SAM family."""

    objects_at_once = 4
    part_of = 0

    def __init__(self, model: TorchModel, network: SamNetwork) -> None:
        self.model: TorchModel = model
        self._network = network
        # Narrow decoders take larger steps; every published SAM is 256 wide.
        self.learning_rate = 2e-4 * 256 / network.config.dim
        self._always_three = isinstance(network, TinySamNetwork)
        network.requires_grad_(False)
        network.prompt_encoder.requires_grad_(True)
        network.mask_decoder.requires_grad_(True)
        self.mix: PromptMix | None = None
        if "points" not in model.spec.prompts:
            self.mix = PromptMix(click=0, box_and_click=0, mask=0)

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return the parameters of prompt encoder and mask decoder."""
        return _trained(self._network)

    def frame_shape(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the square frame, whatever the window."""
        side = self.model.spec.input_side
        return side, side

    def features(self, embedding: Embedding) -> dict[str, Tensor]:
        """Features (C, g, g) as they are stored."""
        found = embedding.features.items()
        return {k: _tensor(v, self.model.device) for k, v in found}

    def cut(self, features: Mapping[str, Tensor], part: Bbox) -> dict[str, Tensor]:
        """Refuse: tokens are encoded with their place in the whole frame."""
        raise NotImplementedError

    def prepare(self, features: Mapping[str, Tensor]) -> Any:
        """Put features into tokens."""
        return self._network.prepare(features)

    def decode(self, ready: Any, prompts: PaddedPrompts) -> Iterator[Answer]:
        """Answer prompts of one form together, with the masks shown for that form.

        As in use: three candidates for a lone click, the token for a clear prompt
        otherwise.
        """
        n_points = (prompts.labels >= 0).sum(1)
        forms = torch.stack(
            [n_points, prompts.has_box.long(), prompts.has_prev.long()], 1
        )
        for form in torch.unique(forms, dim=0):
            rows = (forms == form).all(1).nonzero().flatten()
            n, has_box, has_prev = (int(v) for v in form)
            lone = n == 1 and not has_box and not has_prev
            some = _sam_prompts(prompts, rows, n, bool(has_box), bool(has_prev))
            with _mixed_precision(self.model.device):
                low_res, iou = self._network.decode(
                    ready, some, multimask_output=lone or self._always_three
                )
            low_res = low_res.float()
            logits = F.interpolate(low_res, scale_factor=2, mode="bilinear")
            yield Answer(rows, logits, low_res, iou.float())

    def write(self, path: Path) -> None:
        """Write all tensors under their official names."""
        from safetensors.torch import save_file

        state = lora.merged_state(self._network)
        save_file({k: v.detach().cpu().contiguous() for k, v in state.items()}, path)


class TrainableLora(TrainableSam):
    """SAM with low-rank additions to its encoder, which then runs in every step."""

    def __init__(self, model: TorchModel, network: SamNetwork, seed: int) -> None:
        super().__init__(model, network)
        lora.add_lora(network.image_encoder, seed)

    def encoded(self, pixels: np.ndarray) -> dict[str, Tensor]:
        """Encode a window (h, w, 3) uint8, keeping gradients -> features (C, g, g)."""
        resize = resize_of(self.model, (pixels.shape[0], pixels.shape[1]))
        frame = self.model._frame(pixels, resize)[None].to(self.model.device)
        with _mixed_precision(self.model.device):
            found = lora.encode(self._network.image_encoder, frame)
        return {"image_embedding": found[0].float()}


def check_family(name: str, family: str) -> None:
    """Refuse a family that cannot be trained, before anything is downloaded.

    Raises
    ------
    ModelError
    """
    if FAMILIES.get(family, "sam") not in ("nano", "sam", "mobile_sam"):
        raise _not_trainable(name)


def trainable_of(
    model: PromptableModel, *, with_lora: bool = False, seed: int = 0
) -> Trainable:
    """Make a model trainable, in place.

    Parameters
    ----------
    model : PromptableModel
    with_lora : bool
        Train additions to the encoder's attention, too.
    seed : int
        Of the additions' first values.

    Raises
    ------
    ModelError
        If models of its kind cannot be trained so.
    """
    if isinstance(model, Nano):
        if with_lora:
            raise ModelError(
                f"{model.spec.name} has no attention in its encoder that lora=True "
                "could add to: train it without, or choose a SAM or MobileSAM"
            )
        return TrainableNano(model)
    network = getattr(model, "network", None)
    if (
        isinstance(model, TorchModel)
        and isinstance(network, SamNetwork)
        and not isinstance(network, HqNetwork)
    ):
        if with_lora:
            return TrainableLora(model, network, seed)
        return TrainableSam(model, network)
    raise _not_trainable(model.spec.name)


def _not_trainable(name: str) -> ModelError:
    return ModelError(
        f"{name} cannot be trained here; {TRAINABLE} can, and files of your own of "
        "these families. Choose one of them with model=..."
    )


def private_copy(model: PromptableModel, device: str = "auto") -> PromptableModel:
    """Copy a model, so that whoever holds it goes on with its present weights."""
    own = copy.deepcopy(model)
    if device in ("auto", own.device):
        return own
    if isinstance(own, Nano):
        spec = own.spec
        return Nano(
            own.network, sha256=spec.sha256, device=device, name=spec.name,
            source=spec.source,
        )  # fmt: skip
    if isinstance(own, TorchModel):
        return type(own)(own.network, own.spec, device)
    return own


def weights_hash(model: PromptableModel) -> str:
    """Hexadecimal hash of a model's weights, whether they came from a file or not."""
    if model.spec.sha256:
        return model.spec.sha256
    digest = hashlib.sha256()
    network = getattr(model, "network", None)
    for name, values in network.state_dict().items() if network is not None else ():
        digest.update(name.encode())
        digest.update(values.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _sam_prompts(
    prompts: PaddedPrompts, rows: Tensor, n: int, has_box: bool, has_prev: bool
) -> sam_decoder.PromptBatch:
    """Rows of one form: n points (the first n columns that are none), box, mask."""
    points = labels = boxes = masks = None
    if n:
        # Points keep their order; padding goes last.
        order = (prompts.labels[rows] < 0).long().argsort(dim=1, stable=True)[:, :n]
        at = order[..., None].expand(-1, -1, 2)
        points = prompts.points[rows].gather(1, at).flip(2)  # (p, n, 2), (x, y)
        labels = prompts.labels[rows].gather(1, order)
    if has_box:
        boxes = prompts.box[rows][:, [1, 0, 3, 2]]
    if has_prev:
        masks = prompts.prev[rows]
    return sam_decoder.PromptBatch(points, labels, boxes, masks)


def _trained(network: nn.Module) -> dict[str, nn.Parameter]:
    return {k: p for k, p in network.named_parameters() if p.requires_grad}


def _mixed_precision(device: str) -> AbstractContextManager[Any]:
    if device.startswith("cuda"):
        return torch.autocast("cuda", torch.bfloat16)
    return nullcontext()


def _tensor(values: np.ndarray, device: str) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(device)


def resize_of(model: PromptableModel, size: tuple[int, int]) -> ResizeTransform:
    """How a window (h, w) lies in a model's frame."""
    spec = model.spec
    return ResizeTransform(size, spec.input_side, spec.enlarges, spec.stretches)
