"""Names, options and examples of every command; the work is done in their modules."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_sam.cli.annotate import annotate
from napari_sam.cli.arguments import VolumeOptions
from napari_sam.cli.classify import classify
from napari_sam.cli.combine import combine
from napari_sam.cli.compare import compare
from napari_sam.cli.everything import everything
from napari_sam.cli.export import export
from napari_sam.cli.find import find
from napari_sam.cli.model_verbs import evaluate, models_app, train
from napari_sam.cli.options import (
    AsJson,
    Axes,
    Axis,
    Channels,
    Device,
    Format,
    Intensity,
    Model,
    NoStore,
    Out,
    Precision,
    Series,
    Source,
    Spacing,
    example,
)
from napari_sam.cli.propagate import propagate
from napari_sam.cli.reshape import merge, refine, split
from napari_sam.cli.stopping import StoppableGroup
from napari_sam.cli.store import store_app
from napari_sam.cli.track import track
from napari_sam.cli.volumes import clean, doubtful, interpolate

app = typer.Typer(
    name="napari-sam",
    cls=StoppableGroup,
    help="Segment Anything for scientific images of any size.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(models_app, name="models")
app.add_typer(store_app, name="store")


def _version(wanted: bool) -> None:
    if wanted:
        import napari_sam
        from napari_sam.core import distribution

        typer.echo(f"napari-sam {napari_sam.__version__} ({distribution.NAME})")
        if (warning := distribution.warning()) is not None:
            typer.echo(warning, err=True)
        raise typer.Exit


@app.callback(epilog=example("napari-sam demo --view"))
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Segment Anything for scientific images of any size."""


@app.command(epilog=example("napari-sam demo --view"))
def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for results.")
    ] = Path("napari-sam-demo"),
    model: Model = "nano",
    device: Device = "auto",
    view: Annotated[bool, typer.Option(help="Open the results in napari.")] = False,
    as_json: AsJson = False,
) -> None:
    """Segment a CT, two MR and a microscopy image; write and show the results."""
    from napari_sam.cli.demo import run

    run(out, model=model, device=device, view=view, as_json=as_json)


@app.command(epilog=example("napari-sam view scan/ --session scan.nsam"))
def view(
    source: Source,
    session: Annotated[
        Path | None, typer.Option(help="Session (.nsam) whose labels to show.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="Label image to show on top.")
    ] = None,
    axes: Axes = None,
    channels: Channels = None,
    series: Series = None,
    spacing: Spacing = None,
) -> None:
    """Open an image in napari with the Segment Anything widget beside it."""
    from napari_sam.cli.view import run

    volume = VolumeOptions(source, axes, channels, series, spacing=spacing)
    run(volume, session=session, labels=labels)


@app.command(epilog=example("napari-sam doctor", "napari-sam doctor > report.txt"))
def doctor(
    encode: Annotated[
        bool, typer.Option(help="Encode one tile on each device, which takes seconds.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Say what is installed, what is missing, where things are kept, what runs."""
    from napari_sam.cli.doctor import run

    run(encode=encode, as_json=as_json)


@app.command(
    epilog=example("napari-sam inspect study/", "napari-sam inspect a.tif --json")
)
def inspect(source: Source, series: Series = None, as_json: AsJson = False) -> None:
    """Say what a file, folder or study holds, and what of it would be left out."""
    from napari_sam.cli.inspect import run

    run(source, series=series, as_json=as_json)


@app.command(
    epilog=example(
        "napari-sam embed scan/ --planes 10-40 --dry-run",
        "napari-sam embed slide.zarr --store slide.nsam-emb",
        "napari-sam embed slide.zarr --workers 4",
        "napari-sam embed /shared/slide.zarr --scheduler tcp://node:8786",
    )
)
def embed(
    source: Source,
    store: Annotated[
        str | None,
        typer.Option(help="Embedding store; the user's cache if left out."),
    ] = None,
    planes: Annotated[
        str | None, typer.Option(help="Planes, such as 3 or 10-40,50; all if left out.")
    ] = None,
    axis: Axis = "z",
    levels: Annotated[
        str | None, typer.Option(help="Pyramid levels, such as 1-3; all if left out.")
    ] = None,
    model: Model = "nano",
    device: Device = "auto",
    precision: Precision = "float32",
    axes: Axes = None,
    channels: Channels = None,
    series: Series = None,
    spacing: Spacing = None,
    intensity: Intensity = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Encode on the workers of this dask scheduler.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Encode in this many processes, a core each.")
    ] = None,
    shard: Annotated[
        str | None, typer.Option(help="Only the i-th of n parts (i/n), for job arrays.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would take; encode nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Encode an image beforehand, so that every click is answered at once.

    Stopped at any moment, it goes on where it was when run again.
    """
    from napari_sam.cli.embed import EmbedOptions, run

    volume = VolumeOptions(source, axes, channels, series, intensity, spacing)
    options = EmbedOptions(
        store,
        planes,
        axis,
        levels,
        scheduler=scheduler,
        workers=workers,
        shard=shard,
        dry_run=dry_run,
    )
    network = {"model": model, "device": device, "precision": precision}
    run(volume, options, **network, as_json=as_json)


@app.command(
    epilog=example(
        "napari-sam segment cells.png --point 120,85 -o cells.json",
        "napari-sam segment scan/ --plane 30 --box 40,60,120,180 --negative 80,70"
        " --intensity 'soft tissue' -o labels.zarr -o overlay.png --picture see.png",
        "napari-sam segment cells.png --many boxes.csv -o cells.json",
        "napari-sam segment eye.png --path '10,20 60,80 90,140' -o vessel.tif",
    )
)
def segment(
    source: Source,
    out: Out = None,
    format: Format = None,  # noqa: A002
    point: Annotated[
        list[str] | None, typer.Option(help="y,x of a point in the object; repeatable.")
    ] = None,
    negative: Annotated[
        list[str] | None, typer.Option(help="y,x of a point not in it; repeatable.")
    ] = None,
    box: Annotated[str | None, typer.Option(help="y0,x0,y1,x1, half-open.")] = None,
    polygon: Annotated[
        str | None, typer.Option(help='Corners of a rough outline: "y,x y,x y,x".')
    ] = None,
    scribble: Annotated[
        list[str] | None,
        typer.Option(help='A stroke in the object: "y,x y,x"; repeatable.'),
    ] = None,
    negative_scribble: Annotated[
        list[str] | None, typer.Option(help="A stroke not in it; repeatable.")
    ] = None,
    path: Annotated[
        list[str] | None,
        typer.Option(help='Places along a thin object: "y,x y,x"; repeatable.'),
    ] = None,
    plane: Annotated[
        str | None, typer.Option(help="Which plane of a volume: z, or t,z.")
    ] = None,
    axis: Axis = "z",
    object_id: Annotated[
        int, typer.Option("--object", help="Value in the labels.")
    ] = 1,
    prompts: Annotated[
        Path | None, typer.Option(help="JSON file with prompts for many objects.")
    ] = None,
    many: Annotated[
        Path | None,
        typer.Option(
            help="Boxes, points or outlines, a new object each: .csv (napari's, or y0, "
            "x0, y1, x1), COCO .json, YOLO .txt."
        ),
    ] = None,
    candidate: Annotated[
        int, typer.Option(help="Which of the masks proposed; 0 is the best.")
    ] = 0,
    model: Model = "nano",
    device: Device = "auto",
    precision: Precision = "float32",
    store: Annotated[
        str | None,
        typer.Option(help="Embedding store; the user's cache if left out."),
    ] = None,
    no_store: NoStore = False,
    session: Annotated[
        Path | None, typer.Option(help="Keep the session here (.nsam), or continue it.")
    ] = None,
    axes: Axes = None,
    channels: Channels = None,
    series: Series = None,
    spacing: Spacing = None,
    intensity: Intensity = None,
    picture: Annotated[
        Path | None, typer.Option(help="PNG with the image, the prompts and the masks.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Turn points, boxes, outlines, strokes and paths into masks, and write them."""
    from napari_sam.cli.segment import SegmentOptions, run

    volume = VolumeOptions(source, axes, channels, series, intensity, spacing)
    options = SegmentOptions(
        out=tuple(out or ()),
        points=tuple(point or ()),
        negatives=tuple(negative or ()),
        box=box,
        polygon=polygon,
        scribbles=tuple(scribble or ()),
        negative_scribbles=tuple(negative_scribble or ()),
        paths=tuple(path or ()),
        plane=plane,
        axis=axis,
        object_id=object_id,
        prompts=prompts,
        many=many,
        candidate=candidate,
        store=False if no_store else store,
        session=session,
        picture=picture,
        format=format,
    )
    network = {"model": model, "device": device, "precision": precision}
    run(volume, options, **network, as_json=as_json)


@app.command(
    epilog=example(
        "napari-sam suggest work.nsam --planes 10-40",
        "napari-sam suggest work.nsam -m my_cells --accept 0.2 -o labels.zarr",
    )
)
def suggest(
    session: Annotated[
        Path, typer.Argument(help="Session (.nsam) with a few objects annotated.")
    ],
    image: Annotated[
        str | None, typer.Option(help="Its image, where that has moved.")
    ] = None,
    planes: Annotated[
        str | None, typer.Option(help="Planes, such as 3 or 10-40,50; all if left out.")
    ] = None,
    axis: Axis = "z",
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="The session's if left out.")
    ] = None,
    device: Device = "auto",
    max_doubt: Annotated[
        float, typer.Option(help="Suggest nothing more doubtful than this, 0 to 1.")
    ] = 0.8,
    accept: Annotated[
        float | None, typer.Option(help="Accept what is at most this doubtful.")
    ] = None,
    out: Out = None,
    no_store: NoStore = False,
    as_json: AsJson = False,
) -> None:
    """Find further objects like those annotated; they wait in the session."""
    from napari_sam.cli.suggest import SuggestOptions, run

    options = SuggestOptions(
        session=session,
        image=image,
        planes=planes,
        axis=axis,
        accept=accept,
        max_doubt=max_doubt,
        out=tuple(out or ()),
        store=False if no_store else None,
    )
    run(options, model=model, device=device, as_json=as_json)


app.command(
    epilog=example(
        "napari-sam everything cells.png -o cells.json",
        "napari-sam everything scan/ --plane 30 --max-area 4000 --session scan.nsam",
        "napari-sam everything photo.jpg -m sam_vit_b --crop-n-layers 1 -o sa1b.json",
    )
)(everything)
app.command(
    epilog=example(
        'napari-sam find photo.jpg --text "a leaf" -o leaves.json',
        'napari-sam find scan/ --plane 30 --text "a dark spot" --session scan.nsam',
        "napari-sam find photo.jpg -m sam3 --text leaf -o leaves.json",
        "napari-sam find a.tif --labels a_labels.tif --like 1,4 --unlike 2 "
        "--save-examples nuclei -o a.json",
        "napari-sam find b.tif --examples nuclei.safetensors -o b.json",
    )
)(find)

app.command(
    epilog=example(
        "napari-sam export work.nsam labels.zarr objects.json",
        "napari-sam export work.nsam out.json --format labelme --plane 30",
    )
)(export)

app.command(
    epilog=example("napari-sam split work.nsam --object 3 --point 20,20 --point 20,60")
)(split)

app.command(
    epilog=example("napari-sam merge work.nsam --object 3 --object 7 -o labels.tif")
)(merge)

app.command(
    epilog=example("napari-sam refine work.nsam --object 3 --plane 30 -m sam_vit_b")
)(refine)

app.command(
    epilog=example(
        "napari-sam compare truth.tif found.tif --plot curves.svg",
        "napari-sam compare truth/ found/ --threshold 0.5 --json",
        "napari-sam compare ours.nsam theirs.nsam",
    )
)(compare)

app.command(
    epilog=example(
        "napari-sam classify work.nsam --dry-run",
        "napari-sam classify work.nsam --max-doubt 0.3",
    )
)(classify)

app.command(
    epilog=example(
        "napari-sam combine ours.nsam theirs.nsam --dry-run",
        "napari-sam combine ours.nsam theirs.nsam --consensus union -o labels.tif",
    )
)(combine)

app.command(
    epilog=example(
        "napari-sam annotate wells/",
        "napari-sam annotate wells/ --status",
        "napari-sam annotate wells/ --export coco",
    )
)(annotate)

app.command(
    epilog=example(
        "napari-sam propagate work.nsam --object 1 --planes 10-60",
        "napari-sam propagate work.nsam --method projection -o labels.nii.gz",
    )
)(propagate)

app.command(
    epilog=example("napari-sam interpolate work.nsam --object 1 -o labels.nii.gz")
)(interpolate)

app.command(
    epilog=example(
        "napari-sam doubtful work.nsam",
        "napari-sam doubtful work.nsam --object 1 --least 0.5 --json",
    )
)(doubtful)

app.command(
    epilog=example(
        "napari-sam clean work.nsam --object 1 --smallest-part 50",
        "napari-sam clean work.nsam --largest-only --smooth 1.5 -o labels.nii.gz",
    )
)(clean)

app.command(
    epilog=example(
        "napari-sam track work.nsam",
        "napari-sam track movie.tif --labels masks.tif -o tracked.tif",
    )
)(track)

app.command(
    epilog=example(
        "napari-sam evaluate --images cells/images --labels cells/labels",
        "napari-sam evaluate -m sam_vit_b --images annotations.json --clicks 3"
        " --max-objects 20 --json scores.json",
        "napari-sam evaluate --images data/ --only 'ct_*' --prompts box"
        " --variants inverted,half-contrast,16bit",
    )
)(evaluate)

app.command(
    epilog=example(
        "napari-sam train --images cells/images --labels cells/labels --name my_cells",
        "napari-sam train -m sam_vit_b --images annotations.json --out runs/liver"
        " --name liver",
        "napari-sam train -m my_cells --images work.nsam --name my_cells",
    )
)(train)
