"""Command line of the training package: ``python -m tools.nano``.

Examples
--------
::

    python -m tools.nano run --data DATA --folder STATE --steps 4000
    python -m tools.nano score --data DATA --folder STATE
    python -m tools.nano export --folder STATE --out nano.safetensors
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.distributed

from napari_sam.models.nano.generation import GENERATIONS, SECOND
from napari_sam.models.nano.nano import Nano, load_nano, write_weights
from napari_sam.models.nano.network import NanoNetwork
from napari_sam.training.datasets import read_labelled
from napari_sam.training.run_files import load_state
from napari_sam.training.variants import VARIANTS
from tools.nano.backbone import load_backbone
from tools.nano.composites import composite_images
from tools.nano.data import CropSampler, LabelledImage, read_folder, split
from tools.nano.growth import grow
from tools.nano.loop import Trainer, TrainOptions
from tools.nano.procedural import procedural_images

if TYPE_CHECKING:
    from napari_sam.training.labelled import LabelledVolume

SHARES = {
    "dsb2018": 2.2,
    "usiigaci_phase": 1.0,
    "feral_cats": 1.2,
    "kidney_stone_ct": 0.6,
    "serebrum7t": 0.6,
    "car_parts": 0.6,
    "amazon_forest": 0.7,
    "feral_cats2": 1.5,
    "procedural": 2.6,
    "composite": 2.0,
}
"""How often data sets are drawn beyond the square root of their size."""

logger = logging.getLogger("napari_sam.training")


def main() -> None:
    """Run one of the verbs."""
    usual = TrainOptions()
    parser = argparse.ArgumentParser(prog="python -m tools.nano")
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="train, or go on training")
    run.add_argument("--data", type=Path, required=True)
    run.add_argument("--folder", type=Path, required=True)
    run.add_argument("--steps", type=int, default=usual.steps)
    run.add_argument("--decay-steps", type=int, default=usual.decay_steps)
    run.add_argument("--learning-rate", type=float, default=usual.learning_rate)
    run.add_argument("--procedural", type=int, default=600)
    run.add_argument("--composites", type=int, default=300)
    run.add_argument("--threads", type=int, default=2)
    run.add_argument("--device", default="cpu")
    run.add_argument("--seed", type=int, default=usual.seed)
    run.add_argument(
        "--grown",
        action="store_true",
        help="begin with the shipped weights, grown to the second generation",
    )
    run.add_argument(
        "--fixed-backbone", action="store_true", help="leave the backbone as it is"
    )
    run.add_argument(
        "--bfloat16", action="store_true", help="convolve in half precision"
    )
    run.add_argument(
        "--weights-of", type=Path, help="folder of the run whose average to begin with"
    )
    run.add_argument(
        "--backbone", type=Path, help="EfficientNet-Lite0 to begin with, a .pth file"
    )
    run.add_argument(
        "--only-ranking",
        action="store_true",
        help="train the predicted IoU alone, on windows as they come",
    )
    score = verbs.add_parser("score", help="score on the validation split")
    score.add_argument("--data", type=Path, required=True)
    score.add_argument(
        "--folder", type=Path, help="state to score; else shipped weights"
    )
    score.add_argument("--images", type=int, default=1000, help="at most, a data set")
    score.add_argument("--objects", type=int, default=8, help="at most, an image")
    score.add_argument("--clicks", type=int, default=3)
    score.add_argument(
        "--variants", nargs="*", default=[], choices=VARIANTS, help="images changed so"
    )
    score.add_argument("--out", type=Path, help="JSON of all scores")
    export = verbs.add_parser("export", help="write the averaged weights")
    export.add_argument("--folder", type=Path, required=True)
    export.add_argument("--out", type=Path, required=True)
    rank = verbs.add_parser("rank", help="fit the ranking of candidates; last step")
    rank.add_argument("--data", type=Path, required=True)
    rank.add_argument("--folder", type=Path, required=True)
    rank.add_argument("--out", type=Path, required=True)
    rank.add_argument("--images", type=int, default=240)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    verb = {"run": _run, "score": _score, "export": _export, "rank": _rank}[args.verb]
    verb(args)


def _run(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    if "WORLD_SIZE" in os.environ:  # torchrun
        torch.distributed.init_process_group("gloo")
    images = split(read_folder(args.data)).train
    composites = composite_images(args.composites, images)
    images += procedural_images(args.procedural, real=images) + composites
    logger.info("%d training images in memory", len(images))
    options = TrainOptions(
        steps=args.steps,
        decay_steps=args.decay_steps,
        learning_rate=args.learning_rate,
        device=args.device,
        seed=args.seed,
        fixed_backbone=args.fixed_backbone,
        bfloat16=args.bfloat16,
    )
    sampler = CropSampler(images, shares=SHARES)
    if args.only_ranking:
        options = replace(
            options,
            only_ranking=True,
            sides=((256, 3, 0.25), (384, 2, 0.5), (480, 1, 0.25)),
            rounds=((0, 1, 0.75), (0, 2, 0.25)),
        )
        sampler = CropSampler(images, shares=SHARES, objects_per_crop=6, native=True)
    start = _start(args)
    if args.backbone:
        start.encoder.backbone = load_backbone(args.backbone)
    trainer = Trainer(sampler, args.folder, options, start=start)
    signal.signal(signal.SIGTERM, lambda *_: setattr(trainer, "stopped", True))
    sums: dict[str, list[float]] = {}
    for row in trainer.run():
        for key, value in row.items():
            sums.setdefault(key, []).append(value)
        if trainer.step % 50 == 0 and trainer.rank == 0:
            means = {k: sum(v) / len(v) for k, v in sums.items() if k != "step"}
            logger.info(
                "step %d  %s",
                trainer.step,
                "  ".join(f"{k} {v:.3g}" for k, v in means.items()),
            )
            sums.clear()


def _start(args: argparse.Namespace) -> NanoNetwork:
    if args.weights_of:
        return _averaged(args.weights_of)
    if not args.grown:
        return NanoNetwork(SECOND)
    network = load_nano().network
    return network if network.generation is SECOND else grow(network)


def _averaged(folder: Path) -> NanoNetwork:
    state = load_state(folder)
    if state is None:
        raise FileNotFoundError(f"no state of a run in {folder}")
    network = NanoNetwork(GENERATIONS[state["generation"]])
    network.load_state_dict(state["average"])
    logger.info("weights of step %d", state["step"])
    return network


def _score(args: argparse.Namespace) -> None:
    from napari_sam.training.evaluate import evaluate

    model = Nano(_averaged(args.folder)) if args.folder else load_nano()
    parts = split(read_folder(args.data))
    out = {}
    for name, images in (("kept back", parts.kept_back), ("held out", parts.held_out)):
        found = evaluate(
            model,
            _volumes(images, most=args.images),
            clicks=args.clicks,
            max_objects=args.objects,
            variants=args.variants,
        )
        logger.info("%s\n%s", name, found.table())
        out[name] = json.loads(found.to_json())
    if args.out:
        args.out.write_text(json.dumps(out, indent=1))


def _volumes(images: list[LabelledImage], most: int) -> list[LabelledVolume]:
    """The first images of each data set, as `evaluate` takes them."""
    taken: Counter[str] = Counter()
    out = []
    for image in images:
        taken[image.dataset] += 1
        if taken[image.dataset] <= most:
            (one,) = read_labelled(image.image, image.labels)
            name = f"{image.dataset}/{image.stem}"
            out.append(replace(one, name=name, group=image.dataset))
    return out


def _rank(args: argparse.Namespace) -> None:
    from tools.nano.ranking import collect_evidence, fit_ranking

    network = _averaged(args.folder)
    model = Nano(network)
    images = split(read_folder(args.data)).train
    fit_ranking(model, collect_evidence(model, images, n_images=args.images))
    write_weights(network, args.out)
    logger.info("wrote %s", args.out)


def _export(args: argparse.Namespace) -> None:
    write_weights(_averaged(args.folder), args.out)
    logger.info("wrote %s, %d bytes", args.out, args.out.stat().st_size)


if __name__ == "__main__":
    main()
