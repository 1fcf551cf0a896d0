"""Image encoders in 8-bit integers, run by OpenVINO: the extra ``[openvino]``.

torch hands over the graph of an encoder; here the weights of its matrix products become
8-bit integers, a scale for each output channel. Processors with instructions for it
(AVX-512 VNNI and its successors) also round what comes in, in groups of 32 channels,
and multiply integers; others multiply in float32 and gain nothing. Attention, norms and
sums stay in float32. No data are needed for that, and nothing is sent anywhere.

What is lost depends on the weights, so an encoder has to show on an image that its
masks are still those of float32 before it may be used.
"""

from __future__ import annotations

import importlib.util
import logging
import time
import warnings
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from napari_sam.core.masks import mask_iou
from napari_sam.core.prompts import WindowPrompts
from napari_sam.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from napari_sam.core.embedding import Embedding
    from napari_sam.core.masks import MaskCandidate
    from napari_sam.models.protocol import ModelSpec

    Encode = Callable[[Tensor], Mapping[str, Tensor]]

LEAST_IOU = 0.98
"""Mean IoU with the masks of float32 that an encoder must reach."""

_log = logging.getLogger(__name__)
_STEPS = 127
"""Integers on each side of zero."""
_GROUP = 32
"""Channels of the input that share a scale, where integers are multiplied."""
_LEAST_CHANNELS = 32
"""Products over fewer channels stay as they are: too little work to gain anything."""


def check_installed() -> None:
    """Make sure that OpenVINO can be imported, without importing it.

    Raises
    ------
    ModelError
        If it is not installed.
    """
    if importlib.util.find_spec("openvino") is None:
        raise ModelError(
            "encoding in int8 needs the package openvino, which is not installed here: "
            "pip install openvino"
        )


class Float32Model(Protocol):
    """What is asked of the model whose encoder is rebuilt: `TorchModel` is one."""

    network: Any

    @property
    def spec(self) -> ModelSpec:
        """What is known about it."""

    @property
    def device(self) -> str:
        """Where it runs."""

    def encode_with(self, encode: Any, image: np.ndarray) -> Embedding:
        """Encode one window (h, w, 3) uint8 with another function."""

    def decode_many(
        self, embedding: Embedding, prompts: Sequence[WindowPrompts]
    ) -> list[list[MaskCandidate]]:
        """Predict the candidates of each prompt."""


class Int8Encoder:
    """An encoder's graph with 8-bit weights, compiled for this processor.

    Parameters
    ----------
    encode : callable
        Frames (1, 3, side, side) -> named features; a method of a torch module.
    network : Module
        The module that `encode` belongs to.
    side : int
        Of the frame, in pixels.
    names : sequence of str
        The features, in the order in which they are wanted.

    Raises
    ------
    ModelError
        If OpenVINO is missing, or cannot run the graph.
    """

    def __init__(
        self, encode: Encode, network: nn.Module, side: int, names: Sequence[str]
    ) -> None:
        check_installed()
        import openvino as ov

        self.names = tuple(names)
        graph = _graph(encode, network, side, self.names)
        self.n_rounded = round_weights(graph)
        """Matrices that became integers."""
        settings = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": "f32",  # some processors would take bfloat16
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": _GROUP,
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._run = ov.Core().compile_model(graph, "CPU", settings)

    def __call__(self, frames: Tensor) -> dict[str, Tensor]:
        """Frames (B, 3, side, side) -> named features (B, C, h, w), one by one."""
        found = [list(self._run(f[None].numpy()).values()) for f in frames]
        return {
            name: torch.from_numpy(np.concatenate([one[i] for one in found]))
            for i, name in enumerate(self.names)
        }


def make_encoder(
    model: Float32Model, image: np.ndarray | None = None
) -> tuple[Int8Encoder, float]:
    """Build a model's encoder in int8, if it passes.

    Parameters
    ----------
    model : Float32Model
        On the CPU, encoding in float32.
    image : ndarray, (h, w, 3), uint8, optional
        To compare masks on, best one of those to be segmented; a photograph of coins
        where none is given.

    Returns
    -------
    tuple
        The encoder, and the mean IoU of its masks with those of float32.

    Raises
    ------
    ModelError
        If OpenVINO is missing or cannot run the encoder, if the model is on another
        device, or if the IoU is under `LEAST_IOU`.
    """
    spec, network, encode = model.spec, model.network, model.network.encode
    check_installed()
    if model.device != "cpu":
        raise ModelError(
            f"int8 encodes on the CPU, and {spec.name} is on {model.device}: load it "
            "with device='cpu', or choose precision='bfloat16' for this device"
        )
    if not isinstance(network, nn.Module):
        raise ModelError(
            f"{spec.name} cannot encode in int8: only SAM, MedSAM, HQ-SAM, MobileSAM, "
            "TinySAM and micro-sam's models can"
        )
    encoder = Int8Encoder(encode, network, spec.input_side, tuple(spec.feature_shapes))
    iou = _compare(model, encoder, coins() if image is None else np.asarray(image))
    if not iou >= LEAST_IOU:
        raise ModelError(
            f"{spec.name} stays in float32: in int8 its masks on the calibration image "
            f"have a mean IoU of {iou:.3f} with those of float32, and {LEAST_IOU} is "
            "the least allowed. Load it without int8, or give encode_in('int8', "
            "image=...) a window of your own images if this one is unlike them"
        )
    return encoder, iou


def coins() -> np.ndarray:
    """Photograph of coins that comes with scikit-image: (h, w, 3), uint8."""
    from skimage import data

    return np.repeat(data.coins()[..., None], 3, axis=2)


def round_weights(graph: Any) -> int:
    """Make the constant matrices of an OpenVINO graph 8-bit, in place.

    Returns
    -------
    int
        How many there were.
    """
    from openvino import opset13 as ops
    from openvino.passes import ConstantFolding, Manager

    passes = Manager()
    passes.register_pass(ConstantFolding())  # folded batch norms are constants then
    passes.run_passes(graph)
    rounded = 0
    for product in graph.get_ops():
        if product.get_type_name() != "MatMul":
            continue
        constant = product.input_value(1).get_node()
        if constant.get_type_name() != "Constant":
            continue
        weight = constant.get_data()
        axis = 1 if product.get_attributes()["transpose_b"] else 0
        if weight.ndim != 2 or weight.shape[axis] < _LEAST_CHANNELS:
            continue
        scale = np.abs(weight).max(axis, keepdims=True) / _STEPS
        scale[scale == 0] = 1
        integers = ops.constant(np.round(weight / scale).astype(np.int8))
        restored = ops.multiply(
            ops.convert(integers, "f32"), ops.constant(scale.astype(np.float32))
        )
        product.input(1).replace_source_output(restored.output(0))
        rounded += 1
    return rounded


class _Features(nn.Module):
    """An encoder that returns its features in order, for tracing."""

    def __init__(
        self, encode: Encode, network: nn.Module, names: tuple[str, ...]
    ) -> None:
        super().__init__()
        self.network, self.encode, self.names = network, encode, names

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        found = self.encode(frames)
        return tuple(found[name] for name in self.names)


def _graph(
    encode: Encode, network: nn.Module, side: int, names: tuple[str, ...]
) -> Any:
    """OpenVINO graph of an encoder for one frame.

    Through the converter's parts, since `openvino.convert_model` reports its use.
    """
    from openvino import frontend as parts

    frame = torch.zeros(1, 3, side, side)
    failures = (parts.GeneralFailure, parts.OpConversionFailure)
    try:
        from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder

        class Decoder(TorchFXPythonDecoder):  # type: ignore[misc]
            _decomp_table: ClassVar = _decompositions()

        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of torch and OpenVINO about themselves
            traced = torch.export.export(
                _Features(encode, network, names), (frame,), strict=False
            )
            decoder = Decoder.from_exported_program(traced)
            frontend = parts.FrontEndManager().load_by_framework("pytorch")
            graph = frontend.convert(frontend.load(decoder))
    except (*failures, RuntimeError, ImportError) as error:
        reason = str(error).strip().splitlines()
        raise ModelError(
            "OpenVINO cannot run this encoder, so it stays in float32: "
            f"{reason[-1] if reason else type(error).__name__}. Another version of "
            "openvino or torch may: see constraints.txt for those known to work"
        ) from error
    graph.reshape([1, 3, side, side])
    return graph


def _decompositions() -> Any:
    """How OpenVINO wants a graph written down.

    It makes the same table, but complains to the root logger, and so sets that up,
    about operations which newer versions of torch do not have.
    """
    from openvino.frontend.pytorch.torchdynamo.export_decompositions import (
        ops_to_not_decompose,
    )
    from torch.export.decomp_utils import CustomDecompTable

    table = CustomDecompTable()  # type: ignore[no-untyped-call]
    for operation in ops_to_not_decompose():
        table.pop(operation, None)  # type: ignore[no-untyped-call]
    return table


def _compare(model: Float32Model, encoder: Int8Encoder, image: np.ndarray) -> float:
    """Mean IoU of masks from both encoders on an image (h, w, 3) uint8.

    For boxes and points all over it.
    """
    prompts = _all_over(image.shape[:2], model.spec.prompts)
    took, masks = [], []
    for encode in (model.network.encode, encoder):
        start = time.perf_counter()
        embedding = model.encode_with(encode, image)
        took.append(time.perf_counter() - start)
        masks.append(_masks(model, embedding, prompts))
    ious = [
        max(mask_iou(full[0], other) for other in rounded)
        for full, rounded in zip(*masks, strict=True)
    ]
    iou = float(np.mean(ious))
    _log.log(
        logging.INFO if took[1] < took[0] else logging.WARNING,
        "%s in int8: mask IoU %.3f with float32, %.2f s a window instead of %.2f s%s",
        model.spec.name, iou, took[1], took[0],
        "" if took[1] < took[0] else ": no gain on this processor",
    )  # fmt: skip
    return iou


def _masks(
    model: Float32Model, embedding: Embedding, prompts: list[WindowPrompts]
) -> list[list[np.ndarray]]:
    """Masks (h, w) bool, as large as the image, of each prompt's candidates."""

    def full(candidate: MaskCandidate) -> np.ndarray:
        return candidate.full(embedding.original_size)

    return [[full(c) for c in found] for found in model.decode_many(embedding, prompts)]


def _all_over(size: tuple[int, int], kinds: frozenset[str]) -> list[WindowPrompts]:
    """Boxes of a third of the image, and points, on grids; one mask for each."""
    h, w = size
    thirds = [(i / 3, j / 3) for i in range(3) for j in range(3)]
    prompts = [
        WindowPrompts(
            box=(y * h, x * w, y * h + h / 3, x * w + w / 3), multimask_output=False
        )
        for y, x in thirds
    ]
    if "points" in kinds:
        quarters = [((i + 0.5) / 4, (j + 0.5) / 4) for i in range(4) for j in range(4)]
        prompts += [
            WindowPrompts(
                np.array([[y * h, x * w]]), np.array([1]), multimask_output=False
            )
            for y, x in quarters
        ]
    return prompts
