"""``napari-sam train``: labelled images to a model of one's own."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sam.cli import arguments
from napari_sam.cli.report import Report, bar, duration, load_with_progress

if TYPE_CHECKING:
    from napari_sam.training.decoder_loop import Progress


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """What to train on and how, as the command line gives it."""

    images: str
    labels: str | None = None
    out: str | None = None
    name: str | None = None
    axes: str | None = None
    channels: str | None = None
    lora: bool = False
    epochs: int = 40
    validation: float = 0.2
    patience: int = 8
    seed: int = 0
    replace: bool = False


def run(options: TrainOptions, *, model: str, device: str, as_json: bool) -> int:
    """Train; return 1 where the result was not worth its name, else 0."""
    from napari_sam.training.finetune import family_of, train
    from napari_sam.training.trainable import check_family

    report = Report(as_json)
    channels = arguments.channels(options.channels)
    check_family(model, family_of(model))
    if options.out is not None:  # rather than after an hour
        Path(options.out).expanduser().mkdir(parents=True, exist_ok=True)
    network = load_with_progress(model, device)
    with _Bar() as bar:
        result = train(
            network,
            options.images,
            options.labels,
            out=options.out,
            name=options.name,
            axes=options.axes,
            channels=channels,
            lora=options.lora,
            epochs=options.epochs,
            validation=options.validation,
            patience=options.patience,
            seed=options.seed,
            replace=options.replace,
            progress=bar.show,
        )
    report.data = result.to_json()
    report.say(result.table())
    report.say(result.message)
    if result.kept:
        report.say(f"use it with --model {result.name}; its file is {result.path}")
    report.finish()
    return 0 if result.kept else 1


class _Bar:
    """One bar on stderr that each stage begins anew."""

    def __init__(self) -> None:
        self._stage, self._epoch = "", 0
        self._bar: Any = None

    def show(self, progress: Progress) -> None:
        """Move the bar, and print a line an epoch."""
        if progress.stage != self._stage or self._bar is None:
            self._close()
            self._stage = progress.stage
            self._bar = bar(
                progress.stage,
                total=100,
                bar_format="{desc} {percentage:3.0f}%|{bar}| {postfix}",
            )
        shown = self._bar
        if progress.seconds_left is not None:
            left = f"at most {duration(progress.seconds_left)} left"
            shown.set_postfix_str(left, refresh=False)
        shown.update(100 * progress.done - shown.n)
        if progress.stage == "train" and progress.epoch > max(self._epoch, 1):
            loss = "" if progress.loss is None else f"loss {progress.loss:.3f}, "
            shown.write(
                f"epoch {progress.epoch - 1} of {progress.of}: {loss}"
                f"IoU {progress.score:.3f}, best {progress.best:.3f}",
                file=sys.stderr,
            )
        self._epoch = progress.epoch

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
