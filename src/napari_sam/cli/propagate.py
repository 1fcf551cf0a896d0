"""``napari-sam propagate``: objects of a saved session, carried through its volume."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 (typer reads annotations)
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_sam.cli.options import AsJson, Axis, Device, NoStore, Out  # noqa: TC001

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_sam.engine.propagate import PlaneMask
    from napari_sam.session.propagation import Propagation


def propagate(
    session: Annotated[
        Path, typer.Argument(help="Session (.nsam) with objects on some planes.")
    ],
    object_ids: Annotated[
        list[int] | None,
        typer.Option("--object", help="Which object; again for more. All if left out."),
    ] = None,
    planes: Annotated[
        str | None, typer.Option(help="Planes to fill, as 10-60; all if left out.")
    ] = None,
    plane: Annotated[
        str | None, typer.Option(help="A plane of the stack, to name the time point.")
    ] = None,
    axis: Axis = "z",
    through: Annotated[
        str | None,
        typer.Option(help="Follow through this axis, as t, at the depth of --plane."),
    ] = None,
    method: Annotated[
        str,
        typer.Option(help="auto, memory (SAM 2), projection, or interpolate."),
    ] = "auto",
    reach: Annotated[
        int, typer.Option(min=0, help="Most planes beyond the keys; 0: no bound.")
    ] = 0,
    patience: Annotated[
        int, typer.Option(min=0, help="Spoilt planes in a row to step over.")
    ] = 0,
    snap: Annotated[
        bool, typer.Option("--snap", help="Fit interpolated shapes to the image.")
    ] = False,
    changed: Annotated[
        bool,
        typer.Option("--changed", help="Only next to planes that have changed since."),
    ] = False,
    image: Annotated[
        str | None, typer.Option(help="Its image, where that has moved.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="The session's if left out.")
    ] = None,
    device: Device = "auto",
    out: Out = None,
    no_store: NoStore = False,
    as_json: AsJson = False,
) -> None:
    """Carry objects from the planes they were made on to the others; one undo step."""
    from napari_sam.cli import arguments
    from napari_sam.cli.report import Report, load_with_progress, progress
    from napari_sam.cli.results import check_planes, check_results, write
    from napari_sam.engine.propagate import PropagateOptions
    from napari_sam.session import Session

    check_results(tuple(out or ()))
    arguments.one_of(
        method, ("auto", "memory", "projection", "interpolate"), "--method"
    )
    numbers = planes and arguments.ranges(planes, "--planes")
    report = Report(as_json)
    network = None if model is None else load_with_progress(model, device)
    opened = Session.load(
        session, volume=image, model=network, embeddings=False if no_store else None
    )
    check_planes(out or (), opened.volume)
    task = opened.set_propagation(
        object_ids or sorted(opened.objects),
        None if plane is None else arguments.plane(plane),
        axis=arguments.axis(axis),
        through=through,
        planes=(min(numbers), max(numbers)) if numbers else None,
        options=PropagateOptions(
            method,  # type: ignore[arg-type]
            reach=reach,
            patience=patience,
            snap=snap,
        ),
        anew=not changed,
    )
    found: list[tuple[int, PlaneMask]] = []
    with report.timed("propagate") as step:
        progress(_steps(task, found), "propagate", "planes")
        filled = opened.accept_propagation(task, found)
        step["detail"] = f"{filled} planes of {len(task.keys)} object(s)"
    for note in task.notes:
        report.say(f"  {note}")
    waiting = opened.doubtful()
    for object_id, where, doubt in waiting[:10]:
        report.say(f"  doubtful: object {object_id}, plane {where.index}, {doubt:.2f}")
    for path in out or ():
        with report.timed("write") as step:
            write(path, opened)
            step["detail"] = str(path)
    opened.save()
    opened.close()
    report.data = {
        "model": opened.model.spec.name,
        "filled": filled,
        "planes": [_row(object_id, one) for object_id, one in found],
        "doubtful": [
            {"object_id": i, "plane": p.to_json(), "doubt": round(d, 4)}
            for i, p, d in waiting
        ],
        "notes": task.notes,
        "written": [str(p) for p in out or ()],
    }
    report.finish()


def _steps(
    task: Propagation, found: list[tuple[int, PlaneMask]]
) -> Iterator[tuple[int, int]]:
    yield 0, task.total
    for one in task.run():
        found.append(one)
        yield min(len(found), task.total), task.total


def _row(object_id: int, one: PlaneMask) -> dict[str, Any]:
    return {
        "object_id": object_id,
        "plane": one.plane.to_json(),
        "origin": one.origin,
        "area": one.area,
        "doubt": round(one.doubt, 4),
        "predicted_iou": None if one.score is None else round(one.score, 4),
    }
