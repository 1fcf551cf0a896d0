"""The loop that fine-tunes a decoder: simulated prompts on features made beforehand.

Every step is a function of (seed, step) and the state so far, as in
`tools.nano.loop`: windows, objects and prompts need no saved random state, so
a killed run that goes on ends in the same weights.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_sam.embeddings.tile_batches import stopped
from napari_sam.errors import Cancelled
from napari_sam.training.losses import candidate_losses
from napari_sam.training.prompts import CELL, first_prompts, next_clicks
from napari_sam.training.run_files import LOG, load_state, log_rows, save_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from threading import Event

    from torch import Tensor

    from napari_sam.core.masks import Bbox
    from napari_sam.models.nano.prompt_maps import PaddedPrompts
    from napari_sam.training.examples import Example
    from napari_sam.training.trainable import Answer, Trainable

logger = logging.getLogger(__name__)

LOG_COLUMNS = ("epoch", "step", "loss", "score", "best", "rate", "seconds")
"""Columns of ``log.csv``, a row an epoch; epoch 0 is the model as it came."""
_STEPS = (16, 32)
"""Fewest and most steps of an epoch."""
_STOP_OBJECTS = 32
"""Objects of all windows that say when to stop, about."""
_STOP_ROUNDS = 2
_PART = 256
"""Pixels of the parts of a frame that steps look at, where the decoder can: whole
frames take four times as long."""
_WHOLE = 0.25
"""Share of steps that look at the whole frame all the same."""


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """What decides how a run goes, besides its data."""

    epochs: int = 40
    patience: int = 8
    """Epochs without a better score after which it ends."""
    seed: int = 0
    rounds: tuple[float, ...] = (0.4, 0.3, 0.3)
    """Shares of steps with one, two, three rounds of prompts."""
    warmup_steps: int = 20
    weight_decay: float = 0.01
    iou_weight: float = 2.0
    rank_weight: float = 0.4
    save_every_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands."""

    stage: str
    """"embed", "score before", "train" or "score after"."""
    epoch: int = 0
    """Epoch under way, from 1; 0 before the first."""
    of: int = 0
    """Epochs at most."""
    done: float = 0.0
    """Share of this stage that is done, 0..1; training may stop earlier."""
    loss: float | None = None
    """Mean of the last epoch."""
    score: float | None = None
    """IoU reached after the last epoch on the images that it stops by."""
    best: float | None = None
    seconds_left: float | None = None
    """At most, of this stage."""


@dataclass(slots=True)
class _State:
    """All that changes; what is saved."""

    step: int
    best: dict[str, Tensor]
    best_epoch: int
    rows: list[dict[str, float]]
    """Of `LOG_COLUMNS`, one an epoch."""
    loss_sum: float = 0.0
    """Over the epoch under way."""


class DecoderLoop:
    """A run, resumable to the bit.

    Parameters
    ----------
    trainable : Trainable
        Changed in place; `keep_best` gives it the weights of the best epoch.
    train, stop : sequence of Example
        Windows to learn from, and to stop by.
    features : callable
        Gives the decoder's features of a window.
    folder : Path
        ``state.pt`` and ``log.csv`` live here; an existing state is resumed.
    key : str
        Names what the run is of; a state of another key is refused.
    options : LoopOptions
    """

    def __init__(
        self,
        trainable: Trainable,
        train: Sequence[Example],
        stop: Sequence[Example],
        features: Callable[[Example], Mapping[str, Tensor]],
        folder: Path,
        key: str,
        options: LoopOptions,
    ) -> None:
        self.trainable, self.options = trainable, options
        self._train, self._stop, self._features = train, stop, features
        self._folder, self._key = folder, key
        self._parameters = trainable.parameters()
        at_once = trainable.objects_at_once
        visits = [
            i for i, e in enumerate(train) for _ in range(-(-len(e.crops) // at_once))
        ]
        self._visits = np.array(visits)
        self.steps_per_epoch = min(max(len(visits), _STEPS[0]), _STEPS[1])
        values = list(self._parameters.values())
        groups: list[dict[str, Any]] = [
            {"params": [p for p in values if p.ndim > 1]},
            {"params": [p for p in values if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self._optimiser = torch.optim.AdamW(
            groups,
            lr=trainable.learning_rate,
            weight_decay=options.weight_decay,
        )
        folder.mkdir(parents=True, exist_ok=True)
        self._state = self._loaded() or _State(0, self._weights(), 0, [])

    @property
    def epoch(self) -> int:
        """Epochs that are done."""
        return self._state.step // self.steps_per_epoch

    @property
    def rows(self) -> list[dict[str, float]]:
        """What was logged: one row an epoch."""
        return self._state.rows

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do: all epochs, or none better for long."""
        state, options = self._state, self.options
        if not state.rows or state.step % self.steps_per_epoch:
            return False
        waited = self.epoch - state.best_epoch
        return self.epoch >= options.epochs or waited >= options.patience

    def run(
        self, cancel: Callable[[], bool] | Event | None = None
    ) -> Iterator[Progress]:
        """Train until `finished`, yielding after each step.

        Raises
        ------
        Cancelled
            When asked to stop; the state is saved.
        """
        state, began = self._state, time.monotonic()
        saved, first = began, state.step
        if not state.rows:
            self._end_epoch(0.0)
        while not self.finished:
            if stopped(cancel):
                self._save()
                raise Cancelled("training was stopped; train again to go on from here")
            started = time.monotonic()
            state.loss_sum += self._step(state.step)
            state.step += 1
            if state.step % self.steps_per_epoch == 0:
                self._end_epoch(started)
                saved = time.monotonic()
            elif time.monotonic() - saved > self.options.save_every_s:
                self._save()
                saved = time.monotonic()
            yield self._progress((time.monotonic() - began) / (state.step - first))

    def keep_best(self) -> None:
        """Give the model the weights of the best epoch."""
        with torch.no_grad():
            for name, values in self._state.best.items():
                self._parameters[name].copy_(values)

    def score(self, examples: Sequence[Example]) -> float:
        """Mean IoU of the candidate ranked first, over clicks, boxes and refining."""
        reached: list[float] = []
        most = max(2, -(-_STOP_OBJECTS // len(examples)))
        at_once = self.trainable.objects_at_once
        with torch.no_grad():
            for number, example in enumerate(examples):
                rng = np.random.default_rng([self.options.seed, number, 5])
                which = rng.permutation(len(example.crops))[:most]
                features = self._features(example)
                for some in np.split(which, range(at_once, len(which), at_once)):
                    masks = example.masks(some)
                    for _, ious in self._rounds(masks, features, _STOP_ROUNDS, rng):
                        reached += ious
        return float(np.mean(reached))

    def _step(self, step: int) -> float:
        options = self.options
        epoch, i = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng([options.seed, epoch, 9]).permutation(
            len(self._visits)
        )
        example = self._train[self._visits[order[i % len(order)]]]
        rng = np.random.default_rng([options.seed, step, 1])
        part, which = self._part(example, rng)
        y0, x0, y1, x1 = part
        masks = example.masks(which)[:, y0:y1, x0:x1]
        rounds = 1 + int(rng.choice(len(options.rounds), p=options.rounds))
        for group in self._optimiser.param_groups:
            group["lr"] = self._rate(step)
        self._optimiser.zero_grad(set_to_none=True)
        made: Mapping[str, Tensor] = self._features(example)
        if (y1 - y0, x1 - x0) != example.cells:
            made = self.trainable.cut(
                made, (y0 * CELL, x0 * CELL, y1 * CELL, x1 * CELL)
            )
        # Each round is taken back only to the features; an encoder learns once.
        leaves = {
            k: v.detach().requires_grad_(v.requires_grad) for k, v in made.items()
        }
        total = 0.0
        for loss, _ in self._rounds(masks, leaves, rounds, rng):
            torch.autograd.backward([loss / rounds])
            total += float(loss.detach()) / rounds
        learned = [k for k, v in made.items() if v.requires_grad]
        if learned:
            torch.autograd.backward(
                [made[k] for k in learned], [leaves[k].grad for k in learned]
            )
        torch.nn.utils.clip_grad_norm_(self._parameters.values(), 1.0)
        self._optimiser.step()
        return total

    def _part(
        self, example: Example, rng: np.random.Generator
    ) -> tuple[Bbox, np.ndarray]:
        """Choose a part of the frame, a box in cells, and objects that lie in it."""
        whole = (0, 0, *example.cells)
        count, unit = self.trainable.objects_at_once, self.trainable.part_of // CELL
        order = rng.permutation(len(example.crops))
        if not unit or rng.random() < _WHOLE:
            return whole, order[:count]
        box = example.crops[order[0]][0]
        pairs = zip(box[:2], box[2:], example.cells, strict=True)
        (y0, y1), (x0, x1) = (_span(*p, unit, rng) for p in pairs)
        part = y0, x0, y1, x1
        inside = example.objects_in(part)
        others = rng.permutation(inside[inside != order[0]])
        return part, np.r_[order[:1], others][:count]

    def _rounds(
        self,
        masks: np.ndarray,
        features: Mapping[str, Tensor],
        rounds: int,
        rng: np.random.Generator,
    ) -> Iterator[tuple[Tensor, list[float]]]:
        """Prompt objects again and again; yields loss and IoU reached, each round."""
        device = self.trainable.model.device
        truth = torch.from_numpy(masks).to(device)
        prompts = first_prompts(
            masks, np.zeros(len(masks), np.int64), rng, mix=self.trainable.mix
        )
        for i in range(rounds):
            there = prompts.to(device)
            ready = self.trainable.prepare(features)
            answers = list(self.trainable.decode(ready, there))
            loss, tops = self._losses(answers, there, truth)
            yield loss, [tops[k][0] for k in range(len(masks))]
            if i + 1 < rounds:
                predicted = np.stack([tops[k][1] for k in range(len(masks))])
                low_res = torch.stack([tops[k][2] for k in range(len(masks))])
                prompts = next_clicks(prompts, masks, predicted, low_res, rng)

    def _losses(
        self, answers: Sequence[Answer], prompts: PaddedPrompts, truth: Tensor
    ) -> tuple[Tensor, dict[int, tuple[float, np.ndarray, Tensor]]]:
        """Loss of all rows; of each: IoU, mask and low-res logits of the first one."""
        options, total = self.options, torch.zeros((), device=truth.device)
        tops: dict[int, tuple[float, np.ndarray, Tensor]] = {}
        alone = (prompts.labels == 1).sum(1) == 1
        lone = alone.float() * (1 - prompts.has_box) * (1 - prompts.has_prev)
        for answer in answers:
            rows, logits, iou = answer.rows, answer.logits, answer.iou
            if iou.shape[1] == 1:  # two that are alike leave nothing to rank
                logits, iou = logits.expand(-1, 2, -1, -1), iou.expand(-1, 2)
            one = torch.ones(len(rows), device=truth.device)
            losses = candidate_losses(logits, iou, truth[rows], one, lone[rows])
            loss = losses.mask + options.iou_weight * losses.iou
            loss = loss + options.rank_weight * losses.rank
            total = total + loss * (len(rows) / len(truth))
            best = answer.iou.detach().argmax(1)
            for j, (row, k) in enumerate(
                zip(rows.tolist(), best.tolist(), strict=True)
            ):
                tops[row] = (
                    float(losses.reached[j, k]),
                    (answer.logits[j, k].detach() > 0).cpu().numpy(),
                    answer.low_res[j, k].detach().cpu(),
                )
        return total, tops

    def _rate(self, step: int) -> float:
        """Warmed up, then falling along a cosine to a twentieth."""
        last = self.options.epochs * self.steps_per_epoch
        up = min(1.0, (step + 1) / self.options.warmup_steps)
        down = 0.525 + 0.475 * math.cos(math.pi * min(step / last, 1.0))
        return self.trainable.learning_rate * up * down

    def _end_epoch(self, started: float) -> None:
        state = self._state
        score = self.score(self._stop)
        better = not state.rows or score > state.rows[state.best_epoch]["score"]
        if better:
            state.best, state.best_epoch = self._weights(), self.epoch
        best = score if better else state.rows[state.best_epoch]["score"]
        state.rows.append(
            {
                "epoch": float(self.epoch),
                "step": float(state.step),
                "loss": state.loss_sum / self.steps_per_epoch,
                "score": score,
                "best": best,
                "rate": self._rate(state.step),
                "seconds": time.monotonic() - started if started else 0.0,
            }
        )
        state.loss_sum = 0.0
        self._save()
        self._log()

    def _progress(self, seconds: float) -> Progress:
        state, options = self._state, self.options
        total = options.epochs * self.steps_per_epoch
        row = state.rows[-1]
        return Progress(
            "train",
            epoch=min(self.epoch + 1, options.epochs),
            of=options.epochs,
            done=state.step / total,
            loss=row["loss"] if len(state.rows) > 1 else None,
            score=row["score"],
            best=row["best"],
            seconds_left=seconds * (total - state.step),
        )

    def _weights(self) -> dict[str, Tensor]:
        return {k: p.detach().cpu().clone() for k, p in self._parameters.items()}

    def _save(self) -> None:
        """Write the whole state, atomically."""
        state = self._state
        content = {
            "key": self._key,
            "step": state.step,
            "best": state.best,
            "best_epoch": state.best_epoch,
            "rows": state.rows,
            "loss_sum": state.loss_sum,
            "weights": self._weights(),
            "optimiser": self._optimiser.state_dict(),
        }
        save_state(self._folder, content)

    def _loaded(self) -> _State | None:
        content = load_state(self._folder)
        if content is None or content["key"] != self._key:
            return None
        with torch.no_grad():
            for name, values in content["weights"].items():
                self._parameters[name].copy_(values)
        self._optimiser.load_state_dict(content["optimiser"])
        names = ("step", "best", "best_epoch", "rows", "loss_sum")
        logger.info("%s goes on at step %d", self._folder, content["step"])
        return _State(**{k: content[k] for k in names})

    def _log(self) -> None:
        (self._folder / LOG).unlink(missing_ok=True)
        log_rows(self._folder, LOG_COLUMNS, self._state.rows)


def _span(
    low: int, high: int, size: int, unit: int, rng: np.random.Generator
) -> tuple[int, int]:
    """Draw a stretch of cells around low..high, on a raster of `unit`; or take all."""
    side = max(_PART // CELL, -(-2 * (high - low) // unit) * unit)
    first, last = max(0, -(-(high - side) // unit)), min(low, size - side) // unit
    if side >= size or last < first:
        return 0, size
    start = int(rng.integers(first, last + 1)) * unit
    return start, start + side
