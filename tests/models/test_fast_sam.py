"""FastSAM against arrays that its authors' code gave for the same seeded weights.

`fast_sam_golden.npz` was made once, outside this repository, by ultralytics 8.0.120:
``SegmentationModel`` of its ``yolov8-seg.yaml`` with one class and the scale
``[0.33, 0.0625, 1024]``, weights from `seeded_state` under their own names (but for
the fixed ``dfl``), in one forward pass of
``RandomState(3).random_sample((1, 3, 96, 128))``. Kept are every parameter's name and
shape, what it told of each anchor (``told``: boxes as centre and size, score,
coefficients), every fourth prototype, and the boxes and scores that
``non_max_suppression(told, 0.4, 0.4)`` left (``instances``).
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from seeded_weights import seeded_state
from torch import nn

from napari_sam.core.prompts import WindowPrompts
from napari_sam.errors import CheckpointError
from napari_sam.models import checkpoints
from napari_sam.models.checkpoints import Checkpoint, load_strict
from napari_sam.models.fast_sam.fast_sam import FastSam, from_checkpoint
from napari_sam.models.fast_sam.instances import Instances, pack, without_duplicates
from napari_sam.models.fast_sam.network import FastSamConfig, FastSamNetwork
from napari_sam.models.protocol import ModelSpec
from napari_sam.models.registry import load_model

GOLDEN = np.load(Path(__file__).with_name("fast_sam_golden.npz"))
DFL = "model.22.dfl.conv.weight"


def official_state() -> dict[str, torch.Tensor]:
    shapes = zip(GOLDEN["names"].tolist(), GOLDEN["shapes"].tolist(), strict=True)
    state = seeded_state(
        {n: tuple(int(v) for v in s.strip("(),").split(",") if v) for n, s in shapes}
    )
    bins = state[DFL].numel()
    state[DFL] = torch.arange(bins, dtype=torch.float32).view(1, bins, 1, 1)
    return state


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return Checkpoint(Path("FastSAM-t.pt"), official_state())


@pytest.mark.parametrize("folded", [False, True])
def test_boxes_scores_and_prototypes_are_the_authors(
    checkpoint: Checkpoint, folded: bool
) -> None:
    config = FastSamConfig.infer(checkpoint)
    network = load_strict(lambda: FastSamNetwork(config), checkpoint)
    if folded:
        network.fold()
    frames = np.random.RandomState(3).random_sample((1, 3, 96, 128))
    with torch.inference_mode():
        found = network(torch.from_numpy(frames.astype(np.float32)))
    low, high = found["boxes"][0, :2], found["boxes"][0, 2:]
    told = torch.cat(
        [(low + high) / 2, high - low, found["scores"][0], found["coefficients"][0]]
    )
    np.testing.assert_allclose(told, GOLDEN["told"], atol=1e-4)
    np.testing.assert_allclose(
        found["prototypes"][0, ::4], GOLDEN["prototypes"], atol=1e-4
    )


def test_duplicates_go_as_in_the_authors_code() -> None:
    centre, size, score = GOLDEN["told"][:2], GOLDEN["told"][2:4], GOLDEN["told"][4]
    boxes = torch.from_numpy(np.concatenate([centre - size / 2, centre + size / 2]).T)
    order = np.argsort(-score, kind="stable")
    kept = order[without_duplicates(boxes[order], 0.4).numpy()]
    left = GOLDEN["instances"]
    assert 0 < len(left) < len(score)
    np.testing.assert_allclose(boxes.numpy()[kept], left[:, :4], atol=1e-4)
    np.testing.assert_allclose(score[kept], left[:, 4], atol=1e-6)


# -- choosing among instances: masks that are known ------------------------------------

BOXES = {"left": (0, 0, 32, 64), "inner": (8, 8, 24, 24), "right": (64, 0, 96, 64)}


class Told(nn.Module):
    """Stands for the network: says what is said here of any frame."""

    def __init__(self, config: FastSamConfig, scores: tuple[float, ...]) -> None:
        super().__init__()
        self.config = config
        self.scores = scores
        self.nothing = nn.Parameter(torch.zeros(1))

    def forward(self, frames: torch.Tensor) -> dict[str, torch.Tensor]:
        boxes = torch.tensor(list(BOXES.values()), dtype=torch.float32) * 8
        masks = torch.full((1, len(BOXES), 256, 256), -20.0)
        for i, (x0, y0, x1, y1) in enumerate((boxes / 4).long().tolist()):
            masks[0, i, y0:y1, x0:x1] = 20.0
        k = self.config.coefficients
        coefficients = torch.eye(len(BOXES), k)[None].transpose(1, 2)
        prototypes = torch.zeros(1, k, 256, 256)
        prototypes[:, : len(BOXES)] = masks
        return {
            "boxes": boxes.T[None],
            "scores": torch.tensor([[self.scores]]),
            "coefficients": coefficients,
            "prototypes": prototypes,
        }


@pytest.fixture
def model(checkpoint: Checkpoint) -> FastSam:
    built = from_checkpoint(checkpoint, ModelSpec("fast", 0, {}, 0, ""))
    built.network.network = Told(built.network.network.config, (0.9, 0.8, 0.7))
    return built


def asked(model: FastSam, **prompts: object) -> list[tuple[tuple[int, ...], int]]:
    embedding = model.encode(np.zeros((1, 128, 128, 3), np.uint8))[0]
    if "points" in prompts:
        prompts["points"] = np.asarray(prompts["points"], np.float32)
        prompts["point_labels"] = np.asarray(prompts["point_labels"])
    found = model.decode(embedding, WindowPrompts(**prompts))  # type: ignore[arg-type]
    return [(c.bbox, c.area) for c in found]


def test_a_point_gives_the_instances_that_hold_it_the_surest_first(model) -> None:
    found = asked(model, points=[[16, 16]], point_labels=[1])
    assert [box for box, _ in found] == [(0, 0, 64, 32), (8, 8, 24, 24)]
    assert found[0][1] == 64 * 32 and found[1][1] == 16 * 16


def test_a_negative_point_leaves_out_what_it_lies_on(model) -> None:
    found = asked(model, points=[[16, 16], [50, 16]], point_labels=[1, 0])
    assert [box for box, _ in found] == [(8, 8, 24, 24)]


def test_points_on_two_instances_join_them(model) -> None:
    found = asked(model, points=[[50, 16], [50, 80]], point_labels=[1, 1])
    assert found == [((0, 0, 64, 96), 2 * 64 * 32)]


def test_a_point_on_nothing_gives_an_empty_mask(model) -> None:
    assert asked(model, points=[[120, 120]], point_labels=[1]) == [((0, 0, 0, 0), 0)]


@pytest.mark.parametrize("prompt", ["points", "box"])
def test_an_image_without_instances_gives_an_empty_mask(model, prompt) -> None:
    model.network.network.scores = (0.05, 0.04, 0.03)
    given = {"box": (6, 6, 26, 26)}
    if prompt == "points":
        given = {"points": [[16, 16]], "point_labels": [1]}
    assert asked(model, **given) == [((0, 0, 0, 0), 0)]
    assert model.instances(model.encode(np.zeros((1, 64, 64, 3), np.uint8))[0]) == []


def test_a_box_gives_the_instance_that_fills_it_best(model) -> None:
    found = asked(model, box=(6, 6, 26, 26), multimask_output=False)
    assert found == [((8, 8, 24, 24), 256)]


def test_every_instance_of_an_image_comes_at_once(model) -> None:
    embedding = model.encode(np.zeros((1, 128, 128, 3), np.uint8))[0]
    found = model.instances(embedding, 0.75)
    assert [c.bbox for c in found] == [(0, 0, 64, 32), (8, 8, 24, 24)]
    assert [round(c.predicted_iou, 3) for c in found] == [0.9, 0.8]


def test_a_mask_chooses_the_instance_it_overlaps_most(model) -> None:
    first = model.decode(
        model.encode(np.zeros((1, 128, 128, 3), np.uint8))[0],
        WindowPrompts(np.array([[50.0, 80.0]]), np.array([1])),
    )[0]
    assert first.bbox == (0, 64, 64, 96)
    assert asked(model, mask_input=first.low_res_logits, multimask_output=False) == [
        (first.bbox, first.area)
    ]


def test_a_box_that_holds_nearly_all_of_the_image_is_all_of_it() -> None:
    packed = pack(
        {
            "boxes": torch.tensor([[[2.0], [3.0], [1024.0], [500.0]]]),
            "scores": torch.tensor([[[0.9]]]),
            "coefficients": torch.ones(1, 1, 1),
            "prototypes": torch.ones(1, 1, 256, 256),
        }
    )
    found = Instances.of({k: v[0] for k, v in packed.items()}, (512, 1024), 1024)
    assert found.boxes.tolist() == [[0, 0, 1024, 512]]


# -- files as ultralytics pickles them -------------------------------------------------


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of ultralytics' name, which is gone when its files are read."""
    place = ModuleType("ultralytics.nn.tasks")
    monkeypatch.setitem(sys.modules, "ultralytics", ModuleType("ultralytics"))
    monkeypatch.setitem(sys.modules, "ultralytics.nn", ModuleType("ultralytics.nn"))
    monkeypatch.setitem(sys.modules, place.__name__, place)
    return place


def in_place(place: ModuleType, kind: type) -> type:
    kind.__module__, kind.__qualname__ = place.__name__, kind.__name__
    setattr(place, kind.__name__, kind)
    return kind


class Part(nn.Module):
    """A module that only holds tensors, under names with dots."""


def as_modules(state: dict[str, torch.Tensor], kind: type) -> nn.Module:
    top = kind()
    for name, value in state.items():
        *way, last = name.split(".")
        at = top
        for step in way:
            if step not in at._modules:
                at.add_module(step, kind())
            at = at._modules[step]
        at.register_buffer(last, value)
    return top


def test_a_pickled_model_is_read_without_its_code(
    tmp_path: Path, foreign: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = official_state()
    whole = as_modules(state, in_place(foreign, Part)).half()
    path = tmp_path / "FastSAM-t.pt"
    torch.save({"model": whole, "ema": None, "train_args": {"imgsz": 1024}}, path)
    monkeypatch.delitem(sys.modules, foreign.__name__)
    read = checkpoints.read(path)
    assert read.state.keys() == state.keys()
    torch.testing.assert_close(
        read.state["model.0.conv.weight"], state["model.0.conv.weight"].half()
    )
    model = load_model(path)
    assert isinstance(model, FastSam) and model.spec.input_side == 1024
    assert "ultralytics.nn.tasks" not in sys.modules


class Harm:
    """Runs what it is told when unpickled by code that trusts its file."""

    def __init__(self, call: object, *args: object) -> None:
        self.call, self.args = call, args

    def __reduce__(self) -> tuple:
        return self.call, self.args


def planted(path: str) -> None:
    """What a crafted file would call, were its package there."""
    Path(path).touch()


@pytest.mark.parametrize("inside", ["a parameter's place", "beside the model"])
def test_a_crafted_model_executes_nothing(
    tmp_path: Path, foreign: ModuleType, inside: str
) -> None:
    """Also where the callable is importable, and of the package that is expected."""
    target, calls = tmp_path / "was_here", foreign
    in_place(calls, planted)  # type: ignore[arg-type]
    whole = as_modules(official_state(), in_place(foreign, Part))
    harm = Harm(calls.planted, str(target))
    content = {"model": whole}
    if inside == "beside the model":
        content["extra"] = harm  # type: ignore[assignment]
    else:
        whole.__dict__["harm"] = harm
    torch.save(content, tmp_path / "FastSAM-t.pt")
    checkpoints.read(tmp_path / "FastSAM-t.pt")
    assert not target.exists()


def test_names_outside_networks_packages_are_refused(
    tmp_path: Path, foreign: ModuleType
) -> None:
    whole = as_modules(official_state(), in_place(foreign, Part))
    whole.__dict__["harm"] = Harm(exec, "raise SystemExit")
    torch.save({"model": whole}, tmp_path / "FastSAM-t.pt")
    with pytest.raises(CheckpointError, match=r"__builtin__\.exec.*no part"):
        checkpoints.read(tmp_path / "FastSAM-t.pt")


def test_its_licence_is_told_wherever_the_file_is_from(checkpoint: Checkpoint) -> None:
    model = from_checkpoint(checkpoint, ModelSpec("mine", 0, {}, 0, ""))
    assert model.spec.license == "AGPL-3.0-only"
    assert model.spec.proposal_thresholds == (0.4, 0.0)
