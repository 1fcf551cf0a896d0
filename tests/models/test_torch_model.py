"""What all torch models share: memory running out, batches, devices, refusals."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from reference_sam import TINY, reference_sam
from test_mobile_sam import build, official_state
from test_sam_parity import ours

from napari_sam.core.prompts import WindowPrompts
from napari_sam.errors import ModelError, PromptError
from napari_sam.models.devices import is_out_of_memory, resolve_device
from napari_sam.models.protocol import ModelSpec, PromptableModel
from napari_sam.models.torch_model import TorchModel
from napari_sam.testing import ModelContract


class TestTinySam(ModelContract):
    def make_model(self) -> PromptableModel:
        return ours(reference_sam(TINY))


class TestTinyMobileSam(ModelContract):
    def make_model(self) -> PromptableModel:
        return build(official_state("tiny"))


class Hungry:
    """A network that has memory for `room` images or prompts on its first device."""

    config = SimpleNamespace(side=32, grid=2, dim=4)
    feature_shapes: ClassVar = {"image_embedding": (4, 2, 2)}

    def __init__(self, room: int, cpu_room: int = 99) -> None:
        self.room, self.cpu_room = room, cpu_room
        self.on_cpu = False
        self.asked: list[int] = []

    def encode(self, frames: torch.Tensor) -> dict[str, torch.Tensor]:
        self._take(len(frames))
        return {"image_embedding": torch.zeros(len(frames), 4, 2, 2)}

    def prepare(self, features: Any) -> Any:
        return features

    def decode(self, image: Any, prompts: Any, *, multimask_output: bool) -> Any:
        n = len(prompts.points_xy)
        self._take(n)
        return torch.ones(n, 1, 8, 8), torch.ones(n, 1)

    def to(self, device: torch.device) -> None:
        self.on_cpu = device.type == "cpu"

    def _take(self, n: int) -> None:
        self.asked.append(n)
        if n > (self.cpu_room if self.on_cpu else self.room):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")


def hungry_model(network: Hungry) -> TorchModel:
    model = TorchModel.of(network, ModelSpec("hungry", 0, {}, 0, ""), "", "cpu")
    model._device = torch.device("meta")  # stands for a GPU: nothing is computed on it
    network.on_cpu = False
    return model


def test_less_memory_than_a_batch_means_smaller_batches_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    network = Hungry(room=2)
    model = hungry_model(network)
    with caplog.at_level(logging.WARNING):
        assert len(model.encode(np.zeros((5, 32, 32, 3), np.uint8))) == 5
    assert caplog.messages == ["meta is out of memory: batches of 2"]
    assert network.asked == [4, 2, 2, 1]
    assert model.device == "meta"


def test_no_memory_on_the_device_means_the_cpu_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    network = Hungry(room=0)
    model = hungry_model(network)
    with caplog.at_level(logging.WARNING):
        assert len(model.encode(np.zeros((2, 32, 32, 3), np.uint8))) == 2
    assert model.device == "cpu" and network.on_cpu
    assert caplog.messages == [
        "meta is out of memory: batches of 2",
        "meta is out of memory: batches of 1",
        "meta is out of memory: hungry goes on on the CPU, more slowly; "
        "load it again with device='meta' once memory is free",
    ]


def test_prompts_survive_a_device_that_runs_out_of_memory() -> None:
    model = hungry_model(Hungry(room=9))
    embedding = model.encode(np.zeros((1, 32, 32, 3), np.uint8))[0]
    clicks = [WindowPrompts(np.full((1, 2), i), np.array([1])) for i in range(40)]
    assert len(model.decode_many(embedding, clicks)) == 40
    assert model.network.asked[1:] == [32, 16, 8, 8, 8, 8, 8]


def test_a_cpu_decodes_no_more_prompts_than_its_caches_hold() -> None:
    network = Hungry(room=99)
    model = TorchModel.of(network, ModelSpec("hungry", 0, {}, 0, ""), "", "cpu")
    embedding = model.encode(np.zeros((1, 32, 32, 3), np.uint8))[0]
    clicks = [WindowPrompts(np.full((1, 2), i), np.array([1])) for i in range(9)]
    assert len(model.decode_many(embedding, clicks)) == 9
    assert max(network.asked) <= 4 and sum(network.asked[1:]) == 9


def test_no_memory_at_all_is_a_model_error() -> None:
    model = hungry_model(Hungry(room=0, cpu_room=0))
    with pytest.raises(ModelError, match="does not fit this machine's memory"):
        model.encode(np.zeros((1, 32, 32, 3), np.uint8))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (MemoryError(), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_lack_of_memory_is_told_on_every_device(
    error: Exception, expected: bool
) -> None:
    assert is_out_of_memory(error) == expected


def test_other_errors_are_not_taken_for_lack_of_memory() -> None:
    class Broken(Hungry):
        def _take(self, n: int) -> None:
            raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        hungry_model(Broken(1)).encode(np.zeros((1, 32, 32, 3), np.uint8))


def test_a_mask_prompt_of_another_size_is_refused() -> None:
    model = hungry_model(Hungry(room=9))
    embedding = model.encode(np.zeros((1, 32, 32, 3), np.uint8))[0]
    prompts = WindowPrompts(mask_input=np.zeros((256, 256), np.float32))
    with pytest.raises(PromptError, match=r"\(8, 8\).*got \(256, 256\)"):
        model.decode(embedding, prompts)


@pytest.mark.parametrize("labels", [[-1], [2], [], [1, 0]])
def test_a_point_is_of_the_object_or_of_the_background(labels: list[int]) -> None:
    # SAM marks padding with -1; taken for a label it would be background here.
    model = hungry_model(Hungry(room=9))
    embedding = model.encode(np.zeros((1, 32, 32, 3), np.uint8))[0]
    prompts = WindowPrompts(np.array([[3.0, 4.0]]), np.array(labels, int))
    with pytest.raises(PromptError, match=r"1 points and the labels \["):
        model.decode(embedding, prompts)


def test_an_empty_prompt_is_refused() -> None:
    model = hungry_model(Hungry(room=9))
    embedding = model.encode(np.zeros((1, 32, 32, 3), np.uint8))[0]
    with pytest.raises(PromptError, match="no prompt given"):
        model.decode(embedding, WindowPrompts())


def test_auto_takes_the_cpu_where_there_is_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = {"cuda": False, "mps": False}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: seen["cuda"])
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: seen["mps"])
    assert resolve_device("auto").type == "cpu"
    seen["mps"] = True
    assert resolve_device("auto").type == "mps"
    seen["cuda"] = True
    assert resolve_device("auto").type == "cuda"
