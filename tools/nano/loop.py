"""The training loop of `nano`: resumable to the bit, extendable, logged.

Started by ``torchrun`` with several processes, each makes and learns from crops of its
own and gradients are averaged: on CPUs, n processes of one thread each get more done
than one of n threads, the more so where others use the machine.

Every step is a function of (seed, step) and the state so far: crops, prompts and their
order need no saved random state, so a killed run that resumes ends in the same weights.
The rate is warmed up, held, and lowered only over the last `decay_steps`, so that a run
can be extended by resuming from a checkpoint taken before the decay.
"""

from __future__ import annotations

import dataclasses
import logging
import queue
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, distributed

from napari_sam.models.nano.encoder import Features
from napari_sam.models.nano.generation import SECOND
from napari_sam.models.nano.network import Decoded, NanoNetwork
from napari_sam.training.losses import Losses, candidate_losses
from napari_sam.training.prompts import first_prompts, next_clicks
from napari_sam.training.run_files import load_state, log_rows, save_state
from tools.nano.seed_loss import seed_loss

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_sam.models.nano.prompt_maps import PaddedPrompts
    from tools.nano.data import CropBatch, CropSampler

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """What a run is made of. Times are in steps."""

    steps: int = 4000
    decay_steps: int = 1200
    warmup_steps: int = 150
    learning_rate: float = 1.5e-3
    backbone_rate: float = 0.1
    """Learning rate of the backbone, of the others'."""
    weight_decay: float = 0.02
    ema: float = 0.998
    sides: tuple[tuple[int, int, float], ...] = (
        (160, 5, 0.2),
        (256, 3, 0.4),
        (352, 2, 0.3),
        (448, 1, 0.1),
    )
    """(crop side, crops a step, share of the steps).

    Small crops are cheap and teach edges; without large ones the candidates are ranked
    as if objects always filled the window.
    """
    rounds: tuple[tuple[int, int, float], ...] = (
        (0, 1, 0.4),
        (0, 2, 0.2),
        (0, 3, 0.1),
        (1, 2, 0.1),
        (4, 1, 0.12),
        (7, 1, 0.08),
    )
    """(rounds of prompts only answered, rounds then learnt from, share of the steps).

    Answering costs a third of learning, so late clicks are met at little cost.
    """
    fixed_backbone: bool = False
    """Leave the whole backbone as it is: half the time of a step on a CPU."""
    bfloat16: bool = False
    """Convolve in bfloat16: 3 to 5 times faster on CPUs with matrix instructions."""
    only_ranking: bool = False
    """Train nothing but the head that ranks the candidates; costs no backward pass."""
    iou_weight: float = 2.0
    rank_weight: float = 0.4
    seed_weight: float = 0.3
    """Of the head for all instances in one pass."""
    seed: int = 0
    checkpoint_every_s: float = 240.0
    device: str = "cpu"

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        up = min(1.0, (step + 1) / self.warmup_steps)
        left = (self.steps - step) / max(self.decay_steps, 1)
        down = 1.0 if left >= 1 else 0.5 - 0.5 * float(np.cos(np.pi * max(left, 0.0)))
        return self.learning_rate * up * (0.01 + 0.99 * down)

    def shape(self, step: int) -> tuple[int, int, int, int]:
        """Return (side, crops, rounds only answered, rounds learnt from) of a step."""
        rng = np.random.default_rng([self.seed, step, 7])
        shares = np.array([s[2] for s in self.sides])
        side, crops, _ = self.sides[rng.choice(len(shares), p=shares / shares.sum())]
        shares = np.array([r[2] for r in self.rounds])
        before, rounds, _ = self.rounds[
            rng.choice(len(shares), p=shares / shares.sum())
        ]
        return side, crops, before, rounds


class Trainer:
    """Network, moving average, optimiser and where they are kept.

    Parameters
    ----------
    sampler : CropSampler
    folder : Path
        Checkpoint ``state.pt`` and ``log.csv`` live here; an existing one is resumed.
    options : TrainOptions
    start : NanoNetwork, optional
        Weights of a new run; random ones where left out.
    """

    def __init__(
        self,
        sampler: CropSampler,
        folder: Path,
        options: TrainOptions,
        *,
        start: NanoNetwork | None = None,
    ) -> None:
        torch.manual_seed(options.seed)
        self.sampler, self.folder, self.options = sampler, folder, options
        self.step = 0
        together = distributed.is_initialized()
        self.rank = distributed.get_rank() if together else 0
        self.ranks = distributed.get_world_size() if together else 1
        self.stopped = False
        """Set to end `run` after the step under way."""
        generation = start.generation if start is not None else SECOND
        self.network = NanoNetwork(generation).to(options.device)
        if start is not None:
            self.network.load_state_dict(start.state_dict())
        backbone = self.network.encoder.backbone
        for part in (backbone,) if options.fixed_backbone else backbone.fixed:
            part.requires_grad_(False)
        if options.bfloat16:
            self.network.convolve_in_bfloat16()
        self.average = NanoNetwork(generation).to(options.device)
        self.average.load_state_dict(self.network.state_dict())
        self.optimiser = torch.optim.AdamW(
            self._groups(), lr=options.learning_rate, betas=(0.9, 0.98), fused=True
        )
        folder.mkdir(parents=True, exist_ok=True)
        if (state := load_state(folder, options.device)) is not None:
            self._take(state)

    def run(self) -> Iterator[dict[str, float]]:
        """Train up to `options.steps`, yielding a row of numbers for each step."""
        saved = time.monotonic()
        for batch, prompts in self._batches():
            started = time.monotonic()
            row = self._train_step(batch, prompts)
            self.step += 1
            row |= {"step": self.step, "seconds": time.monotonic() - started}
            if self.rank == 0:
                log_rows(self.folder, LOG_COLUMNS, [row])
            yield row
            if self._all_stop():
                break
            if time.monotonic() - saved > self.options.checkpoint_every_s:
                self.save()
                saved = time.monotonic()
        self.save()

    def save(self) -> None:
        """Write the whole state, atomically; the first process does."""
        if self.rank:
            return
        state = {
            "step": self.step,
            "generation": self.network.generation.revision,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "options": dataclasses.asdict(self.options),
        }
        save_state(self.folder, state)

    def _groups(self) -> list[dict[str, Any]]:
        """Parameters by how they learn.

        Ranking lags, so its head learns faster; the backbone comes with what it knows
        and should not lose it, so it learns slower.
        """
        options = self.options
        ranker = list(self.network.decoder.iou.parameters())
        heads: dict[str, Any] = {"params": ranker, "weight_decay": 0.0, "faster": 2.0}
        if options.only_ranking:
            self.network.requires_grad_(False)
            self.network.decoder.iou.requires_grad_(True)
            return [heads]
        backbone = self.network.encoder.backbone.parameters()
        learns = [p for p in backbone if p.requires_grad]
        slow: dict[str, Any] = {"params": learns, "weight_decay": 0.0}
        rest = [
            p
            for name, p in self.network.named_parameters()
            if not name.startswith(("decoder.iou.", "encoder.backbone."))
        ]
        decayed = [p for p in rest if p.ndim > 1]
        plain = [p for p in rest if p.ndim <= 1]
        groups = [
            {"params": decayed, "weight_decay": options.weight_decay},
            {"params": plain, "weight_decay": 0.0},
            heads,
        ]
        if learns:
            groups.append({**slow, "faster": options.backbone_rate})
        return groups

    def _take(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = int(state["step"])
        logger.info("resumed %s at step %d", self.folder, self.step)

    def _batches(self) -> Iterator[tuple[CropBatch, PaddedPrompts]]:
        """Crops and first prompts of the coming steps, made in a background thread."""
        ready: queue.Queue[tuple[CropBatch, PaddedPrompts] | BaseException] = (
            queue.Queue(4)
        )
        stop = threading.Event()
        first, last, seed = self.step, self.options.steps, self._seed()

        def put(item: tuple[CropBatch, PaddedPrompts] | BaseException) -> None:
            while not stop.is_set():
                try:
                    return ready.put(item, timeout=0.5)
                except queue.Full:
                    continue

        def work() -> None:
            try:
                for step in range(first, last):
                    if stop.is_set():
                        return
                    side, crops, *_ = self.options.shape(step)
                    batch = self.sampler.batch([*seed, step], n_crops=crops, side=side)
                    rng = np.random.default_rng([*seed, step, 1])
                    put((batch, first_prompts(batch.masks, batch.image_of, rng)))
            except BaseException as error:  # noqa: BLE001 - raised in the main thread
                put(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            for _ in range(first, last):
                item = ready.get()
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            stop.set()
            thread.join()

    def _train_step(self, batch: CropBatch, prompts: PaddedPrompts) -> dict[str, float]:
        options, device = self.options, self.options.device
        rate = options.rate(self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group.get("faster", 1.0)
        _, _, before, rounds = options.shape(self.step)
        rng = np.random.default_rng([*self._seed(), self.step, 2])
        self.optimiser.zero_grad(set_to_none=True)

        images = torch.from_numpy(batch.images).to(device)
        features = self.network.encoder(images, torch.ones_like(images[:, :1]))
        # Each round is taken back only to the embedding; the encoder learns once.
        learns = not options.only_ranking
        leaves = Features(*(f.detach().requires_grad_(learns) for f in features))
        row: dict[str, float] = {"rate": rate}
        for i in range(before + rounds):
            prompts = prompts.to(device)
            with torch.set_grad_enabled(i >= before):
                ready = self.network.decoder.prepare(leaves)
                decoded = self.network.decoder(ready, prompts)
            if i >= before:
                losses = self._losses(decoded, prompts, batch)
                loss = (
                    losses.mask
                    + options.iou_weight * losses.iou
                    + options.rank_weight * losses.rank
                )
                torch.autograd.backward([loss / rounds])
                best = decoded.iou.detach().argmax(1)
                row |= _summary(i, losses.reached, best, prompts)
                row[f"loss_{i}"] = float(losses.mask.detach())
                row[f"iou_error_{i}"] = float(losses.iou.detach()) ** 0.5
            if i + 1 < before + rounds:
                prompts = _corrected(prompts, decoded, batch, rng)
        if learns and self.network.seeds is not None:
            found = seed_loss(self.network.seeds(leaves), batch.labels, batch.complete)
            torch.autograd.backward([options.seed_weight * found])
            row["loss_seeds"] = float(found.detach())
        if learns:
            torch.autograd.backward(list(features), [f.grad for f in leaves])
        self._average_gradients()
        norm = torch.nn.utils.clip_grad_norm_(
            self.network.parameters(), 1.0, foreach=True
        )
        self.optimiser.step()
        self._average()
        return row | {"grad_norm": float(norm), "side": float(batch.images.shape[-1])}

    def _losses(
        self, decoded: Decoded, prompts: PaddedPrompts, batch: CropBatch
    ) -> Losses:
        device = self.options.device
        lone = (prompts.labels == 1).sum(1) == 1
        ambiguous = lone.float() * (1 - prompts.has_box) * (1 - prompts.has_prev)
        composite = torch.from_numpy(batch.composite).to(device)
        return candidate_losses(
            decoded.logits,
            decoded.iou,
            torch.from_numpy(batch.masks).to(device),
            torch.from_numpy(batch.weights).to(device),
            ambiguous,
            composite & (ambiguous > 0),
        )

    def _seed(self) -> list[int]:
        """What this process draws its crops and prompts from."""
        return [self.options.seed, self.rank] if self.rank else [self.options.seed]

    def _all_stop(self) -> bool:
        """Whether any process was told to stop; all end after the same step."""
        if self.ranks == 1:
            return self.stopped
        told = torch.tensor(int(self.stopped))
        distributed.all_reduce(told)
        return bool(told)

    def _average_gradients(self) -> None:
        if self.ranks == 1:
            return
        grads = [p.grad for p in self.network.parameters() if p.grad is not None]
        flat = torch.cat([g.flatten() for g in grads])
        distributed.all_reduce(flat)
        flat /= self.ranks
        parts = torch.split(flat, [g.numel() for g in grads])
        for grad, new in zip(grads, parts, strict=True):
            grad.copy_(new.view(grad.shape))

    def _average(self) -> None:
        keep = min(self.options.ema, (1 + self.step) / (10 + self.step))
        mine: list[torch.Tensor] = list(self.average.parameters())
        new: list[torch.Tensor] = list(self.network.parameters())
        with torch.no_grad():
            torch._foreach_lerp_(mine, new, 1 - keep)


LOG_COLUMNS = (
    "step",
    "seconds",
    "side",
    "rate",
    "grad_norm",
    "loss_seeds",
    *(
        f"{what}_{i}"
        for i in range(8)
        for what in (
            "loss",
            "iou_error",
            "click_top",
            "click_best",
            "box_top",
            "box_best",
        )
    ),
)
"""Columns of ``log.csv``; rounds are counted from 0."""


def _summary(
    i: int, reached: Tensor, best: Tensor, prompts: PaddedPrompts
) -> dict[str, float]:
    """Mean IoU of the first-ranked and the best candidate, clicks and boxes apart."""
    top = reached.gather(1, best[:, None]).squeeze(1)
    out = {}
    for name, of in (("click", prompts.has_box == 0), ("box", prompts.has_box == 1)):
        if bool(of.any()):
            out[f"{name}_top_{i}"] = float(top[of].mean())
            out[f"{name}_best_{i}"] = float(reached.amax(1)[of].mean())
    return out


def _corrected(
    prompts: PaddedPrompts,
    decoded: Decoded,
    batch: CropBatch,
    rng: np.random.Generator,
) -> PaddedPrompts:
    """Click into the errors of the candidates ranked first."""
    best = decoded.iou.detach().argmax(1)  # (P,)
    pick = torch.arange(len(best), device=best.device)
    return next_clicks(
        prompts.to("cpu"),
        batch.masks,
        (decoded.logits.detach()[pick, best] > 0).cpu().numpy(),
        decoded.low_res.detach()[pick, best].cpu(),
        rng,
    )
