"""Commands about models: which there are, how good one is, and fine-tuning one."""

from __future__ import annotations

from typing import Annotated

import typer

from napari_sam.cli.options import (
    AsJson,
    Axes,
    Axis,
    Channels,
    Device,
    Intensity,
    Model,
    Precision,
    example,
)
from napari_sam.cli.stopping import StoppableGroup

models_app = typer.Typer(cls=StoppableGroup, rich_markup_mode="rich")


@models_app.callback(
    invoke_without_command=True, epilog=example("napari-sam models --json")
)
def models(context: typer.Context, as_json: AsJson = False) -> None:
    """List the models, where they are and under which licence."""
    if context.invoked_subcommand is None:
        from napari_sam.cli.models import show

        show(as_json=as_json)


@models_app.command("download", epilog=example("napari-sam models download sam_vit_b"))
def models_download(
    name: Annotated[str, typer.Argument(help="A name from napari-sam models.")],
) -> None:
    """Download a model's weights and verify them; goes on where it stopped."""
    from napari_sam.cli.models import fetch

    fetch(name)


@models_app.command(
    "add",
    epilog=example(
        "napari-sam models add my_cells checkpoints/best.pt",
        "napari-sam models add liver medsam:finetuned.pth",
    ),
)
def models_add(
    name: Annotated[str, typer.Argument(help="Name to give the model.")],
    path: Annotated[str, typer.Argument(help="File; FAMILY:FILE where need be.")],
) -> None:
    """Give a checkpoint file of your own a name, for all lists and --model."""
    from napari_sam.cli.models import add

    add(name, path)


@models_app.command("remove", epilog=example("napari-sam models remove my_cells"))
def models_remove(
    name: Annotated[str, typer.Argument(help="Name given by models add.")],
) -> None:
    """Forget the name of a checkpoint file of your own; the file stays."""
    from napari_sam.cli.models import remove

    remove(name)


def evaluate(
    images: Annotated[
        str,
        typer.Option(
            help="Folder of images, or one image; without --labels: COCO .json, "
            "OME-Zarr with labels, session (.nsam), a folder with images/ and labels/, "
            "or a folder of such data sets."
        ),
    ],
    labels: Annotated[
        str | None,
        typer.Option(help="Folder of label images of the same names, or one; or COCO."),
    ] = None,
    model: Model = "nano",
    prompts: Annotated[
        str, typer.Option(help="What is asked: point, box or both.")
    ] = "point,box",
    clicks: Annotated[int, typer.Option(help="Clicks on each object.")] = 8,
    max_objects: Annotated[
        int | None,
        typer.Option(help="At most so many objects of an image, drawn at random."),
    ] = None,
    min_area: Annotated[
        int, typer.Option(help="Leave out objects with fewer pixels.")
    ] = 20,
    variants: Annotated[
        str | None,
        typer.Option(
            help="Also ask of the images changed: inverted, half-contrast, 16bit."
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Data sets or images by name, such as ct_*; repeatable."),
    ] = None,
    axis: Axis = "z",
    axes: Axes = None,
    channels: Channels = None,
    intensity: Intensity = None,
    seed: Annotated[int, typer.Option(help="Of the objects that are drawn.")] = 0,
    device: Device = "auto",
    precision: Precision = "float32",
    json_file: Annotated[
        str | None,
        typer.Option("--json", help="Write all scores to this file; - prints them."),
    ] = None,
) -> None:
    """Score a model on labelled images, by simulated clicks and boxes."""
    from napari_sam.cli.evaluate import EvaluateOptions, run

    options = EvaluateOptions(
        prompts=prompts,
        clicks=clicks,
        max_objects=max_objects,
        min_area=min_area,
        variants=variants,
        only=tuple(only or ()),
        axis=axis,
        axes=axes,
        channels=channels,
        intensity=intensity,
        seed=seed,
    )
    network = {"model": model, "device": device, "precision": precision}
    run(images, labels, options, **network, json_file=json_file)


def train(
    images: Annotated[
        str,
        typer.Option(
            help="Folder of images, or one image; without --labels: COCO .json, "
            "OME-Zarr with labels, session (.nsam), or a folder with images/ and "
            "labels/."
        ),
    ],
    labels: Annotated[
        str | None,
        typer.Option(help="Folder of label images of the same names, or one; or COCO."),
    ] = None,
    model: Model = "nano",
    out: Annotated[
        str | None,
        typer.Option(
            "--out", "-o", help="Folder of the result; the user's own if left out."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name in the list; MODEL_tuned if left out.")
    ] = None,
    axes: Axes = None,
    channels: Channels = None,
    lora: Annotated[
        bool, typer.Option("--lora", help="Train the encoder's attention, too: slow.")
    ] = False,
    epochs: Annotated[int, typer.Option(help="At most.")] = 40,
    patience: Annotated[
        int, typer.Option(help="Epochs without a better score before it ends.")
    ] = 8,
    validation: Annotated[
        float,
        typer.Option(help="Share of images to stop by, and again to judge by."),
    ] = 0.2,
    seed: Annotated[int, typer.Option(help="Of the shares and every draw.")] = 0,
    replace: Annotated[
        bool, typer.Option("--replace", help="Give it the name even if it is worse.")
    ] = False,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Fine-tune a model on labelled images; the result is a model in the list.

    Stopped at any moment, it goes on where it was when run again. Exit code 1: the
    result is worse than what there was, and did not get the name.
    """
    from napari_sam.cli.train import TrainOptions, run

    options = TrainOptions(
        images=images,
        labels=labels,
        out=out,
        name=name,
        axes=axes,
        channels=channels,
        lora=lora,
        epochs=epochs,
        validation=validation,
        patience=patience,
        seed=seed,
        replace=replace,
    )
    code = run(options, model=model, device=device, as_json=as_json)
    raise typer.Exit(code)
