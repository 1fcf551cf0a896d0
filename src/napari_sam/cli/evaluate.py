"""``napari-sam evaluate``: score a model on labelled images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from napari_sam.cli import arguments
from napari_sam.cli.report import bar, load_with_progress
from napari_sam.cli.results import check_target


@dataclass(frozen=True, slots=True)
class EvaluateOptions:
    """What is asked, and of which images and objects."""

    prompts: str = "point,box"
    clicks: int = 8
    max_objects: int | None = None
    min_area: int = 20
    variants: str | None = None
    only: tuple[str, ...] = ()
    axis: str = "z"
    axes: str | None = None
    channels: str | None = None
    intensity: str | None = None
    seed: int = 0


def run(
    images: str,
    labels: str | None,
    options: EvaluateOptions,
    *,
    model: str,
    device: str,
    precision: str,
    json_file: str | None,
) -> None:
    """Ask, print the table, and write all scores where asked for."""
    from napari_sam.core.atomic_files import write_whole
    from napari_sam.training.datasets import read_labelled, those_named
    from napari_sam.training.evaluate import Protocol, evaluate
    from napari_sam.training.variants import check_variants

    # What is written wrongly is told before anything is read or loaded.
    axis = arguments.axis(options.axis)
    channels = arguments.channels(options.channels)
    prompts, variants = _words(options.prompts), _words(options.variants or "")
    if json_file not in (None, "-"):
        check_target(Path(str(json_file)))
    Protocol(prompts, options.clicks, options.max_objects, options.min_area)
    check_variants(variants)
    found = read_labelled(images, labels, axes=options.axes, channels=channels)
    volumes = those_named(found, options.only)
    if options.intensity is not None:
        window = arguments.window(options.intensity)
        volumes = [
            replace(one, volume=one.volume.with_intensity(window)) for one in volumes
        ]
    network = load_with_progress(model, device, precision)
    with bar("evaluate", unit="object") as shown:

        def show(done: int, total: int) -> None:
            shown.total = total
            shown.update(done - shown.n)

        scores = evaluate(
            network,
            volumes,
            prompts=prompts,
            clicks=options.clicks,
            max_objects=options.max_objects,
            min_area=options.min_area,
            variants=variants,
            axis=axis,
            seed=options.seed,
            progress=show,
        )
    if json_file == "-":
        print(scores.to_json())
        return
    print(f"{network.spec.name}: mean IoU of {len(scores.scores)} objects\n")
    print(scores.table())
    if json_file is not None:
        write_whole(json_file, (scores.to_json() + "\n").encode())
        print(f"\nall scores: {json_file}")


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())
