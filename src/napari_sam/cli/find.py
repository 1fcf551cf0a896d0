"""``napari-sam find``: objects that a word names, or that are like examples."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 (typer reads annotations)
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_sam.cli.options import (  # noqa: TC001
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
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_sam.core.proposals import Proposal
    from napari_sam.session.kind_search import KindSearch
    from napari_sam.session.session import Session


def find(
    source: Source,
    text: Annotated[str, typer.Option(help="What to find: a short noun phrase.")] = "",
    labels: Annotated[
        Path | None,
        typer.Option(help="Labels that hold the objects of --like and --unlike."),
    ] = None,
    like: Annotated[
        str, typer.Option(help="Ids of examples of what is wanted: 1,4,5.")
    ] = "",
    unlike: Annotated[
        str, typer.Option(help="Ids of examples of what is not wanted.")
    ] = "",
    examples: Annotated[
        Path | None, typer.Option(help="File of examples, also of other images.")
    ] = None,
    save_examples: Annotated[
        Path | None,
        typer.Option(help="Write all examples to this file, for other images."),
    ] = None,
    out: Out = None,
    format: Format = None,  # noqa: A002
    plane: Annotated[
        str | None, typer.Option(help="Which plane of a volume: z, or t,z.")
    ] = None,
    axis: Axis = "z",
    region: Annotated[
        str | None, typer.Option(help="y0,x0,y1,x1, half-open: look only in here.")
    ] = None,
    scorer: Annotated[
        str | None,
        typer.Option(
            help="What reads words where the model does not: clip_vit_b32, siglip_b16, "
            "or the folder of a CLIP or SigLIP."
        ),
    ] = None,
    min_score: Annotated[
        float | None, typer.Option(help="Least score, 0 to 1; as suits the reader.")
    ] = None,
    min_likeness: Annotated[
        float, typer.Option(help="Least likeness to the examples, 0 to 1.")
    ] = 0.5,
    points_per_side: Annotated[
        int | None, typer.Option(help="Points on the side of a tile.")
    ] = None,
    min_area: Annotated[
        float | None, typer.Option(help="Fewest pixels of an object.")
    ] = None,
    max_area: Annotated[
        float | None, typer.Option(help="Most pixels of an object.")
    ] = None,
    session: Annotated[
        Path | None,
        typer.Option(help="Let all wait for review here (.nsam) instead."),
    ] = None,
    model: Model = "nano",
    device: Device = "auto",
    precision: Precision = "float32",
    store: Annotated[
        str | None,
        typer.Option(help="Embedding store; the user's cache if left out."),
    ] = None,
    no_store: NoStore = False,
    axes: Axes = None,
    channels: Channels = None,
    series: Series = None,
    spacing: Spacing = None,
    intensity: Intensity = None,
    as_json: AsJson = False,
) -> None:
    """Find objects that a word names (hardly one of science) or that are like some."""
    from napari_sam.cli import arguments
    from napari_sam.cli.report import Report
    from napari_sam.cli.results import check_results
    from napari_sam.cli.work import hand_on, load, open_image, session_of

    check_results(tuple(out or ()), format)
    where = arguments.region(region)
    report = Report(as_json)
    given = arguments.VolumeOptions(source, axes, channels, series, intensity, spacing)
    volume = open_image(report, given)
    on = arguments.plane_of(
        volume, None if plane is None else arguments.plane(plane), arguments.axis(axis)
    )
    network = load(report, model, device, precision)
    opened = session_of(
        volume, network, path=session, store=False if no_store else store,
        intensity=None if intensity is None else volume.intensity, labels=labels,
    )  # fmt: skip
    if scorer is not None:
        opened.scorer = scorer
    wanted, unwanted = (
        arguments.whole_numbers(ids, name, "1,4,5") if ids else ()
        for ids, name in ((like, "--like"), (unlike, "--unlike"))
    )
    with report.timed("find") as step:
        search = opened.search_kind(
            text, on, like=wanted, unlike=unwanted, examples=examples,
            region=where, min_score=min_score, min_likeness=min_likeness,
            points_per_side=points_per_side, min_area=min_area, max_area=max_area,
        )  # fmt: skip
        kept = None
        if save_examples is not None and search.examples is not None:
            kept = search.examples().save(save_examples)
        found = _searched(opened, search)
        said = f"that {opened.reads_words} calls {text!r}" if text else "like those"
        step["detail"] = f"{len(found)} {said}"
    report.data = {
        "volume": repr(volume),
        "model": network.spec.name,
        "text": text,
        "read_by": opened.reads_words if text else None,
        "examples": None if kept is None else str(kept),
        "proposals": [_row(p) for p in found],
        "accepted": 0 if session else opened.proposals.accept(found),
        "written": [str(p) for p in out or ()],
    }
    hand_on(
        report, opened, on, len(found), path=session, out=tuple(out or ()),
        format=format,
    )  # fmt: skip


def _searched(session: Session, search: KindSearch) -> list[Proposal]:
    from napari_sam.cli.report import progress

    found: list[Proposal] = []

    def steps() -> Iterator[tuple[int, int]]:
        for step in search.run():
            found.extend(session.proposals.add(step))
            yield step.done, step.total

    progress(steps(), "find", "windows")
    return found


def _row(p: Proposal) -> dict[str, Any]:
    return {
        "bbox": [int(v) for v in p.bbox],
        "area": p.area,
        "score": round(p.likeness, 4),
        "predicted_iou": round(p.predicted_iou, 4),
        "stability_score": round(p.stability_score, 4),
        "doubt": round(p.doubt, 4),
    }
