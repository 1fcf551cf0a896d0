"""Fit the head that ranks candidates again, on whole images prompted as in use.

In training, crops are drawn around objects and gradients reach the head through one
small learning rate for all; its evidence varies much more between objects than between
the candidates of one object, so it learns hardly more than which candidate is usually
best. Here the evidence of many prompts on whole training images is collected once, each
number is brought to one scale, and a fresh head is fitted to it. The scaling is folded
into its first layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sam.core.prompts import WindowPrompts
from napari_sam.training.clicks import next_click
from tools.nano.encoded_image import ImageAsker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sam.models.nano.nano import Nano
    from tools.nano.data import LabelledImage


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What the head saw of N prompts, and what it should have said."""

    inputs: Tensor
    """(N, 3, inputs of the head)."""
    reached: Tensor
    """(N, 3) IoU of each candidate."""
    datasets: tuple[str, ...]
    """Name of each prompt's data set."""


def collect_evidence(
    model: Nano, images: Sequence[LabelledImage], *, n_images: int, seed: int = 0
) -> Evidence:
    """Prompt objects of images, data sets in turn, with clicks and boxes."""
    rng = np.random.default_rng(seed)
    by_set: dict[str, list[LabelledImage]] = {}
    for image in images:
        by_set.setdefault(image.dataset, []).append(image)
    names = sorted(by_set)
    seen: list[Tensor] = []
    said: list[Tensor] = []

    def listen(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        seen.append(args[0].clone())
        said.append(output.squeeze(2).sigmoid())  # (P, 3)

    hook = model.network.decoder.iou.mlp.register_forward_hook(listen)
    usual = model.lone_click_bonus, model.looks
    model.lone_click_bonus, model.looks = 0.0, 1  # one plain answer to each prompt
    reached: list[list[float]] = []
    datasets: list[str] = []
    try:
        for i in range(n_images):
            members = by_set[names[i % len(names)]]
            image = members[rng.integers(len(members))]
            new = _prompt_image(model, image, rng)
            reached += new
            datasets += [image.dataset] * len(new)
    finally:
        hook.remove()
        model.lone_click_bonus, model.looks = usual
    # Answers come best first; the head sees candidates in the network's order.
    order = torch.argsort(torch.cat(said).clone(), dim=1, descending=True, stable=True)
    unsorted = torch.zeros(len(order), order.shape[1])
    unsorted.scatter_(1, order, torch.tensor(reached, dtype=torch.float32))
    return Evidence(torch.cat(seen).clone(), unsorted, tuple(datasets))


def _prompt_image(
    model: Nano, image: LabelledImage, rng: np.random.Generator
) -> list[list[float]]:
    """IoU of each candidate of each prompt, as the model ranks them now."""
    rows = image.objects[rng.permutation(len(image.objects))[:5]]
    variant = "inverted" if rng.random() < 0.3 else "plain"
    asker = ImageAsker(model, image.image, variant)
    truths = [image.labels == row[0] for row in rows]
    firsts = [next_click(t, np.zeros_like(t))[0] for t in truths]
    one = np.array([1])
    clicks = [WindowPrompts(points=np.array([p]), point_labels=one) for p in firsts]
    boxes = [
        WindowPrompts(box=(float(y0), float(x0), float(y1), float(x1)))
        for _, _, y0, x0, y1, x1 in rows[:2]
    ]
    answers = asker.ask(clicks)
    best = answers[0][0]
    point, label = next_click(truths[0], asker.full(best))
    second = WindowPrompts(
        points=np.array([firsts[0], point]),
        point_labels=np.array([1, label]),
        mask_input=best.low_res_logits,
    )
    answers += asker.ask([*boxes, second])
    of = [*truths, *truths[: len(boxes)], truths[0]]
    return [asker.ious(a, truth) for a, truth in zip(answers, of, strict=True)]


def fit_ranking(
    model: Nano, evidence: Evidence, *, epochs: int = 40, seed: int = 0
) -> None:
    """Fit the head of `model` to evidence, in place; data sets count equally."""
    torch.manual_seed(seed)
    x, y = evidence.inputs, evidence.reached
    mean, scale = x.flatten(0, 1).mean(0), x.flatten(0, 1).std(0) + 1e-2
    x = (x - mean) / scale
    names, counts = np.unique(evidence.datasets, return_counts=True)
    share = dict(zip(names, len(y) / len(names) / counts, strict=True))
    weight = torch.tensor([share[d] for d in evidence.datasets]).float()
    old = model.network.decoder.iou.mlp
    layers: list[Any] = [
        nn.Linear(m.in_features, m.out_features)
        for m in old.children()
        if isinstance(m, nn.Linear)
    ]
    head = nn.Sequential(
        nn.Dropout(0.5), layers[0], nn.ReLU(),
        nn.Dropout(0.2), layers[1], nn.ReLU(), layers[2],
    )  # fmt: skip
    optimiser = torch.optim.AdamW(head.parameters(), 1e-3, weight_decay=0.3)
    for _ in range(epochs):
        for some in torch.tensor_split(torch.randperm(len(y)), len(y) // 64 + 1):
            p = head(x[some]).squeeze(2).sigmoid()  # (n, 3)
            soft = F.softmax(y[some] * 20, 1)
            rank = -(soft * F.log_softmax(p * 20, 1)).sum(1)
            error = F.mse_loss(p, y[some], reduction="none").mean(1)
            optimiser.zero_grad()
            torch.autograd.backward([((4 * error + 0.2 * rank) * weight[some]).mean()])
            optimiser.step()
    with torch.no_grad():
        layers[0].bias -= (layers[0].weight / scale) @ mean
        layers[0].weight /= scale
    state = {
        f"{2 * i}.{k}": v.detach()
        for i, layer in enumerate(layers)
        for k, v in layer.named_parameters()
    }
    old.load_state_dict(state)
