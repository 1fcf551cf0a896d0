"""``napari-sam everything``: all objects of a plane, without a prompt."""

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
    from napari_sam.engine.candidates import Candidates
    from napari_sam.engine.propose import Proposer


def everything(
    source: Source,
    out: Out = None,
    format: Format = None,  # noqa: A002
    plane: Annotated[
        str | None, typer.Option(help="Which plane of a volume: z, or t,z.")
    ] = None,
    axis: Axis = "z",
    region: Annotated[
        str | None, typer.Option(help="y0,x0,y1,x1, half-open: ask only in here.")
    ] = None,
    points_per_side: Annotated[
        int | None, typer.Option(help="Points on the side of a tile or crop.")
    ] = None,
    thorough: Annotated[
        bool,
        typer.Option(help="Ask at every point; else not inside what is found."),
    ] = True,
    crop_n_layers: Annotated[
        int, typer.Option(help="Layers of crops, as SAM's generator makes them.")
    ] = 0,
    pred_iou_thresh: Annotated[
        float | None, typer.Option(help="Least predicted IoU; as suits the model.")
    ] = None,
    stability_score_thresh: Annotated[
        float | None, typer.Option(help="Least stability; as suits the model.")
    ] = None,
    box_nms_thresh: Annotated[
        float, typer.Option(help="IoU of boxes from which the better mask is kept.")
    ] = 0.7,
    min_area: Annotated[
        float | None, typer.Option(help="Fewest pixels of an object.")
    ] = None,
    max_area: Annotated[
        float | None, typer.Option(help="Most pixels of an object.")
    ] = None,
    min_mask_region_area: Annotated[
        int, typer.Option(help="Fill holes and remove parts with fewer pixels.")
    ] = 0,
    detail: Annotated[
        float | None,
        typer.Option(
            help="0: wholes alone, 1: smallest parts alone; both if left out."
        ),
    ] = None,
    cover: Annotated[
        bool, typer.Option(help="With --detail: also what parts leave of a whole.")
    ] = False,
    max_overlap: Annotated[
        float, typer.Option(help="Share of the smaller mask that two may share.")
    ] = 1.0,
    max_doubt: Annotated[
        float, typer.Option(help="Nothing more doubtful than this, 0 to 1.")
    ] = 1.0,
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
    """Find all objects of a plane; the surest come first where they overlap."""
    from napari_sam.cli import arguments
    from napari_sam.cli.report import Report
    from napari_sam.cli.results import check_results
    from napari_sam.cli.work import hand_on, load, open_image, session_of
    from napari_sam.engine.propose_options import parted
    from napari_sam.engine.select import select

    check_results(tuple(out or ()), format)
    asked, chosen = parted({
        "points_per_side": points_per_side, "thorough": thorough,
        "crop_n_layers": crop_n_layers, "pred_iou_thresh": pred_iou_thresh,
        "stability_score_thresh": stability_score_thresh,
        "box_nms_thresh": box_nms_thresh, "min_area": min_area, "max_area": max_area,
        "min_mask_region_area": min_mask_region_area, "max_doubt": max_doubt,
        "detail": detail, "cover": cover, "max_overlap": max_overlap,
    })  # fmt: skip
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
        intensity=None if intensity is None else volume.intensity,
    )  # fmt: skip
    with report.timed("everything") as step:
        proposer = opened.set_everything(on, asked, region=where)
        candidates = _searched(proposer)
        found = opened.accept_everything(on, select(candidates, chosen))
        step["detail"] = (
            f"{len(found)} of {len(candidates)} masks in {len(proposer.looks)} windows"
        )
    report.data = {
        "volume": repr(volume),
        "model": network.spec.name,
        "proposals": [_row(p) for p in found],
        "accepted": 0 if session else opened.proposals.accept(found),
        "written": [str(p) for p in out or ()],
    }
    hand_on(
        report, opened, on, len(found), path=session, out=tuple(out or ()),
        format=format,
    )  # fmt: skip


def _searched(proposer: Proposer) -> Candidates:
    from napari_sam.cli.report import progress

    parts: list[Candidates] = []

    def steps() -> Iterator[tuple[int, int]]:
        yield 0, len(proposer.looks)
        for step in proposer.run():
            parts.append(step.found)
            yield step.done, step.total

    progress(steps(), "everything", "windows")
    return proposer.candidates(parts)


def _row(p: Proposal) -> dict[str, Any]:
    return {
        "bbox": [int(v) for v in p.bbox],
        "area": p.area,
        "predicted_iou": round(p.predicted_iou, 4),
        "stability_score": round(p.stability_score, 4),
        "doubt": round(p.doubt, 4),
        "point": [round(float(v), 2) for v in p.prompts.points[0]],
    }
